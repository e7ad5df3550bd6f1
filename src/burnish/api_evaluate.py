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
from burnish.api_loaded import Loaded, load, tasks_of
from burnish.config import Resolved
from burnish.data.findings import joined
from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.data.seen import check_seen
from burnish.data.split import group_keys
from burnish.devices import Device, apply_device, choose_device
from burnish.errors import BurnishError, DataError, UsageError, suggestion
from burnish.evaluate import Asking, answer, resolve_scores
from burnish.finish import measured, side_by_side
from burnish.finish_answers import asking_for, preferences, rows_of, with_rewards
from burnish.gather import read_rows
from burnish.models import Model, find_model, load_model
from burnish.prepare import Plan, prepare, registries, seen_by
from burnish.prepare_fresh import fresh_folder
from burnish.prepare_model import before_step_0
from burnish.reading_rows import judged_tasks
from burnish.sampling import Options
from burnish.scores import fitting
from burnish.tune_chain import changed_sources
from burnish.tune_rewards import as_score, guard_of, judges_of
from burnish.types import Answer, Example, Score, Task


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
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Return scores with intervals: of a tuned model beside its base, or of a model alone.

    Without `data`, the held-out rows of a run directory are used, and without `scores` those of its run. The result has the shape of
    report.json and, on the same rows, the same figures: classical baseline, what the base writes beside a head, and the runs with one task
    alone included. Of a run with several tasks, `task` takes one of them: its rows, or the form in which rows of `data` are asked.
    `seed` is that of the intervals (not given: the run's own). Rows that the model is known to have been trained on are refused.
    """
    folder = Path(model)
    is_run = (folder / "run.toml").is_file()
    if data is None and not is_run:
        find_model(str(model))  # a name that means nothing is told first
        raise UsageError(f"{model} is not a run directory, so it has no held-out rows of its own. Give some: --data FILE")
    resolve_scores(scores)
    # What is wrong with the rows shows before weights are read.
    if data is None:
        plan, held_out = _held_out(folder, task, scores=scores, limit=limit)
        loaded = load(model, task=task, device=_measured_on(folder))
        found = _of_run(
            plan, loaded.model, held_out, asking=asking_for(plan, max_tokens=max_tokens), own=not scores, draws=seed, say=say
        )
    else:
        rows = read_rows(str(data), Path.cwd(), format=format, columns=columns)[:limit]
        joined([check_seen(rows, seen_by(find_model(str(model))), rows="given")]).raise_for_errors("These rows cannot be scored on")
        loaded = load(model, task=task, device=_measured_on(folder) if is_run else None)
        longest = max_tokens or int(loaded.settings.get("max_tokens") or 128)
        asking = Asking(Options(max_tokens=longest, seed=seed or 0, long_prompts="cut"))
        found = _of_rows(loaded, rows, folder if is_run else None, task=task, scores=scores, asking=asking, say=say)
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
) -> dict[str, Any]:
    """Return the measured part of a run's report, made again; with scores of its `own` also the reward that attempts worked for."""
    plan = _as_saved(plan, model)
    say(f"Measuring {plan.resolved.config.output} and its base on {sum(map(len, held_out.values()))} held-out rows")
    first = _preferred_first(plan, held_out, model, asking)
    worth = _worth(plan, model, say) if own else {}
    return side_by_side(plan, model, held_out, asking=asking, say=say, before=first, worth=worth, draws=draws)[0]


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


# ------------------------------------------------------------------------------------------------------------------- rows that are given


def _of_rows(
    loaded: Loaded,
    rows: Sequence[Example],
    folder: Path | None,
    *,
    task: str | None,
    scores: Sequence[str],
    asking: Asking,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Return the measured part of a report on rows that are given: of a model, beside its base where that is known.

    Pairs are compared by what each model finds likelier: against what a run began with they are in its own report alone.
    """
    asker = _asker(loaded)
    spec = asker.spec if isinstance(asker, HeadRenderer) else loaded.model.reads(asker.task)
    tasks = _judged(loaded, rows) if spec is not None and spec.problem == "reward" else tasks_of(loaded, rows)
    own = scores or (_fitting(_own_scores(folder, task), tasks) if folder is not None else ())
    chosen = resolve_scores(
        own or fitting(tasks, None if spec is None else spec.problem, pictures=spec is not None and spec.kind == "picture")
    )
    say(f"Measuring {loaded.model.found.name} on {len(tasks)} rows")
    arms = {"model": _answers(loaded.model, asker, tasks, chosen, asking)}
    with _base(loaded, folder, asker) as base:
        if base is not None:
            say("Measuring its base on the same rows")
            arms = {"base": _answers(base, asker, tasks, chosen, asking), "tuned": arms["model"]}
    return measured(tasks, arms, chosen, seed=asking.options.seed)


def _asker(loaded: Loaded) -> Renderer | HeadRenderer:
    """Return what puts rows to a model: a reward model is shown whole dialogs, and an encoder of no other head restores tokens."""
    model, renderer = loaded.model, loaded.renderer
    if isinstance(renderer, HeadRenderer) and renderer.spec.problem == "reward":
        return Renderer(model.tokenizer, renderer.max_length, model.end_ids(), renderer.frame, task=renderer.task)
    if isinstance(renderer, Renderer) and model.spec is not None and model.spec.restores:
        frame = replace(renderer.frame, system=None, prompt=None)
        return HeadRenderer(model.tokenizer, renderer.max_length, frame, model.spec, model.encoder, task=renderer.task)
    return renderer


def _judged(loaded: Loaded, rows: Sequence[Example]) -> list[Task]:
    """Return rows as tasks of a reward model: rated answers are to be judged."""
    return judged_tasks(rows, group_keys(rows), loaded.renderer.frame)


def _answers(
    model: Model, asker: Renderer | HeadRenderer, tasks: Sequence[Task], scores: Mapping[str, Score], asking: Asking
) -> list[Answer]:
    found = answer(model, asker, tasks, scores, asking)
    judges = isinstance(asker, Renderer) and model.reads(asker.task) is not None
    return with_rewards(model, asker, tasks, found, asking) if isinstance(asker, Renderer) and judges else found


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


@contextmanager
def _base(loaded: Loaded, folder: Path | None, asker: Renderer | HeadRenderer) -> Iterator[Model | None]:
    """Give what a tuned model was made from inside the `with` block, None where it has no base that could be asked the same.

    A head's base is the same head on the untouched network, which is trained again from the run's own rows: not for rows that are given.
    """
    model, spec = loaded.model, loaded.model.reads(asker.task)
    if spec is not None:
        yield None
        return
    resolved = None if folder is None else config.load(folder / "run.toml", registries=registries())
    began = None if resolved is None or folder is None else _begun_with(resolved, loaded, folder)
    if model.found.adapter is not None and (began is None or find_model(began).adapter is None):
        with model.network.disable_adapter():
            yield model
    elif began is None or resolved is None:
        yield None
    else:
        yield load_model(began, model.target, head=model.spec, heads={}, terms=resolved.config.model.add_terms)


def _begun_with(resolved: Resolved, loaded: Loaded, folder: Path) -> str:
    """Return the name of the model that a run began with: its fresh one made again, or the one that it names."""
    if not resolved.config.model.is_fresh:
        return config.model_reference(resolved)
    seed = resolved.config.seed
    return str(fresh_folder(resolved.config.model, loaded.model.tokenizer, seed=seed, beside=folder.parent).resolve())


def _held_out(folder: Path, task: str | None, *, scores: Sequence[str], limit: int | None) -> tuple[Plan, dict[str, list[Task]]]:
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
    wanted = {name: _fitting(scores or plan.parts[name].config.score, tasks) for name, tasks in held_out.items()}
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
