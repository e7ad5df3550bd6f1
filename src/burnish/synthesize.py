"""Synthesize: documents in, rows to learn from out, written by a model and traceable to the passage they were made from.

Enters: a source of documents, and a function that answers prompts (`synthesize_local`, `synthesize_server`). Leaves: a file of rows, one
file of the passages beside it, and a summary of what was dropped and why. What a model wrote is never trusted: it is checked against
its passage, nothing in it is run, and a row without a passage does not exist.

Rows are appended passage by passage, and each finished passage is noted in a hidden folder, so that a second start goes on where the
first one ended, whatever ended it. Which rows are made depends on the passages, the model and the seed, not on the number of starts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish import atomic, locks
from burnish.errors import ConfigError, RunError, UsageError, suggestion
from burnish.synthesize_checks import CUT, GARBAGE, REPEATED, fault, key_of, repeats
from burnish.synthesize_kinds import KINDS, Kind
from burnish.synthesize_passages import SIZE, Passage, read_passages

SCHEMA = 1
CHUNK = 8
"""Passages asked about at once: what a kill costs at most."""
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt for one sample of one passage; `number` is drawn from seed, passage and sample, and is what sampling is keyed by."""

    prompt: str
    number: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; `complete` is False where the limit of tokens cut it off.

    `problem` says why no answer could be had; such a prompt is asked again at the next start.
    """

    text: str
    complete: bool = True
    problem: str = ""


Write = Callable[[Sequence[Asked]], Sequence[Reply]]
"""Answers prompts, in their order."""


@dataclass(slots=True, eq=False)
class _Work:
    """A piece of work under way: its files, its settings, and what has been made so far."""

    output: Path
    kind: Kind
    settings: Mapping[str, Any]
    context: bool
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        return self.output.with_name(f".{self.output.name}.synthesis")

    @property
    def passages(self) -> Path:
        return self.output.with_name(f"{self.output.stem}.passages.jsonl")


def synthesize(
    source: str,
    output: Path | str,
    *,
    kind: str,
    write: Write,
    model: str,
    per_passage: int = 3,
    seed: int = 0,
    size: int = SIZE,
    context: bool = False,
    limit: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write rows about the passages of a source to `output` (JSON lines), going on where an earlier start ended; return a summary.

    `per_passage` samples are asked for per passage of about `size` tokens; `context` puts the passage before each question; `limit` is
    the number of passages. The summary: {"rows", "passages", "asked", "kept", "dropped": {reason: count}, "unanswered", …}.

    Raises ConfigError for values that cannot be used or that differ from those that the file was begun with, DataError for documents
    that cannot be read, UsageError where the file belongs to something else, RunError where the model stops answering.
    """
    refuse_values(kind, per_passage, limit)
    found = read_passages(source, size=size)
    settings = {
        "schema": SCHEMA,
        "kind": kind,
        "prompt_version": KINDS[kind].version,
        "model": model,
        "per_passage": per_passage,
        "seed": seed,
        "size": size,
        "context": context,
    }
    work = _Work(Path(output), KINDS[kind], settings, context)
    lock = _open(work)
    try:
        chosen = found.passages[:limit]
        _write_passages(work, chosen)
        todo = [passage for passage in chosen if passage.sha256 not in work.done]
        if len(todo) < len(chosen):
            say(f"{len(chosen) - len(todo)} of {len(chosen)} passages are done already; going on with the others")
        _make(work, todo, write, per_passage=per_passage, seed=seed, say=say)
        summary = _summary(work, chosen)
    finally:
        locks.release(lock)
    left_out = {"too short": found.short, "repeated": found.repeated}
    return {**summary, "source": source, "left_out": left_out, "warnings": list(found.warnings)}


