"""The process of a job: started so that it outlives the server, found again by a server that comes later, asked to stop.

Enters: a command and the folder of a job. Leaves: a process that holds a lock on that folder for as long as it lives. The lock is handed
down to it by the server, so there is no moment at which a living process holds none; whoever asks the lock knows the truth, whatever
happened to the server in between.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import burnish

ALIVE = "alive"
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)S?(_FILE|_PATH)?$", re.IGNORECASE)
KEPT = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"})
"""What a job needs to fetch a model that asks for a token; every other secret stays with the server."""


_started: list[subprocess.Popen[bytes]] = []
"""What this server started and has not seen end: a child has to be asked for, or it stays in the list of processes when it is dead."""


def start(arguments: list[str], folder: Path, *, name: str) -> int | None:
    """Start `python -m ARGUMENTS` in a job's folder, its output in NAME.out and NAME.err there, and return the number of the process.

    None where one of this job lives already.

    It belongs to a session of its own, so that neither Ctrl-C nor the end of the server reaches it.
    """
    import fcntl

    lock = os.open(folder / ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        os.ftruncate(lock, 0)
        with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("wb") as err:
            process = subprocess.Popen(
                [*_giving_way(), sys.executable, "-P", "-m", *arguments],  # -P: no module is looked for in the job's folder
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(),
                pass_fds=(lock,),
                start_new_session=True,
            )
        os.pwrite(lock, f"{process.pid}\n".encode(), 0)
    finally:
        os.close(lock)
    _started.append(process)
    return process.pid


def _giving_way() -> list[str]:
    """Return what lets a job give way to answers where both want the processor: `nice`, which becomes the process itself."""
    nice = shutil.which("nice")
    return [nice, "-n", "10"] if nice is not None else []


def reap() -> None:
    """Let go of what has ended."""
    _started[:] = [process for process in _started if process.poll() is None]


def environment() -> dict[str, str]:
    """Return the environment of a job's process: the server's without its secrets, and with the same burnish to be found."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT or not SECRET.search(name)}
    root = Path(burnish.__file__).resolve().parents[1]
    if root.name != "site-packages":  # run from its sources: a relative PYTHONPATH means nothing in the job's folder
        kept["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [kept.get("PYTHONPATH")])])
    return kept


def living(folder: Path) -> int | None:
    """Return the process of a job that lives (0: its number is not known yet), or None."""
    import fcntl

    try:
        lock = os.open(folder / ALIVE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(lock, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(lock)
    return None


def ask_to_stop(pid: int) -> None:
    """Ask a job's process to save and end."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)


def end_at_once(pid: int) -> None:
    """End a job's process, and what it started, at once."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
