"""Several tasks beside one alone: whether a task of this run falls behind a run with that task alone, on the same held-out rows.

Enters: a plan whose tasks name such runs (`single`), the tuned model's answers, and how it was asked. Leaves: by task the difference of
its first score, with an interval by a paired bootstrap over groups, and a verdict. Called by `finish`; before a run begins, `singles` tells
what cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from burnish import checkpoint, config, runs
from burnish.data.dialog import as_task
from burnish.data.split import group_keys
from burnish.errors import BurnishError, ConfigError, combined
from burnish.evaluate import Asking, answer, resolve_score
from burnish.finish_answers import asking_of
from burnish.models import Model, load_model
from burnish.prepare import Plan, prepare, registries
from burnish.prepare_task import TaskPlan
from burnish.report_words import figure
from burnish.scores import groups_of, intervals
from burnish.types import Answer, Score, Task

MARGIN = 2.0
"""Points (of 100) by which a task may fall behind its own run; of scores of which less is better, percent."""


@dataclass(frozen=True, slots=True, eq=False)
class Single:
    """A finished run with one task alone, and the places of the held-out rows here that it has not learned from."""

    folder: Path
    plan: Plan
    rows: list[int]

    @property
    def part(self) -> TaskPlan:
        """Its only task."""
        return self.plan.first


def singles(plan: Plan) -> dict[str, Single]:
    """Return by task the run that it is to be compared with; ConfigError with every reason why one cannot be compared with."""
    found, problems = {}, []
    for name, reference in config.single_references(plan.resolved).items():
        try:
            found[name] = _single(plan.parts[name], Path(reference))
        except BurnishError as error:
            problems.append(f"task.{name}.single = {reference!r}: {error}")
    if problems:
        raise combined(ConfigError, "Runs that cannot be compared with", problems)
    return found


def _single(part: TaskPlan, folder: Path) -> Single:
    """Return a run to compare a task with; ConfigError with the reason where its figure would mean nothing."""
    if not part.tasks("test"):
        raise ConfigError(
            "no rows of this task are held out, so there is nothing to compare on. Give data.test or data.test_share."
        )
    if not runs.is_finished(folder):
        raise ConfigError("expected the directory of a finished run, or a run file (.toml). Finish it first: burnish tune RUN.toml")
    resolved = config.load(runs.Run(folder).run_toml, registries=registries())
    # The folder may have been moved, and a fresh model is looked for beside it.
    plan = prepare(config.with_value(resolved, "output", str(folder), origin="where it lies"))
    if len(plan.parts) > 1:
        raise ConfigError(f"it learned several tasks itself ({', '.join(plan.parts)}). Name a run that learned this task alone.")
    if _learned(folder) != plan.fingerprint:
        raise ConfigError(
            "its rows are no longer those it was tuned on, or would be divided in another way now, so it is not known which rows it has "
            "learned from. Put them back, or tune it again."
        )
    return Single(folder, plan, _unseen(part, plan.first))


def _learned(folder: Path) -> str | None:
    """Return the fingerprint of the rows that a run was tuned on, by its newest checkpoint; None where none tells."""
    checkpoints = runs.Run(folder).checkpoints
    steps = checkpoint.steps(checkpoints)
    return checkpoint.facts(checkpoints / f"checkpoint-{steps[-1]}").get("data") if steps else None


def _unseen(part: TaskPlan, single: TaskPlan) -> list[int]:
    """Return the places of a task's held-out rows that another run has not learned from, nor from near copies of them.

    Raises ConfigError where none is left.
    """
    learned, held_out = single.gathered.examples["train"], part.gathered.examples["test"]
    # Its other rows too: which inputs are instructions, shared by many rows, shows only where all are seen.
    others = [*single.gathered.examples["dev"], *single.gathered.examples["test"]]
    keys = group_keys([*learned, *held_out, *others], near_duplicates=part.config.data.near_duplicates)
    known, asked = set(keys[: len(learned)]), keys[len(learned) : len(learned) + len(held_out)]
    rows = [place for place, key in enumerate(asked) if key not in known]
    if not rows:
        raise ConfigError(
            f"it has learned from all {len(held_out)} rows that are held out here, so it would be asked what it was told. Tune it with the "
            f"same rows, seed and shares as this task, or give both the same data.test."
        )
    return rows


# ------------------------------------------------------------------------------------------------------------------- the comparison


def compare_singles(
    plan: Plan,
    model: Model,
    held_out: Mapping[str, Sequence[Task]],
    arms: Mapping[str, Mapping[str, Sequence[Answer]]],
    *,
    asking: Asking,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Return the part of the report on runs with one task alone, under "single"; nothing where the run names none.

    What cannot be compared any more when tuning is over is told there, with its reason, and takes nothing else away.
    """
    found: dict[str, Any] = {}
    for name, reference in config.single_references(plan.resolved).items():
        if name not in held_out:
            continue
        say(f"Measuring {reference} on the held-out rows of {name}")
        try:
            single = _single(plan.parts[name], Path(reference))
            found[name] = _compared(plan.parts[name], single, held_out[name], arms[name]["tuned"], model, asking)
        except BurnishError as error:
            found[name] = {"run": reference, "verdict": "not compared", "told": f"{name} is not compared with {reference}: {error}"}
    return {"single": found} if found else {}


