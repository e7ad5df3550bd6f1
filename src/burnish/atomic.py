"""Writing files and folders so that each is complete or absent, whatever kills the process or fills the disk.

Enters: a folder or file to write and what fills it. Leaves: that folder with a `manifest.json` that names every file with its size
and sha256, or a `SpaceError` / `UsageError` / `RunError` that says what to do, with everything written before untouched.
Checkpoints, exports, metrics and reports are all written through here.

The order of a folder's writing is the promise: fill a hidden sibling, fsync every file, write the manifest last, fsync it and the
folder, rename, fsync the parent. A folder without a manifest that verifies does not exist.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from burnish.disk import explained, free_bytes, in_words, no_space
from burnish.errors import RunError, UsageError

MANIFEST = "manifest.json"
SCHEMA = 1

# What a loader might open in place of a listed file, and would unpickle.
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz"})

_LEFTOVER = re.compile(r"\.(?P<kind>tmp|old)-(?P<name>.+)-[0-9a-f]{32}")


# ------------------------------------------------------------------------------------------------------------------ folders


def write_directory(target: Path, fill: Callable[[Path], None], *, manifest: Mapping[str, Any], needed_bytes: int = 0) -> None:
    """Write the folder `target`, filled by `fill(folder)`, so that it appears complete or not at all.

    `manifest` are facts (JSON) kept in manifest.json beside size and sha256 of every file. `needed_bytes` is the least that will be
    written, where it is known: too little free space is then refused before the first byte. An existing target is put aside and
    deleted only after the new one is in its place; `clean` puts it back where a crash came between.

    Raises SpaceError (nothing free, quota, file size limit), UsageError (read-only folder, file in the way), RunError (any other
    error of the disk).
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise UsageError(
            f"cannot write the folder {target}: a file of that name is in the way. Move it away, or choose another place"
        )
    if needed_bytes > (free := free_bytes(target)):
        raise no_space(errno.ENOSPC, target, needed_bytes, free)
    temporary = _hidden(target, "tmp")
    with explained(target):
        make_directory(target.parent)
        temporary.mkdir()
    try:
        fill(temporary)
        _seal(temporary, manifest)
        _put_in_place(temporary, target)
    except BaseException as error:
        written, free = sum(file.lstat().st_size for file in _files(temporary)), free_bytes(target)
        shutil.rmtree(temporary, ignore_errors=True)
        if (told := in_words(error, target, needed=max(needed_bytes, written), free=free)) is not None:
            raise told from error
        raise


def remove_directory(path: Path) -> None:
    """Delete a folder; a crash on the way leaves a hidden leftover for `clean`, never half a folder under its own name."""
    path = Path(path)
    with explained(path):
        hidden = _hidden(path, "tmp")
        os.rename(path, hidden)  # noqa: PTH104
        _sync_directory(path.parent)  # without it a loss of power could undo the renaming and not the deleting
        shutil.rmtree(hidden)


