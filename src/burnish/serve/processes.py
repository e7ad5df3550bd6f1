"""Commands of burnish as processes of their own: a run outlives the page, the request and the server.

Enters: a folder, and the words of a command as a list. Leaves: a process whose life shows in the lock of that folder, whoever looks and
whenever: the lock file is open in the process itself, and the system gives it back when the process ends, however it ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from burnish import locks
from burnish.disk import explained
from burnish.errors import UsageError

LOG, PID = "log.txt", "pid"
SECRETS = ("BURNISH_API_KEY",)
"""What a run has no use for."""


def begin(folder: Path, words: Sequence[str]) -> None:
    """Start `burnish WORDS` in a folder and return at once; what it says goes to log.txt there. UsageError where one is under way."""
    with explained(folder):
        lock = locks.take(folder)
        try:
            with (folder / LOG).open("wb") as log:
                process = subprocess.Popen(
                    _command(words),
                    cwd=folder,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            (folder / PID).write_text(str(process.pid), encoding="ascii")
        finally:
            locks.release(lock)  # the process holds its own
    threading.Thread(target=process.wait, name="run", daemon=True).start()  # so that none stays behind as a zombie


def is_alive(folder: Path) -> bool:
    """Return whether the process of a folder is still there."""
    return locks.is_locked(folder)


def pid_of(folder: Path) -> int | None:
    """Return the process of a folder while it lives."""
    if not is_alive(folder):
        return None
    with suppress(OSError, ValueError):
        return int((folder / PID).read_text(encoding="ascii"))
    return None


def ask_to_stop(pid: int) -> None:
    """Ask a run to stop: it saves a complete checkpoint first. UsageError where the system does not allow it."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError:
        raise UsageError("This run belongs to another user of the machine; only they can stop it.") from None


def carried_out(folder: Path, words: Sequence[str], *, seconds: float = 900.0) -> tuple[int, str, str]:
    """Run a short command to its end and return (exit code, output, errors)."""
    try:
        done = subprocess.run(
            _command(words), cwd=folder, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "", f"This took longer than {seconds / 60:.0f} minutes and was ended."
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "burnish", *words]


def _environment() -> dict[str, str]:
    """Return the environment of a run: the server's, without its key, for output that is read by no terminal."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS} | {"NO_COLOR": "1"}