def _compared(
    part: TaskPlan, single: Single, tasks: Sequence[Task], tuned: Sequence[Answer], model: Model, asking: Asking
) -> dict[str, Any]:
    """Return what the report says of one task."""
    name = part.config.score[0]
    score = resolve_score(name)
    single = replace(single, rows=[row for row in single.rows if row < len(tasks)])
    if not single.rows:
        raise ConfigError("it has learned from all rows that were measured.")
    kept = [tasks[row] for row in single.rows]
    alone = _answers(single, part, score, kept, model, asking)
    statistics = {
        "single": np.asarray(score.statistics(alone, kept)),
        "tuned": np.asarray(score.statistics([tuned[row] for row in single.rows], kept)),
    }
    table = intervals(score, statistics, groups_of(kept), seed=part.config.seed, difference_from="single")
    written: dict[str, Any] = {"run": str(single.folder), "score": name, "left_out": len(tasks) - len(kept)}
    written |= {key: table[key] for key in ("single", "tuned", "n", "groups", "higher_is_better")}
    written |= {"note": table["note"]} if "note" in table else {}
    written["unit"] = "points" if score.higher_is_better else "%"
    written["difference"] = change(score, statistics, groups_of(kept), seed=part.config.seed)
    written["verdict"] = verdict(written["difference"], higher=score.higher_is_better)
    return written | {"told": _told(part.name, written)}


def _answers(single: Single, part: TaskPlan, score: Score, tasks: Sequence[Task], model: Model, asking: Asking) -> Sequence[Answer]:
    """Return the answers of the run with one task alone, asked in the form in which it was taught, to the rows held out here."""
    # Both files are of one room; the one that is called must not load the one that calls it.
    from burnish.finish import base_answers, preferred

    theirs = single.part
    examples = [part.gathered.examples["test"][row] for row in single.rows]
    asked = [
        replace(as_task(example, theirs.gathered.frame), group=task.group) for example, task in zip(examples, tasks, strict=True)
    ]
    longest = max(asking.options.max_tokens, theirs.config.evaluate.max_tokens or 0)
    own = asking_of(theirs, replace(asking, options=replace(asking.options, max_tokens=longest)))
    other = load_model(str(single.folder), model.target)
    spec, reader = other.reads(theirs.name), theirs.rows.reader
    asker = replace(reader, spec=spec) if reader is not None and spec is not None else theirs.asker
    given = answer(other, asker, asked, {part.config.score[0]: score}, own)
    if score.needs != "preference":
        return given
    settled = replace(single.plan, parts={theirs.name: replace(theirs, config=_scored(theirs, part.config.score[0]))})
    return preferred(theirs, given, base_answers(settled, other, {theirs.name: asked}, own)[theirs.name])


def _scored(part: TaskPlan, score: str) -> Any:
    """Return a task's settings with this score alone."""
    return part.config.model_copy(update={"score": (score,)})


def change(score: Score, statistics: Mapping[str, np.ndarray], groups: Sequence[str], *, seed: int) -> dict[str, float | None]:
    """Return by how much "tuned" differs from "single", with a 95 % interval: in points of 100, or in percent where less is better.

    The relative change is drawn as the difference of logarithms, under which the interval of `scores.intervals` keeps its meaning.
    """
    if score.higher_is_better:
        found = intervals(score, statistics, groups, seed=seed, difference_from="single")["difference"]
        return {key: None if value is None else 100.0 * value for key, value in found.items()}

    def logarithm(sums: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(score.combine(sums))

    found = intervals(replace(score, combine=logarithm), statistics, groups, seed=seed, difference_from="single")["difference"]
    return {key: None if value is None else 100.0 * float(np.expm1(value)) for key, value in found.items()}


def verdict(difference: Mapping[str, float | None], *, higher: bool) -> str:
    """Return whether a task is within the margin of its own run, beyond it, or neither is proven: by the whole interval, not its middle."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return "not proven either way"
    least, most = (-high, -low) if higher else (low, high)
    if most <= MARGIN:
        return f"within {MARGIN:g} {'points' if higher else '%'}"
    return f"more than {MARGIN:g} {'points below' if higher else '% above'}" if least > MARGIN else "not proven either way"


def _told(name: str, row: Mapping[str, Any]) -> str:
    """Return the comparison of a task as a sentence."""
    difference, unit = row["difference"], row["unit"]
    ours, theirs = figure(row["tuned"]["mean"]), figure(row["single"]["mean"])
    said = f"{name} beside its own run {row['run']}: {row['verdict']}. {row['score']} {ours} against {theirs}"
    if difference["low"] is not None:
        low, high = (figure(difference[end], signed=True) for end in ("low", "high"))
        said += f" ({figure(difference['mean'], signed=True)} {unit}, 95 % interval {low} to {high})"
    left = f"; {row['left_out']} held-out rows left out, which that run learned from" if row["left_out"] else ""
    return f"{said}, on {row['n']:,} rows in {row['groups']:,} groups{left}."
