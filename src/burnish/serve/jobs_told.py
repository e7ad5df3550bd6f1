"""What a job's run directory says to its client: steps as events, checkpoints, and the table of metrics that hosted services hand out.

Enters: a run directory, written by `burnish tune` as always. Leaves: events with keys, so that reading the same directory again tells
nothing twice; checkpoints that can be answered with; CSV.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from burnish import runs
from burnish.atomic import MANIFEST
from burnish.errors import BurnishError
from burnish.serve.jobs_plan import VALID_LOSS
from burnish.serve.jobs_rows import Job, Said

Records = list[dict[str, Any]]
HIDDEN = {"step", "dev", "tokens_per_second"}
"""Fields of a record of metrics that are not one of its figures, or are decided by a clock."""
ORGANISATION = "local"


def model_name(job: Job) -> str:
    """Return the name of what a job makes: ft:MODEL:ORGANISATION:SUFFIX:ID, as the hosted service builds it."""
    model = job.model.rstrip("/").rpartition("/")[2]
    if job.model.startswith("ft:"):  # tuned further: the name of the model that it all began with
        model = job.model.split(":")[1]
    return f"ft:{model}:{ORGANISATION}:{job.suffix or ''}:{job.id.removeprefix('ftjob-')[:8]}"


def checkpoint_name(job: Job, step: int) -> str:
    """Return the name of one checkpoint of a job."""
    return f"{model_name(job)}:ckpt-step-{step}"


@dataclass(frozen=True, slots=True)
class Read:
    """The metrics of a run as far as they were read: which file, how far, and the records."""

    file: int = 0
    offset: int = 0
    records: Records = field(default_factory=list)


def read_on(run: runs.Run, before: Read) -> Read:
    """Return the metrics of a run, of which those read before are not read again; a run that was resumed has another file.

    What cannot be read is left out: the run itself reports it.
    """
    try:
        file = run.metrics_jsonl.stat().st_ino
        known = before if before.file == file else Read(file)
        found, offset = runs.read_metrics_from(run, known.offset)
    except (BurnishError, OSError):
        return before
    return Read(file, offset, known.records + found)


def told(found: Records, known: set[str], steps: int | None) -> list[Said]:
    """Return an event for each record that was not told before."""
    said = []
    for record in found:
        number = record["step"]
        key = f"{'dev' if 'dev' in record else 'step'}:{number}"
        if key in known:
            continue
        figures = named(record)
        words = ", ".join(
            f"{name.replace('_', ' ')}={value:.4g}" for name, value in figures.items() if name in WORDS or "valid" in name
        )
        of = f"/{steps}" if steps else ""
        data = {"step": number, "total_steps": steps, **{name: finite(value) for name, value in figures.items()}}
        said.append(Said(f"Step {number}{of}: {words}", data=data, key=key))
    return said


WORDS = ("train_loss", "train_reward")
"""Figures of a step that are shown in words; the others stand in the event's data."""


def named(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a record under the names that hosted services use: train_loss, valid_loss and so on."""
    if "dev" in record:
        return dict(_of_dev(record["dev"]))
    figures = {name: float(value) for name, value in record.items() if name not in HIDDEN and _is_number(value)}
    return {{"loss": "train_loss", "reward": "train_reward"}.get(name, name): value for name, value in figures.items()}


def _of_dev(dev: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    for name, value in dev.items():
        if _is_number(value):
            if name == VALID_LOSS and value > 0:
                yield "valid_loss", math.log(value)
            else:
                yield f"valid_{name}", float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite(value: float) -> float | None:
    """Return a number as JSON has it: what is not finite is null."""
    return value if math.isfinite(value) else None


def checkpoints(run: runs.Run, found: Records) -> dict[int, tuple[int, dict[str, float]]]:
    """Return the checkpoints that lie in a run directory, complete ones only: step -> (time, metrics). The untuned model is none."""
    by_step: dict[int, dict[str, float]] = {}
    for record in found:
        by_step.setdefault(record["step"], {}).update(
            (name, value) for name, value in named(record).items() if name in ("train_loss", "valid_loss") and math.isfinite(value)
        )
    there = {}
    for folder in run.checkpoints.glob("checkpoint-*") if run.checkpoints.is_dir() else ():
        number = folder.name.removeprefix("checkpoint-")
        if number.isdigit() and int(number) > 0 and (folder / MANIFEST).is_file():
            step = int(number)
            there[step] = (_made(folder / MANIFEST), {"step": float(step), **by_step.get(step, {})})
    return there


def _made(file: Path) -> int:
    try:
        return int(file.stat().st_mtime)
    except OSError:
        return int(time.time())


def estimated_finish(found: Records, step: int, steps: int | None) -> int | None:
    """Return when the last step will be made if the others take as long as those so far; None before anything is known."""
    last = next((record for record in reversed(found) if "tokens" in record), None)
    if not steps or not step or last is None or not last.get("tokens_per_second"):
        return None
    return int(time.time() + (steps - step) * last["tokens"] / last["step"] / last["tokens_per_second"])


def trained_tokens(found: Records) -> int:
    """Return how many tokens a run has gone through."""
    return next((int(record["tokens"]) for record in reversed(found) if _is_number(record.get("tokens"))), 0)


def table(found: Records) -> bytes:
    """Return the metrics of a run as CSV: a line for each step, the names that hosted services use first."""
    rows: dict[int, dict[str, float]] = {}
    for record in found:
        rows.setdefault(record["step"], {}).update(named(record))
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    first = [name for name in ("train_loss", "valid_loss") if name in names]
    columns = ["step", *first, *(name for name in names if name not in first)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({"step": step, **row} for step, row in sorted(rows.items()))
    return text.getvalue().encode()


def ended_at(status: Mapping[str, Any]) -> int:
    """Return when a run said how it ended, in seconds since 1970."""
    try:
        return int(datetime.fromisoformat(str(status["time"])).timestamp())
    except ValueError:
        return int(time.time())
