"""What rows look like: a table in, the format and the column for each of its names out, with the reasons in words.

Called where `data.format` is auto, and by `burnish init --data`. Names decide before values do (`guess_rules`); where neither does,
the user is asked, with the columns listed. Nothing here is silent: `why` is shown to the user.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from burnish.data.formats import FORMATS, resolved
from burnish.data.guess_columns import Column, look
from burnish.data.guess_rules import RULES, Candidate
from burnish.data.records import Table
from burnish.errors import DataError


@dataclass(frozen=True)
class Guess:
    """A format, the column for each standard name, why, and what else it could be (a sentence each)."""

    format: str
    columns: Mapping[str, str]
    why: list[str]
    alternatives: list[str]


def guess(table: Table, *, columns: Mapping[str, str] | None = None) -> Guess:
    """Guess format and columns of a table.

    `columns` are those that the user has named already; a guess has to agree with them. Raises DataError where nothing can be told.
    """
    mapped = {standard: column for standard, column in (columns or {}).items() if standard not in ("group", "slice")}
    looked = {name: look(table, name) for name in table.columns}
    found = [candidate for rule in RULES for candidate in rule(looked)]
    agreeing = [one for one in found if mapped.items() <= one.columns.items()]
    if mapped and not agreeing:
        agreeing = _complete(table.columns, mapped) or [
            replace(one, columns={**{k: c for k, c in one.columns.items() if c not in mapped.values()}, **mapped})
            for one in found
            if mapped.keys() <= FORMATS[one.format].columns.keys()
        ]
    if not agreeing:
        raise _cannot_tell(table, looked)
    best = agreeing[0]
    others = [f"It could also be {_named(one)}." for one in agreeing[1:] if one.format != best.format]
    return Guess(best.format, best.columns, [f"The rows look like {_named(best)}: {best.why}."], list(dict.fromkeys(others)))


def _named(one: Candidate) -> str:
    """Return a candidate in words."""
    return f"{one.format} ({', '.join(f'{standard} = {column!r}' for standard, column in one.columns.items())})"


def _complete(available: tuple[str, ...], mapped: Mapping[str, str]) -> list[Candidate]:
    """Return the formats that are complete with the columns that the user named."""
    found = []
    for name, entry in FORMATS.items():
        if mapped.keys() <= entry.columns.keys():
            with contextlib.suppress(DataError):
                found.append(Candidate(name, resolved(entry, available, mapped, name=name), "as you named the columns"))
    return found


def _cannot_tell(table: Table, looked: Mapping[str, Column]) -> DataError:
    """Return the error that lists the columns and says how to name them."""
    listed = "\n".join(
        f"  - {one.name}: {one.kind}, {one.distinct} different values in {one.rows} rows, such as {str(one.example)[:60]!r}"
        for one in looked.values()
    )
    return DataError(
        f"{table.files[0]}: cannot tell what the rows mean. Set data.format to one of {', '.join(FORMATS)}, and say which column is which, "
        f'such as data.columns = {{ prompt = "…", completion = "…" }}. The columns are:\n{listed}'
    )
