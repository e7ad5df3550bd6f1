"""Runs by an id that is no path, and what lies in their folders.

Enters: the folder of runs, and ids that a browser sends. Leaves: folders that were found by listing, never by joining a name, and the JSON
files in them. A run that was started on the page and has not made its folder yet, or died before, stands in the list by its draft.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish import runs
from burnish.report_words import BESIDE, losses
from burnish.serve.problems import ApiError

MOST_BYTES = 64 * 1024 * 1024
"""Of a file that is read whole for the page."""


def id_of(path: Path) -> str:
    """Return the id of a folder: a hash of where it lies."""
    return hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]


def folders(root: Path) -> dict[str, Path]:
    """Return the run directories in and below a folder by id."""
    return {id_of(Path(one["path"])): Path(one["path"]) for one in runs.list_runs(root)} if root.is_dir() else {}


def find_run(root: Path, run_id: str) -> Path:
    """Return the run directory with an id; the ApiError of an unknown one (404)."""
    found = folders(root).get(run_id)
    if found is None:
        raise ApiError(404, "There is no such run in the server's folder of runs.", code="run_not_found")
    return found


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object of a run's folder; an empty one where the file is missing, too large or damaged."""
    text = read_text(path)
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_text(path: Path, *, most: int = MOST_BYTES) -> str:
    """Return a text file, or its last `most` bytes; empty where it cannot be read."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - most))
            return stream.read(most).decode("utf-8", errors="replace")
    except OSError:
        return ""


def described(folder: Path, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a list says of a run: status, what it tunes and how, and the headline of its report."""
    report = read_object(folder / "report.json")
    config = _config(folder / "run.toml")
    return {
        "id": id_of(folder),
        "name": folder.resolve().name,
        **{key: status.get(key) for key in ("state", "step", "steps", "time", "message")},
        "model": _name(config.get("model")),
        "technique": _name(config.get("technique")),
        "objective": _name(config.get("objective")),
        "headline": _headline(report),
    }


def _config(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path, most=1 << 20))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _name(value: Any) -> str | None:
    """Return the name in a value that is a name or a table with one."""
    if isinstance(value, Mapping):
        value = value.get("name")
    return value if isinstance(value, str) else None


def _headline(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the score that decides, before and after, and what its difference proves."""
    scores, name = report.get("scores"), report.get("headline")
    if not isinstance(scores, Mapping) or not isinstance(name, str) or not isinstance(one := scores.get(name), Mapping):
        return None
    base, tuned, difference = (one.get(arm) or {} for arm in ("base", "tuned", "difference"))
    low, high = difference.get("low"), difference.get("high")
    outcome = "unproven"
    if isinstance(low, int | float) and isinstance(high, int | float) and not low <= 0 <= high:
        outcome = "better" if (low > 0) == bool(one.get("higher_is_better", True)) else "worse"
    return {
        "score": name,
        "base": base.get("mean"),
        "tuned": tuned.get("mean"),
        "difference": difference.get("mean"),
        "low": low,
        "high": high,
        "outcome": outcome,
        "beaten": any(losses({name: one}, name, arm) for arm in BESIDE),
    }
