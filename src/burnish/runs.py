"""The run directory: what a run leaves behind, under fixed names, readable while it runs and after it died.

Enters: where a run writes, and what it has to say (metrics, status, environment). Leaves: a locked `Run` whose files the other stages,
the CLI and people open. The folder is the interface between stages: nothing about a run lives anywhere else. Texts written here have
access tokens blanked out.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from burnish import atomic, locks
from burnish.disk import explained, free_bytes, readable
from burnish.environment import environment as environment
from burnish.errors import RunError, SpaceError, UsageError

State = Literal["running", "stopped", "failed", "finished"]

_IGNORED = frozenset({locks.LOCK, "decide", "decision.json", "decision.html", ".DS_Store", ".gitignore", ".gitkeep"})
_SECRETS = re.compile(
    r"(?<![A-Za-z0-9])(?:(hf_|gh[pousr]_)[A-Za-z0-9]{16,}|(sk-|github_pat_)[A-Za-z0-9_-]{16,}|(AKIA|ASIA)[A-Z0-9]{12,})"
)
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory and the names of everything in it. `lock` is the open lock file where this process writes the run."""

    path: Path
    lock: int | None = None

    @property
    def run_toml(self) -> Path:
        """The run file as resolved, each value with where it came from."""
        return self.path / "run.toml"

    @property
    def environment_json(self) -> Path:
        """Versions, device and threads that the run had."""
        return self.path / "environment.json"

    @property
    def data_json(self) -> Path:
        """The data report: what was trained on, with the fingerprint of the data."""
        return self.path / "data.json"

    @property
    def metrics_jsonl(self) -> Path:
        """One line per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """TensorBoard event files."""
        return self.path / "events"

    @property
    def checkpoints(self) -> Path:
        """Folder of `checkpoint-N`."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The result: an adapter or model folder."""
        return self.path / "model"

    @property
    def report_json(self) -> Path:
        """Scores of base and tuned model with intervals."""
        return self.path / "report.json"

    @property
    def report_html(self) -> Path:
        """The same for people, in one file."""
        return self.path / "report.html"

    @property
    def status_json(self) -> Path:
        """State, step, time and process; its presence makes a folder a run directory."""
        return self.path / "status.json"


# --------------------------------------------------------------------------------------------------- making, locking, preflight


def create(path: Path | str, *, resume: bool) -> Run:
    """Make a run directory, or with `resume` take up one that is there, and lock it for this process until it ends.

    Leftovers of an interrupted save are removed. With `resume`, a folder that is missing or empty is begun anew, and the status of a
    run is left as it is. Raises UsageError where the folder is used (and not `resume`), holds something else than a run, is read-only,
    is a file, or is being written by another process.
    """
    run = Run(Path(path))
    check_usable(run.path, resume=resume)
    with explained(run.path):
        atomic.make_directory(run.path)
    lock = locks.take(run.path)
    try:
        check_usable(run.path, resume=resume)  # again: another process may have finished a run here in between
        run = Run(run.path, lock)
        for folder in (run.path, run.checkpoints):
            atomic.clean(folder)
        if not run.status_json.exists():
            write_status(run, "running", step=0)
    except BaseException:
        locks.release(lock)
        raise
    return run


def release(run: Run) -> None:
    """Give the lock back; the end of the process does the same."""
    if run.lock is not None:
        locks.release(run.lock)


def check_space(path: Path | str, needed_bytes: int) -> None:
    """Raise SpaceError where less than `needed_bytes` are free on the disk that holds, or would hold, `path`."""
    if needed_bytes > (free := free_bytes(Path(path))):
        raise SpaceError(
            f"{path}: this run needs about {readable(needed_bytes)} for checkpoints and the result, and {readable(free)} are free there: "
            f"{readable(needed_bytes - free)} missing. Make room, or choose another disk with output=DIR"
        )


def check_usable(path: Path | str, *, resume: bool = False) -> None:
    """Raise UsageError where `create` would refuse this folder, and change nothing: to be asked before the data is read."""
    run = Run(Path(path))
    with explained(run.path):
        if not run.path.exists():
            return
        if not run.path.is_dir():
            raise UsageError(
                f"{run.path} is a file, and a run needs a folder there. Move it away, or choose another one with output=DIR"
            )
        inside = {entry.name for entry in run.path.iterdir()}
    names = sorted(name for name in inside - _IGNORED if not name.startswith(".tmp-"))
    if not names:
        return
    if run.status_json.exists():
        if not resume:
            status = read_status(run.path)
            if status["state"] == "running":
                raise UsageError(f"{run.path} is being written by another process (pid {status['pid']}). Choose output=DIR")
            raise UsageError(
                f"{run.path} already holds a run ({status['state']} at step {status['step']}). "
                "Continue it with --resume, or choose another folder with output=DIR"
            )
        return
    shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    raise UsageError(
        f"{run.path} is not empty and holds no run ({shown}): nothing in it was changed. Choose another folder with output=DIR"
        + (", or --resume a run directory" if resume else "")
    )


# ------------------------------------------------------------------------------------------------------------- metrics and status


def redact(text: str) -> str:
    """Return a text with access tokens (Hugging Face, OpenAI, AWS, GitHub) blanked out, their kind still visible."""
    return _SECRETS.sub(lambda match: f"{match[1] or match[2] or match[3]}***", text)


