"""JSON Lines and JSON: text in, rows with the line where each begins out.

Called by `sources`. A JSON file may hold an array, an object with one list in it, several named lists, rows by their id, columns,
or the nested form of SQuAD. Duplicate keys, NaN and broken characters are problems of the row that holds them.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from burnish.data.records import Found, Row, column_names

BLANK = " \t\r\n"
ROW_LISTS = frozenset({"messages", "conversations", "chosen", "rejected", "instances", "tokens", "entities", "spans", "paragraphs"})
"""Columns that are lists themselves: an object with one of them is a row, not a wrapper around rows."""

Decode = Callable[[str, int], "Item"]


class Item(NamedTuple):
    """A decoded value, the offsets where it begins and ends, and what was wrong inside it."""

    value: Any
    start: int
    end: int
    complaints: tuple[str, ...] = ()


def read_jsonl(text: str, name: str) -> Found:
    """Read one JSON object (or array of cells) per line; a broken line is a problem, the others are still read."""
    found = Found()
    if _is_one_document(text):
        whole = read_json(text, name)
        whole.warnings.append(f"{name}: holds one JSON document, not one object per line; read as JSON (name it .json)")
        return whole
    decode = _decoder()
    for number, line in enumerate(text.split("\n"), 1):
        start = _skip(line, 0)
        if start == len(line):
            continue
        try:
            item = decode(line, start)
            if _skip(line, item.end) != len(line):
                raise json.JSONDecodeError("more text behind the object", line, item.end)
        except json.JSONDecodeError as error:
            found.problems.append(
                f"{name}:{number}: not valid JSON: {error.msg} at column {error.colno}; write one complete object on each line"
            )
            continue
        _add(found, name, item, number)
    return found


def read_json(text: str, name: str) -> Found:
    """Read a JSON document in any of the shapes that data sets come in (see `_shape`); a syntax error ends the reading."""
    found = Found()
    lines = [offset for offset, letter in enumerate(text) if letter == "\n"]

    def line_of(offset: int) -> int:
        return bisect_right(lines, offset - 1) + 1

    decode = _decoder()
    start = _skip(text, 0)
    opening = text[start : start + 1]
    try:
        if opening == "[":
            items, end = _array(decode, text, start)
            _array_rows(found, name, items, line_of)
        elif opening == "{":
            members, end = _object(decode, text, start)
            _shape(found, name, members, line_of(start), line_of)
        else:
            raise json.JSONDecodeError("expected '[' or '{'", text, start)
        if _skip(text, end) != len(text):
            raise json.JSONDecodeError("more text behind the document", text, end)
    except json.JSONDecodeError as error:
        if opening == "{" and _is_lines(text):
            each = read_jsonl(text, name)
            each.warnings.append(f"{name}: holds one object per line; read as JSON Lines (name it .jsonl)")
            return each
        place = f"{name}:{line_of(error.pos)}"
        return Found(
            problems=[f"{place}: not valid JSON: {error.msg} at column {error.colno}; nothing behind it was read; repair the file"]
        )
    return found


# ------------------------------------------------------------------------------------------------------------------ decoding


def _decoder() -> Decode:
    """Return a function that decodes the value at an offset and says what is wrong inside it."""
    complaints: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            twice = ", ".join(repr(name) for name in made if names.count(name) > 1)
            complaints.append(f"the key {twice} stands twice in one object; keep one of them")
        return made

    def constant(name: str) -> None:
        complaints.append(f"{name} is not a JSON value; write a number or null")

    decoder = json.JSONDecoder(object_pairs_hook=unique, parse_constant=constant)

    def decode(text: str, at: int) -> Item:
        complaints.clear()
        try:
            value, end = decoder.raw_decode(text, at)
        except RecursionError:
            raise json.JSONDecodeError("nested too deeply", text, at) from None
        except json.JSONDecodeError:
            raise
        except ValueError as error:  # a number of more digits than Python converts
            raise json.JSONDecodeError(str(error).split(";")[0], text, at) from None
        if "\\u" in text[at:end] and not _encodable(value):
            complaints.append("half of a surrogate pair (\\ud800 to \\udfff) is not a character; write both halves")
        return Item(value, at, end, tuple(complaints))

    return decode


def _encodable(value: Any) -> bool:
    """Say whether all strings of a decoded value can be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _skip(text: str, at: int) -> int:
    """Return the offset of the next character that is not blank."""
    while at < len(text) and text[at] in BLANK:
        at += 1
    return at


