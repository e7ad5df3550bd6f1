"""Measure a model on rows: a tuned one beside its base on what its run held out, or any on rows that are given.

Enters: a run directory or the name of a model, and perhaps a file of rows. Leaves: scores with intervals, in the shape of report.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish import checkpoint, config, runs
from burnish.api_loaded import Loaded, load, tasks_of
from burnish.data.findings import joined
from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.data.seen import check_seen
from burnish.devices import Device, apply_device, choose_device
from burnish.errors import BurnishError, DataError, UsageError, suggestion
from burnish.evaluate import Asking, answer, resolve_scores
from burnish.finish import asking_of, measured, preferred, together
from burnish.finish_heads import head_on_frozen_base, heads_alone, with_threshold
from burnish.gather import read_rows
from burnish.models import Model, find_model, load_model
from burnish.prepare import Plan, prepare, registries, seen_by
from burnish.prepare_fresh import fresh_folder
from burnish.prepare_task import TaskPlan
from burnish.sampling import Options
from burnish.scores import applicable
from burnish.tune_chain import changed_sources
from burnish.types import Answer, Score, Task


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Rows that are measured together: those of one task, in the form in which it is asked, with its scores."""

    tasks: Sequence[Task]
    renderer: Renderer | HeadRenderer
    scores: Mapping[str, Score]
    plan: TaskPlan | None = None


