"""Where fine-tuning jobs are handed in and steered: what the routes do, without HTTP.

Enters: checked requests. Leaves: rows of the table of jobs, and a runner that carries them out. The folder of the jobs lies beside their
runs (`runs/.jobs`) and is made with the first upload; one server at a time has it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from burnish import atomic, locks
from burnish.disk import explained
from burnish.errors import ConfigError, UsageError
from burnish.serve import jobs_plan
from burnish.serve.jobs_request import CreateJob
from burnish.serve.jobs_rows import File, Job, Said, new_id
from burnish.serve.jobs_run import Runner
from burnish.serve.jobs_store import Store
from burnish.serve.jobs_told import model_name
from burnish.serve.problems import LOG, ApiError, wrong
from burnish.serve.settings import Settings

FOLDER = ".jobs"
"""Inside the folder of runs; lists of runs pass over names that begin with a dot."""
PURPOSE = "fine-tune"

Base = Callable[[str], str]
"""Gives the model that a name stands for, as a run file names it; raises the ApiError of an unknown one."""


class Desk:
    """What the routes about files and jobs share; a class because the lock on the folder and the runner are state."""

    def __init__(self, settings: Settings, base: Base) -> None:
        self.settings, self._base = settings, base
        self._opening = threading.Lock()
        self._store: Store | None = None
        self._runner: Runner | None = None
        self._lock: int | None = None

    # ------------------------------------------------------------------------------------------------------------ open and close

    @property
    def folder(self) -> Path:
        """The folder of the table and of everything uploaded."""
        return self.settings.runs / FOLDER

    def begin(self) -> None:
        """Go on with the jobs that an earlier server left; where there are none, nothing is made."""
        if self.folder.is_dir():
            try:
                self.store()
            except (ApiError, UsageError) as error:
                LOG.warning("jobs: %s", error.detail if isinstance(error, ApiError) else error)

    def end(self) -> None:
        """Let go of the folder; processes of jobs go on, for the next server to find."""
        if self._runner is not None:
            self._runner.end()
        if self._lock is not None:
            locks.release(self._lock)
        self._store, self._runner, self._lock = None, None, None

    def store(self) -> Store:
        """Return the table of jobs, opened and locked for this server; ApiError (503) where another one has it."""
        with self._opening:
            if self._store is not None:
                return self._store
            with explained(self.folder):
                atomic.make_directory(self.folder)
            try:
                self._lock = locks.take(self.folder)
            except UsageError:
                raise ApiError(
                    503, "Another server carries out the jobs of this folder of runs. Ask that one, or start this one with --runs."
                ) from None
            try:
                store = Store(self.folder)
                if not store.is_new:  # beside a table that was moved away, nothing is known of what lies here
                    _sweep(store)
                self._runner = Runner(store, self.settings.runs, at_once=self.settings.jobs)
            except BaseException:
                locks.release(self._lock)
                self._lock = None
                raise
            self._runner.begin()
            self._store = store
            return store

    def known(self) -> Store | None:
        """Return the table of jobs where there is one, and make nothing."""
        return self.store() if self._store is not None or self.folder.is_dir() else None

    def wake(self) -> None:
        """Let the runner look now."""
        if self._runner is not None:
            self._runner.wake()

    # ---------------------------------------------------------------------------------------------------------------------- jobs

    def create(self, request: CreateJob) -> Job:
        """Enter a job and return it; ApiError for what cannot be carried out as asked. Nothing of the files' content is read."""
        store = self.store()
        if len(store.jobs_in("validating_files", "queued")) >= self.settings.waiting_jobs:
            raise ApiError(
                429, f"{self.settings.waiting_jobs} jobs are waiting already. Cancel one, or wait.", code="rate_limit_exceeded"
            )
        files = {"training_file": self._file(store, request.training_file, "training_file")}
        if request.validation_file is not None:
            files["validation_file"] = self._file(store, request.validation_file, "validation_file")
        method = jobs_plan.method_of(request.asked)
        job = Job(
            id=new_id("ftjob-"),
            created_at=int(time.time()),
            status="validating_files",
            model=request.model,
            base=self.base_of(request.model),
            method=method,
            training_file=request.training_file,
            validation_file=request.validation_file,
            seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
            suffix=request.suffix,
            metadata=request.metadata,
            extra=request.burnish or {},
        )
        folder = store.jobs / job.id
        try:
            values = jobs_plan.run_values(
                method,
                base=job.base,
                output=os.path.relpath(self.settings.runs / job.id, folder),
                seed=job.seed,
                validated=request.validation_file is not None,
                extra=job.extra,
            )
            jobs_plan.resolved(values)
        except ConfigError as error:
            raise wrong(str(error), param=_param(str(error))) from error
        with explained(folder):
            atomic.make_directory(folder)
            for name, file in files.items():
                _copy(store.content(file), folder / {"training_file": jobs_plan.TRAINING}.get(name, jobs_plan.VALIDATION))
            atomic.write_file(folder / "values.json", json.dumps(values))
            jobs_plan.write(folder, values)
        told = [Said(f"Created fine-tuning job: {job.id}"), Said(f"Validating training file: {job.training_file}")]
        told += [Said(f"Validating validation file: {job.validation_file}")] if job.validation_file is not None else []
        store.add_job(job, *told)
        self.wake()
        return job

    def base_of(self, name: str) -> str:
        """Return the model that a name stands for: one made by a job here, or one that the server offers."""
        made = self.model(name)
        return str(made.resolve()) if made is not None else self._base(name)

    def model(self, name: str) -> Path | None:
        """Return where the model of this name lies that a job made, also one of its checkpoints; None for any other name."""
        store = self.known() if name.startswith("ft:") else None
        if store is None:
            return None
        whole, mark, step = name.partition(":ckpt-step-")
        if not mark:
            job = store.job_named(name)
            return self.settings.runs / job.id if job is not None else None
        job = next((job for job in _made_as(store, whole) if step.isdigit() and store.has_checkpoint(job.id, int(step))), None)
        return self.settings.runs / job.id / "checkpoints" / f"checkpoint-{int(step)}" if job is not None else None

    def models(self) -> list[tuple[str, int]]:
        """Return the name of every model that a job made, and since when, the oldest first."""
        made = self._store.jobs_in("succeeded") if self._store is not None else []
        return [(job.fine_tuned_model, job.finished_at or job.created_at) for job in made if job.fine_tuned_model is not None]

    def job(self, id: str) -> Job:
        """Return a job; the ApiError (404) of an unknown one."""
        store = self.known()
        found = store.job(id) if store is not None else None
        if found is None:
            raise ApiError(404, f"There is no fine-tuning job {id!r} here.", param="fine_tuning_job_id", code="fine_tune_not_found")
        return found

    def steer(self, id: str, wanted: str) -> Job:
        """Cancel, pause or resume a job, and return it; ApiError where it is not in a state for that."""
        job = self.job(id)
        expect, said = STEERED[wanted]
        values: dict[str, Any] = {"status": wanted, "estimated_finish": None}
        if wanted == "cancelled":
            values["finished_at"] = int(time.time())
        if wanted == "queued":
            values["deaths"] = 0
        if not self.store().change(id, Said(said), expect=expect, **values):
            now = self.job(id).status
            raise wrong(
                f"Job {job.id} is {now}, and only a job that is {' or '.join(expect)} can be {DONE[wanted]}.",
                param="fine_tuning_job_id",
                code="invalid_state",
            )
        self.wake()
        return self.job(id)

    def _file(self, store: Store, id: str, name: str) -> File:
        file = store.file(id)
        if file is None:
            raise wrong(
                f"{name}: there is no file {id!r} here. Upload it first (POST /v1/files).", param=name, code="file_not_found"
            )
        if file.purpose != PURPOSE:
            raise wrong(f"{name}: {id!r} has the purpose {file.purpose!r}; expected {PURPOSE!r}.", param=name)
        return file


