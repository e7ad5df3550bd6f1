"""Rows from pictures alone: a folder of class folders, and `.npz` files of arrays.

Enters: a folder, or a file and perhaps the name of a part of it (`scans.npz/val`). Leaves: rows whose cell `image` is a picture
(`ImagePart`, which no text file can write, so that its path needs no distrust), `label` its class, `split` the part that it stands in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as ListOf
from pathlib import Path

from burnish.data.records import Found, Record, Row, Table, columns_of
from burnish.errors import DataError, combined, suggestion
from burnish.pictures import ENDINGS, as_part
from burnish.pictures.arrays import array_part, shelves
from burnish.types import Origin

ARRAYS = ".npz"

PARTS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
"""Names of folders that divide a data set, and are no classes."""


def is_picture(path: Path) -> bool:
    """Say whether a file is called like a picture."""
    return path.suffix.lower() in ENDINGS


def array_rows(path: Path, name: str, *, part: str = "") -> Found:
    """Return a row for each picture of a `.npz` file, of one part where it is named; the line is the picture's number, from 1.

    Raises DataError for a file that holds no pictures, or no such part.
    """
    found = shelves(path, name)
    known = [shelf.part for shelf in found]
    if part and part not in known:
        raise DataError(
            f"{name}/{part}: there is no such part; it has {', '.join(filter(None, known)) or 'none'}.{suggestion(part, known)}"
        )
    rows = []
    for shelf in found:
        if part in ("", shelf.part):
            for number, label in enumerate(shelf.labels):
                values = {"image": array_part(path, shelf.array, number), "label": label}
                rows.append(Row(values | ({"split": shelf.part} if shelf.part else {}), number + 1, shelf.part or None))
    return Found(rows=rows)


def array_source(path: Path, source: str) -> tuple[Path, str] | None:
    """Return file and part where a path that is no file means a part of a `.npz` file, as `scans.npz/val` does; else None."""
    return (
        (path.parent, path.name) if path.parent.suffix.lower() == ARRAYS and path.parent.is_file() and not path.exists() else None
    )


def class_folders(folder: Path, source: str, files: ListOf[Path], warnings: ListOf[str]) -> Table:
    """Return a row for each picture below a folder: its class is the name of the folder in which it lies.

    Folders called train, val, test and the like divide a set: their name stands in `split`. Raises DataError where pictures lie beside
    class folders, so that nothing says what is on them.
    """
    loose = [path for path in files if path.parent == folder or (path.parent.name in PARTS and path.parent.parent == folder)]
    if loose and len(loose) < len(files):
        raise DataError(
            f"{source}: {len(loose)} of {len(files)} pictures lie outside the class folders ({loose[0].relative_to(folder)}); put each into "
            f"the folder of its class"
        )
    rows, problems, digest = [], [], hashlib.sha256()
    for path in files:
        name = path.relative_to(folder).as_posix()
        values: dict[str, object] = {} if loose else {"label": path.parent.name}
        if name.split("/")[0] in PARTS:
            values["split"] = name.split("/")[0]
        try:
            part = as_part(path)
            rows.append(Record({"image": part, **values}, Origin(f"{source}/{name}")))
            digest.update(f"{name}\0{part.sha256}\n".encode("utf-8", "surrogateescape"))
        except DataError as error:
            problems.append(str(error))
    if not rows:
        raise combined(DataError, f"{source}: nothing could be read", problems)
    names = tuple(row.origin.file for row in rows)
    return Table(
        rows=rows, columns=columns_of(rows), problems=problems, warnings=list(warnings), fingerprint=digest.hexdigest(), files=names
    )
