"""What `burnish evaluate` measures beside the scores: figures from answers alone, then everything through the command line on the stub."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish import api
from burnish.data.fields import normalised
from burnish.errors import DataError, UsageError
from burnish.evaluate_agreement import agreement, calibration, commonest, shares
from burnish.evaluate_judge import Compared, agreement_with_people, judged, verdicts
from burnish.evaluate_slices import REST, by_slice, slice_values, worst_rows
from burnish.evaluate_wordings import by_rule, read_wordings, worded
from burnish.scores import SCORES
from burnish.types import Answer, Answerable, Expected, Message, Origin, Pair, Task, content, plain
from cli_runs import cli, refused
from test_every_objective_runs import place, run_of
from test_synthesize import KEY, served

__all__ = ["place", "served"]  # fixtures


def task(number: int, expected: str = "yes", label: str | None = None) -> Task:
    labels = None if label is None else (label,)
    return Task(
        messages=(Message("user", content(f"Is it {number}?")),),
        expected=Expected(texts=(expected,), labels=labels, choices=("yes", "no") if label else ()),
        origin=Origin("rows.jsonl", number + 1),
    )


# ------------------------------------------------------------------------------------------------------- figures of answers alone


def test_agreement_is_the_share_of_pairs_that_say_the_same() -> None:
    assert agreement([["a", "a", "a"], ["a", "a", "b"], ["a", "b", "c"], ["a"]]).tolist() == pytest.approx([1, 1 / 3, 0, 1])
    assert commonest(["b", "a", "a", "c"]) == (1, 0.5)
    assert shares(np.zeros(0), [])["mean"] is None


def test_a_calibrated_certainty_has_no_error_and_a_boastful_one_has() -> None:
    draw = np.random.default_rng(0)
    certain = draw.random(2000)
    right = draw.random(2000) < certain
    groups = [str(row) for row in range(2000)]
    good, boastful = calibration(certain, right, groups), calibration(np.full(2000, 0.99), right, groups)
    assert good["error"]["mean"] < 0.06 and boastful["error"]["mean"] == pytest.approx(0.99 - right.mean(), abs=1e-9)
    assert good["brier"]["mean"] == pytest.approx(1 / 6, abs=0.02) and good["accuracy_at_80"]["mean"] == pytest.approx(
        0.6, abs=0.03
    )
    for row in (*(good[name] for name in ("brier", "error", "accuracy_at_80")), boastful["error"]):
        assert row["low"] <= row["mean"] <= row["high"] and row["n"] >= 1600


def test_wordings_keep_the_question_and_what_is_expected(tmp_path: Path) -> None:
    asked = replace(task(1), messages=(Message("user", content("Context.\n\nIs it 1?")),))
    for way in by_rule("Is it 1?"):
        other = worded(asked, "Is it 1?", way)
        assert plain(other.messages[-1].content) == f"Context.\n\n{way}" and other.expected == asked.expected and way != "Is it 1?"
    context = Answerable(question="Is it 1?", context="Context.", answers=(), origin=Origin("x"))
    own = worded(replace(asked, expected=Expected(asked=context)), "Is it 1?", "one, is it")
    assert own.expected.asked is not None and own.expected.asked.question == "one, is it", "a head reads the question there"
    file = tmp_path / "ways.jsonl"
    file.write_text(json.dumps({"question": "Is it 1?", "paraphrases": ["Would it be 1?", "1, is it?"]}) + "\n")
    given = read_wordings(str(file), tmp_path)
    assert given.of("is it 1?") == ("Would it be 1?", "1, is it?") and given.of("Is it 2?") == by_rule("Is it 2?")
    file.write_text(
        '{"question": "", "paraphrases": ["x"]}\n{"question": "a", "paraphrases": 3}\n{"question": "a", "paraphrases": ["a"]}\n'
    )
    with pytest.raises(DataError, match=r"(?s)ways.jsonl:1.*ways.jsonl:2.*ways.jsonl:3"):
        read_wordings(str(file), tmp_path)


def test_slices_hold_every_row_once_and_small_ones_are_put_together() -> None:
    labels = ["a"] * 12 + ["b"] * 7 + ["c"] * 2 + ["d"]
    tasks = [task(number, label, label) for number, label in enumerate(labels)]
    answers = {"model": [Answer(text="a")] * len(tasks)}
    found = by_slice(answers, tasks, SCORES["accuracy"], slice_values(tasks, "label", {}))
    assert [(one["value"], one["n"]) for one in found] == [("a", 12), ("b", 7), (REST, 3)]
    assert [one["model"]["mean"] for one in found] == [1.0, 0.0, 0.0]
    columns = {str(one.origin): {"colour": "red" if place % 2 else "blue"} for place, one in enumerate(tasks)}
    assert sorted(set(slice_values(tasks, "colour", columns))) == ["blue", "red"]
    assert len(set(slice_values(tasks, "length", {}))) >= 1 and set(slice_values(tasks, "file", {})) == {"rows.jsonl"}
    with pytest.raises(UsageError, match=r"Did you mean 'colour'.*label, length, file, colour"):
        slice_values(tasks, "color", columns)


def test_the_worst_rows_are_those_that_were_lost() -> None:
    tasks = [task(number, "yes") for number in range(6)]
    base = [Answer(text="yes" if number in (1, 4) else "no") for number in range(6)]
    tuned = [Answer(text="yes" if number in (0, 1) else "no") for number in range(6)]
    found = worst_rows({"base": base, "tuned": tuned}, tasks, SCORES["exact_match"], count=2, arm="tuned")
    assert found[0]["origin"] == "rows.jsonl:5" and found[0]["values"] == {"base": 1.0, "tuned": 0.0}
    assert found[0]["answers"] == {"base": "yes", "tuned": "no"} and found[1]["values"]["base"] == 0.0
    error = worst_rows(
        {"model": [Answer(text="1"), Answer(text="9")]},
        [replace(one, expected=Expected(texts=("1",), number=1.0)) for one in tasks[:2]],
        SCORES["absolute_error"],
        count=1,
        arm="model",
    )
    assert error[0]["origin"] == "rows.jsonl:2" and error[0]["values"]["model"] == 8.0, (
        "where less is better, the largest is the worst"
    )


# --------------------------------------------------------------------------------------------------------------------------- the judge


def knows(prompts: Any) -> list[str]:
    """Judge by the word "good" in an answer."""
    return ["A" if "good" in prompt.split("Answer A:")[1].split("Answer B:")[0] else "B" for prompt in prompts]


def test_a_judge_that_goes_by_the_order_says_nothing() -> None:
    rows = [Compared(f"q{number}", f"good {number}", f"bad {number}") for number in range(8)]
    first = verdicts(lambda prompts: ["A"] * len(prompts), rows)
    assert (first.worth_R == 0.5).all() and (first.turned_R == 1.0).all() and first.unread == 0
    honest = verdicts(knows, rows)
    assert (honest.worth_R == 1.0).all() and not honest.turned_R.any()
    silent = verdicts(lambda prompts: ["I cannot say: A or B"] * len(prompts), rows)
    assert (silent.worth_R == 0.5).all() and silent.unread == 16
    assert (verdicts(lambda prompts: ["A", "T"] * (len(prompts) // 2), rows).turned_R == 1.0).all()


def test_alike_answers_are_a_tie_without_asking() -> None:
    asked: list[str] = []
    found = verdicts(lambda prompts: asked.extend(prompts) or [], [Compared("q", "The same.", "the same.")])
    assert found.worth_R.tolist() == [0.5] and not asked and normalised("The same.") == normalised("the same.")


def people(count: int, wrong: int = 0) -> list[Pair]:
    pairs = []
    for number in range(count):
        texts = (f"good {number}", f"bad {number}") if number >= wrong else (f"bad {number}", f"good {number}")
        one, other = ((Message("assistant", content(text)),) for text in texts)
        pairs.append(Pair(prompt=(Message("user", content("q")),), chosen=one, rejected=other, origin=Origin("pairs", number)))
    return pairs


def test_a_judge_is_believed_as_far_as_it_agrees_with_people() -> None:
    tasks = [task(number) for number in range(30)]
    good, bad = [Answer(text=f"good {n}") for n in range(30)], [Answer(text=f"bad {n}") for n in range(30)]
    for pairs, kappa, relied in ((people(60), 1.0, True), (people(60, wrong=15), 0.5, False), (people(20), 1.0, False)):
        measured = agreement_with_people(knows, pairs)
        assert measured["kappa"]["mean"] == pytest.approx(kappa) and measured["n"] == len(pairs)
        found = judged(knows, tasks, good, bad, measured)
        assert found["relied_on"] is relied and found["better"]["mean"] == 1.0 and found["wins"] == 30
        assert ("Do not rely on it" in found["told"]) is not relied
    turned = agreement_with_people(lambda prompts: ["A"] * len(prompts), people(60))
    assert turned["kappa"]["mean"] == 0.0 and turned["agreement"]["mean"] == 0.0 and turned["turned"]["mean"] == 1.0
    longer = judged(knows, tasks, [replace(one, text=one.text * 9) for one in good], bad, measured)
    assert longer["better_alike_in_length"]["n"] == 0, "no pair is alike in length"


# ------------------------------------------------------------------------------------------------------------ through the command line


def paired(place: Path, tmp_path: Path, count: int = 6) -> Path:
    file = tmp_path / "people.jsonl"
    rows = ({"prompt": f"q {n}?", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(count))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def runs(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    told = {"data": {"source": str(place / "labelled.jsonl"), "dev_share": 0.2, "test_share": 0.4, "near_duplicates": False}}
    made = {
        name: api.tune(run_of(place, "sft", folder / name, technique="lora", **told, **more))
        for name, more in (("one", {}), ("two", {"seed": 5, "train": {"steps": 2, "batch": 4}}))
    }
    head = run_of(place, "classification", folder / "head", **told)
    return {**made, "head": api.tune(head)}


def test_everything_of_a_run_beside_its_base(runs: dict[str, Path], place: Path, tmp_path: Path) -> None:
    done = cli(
        "evaluate", runs["one"], "--measure", "consistency", "--measure", "calibration", "--measure", "forgetting", "--measure", "abstention",
        "--slice", "label", "--slice", "length", "--worst", "2", "--judge", place / "stub", "--people", paired(place, tmp_path), "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    report, more = done.json, done.json["more"]
    n = report["scores"]["accuracy"]["n"]
    for arm in ("base", "tuned"):
        found = more["consistency"][arm]
        assert found["samples"]["n"] == found["paraphrases"]["all_right"]["n"] == n and 0 <= found["samples"]["mean"] <= 1
        assert more["calibration"][arm]["by"] == "chances of all labels" and more["calibration"][arm]["n"] == n
        assert more["abstention"][arm]["applicable"] is False
    assert "bits_per_byte" in more["forgetting"]["tuned"]["scores"]
    for slices in more["slices"].values():
        assert sum(one["n"] for one in slices) == n and {"base", "tuned", "difference"} <= slices[0].keys()
    assert len(more["worst"]) == 2 and set(more["worst"][0]["answers"]) == {"base", "tuned"}
    judge = more["judge"]["against"]["base"]
    assert judge["people"]["n"] == 6 and not judge["relied_on"] and judge["wins"] + judge["ties"] + judge["losses"] == n
    shown = cli("evaluate", runs["one"], "--slice", "label", "--worst", "1", "--measure", "calibration")
    assert shown.code == 0 and "certainty off by" in shown.out and "slices: a difference" in shown.out and "expected:" in shown.out


def test_a_head_says_its_own_certainty(runs: dict[str, Path]) -> None:
    more = api.evaluate(runs["head"], more=api.More(measures=("calibration", "consistency", "forgetting")))["more"]
    assert more["calibration"]["tuned"]["by"] == "chances of all labels" and "base" not in more["calibration"]
    assert more["consistency"]["tuned"]["samples"] is None and more["forgetting"]["tuned"]["applicable"] is False
    with pytest.raises(UsageError, match="through a head of its own"):
        api.evaluate(runs["head"], more=api.More(harness=("own_task",)))


def test_any_number_of_models_on_the_same_rows(runs: dict[str, Path], place: Path) -> None:
    """The first run's held-out rows, the others beside it; the figures are those that each has alone."""
    done = cli(
        "evaluate", runs["one"], runs["two"], runs["head"], place / "stub", "--worst", "1", "--measure", "consistency", "--json"
    )
    assert done.code == 0, done.err
    report = done.json
    row = report["scores"]["accuracy"]
    assert list(report["models"]) == ["one", "two", "head", "stub"] and set(row["differences"]) == {"two", "head", "stub"}
    for name, arm in (("one", "tuned"), ("two", "tuned"), ("head", "tuned")):
        alone = api.evaluate(runs[name], scores=["accuracy"])["scores"]["accuracy"]
        assert alone["n"] == row["n"] and alone[arm]["mean"] == pytest.approx(row[name]["mean"]), name
    apart = row["differences"]["two"]["mean"]
    assert apart == pytest.approx(row["two"]["mean"] - row["one"]["mean"]) and set(report["more"]["consistency"]) == set(
        report["models"]
    )
    assert "less one" in cli("evaluate", runs["one"], runs["two"]).out
    learned = cli("evaluate", runs["one"], runs["two"], "--data", place / "labelled.jsonl")
    refused(learned, "cannot be compared on")
    for call, expected in (
        (("evaluate", runs["one"], runs["one"]), "named twice"),
        (("evaluate", place / "stub", runs["one"]), "no held-out rows of its own"),
    ):
        refused(cli(*call), expected)


