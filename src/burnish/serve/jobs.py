"""`/v1/fine_tuning/jobs`: fine-tuning the way hosted services offer it, on this machine.

Enters: requests in the shapes of the OpenAI interface. Leaves: jobs, events and checkpoints in its shapes. What a job does is
`burnish tune` in a process of its own (`jobs_run`); what its model is called, the server answers to without a restart.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request

from burnish.serve import files
from burnish.serve.files import paged
from burnish.serve.jobs_desk import Desk
from burnish.serve.jobs_request import CreateJob
from burnish.serve.jobs_rows import Checkpoint, Event, Job, as_checkpoint, as_event, as_job
from burnish.serve.jobs_told import ORGANISATION, checkpoint_name
from burnish.serve.served import Later, Served
from burnish.serve.settings import Settings

METADATA = re.compile(r"metadata\[(.*)\]", re.DOTALL)
After = Annotated[str | None, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=1000)]


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the routes about files and fine-tuning jobs, and what runs beside them while the server lives."""
    desk = Desk(settings, lambda name: base_of(served, name))
    served.later = Later(desk.model, desk.models)

    @asynccontextmanager
    async def beside(_: FastAPI) -> AsyncIterator[None]:
        desk.begin()
        try:
            yield
        finally:
            desk.end()

    router = APIRouter(lifespan=beside)
    router.include_router(files.routes(desk))
    router.include_router(_jobs(desk))
    return router


def base_of(served: Served, name: str) -> str:
    """Return the model that a name on offer stands for, as a run file names it; the ApiError of an unknown one."""
    found = served.find(name).loaded.model.found.name
    folder = Path(found).expanduser()
    return str(folder.resolve()) if folder.is_dir() else found


def _jobs(desk: Desk) -> APIRouter:
    """Return the routes about jobs."""
    router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])

    @router.post("")
    def create(request: CreateJob) -> dict[str, Any]:
        """Hand in a job; its files are checked next, and what is wrong with them is told as the job's error."""
        return described(desk.create(request))

    @router.get("")
    def listed(request: Request, after: After = None, limit: Limit = 20) -> dict[str, Any]:
        """List the jobs, the newest first; `metadata[key]=value` leaves those that have this pair, `metadata=null` those without any."""
        store = desk.known()
        wanted = {match[1]: value for key, value in request.query_params.items() if (match := METADATA.fullmatch(key))}
        where = {"metadata": None} if request.query_params.get("metadata") == "null" else {}
        page = store.page("jobs", where, after=after, limit=limit, metadata=wanted) if store is not None else ([], False)
        return paged(page, [described(as_job(row)) for row in page[0]] if page is not None else [])

    @router.get("/{job_id}")
    def one(job_id: str) -> dict[str, Any]:
        """Describe a job."""
        return described(desk.job(job_id))

    @router.post("/{job_id}/cancel")
    def cancel(job_id: str) -> dict[str, Any]:
        """End a job for good; the checkpoints that it made stay."""
        return described(desk.steer(job_id, "cancelled"))

    @router.post("/{job_id}/pause")
    def pause(job_id: str) -> dict[str, Any]:
        """Let a job save and stop, so that the next one can run."""
        return described(desk.steer(job_id, "paused"))

    @router.post("/{job_id}/resume")
    def resume(job_id: str) -> dict[str, Any]:
        """Let a paused job go on; its result is that of a job that was never paused."""
        return described(desk.steer(job_id, "queued"))

    @router.get("/{job_id}/events")
    def events(job_id: str, after: After = None, limit: Limit = 20) -> dict[str, Any]:
        """List what was told of a job, the newest first."""
        job, store = desk.job(job_id), desk.store()
        page = store.page("events", {"job": job.id}, after=after, limit=limit)
        return paged(page, [told(as_event(row)) for row in page[0]] if page is not None else [])

    @router.get("/{job_id}/checkpoints")
    def checkpoints(job_id: str, after: After = None, limit: Limit = 10) -> dict[str, Any]:
        """List the checkpoints of a job that lie there, the newest first."""
        job, store = desk.job(job_id), desk.store()
        page = store.page("checkpoints", {"job": job.id}, after=after, limit=limit)
        return paged(page, [kept(job, as_checkpoint(row)) for row in page[0]] if page is not None else [])

    return router


def described(job: Job) -> dict[str, Any]:
    """Return a job as clients know it."""
    method = dict(job.method)
    given = (method[method["type"]].get("hyperparameters") or {}) if method["type"] == "supervised" else {}
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": job.created_at,
        "error": job.error,
        "estimated_finish": job.estimated_finish,
        "fine_tuned_model": job.fine_tuned_model,
        "finished_at": job.finished_at,
        "hyperparameters": {**auto, **given},
        "integrations": [],
        "metadata": job.metadata,
        "method": method,
        "model": job.model,
        "organization_id": ORGANISATION,
        "result_files": list(job.result_files),
        "seed": job.seed,
        "status": job.status,
        "trained_tokens": job.trained_tokens if job.status not in ("validating_files", "queued", "running", "paused") else None,
        "training_file": job.training_file,
        "user_provided_suffix": job.suffix,
        "validation_file": job.validation_file,
    }


def told(event: Event) -> dict[str, Any]:
    """Return an event as clients know it."""
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": event.created_at,
        "level": event.level,
        "message": event.message,
        "type": event.type,
        "data": event.data or {},
    }


def kept(job: Job, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a checkpoint as clients know it."""
    return {
        "id": checkpoint.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": checkpoint.created_at,
        "fine_tuned_model_checkpoint": checkpoint_name(job, checkpoint.step),
        "fine_tuning_job_id": job.id,
        "metrics": dict(checkpoint.metrics),
        "step_number": checkpoint.step,
    }
