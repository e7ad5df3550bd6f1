"""Where data comes from: a file, a folder of files, a Hugging Face data set or a public set by name in, a `Table` of records out.

The first stage of the flow; `formats` turns records into examples. Nothing is fetched from an address, and no code of a data set is
run. What is wrong inside a file is collected in the table; a source that cannot be read at all is raised as `DataError`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from burnish.data import documents, sources_json, sources_lines
from burnish.data.records import Found, Record, Row, Table, columns_of
from burnish.data.sources_bytes import decoded, line_ends, must_be_text, record_ends, unpacked
from burnish.data.sources_pictures import ARRAYS, array_rows, array_source, class_folders, is_picture
from burnish.errors import DataError, combined, suggestion
from burnish.types import Origin

__all__ = ["ENDINGS", "Record", "Table", "read"]

TABLES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".conll", ".iob", ".iob2", ".bio", ARRAYS})
PAPERS = frozenset({".txt", ".text", ".md", ".markdown", ".html", ".htm", ".pdf", ".docx"})
PACKED = (".xz", ".gz")
ENDINGS = tuple(sorted(TABLES | PAPERS))
"""Endings of the files that can be read, each also followed by .xz or .gz."""

INSTEAD = {
    ".xlsx": "save the sheet as CSV (UTF-8)",
    ".xls": "save the sheet as CSV (UTF-8)",
    ".ods": "save the sheet as CSV (UTF-8)",
    ".doc": "save it as DOCX",
    ".rtf": "save it as DOCX",
    ".odt": "save it as DOCX",
    ".epub": "convert it to HTML",
    ".zip": "unpack it and give the folder",
    ".tar": "unpack it and give the folder",
    ".7z": "unpack it and give the folder",
    ".zst": "unpack it (zstd -d)",
    ".bz2": "unpack it (bunzip2)",
    ".arrow": "save it as Parquet",
    ".pkl": "save it as JSONL or Parquet: pickle files can run code",
    ".pickle": "save it as JSONL or Parquet: pickle files can run code",
    ".yaml": "save it as JSON",
    ".yml": "save it as JSON",
}
PAPERWORK = re.compile(r"(licen[cs]e|notice|copying|readme|checksums|sha256sums)(\..*)?", re.IGNORECASE)


def read(source: str, *, base: Path | None = None, header: bool | None = None) -> Table:
    """Read all records of a source.

    `source` is a path (relative to `base`, else to the current folder) of a file or a folder, `FILE.npz/PART`, `hf:owner/name[:split]`,
    or `public:NAME[/PART]`. `header` says whether the first line of CSV and TSV names the columns (None: looked at).
    Raises DataError where the source is missing, unreadable, empty or of a kind that is not read.
    """
    scheme, _, rest = source.partition(":")
    if scheme == "public":
        from burnish.data.public import read_public

        return read_public(rest)
    if scheme == "hf":
        from burnish.data.sources_hub import read_hub

        return read_hub(rest)
    if re.match(r"[a-z0-9+]+://", source, re.IGNORECASE):
        raise DataError(f"{source}: nothing is fetched from an address; download the file and give its path")
    path = Path(source).expanduser()
    path = path if path.is_absolute() or base is None else base / path
    if path.is_dir():
        return _folder(path, source.rstrip("/\\") or source, header=header)
    if (arrays := array_source(path, source)) is not None:
        return read_files([(source.rpartition("/")[0], arrays[0])], part=arrays[1])
    _must_exist(path, source)
    return read_files([(source, path)], header=header)


def read_files(
    files: list[tuple[str, Path]], *, header: bool | None = None, warnings: list[str] | None = None, part: str = ""
) -> Table:
    """Read files, each given by the name that messages call it and its path, into one table; of a `.npz` file perhaps one `part`.

    With one file an unreadable one raises DataError; of several it becomes a problem beside those of the others.
    """
    rows: list[Record] = []
    problems: list[str] = []
    notes = list(warnings or [])
    hashes: list[str] = []
    columns: dict[str, tuple[str, ...]] = {}
    for name, path in files:
        try:
            data = _bytes(path, name)
            hashes.append(hashlib.sha256(data).hexdigest())
            arrays = path.suffix.lower() == ARRAYS
            found = array_rows(path, name, part=part) if arrays else read_bytes(data, name, header=header)
        except DataError as error:
            if len(files) == 1:
                raise
            problems.append(str(error))
            continue
        problems.extend(found.problems)
        notes.extend(found.warnings)
        read_now = [Record(row.values, Origin(name, row.line, row.section)) for row in found.rows]
        columns[name] = columns_of(read_now)
        rows.extend(read_now)
        if not found.rows and not found.problems:
            problems.append(f"{name}: holds no rows; expected at least one")
    if not rows:
        raise combined(DataError, f"{files[0][0] if len(files) == 1 else 'data'}: nothing could be read", problems)
    notes += _different_columns(columns)
    digest = hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    return Table(
        rows=rows,
        columns=columns_of(rows),
        problems=problems,
        warnings=notes,
        fingerprint=digest,
        files=tuple(name for name, _ in files),
        folders={name: path.parent for name, path in files},
    )


def _different_columns(columns: dict[str, tuple[str, ...]]) -> list[str]:
    """Return a warning where the files of a folder share no column: they are hardly one data set."""
    filled = {name: names for name, names in columns.items() if names}
    shared = set.intersection(*map(set, filled.values())) if filled else set()
    if len(filled) < 2 or shared:
        return []
    listed = "; ".join(f"{name} has {', '.join(names[:6])}" for name, names in list(filled.items())[:3])
    return [f"the {len(filled)} files have no column in common ({listed}); give one kind of file as a source of its own"]


def read_bytes(data: bytes, name: str, *, header: bool | None = None) -> Found:
    """Read the content of one file by the ending of its name; raises DataError where it cannot be read as that."""
    kind, packed = _ending(name)
    if packed:
        data = unpacked(data, name, packed)
    if not data.strip():
        raise DataError(f"{name}: the file is empty; expected rows")
    if kind == ".parquet":
        return _parquet(data, name)
    if kind == ".pdf":
        return documents.read_pdf(data, name)
    if kind == ".docx":
        return documents.read_docx(data, name)
    must_be_text(data, name, kind)
    problems: list[str] = []
    text = decoded(data, name, problems)
    warnings = line_ends(text, name) if kind not in (".csv", ".tsv", ".json") else record_ends(text, name, kind)
    if "\r" in text and "\n" not in text:
        text = text.replace("\r", "\n")
    found = _reader(kind, text, name, header=header)(text, name)
    return Found(found.rows, problems + found.problems, warnings + found.warnings)


def _reader(kind: str, text: str, name: str, *, header: bool | None) -> Callable[[str, str], Found]:
    """Return the reader for text of an ending, looking into the text where an ending is used for several things."""

    def table(text: str, name: str, *, delimiter: str = "\t") -> Found:
        return sources_lines.read_table(text, name, delimiter=delimiter, header=header)

    def noted(reader: Callable[[str, str], Found], what: str) -> Callable[[str, str], Found]:
        def read_so(text: str, name: str) -> Found:
            found = reader(text, name)
            found.warnings.append(f"{name}: every line is {what}; read so (not as running text)")
            return found

        return read_so

    if kind == ".csv":
        return lambda text, name: table(text, name, delimiter=",")
    if kind == ".tsv":
        return sources_lines.read_conll if sources_lines.is_conll(text) else table
    if kind in (".txt", ".text"):
        if sources_lines.is_conll(text):
            return noted(sources_lines.read_conll, "a token and its tag")
        counts = {line.count("\t") for line in text.split("\n") if line.strip()}
        if len(counts) == 1 and counts != {0} and text.strip().count("\n") > 0:
            return noted(table, "cells divided by tabs")
    return {
        ".jsonl": sources_json.read_jsonl,
        ".ndjson": sources_json.read_jsonl,
        ".json": sources_json.read_json,
        ".md": _with_plain_lines(documents.read_markdown),
        ".markdown": _with_plain_lines(documents.read_markdown),
        ".html": documents.read_html,
        ".htm": documents.read_html,
        ".txt": _with_plain_lines(documents.read_text),
        ".text": _with_plain_lines(documents.read_text),
    }.get(kind, sources_lines.read_conll)


def _with_plain_lines(reader: Callable[[str, str], Found]) -> Callable[[str, str], Found]:
    """Return a reader of running text that sees only line feeds as line ends."""
    return lambda text, name: reader(text.replace("\r\n", "\n"), name)


# -------------------------------------------------------------------------------------------------------------------- files


def _must_exist(path: Path, source: str) -> None:
    """Raise DataError where a path is no file, with the nearest name that is there, or the public set of that name."""
    if path.is_file():
        return
    if path.exists():
        raise DataError(f"{source}: is neither a file nor a folder; give a file or a folder of data")
    from burnish.data.public_sets import PUBLIC

    hint = f" Did you mean 'public:{source}'?" if source in PUBLIC else ""
    if not hint and path.parent.is_dir():
        hint = suggestion(path.name, [entry.name for entry in path.parent.iterdir()])
    raise DataError(
        f"{source}: no such file or folder (looked at {path}). Expected a path (in a run file: relative to that file), hf:owner/name or public:NAME.{hint}"
    )


def _ending(name: str) -> tuple[str, str]:
    """Return a file's ending and that of its compression ('' for none); raises DataError for endings that are not read."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in PACKED else ""
    kind = suffixes[-1] if suffixes else ""
    if kind in TABLES or kind in PAPERS:
        return kind, packed
    fix = INSTEAD.get(kind, f"expected one of {' '.join(ENDINGS)}, also with .xz or .gz.{suggestion(kind, ENDINGS)}")
    raise DataError(f"{name}: files ending in {kind or 'nothing'!r} are not read; {fix}")


