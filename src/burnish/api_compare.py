"""Compare any number of models on the same rows: runs, folders, bundled models, each asked in the form in which it was taught.

Enters: names of models, and rows, those that the first run held out unless others are given. Leaves: for each score the value of every model with an
interval, and by how much each differs from the first, paired row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from burnish.api_evaluate import fitting_names, held_out_of
from burnish.api_evaluate_more import NOTHING_MORE, Asker, More, Subject, columns_of, deepened
from burnish.api_loaded import load, tasks_of
from burnish.data.findings import joined
from burnish.data.seen import check_seen
from burnish.errors import UsageError
from burnish.evaluate import Asking, answer, resolve_scores
from burnish.finish import measured_alike
from burnish.gather import read_rows
from burnish.models import Model, find_model
from burnish.prepare import seen_by
from burnish.sampling import Options
from burnish.scores import fitting
from burnish.types import Answer, Example, Task


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
    for model in models:
        joined([check_seen(rows, seen_by(find_model(str(model))), rows=f"compared on with {model}")]).raise_for_errors(
            "These rows cannot be compared on"
        )
    arms: dict[str, list[Answer]] = {}
    tasks: list[Task] = []
    chosen, asking = {}, Asking(Options(max_tokens=1, seed=seed))
    for name, model in names.items():
        loaded = load(model, task=task if (Path(model) / "run.toml").is_file() else None)
        asked = tasks_of(loaded, rows)
        if not tasks:  # what is expected is the same for all, and the first model's form says how it is known
            tasks = asked
            chosen = resolve_scores(scores or fitting_names(own, tasks) or fitting(tasks, None))
            longest = max_tokens or int(loaded.settings.get("max_tokens") or 128)
            asking = Asking(Options(max_tokens=longest, seed=seed, long_prompts="cut"))
        say(f"Measuring {name} on {len(asked)} rows")
        arms[name] = answer(loaded.model, loaded.renderer, asked, chosen, asking)
        del loaded
    found = measured_alike(tasks, arms, chosen, seed=seed)
    first = next(iter(names))
    report = {"schema": 1, "models": {name: str(model) for name, model in names.items()}, "first": first, **found}
    if more.wanted:
        subject = Subject(
            tasks=tasks,
            examples=rows if len(rows) == len(tasks) else tasks,
            arms=arms,
            main=first,
            score=next(iter(chosen.values())),
            opened={name: _opening(str(model)) for name, model in names.items()},
            asking=asking,
            columns=lambda: columns_of(read_from, base),
        )
        report["more"] = deepened(subject, more, base=Path.cwd(), say=say, seed=seed)
    return report


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


def _opening(model: str) -> Callable[[], Any]:
    @contextmanager
    def opened() -> Iterator[tuple[Model, Asker]]:
        loaded = load(model)
        yield loaded.model, loaded.renderer

    return opened
