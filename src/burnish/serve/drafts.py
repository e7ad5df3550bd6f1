"""New run: from a use case, an uploaded file or judgements to a checked draft, and from that to a run.

Enters: what a person chooses on the page, every value checked against a schema. Leaves: a run file of the usual kind, the report of
`burnish check` on it, and `burnish tune` in a process of its own, which `runs_view` shows. Names that a browser sends are shown, never used
as paths, and nothing of a request is ever part of a command but a folder of ours.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from burnish import runs
from burnish.assets import BUNDLED
from burnish.disk import explained
from burnish.errors import UsageError
from burnish.serve import drafts_kept, jobs_process
from burnish.serve.drafts_kept import DRAFT, REPORT, RUN_FILE
from burnish.serve.drafts_settings import Chosen, applied, as_chosen, choices_of, columns_in, from_run
from burnish.serve.problems import wrong
from burnish.serve.ratings_kept import FEEDBACK, find_rating
from burnish.serve.run_folders import id_of, read_object
from burnish.serve.served import Served
from burnish.serve.settings import Settings
from burnish.usecases import USECASES, find, write
from burnish.usecases.run_text import run_text

SECONDS = 900.0
"""That reading or checking rows may take."""
PIECE = 1 << 20
ENDINGS = re.compile(r"(\.(jsonl|json|ndjson|csv|tsv|parquet|txt|md|pdf|docx|html?))(\.(gz|xz))?$", re.IGNORECASE)
SHOWN = 200
"""Characters of a file's name that are shown."""


