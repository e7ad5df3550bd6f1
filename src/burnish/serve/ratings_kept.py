"""Rating sessions as folders: prompts and who answers them, the answers that were made, and the judgements.

Enters: the folder of runs. Leaves: folders below `feedback` in it, each named by an id of ours: `session.json`, `answers.jsonl` (each line an
item's answers, made once and shown to every rater) and `feedback.jsonl`, which `burnish.rate` writes and everything else of burnish reads.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish import atomic
from burnish.disk import explained
from burnish.errors import RunError
from burnish.rate import Candidate
from burnish.serve.problems import ApiError
from burnish.serve.run_folders import read_object

RATINGS, SESSION, ANSWERS, FEEDBACK = "feedback", "session.json", "answers.jsonl", "feedback.jsonl"
_ID = re.compile(r"rating-[0-9a-f]{16}")


def make_rating(root: Path, session: Mapping[str, Any]) -> str:
    """Write down a new session and return its id."""
    folder = root / RATINGS / f"rating-{secrets.token_hex(8)}"
    with explained(folder):
        folder.mkdir(parents=True)
        atomic.write_file(folder / SESSION, json.dumps(session, ensure_ascii=True, indent=1) + "\n")
    return folder.name


def find_rating(root: Path, rating_id: str) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a session and what it is about; the ApiError of an unknown one (404)."""
    folder = root / RATINGS / rating_id
    session = read_object(folder / SESSION) if _ID.fullmatch(rating_id) else {}
    if not session:
        raise ApiError(404, "There is no such rating session.", code="rating_not_found")
    return folder, session


def all_ratings(root: Path) -> list[tuple[str, Path, dict[str, Any]]]:
    """Return (id, folder, session) of all sessions, the newest first."""
    place = root / RATINGS
    found = [(folder.name, folder, read_object(folder / SESSION)) for folder in place.iterdir()] if place.is_dir() else []
    return sorted((one for one in found if one[2]), key=lambda one: str(one[2].get("time")), reverse=True)


def keep_answers(folder: Path, item: str, answers: Sequence[Candidate]) -> None:
    """Add the answers to an item, so that whoever comes later judges the same ones."""
    row = {"id": item, "answers": [{"text": one.text, "model": one.model, "version": one.version} for one in answers]}
    atomic.append_line(folder / ANSWERS, json.dumps(row, ensure_ascii=True))


def read_answers(folder: Path) -> dict[str, tuple[Candidate, ...]]:
    """Return the answers that were made, by item; a line that a crash tore is passed over."""
    try:
        rows = [json.loads(line) for line in atomic.read_lines(folder / ANSWERS) if line.strip()]
    except (RunError, ValueError):
        return {}
    return {row["id"]: tuple(Candidate(one["text"], one["model"], one["version"]) for one in row["answers"]) for row in rows}
