"""Runs on the page: how they stand, and what came of them.

Enters: the folder of runs, as it is on the disk at that moment, and ids of its runs. Leaves: JSON for the page, and the run's own HTML pages
under a policy that lets them do nothing. Stopping and resuming a run, and loading its model, are asked for here.
"""

from __future__ import annotations

import asyncio
import math
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from burnish import config, runs
from burnish.errors import BurnishError, RunError
from burnish.prepare import registries
from burnish.run_file_write import text_literal
from burnish.serve import drafts_kept, jobs_process
from burnish.serve.jobs_desk import FOLDER as JOBS
from burnish.serve.page import prompts_of, served_as
from burnish.serve.problems import ApiError, wrong
from burnish.serve.run_folders import described, find_run, folders, id_of, read_object, read_text
from burnish.serve.served import Served
from burnish.serve.settings import Settings

FRAMED = {
    "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "x-frame-options": "SAMEORIGIN",
}
"""The run's own pages state a narrower policy themselves; this one holds whatever they say: no script, no form, no request, no origin."""
PAGES = {"report": "report.html", "decision": "decision.html"}
MOST_RECORDS = 5000


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the routes about runs."""
    router = APIRouter(prefix="/page/runs", tags=["page"])
    root = settings.runs

    # Plain functions, which FastAPI carries out in threads: they read files.

    @router.get("")
    def all_runs() -> dict[str, Any]:
        """List the runs, the newest first."""
        return {"folder": str(root), "runs": _listed(root)}

    @router.get("/{run_id}")
    def one_run(run_id: str) -> dict[str, Any]:
        """Describe one run: status, reports, and what can be done with it."""
        folder = _folder(root, run_id)
        return _waiting(root, run_id) if folder is None else _detail(folder, root, served)

    @router.get("/{run_id}/metrics")
    def metrics(run_id: str, after: int = -1) -> dict[str, Any]:
        """Return the records of a run's metrics from a step on (that one too), and the last step there is."""
        folder = _folder(root, run_id)
        try:
            records = [] if folder is None else runs.read_metrics(runs.Run(folder))
        except RunError as error:
            raise wrong(str(error)) from None
        last = records[-1]["step"] if records else -1
        return {"records": [_finite(one) for one in records if one["step"] >= after][-MOST_RECORDS:], "last": last}

    @router.get("/{run_id}/prompts")
    def prompts(run_id: str) -> dict[str, Any]:
        """Return prompts that the run held out."""
        found = prompts_of(read_object(find_run(root, run_id) / "report.json"))
        if not found:
            raise wrong("This run's report holds no held-out prompts.")
        return {"prompts": found}

    @router.get("/{run_id}/{page}.html", include_in_schema=False)
    def framed(run_id: str, page: str) -> FileResponse:
        file = find_run(root, run_id) / PAGES.get(page, "report.html")
        if page not in PAGES or not file.is_file():
            raise ApiError(404, "This run has no such page.", code="unknown_url")
        return FileResponse(file, media_type="text/html", headers=FRAMED)

    _add_steering(router, root)
    _add_loading(router, root, served)
    return router


def _add_steering(router: APIRouter, root: Path) -> None:
    """Add stopping and resuming a run."""

    @router.post("/{run_id}/stop")
    def stop(run_id: str) -> dict[str, str]:
        """Ask a run to stop; it saves first."""
        folder = _folder(root, run_id)
        if folder is not None and (job := _job(folder, root)) is not None:
            raise wrong(f"This run belongs to the fine-tuning job {job}: pause or cancel that.")
        draft = drafts_kept.of_output(root, run_id)
        pid = jobs_process.living(draft) if draft is not None else None
        if not pid and folder is not None and (status := runs.read_status(folder))["state"] == "running":
            pid = status["pid"]
        if not isinstance(pid, int) or pid <= 0:
            raise wrong("This run is not running.")
        jobs_process.ask_to_stop(pid)
        return {"status": "stopping"}

    @router.post("/{run_id}/resume")
    def resume(run_id: str) -> dict[str, str]:
        """Go on with a run that was stopped or died."""
        folder = find_run(root, run_id)
        if (job := _job(folder, root)) is not None:
            raise wrong(f"This run belongs to the fine-tuning job {job}: resume that.")
        if runs.read_status(folder)["state"] in ("running", "finished"):
            raise wrong("Only a run that stopped before its end can go on.")
        draft = drafts_kept.of_output(root, run_id) or drafts_kept.for_output(root, folder)
        drafts_kept.carry_out(
            draft, ["tune", str(_run_file(draft, folder)), f"output={text_literal(str(folder.resolve()))}", "--resume"]
        )
        return {"status": "resuming"}


def _add_loading(router: APIRouter, root: Path, served: Served) -> None:
    """Add loading what a run made, and what it began with."""

    @router.post("/{run_id}/serve")
    async def serve(run_id: str) -> dict[str, str]:
        """Load the model of a finished run, so that it answers under the run's name."""
        folder = await asyncio.to_thread(find_run, root, run_id)
        if (name := served_as(str(folder), served)) is not None:
            return {"model": name}
        name = _free_name(folder.resolve().name, served)
        await asyncio.to_thread(served.open, name, str(folder))
        return {"model": name}

    @router.post("/{run_id}/base")
    async def serve_base(run_id: str) -> dict[str, str]:
        """Load the model that a run began with, so that it can be compared with the run's own."""
        folder = await asyncio.to_thread(find_run, root, run_id)
        reference = await asyncio.to_thread(_base_of, folder)
        if reference is None:
            raise wrong("This run began with random weights, or its run file cannot be read: there is no base to load.")
        if (name := served_as(reference, served)) is None:
            name = _free_name(Path(reference).name, served)
            await asyncio.to_thread(served.open, name, reference)
        return {"model": name}


