"""Export, from Python: a run directory's model with its own held-out rows, or any model with rows that are given.

Enters: a name, a target, and what the user chose. Leaves: what export.json holds. The rows with which the export is compared are gathered
here, so that the room of exports knows neither run files nor how a run divided its data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish import runs
from burnish.api_evaluate import held_out_of
from burnish.errors import DataError, UsageError
from burnish.export import Choices, Subject, find_target
from burnish.export import export as carry_out
from burnish.gather import read_rows
from burnish.loaded import load, tasks_of
from burnish.merge import exact
from burnish.models import find_model
from burnish.types import Task

ROWS = 64


def export(
    model: str | Path,
    to: str,
    output: str | Path | None = None,
    *,
    data: str | Path | None = None,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    rows: int = ROWS,
    task: str | None = None,
    **chosen: Any,
) -> dict[str, Any]:
    """Export a tuned model, compare the result with it, and return what export.json holds, with "output" and the sizes of its "files".

    `to` is a target's name; `chosen` are fields of `Choices` (`bits`, `dtype`, `tolerance`, `repo`, `public`, `licence`, `force`). The
    comparison is made on the run's own held-out rows, or on those of `data`: `rows` of them at most. Without `output` the folder is
    `export/TARGET` in the run directory, or `NAME-TARGET` here.

    Raises UsageError for what cannot be exported (nothing was written), RunError where the result is not the tuned model (nothing is left).
    """
    find_target(to)
    folder = Path(model).expanduser()
    is_run = (folder / "run.toml").is_file()
    found = find_model(str(model))
    called = folder.resolve().name if folder.is_dir() else str(model).split("/")[-1]
    place = Path(output).expanduser() if output is not None else folder / "export" / to if is_run else Path(f"{called}-{to}")
    choices = Choices(place, **chosen)
    if choices.output.exists():
        raise UsageError(f"{place} exists already. Name a new folder with --output, or delete this one.")
    # Rows first: what is wrong with them shows before weights are read.
    given = read_rows(str(data), Path.cwd(), format=format, columns=columns)[:rows] if data is not None else []
    tasks: Sequence[Task] = _held_out(folder, task, rows) if is_run and data is None else ()
    if not is_run and data is None:
        raise UsageError(
            f"{model} is not a run directory, so it has no held-out rows to compare the export on. Give some: --data FILE"
        )
    loaded = load(found.name, task=task, device=exact())
    tasks = tasks or tasks_of(loaded, given)
    if not tasks:
        raise DataError("There is no row to compare the export on. Give some: --data FILE")
    where = f"held out by {called}" if data is None else f"of {Path(str(data)).name}"
    subject = Subject(str(model), loaded.model, loaded.renderer, tuple(tasks[:rows]), where)
    if is_run:
        run = runs.Run(folder)
        subject = replace(subject, run=folder, report=_json(run.report_json), data=_json(run.data_json))
    return carry_out(subject, to, choices)


def _held_out(folder: Path, task: str | None, limit: int) -> list[Task]:
    """Return the rows that a run held out, of one task or its first, read again."""
    return next(iter(held_out_of(folder, task, scores=(), limit=limit)[1].values()))


def _json(path: Path) -> dict[str, Any]:
    """Return what a run told in a file, nothing where it did not."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path} cannot be read as JSON ({error}), and the model card needs it. Put it back, or delete it."
        ) from error
    return found if isinstance(found, dict) else {}