class Begin(BaseModel):
    """What a draft begins with: a use case with its sample rows, or the judgements of a rating session."""

    model_config = ConfigDict(extra="forbid")
    usecase: str | None = Field(None, max_length=64)
    rating: str | None = Field(None, max_length=64)
    objective: Literal["dpo", "reward"] = "dpo"


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the routes about drafts of runs."""
    router = APIRouter(prefix="/page/drafts", tags=["page"])
    root = settings.runs
    checks = Checks()

    @router.get("")
    def start() -> dict[str, Any]:
        """List the use cases, and drafts that were not started."""
        usecases = [
            {"name": name, "title": name.replace("-", " ").capitalize(), "summary": make().summary}
            for name, make in USECASES.items()
        ]
        waiting = [_shown(folder, kept) for folder, kept in drafts_kept.everything(root) if not kept.get("output")]
        return {"usecases": usecases, "drafts": sorted(waiting, key=lambda one: one["time"], reverse=True)}

    @router.post("", status_code=201)
    def begin(asked: Begin) -> dict[str, Any]:
        """Make a draft from a use case, or from the judgements of a rating session."""
        if (asked.usecase is None) == (asked.rating is None):
            raise wrong("Give either a use case or a rating session.")
        if asked.usecase is not None:
            return _from_usecase(root, asked.usecase)
        return _from_rating(root, str(asked.rating), asked.objective, served)

    @router.post("/upload", status_code=201)
    async def upload(file: UploadFile) -> dict[str, Any]:
        """Make a draft from a file of rows; format and task are guessed from them."""
        name = runs.redact(" ".join((file.filename or "rows").split()))
        shown, ending = name if len(name) <= SHOWN else f"…{name[1 - SHOWN :]}", ENDINGS.search(name)
        if ending is None:
            raise wrong(
                f"{shown}: files of this kind are not read. Expected .jsonl, .json, .csv, .tsv, .parquet, .txt or a document."
            )
        folder = await asyncio.to_thread(drafts_kept.make, root)
        try:
            rows = folder / f"rows{ending[0].lower()}"
            with explained(rows), rows.open("wb") as stream:
                while piece := await file.read(PIECE):
                    await asyncio.to_thread(stream.write, piece)
            return await asyncio.to_thread(_from_rows, folder, rows, shown)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    _add_one(router, root, checks)
    return router


def _add_one(router: APIRouter, root: Path, checks: Checks) -> None:
    """Add what is asked of one draft."""

    @router.get("/{draft_id}")
    def one(draft_id: str) -> dict[str, Any]:
        """Return a draft with what its check found."""
        folder = drafts_kept.find(root, draft_id)
        return _complete(folder, root, checks)

    @router.delete("/{draft_id}", status_code=204)
    def delete(draft_id: str) -> None:
        """Delete a draft that was not started."""
        folder = drafts_kept.find(root, draft_id)
        if read_object(folder / DRAFT).get("output"):
            raise wrong("This draft was started; its run needs it.")
        shutil.rmtree(folder)

    @router.post("/{draft_id}/check", status_code=202)
    async def check(draft_id: str, chosen: Chosen) -> dict[str, Any]:
        """Take what was chosen, and begin to check it; the draft says when that is done."""
        folder = drafts_kept.find(root, draft_id)
        await asyncio.to_thread(_take, folder, chosen, root)
        checks.begin(folder)
        return await asyncio.to_thread(_complete, folder, root, checks)

    @router.post("/{draft_id}/start", status_code=201)
    def begin_run(draft_id: str) -> dict[str, str]:
        """Start the run of a draft whose check found nothing in the way."""
        folder = drafts_kept.find(root, draft_id)
        return {"run": _start(folder, root)}


# ----------------------------------------------------------------------------------------------------------------------- beginnings


def _from_usecase(root: Path, name: str) -> dict[str, Any]:
    """Make a draft of a use case with its sample rows."""
    usecase = find(name)
    folder = drafts_kept.make(root)
    write(usecase, folder)
    return _kept(folder, f"{usecase.summary} Sample rows that come with burnish.", name=name, root=root)


def _from_rows(folder: Path, rows: Path, shown: str) -> dict[str, Any]:
    """Make a draft of a file of rows that lies in its folder: what `burnish init --data` guesses."""
    guessed = _init(folder, rows)
    stem = re.sub(r"[^a-z0-9._-]+", "-", Path(shown).name[: -len(rows.suffix)].lower()).strip("-._")[:40]
    why = [reason.replace(rows.name, shown) for reason in guessed["why"] if reason]
    return _kept(folder, f"Your rows: {shown}", name=stem or "my-run", root=folder.parents[1], why=why)


def _from_rating(root: Path, rating: str, objective: str, served: Served) -> dict[str, Any]:
    """Make a draft that learns from the judgements of a rating session, beginning with the first model that was judged."""
    place, session = find_rating(root, rating)
    judged = place / FEEDBACK
    if not judged.is_file():
        raise wrong("Nobody has judged in this session yet.")
    folder = drafts_kept.make(root)
    try:
        rows = folder / "feedback.jsonl"
        shutil.copyfile(judged, rows)  # later judgements do not change a run that was begun
        guessed = _init(folder, rows)
        tree = tomllib.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        tree["model"] = _model_of(session["first"], served)
        tree["objective"] = {"name": objective}
        tree.pop("score", None)  # those of the objective itself
        _write(folder, tree, f"Learn from what people said in {session['title']!r}.")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    about = f"Judgements of the session {session['title']}"
    name = f"{re.sub(r'[^a-z0-9._-]+', '-', str(session['first']).lower()).strip('-._')[:40] or 'model'}-{objective}"
    return _kept(folder, about, name=name, root=root, why=[one for one in guessed["why"] if one])


def _model_of(name: str, served: Served) -> str:
    """Return the model that a name on offer stands for, as a run file anywhere names it."""
    found = served.find(name).loaded.model.found.name
    return str(Path(found).resolve()) if Path(found).is_dir() else found


def _init(folder: Path, rows: Path) -> dict[str, Any]:
    """Let `burnish init --data` write a run file for rows, and return what it guessed; the ApiError of rows that cannot be read."""
    inner = folder / "made"
    code, out, said = _carried_out(folder, ["init", "--data", rows.name, inner.name, "--json"])
    if code != 0:
        raise wrong(drafts_kept.last_error(said) or "These rows cannot be read.")
    tree = tomllib.loads((inner / RUN_FILE).read_text(encoding="utf-8"))
    tree["data"]["source"] = rows.name
    shutil.rmtree(inner)
    _write(folder, tree, "Made on the page from uploaded rows.")
    return json.loads(out)


def _kept(folder: Path, about: str, *, name: str, root: Path, why: list[str] | None = None) -> dict[str, Any]:
    """Write down a new draft and return it as the page shows it."""
    tree = tomllib.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    chosen = from_run(tree, name=_free(name, root))
    runs.write_json(folder / "columns.json", {"columns": columns_in(folder / str((tree.get("data") or {}).get("source", "")))})
    draft = {"about": about, "time": drafts_kept.now(), "why": why or [], "settings": chosen.model_dump()}
    drafts_kept.save(folder, draft)
    return {"id": folder.name}


def _free(name: str, root: Path) -> str:
    """Return a name that no run and no other draft has."""
    taken = {kept.get("settings", {}).get("name") for _, kept in drafts_kept.everything(root)}
    return next(
        one
        for one in (name, *(f"{name}-{number}" for number in range(2, 100_000)))
        if one not in taken and not (root / one).exists()
    )


# -------------------------------------------------------------------------------------------------------------- settings and checks


def _take(folder: Path, chosen: Chosen, root: Path) -> None:
    """Write what was chosen into the run file; refuse a name that another run has."""
    draft = read_object(folder / DRAFT)
    if draft.get("output"):
        raise wrong("This draft was started already.")
    if (root / chosen.name).exists():
        raise wrong(f"There is a run, or another folder, of the name {chosen.name!r} already. Choose another.", param="name")
    tree = tomllib.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    (folder / REPORT).unlink(missing_ok=True)
    _write(folder, applied(tree, chosen, output=(root / chosen.name).resolve()), draft["about"])
    drafts_kept.save(folder, {**draft, "settings": chosen.model_dump(), "problem": None})


def _write(folder: Path, tree: Mapping[str, Any], head: str) -> None:
    with explained(folder):
        (folder / RUN_FILE).write_text(run_text(tree, head=[head]), encoding="utf-8", newline="\n")


class Checks:
    """Checks under way; a class because they are. One that the end of a server interrupted is begun again by the page."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def begin(self, folder: Path) -> None:
        """Begin to check a draft, unless that is under way."""
        if not self.is_under_way(folder):
            self._under_way[folder.name] = asyncio.create_task(asyncio.to_thread(_check, folder))

    def is_under_way(self, folder: Path) -> bool:
        """Return whether a draft is being checked."""
        task = self._under_way.get(folder.name)
        return task is not None and not task.done()


