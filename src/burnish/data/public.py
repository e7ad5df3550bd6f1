"""Public data sets by name: `public:NAME` in, verified files and their records out; `get` puts the files where they are found.

Called by `sources` and by `burnish data get`. Files are looked up in $BURNISH_DATA/NAME, then in the user's cache, and are used only
where their sha256 is the registered one, so that a name means the same bytes on every machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.data.public_sets import PUBLIC
from burnish.data.public_types import Part, PublicFile, PublicSet
from burnish.data.records import Record, Table, columns_of
from burnish.errors import DataError, RunError, SpaceError, combined, suggestion

Fetch = Callable[[str, int], bytes]
"""`fetch(url, size)` returns the bytes at an address, at most `size` of them, or raises DataError."""

LICENCE = "LICENCE.txt"
SECONDS = 300.0
"""The longest that one file's download may take."""


def read_public(reference: str) -> Table:
    """Read `NAME` or `NAME/PART` with its registered format, columns and options filled in."""
    name, _, part_name = reference.partition("/")
    entry = _entry(name)
    if part_name not in entry.parts:
        listed = ", ".join(f"public:{name}/{part}" if part else f"public:{name}" for part in entry.parts)
        raise DataError(f"public:{reference}: there is no such part; expected {listed}.{suggestion(part_name, entry.parts)}")
    part = entry.parts[part_name]
    from burnish.data.sources import read_files

    folder = locate(name, files=part.files)
    table = read_files([(f"public:{name}/{file}", folder / file) for file in part.files])
    rows, notes = _selected(table.rows, part, f"public:{reference}")
    return dataclasses.replace(
        table,
        rows=rows,
        columns=columns_of(rows),
        warnings=[*table.warnings, *notes],
        format=part.format,
        column_map=part.columns,
        options=part.options,
    )


def _selected(rows: list[Record], part: Part, source: str) -> tuple[list[Record], list[str]]:
    """Return the rows that a part keeps, and notes of what it leaves out or changes."""
    if part.splits:
        rows = [row for row in rows if row.values.get("split") in part.splits]
    kept = [row for row in rows if all(str(row.values.get(column) or "").strip() for column in part.leave_out_empty)]
    whole = [row for row in kept if str(row.origin.line) not in part.faulty and row.origin.section not in part.faulty]
    notes = []
    if empty := len(rows) - len(kept):
        notes.append(
            f"{source}: {empty} row(s) with empty {' or '.join(part.leave_out_empty)} left out, as registered for this set"
        )
    if faulty := len(kept) - len(whole):
        notes.append(f"{source}: {faulty} row(s) left out, known to be faulty in this set ({part.fault})")
    if part.options.get("repair"):
        notes.append(f"{source}: answers with a wrong offset are moved to where they occur, as registered for this set")
    return whole, notes