def test_unanswerable_questions_are_made_where_there_are_none(place: Path, tmp_path: Path) -> None:
    rows = [
        {
            "question": f"What colour is boat {n}?",
            "context": f"Boat {n} is colour{n}. It lies there.",
            "answers": {"text": [f"colour{n}"], "answer_start": [len(f"Boat {n} is ")]},
        }
        for n in range(6)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = api.evaluate(place / "stub", file, max_tokens=3, more=api.More(measures=("abstention",)))["more"]["abstention"]["model"]
    assert found["made"] is True and found["unanswerable"]["n"] == found["answerable"]["n"] == 6


def test_a_judge_behind_a_server_and_wordings_of_ones_own(runs: dict[str, Path], place: Path, tmp_path: Path, served: Any) -> None:
    """The judge of the server always says A, so every verdict turns with the order; the key goes to it and into no report."""
    rows = [json.loads(line) for line in (place / "labelled.jsonl").read_text().splitlines()]
    ways = tmp_path / "ways.jsonl"
    ways.write_text("".join(json.dumps({"question": row["text"], "paraphrases": [f"say: {row['text']}"]}) + "\n" for row in rows))
    a = {"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}]}
    served.answers = [(200, {"data": [{"id": "judge"}]}, {}), *[(200, a, {})] * 400]
    options = ("--judge", served.address, "--people", paired(place, tmp_path), "--measure", "consistency", "--paraphrases", ways)
    done = cli("evaluate", runs["one"], "--max-tokens", 2, *options, "--json")
    assert done.code == 0, done.err
    more = done.json["more"]
    judge = more["judge"]["against"]["base"]
    assert judge["ties"] == judge["better"]["n"] and judge["people"]["turned"]["mean"] == 1.0 and not judge["relied_on"]
    found = more["consistency"]["tuned"]["paraphrases"]
    assert found["given"] == found["agreement"]["n"] and KEY not in done.out + done.err
    assert all(body["temperature"] == 0 for _, _, body in served.asked if body is not None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--measure", "consistancy"), "Did you mean 'consistency'"),
        (("--judge", "tiny-chat"), "--judge needs --people"),
        (("--people", "x.jsonl"), "none is named"),
        (("--paraphrases", "x.jsonl"), "belongs to --measure consistency"),
        (("--slice", "labl"), "Did you mean 'label'"),
        pytest.param(("--harness", "no_such_task"), "no such task", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_measured_is_refused(runs: dict[str, Path], options: tuple[str, ...], expected: str) -> None:
    refused(cli("evaluate", runs["one"], "--max-tokens", 2, *options), expected)


def test_a_task_of_ones_own_through_the_harness(runs: dict[str, Path], place: Path, tmp_path: Path) -> None:
    """Both models on the same documents, paired; nothing is fetched."""
    rows = [{"question": f"{n} and one is", "answer": n % 2, "choices": ["odd", "even"]} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own_task.yaml").write_text(
        f"""task: own_task
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path / "rows.jsonl"}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
doc_to_choice: choices
metric_list: [{{metric: acc}}]
"""
    )
    more = api.More(harness=("own_task",), harness_folder=str(tmp_path))
    found = api.evaluate(runs["one"], limit=2, max_tokens=2, more=more)["more"]["harness"]["own_task/acc"]
    assert found["n"] == 8 and {"base", "tuned", "difference"} <= found.keys() and 0 <= found["tuned"]["mean"] <= 1
