"""Cells by column: a value as it stands, or a template that joins several; and the user's own name of a column in messages.

A row's values and a column in, a value out. Called by `formats`, which decides which column stands for which standard name.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any

from burnish.errors import ConfigError


def cell_of(values: Mapping[str, Any], column: str) -> Any:
    """Return the value of a column, or a template filled with several."""
    if column in values or "{" not in column:
        return values.get(column)
    cells = {name: "" if values.get(name) is None else values[name] for name in template_names(column)}
    return column.format_map(cells) if any(str(cell).strip() for cell in cells.values()) else None


def template_names(template: str) -> list[str]:
    """Return the columns that a template names; raises ConfigError where it is no template."""
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"data.columns: {template!r} is not a template ({error}); write {{column}}, and double other braces"
        ) from None
    names = [name for _, name, _, _ in fields if name is not None]
    if any(
        not re.fullmatch(r"[^.\[\]{}]+", name) or form or conversion for _, name, form, conversion in fields if name is not None
    ):
        raise ConfigError(f"data.columns: {template!r}: expected only names of columns in braces")
    return names


def with_column(problem: str, chosen: Mapping[str, str]) -> str:
    """Return a problem with the user's own name of the column that it begins with."""
    standard = re.match(r"\w*", problem)[0]  # type: ignore[index]
    column = chosen.get(standard, standard)
    return problem if column == standard or "{" in column else f"{standard} (column {column!r}){problem[len(standard) :]}"
