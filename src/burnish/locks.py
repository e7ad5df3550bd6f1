"""A lock on a folder, so that two processes cannot write it at once; the system gives it back when its holder dies, however it dies.

Enters: a folder. Leaves: the open lock file that holds the lock, or a UsageError that names the process that has it.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from burnish.disk import explained
from burnish.errors import UsageError

LOCK = ".lock"

# A lock belongs to the open file, which a forked child shares: without the hook below a data worker that outlives its parent would
# keep the folder locked.
_held: set[int] = set()
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


def take(folder: Path) -> int:
    """Lock a folder for this process and return what `release` takes. Raises UsageError where another process holds the lock."""
    import fcntl

    with explained(folder):
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _held.add(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except BaseException as error:
            owner = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            release(lock)
            if isinstance(error, BlockingIOError):
                raise UsageError(
                    f"{folder} is being written by another process (pid {owner}). Wait for it, stop it, or choose output=DIR"
                ) from None
            if isinstance(error, OSError) and error.errno in _NO_LOCKS:
                raise UsageError(
                    f"the file system of {folder} knows no file locks: two runs could write there at once. Choose output=DIR on another"
                ) from error
            raise
    return lock


def release(lock: int) -> None:
    """Give a lock back; the end of the process does the same, and a second call does nothing."""
    if lock in _held:
        _held.discard(lock)
        os.close(lock)


def is_locked(folder: Path) -> bool:
    """Return whether a living process (this one too) holds the lock of a folder."""
    import fcntl

    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _close_in_child() -> None:
    for lock in _held:
        with suppress(OSError):
            os.close(lock)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
