"""The table of fine-tuning jobs: files, jobs, events and checkpoints, in one SQLite file that survives whatever kills the server.

Enters: what clients ask for and what the run directories say. Leaves: rows, a page at a time. The tables hold what was asked and what was
told; how far a job is stands in its run directory, from which `jobs_run` brings this table up to date. Written ahead (WAL) and synced with
each change, so that a job which a client was told of is there after a loss of power.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from burnish import atomic
from burnish.disk import explained
from burnish.errors import UsageError
from burnish.serve.jobs_rows import Checkpoint, File, Job, Said, as_file, as_job, new_id, plain_row, stored

SCHEMA = 1
TABLES = """
CREATE TABLE files (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, created_at INTEGER NOT NULL, filename TEXT NOT NULL,
  bytes INTEGER NOT NULL, purpose TEXT NOT NULL);
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, created_at INTEGER NOT NULL, status TEXT NOT NULL, model TEXT NOT NULL,
  base TEXT NOT NULL, method TEXT NOT NULL, training_file TEXT NOT NULL, validation_file TEXT, seed INTEGER NOT NULL, suffix TEXT,
  metadata TEXT, extra TEXT NOT NULL, error TEXT, fine_tuned_model TEXT, finished_at INTEGER, estimated_finish INTEGER,
  trained_tokens INTEGER, result_files TEXT NOT NULL, step INTEGER NOT NULL, deaths INTEGER NOT NULL, signalled INTEGER);
CREATE INDEX jobs_by_status ON jobs (status);
CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, job TEXT NOT NULL, created_at INTEGER NOT NULL, level TEXT NOT NULL,
  message TEXT NOT NULL, type TEXT NOT NULL, data TEXT, key TEXT, UNIQUE (job, key));
CREATE INDEX events_by_job ON events (job, seq);
CREATE TABLE checkpoints (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, job TEXT NOT NULL, step INTEGER NOT NULL, created_at INTEGER NOT NULL,
  metrics TEXT NOT NULL, UNIQUE (job, step));
