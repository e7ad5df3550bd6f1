"""Compare any number of models on the same rows: runs, folders, bundled models, each asked in the form in which it was taught.

Enters: names of models, and rows, those that the first run held out unless others are given. Leaves: for each score the value of every model with an
interval, and by how much each differs from the first, paired row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish import config
from burnish.api_evaluate import held_out_of
from burnish.api_evaluate_more import NOTHING_MORE, Asker, More, Subject, columns_of, deepened
from burnish.api_evaluate_rows import fitting_names
from burnish.data.findings import joined
from burnish.data.seen import Seen, check_seen, seen_of
from burnish.errors import BurnishError, UsageError
from burnish.evaluate import Asking, answer, resolve_scores
from burnish.finish import measured_alike
from burnish.gather import gather, read_rows
from burnish.loaded import load, tasks_of
from burnish.models import Model, find_model
from burnish.prepare import registries, seen_by
from burnish.sampling import Options
from burnish.scores import fitting
from burnish.types import Answer, Example, Score, Task


def compare(
    models: Sequence[str | Path],
    data: str | Path | None = None,
    *,
    scores: Sequence[str] = (),
    limit: int | None = None,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    max_tokens: int | None = None,
    seed: int = 0,
    task: str | None = None,
    more: More = NOTHING_MORE,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Return {"models", "scores", "headline", …}: each score's value by model with intervals, and "differences" from the first model.

    Raises UsageError for fewer than two models, one named twice, or rows that are missing; DataError for rows that one of them is known to have been
    trained on.
    """
    names = _names(models)
    more.refuse()
    resolve_scores(scores)
    rows, read_from, base, own = _rows(str(models[0]), data, task, limit=limit, format=format, columns=columns)
    for model in names.values():
        for seen in (seen_by(find_model(model)), _learned(Path(model), say)):
            joined([check_seen(rows, seen, rows="compared on")]).raise_for_errors("These rows cannot be compared on")
    asked = _asked(names, rows, scores=scores, own=own, max_tokens=max_tokens, seed=seed, task=task, say=say)
    found = measured_alike(asked.tasks, asked.arms, asked.scores, seed=seed)
    first = next(iter(names))
    report = {"schema": 1, "models": {name: str(model) for name, model in names.items()}, "first": first, **found}
    if more.wanted:
        subject = Subject(
            tasks=asked.tasks,
            examples=rows if len(rows) == len(asked.tasks) else asked.tasks,
            arms=asked.arms,
            main=first,
            score=next(iter(asked.scores.values())),
            opened={name: _opening(str(model)) for name, model in names.items()},
            asking=asked.asking,
            columns=lambda: columns_of(read_from, base),
        )
        report["more"] = deepened(subject, more, base=Path.cwd(), say=say, seed=seed)
    return report


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Every model's answers to the same rows, the scores, and how they were asked. What is expected is the same for all of them."""

    tasks: list[Task]
    arms: dict[str, list[Answer]]
    scores: dict[str, Score]
    asking: Asking


def _asked(
    names: Mapping[str, str],
    rows: Sequence[Example],
    *,
    scores: Sequence[str],
    own: Sequence[str],
    max_tokens: int | None,
    seed: int,
    task: str | None,
    say: Callable[[str], None],
) -> _Asked:
    """Return what each model answers, one in memory at a time; the first one's scores and longest answer are those of all."""
    found: _Asked | None = None
    for name, model in names.items():
        loaded = load(model, task=task if (Path(model) / "run.toml").is_file() else None)
        tasks = tasks_of(loaded, rows)
        if found is None:
            longest = max_tokens or int(loaded.settings.get("max_tokens") or 128)
            chosen = resolve_scores(scores or fitting_names(own, tasks) or fitting(tasks, None))
            found = _Asked(tasks, {}, chosen, Asking(Options(max_tokens=longest, seed=seed, long_prompts="cut")))
        say(f"Measuring {name} on {len(tasks)} rows")
        found.arms[name] = answer(loaded.model, loaded.renderer, tasks, found.scores, found.asking)
        del loaded
    assert found is not None, "no models"
    return found


def _names(models: Sequence[str | Path]) -> dict[str, str]:
    """Return the models by a short name each: the last part of its path, more of it where two would be called the same."""
    given = [str(model) for model in models]
    if len(given) < 2:
        raise UsageError("A comparison takes at least two models.")
    if twice := [one for one in given if given.count(one) > 1]:
        raise UsageError(f"{twice[0]} is named twice, and it would differ from itself by nothing. Name it once.")
    short = [Path(one).name for one in given]
    names = [last if short.count(last) == 1 else whole for last, whole in zip(short, given, strict=True)]
    return dict(zip(names, given, strict=True))


def _rows(
    first: str,
    data: str | Path | None,
    task: str | None,
    *,
    limit: int | None,
    format: str,
    columns: Mapping[str, str] | None,
) -> tuple[list[Example], list[str], Path, Sequence[str]]:
    """Return the rows, the files that they were read from with the folder these are named from, and the scores of the run that held them out."""
    if data is not None:
        return read_rows(str(data), Path.cwd(), format=format, columns=columns)[:limit], [str(data)], Path.cwd(), ()
    if not (Path(first) / "run.toml").is_file():
        raise UsageError(f"{first} is not a run directory, so it has no held-out rows of its own. Give some: --data FILE")
    plan, held_out = held_out_of(Path(first), task, scores=(), limit=limit)
    name = next(iter(held_out))
    part = plan.parts[name]
    sources = [one.source for one in part.config.data.sources]
    files = [*sources, *(one for one in (part.config.data.test,) if one is not None)]
    return part.gathered.examples["test"][:limit], files, plan.resolved.base, part.config.score


def _learned(folder: Path, say: Callable[[str], None]) -> Seen | None:
    """Return what a run learned from or was chosen by, read again from its data; None for what is no run, or where that can no longer be read."""
    if not (folder / "run.toml").is_file():
        return None
    try:
        resolved = config.load(folder / "run.toml", registries=registries())
        sides = [gather(resolved.config.of_task(name), resolved.base).examples for name in resolved.config.task_names]
    except BurnishError as error:
        say(f"What {folder} learned from cannot be read again, so it may have seen rows that are compared on: {error}")
        return None
    return seen_of((row for examples in sides for side in ("train", "dev") for row in examples[side]), model=str(folder))


def _opening(model: str) -> Callable[[], Any]:
    @contextmanager
    def opened() -> Iterator[tuple[Model, Asker]]:
        loaded = load(model)
        yield loaded.model, loaded.renderer

    return opened
