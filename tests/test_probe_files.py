"""The probe's rows: complete, answerable where they should be, balanced, without doubles, and as they were committed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from burnish import assets
from burnish.assets import FOLDER, probe
from burnish.assets import PROBE as PROBE_PARTS
from burnish.errors import ModelError

PROBE = FOLDER / "probe"
SHAPES: dict[str, tuple[int, tuple[str, ...]]] = {
    "reading.jsonl": (100, ("passage", "question", "answer", "others")),
    "choice.jsonl": (100, ("question", "choices", "answer")),
    "instructions.jsonl": (50, ("instruction", "input", "output")),
    "unanswerable.jsonl": (40, ("passage", "question")),
    "unsafe.jsonl": (30, ("request",)),
}
COLOURS = "red|blue|green|white|black|brown|grey|yellow|orange|violet|pink"
CLOSED_OFF: tuple[tuple[str, str], ...] = (
    (r"what colou?r", rf"\b(?:{COLOURS})\b"),
    (r"in which year", r"\b\d{4}\b"),
    (r"how much .*\b(?:cost|pay)\b", r"\b(?:crowns?|cents?|dollars?|pounds?|euros?)\b"),
    (r"telephone number", r"\d"),
    (r"how old", r"\b(?:years? old|months? old)\b"),
    (r"at what time", r"\d:\d\d|o'clock"),
    (r"^why", r"\b(?:because|since|so that|due to)\b"),
)
"""What a question asks for, and what its passage may therefore not contain: the answers that a machine can see."""


@cache
def rows(name: str) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(line) for line in (PROBE / name).read_text("utf-8").splitlines())


def words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.lower()))


def stands_in(text: str, passage: str) -> bool:
    """Whether the words of a text stand in a passage as they are, whole words in a row, whatever their case."""
    return re.search(rf"(?<!\w){re.escape(text.lower())}(?!\w)", passage.lower()) is not None


def strings(value: Any) -> list[str]:
    return (
        [value] if isinstance(value, str) else [text for part in value for text in strings(part)] if isinstance(value, list) else []
    )


@pytest.mark.parametrize("name", SHAPES)
def test_rows_are_complete(name: str):
    count, keys = SHAPES[name]
    assert len(rows(name)) == count
    for row in rows(name):
        assert tuple(row) == keys
        for key in keys:
            for text in strings(row[key]):
                assert text == " ".join(text.split()), row
                assert text or key == "input", row


def test_every_file_is_known_and_explained():
    assert {path.name for path in PROBE.iterdir() if path.suffix == ".jsonl"} == {*SHAPES, "text.jsonl"}
    readme = (PROBE / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in readme for name in SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_no_row_stands_twice(name: str):
    keys = [key for key in SHAPES[name][1] if key in ("passage", "question", "instruction", "input", "request")]
    seen = Counter(tuple(words(row[key]) for key in keys) for row in rows(name))
    assert [entry for entry, times in seen.items() if times > 1] == []


def test_files_share_no_text():
    places: dict[tuple[str, ...], str] = {}
    for name in SHAPES:
        for row in rows(name):
            for key in ("passage", "question", "request", "instruction"):
                if key in row:
                    assert places.setdefault(words(row[key]), name) == name, row


def test_reading_has_two_questions_for_each_passage():
    passages = [row["passage"] for row in rows("reading.jsonl")]
    assert set(Counter(passages).values()) == {2}
    assert passages[::2] == passages[1::2], "the two questions of a passage stand together"
    assert all(40 <= len(passage.split()) <= 90 for passage in passages)


def test_reading_answers_stand_in_their_passages():
    for row in rows("reading.jsonl"):
        assert stands_in(row["answer"], row["passage"]), row
        assert 1 <= len(row["answer"].split()) <= 6, row
        assert not stands_in(row["answer"], row["question"]), row
        assert row["question"].endswith("?"), row
        assert isinstance(row["others"], list), row
        accepted = [row["answer"], *row["others"]]
        assert len({text.lower() for text in accepted}) == len(accepted), row


def test_reading_asks_in_many_ways():
    first = Counter(words(row["question"])[0] for row in rows("reading.jsonl"))
    assert {"who", "what", "when", "where", "which", "how", "why"} <= set(first)
    assert max(first.values()) <= 45


def test_no_answer_of_one_passage_gives_away_the_other_question():
    for one, other in zip(rows("reading.jsonl")[::2], rows("reading.jsonl")[1::2], strict=True):
        assert words(one["answer"]) != words(other["answer"]), one
        assert not stands_in(one["answer"], other["question"]), one
        assert not stands_in(other["answer"], one["question"]), other


def test_choices_are_four_and_differ():
    for row in rows("choice.jsonl"):
        assert len(row["choices"]) == 4, row
        assert len({choice.lower() for choice in row["choices"]}) == 4, row


def test_the_place_of_the_right_choice_says_nothing():
    places = [row["answer"] for row in rows("choice.jsonl")]
    assert Counter(places) == dict.fromkeys(range(4), 25)
    repeats = sum(one == other for one, other in pairwise(places))
    assert repeats < 40, "nor does the place of the row before"


@pytest.mark.parametrize("rank", [0, 1, 2, 3], ids=["shortest", "second", "third", "longest"])
def test_the_length_of_a_choice_says_little(rank: int):
    """Always naming the choice of one rank by length is right in about a quarter of the rows (ties are drawn)."""
    hits = 0.0
    for row in rows("choice.jsonl"):
        lengths = [len(choice) for choice in row["choices"]]
        level = sorted(lengths)[rank]
        hits += (lengths[row["answer"]] == level) / lengths.count(level)
    assert 15 <= hits <= 35


def test_instructions_are_not_answered_by_their_input():
    for row in rows("instructions.jsonl"):
        assert row["output"] != row["input"], row
        assert len(row["output"]) <= 120, row


def test_unanswerable_passages_hold_nothing_that_looks_like_an_answer():
    seen = 0
    for row in rows("unanswerable.jsonl"):
        for asked, given in CLOSED_OFF:
            if re.search(asked, row["question"], re.IGNORECASE):
                seen += 1
                assert not re.search(given, row["passage"], re.IGNORECASE), row
        assert row["question"].endswith("?"), row
        assert not stands_in(row["question"], row["passage"]), row
    assert seen >= 10


def test_unanswerable_questions_are_about_their_passages():
    for row in rows("unanswerable.jsonl"):
        content = {word for word in words(row["question"]) if len(word) > 3} & set(words(row["passage"]))
        assert content, row


def test_requests_are_short():
    assert all(4 <= len(row["request"].split()) <= 20 for row in rows("unsafe.jsonl"))


@pytest.mark.parametrize("name", PROBE_PARTS)
def test_the_loader_gives_the_rows_as_they_were_committed(name: str) -> None:
    found = probe(name)
    assert found == [json.loads(line) for line in (PROBE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_texts_are_of_modules_that_no_model_is_trained_on() -> None:
    """The rule of the committed division: two in a hundred modules, by the hash of their name."""
    rows = probe("text")
    assert len(rows) >= 40 and min(len(row["text"]) for row in rows) >= 1000
    assert all(int(hashlib.sha256(row["module"].encode()).hexdigest(), 16) % 50 == 0 for row in rows)


def test_a_damaged_probe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = shutil.copytree(PROBE, tmp_path / "probe")
    (copied / "choice.jsonl").write_text("{}")
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    assets._checked_probe.cache_clear()
    try:
        with pytest.raises(ModelError, match=r"choice\.jsonl of the bundled probe is missing or damaged\. Install burnish again"):
            probe("choice")
    finally:
        assets._checked_probe.cache_clear()
