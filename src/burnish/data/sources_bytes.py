"""Bytes of a file in, its text out: compression, UTF-8, line endings, and files that are something else than their name says.

Called by `sources`. Wrong bytes are a problem with line and offset, and reading goes on so that other problems are found too.
"""

from __future__ import annotations

import gzip
import lzma
import re
import zlib

from burnish.errors import DataError

MAGIC = (
    (b"PK\x03\x04", "a ZIP archive (also XLSX and DOCX are)"),
    (b"PAR1", "a Parquet file"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"\xfd7zXZ\x00", "XZ-compressed"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"SQLite format 3", "an SQLite database"),
)


def must_be_text(data: bytes, name: str, kind: str) -> None:
    """Raise DataError where bytes begin like a kind of file that is not text."""
    for magic, what in MAGIC:
        if data.startswith(magic):
            raise DataError(f"{name}: the file is {what}, not {kind}; give it the ending of what it is, or save it as {kind}")


def unpacked(data: bytes, name: str, packed: str) -> bytes:
    """Return the content of a compressed file."""
    try:
        return lzma.decompress(data) if packed == ".xz" else gzip.decompress(data)
    except (lzma.LZMAError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: cannot be unpacked as {packed} ({error}); fetch the file again or take the ending off") from error


def decoded(data: bytes, name: str, problems: list[str]) -> str:
    """Return the text of UTF-8 bytes, a byte order mark taken off; wrong bytes are a problem and are replaced to read on."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(data) > 3 and data[1] == data[3] == 0):
        raise DataError(f"{name}: the file is UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8")
    if (head := data[:8192]).count(0) > 0.001 * len(head):
        raise DataError(f"{name}: the file is binary, not text; give it the ending of what it is, or save its rows as JSONL")
    mark = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    try:
        text = data[mark:].decode()
    except UnicodeDecodeError as error:
        at = mark + error.start
        line = data.count(b"\n", 0, at) + 1
        problems.append(
            f"{name}:{line}: not valid UTF-8: byte 0x{data[at]:02x} at byte offset {at}; "
            "save the file as UTF-8 (often it is windows-1252: iconv -f WINDOWS-1252 -t UTF-8)"
        )
        text = data[mark:].decode(errors="replace")
    return text


def line_ends(text: str, name: str) -> list[str]:
    """Return a warning where lines end in different ways."""
    both = text.count("\r\n")
    counts = {"CRLF": both, "LF": text.count("\n") - both, "CR": text.count("\r") - both}
    kinds = {kind: count for kind, count in counts.items() if count}
    if len(kinds) < 2 or (kinds.keys() == {"LF", "CR"} and kinds["CR"] < 0.01 * kinds["LF"]):
        return []
    listed = " and ".join(f"{count} {kind}" for kind, count in kinds.items())
    return [f"{name}: mixed line endings ({listed}); all are read as line ends, but save the file with one kind"]


def record_ends(text: str, name: str, kind: str) -> list[str]:
    """Return a warning where records of CSV end in different ways; line ends inside quoted cells are content, in JSON all are."""
    return [] if kind == ".json" else line_ends(re.sub(r'"[^"]*"', "", text), name)
