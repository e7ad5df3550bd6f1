"""Measure what the bundled models answer: reading, labels by example, instructions, and questions with choices.

In: a `Setting`; rows of `make.py`, of the probe, and the rows that examples/instruct_rasbt.toml holds out. Out: parts of the file
that `measure.py` writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from asking import Figure, Row, Setting, answers, asked, choice_likelihoods, figures, groups, plain_value, shares

from burnish.api import resolve
from burnish.data.formats_dialog import with_input
from burnish.data.seen import check_seen
from burnish.errors import DataError
from burnish.forgetting_answers import likeliest, says_not_stated
from burnish.prepare import prepare, seen_by
from burnish.scores import SCORES
from burnish.types import Answer, Task, plain

EXACT = SCORES["exact_match"]
ANSWER_TOKENS = 32
"""More than the twelve words of the longest expected answer."""
WITHOUT = "without the passage"
GENERATED, BY_HAND = "generated questions", "hand-written questions"
RUN_FILE = Path(__file__).parent.parent.parent / "examples" / "instruct_rasbt.toml"

# ---------------------------------------------------------------------------------------------------------------------- reading


def passage_of(row: Row) -> str:
    """Return the passage in the question of a row: its longest line that does not stand in the question without the passage."""
    lines = [line for line in row["question"].split("\n") if line not in row["bare"].split("\n")]
    return re.sub(r"^(?:[A-Z][a-z]+(?: [a-z]+){0,3}: )?[“\"]?", "", max(lines, key=len)).rstrip("”")


def modules_of(passages: Sequence[str], held_out: Sequence[Row]) -> list[str]:
    """Return the module that each passage comes from, or the passage itself where it is invented: what resembles each other."""
    found = []
    for passage in passages:
        start = re.split(r"(?<=[.!?]) ", passage)[0]
        found.append(next((row["module"] for row in held_out if start in row["text"]), passage))
    return found


def measure_reading(setting: Setting) -> dict[str, Any]:
    """Return how often both models answer from a passage, beside the same questions without it, and how often they say it is silent."""
    held_out = setting.rows("held_out.jsonl")
    rows, silent = setting.rows("reading_test.jsonl"), setting.rows("reading_unanswerable.jsonl")
    origin = modules_of([passage_of(row) for row in rows], held_out)
    probe, by_hand = ([with_passage(row) for row in setting.probe(name)] for name in ("reading", "unanswerable"))
    passages = [row["passage"] for row in probe]
    arms, given = with_and_without(setting, GENERATED, rows, origin)
    probe_arms, probe_given = with_and_without(setting, BY_HAND, probe, passages)
    pairs = [(subject.name, f"{subject.name} {WITHOUT}") for subject in setting.subjects] + [(setting.chat.name, setting.tiny.name)]
    table = figures(GENERATED, arms, origin, pairs=pairs) + sliced(f"{GENERATED}: ", arms, origin, by_novelty(rows))
    table += figures(BY_HAND, probe_arms, passages, pairs=pairs)
    refusals = refused(
        setting, "generated, no answer in the passage", silent, modules_of([passage_of(row) for row in silent], held_out)
    )
    refusals += refused(setting, "hand-written, no answer in the passage", by_hand, [row["passage"] for row in by_hand])
    refusals += refusal_shares("generated, answer in the passage", given, origin)
    refusals += refusal_shares("hand-written, answer in the passage", probe_given, passages)
    return {
        "figures": table,
        "kinds": sliced("", arms, origin, by_kind(rows)),
        "refusals": refusals,
        "examples": shown(probe, probe_given[setting.chat.name]),
        "max_tokens": ANSWER_TOKENS,
    }


def with_passage(row: Row) -> Row:
    """Return a hand-written row with its prompt: the passage, a blank line, the question."""
    return {**row, "question": f"{row['passage']}\n\n{row['question']}", "bare": row["question"]}


def by_novelty(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Return the generated questions by what is new in them, as places in the list."""
    tests: dict[str, Callable[[Row], bool]] = {
        "kind and wording seen": lambda row: not row["kind_held_out"] and not row["wording_held_out"],
        "wording unseen": lambda row: not row["kind_held_out"] and row["wording_held_out"],
        "kind unseen": lambda row: row["kind_held_out"] and row["kind"] != "invented",
        "invented texts of unseen frames": lambda row: row["kind"] == "invented",
    }
    return {name: [number for number, row in enumerate(rows) if test(row)] for name, test in tests.items()}