def _check(folder: Path) -> None:
    """Check a draft as `burnish check` does, and keep the report or the problems."""
    code, out, said = _carried_out(folder, ["check", RUN_FILE, "--json"])
    if not folder.is_dir():
        return  # deleted meanwhile
    draft = read_object(folder / DRAFT)
    if code == 0:
        runs.write_text(folder / REPORT, out)
    drafts_kept.save(
        folder,
        {
            **draft,
            "problem": None if code == 0 else drafts_kept.last_error(said) or said.strip() or "The check ended without a word.",
        },
    )


def _carried_out(folder: Path, words: list[str]) -> tuple[int, str, str]:
    """Run a short command of burnish to its end and return (exit code, output, errors)."""
    command = [sys.executable, "-P", "-m", "burnish", *words]
    env = jobs_process.environment() | {"NO_COLOR": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "", f"This took longer than {SECONDS / 60:.0f} minutes and was ended. Try fewer rows."
    return done.returncode, done.stdout.decode("utf-8", "replace"), runs.redact(done.stderr.decode("utf-8", "replace"))


def _start(folder: Path, root: Path) -> str:
    """Start the run of a draft, and return the run's id."""
    draft = read_object(folder / DRAFT)
    if draft.get("output"):
        return id_of(Path(draft["output"]))
    if not (folder / REPORT).is_file():
        raise wrong("Check the draft first: nothing is started before its rows were looked at.")
    output = (root / as_chosen(draft["settings"]).name).resolve()
    try:
        runs.check_usable(output)
    except UsageError as error:
        raise wrong(str(error), param="name") from None
    # Written down before the process begins: whatever happens in between, the run can be found.
    drafts_kept.save(folder, {**draft, "output": str(output), "started": drafts_kept.now()})
    drafts_kept.carry_out(folder, ["tune", RUN_FILE])
    return id_of(output)


# -------------------------------------------------------------------------------------------------------------------------- showing


def _shown(folder: Path, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return a draft as a list shows it."""
    output = kept.get("output")
    return {
        "id": folder.name,
        "about": kept.get("about", ""),
        "time": kept.get("time", ""),
        "why": kept.get("why", []),
        "settings": kept.get("settings", {}),
        "run": id_of(Path(output)) if output else None,
    }


def _complete(folder: Path, root: Path, checks: Checks) -> dict[str, Any]:
    """Return a draft with its choices and what its check found."""
    kept = read_object(folder / DRAFT)
    checking = checks.is_under_way(folder)
    tree = tomllib.loads((folder / RUN_FILE).read_text(encoding="utf-8")) if (folder / RUN_FILE).is_file() else {}
    finished = [Path(one["path"]) for one in runs.list_runs(root) if one["state"] == "finished"]
    models = [*BUNDLED, *(str(path.resolve()) for path in finished)]
    return {
        **_shown(folder, kept),
        "choices": {**choices_of(tree, folder), "models": models},
        "checking": checking,
        "report": None if checking else read_object(folder / REPORT) or None,
        "problem": None if checking else kept.get("problem"),
    }
