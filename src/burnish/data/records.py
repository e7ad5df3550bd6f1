"""What reading gives: records with their origin, and a table of them with everything that was wrong or odd in the files.

The readers (`sources_json`, `sources_lines`, `documents`) give `Found`, what stands in one file; `sources` joins it to a `Table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from burnish.types import Origin


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it was read: values by column name, nothing interpreted yet."""

    values: Mapping[str, Any]
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Table:
    """All records of one source.

    `problems` have to be repaired before anything is trained on; `warnings` are only to be known. `fingerprint` is the sha256 of
    the bytes that were read. A set known by name brings its own `format`, `column_map` (standard name -> column) and `options`.
    """

    rows: list[Record]
    columns: tuple[str, ...]
    problems: list[str]
    warnings: list[str]
    fingerprint: str
    files: tuple[str, ...]
    format: str | None = None
    column_map: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    """The folder of each file by its name: what its rows name, such as pictures, lies there."""


class Row(NamedTuple):
    """A row inside one file: its values, the line where it starts, and a section or page."""

    values: dict[str, Any]
    line: int | None = None
    section: str | None = None


@dataclass(frozen=True)
class Found:
    """What one reader found in one file; the lists are filled while reading."""

    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def column_names(count: int) -> list[str]:
    """Return the names that columns get where a file has none: column_1, column_2 and so on."""
    return [f"column_{number}" for number in range(1, count + 1)]


def columns_of(rows: list[Record]) -> tuple[str, ...]:
    """Return all column names in the order in which they first appear."""
    seen: dict[str, None] = {}
    for row in rows:
        if row.values.keys() - seen.keys():
            seen.update(dict.fromkeys(row.values))
    return tuple(seen)