def clean(parent: Path) -> list[str]:
    """Remove what an interrupted process left in `parent`, and return one line for each thing done.

    Only to be called at the start of a run, by whoever holds its lock: during a save it would delete the save. A folder that was
    put aside for a new one which never came is put back under its name.
    """
    done: list[str] = []
    for entry in sorted(Path(parent).iterdir()) if Path(parent).is_dir() else []:
        match = _LEFTOVER.fullmatch(entry.name)
        if match is None:
            continue
        target = entry.with_name(match["name"])
        with explained(entry):
            if match["kind"] == "old" and not target.exists():
                os.rename(entry, target)  # noqa: PTH104
                _sync_directory(entry.parent)
                done.append(f"put back {target.name}, whose replacement was interrupted")
            else:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
                done.append(f"removed an unfinished {match['name']}")
    return done


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a folder: `schema`, `files` (name -> size and sha256), `facts`; its own content is checked.

    Raises RunError where it is missing, damaged or of a newer schema.
    """
    file = Path(path) / MANIFEST
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: {MANIFEST} cannot be read ({error.strerror}): the folder was never completed") from error
    try:
        manifest = json.loads(content)
        schema, stated = manifest["schema"], manifest.pop("sha256")
        damaged = not isinstance(schema, int) or _manifest_bytes(manifest) != content or stated != _digest(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise RunError(f"{file}: is damaged (not the manifest that was written)") from None
    if schema > SCHEMA:
        raise RunError(f"{file}: written by a newer burnish (schema {schema}; this one reads up to {SCHEMA}): update burnish")
    if damaged:
        raise RunError(f"{file}: is damaged (its content does not have the sha256 it states)")
    return manifest


def verify(path: Path, *, contents: bool = True) -> list[str]:
    """Return what is wrong with a folder against its manifest, one line per file; empty where all of it is as it was written.

    With `contents=False` only presence and size are compared, without reading the files. Files that are not listed are left alone,
    except pickles, which a loader could open instead of a listed file.
    """
    path = Path(path)
    if not path.is_dir():
        return [f"{path}: is not a folder"]
    try:
        manifest = read_manifest(path)
    except RunError as error:
        return [str(error)]
    problems = [
        problem for name, facts in manifest["files"].items() if (problem := _difference(path, name, facts, contents=contents))
    ]
    for file in _files(path):
        name = file.relative_to(path).as_posix()
        if file.suffix.lower() in PICKLE_SUFFIXES and name not in manifest["files"]:
            problems.append(f"{file}: was put here by someone else (not in {MANIFEST}) and may run code when opened: delete it")
    return problems


# -------------------------------------------------------------------------------------------------------------- single files


def write_file(path: Path, content: bytes | str) -> None:
    """Write one file so that it holds the old content or the new one, never a part; text is stored as UTF-8.

    Raises as `write_directory` does.
    """
    path, data = Path(path), content.encode() if isinstance(content, str) else content
    if path.is_dir():
        raise UsageError(f"{path} is a folder, but a file is to be written there: move it away or choose another place")
    with explained(path, needed_bytes=len(data)):
        make_directory(path.parent)
        temporary = _hidden(path, "tmp")
        try:
            _write_synced(temporary, data)
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_directory(path.parent)


def append_line(path: Path, text: str) -> None:
    """Append one line with a single write; a line that a crash or a full disk tore is removed first or at once."""
    assert "\n" not in text, "a line holds no line break"
    data = f"{text}\n".encode()
    with explained(Path(path), needed_bytes=len(data)):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            end = _whole_lines(descriptor)
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError(errno.ENOSPC, "only a part of the line was written")
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)


def read_lines(path: Path) -> list[str]:
    """Return the complete lines of a file without their line breaks; a torn last line is dropped, no file is no lines.

    Raises RunError with file and line where one is not UTF-8.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    lines = data.split(b"\n")[:-1]
    try:
        return [line.decode() for line in lines]
    except UnicodeDecodeError as error:
        raise RunError(f"{path}:{lines.index(error.object) + 1}: is not UTF-8, the file was damaged. Delete this line") from None


def sync(path: Path) -> None:
    """Force the content of a file, or the entries of a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a folder and its parents, each entry forced onto the disk; an existing folder is left as it is."""
    path = Path(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        _sync_directory(folder.parent)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


# ------------------------------------------------------------------------------------------------------------------ small parts


def _hidden(path: Path, kind: str) -> Path:
    return path.with_name(f".{kind}-{path.name}-{uuid4().hex}")


def _seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """fsync every file, write the manifest last, then fsync the folders from the inside out."""
    assert not (folder / MANIFEST).exists(), f"{MANIFEST} is written here, not by what fills the folder"
    files = {}
    for file in _files(folder):
        assert not file.is_symlink(), f"{file}: a link would point out of the folder"
        sync(file)
        files[file.relative_to(folder).as_posix()] = {"size": file.stat().st_size, "sha256": _sha256(file)}
    _write_synced(folder / MANIFEST, _manifest_bytes({"schema": SCHEMA, "files": files, "facts": dict(facts)}))
    for inner in sorted((entry for entry in folder.rglob("*") if entry.is_dir()), reverse=True):
        _sync_directory(inner)
    _sync_directory(folder)


def _put_in_place(temporary: Path, target: Path) -> None:
    aside = None
    if target.exists():
        aside = _hidden(target, "old")
        os.rename(target, aside)  # noqa: PTH104
    try:
        os.rename(temporary, target)  # noqa: PTH104
    except OSError:
        if aside is not None:
            os.rename(aside, target)  # noqa: PTH104
        raise
    _sync_directory(target.parent)
    if aside is not None:
        shutil.rmtree(aside)


def _files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.rglob("*") if entry.is_symlink() or not entry.is_dir())


def _difference(folder: Path, name: str, facts: Mapping[str, Any], *, contents: bool) -> str | None:
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        return f"{file}: leads out of the folder"
    try:
        if (size := file.stat().st_size) != facts["size"]:
            return f"{file}: has {size} bytes, {facts['size']} were written"
        if contents and _sha256(file) != facts["sha256"]:
            return f"{file}: its content changed since it was written (sha256 differs)"
    except OSError as error:
        return f"{file}: cannot be read ({error.strerror})"
    return None


def _manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    # The manifest states its own hash, so that no byte of any file can change unseen: facts such as the step stand in it alone.
    return (json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_synced(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _whole_lines(descriptor: int) -> int:
    """Cut a torn last line off an open file and return where its complete lines end."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    end = os.pread(descriptor, size, 0).rfind(b"\n") + 1
    os.ftruncate(descriptor, end)
    return end


def _sync_directory(path: Path) -> None:
    try:
        sync(path)
    except OSError as error:
        # Some network file systems cannot fsync a folder; their renames are durable on the server.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