def _folder(folder: Path, source: str, *, header: bool | None) -> Table:
    """Read all data files below a folder, sorted by name; hidden ones and paperwork (licence, readme) are passed over.

    Where tables and documents lie side by side, the tables are the data and the documents are named in a warning. Pictures are the data
    where there are no tables, which would name them.
    """
    warnings: list[str] = []
    tables: list[tuple[str, Path]] = []
    papers: list[tuple[str, Path]] = []
    unread: list[str] = []
    seen: list[Path] = []
    for path in _walk(folder, source):
        if is_picture(path):
            seen.append(path)
            continue
        name = f"{source}/{path.relative_to(folder).as_posix()}"
        try:
            kind, _ = _ending(name)
        except DataError:
            unread.append(path.relative_to(folder).as_posix())
            continue
        (tables if kind in TABLES else papers).append((name, path))
    described = [name for name, path in papers if PAPERWORK.fullmatch(path.name)]
    papers = [item for item in papers if item[0] not in described]
    if papers and (tables or seen):
        described += [name for name, _ in papers]
        papers = []
    for left, why in ((unread, "of kinds that are not read"), (described, "not data beside the others")):
        if left:
            warnings.append(f"{source}: left out {len(left)} file(s) {why}: {', '.join(left[:5])}{' …' * (len(left) > 5)}")
    if seen and not tables:
        return class_folders(folder, source, seen, warnings)
    if not tables and not papers:
        what = f"{len(unread) + len(described)} file(s) of other kinds" if unread or described else "nothing"
        raise DataError(f"{source}: the folder holds {what}; expected files ending in {' '.join(ENDINGS)}, also with .xz or .gz")
    return read_files(tables or papers, header=header, warnings=warnings)


def _walk(folder: Path, source: str) -> list[Path]:
    """Return all files below a folder, sorted; raises DataError for a link that leaves it or a folder that cannot be listed."""
    root = folder.resolve()
    files: list[Path] = []
    problems: list[str] = []

    def failed(error: OSError) -> None:
        problems.append(f"{error.filename}: {error.strerror}; make it readable")

    for place, folders, names in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [*folders, *names]:
            path = Path(place) / name
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                problems.append(f"{path}: is a link to a place outside {source}; copy what it points to into the folder")
        files += [Path(place) / name for name in names if not name.startswith(".")]
    if problems:
        raise combined(DataError, f"{source}: the folder cannot be read", problems)
    return sorted(path for path in files if path.is_file())


def _bytes(path: Path, name: str) -> bytes:
    """Return the bytes of a file, or raise DataError with what the system said."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); check the path and its permissions") from error


def _parquet(data: bytes, name: str) -> Found:
    """Read the rows of a Parquet file; the line is the row's number."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{name}: cannot be read as Parquet ({str(error).splitlines()[0]}); write the file again") from error
    return Found(rows=[Row(row, number) for number, row in enumerate(rows, 1)])
