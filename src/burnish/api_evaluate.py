"""Measure a model on rows: a tuned one beside its base on what its run held out, or any on rows that are given.

Enters: a run directory or the name of a model, and perhaps a file of rows. Leaves: scores with intervals, in the shape of report.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish import checkpoint, config, runs
from burnish.api_evaluate_more import NOTHING_MORE, More, Subject, columns_of, deepened
from burnish.api_evaluate_rows import fitting_names, of_rows
from burnish.data.findings import joined
from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.data.seen import check_seen
from burnish.devices import Device, apply_device, choose_device
from burnish.errors import BurnishError, DataError, UsageError, suggestion
from burnish.evaluate import Asking, resolve_score, resolve_scores
from burnish.finish import before_tuning, side_by_side
from burnish.finish_answers import asking_for, preferences, rows_of
from burnish.gather import read_rows
from burnish.loaded import load
from burnish.models import Model, find_model
from burnish.prepare import Plan, prepare, registries, seen_by
from burnish.prepare_model import before_step_0
from burnish.sampling import Options
from burnish.tune_chain import changed_sources
from burnish.tune_rewards import as_score, guard_of, judges_of
from burnish.types import Answer, Score, Task


def evaluate(
    model: str | Path,
    data: str | Path | None = None,
    *,
    scores: Sequence[str] = (),
    limit: int | None = None,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
    task: str | None = None,
    more: More = NOTHING_MORE,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Return scores with intervals: of a tuned model beside its base, or of a model alone.

    Without `data`, the held-out rows of a run directory are used, and without `scores` those of its run. The result has the shape of
    report.json and, on the same rows, the same figures: classical baseline, what the base writes beside a head, and the runs with one task
    alone included. Of a run with several tasks, `task` takes one of them: its rows, or the form in which rows of `data` are asked.
    `seed` is that of the intervals (not given: the run's own). Rows that the model is known to have been trained on are refused. `more` is
    what is measured beside the scores, on the rows of the first task.
    """
    folder = Path(model)
    is_run = (folder / "run.toml").is_file()
    if data is None and not is_run:
        find_model(str(model))  # a name that means nothing is told first
        raise UsageError(f"{model} is not a run directory, so it has no held-out rows of its own. Give some: --data FILE")
    resolve_scores(scores)
    more.refuse()
    # What is wrong with the rows shows before weights are read.
    if data is None:
        plan, held_out = held_out_of(folder, task, scores=scores, limit=limit)
        loaded = load(model, task=task, device=_measured_on(folder))
        found, subject = _of_run(
            plan, loaded.model, held_out, asking=asking_for(plan, max_tokens=max_tokens), own=not scores, draws=seed, say=say
        )
    else:
        rows = read_rows(str(data), Path.cwd(), format=format, columns=columns)[:limit]
        joined([check_seen(rows, seen_by(find_model(str(model))), rows="given")]).raise_for_errors("These rows cannot be scored on")
        loaded = load(model, task=task, device=_measured_on(folder) if is_run else None)
        longest = max_tokens or int(loaded.settings.get("max_tokens") or 128)
        asking = Asking(Options(max_tokens=longest, seed=seed or 0, long_prompts="cut"))
        found, subject = of_rows(
            loaded, rows, folder if is_run else None, data=str(data), task=task, scores=scores, asking=asking, say=say
        )
    if more.wanted:
        found["more"] = deepened(subject, more, base=Path.cwd(), say=say, seed=seed or 0)
    base = loaded.model.found.base if loaded.model.found.adapter else str(model)
    return {"schema": 1, "run": {"name": str(model), "model": base}, **found}


# ---------------------------------------------------------------------------------------------------------------- what a run held out


def _of_run(
    plan: Plan,
    model: Model,
    held_out: Mapping[str, Sequence[Task]],
    *,
    asking: Asking,
    own: bool,
    draws: int | None,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], Subject]:
    """Return the measured part of a run's report, made again, and what more can be measured of its first task; with scores of its `own` also
    the reward that attempts worked for."""
    plan = _as_saved(plan, model)
    say(f"Measuring {plan.resolved.config.output} and its base on {sum(map(len, held_out.values()))} held-out rows")
    first = _preferred_first(plan, held_out, model, asking)
    worth = _worth(plan, model, say) if own else {}
    found, arms = side_by_side(plan, model, held_out, asking=asking, say=say, before=first, worth=worth, draws=draws)
    name, tasks = next(iter(held_out.items()))
    return found, _subject_of_run(plan, model, name, tasks, arms[name], asking)


def _subject_of_run(
    plan: Plan, model: Model, name: str, tasks: Sequence[Task], arms: Mapping[str, Sequence[Answer]], asking: Asking
) -> Subject:
    """Return what more can be measured of a task of a run: of the tuned model, and of its base where that answers in the same way."""
    part = plan.parts[name]

    @contextmanager
    def tuned() -> Iterator[tuple[Model, Renderer | HeadRenderer]]:
        yield model, part.asker

    @contextmanager
    def base() -> Iterator[tuple[Model, Renderer | HeadRenderer]]:
        with before_tuning(plan, model) as before:
            yield before, part.asker

    writes = isinstance(part.asker, Renderer) and model.reads(name) is None
    examples = part.gathered.examples["test"][: len(tasks)]
    sources = [one.source for one in part.config.data.sources]
    files = [*sources, *(one for one in (part.config.data.dev, part.config.data.test) if one is not None)]
    return Subject(
        tasks=tasks,
        examples=examples if len(examples) == len(tasks) else tasks,
        arms={arm: arms[arm] for arm in ("base", "tuned")},
        main="tuned",
        score=resolve_score(part.config.score[0]),
        opened={"base": base, "tuned": tuned} if writes else {"tuned": tuned},
        asking=asking,
        columns=lambda: columns_of(files, plan.resolved.base),
    )