def _array(decode: Decode, text: str, at: int) -> tuple[list[Item], int]:
    """Decode the array whose bracket is at `at`, element by element: the elements, and the offset behind it."""
    items: list[Item] = []
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        return items, at + 1
    while True:
        items.append(decode(text, at))
        at = _skip(text, items[-1].end)
        if text[at : at + 1] == "]":
            return items, at + 1
        if text[at : at + 1] != ",":
            raise json.JSONDecodeError("expected ',' or ']'", text, at)
        at = _skip(text, at + 1)


class Member(NamedTuple):
    """A key of the top object with its value; `items` are the elements where the value is an array."""

    key: str
    item: Item
    items: list[Item] | None


def _object(decode: Decode, text: str, at: int) -> tuple[list[Member], int]:
    """Decode the object whose brace is at `at`, arrays in it element by element: its members, and the offset behind it."""
    members: list[Member] = []
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        return members, at + 1
    while True:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("expected a key in double quotes", text, at)
        key = decode(text, at)
        at = _skip(text, key.end)
        if text[at : at + 1] != ":":
            raise json.JSONDecodeError("expected ':'", text, at)
        at = _skip(text, at + 1)
        if text[at : at + 1] == "[":
            items, end = _array(decode, text, at)
            whole = Item([item.value for item in items], at, end, tuple(note for item in items for note in item.complaints))
            members.append(Member(key.value, whole, items))
        else:
            members.append(Member(key.value, decode(text, at), None))
        at = _skip(text, members[-1].item.end)
        if text[at : at + 1] == "}":
            return members, at + 1
        if text[at : at + 1] != ",":
            raise json.JSONDecodeError("expected ',' or '}'", text, at)
        at = _skip(text, at + 1)


def _is_one_document(text: str) -> bool:
    """Say whether a .jsonl file is in truth one document: an array of objects over lines, or an object spread over lines."""
    first = text.lstrip(BLANK + "\ufeff").split("\n", 1)[0].strip()
    return first in ("[", "{", "[{") or (first.startswith("[{") and not first.endswith("]"))


def _is_lines(text: str) -> bool:
    """Say whether a .json file holds an object on its first line and something on a later one."""
    first, _, rest = text.strip().partition("\n")
    try:
        return bool(rest.strip()) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


# -------------------------------------------------------------------------------------------------------------------- shapes


def _shape(found: Found, name: str, members: list[Member], line: int, line_of: Callable[[int], int]) -> None:
    """Add the rows of a top-level object, by what its values are.

    One list beside plain values ({"data": […]}): the list's elements. Lists only, of objects or arrays: all of them, the key in a
    column `split`. Equally long lists of plain values: columns. Objects only: rows by id, the id in a column `key` (or columns, as
    a data frame writes them). Anything else is a single row.
    """
    keys = [member.key for member in members]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        found.problems.append(f"{name}:{line}: the key {key!r} stands twice in the top object; keep one of them")
    lists = [member for member in members if member.items is not None]
    values = {member.key: member.item.value for member in members}
    row_lists = [member for member in lists if member.items and all(isinstance(x.value, dict | list) for x in member.items)]
    if not ROW_LISTS.isdisjoint(values) or not members:
        return _single(found, name, members, line)
    if len(row_lists) == len(members) > 1:
        for member in row_lists:
            _array_rows(found, name, member.items or [], line_of, split=member.key)
        return None
    if len(row_lists) == 1 and (len(lists) == 1 or row_lists[0].key == "data"):
        return _array_rows(found, name, row_lists[0].items or [], line_of)
    if len(lists) == len(members) and len({len(values[key]) for key in values}) == 1:
        for number in range(len(values[members[0].key])):
            found.rows.append(Row({key: values[key][number] for key in values}, line_of(members[0].items[number].start)))  # type: ignore[index]
        found.problems.extend(f"{name}:{line}: {note}" for member in members for note in member.item.complaints)
        return None
    if len(lists) == len(members) == 1:
        return _array_rows(found, name, lists[0].items or [], line_of)
    if all(isinstance(value, dict) for value in values.values()):
        return _by_key(found, name, members, line_of)
    return _single(found, name, members, line)


