"""Where each key of a TOML text stands, which the standard parser does not tell.

Enters: the text of a run file that is sound TOML, or that breaks only the rule against defining a thing twice. Leaves: the line of
every key, table and list element, for messages such as `run.toml:12`; and the two lines of a duplicate.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'
    r"|'''(?:[^']|'(?!''))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\r\n]+")


@dataclass(frozen=True, slots=True)
class Definition:
    """A place where a key is defined: by a value, by a [header], as an element of a list, or on the way to a longer key.

    `given` leading parts of the path are set by what encloses the definition; only the others are named by it.
    """

    path: Path
    line: int
    kind: Literal["value", "header", "element", "passed"]
    given: int


@dataclass(slots=True)
class _Cursor:
    """A position in the text; moves forward only."""

    text: str
    starts: list[int]
    at: int = 0

    def skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()

    def take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"line {self.line}")
        self.at = found.end()
        return found[0]

    def peek(self, what: str) -> bool:
        return self.text.startswith(what, self.at)

    def expect(self, what: str) -> None:
        if not self.peek(what):
            raise ValueError(f"line {self.line}: {what} expected")
        self.at += len(what)

    @property
    def line(self) -> int:
        return bisect_right(self.starts, self.at)


def definitions(text: str) -> Iterator[Definition]:
    """Yield every definition in the order of the text. Raises ValueError where the text is not TOML."""
    cursor = _Cursor(text, [0, *(found.end() for found in re.finditer("\n", text))])
    table: Path = ()
    tables: dict[Path, int] = {}
    """Lists made by [[headers]], with the index of their last element."""
    cursor.skip(_BLANK)
    while cursor.at < len(text):
        if cursor.peek("["):
            double = cursor.peek("[[")
            line = cursor.line
            cursor.expect("[[" if double else "[")
            keys = _keys(cursor)
            cursor.expect("]]" if double else "]")
            table = _header_path(keys, tables)
            if double:
                yield Definition(table, line, "passed", 0)
                tables[table] = tables.get(table, -1) + 1
                table = (*table, tables[table])
            yield Definition(table, line, "element" if double else "header", 0)
        else:
            yield from _pair(cursor, table)
        cursor.skip(_BLANK)


def _header_path(keys: list[str], tables: dict[Path, int]) -> Path:
    """Return the path of a header, going through the last element of each list of tables on the way."""
    path: Path = ()
    for place, key in enumerate(keys):
        path = (*path, key)
        if path in tables and place < len(keys) - 1:
            path = (*path, tables[path])
    return path


def _keys(cursor: _Cursor) -> list[str]:
    """Return the parts of a dotted key."""
    keys = []
    while True:
        cursor.skip(_SPACE)
        part = cursor.take(_KEY)
        keys.append(tomllib.loads(f"key = {part}")["key"] if part[0] in "\"'" else part)
        cursor.skip(_SPACE)
        if not cursor.peek("."):
            return keys
        cursor.expect(".")


def split_pair(text: str) -> tuple[tuple[str, ...], str]:
    """Return the parts of the dotted key before `=`, and what stands after it. Raises ValueError where it is not key = value."""
    cursor = _Cursor(text, [0])
    keys = _keys(cursor)
    cursor.expect("=")
    return tuple(keys), text[cursor.at :]


def _pair(cursor: _Cursor, table: Path) -> Iterator[Definition]:
    line = cursor.line
    keys = _keys(cursor)
    path = (*table, *keys)
    for depth in range(1, len(keys)):
        yield Definition((*table, *keys[:depth]), line, "passed", len(table))
    yield Definition(path, line, "value", len(table))
    cursor.expect("=")
    cursor.skip(_SPACE)
    yield from _value(cursor, path)


def _value(cursor: _Cursor, path: Path) -> Iterator[Definition]:
    if cursor.peek("["):
        cursor.expect("[")
        yield from _elements(cursor, path)
    elif cursor.peek("{"):
        cursor.expect("{")
        cursor.skip(_BLANK)
        while not cursor.peek("}"):
            yield from _pair(cursor, path)
            cursor.skip(_BLANK)
            if not cursor.peek("}"):
                cursor.expect(",")
                cursor.skip(_BLANK)
        cursor.expect("}")
    elif cursor.peek('"') or cursor.peek("'"):
        cursor.take(_STRING)
    else:
        cursor.take(_SCALAR)


def _elements(cursor: _Cursor, path: Path) -> Iterator[Definition]:
    index = 0
    cursor.skip(_BLANK)
    while not cursor.peek("]"):
        yield Definition((*path, index), cursor.line, "element", len(path))
        yield from _value(cursor, (*path, index))
        index += 1
        cursor.skip(_BLANK)
        if not cursor.peek("]"):
            cursor.expect(",")
            cursor.skip(_BLANK)
    cursor.expect("]")


def line_index(text: str) -> dict[Path, int]:
    """Return the first line of every key, table and list element of a sound TOML text."""
    lines: dict[Path, int] = {}
    for item in definitions(text):
        for depth in range(1, len(item.path) + 1):
            lines.setdefault(item.path[:depth], item.line)
    return lines


def duplicate(text: str) -> tuple[Path, int, int] | None:
    """Return what is defined twice and both lines, or None where nothing is or the text cannot be followed that far."""
    seen: dict[Path, Definition] = {}
    try:
        for item in definitions(text):
            for depth in range(item.given + 1, len(item.path)):
                above = seen.get(item.path[:depth])
                if above is not None and above.kind == "value":
                    return above.path, above.line, item.line
            before = seen.get(item.path)
            if before is not None and not before.kind == item.kind == "passed":
                return item.path, before.line, item.line
            seen.setdefault(item.path, item)
    except ValueError:
        return None
    return None