def refuse_values(kind: str, per_passage: int, limit: int | None) -> None:
    """Raise ConfigError for values that cannot be used."""
    if kind not in KINDS:
        raise ConfigError(f"There is no kind {kind!r} of rows.{suggestion(kind, KINDS)} Expected one of: {', '.join(KINDS)}.")
    if not 1 <= per_passage <= 100:
        raise ConfigError(f"{per_passage} rows per passage cannot be asked for; expected 1 to 100, and 3 to 10 are usual.")
    if limit is not None and limit < 1:
        raise ConfigError(f"The limit is {limit} passages; expected at least 1. Leave it out for all of them.")


# -------------------------------------------------------------------------------------------------------------------------- the files


def _open(work: _Work) -> int:
    """Lock the work's folder, read what an earlier start left, and return the lock; UsageError or ConfigError where it is another's."""
    settings_file = work.folder / "settings.json"
    if work.output.exists() and not settings_file.is_file():
        raise UsageError(
            f"{work.output} is there already and was not begun by this command; nothing in it was changed. Choose another --output."
        )
    atomic.make_directory(work.folder)
    lock = locks.take(work.folder)
    try:
        if settings_file.is_file():
            _refuse_other_settings(work, json.loads(settings_file.read_text(encoding="utf-8")))
        else:
            atomic.write_file(settings_file, json.dumps(work.settings, indent=2, ensure_ascii=False) + "\n")
        for row in _json_lines(work.output):
            work.rows.setdefault(row["made"]["passage"], []).append(row)
            work.keys.add(key_of(row))
        work.done = {entry["made"]["passage"]: entry for entry in _json_lines(work.folder / "done.jsonl")}
    except BaseException:
        locks.release(lock)
        raise
    return lock