def cache() -> Path:
    """Return the folder in which fetched sets are kept: $BURNISH_CACHE, $XDG_CACHE_HOME/burnish/data or ~/.cache/burnish/data."""
    if own := os.environ.get("BURNISH_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "burnish" / "data"


def locate(name: str, *, files: Sequence[str] | None = None) -> Path:
    """Return the folder that holds a set's files (all, or the named ones), their sha256 verified.

    Raises DataError for an unknown name, a set that is on neither place, and files that are not the registered ones.
    """
    entry = _entry(name)
    wanted = {file: entry.files[file] for file in (files or entry.files)}
    places = [Path(root).expanduser() / name for root in (os.environ.get("BURNISH_DATA"),) if root] + [cache() / name]
    for folder in places:
        if all((folder / file).is_file() for file in wanted):
            if problems := _differences(folder, wanted):
                raise combined(DataError, f"public:{name}: the files in {folder} are not the registered ones", problems)
            return folder
    looked = " and ".join(map(str, places)) + ("" if os.environ.get("BURNISH_DATA") else " (BURNISH_DATA is not set)")
    how = f"burnish data get {name}" if entry.verbatim else f"burnish data get {name} --from FOLDER"
    raise DataError(
        f"public:{name} is not on this machine; looked in {looked}. Run: {how} (FOLDER holds {name}/ or its files), "
        "or set BURNISH_DATA to a folder that holds it"
    )


def get(name: str, *, folder: Path | None = None, fetch: Fetch | None = None) -> Path:
    """Put a set into the cache and return its folder: copied from FOLDER/NAME or FOLDER, or downloaded from its source.

    Every file is verified; the set is complete in the cache or absent. Raises DataError for unknown names, files that are not the
    registered ones and sets whose files are not published as they are here; SpaceError where the disk is full.
    """
    entry = _entry(name)
    target = cache() / name
    if target.is_dir() and not _differences(target, entry.files):
        return target
    if folder is not None:
        source = folder / name if (folder / name).is_dir() else folder
        if problems := _differences(source, entry.files):
            raise combined(DataError, f"public:{name} cannot be taken from {source}", problems)
    elif not entry.verbatim:
        raise DataError(
            f"public:{name} cannot be downloaded: its files are a part or a rewriting of those published at {_source(entry)} ({entry.licence}), "
            f"so their bytes cannot be verified. Take them from a folder: burnish data get {name} --from FOLDER"
        )
    else:
        source = None
    with _system_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as temporary:
            made = Path(temporary) / name
            made.mkdir()
            for file, about in entry.files.items():
                (made / file).parent.mkdir(parents=True, exist_ok=True)
                data = (source / file).read_bytes() if source else _fetched(entry, about, fetch or download)
                (made / file).write_bytes(data)
            own = source / LICENCE if source else None
            (made / LICENCE).write_text(
                own.read_text(encoding="utf-8") if own and own.is_file() else licence_text(entry), encoding="utf-8"
            )
            if target.exists():
                target.rename(Path(temporary) / "before")
            made.rename(target)
    return target


def licence_text(entry: PublicSet) -> str:
    """Return what has to stay with a set's files: source, licence and attribution."""
    return (
        f"{entry.title}\n\nSource: {_source(entry)}\nCommit: {entry.commit or 'see the source'}\n"
        f"Path: {', '.join(dict.fromkeys(file.path for file in entry.files.values()))}\n"
        f"Licence: {entry.licence}\nAttribution: {entry.attribution}\n"
    )


def _entry(name: str) -> PublicSet:
    """Return the registered set of a name."""
    if name in PUBLIC:
        return PUBLIC[name]
    raise DataError(f"public:{name}: there is no such set; expected one of {', '.join(sorted(PUBLIC))}.{suggestion(name, PUBLIC)}")


def _source(entry: PublicSet) -> str:
    """Return the address of a set's repository."""
    return f"https://github.com/{entry.repository}"


def _differences(folder: Path, files: Mapping[str, PublicFile]) -> list[str]:
    """Return which files of a folder are missing or are not the registered ones."""
    problems: list[str] = []
    for file, about in files.items():
        path = folder / file
        if not path.is_file():
            problems.append(f"{path}: no such file; expected {about.size} bytes with sha256 {about.sha256}")
            continue
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            problems.append(f"{path}: cannot be read ({error.strerror})")
            continue
        if found != about.sha256:
            problems.append(f"{path}: sha256 is {found}, expected {about.sha256}; the file was changed: fetch it again")
    return problems


@contextlib.contextmanager
def _system_errors(target: Path) -> Iterator[None]:
    """Turn what the system says while writing into SpaceError and RunError; the temporary folder is gone by then."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpaceError(f"no space left for {target}; free some, or set BURNISH_CACHE to a folder on another disk") from error
        raise RunError(f"{target} cannot be written ({error.strerror}); set BURNISH_CACHE to a folder that can be") from error


# ------------------------------------------------------------------------------------------------------------------ download


def _fetched(entry: PublicSet, about: PublicFile, fetch: Fetch) -> bytes:
    """Return the bytes of a published file, verified."""
    path = urllib.parse.quote(about.path)
    url = f"https://raw.githubusercontent.com/{entry.repository}/{entry.commit}/{path}"
    data = fetch(url, about.size)
    found = hashlib.sha256(data).hexdigest()
    if found != about.sha256:
        raise DataError(f"{url}: sha256 is {found}, expected {about.sha256}; not used. Try again, or give a folder with --from")
    return data


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that follows a redirect only to the same host, and never away from https."""
    redirects = urllib.request.HTTPRedirectHandler()
    follow = redirects.redirect_request

    def same_host(req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        before, after = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if (before.scheme, before.netloc) != (after.scheme, after.netloc):
            raise DataError(f"{req.full_url}: leads on to {after.scheme}://{after.netloc}; not followed")
        return follow(req, fp, code, msg, headers, newurl)

    redirects.redirect_request = same_host
    return urllib.request.build_opener(redirects)


def download(url: str, size: int, *, seconds: float = SECONDS, schemes: tuple[str, ...] = ("https",)) -> bytes:
    """Return the bytes at an address: https only, no redirect to another host, `size` bytes and `seconds` at most.

    Raises DataError with what went wrong and the way without a network.
    """
    if urllib.parse.urlsplit(url).scheme not in schemes:
        raise DataError(f"{url}: expected an address with {' or '.join(schemes)}://")
    deadline = time.monotonic() + seconds
    pieces: list[bytes] = []
    received = 0
    try:
        with _opener().open(url, timeout=min(30.0, seconds)) as answer:
            while piece := answer.read1(1 << 16):
                pieces.append(piece)
                received += len(piece)
                if received > size:
                    raise DataError(f"{url}: is larger than the registered {size} bytes; not used")
                if time.monotonic() > deadline:
                    raise DataError(f"{url}: took longer than {seconds:.0f} s; try again, or give a folder with --from")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{url}: cannot be fetched ({reason}). Without a network, give a folder that holds the files with --from"
        ) from error
    if received != size:
        raise DataError(f"{url}: {received} bytes came, expected {size}; try again")
    return b"".join(pieces)
