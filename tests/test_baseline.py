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
from burnish.baseline_parts import Baseline
from burnish.baseline_text import learn, probabilities
from burnish.scores import SCORES
from burnish.types import Answer, Answerable, Expected, Message, Origin, Pair, Span, Task, content

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
    text = Task(messages=(), expected=Expected(), text="", origin=Origin("a"))
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


# ------------------------------------------------------------------------------------------------------------- every kind of rows


def value(name: str, found: Baseline | None, tasks: list[Task]) -> float:
    assert found is not None
    return float(SCORES[name].combine(SCORES[name].statistics(found.answers, tasks).sum(axis=0)))


def pair(prompt: str, chosen: str, rejected: str) -> Task:
    sides = [(Message("assistant", content(one)),) for one in (chosen, rejected)]
    whole = Pair(prompt=(), chosen=sides[0], rejected=sides[1], origin=Origin("rows.jsonl", 1))
    return asked(prompt, Expected(texts=(chosen,), pair=whole))


def preferences(number: int, seed: int) -> list[Task]:
    draw = np.random.default_rng(seed)
    good, bad, filler = ["please", "gladly"], ["never", "stupid"], ["lamp", "door", "soup", "rain", "tram"]
    rows = [(" ".join([*draw.choice(filler, 3), draw.choice(words)]) for words in (good, bad)) for _ in range(number)]
    return [pair(f"question {draw.choice(filler)}", *row) for row in rows]


def test_a_reward_of_words_tells_answers_apart_and_not_which_was_chosen() -> None:
    train, test = preferences(60, 0), preferences(30, 1)
    found = linear_baseline(train, test, seed=0)
    assert value("preference_accuracy", found, test) == 1.0
    swapped = [
        pair("question", *(message.content[0].text for message in (one.rejected[0], one.chosen[0])))  # pyright: ignore
        for one in (task.expected.pair for task in test)
        if one is not None
    ]
    other = linear_baseline(train, swapped, seed=0)
    assert found is not None and other is not None
    margins = [[one.margin or 0.0 for one in each.answers] for each in (found, other)]
    np.testing.assert_allclose(margins[0], -np.array(margins[1]), rtol=1e-5, atol=1e-7)


def test_length_is_a_feature_of_a_reward_where_it_tells_something() -> None:
    draw = np.random.default_rng(0)
    words = [f"w{number}" for number in range(4000)]
    rows = [pair("q", " ".join(draw.choice(words, 9)), " ".join(draw.choice(words, 4))) for _ in range(120)]
    found = linear_baseline(rows[:80], rows[80:], seed=0)
    assert found is not None and "lengths" in found.name
    assert value("preference_accuracy", found, rows[80:]) > 0.9


def test_a_number_is_told_from_words_and_stays_among_those_seen() -> None:
    draw = np.random.default_rng(0)
    scale = {"awful": 1.0, "poor": 2.0, "fair": 3.0, "good": 4.0, "great": 5.0}
    tasks = [
        asked(f"it was {word} on day {draw.integers(99)}", Expected(number=scale[word])) for word in draw.choice(list(scale), 200)
    ]
    found = linear_baseline(tasks[:150], tasks[150:], seed=0)
    assert value("absolute_error", found, tasks[150:]) < 0.3
    assert found is not None and all(1 <= float(answer.text) <= 5 for answer in found.answers)


def named(number: int, seed: int) -> list[Task]:
    draw, tasks = np.random.default_rng(seed), []
    for index in range(number):
        name, town = f"{draw.choice(['Ann', 'Bob', 'Cleo'])} {draw.choice(['Gray', 'Hill'])}", draw.choice(["Lund", "Graz", "Bern"])
        text = f"today {name} went to {town} again, row {index}"
        places = [(text.index(name), name, "person"), (text.index(town), town, "town")]
        spans = tuple(Span(start, start + len(word), label) for start, word, label in places)
        tasks.append(asked(text, Expected(texts=("[]",), spans=spans, source=text)))
    return tasks


