"""What stands in the table of jobs: files, jobs, events, checkpoints, as values, and as rows of SQLite.

Enters: values of Python, or rows. Leaves: the other. Nothing here opens a table (`jobs_store`).
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

AS_JSON = {"method", "metadata", "extra", "error", "result_files", "data", "metrics"}
OPEN = ("validating_files", "queued", "running", "paused")
"""The states of a job that is not at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An uploaded file, or the results of a job. The content lies under its id; `filename` is what the client called it, and only shown."""

    id: str
    created_at: int
    filename: str
    bytes: int
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A fine-tuning job: what was asked, and what became of it.

    `model` is the name that was asked for, `base` the model that it stood for. `method` is what the client sent, "auto" replaced by what was
    chosen once that is known. `step` is the newest step that was told, `deaths` how often the process died since, `signalled` the process
    that was asked to stop.
    """

    id: str
    created_at: int
    status: str
    model: str
    base: str
    method: Mapping[str, Any]
    training_file: str
    validation_file: str | None = None
    seed: int
    suffix: str | None = None
    metadata: Mapping[str, str] | None = None
    extra: Mapping[str, Any]
    error: Mapping[str, Any] | None = None
    fine_tuned_model: str | None = None
    finished_at: int | None = None
    estimated_finish: int | None = None
    trained_tokens: int | None = None
    result_files: Sequence[str] = ()
    step: int = 0
    deaths: int = 0
    signalled: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a client is told of a job."""

    id: str
    created_at: int
    level: str
    message: str
    type: str
    data: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint that lies in a job's run directory now."""

    id: str
    job: str
    step: int
    created_at: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Said:
    """An event to be told; one with a `key` is told once only for each job."""

    message: str
    level: str = "info"
    data: Mapping[str, Any] | None = None
    key: str | None = None


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess and no path can be made of."""
    return f"{prefix}{secrets.token_hex(12)}"


def as_file(row: Mapping[str, Any]) -> File:
    """Return a row of the table of files."""
    return File(**_of(File, row))


def as_job(row: Mapping[str, Any]) -> Job:
    """Return a row of the table of jobs."""
    return Job(**_of(Job, row))


def as_event(row: Mapping[str, Any]) -> Event:
    """Return a row of the table of events."""
    return Event(**_of(Event, row))


def as_checkpoint(row: Mapping[str, Any]) -> Checkpoint:
    """Return a row of the table of checkpoints."""
    return Checkpoint(**_of(Checkpoint, row))


def _of(kind: type[Any], row: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: row[one.name] for one in fields(kind)}


def plain_row(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row with the values that its texts of JSON stand for."""
    return {name: json.loads(row[name]) if name in AS_JSON and row[name] is not None else row[name] for name in row.keys()}  # noqa: SIM118


def stored(name: str, value: Any) -> Any:
    """Return a value as the column of this name holds it."""
    return json.dumps(value) if name in AS_JSON and value is not None else value
