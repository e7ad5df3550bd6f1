"""What the columns of a table are like: kind of values, how many differ, how long they are.

Enters: a table. Leaves: a `Column` for each, from which the rules of `guess_rules` tell a format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from burnish.data.records import Table
from burnish.pictures import ENDINGS
from burnish.types import ImagePart

SAMPLE = 5000
"""Rows that are looked at."""

CODE = re.compile(r"(?=\S*[A-Za-z])(?=\S*\d)\S+")
"""A word of letters and digits."""


@dataclass(frozen=True)
class Column:
    """What the values of a column are like: `words` and `letters` are means over its texts, `filled` the share of rows with a value."""

    name: str
    kind: str
    filled: float
    distinct: int
    rows: int
    words: float
    letters: float
    example: Any
    counts: bool = False
    """Whether the values are the whole numbers that count the rows, each one more than that before."""
    coded: bool = False
    """Whether the values are single words with digits in them, as references are: `case-294`, `INV0017`."""
    pictures: bool = False
    """Whether the values are pictures, or called like files of them."""

    @property
    def few(self) -> bool:
        """Whether so few different values stand in so many rows that they are classes."""
        return self.kind in ("text", "truth", "number") and (
            self.distinct <= max(2, self.rows // 5) if self.rows > 30 else self.distinct <= max(self.rows // 2, 1) and self.rows > 1
        )

    @property
    def short(self) -> bool:
        """Whether the values are words rather than sentences."""
        return self.kind in ("truth", "number") or (self.kind == "text" and self.words <= 4 and self.letters <= 60)

    @property
    def sentences(self) -> bool:
        """Whether the values are running text."""
        return self.kind == "text" and self.words >= 3 and self.filled > 0.5


def look(table: Table, name: str) -> Column:
    """Return what a column's values are like."""
    rows = table.rows[:SAMPLE]
    values = [value for row in rows if (value := row.values.get(name)) is not None and value != "" and value != []]
    texts = [value for value in values if isinstance(value, str)]
    kinds = {_kind(value) for value in values[:200]}
    return Column(
        name=name,
        kind=kinds.pop() if len(kinds) == 1 else ("mixed" if kinds else "empty"),
        filled=len(values) / max(len(rows), 1),
        distinct=len({str(value).strip() for value in values}),
        rows=len(values),
        words=sum(len(text.split()) for text in texts) / max(len(texts), 1),
        letters=sum(len(text) for text in texts) / max(len(texts), 1),
        example=values[0] if values else None,
        counts=_counts(values),
        pictures=bool(values) and all(_is_picture(value) for value in values[:200]),
        coded=bool(texts) and sum(bool(CODE.fullmatch(text.strip())) for text in texts) > 0.9 * len(texts),
    )


def _is_picture(value: Any) -> bool:
    return isinstance(value, ImagePart) or (isinstance(value, str) and value.strip().lower().endswith(ENDINGS))


def _counts(values: list[Any]) -> bool:
    """Return whether values are whole numbers that go up by one, as numbers of rows do."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        return False
    return len(numbers) > 1 and all(after - before == 1 for before, after in pairwise(numbers))


def _kind(value: Any) -> str:
    """Return the kind of a value, lists by what stands first in them."""
    if isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in ("true", "false")):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        if re.fullmatch(r"\s*[-+]?\d+([.,]\d+)?\s*", value):
            return "number"
        return _kind_of_json(value) if value[:2] in ("[{", "[[") else "text"
    if isinstance(value, Mapping | ImagePart):
        return "object"
    first = value[0] if isinstance(value, list | tuple) and value else None
    if isinstance(first, Mapping):
        if "role" in first:
            return "messages"
        return "turns" if "from" in first and "value" in first else "objects"
    return "texts" if isinstance(first, str) else "list"


def _kind_of_json(text: str) -> str:
    """Return the kind of a list that is written as JSON in a cell."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "text"
    return _kind(value) if value else "list"
