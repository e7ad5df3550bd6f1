"""What the tables of a run file have in common: strict, closed, and with the sentence of each field beside it.

Enters and leaves: nothing; `config_schema` and its parts build on these.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


def listed(value: object) -> object:
    """Return a list as the tuple that a strict schema wants inside a table that was a short form; anything else unchanged."""
    return tuple(value) if isinstance(value, list) else value


class Table(BaseModel):
    """What all tables of a run file have: no unknown keys, no silent coercion, no infinities, no change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True, use_attribute_docstrings=True)
