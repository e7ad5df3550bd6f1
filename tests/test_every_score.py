"""What holds for every registered score, whatever it measures. A new score is covered by one line in GOLD."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.errors import DataError
from burnish.scores import SCORES, applicable, reward
from burnish.types import Answer, Expected, Message, Origin, Pair, Span, Task, ToolCall, content

NAMES = {
    "exact_match", "token_f1", "accuracy", "macro_f1", "label_parse_rate", "span_f1", "rouge_l", "chrf", "bleu", "perplexity",
    "bits_per_byte", "json_valid", "json_field_f1", "tool_call", "stop_rate", "python_code", "python_clean", "last_number",
    "preference_accuracy", "absolute_error", "calibration_error", "brier_score", "thumb_auroc", "rating_correlation",
    "restored_tokens", "bits_per_masked_token", "reply", "facts_kept", "auroc", "sensitivity", "weighted_kappa",
}  # fmt: skip


def task(expected: Expected, *, text: str | None = None, line: int = 1) -> Task:
    asked = () if text is not None else (Message("user", content("?")),)
    return Task(messages=asked, expected=expected, text=text, origin=Origin("rows.jsonl", line))


SOURCE = "Ann met Bob in Paris, and Ann left."
SPANS = (Span(0, 3, "person"), Span(15, 20, "place"), Span(26, 29, "person"))
CALLS = (ToolCall("weather", {"city": "Paris", "days": 2}),)
RECORD = {"name": "Ann", "lines": [{"sku": "a", "count": 1}, {"sku": "b", "count": 2}], "paid": None}

FREE = [
    (Expected(texts=("The cat sat on the mat. It slept.",)), "The cat sat on the mat. It slept."),
    (Expected(texts=("Paris", "the city of Paris")), "the city of Paris"),
    (Expected(texts=("Ένα μικρό κείμενο", "猫は寝た。")), "猫は寝た。"),
]
LABELS = [
    (Expected(texts=(", ".join(labels) or "none",), labels=labels, choices=("a", "b_c", "d")), ", ".join(labels) or "none")
    for labels in (("a",), ("b_c", "a"), ())
]
TAGS = [
    (
        Expected(texts=("[]",), spans=spans, source=SOURCE),
        json.dumps([{"text": SOURCE[span.start : span.end], "label": span.label} for span in spans]),
    )
    for spans in (SPANS, SPANS[:1], ())
]
RECORDS = [(Expected(texts=(json.dumps(value),)), json.dumps(value)) for value in (RECORD, [1, 2, {}], {"a": "é"})]
TOOLS = [
    (Expected(tool_calls=calls), json.dumps([{"name": call.name, "arguments": dict(call.arguments)} for call in calls]))
    for calls in (CALLS, (*CALLS, ToolCall("clock", {})), CALLS * 2)
]
CODE = [
    (Expected(texts=("x = 1",)), "```python\nx = 1\n```"),
    (Expected(texts=("y",)), "def f(a: int) -> int:\n    return a + 1\n"),
    (Expected(texts=("z",)), "Here it is:\n\n```py\nprint(sum(range(3)))\n```\nDone."),
]
SUMS = [
    (Expected(texts=(text,)), answer) for text, answer in (("The answer is 12.", "so 12"), ("3.5", "3.50"), ("-1,000", "-1000"))
]
PAIRS = [
    (Expected(texts=("yes",), pair=Pair(prompt=(), chosen=(), rejected=(), origin=Origin("rows.jsonl", line))), "yes")
    for line in (1, 2, 3)
]
TOLD = [(Expected(texts=(one,), labels=(one,), choices=("a", "b")), one) for one in "aba"]
GOLD: dict[str, list[tuple[Expected, str]]] = {
    **dict.fromkeys(("exact_match", "token_f1", "rouge_l", "chrf", "bleu", "stop_rate"), FREE),
    **dict.fromkeys(("accuracy", "macro_f1", "label_parse_rate"), LABELS),
    **dict.fromkeys(("auroc", "sensitivity"), TOLD),
    "weighted_kappa": [(Expected(texts=(one,), labels=(one,), choices=("0", "1", "10")), one) for one in ("0", "1", "10")],
    "span_f1": TAGS,
    **dict.fromkeys(("json_valid", "json_field_f1"), RECORDS),
    "tool_call": TOOLS,
    "reply": [*FREE[:2], TOOLS[0]],
    "facts_kept": [
        (Expected(texts=(text,)), text) for text in ("It cost 3.50 in Paris.", "See you, Ann, at 10:30.", "R-21 is ready.")
    ],
    **dict.fromkeys(("python_code", "python_clean"), CODE),
    "last_number": SUMS,
    "absolute_error": [
        (replace(expected, number=float(number)), answer) for (expected, answer), number in zip(SUMS, (12, 3.5, -1000), strict=True)
    ],
    **dict.fromkeys(("preference_accuracy", "calibration_error", "brier_score"), PAIRS),
    "thumb_auroc": [(Expected(number=number), text) for number, text in ((1.0, "3.5"), (0.0, "-1"), (1.0, "0.25"))],
    "rating_correlation": [(Expected(number=number), text) for number, text in ((1.0, "-2"), (5.0, "7"), (3.0, "0.5"))],
    **dict.fromkeys(("restored_tokens", "bits_per_masked_token"), [(Expected(texts=("x",)), '{"restored": 4, "masked": 4}')] * 3),
    **dict.fromkeys(("perplexity", "bits_per_byte"), FREE),
}
JUDGED, TEXTS = ("thumb_auroc", "rating_correlation"), ("restored_tokens", "bits_per_masked_token")
"""Scores of judged answers compare rows with each other: what a row brings in is fixed on all rows, so parts are not measured alone."""
UNRELATED = {
    **dict.fromkeys(("stop_rate", "python_code", "python_clean"), task(Expected(texts=("x",)), text="x")),
    "last_number": task(Expected(texts=("none",))),
    **dict.fromkeys(("perplexity", "bits_per_byte"), task(Expected())),
}


def gold(name: str) -> tuple[list[Answer], list[Task]]:
    """Right answers, expected with certainty, and their tasks."""
    pairs = GOLD[name]
    # so sure that the logistic function of it is 1
    answers = [
        Answer(
            text, stopped=True, nll=0.0, nll_tokens=5, nll_bytes=9, margin=50.0, chances={one: float(one == text) for one in "ab"}
        )
        for _, text in pairs
    ]
    tasks = [task(expected, line=line, text="x" if name in TEXTS else None) for line, (expected, _) in enumerate(pairs, 1)]
    if name == "facts_kept":  # the request holds what is to be kept
        tasks = [replace(one, messages=(Message("user", content(one.expected.texts[0])),)) for one in tasks]
    if name in JUDGED:
        tasks = [replace(one, messages=(*one.messages, Message("assistant", content("so")))) for one in tasks]
    return answers, tasks


def test_the_registry_holds_the_scores_that_run_files_may_name() -> None:
    assert set(SCORES) == NAMES == set(GOLD)


@pytest.mark.parametrize("name", SCORES)
def test_gold_answers_get_the_best_value_alone_and_together(name: str) -> None:
    score, (answers, tasks) = SCORES[name], gold(name)
    assert all(score.applies(one) for one in tasks)
    statistics = score.statistics(answers, tasks)
    assert statistics.dtype == np.float64
    assert statistics.shape[0] == len(answers)
    assert score.combine(statistics.sum(axis=0)) == pytest.approx(score.best, abs=1e-12)
    assert score.combine(statistics) == pytest.approx(score.best, abs=1e-12)
    assert all(row.any() for row in statistics) or name == "bits_per_byte"


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_usable_as_a_reward_of_which_more_is_better(name: str) -> None:
    score, (answers, tasks) = SCORES[name], gold(name)
    worse = [Answer("zzz {", stopped=False, nll=30.0, nll_tokens=5, nll_bytes=9, margin=-0.5) for _ in answers]
    best, bad = reward(score, answers, tasks), reward(score, worse, tasks)
    assert all(type(value) is float for value in best + bad)
    assert len(best) == len(tasks)
    assert all(left > right for left, right in zip(best, bad, strict=True))
    assert best == pytest.approx([score.best if score.higher_is_better else -score.best] * len(tasks), abs=1e-12)


junk = st.one_of(
    st.text(st.characters(), max_size=40),  # every code point, lone surrogates too
    st.sampled_from(
        ["", " ", "\0", "null", "[]", "{}", "[[]]", '{"name": 1}', '[{"text": 3, "label": null}]', "NaN", "1e999", "\ufeff{}"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "arguments", "text", "label", "start", "end", "spans", "function"]), inner, max_size=4
            )
        ),
        max_leaves=8,
    ).map(json.dumps),
)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(junk, min_size=3, max_size=3), nll=st.floats(0, 1e6))
def test_junk_never_raises_and_is_never_better_than_the_best(texts: list[str], nll: float) -> None:
    for name, score in SCORES.items():
        _, tasks = gold(name)
        answers = [Answer(text, nll=nll, nll_tokens=3, nll_bytes=7) for text in texts]
        statistics = score.statistics(answers, tasks)
        assert np.isfinite(statistics).all()
        values = score.combine(statistics)
        assert not np.isnan(values).any()
        assert ((values <= score.best + 1e-12) if score.higher_is_better else (values >= score.best)).all()


@pytest.mark.parametrize("text", ["y" * 100_000, "[" * 100_000, "word, " * 17_000, "<tool_call>{" * 8_000, "a.\n" * 33_000])
def test_100_kilobytes_of_junk_are_scored_in_seconds(text: str) -> None:
    for name, score in SCORES.items():
        _, tasks = gold(name)
        assert np.isfinite(score.statistics([Answer(text, nll=1.0, nll_tokens=1, nll_bytes=1)], tasks[:1])).all()


@pytest.mark.parametrize("name", SCORES)
def test_an_answer_without_text_is_scored_like_an_empty_one(name: str) -> None:
    _, tasks = gold(name)
    nothing = [Answer(None)] * len(tasks)  # pyright: ignore[reportArgumentType]
    assert np.array_equal(SCORES[name].statistics(nothing, tasks), SCORES[name].statistics([Answer("")] * len(tasks), tasks))


@pytest.mark.parametrize("name", SCORES)
def test_statistics_add_up_over_any_split_of_the_rows(name: str) -> None:
    score, (answers, tasks) = SCORES[name], gold(name)
    answers, tasks = answers + [Answer("a", nll=3.0, nll_tokens=2, nll_bytes=3)] * 3, tasks * 2
    whole = score.statistics(answers, tasks)
    # in any order, and two thirds and one third added: all tasks are in both parts, so that they know the same labels
    measured = whole if name in (*JUDGED, "auroc", "sensitivity") else None
    parts = [
        (score.statistics(answers[start::2], tasks[start::2]) if measured is None else measured[start::2]).sum(axis=0)
        for start in (0, 1)
    ]
    assert score.combine(parts[0] + parts[1]) == pytest.approx(score.combine(whole.sum(axis=0)))
    assert np.array_equal(score.statistics(answers[::-1], tasks[::-1])[::-1], whole)


@pytest.mark.parametrize("name", SCORES)
def test_combine_takes_any_leading_axes_as_a_bootstrap_needs(name: str) -> None:
    score, (answers, tasks) = SCORES[name], gold(name)
    answers = [*answers[:-1], Answer("a", nll=3.0, nll_tokens=2, nll_bytes=3)]
    statistics = score.statistics(answers, tasks)
    draws = np.random.default_rng(0).integers(0, 3, size=(2, 7, len(tasks))) @ statistics
    values = score.combine(draws)
    assert values.shape == (2, 7)
    for index in np.ndindex(2, 7):
        assert np.array_equal(values[index], score.combine(draws[index]), equal_nan=True)


@pytest.mark.parametrize("name", SCORES)
def test_rows_with_nothing_to_compare_change_no_value_and_give_no_reward(name: str) -> None:
    score, (answers, tasks) = SCORES[name], gold(name)
    other = UNRELATED.get(name, task(Expected(), line=77))
    assert not score.applies(other)
    mixed = score.statistics([*answers, Answer("a")], [*tasks, other])
    assert not mixed[-1].any()
    assert score.combine(mixed.sum(axis=0)) == pytest.approx(score.best, abs=1e-12)
    with pytest.raises(DataError, match=r"rows\.jsonl:"):
        reward(score, [*answers, Answer("a")], [*tasks, other])


@pytest.mark.parametrize("name", SCORES)
def test_no_rows_give_no_value(name: str) -> None:
    score = SCORES[name]
    statistics = score.statistics([], [])
    assert statistics.ndim == 2
    assert len(statistics) == 0
    assert np.isnan(score.combine(statistics.sum(axis=0)))


@pytest.mark.parametrize("name", SCORES)
def test_every_score_explains_itself_and_takes_options_by_keyword_with_defaults(name: str) -> None:
    function = SCORES[name].statistics
    assert (function.__doc__ or "").split("\n\n")[0].strip().endswith(".")
    for option in list(inspect.signature(function).parameters.values())[2:]:
        assert option.kind is option.KEYWORD_ONLY
        assert option.default is not option.empty


@pytest.mark.parametrize("name", SCORES)
def test_the_default_choice_of_scores_names_only_scores_that_apply(name: str) -> None:
    _, tasks = gold(name)
    for chosen in applicable(tasks):
        assert any(SCORES[chosen].applies(one) for one in tasks)


def test_importing_the_scores_imports_no_heavy_library() -> None:
    heavy = "{'torch', 'transformers', 'sklearn', 'scipy', 'nltk', 'sacrebleu', 'rouge_score', 'nervaluate'}"
    code = f"import sys, burnish.scores, burnish.baseline; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