def _as_saved(plan: Plan, model: Model) -> Plan:
    """Return the plan with the heads of a tuned model: each asked as it was saved, with the threshold chosen for it."""
    parts = {}
    for name, part in plan.parts.items():
        spec, reader = model.reads(name), part.rows.reader
        if spec is not None:
            asker = None if reader is None else replace(reader, spec=spec)
            part = replace(part, rows=replace(part.rows, head=spec, reader=asker))
        parts[name] = part
    return replace(plan, parts=parts)


def _preferred_first(plan: Plan, held_out: Mapping[str, Sequence[Task]], model: Model, asking: Asking) -> dict[str, list[Answer]]:
    """Return by task what the policy preferred before step 0, where that is another than the base, such as one with new prompt tokens."""
    compared = any(part.reads("reference") for name, part in plan.parts.items() if name in held_out)
    if plan.technique.reference == "adapter_off" or not compared:
        return {}
    return preferences(plan, before_step_0(plan, model.target), held_out, asking)


def _worth(plan: Plan, model: Model, say: Callable[[str], None]) -> dict[str, Score]:
    """Return by task ("" for the only one) the reward that attempts worked for, as a score; told where its model is gone."""
    found = {}
    for name, part in plan.parts.items():
        if part.rows.learned:
            continue
        try:
            score = as_score(judges_of(part, plan.resolved, model.target), guard_of(part))
        except BurnishError as error:
            say(f"The reward is not measured: {error}")
            continue
        if score is not None:
            found[name if len(plan.parts) > 1 else ""] = score
    return found


def _measured_on(folder: Path) -> Device | None:
    """Return device and formats that a run had, so that a figure does not change with them; None where that device is not here."""
    file = runs.Run(folder).environment_json
    if not file.is_file():
        return None
    numbers = json.loads(file.read_text(encoding="utf-8"))["numbers"]
    here = choose_device(moves_base=False)
    before = replace(Device(**numbers), threads=here.threads)
    if before.name != here.name:
        return None
    apply_device(before)
    return before


def held_out_of(folder: Path, task: str | None, *, scores: Sequence[str], limit: int | None) -> tuple[Plan, dict[str, list[Task]]]:
    """Return the plan of a run with the scores that are asked for, and its held-out rows by task, read again.

    Raises DataError where they may no longer be the ones held out.
    """
    resolved = config.load(folder / "run.toml", registries=registries())
    # The folder may have been moved, and a fresh model is looked for beside it.
    plan: Plan = prepare(config.with_value(resolved, "output", str(folder), origin="where it lies"))
    if changed := changed_sources(plan, folder):
        raise DataError(
            f"{', '.join(changed)} changed since {folder} was tuned: rows held out now may be rows it has learned. "
            f"Put the data back, or give rows it has not seen: --data FILE"
        )
    if _tuned_on(folder) not in (None, plan.fingerprint):
        raise DataError(
            f"{folder}: its rows would be divided in another way now than when it was tuned, since more is known of what models were "
            f"trained on: rows held out now may be rows it has learned. Tune it again, or give rows it has not seen: --data FILE"
        )
    if task is not None and task not in plan.parts:
        raise UsageError(f"{folder} has no task {task!r}. Its tasks: {', '.join(plan.parts)}.{suggestion(task, plan.parts)}")
    chosen = [task] if task is not None else list(plan.parts)
    held_out = {name: tasks for name in chosen if (tasks := rows_of(plan.parts[name], "test")[:limit])}
    if not held_out:
        raise DataError(f"{folder} held no rows out. Give some: --data FILE")
    wanted = {name: fitting_names(scores or plan.parts[name].config.score, tasks) for name, tasks in held_out.items()}
    if not any(wanted.values()):
        raise DataError(f"score: none of {', '.join(scores)} finds anything to compare with in the rows that {folder} held out.")
    parts = {
        name: replace(part, config=part.config.model_copy(update={"score": tuple(wanted[name])})) if wanted.get(name) else part
        for name, part in plan.parts.items()
    }
    return replace(plan, parts=parts), {name: tasks for name, tasks in held_out.items() if wanted[name]}


def _tuned_on(folder: Path) -> str | None:
    """Return the fingerprint of the data that a run was tuned on, by its newest checkpoint; None where no checkpoint tells."""
    checkpoints = runs.Run(folder).checkpoints
    for step in reversed(checkpoint.steps(checkpoints)):
        with suppress(BurnishError):  # a damaged checkpoint does not keep the finished model from being measured
            return checkpoint.facts(checkpoints / f"checkpoint-{step}").get("data")
    return None