def test_spans_are_found_by_words_and_neighbours_and_hold_what_they_say() -> None:
    train, test = named(60, 0), named(30, 1)
    found = linear_baseline(train, test, seed=0)
    assert value("span_f1", found, test) > 0.95
    assert found is not None
    for answer, task in zip(found.answers, test, strict=True):
        assert all(task.expected.source[one["start"] : one["end"]] == one["text"] for one in json.loads(answer.text))  # pyright: ignore
    unmarked = [asked("nobody here", Expected(texts=("[]",), spans=(), source="nobody here"))] * 3
    assert [one.text for one in linear_baseline(unmarked, unmarked, seed=0).answers] == ["[]"] * 3  # pyright: ignore


def questioned(number: int, *, answered: bool = True) -> Task:
    words = ("bridge", "tower", "harbour", "mill", "chapel", "market")
    noun = words[number % 6]
    told = [
        f"The {word} was finished in {1800 + 7 * place + number}. Much was said of it then and later by many people."
        for place, word in enumerate(words)
    ]
    context = " ".join(told if answered else [one for one in told if noun not in one])
    right = str(1800 + 7 * (number % 6) + number)
    answers = ((context.index(right), right),) if answered else ()
    row = Answerable(
        question=f"When was the {noun} finished?", context=context, answers=answers, origin=Origin("rows.jsonl", number)
    )
    return asked(row.context, Expected(texts=(right,) if answered else ("not stated",), asked=row))


def test_a_question_is_answered_near_its_words_or_as_rows_say_where_the_context_is_silent() -> None:
    """What looking up gives, beside every tuned model that answers from a context (pain 12)."""
    rows = [questioned(number) for number in range(60)]
    found = linear_baseline(rows[:40], rows[40:], seed=0)
    assert value("token_f1", found, rows[40:]) > 0.3
    assert found is not None
    assert all(answer.text in task.expected.asked.context for answer, task in zip(found.answers, rows[40:], strict=True))  # pyright: ignore
    silent = [questioned(number, answered=number % 2 == 0) for number in range(60)]
    some = linear_baseline(silent[:40], silent[40:], seed=0)
    assert some is not None and "not stated" in {answer.text for answer in some.answers}


def test_bytes_have_chances_that_sum_to_one_and_text_like_the_training_is_cheaper() -> None:
    levels = learn([b"the cat sat on the mat. " * 20, "größer als die katze".encode()])
    keys = np.array([[(((ord("t") * 257 + ord("h")) * 257 + ord("e")) * 257 + 32) * 257 + byte for byte in range(256)]])
    for start in (keys[0], keys[0] % 257, keys[0] + 256 * 257**4):
        assert probabilities(levels, start).sum() == pytest.approx(1.0)
    made = [
        Task(messages=(), expected=Expected(texts=(one,)), text=one, origin=Origin("a"))
        for one in ("the mat sat. " * 9, "qx 7# jw" * 9)
    ]
    found = linear_baseline(made[:1], made, seed=0)
    assert found is not None and found.scores == ("bits_per_byte",)
    rates = [answer.nll / answer.nll_bytes for answer in found.answers]
    assert rates[0] < 0.5 < rates[1] and all(
        answer.nll_bytes == len((task.text or "").encode()) for answer, task in zip(found.answers, made, strict=True)
    )


def test_where_answers_are_the_beginning_of_the_input_it_is_copied() -> None:
    draw = np.random.default_rng(0)
    words = [f"w{number}" for number in range(900)]
    tasks = []
    for _ in range(40):
        sentences = [" ".join(draw.choice(words, 12)) + "." for _ in range(6)]
        tasks.append(asked(" ".join(sentences), Expected(texts=(sentences[0],))))
    found = linear_baseline(tasks[:30], tasks[30:], seed=0)
    assert found is not None and found.name == "beginning of the input"
    assert value("rouge_l", found, tasks[30:]) == 1.0


@pytest.mark.parametrize("rows", [preferences(8, 0), named(8, 0), [questioned(number) for number in range(8)]])
def test_what_is_expected_of_the_test_is_not_read(rows: list[Task]) -> None:
    from dataclasses import replace

    train, test = rows[:6], rows[6:]
    blind = []
    for task in test:
        expected, row = replace(task.expected, texts=("something else",)), task.expected.asked
        spans, without = (() if expected.spans is not None else None), (replace(row, answers=()) if row is not None else None)
        blind.append(replace(task, expected=replace(expected, spans=spans, asked=without)))
    first, second = linear_baseline(train, test, seed=0), linear_baseline(train, blind, seed=0)
    assert first is not None and second is not None and first.answers == second.answers
