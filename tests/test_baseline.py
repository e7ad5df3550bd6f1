"""The classical baseline: it learns what can be learned from words, reads nothing of the test but prompts, and is quick."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from burnish.baseline import linear_baseline, without_common_ends
from burnish.scores import SCORES
from burnish.types import Answer, Expected, Message, Origin, Task, content

CHOICES = ("heat", "noise", "leak")
WORDS = {
    "heat": "hot warm burning oven steam glow",
    "noise": "loud rattle squeak bang hum buzz",
    "leak": "wet drip puddle oil water hose",
}


def asked(text: str, expected: Expected, *, group: str | None = None) -> Task:
    return Task(messages=(Message("user", content(text)),), expected=expected, origin=Origin("rows.jsonl", 1), group=group)


def labelled(text: str, *labels: str, group: str | None = None) -> Task:
    written = ", ".join(labels) or "none"
    return asked(text, Expected(texts=(written,), labels=labels, choices=CHOICES), group=group)


def complaints(number: int, seed: int, *, frame: str = "{}") -> list[Task]:
    generator, tasks = np.random.default_rng(seed), []
    filler = ["the", "machine", "part", "near", "door", "was", "very", "again", "since", "yesterday"]
    for index in range(number):
        label = CHOICES[index % 3]
        words = [*generator.choice(WORDS[label].split(), 2), *generator.choice(filler, 4)]
        tasks.append(labelled(frame.format(" ".join(generator.permutation(words))), label, group=f"g{index // 2}"))
    return tasks


def accuracy(answers: tuple[Answer, ...], tasks: list[Task]) -> float:
    score = SCORES["accuracy"]
    return float(score.combine(score.statistics(answers, tasks).sum(axis=0)))


def test_labels_are_learned_from_words_and_answered_as_the_data_writes_them() -> None:
    train, test = complaints(120, 0), complaints(60, 1)
    found = linear_baseline(train, test, seed=0)
    assert found is not None
    assert "logistic regression" in found.name
    assert len(found.answers) == len(test)
    assert accuracy(found.answers, test) > 0.9
    assert {answer.text for answer in found.answers} <= set(CHOICES)
    assert all(answer.stopped for answer in found.answers)
    assert found.seconds > 0


def test_the_baseline_is_decided_by_its_arguments() -> None:
    train, test = complaints(60, 0), complaints(30, 1)
    first, again = (linear_baseline(train, test, seed=3) for _ in range(2))
    assert first is not None
    assert again is not None
    assert first.answers == again.answers
    assert first.name == again.name


def test_nothing_of_the_test_tasks_is_read_but_their_prompts() -> None:
    train, test = complaints(60, 0), complaints(30, 1)
    blank = [labelled(task.messages[0].content[0].text, "heat") for task in test]  # pyright: ignore[reportAttributeAccessIssue]
    first, second = linear_baseline(train, test, seed=0), linear_baseline(train, blank, seed=0)
    assert first is not None
    assert second is not None
    assert first.answers == second.answers


def test_an_instruction_around_every_prompt_changes_nothing() -> None:
    frame = "Which of heat, noise, leak is it?\nComplaint: {}\nAnswer with one word."
    plain = linear_baseline(complaints(60, 0), complaints(30, 1), seed=0)
    framed = linear_baseline(complaints(60, 0, frame=frame), complaints(30, 1, frame=frame), seed=0)
    assert plain is not None
    assert framed is not None
    assert plain.answers == framed.answers


@settings(deadline=None)
@given(st.lists(st.text("ab :", max_size=8), min_size=2, max_size=6), st.text("xy: ", max_size=8), st.text("xy: ", max_size=8))
def test_what_begins_and_ends_all_prompts_is_cut_at_whole_words_and_no_more(texts: list[str], before: str, after: str) -> None:
    assume(len(set(texts)) > 1)
    framed = [f"{before}: {text} :{after}" for text in texts]
    inner, asked_inner = without_common_ends(framed, ["other"])
    assert asked_inner == ["other"]
    shorter = {len(whole) - len(part) for whole, part in zip(framed, inner, strict=True)}
    assert len(shorter) == 1
    assert shorter.pop() >= len(before) + len(after) + 4
    for text, part in zip(texts, inner, strict=True):
        words = text.replace(":", " ").split()
        left = part.replace(":", " ").split()
        assert all(word in words for word in left)  # no word lost its beginning or end


def test_several_labels_are_given_together() -> None:
    generator, tasks = np.random.default_rng(0), []
    for index in range(160):
        labels = [label for bit, label in enumerate(CHOICES) if index >> bit & 1]
        words = [word for label in labels for word in generator.choice(WORDS[label].split(), 3)]
        tasks.append(labelled(" ".join(["it", "is", *words]), *labels))
    found = linear_baseline(tasks[:120], tasks[120:], seed=0)
    assert found is not None
    assert accuracy(found.answers, tasks[120:]) > 0.8
    assert "none" in {answer.text for answer in found.answers}


def test_a_combination_of_labels_never_seen_is_still_readable() -> None:
    train = [labelled("hot oven", "heat"), labelled("loud bang", "noise"), labelled("nothing here")] * 10
    found = linear_baseline(train, [labelled("hot oven loud bang hot loud", "heat", "noise")], seed=0)
    assert found is not None
    text = found.answers[0].text
    assert text in ("heat", "noise", "none") or sorted(json.loads(text)) == ["heat", "noise"]


def test_free_text_is_answered_by_the_nearest_training_row() -> None:
    train = [asked(f"question about {word}", Expected(texts=(f"all on {word}", "other"))) for word in ("tigers", "comets", "bread")]
    test = [asked("tell me about comets please", Expected(texts=("x",))), asked("baking bread", Expected(texts=("y",)))]
    found = linear_baseline(train, test, seed=0)
    assert found is not None
    assert "nearest" in found.name
    assert [answer.text for answer in found.answers] == ["all on comets", "all on bread"]


def test_one_label_everywhere_is_the_most_frequent_one() -> None:
    found = linear_baseline([labelled(f"row {index}", "heat") for index in range(5)], [labelled("other", "leak")], seed=0)
    assert found is not None
    assert (found.name, found.answers[0].text) == ("most frequent label", "heat")


@pytest.mark.parametrize("number", [2, 3, 4, 7])
def test_few_rows_and_groups_are_enough(number: int) -> None:
    train = [labelled(WORDS[CHOICES[index % 2]], CHOICES[index % 2], group="one") for index in range(number)]
    found = linear_baseline(train, complaints(6, 1), seed=0)
    assert found is not None
    assert len(found.answers) == 6


def test_no_baseline_where_there_is_nothing_to_learn_from() -> None:
    text = Task(messages=(), expected=Expected(texts=("whole",)), text="whole", origin=Origin("a"))
    prompt = asked("say something", Expected())
    wordless = asked("…", Expected(texts=("x",)))
    assert linear_baseline([text], [text], seed=0) is None
    assert linear_baseline([prompt], [prompt], seed=0) is None
    assert linear_baseline([wordless], [wordless], seed=0) is None
    assert linear_baseline([], complaints(3, 0), seed=0) is None
    assert linear_baseline(complaints(3, 0), [], seed=0) is None


def test_prompts_that_are_all_the_same_or_empty_in_the_test_are_answered() -> None:
    same = [labelled("which one", label) for label in CHOICES] * 3
    for test in ([labelled("which one", "heat")], [labelled("", "heat"), labelled("…", "heat")]):
        found = linear_baseline(same, test, seed=0)
        assert found is not None
        assert all(answer.text in CHOICES for answer in found.answers)


def data(name: str) -> Path:
    """A folder of real data, or a skip with the reason."""
    root = Path(os.environ.get("BURNISH_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data")
    if not (root / name).exists():
        pytest.skip(f"the data set {name} is not in $BURNISH_DATA")
    return root / name


def test_ten_intents_of_real_customers_are_learned_in_seconds() -> None:
    with (data("banking77") / "train.csv").open(encoding="utf-8", newline="") as file:
        pairs = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    kept = set(sorted({label for _, label in pairs})[:10])
    chosen = [pairs[index] for index in np.random.default_rng(0).permutation(len(pairs)) if pairs[index][1] in kept][:900]
    tasks = [asked(text, Expected(texts=(label,), labels=(label,), choices=tuple(sorted(kept)))) for text, label in chosen]
    found = linear_baseline(tasks[:600], tasks[600:], seed=0)
    assert found is not None
    assert accuracy(found.answers, tasks[600:]) > 0.9
    assert found.seconds < 30  # about a second on an idle machine
