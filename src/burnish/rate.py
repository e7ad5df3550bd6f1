"""Human feedback as a file: what is put to a person, in which order, and one line per judgement that no crash can take back.

Enters: prompts, answers to them (made beforehand, or by models), and what a person says (`rate_terminal`). Leaves: a JSON Lines file in
the format `feedback`, which is only ever added to. `rate_statistics` reads it for counts and agreement, `data.formats` for tuning.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from burnish import __version__, atomic
from burnish.data.formats import examples
from burnish.data.formats_dialog import prompt_messages
from burnish.data.formats_feedback import feedback, read_answers
from burnish.data.formats_messages import decoded, read_messages
from burnish.data.records import Record
from burnish.data.sources import read
from burnish.disk import explained
from burnish.errors import DataError, RunError, UsageError, combined
from burnish.types import Example, Message, Origin, plain

LETTERS = "ab"
"""What the answers of a row are called in its `choice`, in the order of `answers`: the rated model's first."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer, the model that gave it, and which version of that model it was (None: not known)."""

    text: str
    model: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt of the user's file: a text, messages, or an example whose answer is left away; `answers` where the file holds some."""

    prompt: str | tuple[Message, ...] | Example
    answers: tuple[Candidate, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Item:
    """What is judged at once: the prompt as it was put to the model, and an id that tells it from other prompts, models and settings."""

    id: str
    messages: tuple[Mapping[str, str], ...]


def item(messages: Sequence[Message], makers: Sequence[Sequence[Any]]) -> Item:
    """Return the item of a prompt; `makers` say for each answer what it depends on besides the prompt (model, version, settings)."""
    plainly = tuple({"role": str(message.role), "content": plain(message.content)} for message in messages)
    content = json.dumps([plainly, [list(maker) for maker in makers]], ensure_ascii=False, sort_keys=True)
    return Item(hashlib.sha256(content.encode()).hexdigest()[:16], plainly)


def order(item_id: str, rater: str, *, answers: int) -> tuple[int, ...]:
    """Return the places of the answers from left to right: a fair coin that follows from prompt and rater alone.

    So a person who goes on later sees the same sides again, and different people see different ones.
    """
    if answers == 1:
        return (0,)
    coin = hashlib.sha256(f"{item_id}\n{rater}".encode()).digest()[0] & 1
    return (1, 0) if coin else (0, 1)


# ------------------------------------------------------------------------------------------------------------------------ prompts


def read_prompts(source: str, *, base: Path, limit: int | None = None) -> list[Asked]:
    """Return the prompts of a file: a line each of a .txt, else rows with `prompt`, with `messages`, or of any format that is read.

    A column `answers` (texts, or objects with text and model) holds answers that were made beforehand. Raises DataError with all
    problems.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() == ".txt" and (base / path).is_file():
        lines = enumerate((base / path).read_text(encoding="utf-8-sig", errors="strict").splitlines(), 1)
        asked = [Asked(line.strip(), (), Origin(source, number)) for number, line in lines if line.strip()]
        problems = [] if asked else [f"{source}: holds no line with a prompt"]
    else:
        table = read(source, base=base)
        problems = list(table.problems)
        name = next((name for name in ("prompt", "messages") if name in table.columns), None)
        if name is None:
            found = examples(table)
            problems = found.problems
            asked = [Asked(example, (), example.origin) for example in found.examples]
        else:
            asked = [_asked(row, name, problems) for row in table.rows]
    if problems:
        raise combined(DataError, f"{source} cannot be read as it is", problems)
    return asked[:limit]


def _asked(row: Record, name: str, problems: list[str]) -> Asked:
    """Return the prompt of a row: its text, or its messages up to the last turn that is not the assistant's."""
    own: list[str] = []
    value = row.values.get(name)
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        value = decoded(value, name, own)
    prompt: str | tuple[Message, ...]
    if isinstance(value, str) and value.strip() and name == "prompt":
        prompt = value
    elif name == "messages":
        made = read_messages(value, name, own)
        while made and made[-1].role == "assistant":
            made = made[:-1]
        prompt = made
        if not made and not own:
            own.append("messages: expected a turn to answer, found none")
    else:
        prompt = prompt_messages(value, name, own)
    answers: tuple[Candidate, ...] = ()
    if row.values.get("answers") is not None:
        given = row.values["answers"]
        texts = read_answers(given, own)
        listed = given if isinstance(given, list | tuple) else [None] * len(texts)
        names = [one.get("model") if isinstance(one, Mapping) else None for one in listed]
        answers = tuple(
            Candidate(text, str(model or f"answer {LETTERS[place % 2]}"))
            for place, (text, model) in enumerate(zip(texts, names, strict=False))
        )
        if len(texts) > len(LETTERS):
            own.append(f"answers: {len(texts)} answers; expected one to judge, or two to compare")
    problems += [f"{row.origin}: {problem}" for problem in own]
    return Asked(prompt, answers, row.origin)


# ----------------------------------------------------------------------------------------------------------------------- the file


def judgement(
    asked: Item,
    answers: Sequence[Candidate],
    *,
    rater: str,
    sides: Sequence[int],
    choice: str | None = None,
    edit: str | None = None,
    thumb: bool | None = None,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """Return the row of one judgement; `sides` are the places of the answers from left to right, `seconds` how long it took."""
    return {
        "id": asked.id,
        "messages": [dict(message) for message in asked.messages],
        "answers": [{"text": one.text, "model": one.model, "version": one.version} for one in answers],
        "choice": choice,
        "edit": edit,
        "thumb": thumb,
        "rater": rater,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "order": [LETTERS[place] for place in sides],
        "burnish": __version__,
    }


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add one judgement to the file and return when it is on the disk; other processes that add to it wait for that moment.

    Raises SpaceError, UsageError or RunError with everything written before untouched.
    """
    data = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    new = not Path(path).exists()
    with explained(path, needed_bytes=len(data)):
        descriptor = _opened(path)
        try:
            _mend(descriptor)
            end = os.fstat(descriptor).st_size
            try:
                written = os.write(descriptor, data)
                if written != len(data):
                    raise OSError(28, "only a part of the line was written")
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)  # gives the lock back
    if new:
        with suppress(OSError):  # some network file systems cannot force a folder onto the disk
            atomic.sync(Path(path).absolute().parent)


def repair(path: Path) -> str | None:
    """Take away a last line that a crash tore, and return what was done in words; None where the file is whole or not there."""
    if not Path(path).exists():
        return None
    with explained(path):
        descriptor = _opened(path)
        try:
            removed = _mend(descriptor)
        finally:
            os.close(descriptor)
    if not removed:
        return None
    return f"{path}: the last line was torn, as by a crash while it was written; its {removed} bytes were removed, that prompt is asked again"


def _opened(path: Path) -> int:
    """Open the file for adding and lock it, wherever links lead; the lock lasts until it is closed, or its holder dies."""
    if Path(path).is_dir():
        raise UsageError(f"{path} is a folder; expected a file for the judgements, such as --output feedback.jsonl")
    atomic.make_directory(Path(path).absolute().parent)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        os.close(descriptor)
        raise UsageError(
            f"{path}: the file system knows no file locks ({error.strerror}), so that two people could mix their lines. "
            "Choose an --output on another"
        ) from error
    return descriptor


def _mend(descriptor: int) -> int:
    """Cut a torn last line off a locked file and return its bytes; a whole row that only lacks its line break gets one."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return 0
    content = os.pread(descriptor, size, 0)
    end = content.rfind(b"\n") + 1
    with suppress(ValueError):
        if isinstance(json.loads(content[end:]), dict):
            os.write(descriptor, b"\n")
            return 0
    os.ftruncate(descriptor, end)
    return size - end


def read_feedback(path: Path) -> list[dict[str, Any]]:
    """Return the judgements of a file; a torn last line is passed over. Raises DataError with every line that is none."""
    try:
        lines = atomic.read_lines(path)
    except RunError as error:
        raise DataError(str(error)) from None
    rows, problems = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("id", "rater")):
            problems.append(
                f"{path}:{number}: is no judgement of burnish rate; expected an object with id, rater, answers and choice"
            )
            continue
        try:
            feedback(row, Origin(str(path), number))
        except DataError as error:
            problems += [f"{path}:{number}: {line}" for line in str(error).split("\n")]
        rows.append(row)
    if problems:
        raise combined(DataError, f"{path} cannot be read; repair or delete these lines", problems)
    return rows


def last_of_each(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return the judgement that counts, by prompt and rater: the last one that is no skip, else a skip."""
    last: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = (row["id"], row["rater"])
        if key not in last or row.get("choice") != "skip":
            last[key] = row
    return last


def answers_of(row: Mapping[str, Any]) -> tuple[Candidate, ...]:
    """Return the answers of a judgement, so that the next person judges the same ones."""
    return tuple(
        Candidate(one["text"], str(one.get("model")), one.get("version")) for one in row["answers"] if isinstance(one, Mapping)
    )