def _base_of(folder: Path) -> str | None:
    """Return the model that a run began with, None where there was none or nothing says so."""
    try:
        resolved = config.load(folder / "run.toml", registries=registries())
    except (BurnishError, OSError):
        return None
    return None if resolved.config.model.is_fresh else config.model_reference(resolved)


def _folder(root: Path, run_id: str) -> Path | None:
    """Return the folder of a run, None where it was started on the page and has not made one; the ApiError of an unknown id."""
    found = folders(root).get(run_id)
    if found is None and drafts_kept.of_output(root, run_id) is None:
        raise ApiError(404, "There is no such run in the server's folder of runs.", code="run_not_found")
    return found


def _listed(root: Path) -> list[dict[str, Any]]:
    """Return all runs, those that are only starting first."""
    jobs_process.reap()
    found = [described(Path(one["path"]), one) for one in runs.list_runs(root)] if root.is_dir() else []
    there = {one["id"] for one in found}
    waiting = [_waiting(root, run_id) for run_id in drafts_kept.outputs(root) if run_id not in there]
    listed = sorted(waiting, key=lambda one: one["time"] or "", reverse=True) + found
    return [{**one, "parts": None} for one in listed]


def _waiting(root: Path, run_id: str) -> dict[str, Any]:
    """Return a run that was started on the page and has no folder: on its way there, or dead before."""
    draft = drafts_kept.of_output(root, run_id)
    assert draft is not None
    kept, alive = read_object(draft / drafts_kept.DRAFT), jobs_process.living(draft) is not None
    log = drafts_kept.log_of(draft)
    settings = kept.get("settings") or {}
    said = "" if alive else drafts_kept.last_error(log) or "The process ended before it made its folder."
    return {
        "id": run_id,
        "name": settings.get("name"),
        "state": "starting" if alive else "failed",
        "step": 0,
        "steps": None,
        "time": kept.get("started"),
        "message": said or None,
        "model": settings.get("model"),
        "technique": settings.get("technique"),
        "objective": settings.get("objective"),
        "headline": None,
        "parts": ["progress"],
        "log": log,
        "busy": alive,
        "can_stop": alive,
        "draft": draft.name,
    }


def _detail(folder: Path, root: Path, served: Served) -> dict[str, Any]:
    """Return everything that the page shows of one run."""
    status = runs.read_status(folder)
    report, data = read_object(folder / "report.json"), read_object(folder / "data.json")
    run_toml = read_text(folder / "run.toml", most=1 << 20)
    parts = {
        "progress": True,
        "scores": bool(report.get("scores")),
        "examples": bool(report.get("examples")),
        "data": bool(data),
        "report": (folder / PAGES["report"]).is_file(),
        "decision": (folder / PAGES["decision"]).is_file(),
        "file": bool(run_toml),
    }
    draft = drafts_kept.of_output(root, id_of(folder))
    busy = draft is not None and jobs_process.living(draft) is not None
    finished = status["state"] == "finished"
    job = _job(folder, root)
    name = served_as(str(folder), served)
    base = _base_of(folder) if finished else None
    offer = next((one for one in served.all() if one.name == name), None)
    return {
        **described(folder, status),
        "parts": [part for part, there in parts.items() if there],
        "report": report,
        "data": data,
        "run_toml": run_toml,
        "log": drafts_kept.log_of(draft) if draft is not None else None,
        "busy": busy,
        "job": job,
        "can_stop": status["state"] == "running" and job is None,
        "can_resume": job is None
        and status["state"] in ("stopped", "killed", "failed")
        and not busy
        and _run_file(draft, folder).is_file(),
        "served": name,
        "reads": offer is not None and offer.reads,
        "can_serve_base": base is not None and name is not None and served_as(base, served) is None,
        "can_serve": finished and name is None and (folder / "model").is_dir(),
    }


def _job(folder: Path, root: Path) -> str | None:
    """Return the fine-tuning job that a run is carried out for, which pauses and resumes it, None where there is none."""
    name = folder.resolve().name
    return name if (root / JOBS / "jobs" / name).is_dir() else None


def _free_name(wanted: str, served: Served) -> str:
    """Return a name that no model on offer has, made of letters that one may have."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("._-")[:100] or "run"
    names = {offer.name for offer in served.all()}
    return next(name for name in (plain, *(f"{plain}-{number}" for number in range(2, 10_000))) if name not in names)


def _run_file(draft: Path | None, folder: Path) -> Path:
    """Return the file that a run is resumed from: the one it was started with, where it was started here."""
    own = draft / "run.toml" if draft is not None else None
    return (own if own is not None and own.is_file() else folder / "run.toml").resolve()


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record whose numbers JSON can hold: a loss that is not finite is none."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return plain(record)
