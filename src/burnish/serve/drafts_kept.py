"""Drafts of runs as folders: what was chosen, the run file, what a check found, and the process that carries the run out.

Enters: the folder of runs. Leaves: folders below `drafts` in it, each named by an id of ours: `draft.json`, `run.toml`, the rows, and the
output of the process. A draft that was started stays, so that its run can be found before it has a folder, and be resumed.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from burnish import atomic, runs
from burnish.disk import explained
from burnish.serve import jobs_process
from burnish.serve.problems import ApiError
from burnish.serve.run_folders import id_of, read_object, read_text

DRAFTS = "drafts"
DRAFT, REPORT, RUN_FILE = "draft.json", "report.json", "run.toml"
TUNE = "tune"
"""What the process of a run is called in its draft's folder."""
LOG_BYTES = 16 * 1024
_ID = re.compile(r"draft-[0-9a-f]{16}")
_BARS = re.compile(r"^\[[# ]*\] step .*\n?", re.MULTILINE)


def now() -> str:
    """Return the time as it is written down."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def make(root: Path) -> Path:
    """Return the folder of a new draft."""
    folder = root / DRAFTS / f"draft-{secrets.token_hex(8)}"
    with explained(folder):
        folder.mkdir(parents=True)
    return folder


def find(root: Path, draft_id: str) -> Path:
    """Return the folder of a draft; the ApiError of an unknown one (404)."""
    folder = root / DRAFTS / draft_id
    if not _ID.fullmatch(draft_id) or not (folder / DRAFT).is_file():
        raise ApiError(404, "There is no such draft; it was deleted, or never made.", code="draft_not_found")
    return folder


def save(folder: Path, draft: Mapping[str, Any]) -> None:
    """Write what is known of a draft, complete or not at all."""
    with explained(folder):
        atomic.write_file(folder / DRAFT, json.dumps(draft, ensure_ascii=True, indent=1) + "\n")


def everything(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return all drafts with what is known of them."""
    place = root / DRAFTS
    folders = sorted(place.iterdir()) if place.is_dir() else []
    return [(folder, kept) for folder in folders if _ID.fullmatch(folder.name) and (kept := read_object(folder / DRAFT))]


def outputs(root: Path) -> dict[str, Path]:
    """Return the drafts that were started, by the id of the run that each writes."""
    return {id_of(Path(kept["output"])): folder for folder, kept in everything(root) if kept.get("output")}


def of_output(root: Path, run_id: str) -> Path | None:
    """Return the draft from which a run was started, None for a run that was started elsewhere."""
    return outputs(root).get(run_id)


def for_output(root: Path, run: Path) -> Path:
    """Return a new draft that stands for a run which was started elsewhere, so that its process has a place."""
    folder = make(root)
    save(
        folder,
        {"about": "", "time": now(), "started": now(), "output": str(run.resolve()), "settings": {"name": run.resolve().name}},
    )
    return folder


# ---------------------------------------------------------------------------------------------------------------------- the process


def carry_out(folder: Path, words: Sequence[str]) -> None:
    """Start `burnish WORDS` in a draft's folder as a process of its own, which outlives the server; 409 where one is under way."""
    jobs_process.reap()
    if jobs_process.start(["burnish", *words], folder, name=TUNE) is None:
        raise ApiError(409, "This run is under way already.", code="already_running")


def log_of(folder: Path) -> str:
    """Return the end of what a draft's process said, without the bars of its progress, which the page draws itself."""
    return runs.redact(_BARS.sub("", read_text(folder / f"{TUNE}.err", most=LOG_BYTES)))


def last_error(log: str) -> str:
    """Return the error at the end of a log, as the command line prints it; empty where there is none."""
    found = re.search(r"^Error: (.*)\Z", log, re.DOTALL | re.MULTILINE)
    return found[1].strip() if found else ""