def evaluate(
    model: str | Path,
    data: str | Path | None = None,
    *,
    scores: Sequence[str] = (),
    limit: int | None = None,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    max_tokens: int | None = None,
    seed: int = 0,
    task: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Return scores with intervals: of a tuned model beside its base, or of a model alone.

    Without `data`, the held-out rows of a run directory are used, and without `scores` those of its run. The result has the shape of
    report.json, and on the same rows the same figures. Of a run with several tasks, `task` takes one of them: its rows, or the form in
    which rows of `data` are asked. Rows that the model is known to have been trained on are refused.
    """
    folder = Path(model)
    is_run = (folder / "run.toml").is_file()
    seen = seen_by(find_model(str(model)))
    if data is None and not is_run:
        raise UsageError(f"{model} is not a run directory, so it has no held-out rows of its own. Give some: --data FILE")
    resolve_scores(scores)
    # What is wrong with the rows shows before weights are read.
    plan = _held_out(folder, task) if data is None else None
    rows = read_rows(str(data), Path.cwd(), format=format, columns=columns) if data is not None else []
    joined([check_seen(rows[:limit], seen, rows="given")]).raise_for_errors("These rows cannot be scored on")
    loaded = load(model, task=task, device=_measured_on(folder) if is_run else None)
    if plan is not None:
        parts = _own_parts(plan, loaded, task=task, scores=scores, limit=limit)
    else:
        tasks = tasks_of(loaded, rows)[:limit]
        own = scores or (_fitting(_own_scores(folder, task), tasks) if is_run else ())
        parts = {"given": _Part(tasks, loaded.renderer, resolve_scores(own or applicable(tasks)))}
    longest = max_tokens or int(loaded.settings.get("max_tokens") or 128)
    asking = Asking(Options(max_tokens=longest, seed=seed, long_prompts="cut"))
    say(f"Measuring {model} on {sum(len(part.tasks) for part in parts.values())} rows")
    tuned = _answers(loaded.model, parts, asking)
    base = None
    if (beside := _base(loaded, folder, is_run, plan)) is not None:
        say("Measuring its base on the same rows")
        base = beside(parts, asking)
    measures = {}
    for name, part in parts.items():
        arms: dict[str, Sequence[Answer]] = {"model": tuned[name]}
        if base is not None:
            after = tuned[name] if part.plan is None else preferred(part.plan, tuned[name], base[name])
            arms = {"base": base[name], "tuned": after}
        measures[name] = measured(part.tasks, arms, part.scores, seed=seed)
    return {
        "schema": 1,
        "run": {"name": str(model), "model": loaded.model.found.base if loaded.model.found.adapter else str(model)},
        **together(measures),
    }


def _own_parts(plan: Plan, loaded: Loaded, *, task: str | None, scores: Sequence[str], limit: int | None) -> dict[str, _Part]:
    """Return the held-out rows of a run's tasks, or of one of them."""
    return {
        name: _Part(
            tasks,
            _asker(part, loaded.model),
            resolve_scores(_fitting(scores or part.config.score, tasks)),
            part,
        )
        for name, part in plan.parts.items()
        if task in (None, name) and (tasks := part.tasks("test")[:limit])
    }


def _asker(part: TaskPlan, model: Model) -> Renderer | HeadRenderer:
    """Return what puts the rows of a task to a tuned model: a head is asked as it was saved, with the threshold chosen for it."""
    spec = model.reads(part.name)
    return replace(part.rows.reader, spec=spec) if part.rows.reader is not None and spec is not None else part.asker


def _answers(model: Model, parts: Mapping[str, _Part], asking: Asking) -> dict[str, list[Answer]]:
    found = {}
    for name, part in parts.items():
        own = asking if part.plan is None else asking_of(part.plan, asking)
        found[name] = answer(model, part.renderer, part.tasks, part.scores, own)
    return found


def _fitting(names: Sequence[str], tasks: Sequence[Task]) -> list[str]:
    """Return the scores that find something to compare with in these rows, in their order."""
    return [name for name, score in resolve_scores(names).items() if any(score.applies(task) for task in tasks)]


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


def _own_scores(folder: Path, task: str | None) -> Sequence[str]:
    """Return the scores of a run: those of one task, or of its first."""
    run = config.load(runs.Run(folder).run_toml, registries=registries()).config
    return run.of_task(task or run.task_names[0]).score


def _base(
    loaded: Loaded, folder: Path, is_run: bool, plan: Plan | None
) -> Callable[[Mapping[str, _Part], Asking], dict[str, list[Answer]]] | None:
    """Return what answers as the base of a tuned model, None where it has none that is known.

    A head's base is the same head on the untouched network, which is trained again, from the run's own rows; heads by task likewise.
    """
    model = loaded.model
    if isinstance(loaded.renderer, HeadRenderer) and plan is None:
        return None
    if model.spec is not None and model.spec.kind != "masked":
        assert plan is not None, "a class with a head is asked by that head"
        before = head_on_frozen_base(plan, model.target)
        settled = with_threshold(plan, before)
        return lambda parts, asking: _answers(before, _asked(parts, settled), asking)

    def answers(base: Model, parts: Mapping[str, _Part], asking: Asking) -> dict[str, list[Answer]]:
        with nullcontext(None) if plan is None else heads_alone(plan, base, parts) as settled:
            return _answers(base, parts if settled is None else _asked(parts, settled), asking)

    if model.found.adapter is not None:

        def without_adapter(parts: Mapping[str, _Part], asking: Asking) -> dict[str, list[Answer]]:
            with model.network.disable_adapter():
                return answers(model, parts, asking)

        return without_adapter
    if not is_run:
        return None
    resolved = config.load(folder / "run.toml", registries=registries())
    if resolved.config.model.is_fresh:
        made = fresh_folder(resolved.config.model, model.tokenizer, seed=resolved.config.seed, beside=folder.parent)
        name = str(made.resolve())
    else:
        name = config.model_reference(resolved)
    base = load_model(
        name,
        model.target,
        head=plan.head if plan else None,
        heads=plan.heads if plan else None,
        terms=resolved.config.model.add_terms,
    )
    return lambda parts, asking: answers(base, parts, asking)


def _asked(parts: Mapping[str, _Part], settled: Plan) -> dict[str, _Part]:
    """Return parts that are asked with the thresholds of the heads that a plan was settled for."""
    return {
        name: replace(part, renderer=settled.parts[name].asker) if settled.parts[name].rows.reader is not None else part
        for name, part in parts.items()
    }


def _held_out(folder: Path, task: str | None) -> Plan:
    """Return the plan of a run with its test rows read again; DataError where they may no longer be the ones held out."""
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
    if not any(plan.parts[name].tasks("test") for name in chosen):
        raise DataError(f"{folder} held no rows out. Give some: --data FILE")
    return plan


def _tuned_on(folder: Path) -> str | None:
    """Return the fingerprint of the data that a run was tuned on, by its newest checkpoint; None where no checkpoint tells."""
    checkpoints = runs.Run(folder).checkpoints
    for step in reversed(checkpoint.steps(checkpoints)):
        with suppress(BurnishError):  # a damaged checkpoint does not keep the finished model from being measured
            return checkpoint.facts(checkpoints / f"checkpoint-{step}").get("data")
    return None