"""


class Store:
    """The tables of one server; a class because the open file is state. Every call opens it anew, so any thread may call."""

    def __init__(self, folder: Path) -> None:
        """Open or make the tables in a folder; UsageError where another version of burnish made them or they cannot be read."""
        self.folder = folder
        self.path = folder / "jobs.sqlite"
        with explained(folder):
            for part in (folder, self.files, self.jobs):
                atomic.make_directory(part)
        try:
            with self._change() as tables:
                version = tables.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    for statement in filter(str.strip, TABLES.split(";")):
                        tables.execute(statement)
                    tables.execute(f"PRAGMA user_version = {SCHEMA}")
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"{self.path}: cannot be read as a table of jobs ({error}). Move it away to begin a new one; the runs themselves stay."
            ) from error
        self.is_new = version == 0
        if version > SCHEMA:
            raise UsageError(
                f"{self.path}: was made by a newer burnish (version {version}, this one knows {SCHEMA}). Update burnish."
            )

    @property
    def files(self) -> Path:
        """Folder of the contents of files, each under its id."""
        return self.folder / "files"

    @property
    def jobs(self) -> Path:
        """Folder of the jobs' own folders: run file, rows, and what the process said."""
        return self.folder / "jobs"

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Give the tables inside one transaction, which is on the disk when it ends and undone where it fails."""
        tables = sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
        try:
            tables.row_factory = sqlite3.Row
            tables.execute("PRAGMA journal_mode = WAL")
            tables.execute("PRAGMA synchronous = FULL")
            tables.execute("BEGIN IMMEDIATE")
            try:
                yield tables
            except BaseException:
                tables.execute("ROLLBACK")
                raise
            tables.execute("COMMIT")
        finally:
            tables.close()

    def _ask(self, question: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        tables = sqlite3.connect(self.path, timeout=30.0)
        try:
            tables.row_factory = sqlite3.Row
            return [plain_row(row) for row in tables.execute(question, values)]
        finally:
            tables.close()

    def page(
        self,
        table: str,
        where: Mapping[str, Any],
        *,
        after: str | None,
        limit: int,
        newest_first: bool = True,
        metadata: Mapping[str, str] | None = None,
    ) -> tuple[list[dict[str, Any]], bool] | None:
        """Return up to `limit` rows behind the one with the id `after`, and whether there are more; None where there is no such id.

        `table` and the names in `where` come from code, never from a request. `metadata` are pairs that a job must have.
        """
        conditions, values = [f"{name} IS ?" for name in where], list(where.values())
        for pair in (metadata or {}).items():
            conditions.append("EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ? AND value = ?)")
            values += pair
        if after is not None:
            mark = self._ask(f"SELECT seq FROM {table} WHERE {' AND '.join(['id = ?', *conditions])}", [after, *values])
            if not mark:
                return None
            conditions.append("seq < ?" if newest_first else "seq > ?")
            values.append(mark[0]["seq"])
        told = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "DESC" if newest_first else "ASC"
        rows = self._ask(f"SELECT * FROM {table} {told} ORDER BY seq {order} LIMIT ?", [*values, limit + 1])
        return rows[:limit], len(rows) > limit

    # ------------------------------------------------------------------------------------------------------------------- files

    def add_file(self, file: File) -> None:
        """Enter a file whose content lies there."""
        with self._change() as tables:
            _insert(tables, "files", file)

    def file(self, id: str) -> File | None:
        """Return a file by its id."""
        found = self._ask("SELECT * FROM files WHERE id = ?", [id])
        return as_file(found[0]) if found else None

    def content(self, file: File) -> Path:
        """Return where the content of an entered file lies: a path made of an id that was made here."""
        return self.files / file.id

    def remove_file(self, id: str) -> bool:
        """Forget a file, and return whether there was one."""
        with self._change() as tables:
            gone = tables.execute("DELETE FROM files WHERE id = ?", [id]).rowcount > 0
        (self.files / id).unlink(missing_ok=True) if gone else None
        return gone

    def file_ids(self) -> set[str]:
        """Return the ids of all files."""
        return {row["id"] for row in self._ask("SELECT id FROM files")}

    # -------------------------------------------------------------------------------------------------------------------- jobs

    def add_job(self, job: Job, *said: Said) -> None:
        """Enter a job, with what is told of it."""
        with self._change() as tables:
            _insert(tables, "jobs", job)
            _tell(tables, job.id, said)

    def job(self, id: str) -> Job | None:
        """Return a job by its id."""
        found = self._ask("SELECT * FROM jobs WHERE id = ?", [id])
        return as_job(found[0]) if found else None

    def jobs_in(self, *states: str) -> list[Job]:
        """Return the jobs in these states, the oldest first."""
        marks = ", ".join("?" * len(states))
        return [as_job(row) for row in self._ask(f"SELECT * FROM jobs WHERE status IN ({marks}) ORDER BY seq", states)]

    def job_named(self, model: str) -> Job | None:
        """Return the job that made a model of this name."""
        found = self._ask("SELECT * FROM jobs WHERE fine_tuned_model = ?", [model])
        return as_job(found[0]) if found else None

    def change(self, id: str, *said: Said, expect: Sequence[str] = (), file: File | None = None, **values: Any) -> bool:
        """Change a job and tell of it, in one step, and return whether that was done: not where its state is none of those expected.

        A `file` is entered in the same step, so that a job never names results that are not there.
        """
        names = ", ".join(f"{name} = ?" for name in values)
        marks = f" AND status IN ({', '.join('?' * len(expect))})" if expect else ""
        with self._change() as tables:
            done = tables.execute(
                f"UPDATE jobs SET {names} WHERE id = ?{marks}",
                [*(stored(name, item) for name, item in values.items()), id, *expect],
            ).rowcount
            if done and file is not None:
                _insert(tables, "files", file)
            if done:
                _tell(tables, id, said)
        return done > 0

    def tell(self, id: str, *said: Said) -> None:
        """Tell of a job; what has a key and was told before is not told again."""
        if said:
            with self._change() as tables:
                _tell(tables, id, said)

    def told(self, id: str) -> set[str]:
        """Return the keys of what was told of a job."""
        return {row["key"] for row in self._ask("SELECT key FROM events WHERE job = ? AND key IS NOT NULL", [id])}

    # ------------------------------------------------------------------------------------------------------------- checkpoints

    def set_checkpoints(self, job: str, found: Mapping[int, tuple[int, Mapping[str, float]]]) -> None:
        """Say which checkpoints of a job lie there now: step -> (time, metrics). Those known already keep their ids."""
        known = {row["step"] for row in self._ask("SELECT step FROM checkpoints WHERE job = ?", [job])}
        if known == set(found):
            return
        with self._change() as tables:
            for step in known - set(found):
                tables.execute("DELETE FROM checkpoints WHERE job = ? AND step = ?", [job, step])
            for step in sorted(set(found) - known):
                made, metrics = found[step]
                one = Checkpoint(id=new_id("ftckpt_"), job=job, step=step, created_at=made, metrics=metrics)
                _insert(tables, "checkpoints", one)

    def has_checkpoint(self, job: str, step: int) -> bool:
        """Return whether a checkpoint of a job lies there."""
        return bool(self._ask("SELECT id FROM checkpoints WHERE job = ? AND step = ?", [job, step]))


def _insert(tables: sqlite3.Connection, table: str, one: Any) -> None:
    values = {part.name: stored(part.name, getattr(one, part.name)) for part in fields(one)}
    marks = ", ".join("?" * len(values))
    tables.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", list(values.values()))


def _tell(tables: sqlite3.Connection, job: str, said: Sequence[Said]) -> None:
    for one in said:
        kind = "metrics" if one.data is not None else "message"
        values = [new_id("ftevent-"), job, int(time.time()), one.level, one.message, kind, stored("data", one.data), one.key]
        tables.execute(
            "INSERT OR IGNORE INTO events (id, job, created_at, level, message, type, data, key) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