def _refuse_other_settings(work: _Work, before: Mapping[str, Any]) -> None:
    """Raise ConfigError where a file was begun with other values: its rows would not be of one making."""
    other = [
        f"{name} was {before.get(name)!r}, now {value!r}" for name, value in work.settings.items() if before.get(name) != value
    ]
    if other:
        raise ConfigError(
            f"{work.output} was begun with other values ({'; '.join(other)}). Go on with those, or choose another --output."
        )


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON lines file, a torn last line dropped; RunError with file and line for one that is damaged."""
    rows = []
    for number, line in enumerate(atomic.read_lines(path), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        made = row.get("made") if isinstance(row, dict) else None
        if not isinstance(made, dict) or not isinstance(made.get("passage"), str):
            raise RunError(f"{path}:{number}: is no row that this command wrote. Put it back, or choose another --output")
        rows.append(row)
    return rows


def _append(path: Path, row: Mapping[str, Any]) -> None:
    atomic.append_line(path, json.dumps(row, ensure_ascii=False))


def _write_passages(work: _Work, chosen: Sequence[Passage]) -> None:
    """Add the passages that are not there yet to the file of passages: rows of the format text, in the groups of what is made of them."""
    there = {row["made"]["passage"] for row in _json_lines(work.passages)}
    for passage in chosen:
        if passage.sha256 not in there:
            made = {"source": str(passage.origin), "passage": passage.sha256}
            _append(work.passages, _clean({"text": passage.text, "group": passage.group, "made": made}))


# --------------------------------------------------------------------------------------------------------------------------- the work


def _make(work: _Work, todo: Sequence[Passage], write: Write, *, per_passage: int, seed: int, say: Callable[[str], None]) -> None:
    """Ask about passages, a chunk at a time, and append what passes; RunError after two chunks in a row without any answer."""
    silent = 0
    for start in range(0, len(todo), CHUNK):
        chunk = todo[start : start + CHUNK]
        asked = [(passage, sample) for passage in chunk for sample in _missing(work, passage, per_passage)]
        prompts = [
            Asked(work.kind.ask(passage.text, sample), _number(work, passage, sample, seed), work.kind.max_tokens)
            for passage, sample in asked
        ]
        replies = list(write(prompts)) if prompts else []
        assert len(replies) == len(asked), "a reply for each prompt"
        for passage in chunk:
            mine = [(sample, reply) for (one, sample), reply in zip(asked, replies, strict=True) if one is passage]
            _take(work, passage, mine, seed=seed)
        say(f"{start + len(chunk)} of {len(todo)} passages, {sum(map(len, work.rows.values()))} rows")
        silent = silent + 1 if replies and all(reply.problem for reply in replies) else 0
        if silent == 2:
            raise RunError(
                f"The model does not answer ({replies[-1].problem}). What was made so far is in {work.output}; start again to go on from there."
            )


def _missing(work: _Work, passage: Passage, per_passage: int) -> list[int]:
    """Return the samples of a passage that have no row yet: all of them, unless an earlier start was killed inside it."""
    there = {row["made"]["sample"] for row in work.rows.get(passage.sha256, ())}
    return [sample for sample in range(per_passage) if sample not in there]


def _number(work: _Work, passage: Passage, sample: int, seed: int) -> int:
    """Return 62 bits that tell one request from every other, whenever it is made."""
    key = f"{seed}\0{work.kind.version}\0{passage.sha256}\0{sample}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 2


def _take(work: _Work, passage: Passage, replies: Sequence[tuple[int, Reply]], *, seed: int) -> None:
    """Check the replies on one passage, append their rows, and note the passage as done unless a reply is missing."""
    dropped: Counter[str] = Counter()
    for sample, reply in replies:
        if reply.problem:
            continue
        candidates = work.kind.read(_clean({"text": reply.text})["text"]) if reply.complete else []
        if not candidates:
            dropped[GARBAGE if reply.complete else CUT] += 1
        for candidate in candidates:
            reason = fault(candidate, passage.text)
            if reason is None and (key_of(candidate) in work.keys or repeats(candidate, work.rows.get(passage.sha256, ()))):
                reason = REPEATED
            if reason is not None:
                dropped[reason] += 1
                continue
            row = _row(work, candidate, passage, sample=sample, seed=seed)
            _append(work.output, row)
            work.rows.setdefault(passage.sha256, []).append(row)
            work.keys.add(key_of(candidate))
    if not any(reply.problem for _, reply in replies):
        entry = {"made": {"passage": passage.sha256}, "asked": len(replies), "dropped": dict(dropped)}
        _append(work.folder / "done.jsonl", entry)
        work.done[passage.sha256] = entry


def _row(work: _Work, candidate: Mapping[str, str], passage: Passage, *, sample: int, seed: int) -> dict[str, Any]:
    """Return a row: its texts, its group, and in one column all that says how it was made.

    One column and not six, since a format could take a column called `passage` or `source` for a text of its own.
    """
    made = {
        "source": str(passage.origin),
        "passage": passage.sha256,
        "model": work.settings["model"],
        "prompt": work.kind.version,
        "seed": seed,
        "sample": sample,
    }
    texts = {**candidate, "context": passage.text} if work.context else candidate
    return _clean({**texts, "group": passage.group, "made": made})


def _clean(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose texts are UTF-8 and hold no control characters but tabs and line breaks."""

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return _clean(value)
        return _CONTROL.sub(" ", value).encode("utf-8", "replace").decode() if isinstance(value, str) else value

    return {key: clean(value) for key, value in row.items()}


def _summary(work: _Work, chosen: Sequence[Passage]) -> dict[str, Any]:
    """Return what was made and dropped over all starts."""
    dropped: Counter[str] = Counter()
    for entry in work.done.values():
        dropped.update(entry["dropped"])
    unanswered = sum(passage.sha256 not in work.done for passage in chosen)
    rows = sum(map(len, work.rows.values()))
    return {
        "output": str(work.output),
        "passages_file": str(work.passages),
        "format": work.kind.format,
        "rows": rows,
        "passages": len(chosen),
        "passages_without_rows": sum(passage.sha256 in work.done and not work.rows.get(passage.sha256) for passage in chosen),
        "asked": sum(entry["asked"] for entry in work.done.values()),
        "dropped": dict(dropped.most_common()),
        "unanswered": unanswered,
    }
