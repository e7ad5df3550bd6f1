"""Measure a model on rows that are given: a tuned one beside what it was made from, where that is known.

Enters: a loaded model and examples. Leaves: the measured part of a report, and what more can be measured of the same answers. Called by
`api_evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish import config, runs
from burnish.api_evaluate_more import Subject, columns_of
from burnish.config import Resolved
from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.data.split import group_keys
from burnish.evaluate import Asking, answer, fitting_scores, resolve_scores
from burnish.finish import measured
from burnish.finish_answers import with_rewards
from burnish.loaded import Loaded, tasks_of
from burnish.models import Model, find_model, load_model
from burnish.prepare import registries
from burnish.prepare_fresh import fresh_folder
from burnish.reading_rows import judged_tasks
from burnish.scores import fitting
from burnish.types import Answer, Example, Score, Task


def of_rows(
    loaded: Loaded,
    rows: Sequence[Example],
    folder: Path | None,
    *,
    data: str,
    task: str | None,
    scores: Sequence[str],
    asking: Asking,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], Subject]:
    """Return the measured part of a report on rows that are given, of a model, beside its base where that is known; and what more can be measured.

    Pairs are compared by what each model finds likelier: against what a run began with they are in its own report alone.
    """
    asker = _asker(loaded)
    spec = asker.spec if isinstance(asker, HeadRenderer) else loaded.model.reads(asker.task)
    tasks = _judged(loaded, rows) if spec is not None and spec.problem == "reward" else tasks_of(loaded, rows)
    own = scores or (fitting_names(_own_scores(folder, task), tasks) if folder is not None else ())
    chosen = resolve_scores(
        own or fitting(tasks, None if spec is None else spec.problem, pictures=spec is not None and spec.kind == "picture")
    )
    say(f"Measuring {loaded.model.found.name} on {len(tasks)} rows")
    arms = {"model": _answers(loaded.model, asker, tasks, chosen, asking)}
    with _base(loaded, folder, asker) as base:
        if base is not None:
            say("Measuring its base on the same rows")
            arms = {"base": _answers(base, asker, tasks, chosen, asking), "tuned": arms["model"]}
    found = measured(tasks, arms, chosen, seed=asking.options.seed)

    @contextmanager
    def model() -> Iterator[tuple[Model, Renderer | HeadRenderer]]:
        yield loaded.model, asker

    @contextmanager
    def its_base() -> Iterator[tuple[Model, Renderer | HeadRenderer]]:
        with _base(loaded, folder, asker) as base:
            assert base is not None, "there was one a moment ago"
            yield base, asker

    subject = Subject(
        tasks=tasks,
        examples=rows if len(rows) == len(tasks) else tasks,
        arms=arms,
        main=next(reversed(arms)),
        score=next(iter(chosen.values())),
        opened={"base": its_base, "tuned": model} if "base" in arms else {"model": model},
        asking=asking,
        columns=lambda: columns_of([data], Path.cwd()),
    )
    return found, subject


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


def fitting_names(names: Sequence[str], tasks: Sequence[Task]) -> list[str]:
    """Return the scores that find something to compare with in these rows, in their order."""
    return list(fitting_scores(resolve_scores(names), tasks))


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
