"""What is said of a public data set: its files, where they come from, under which licence, and how their rows are read.

The entries stand in `public_language` and `public_science`, joined in `public_sets`. Files are pinned by sha256. They
are the published ones where `verbatim` says so; else a part or a rewriting of them, and cannot be downloaded as they are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class PublicFile(NamedTuple):
    """One file: sha256 and size in bytes as it is read here, and its path in the source's repository."""

    sha256: str
    size: int
    path: str


@dataclass(frozen=True)
class Part:
    """What `public:NAME` (part '') or `public:NAME/PART` reads: files, their format and the column for each standard name.

    `splits` keeps only rows of these lists of a JSON file. Rows with an empty cell in `leave_out_empty`, and the `faulty` ones (line
    or section, known since the bytes are pinned; `fault` says why) are left out, and counted in a warning.
    """

    files: tuple[str, ...]
    format: str
    columns: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    splits: tuple[str, ...] = ()
    leave_out_empty: tuple[str, ...] = ()
    faulty: frozenset[str] = frozenset()
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class PublicSet:
    """A data set: title, source repository and commit, licence, attribution, files, and the parts that can be read."""

    title: str
    repository: str
    commit: str
    licence: str
    attribution: str
    files: Mapping[str, PublicFile]
    parts: Mapping[str, Part]
    verbatim: bool = False
