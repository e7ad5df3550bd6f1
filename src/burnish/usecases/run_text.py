"""The text of a run file, written for a person: tables, values, a comment behind those that need one.

Enters: a run as nested tables with notes. Leaves: TOML that the standard parser reads back as the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.run_file_write import comment, key_literal, value_literal


def run_text(
    run: Mapping[str, Any],
    *,
    head: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
    unset: Sequence[tuple[str, Any, str]] = (),
) -> str:
    """Return a run as TOML.

    `head` are lines of comment at the top; `notes` explain values or tables by dotted name; `unset` are (dotted name, value, sentence)
    of values that stand there as comments, in the table they belong to. A table that holds nothing but such values is written too.
    """
    lines = [comment(part).rstrip() for text in head for part in text.split("\n")]
    tables: dict[str, list[str]] = {"": []}
    _fill(tables, "", run, notes or {})
    for name, value, sentence in unset:
        table, _, key = name.rpartition(".")
        tables.setdefault(table, []).append(f"# {key_literal(key)} = {value_literal(value)}  {comment(sentence)}")
    for table, inside in tables.items():
        title = [f"[{table}]" + _note(notes or {}, table)] if table else []
        lines += ["", *title, *inside]
    return "\n".join(lines).strip("\n") + "\n"


def _fill(tables: dict[str, list[str]], table: str, values: Mapping[str, Any], notes: Mapping[str, str]) -> None:
    """Add the lines of a table, and those of the tables inside it after it."""
    inside = tables.setdefault(table, [])
    for key, value in values.items():
        name = f"{table}.{key}" if table else key
        if isinstance(value, Mapping):
            continue
        inside.append(f"{key_literal(key)} = {value_literal(value)}{_note(notes, name)}")
    for key, value in values.items():
        if isinstance(value, Mapping):
            _fill(tables, f"{table}.{key_literal(key)}" if table else key_literal(key), value, notes)


def _note(notes: Mapping[str, str], name: str) -> str:
    """Return the comment behind a value, or nothing."""
    return f"  {comment(notes[name])}" if name in notes else ""