def by_kind(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Return the generated questions by kind, as places in the list."""
    names = {row["kind"]: row["kind"] + (" (unseen)" if row["kind_held_out"] else "") for row in rows}
    return {name: [number for number, row in enumerate(rows) if row["kind"] == kind] for kind, name in sorted(names.items())}


def sliced(name: str, arms: Mapping[str, np.ndarray], origin: Sequence[str], slices: Mapping[str, list[int]]) -> list[Figure]:
    """Return the figures of each slice that holds a row."""
    table: list[Figure] = []
    for part, numbers in slices.items():
        chosen = {arm: values[numbers] for arm, values in arms.items()}
        table += figures(f"{name}{part}", chosen, [origin[number] for number in numbers]) if numbers else []
    return table


def with_and_without(
    setting: Setting, name: str, rows: Sequence[Row], origin: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, list[Answer]]]:
    """Return the exact matches of both models with and without the passage, by arm, and the answers with it, by model."""
    arms: dict[str, np.ndarray] = {}
    given: dict[str, list[Answer]] = {}
    for subject in setting.subjects:
        for field, suffix in (("question", ""), ("bare", f" {WITHOUT}")):
            print(f"  {name}: {subject.name}{suffix}", flush=True)
            tasks = [
                asked(row[field], [row["answer"], *row.get("others", [])], group=group)
                for row, group in zip(rows, origin, strict=True)
            ]
            found = answers(subject, tasks, max_tokens=ANSWER_TOKENS)
            arms[subject.name + suffix] = EXACT.statistics(found, tasks)
            given |= {subject.name: found} if not suffix else {}
    return arms, given


def refused(setting: Setting, name: str, rows: Sequence[Row], origin: Sequence[str]) -> list[Figure]:
    """Return the share of questions without an answer of which both models say so."""
    tasks = [asked(row["question"], [""], group=group) for row, group in zip(rows, origin, strict=True)]
    given = {subject.name: answers(subject, tasks, max_tokens=ANSWER_TOKENS) for subject in setting.subjects}
    return refusal_shares(name, given, origin)


def refusal_shares(name: str, given: Mapping[str, Sequence[Answer]], origin: Sequence[str]) -> list[Figure]:
    """Return the share of answers of each model that say that the passage is silent."""
    return figures(name, {arm: shares([says_not_stated(one.text) for one in found]) for arm, found in given.items()}, origin)


def shown(rows: Sequence[Row], given: Sequence[Answer], *, count: int = 8) -> list[dict[str, str]]:
    """Return some questions with the expected answer and the one given, evenly spread."""
    numbers = range(0, len(rows), max(1, len(rows) // count))[:count]
    return [{"question": rows[n]["question"], "expected": rows[n]["answer"], "given": given[n].text} for n in numbers]


# ----------------------------------------------------------------------------------------------------------------------- labels


def measure_labels(setting: Setting) -> dict[str, Any]:
    """Return how often both models label a text as the examples before it are: the likeliest of the labels, and by writing one."""
    rows = setting.rows("two_shot_test.jsonl")
    tasks = [asked(row["messages"], [row["answer"]], group=str(n), choices=row["choices"]) for n, row in enumerate(rows)]
    arms: dict[str, np.ndarray] = {}
    for subject in setting.subjects:
        print(f"  {subject.name}", flush=True)
        picked = likeliest(tasks, choice_likelihoods(subject, tasks), per_byte=False)
        arms[f"{subject.name}, likeliest label"] = hits(picked, tasks)
        arms[f"{subject.name}, written label"] = EXACT.statistics(answers(subject, tasks, max_tokens=16), tasks)
    table = [*figures("all", arms, groups(tasks)), plain_value("all", "chance", chance(rows), n=len(rows))]
    for count in sorted({len(row["choices"]) for row in rows}):
        numbers = [number for number, row in enumerate(rows) if len(row["choices"]) == count]
        table += sliced("", arms, groups(tasks), {f"{count} labels": numbers})
        table.append(plain_value(f"{count} labels", "chance", 1 / count, n=len(numbers)))
    return {"figures": table}


def hits(picked: Sequence[str], tasks: Sequence[Task]) -> np.ndarray:
    """Return the statistics of choices that are the right one."""
    return shares([choice == task.expected.texts[0] for choice, task in zip(picked, tasks, strict=True)])


def chance(rows: Sequence[Row]) -> float:
    """Return the share of right answers that guessing gives."""
    return float(np.mean([1 / len(row["choices"]) for row in rows]))


# ----------------------------------------------------------------------------------------------------------------- instructions


def measure_instructions(setting: Setting) -> dict[str, Any]:
    """Return the overlap of both models' answers to instructions with the reference answers, and how many end by themselves."""
    held_out, limit = held_out_instructions(setting)
    probe = [
        asked(with_input(row["instruction"], row["input"]), [row["output"]], group=str(number))
        for number, row in enumerate(setting.probe("instructions"))
    ]
    table: list[Figure] = []
    examples: list[dict[str, str]] = []
    pair = (setting.chat.name, setting.tiny.name)
    for name, tasks in (("held-out instructions", held_out), ("hand-written instructions", probe)):
        print(f"  {name}: {len(tasks)}", flush=True)
        given = {subject.name: answers(subject, tasks, max_tokens=limit) for subject in setting.subjects}
        for score in ("rouge_l", "stop_rate"):
            arms = {arm: SCORES[score].statistics(found, tasks) for arm, found in given.items()}
            table += [{**row, "score": score} for row in figures(name, arms, groups(tasks), score=SCORES[score], pairs=[pair])]
        if tasks is probe:
            examples = examples_of(tasks, given[setting.chat.name])
    return {"figures": table, "examples": examples, "max_tokens": limit}


def held_out_instructions(setting: Setting) -> tuple[list[Task], int]:
    """Return the rows that the run file holds out, and the run's limit on answers.

    Raises DataError where one of the models has seen some of them.
    """
    plan = prepare(resolve(RUN_FILE, f"model={setting.tiny.given}"))
    tasks = plan.tasks("test")
    for subject in setting.subjects:
        finding = check_seen(tasks, seen_by(subject.loaded.model.found), rows="held-out")
        if finding is not None:
            raise DataError(f"{RUN_FILE.name} for {subject.given!r}: {finding.message}")
    return tasks[: setting.limit], plan.resolved.config.evaluate.max_tokens or 64


def examples_of(tasks: Sequence[Task], given: Sequence[Answer], *, count: int = 8) -> list[dict[str, str]]:
    """Return some instructions with the reference and the answer, evenly spread."""
    numbers = range(0, len(tasks), max(1, len(tasks) // count))[:count]
    return [
        {"question": plain(tasks[n].messages[-1].content), "expected": tasks[n].expected.texts[0], "given": given[n].text}
        for n in numbers
    ]


# ----------------------------------------------------------------------------------------------------------------------- choice


def measure_choice(setting: Setting) -> dict[str, Any]:
    """Return how often both models find the right one of four answers to a question of general knowledge the likeliest."""
    rows = setting.probe("choice")
    tasks = [
        asked(row["question"], [row["choices"][row["answer"]]], group=str(number), choices=row["choices"])
        for number, row in enumerate(rows)
    ]
    arms: dict[str, np.ndarray] = {}
    for subject in setting.subjects:
        found = choice_likelihoods(subject, tasks)
        arms[f"{subject.name}, likeliest answer"] = hits(likeliest(tasks, found, per_byte=False), tasks)
        arms[f"{subject.name}, likeliest answer per byte"] = hits(likeliest(tasks, found, per_byte=True), tasks)
    return {"figures": [*figures("all", arms, groups(tasks)), plain_value("all", "chance", chance(rows), n=len(rows))]}