STEERED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "cancelled": (("validating_files", "queued", "running", "paused"), "The job was cancelled"),
    "paused": (("queued", "running"), "The job is being paused"),
    "queued": (("paused",), "The job goes on"),
}
DONE = {"cancelled": "cancelled", "paused": "paused", "queued": "resumed"}


def _made_as(store: Store, name: str) -> list[Job]:
    """Return the jobs whose model has, or will have, this name: a checkpoint is there before its job has ended."""
    return [
        job for job in store.jobs_in("running", "paused", "succeeded", "cancelled", "failed", "queued") if model_name(job) == name
    ]


def _param(message: str) -> str | None:
    """Return the field that a message begins with, where it names one of the request's."""
    name = message.partition(":")[0]
    return name if name.startswith(("method", "burnish")) else None


def _copy(source: Path, target: Path) -> None:
    """Give a job its own name for a file's content, so that deleting the file leaves the job alone; copied where links are not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        atomic.sync(target)


def _sweep(store: Store) -> None:
    """Remove what a server that was killed left half entered: contents without a file, folders without a job."""
    files = store.file_ids()
    for entry in store.files.iterdir():
        if entry.name not in files:
            entry.unlink(missing_ok=True)
    for entry in store.jobs.iterdir():
        if store.job(entry.name) is None:
            shutil.rmtree(entry, ignore_errors=True)
