"""The bundled sample rows: real enough to learn from, hard enough to mean something, and clean."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish.assets import sample

ROOT = Path(__file__).parent.parent
ROW_FILES = ("support.jsonl", "chat.jsonl", "extract.jsonl", "instruct.jsonl")
PERSONAL = {
    "an e-mail address": r"\b[\w.+-]+@[\w-]+\.\w+",
    "a telephone number": r"(?:\+|\b00)\d[\d ()/-]{7,}|\b\d{3,5}[ /-]\d{3,4}[ /-]?\d{3,4}\b",
    "a card number or IBAN": r"\b(?:\d[ -]?){13,19}\b|\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,}",
    "a web address": r"https?://|www\.",
    "a network address": r"\b\d{1,3}(?:\.\d{1,3}){3}\b",
    "a key": r"\b(?:sk|hf|ghp|AKIA)[-_]?[A-Za-z0-9]{16,}",
}
TYPOGRAPHIC = set("é")


@cache
def rows(name: str) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(line) for line in sample(name).read_text("utf-8").splitlines())


@cache
def bags() -> list[frozenset[str]]:
    return [frozenset(re.findall(r"[a-z0-9]+", row["text"].lower())) for row in rows("support.jsonl")]


def shared(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def held_out(seed: int, share: float = 0.18) -> np.ndarray:
    """A random group split of the support rows, as a mask of the test rows."""
    groups = np.array([row["group"] for row in rows("support.jsonl")])
    names = np.unique(groups)
    drawn = np.random.default_rng(seed).permutation(names)[: round(share * len(names))]
    return np.isin(groups, drawn)


def bundled_texts() -> list[tuple[str, str]]:
    names = [*ROW_FILES, *(f"handbook/{path.name}" for path in sorted(sample("handbook").iterdir()))]
    return [(name, sample(name).read_bytes().decode("utf-8")) for name in names]


def test_support_has_enough_rows_and_groups_for_an_interval():
    table = rows("support.jsonl")
    assert all(row.keys() == {"text", "category", "group"} and all(row.values()) for row in table)
    assert len(table) >= 1400
    assert len({row["group"] for row in table}) >= 300
    assert sample("support.jsonl").stat().st_size < 400_000
    for seed in range(20):
        mask = held_out(seed)
        assert mask.sum() >= 200
        assert len({row["group"] for row, out in zip(table, mask, strict=True) if out}) >= 50


def test_support_categories_are_balanced_and_a_group_has_one_category():
    table = rows("support.jsonl")
    counts = Counter(row["category"] for row in table)
    assert len(counts) == 14
    assert max(counts.values()) < 1.25 * min(counts.values())
    of_group = defaultdict(set)
    for row in table:
        of_group[row["group"]].add(row["category"])
    assert all(len(categories) == 1 for categories in of_group.values())
    sizes = Counter(row["group"] for row in table)
    assert min(sizes.values()) >= 3 and max(sizes.values()) <= 6
    assert min(Counter(next(iter(one)) for one in of_group.values()).values()) >= 24, "wordings per category"


def test_support_categories_start_with_different_words():
    # A model that writes its answer decides at the first word; a shared one would move the decision to a later token.
    categories = {row["category"] for row in rows("support.jsonl")}
    assert len({category.split()[0] for category in categories}) == len(categories)


def test_support_group_names_and_order_say_nothing_of_the_category():
    table = rows("support.jsonl")
    numbers = defaultdict(list)
    for row in table:
        numbers[row["category"]].append(int(row["group"].removeprefix("case-")))
    middle = len({row["group"] for row in table}) / 2
    assert all(abs(float(np.mean(found)) - middle) < 0.3 * middle for found in numbers.values())
    assert all(len({row["category"] for row in table[start : start + 100]}) >= 12 for start in range(0, len(table) - 100, 100))


def test_support_messages_are_5_to_45_words_of_different_length_and_tone():
    texts = [row["text"] for row in rows("support.jsonl")]
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) >= 5 and max(lengths) <= 45
    assert np.percentile(lengths, 90) > 1.7 * np.percentile(lengths, 10)
    assert 0.05 < np.mean([text == text.lower() for text in texts]) < 0.3, "casual messages"
    assert np.mean(["?" in text for text in texts]) > 0.3, "questions"
    assert len({word for bag in bags() for word in bag}) > 1500, "different words"
    assert not [text for text in texts if re.search(r"[(){}|&]|  | [,.?!]|\ba (e-bike|electric)", text)], (
        "left-overs of the generator"
    )


def test_no_row_occurs_twice():
    for name in ROW_FILES:
        seen = Counter(json.dumps(row.get("text", row), sort_keys=True).casefold() for row in rows(name))
        assert seen.most_common(1)[0][1] == 1, (name, seen.most_common(1))


def test_near_duplicates_stay_within_a_group():
    """User pain below the line of 25: an evaluation set that overlaps the training set by default."""
    groups = np.array([row["group"] for row in rows("support.jsonl")])
    words = sorted({word for bag in bags() for word in bag})
    place = {word: number for number, word in enumerate(words)}
    there = np.zeros((len(groups), len(words)), dtype=np.float32)
    for number, bag in enumerate(bags()):
        there[number, [place[word] for word in bag]] = 1
    common = there @ there.T
    sizes = np.diag(common)
    jaccard = common / (sizes[:, None] + sizes[None, :] - common)
    jaccard[groups[:, None] == groups[None, :]] = 0
    assert jaccard.max() < 0.6, np.unravel_index(jaccard.argmax(), jaccard.shape)


def test_rows_of_a_group_differ_in_more_than_a_day_or_a_name():
    groups = defaultdict(list)
    for row, bag in zip(rows("support.jsonl"), bags(), strict=True):
        groups[row["group"]].append(bag)
    nearest = [max(shared(one, other) for other in bags_ if other is not one) for bags_ in groups.values() for one in bags_]
    assert max(nearest) < 0.95
    assert np.mean(nearest) < 0.7


def test_a_linear_baseline_finds_the_support_rows_learnable_and_not_trivial():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = np.array([row["text"] for row in rows("support.jsonl")])
    labels = np.array([row["category"] for row in rows("support.jsonl")])
    right = []
    for seed in range(2):
        mask = held_out(seed)
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        model = make_pipeline(words, LogisticRegression(C=20, max_iter=200)).fit(texts[~mask], labels[~mask])
        right += list(model.predict(texts[mask]) == labels[mask])
    assert 0.78 < np.mean(right) < 0.94


def test_without_the_text_of_its_group_a_row_cannot_be_guessed_from_its_length():
    # The shortcut that would make the demo meaningless: a category that shows in something other than the words.
    from sklearn.tree import DecisionTreeClassifier

    table = rows("support.jsonl")
    marks = np.array([[len(row["text"]), row["text"].count(","), row["text"].count("?"), row["text"].count(":")] for row in table])
    labels = np.array([row["category"] for row in table])
    mask = held_out(0)
    tree = DecisionTreeClassifier(max_depth=6, random_state=0).fit(marks[~mask], labels[~mask])
    assert tree.score(marks[mask], labels[mask]) < 0.2


@pytest.mark.parametrize("name,text", bundled_texts(), ids=lambda value: value if len(value) < 40 else "")
def test_bundled_texts_are_clean(name: str, text: str):
    assert text.endswith("\n") and "\r" not in text and "\t" not in text
    assert text == unicodedata.normalize("NFC", text)
    odd = {character for character in text if ord(character) > 126 or (ord(character) < 32 and character != "\n")} - TYPOGRAPHIC
    assert not odd, odd
    for what, pattern in PERSONAL.items():
        assert not re.search(pattern, text), (what, re.search(pattern, text))


def test_chat_turns_alternate_and_answers_are_brief():
    for row in rows("chat.jsonl"):
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and roles
        assert all(0 < len(message["content"].split()) <= 60 for message in row["messages"])
    assert sum(len(row["messages"]) > 2 for row in rows("chat.jsonl")) >= 10, "conversations of several turns"


def test_extract_records_have_the_same_keys_and_name_what_stands_in_the_line():
    for row in rows("extract.jsonl"):
        record = json.loads(row["fields"])
        assert list(record) == ["asset", "part", "fault", "action", "hours"]
        assert record["asset"] in row["line"]
        assert 0 < record["hours"] <= 8
        assert row["fields"] == json.dumps(record, ensure_ascii=False), "one way of writing JSON"


def test_instructions_recur_with_different_inputs():
    table = rows("instruct.jsonl")
    assert all(row.keys() == {"instruction", "input", "output"} and row["instruction"] and row["output"] for row in table)
    assert len({row["instruction"] for row in table}) >= 25
    assert len({(row["instruction"], row["input"]) for row in table}) == len(table)


def test_sizes_of_the_small_samples():
    assert all(60 <= len(rows(name)) <= 120 for name in ROW_FILES[1:])
    documents = [path.read_text("utf-8") for path in sample("handbook").iterdir()]
    assert len(documents) >= 10
    assert sum(len(re.findall(r"^#", text, re.MULTILINE)) for text in documents) >= 30
    assert sum(len(text) for text in documents) > 8_000


def test_the_generator_gives_the_committed_file():
    made = subprocess.run(
        [sys.executable, ROOT / "benchmarks/make_samples.py", "--check"], capture_output=True, text=True, timeout=120
    )
    assert made.returncode == 0, made.stderr