def _single(found: Found, name: str, members: list[Member], line: int) -> None:
    """Add the object itself as the only row."""
    found.problems.extend(f"{name}:{line}: {note}" for member in members for note in member.item.complaints)
    if members:
        found.rows.extend(_flat({member.key: member.item.value for member in members}, line))


def _by_key(found: Found, name: str, members: list[Member], line_of: Callable[[int], int]) -> None:
    """Add the rows of an object of objects: rows by their id, or columns of cells by row number."""
    first = members[0].item.value
    numbered = bool(first) and all(key.isdigit() for key in first)
    if numbered and all(member.item.value.keys() == first.keys() for member in members):
        for number in first:
            found.rows.append(Row({member.key: member.item.value[number] for member in members}, section=f"row {number}"))
        found.problems.extend(f"{name}: {note}" for member in members for note in member.item.complaints)
        return
    for member in members:
        row = {"key": member.key, **member.item.value}
        _add(found, name, member.item._replace(value=row), line_of(member.item.start))


def _array_rows(found: Found, name: str, items: list[Item], line_of: Callable[[int], int], *, split: str | None = None) -> None:
    """Add one row per element of an array."""
    for item in items:
        _add(found, name, item, line_of(item.start), split=split)


def _add(found: Found, name: str, item: Item, line: int, *, split: str | None = None) -> None:
    """Add what an element says: an object is a row, an array is cells, a string is a text; anything else is a problem."""
    found.problems.extend(f"{name}:{line}: {note}" for note in item.complaints)
    extra = {} if split is None else {"split": split}
    value = item.value
    if isinstance(value, dict) and value:
        found.rows.extend(row._replace(values={**extra, **row.values}) for row in _flat(value, line))
    elif isinstance(value, list) and value:
        found.rows.append(Row({**dict(zip(column_names(len(value)), value, strict=True)), **extra}, line))
    elif isinstance(value, str):
        found.rows.append(Row({"text": value, **extra}, line))
    else:
        kind = {dict: "an empty object", list: "an empty array", bool: "true or false", type(None): "null"}.get(
            type(value), "a number"
        )
        found.problems.append(f"{name}:{line}: expected an object with named values, found {kind}; remove it")


def _flat(value: Mapping[str, Any], line: int) -> list[Row]:
    """Return the rows of one object: itself, or a row per question where it is an article of SQuAD (paragraphs > qas).

    Names and structure as in Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016.
    """
    paragraphs = value.get("paragraphs")
    if not isinstance(paragraphs, list) or not all(
        isinstance(part, dict) and isinstance(part.get("qas"), list) for part in paragraphs
    ):
        return [Row(dict(value), line)]
    outer = {key: kept for key, kept in value.items() if key != "paragraphs"}
    rows: list[Row] = []
    for part in paragraphs:
        inner = {key: kept for key, kept in part.items() if key != "qas"}
        for number, asked in enumerate(part["qas"], 1):
            row = {**outer, **inner, **(asked if isinstance(asked, dict) else {"question": asked})}
            rows.append(Row(row, line, f"question {row.get('id', number)}"))
    return rows
