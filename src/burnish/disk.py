"""Errors of the disk in words that a user can act on: full, read-only, in the way.

Enters: what the system, or a writer in Rust on top of it, raised. Leaves: a `SpaceError` that says how much was needed and how much
is free, a `UsageError` or a `RunError`, each naming the path and what to do. Used by everything that writes.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from burnish.errors import BurnishError, RunError, SpaceError, UsageError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_IN_THE_WAY = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST})


@contextmanager
def explained(path: Path, *, needed_bytes: int = 0) -> Iterator[None]:
    """Turn errors of the disk raised inside into SpaceError, UsageError or RunError that name `path`; other errors pass."""
    try:
        yield
    except Exception as error:
        if (told := in_words(error, Path(path), needed=needed_bytes, free=free_bytes(path))) is not None:
            raise told from error
        raise


def free_bytes(path: Path) -> int:
    """Return the bytes free for this user on the file system that holds, or would hold, `path`."""
    path = Path(path).absolute()
    for folder in (path, *path.parents):
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return 0


def readable(size: int) -> str:
    """Return a number of bytes as a person reads it, in decimal units: 1.5 GB."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def in_words(error: BaseException, path: Path, *, needed: int, free: int) -> BurnishError | None:
    """Return the error of ours that says what an error of the disk means, or None where it is not one."""
    number = _system_number(error)
    if number is None:
        return None
    reason, place = os.strerror(number), getattr(error, "filename", None) or path
    if number in _NO_SPACE:
        return no_space(number, path, needed, free)
    if number in _NO_PERMISSION:
        return UsageError(
            f"cannot write {path}: the folder is read-only for this user ({place}: {reason}). "
            "Choose another one with output=DIR, or give yourself the right to write there"
        )
    if number in _IN_THE_WAY:
        return UsageError(f"cannot write {path}: {place} is in the way ({reason}). Move it away, or choose another output=DIR")
    return RunError(f"cannot write {path}: {reason} ({place}). What was saved before is intact")


def _system_number(error: BaseException) -> int | None:
    # Writers in Rust (safetensors, tokenizers) raise their own classes; the number of the system's error stands only in the text.
    if isinstance(error, OSError):
        return error.errno
    match = re.search(r"\(os error (\d+)\)", str(error))
    return int(match[1]) if match and not isinstance(error, BurnishError) else None


def no_space(number: int, path: Path, needed: int, free: int) -> SpaceError:
    """Return the SpaceError for this number of the system, with the bytes needed (0: not known), free and missing."""
    if number == errno.EFBIG:
        what = "a file is larger than this process or file system may write (see: ulimit -f)"
    elif number == errno.EDQUOT:
        what = "your disk quota is used up"
    else:
        what = "no space left on the disk"
    amount = f"at least {readable(needed)} needed, {readable(free)} free" if needed else f"{readable(free)} free"
    if needed > free:
        amount += f": {readable(needed - free)} missing"
    return SpaceError(
        f"cannot write {path}: {what} ({amount}). What was saved before is intact. "
        "Make room there, then continue with --resume; or choose another disk with output=DIR"
    )
