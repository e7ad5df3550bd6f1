"""Writing TOML, which the standard library only reads.

Enters: plain values (text, numbers, booleans, lists, tables) and dotted paths. Leaves: text that the standard parser reads back as
the same values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from burnish.errors import ConfigError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_WIDTH = 100


def text_literal(text: str) -> str:
    """Return a text as a TOML string on one line. Raises ConfigError for characters that are no text (lone surrogates)."""
    pieces = []
    for character in text:
        code = ord(character)
        if character in _SHORT:
            pieces.append(_SHORT[character])
        elif code < 0x20 or 0x7F <= code < 0xA0 or code in (0x2028, 0x2029, 0xFEFF):
            pieces.append(f"\\u{code:04x}")
        elif 0xD800 <= code < 0xE000:
            raise ConfigError(f"the text {text!r} cannot be written: it holds bytes that are not valid UTF-8")
        else:
            pieces.append(character)
    return '"' + "".join(pieces) + '"'


def key_literal(key: str) -> str:
    """Return a key, quoted where it has to be."""
    return key if _BARE.fullmatch(key) else text_literal(key)


def dotted(path: Iterable[str | int]) -> str:
    """Return a path as the name a user writes: `data.columns."my column"`."""
    return ".".join(key_literal(part) if isinstance(part, str) else str(part) for part in path)


def value_literal(value: object, *, wide: bool = False) -> str:
    """Return a value in TOML; `wide` allows a list of tables, or a long list, to take a line per element.

    Raises ConfigError for what TOML has no form for, such as None inside a list.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return text_literal(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key_literal(str(key))} = {value_literal(item)}" for key, item in value.items() if item is not None)
        return "{" + inner + "}"
    if isinstance(value, Sequence):
        items = [value_literal(item) for item in value]
        if wide and (any(isinstance(item, Mapping) for item in value) or sum(map(len, items)) > _WIDTH):
            return "[\n" + "".join(f"  {item},\n" for item in items) + "]"
        return "[" + ", ".join(items) + "]"
    raise ConfigError(f"{value!r} cannot be written to a run file: TOML knows text, numbers, true and false, lists and tables")


def _number(value: float) -> str:
    shown = repr(value)
    if "e" in shown and "." not in shown:
        # Python writes 1e-05; a digit after the point keeps it a float for every reader of TOML.
        return shown.replace("e", ".0e")
    return shown


def comment(text: str) -> str:
    """Return a comment, with characters that TOML forbids there made visible."""
    return "# " + "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