def write_text(path: Path, text: str) -> None:
    """Write a text file of a run, complete or not at all, with access tokens blanked out."""
    atomic.write_file(path, redact(text))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file of a run likewise; numbers that JSON has not are the texts "nan", "inf", "-inf"."""
    write_text(path, _json(value, indent=2) + "\n")


def log_metrics(run: Run, record: Mapping[str, Any]) -> None:
    """Append one record, which has a `step`, as one JSON line; a loss of NaN stands there as "nan", never as a number."""
    assert isinstance(record.get("step"), int), "a record without its step cannot be taken back on resume"
    atomic.append_line(run.metrics_jsonl, redact(_json(record)))


def sync_metrics(run: Run) -> None:
    """Force the metrics onto the disk: before a checkpoint, so that a loss of power leaves no gap in front of it."""
    if run.metrics_jsonl.exists():
        with explained(run.metrics_jsonl):
            atomic.sync(run.metrics_jsonl)


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """Return all complete records, "nan" and "inf" as the numbers they stand for. Raises RunError with file and line."""
    return [record for record, _ in _records(run)]


def read_metrics_from(run: Run, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the complete records that begin at `offset` bytes or later, as `read_metrics` does, and where the next one will begin.

    For who looks at a run under way again and again. Records may be taken back on resume: the file is another one then.
    """
    with run.metrics_jsonl.open("rb") as file:
        file.seek(offset)
        whole, _, _ = file.read().rpartition(b"\n")
    if not whole:
        return [], offset
    try:
        return [_numbers(json.loads(line)) for line in whole.split(b"\n")], offset + len(whole) + 1
    except ValueError as error:
        raise RunError(f"{run.metrics_jsonl}: is no file of metrics behind byte {offset}, it was damaged") from error


def rewind_metrics(run: Run, step: int, *, evaluated: int | None = None) -> int:
    """Drop the records after a step, which a resumed run writes again, and return how many; the others keep their bytes.

    `evaluated` is the step of the last evaluation that the checkpoint knows of: a later one (`dev`) is dropped too, even of this step.
    """
    lines = list(_records(run))
    last = step if evaluated is None else evaluated
    kept = [line for record, line in lines if record["step"] <= (min(step, last) if "dev" in record else step)]
    if len(kept) < len(lines):
        atomic.write_file(run.metrics_jsonl, "".join(f"{line}\n" for line in kept))
    return len(lines) - len(kept)


def write_status(run: Run, state: State, *, step: int, steps: int | None = None, message: str | None = None) -> None:
    """Write how far the run is: state, step of steps, time in UTC, process, and why it failed or stopped where a message is given."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    status = {"state": state, "step": step, "steps": steps, "time": now, "pid": os.getpid()}
    write_json(run.status_json, status if message is None else {**status, "message": message})


def read_status(path: Path | str) -> dict[str, Any]:
    """Return the status of a run; `state` is "killed" where it says running and no process holds the lock.

    Raises UsageError where the folder holds no run, RunError where its status cannot be read.
    """
    file = Run(Path(path)).status_json
    try:
        status = json.loads(file.read_bytes())
        status = {"step": 0, "steps": None, "time": None, "pid": None, **status, "state": status["state"]}
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path} holds no run ({file.name} is missing). See: burnish ls runs") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{file}: cannot be read as the status of a run ({type(error).__name__}); delete it, or the whole run"
        ) from error
    if status["state"] == "running" and not locks.is_locked(Path(path)):
        status["state"] = "killed"
    return status


def is_finished(path: Path | str) -> bool:
    """Return whether a folder holds a run that came to its end."""
    return Run(Path(path)).status_json.exists() and read_status(path)["state"] == "finished"


def list_runs(root: Path | str, *, depth: int = 3) -> list[dict[str, Any]]:
    """Return name, path and status of every run in and below a folder, the newest first; runs inside runs are not looked for."""
    found: list[dict[str, Any]] = []
    folders = [(Path(root), 0)]
    while folders:
        folder, level = folders.pop()
        if Run(folder).status_json.is_file():
            try:
                status = read_status(folder)
            except RunError:
                status = {"state": "unreadable", "step": 0, "steps": None, "time": None, "pid": None}
            found.append({"name": folder.resolve().name, "path": str(folder), **status})
        elif level < depth:
            with suppress(OSError):
                folders += [(entry, level + 1) for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(sorted(found, key=lambda run: run["path"]), key=lambda run: run["time"] or "", reverse=True)


def _records(run: Run) -> Iterator[tuple[dict[str, Any], str]]:
    for number, line in enumerate(atomic.read_lines(run.metrics_jsonl), start=1):
        try:
            record = _numbers(json.loads(line))
        except ValueError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise RunError(f"{run.metrics_jsonl}:{number}: is not a record of metrics, the file was damaged. Delete this line")
        yield record, line


def _json(value: Any, *, indent: int | None = None) -> str:
    text = json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, which a row of data may hold, is not UTF-8; its escape is what JSON reads back as the same.
    return text.encode(errors="backslashreplace").decode()


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it: numbers of NumPy and torch as numbers, those that are not finite as texts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, Path) else value


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


# ------------------------------------------------------------------------------------------------------------------- TensorBoard


class EventWriter:
    """TensorBoard event files of a run; a class because the open file must persist between steps.

    `first_step` is the first step that this process writes: whatever an interrupted process wrote at or after it is then hidden.
    """

    def __init__(self, run: Run, *, first_step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._path = run.events
        with explained(self._path):
            self._writer = SummaryWriter(str(self._path), purge_step=first_step, flush_secs=10)

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Write the numbers among `values` (NaN too) as curves of their names; other values are no curves and are left out."""
        for name, value in values.items():
            number = value.item() if hasattr(value, "item") else value
            if isinstance(number, int | float) and not isinstance(number, bool):
                with explained(self._path):
                    self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        """Write what is still in memory and close the file."""
        with explained(self._path):
            self._writer.close()
