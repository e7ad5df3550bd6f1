"""Reading a run file and the overrides of the command line.

Enters: the path of a TOML file, or texts such as `train.steps=200`. Leaves: a tree of plain values with the line of each, or one
clear error. What the values mean is checked in `config`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish import run_file_lines, run_file_write
from burnish.errors import ConfigError

LARGEST_BYTES = 1_000_000
_POSITION = re.compile(r"\(at line (\d+), column (\d+)\)")
_WORDS = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}


@dataclass(frozen=True, slots=True)
class RunFile:
    """A parsed run file; `lines` maps the path of a key, table or list element to its first line."""

    path: Path
    tree: dict[str, Any]
    lines: Mapping[run_file_lines.Path, int] = field(default_factory=dict)

    def line(self, path: run_file_lines.Path) -> int | None:
        """Return the line of a path, or of the nearest thing around it."""
        for depth in range(len(path), 0, -1):
            if path[:depth] in self.lines:
                return self.lines[path[:depth]]
        return None


@dataclass(frozen=True, slots=True)
class Override:
    """One `key=value` of the command line; `raw` is the value as it was typed."""

    path: tuple[str, ...]
    value: Any
    raw: str


def read(path: Path) -> RunFile:
    """Read a run file. Raises ConfigError where it is missing, too large, not text or not TOML, with the line and a hint."""
    text = _text(path)
    try:
        tree = tomllib.loads(text)
        lines = run_file_lines.line_index(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_message(path, text, str(error))) from None
    except RecursionError:
        raise ConfigError(f"{path}: lists or tables are nested too deeply for a run file") from None
    return RunFile(path, tree, lines)


def _text(path: Path) -> str:
    if path.is_dir():
        inside = sorted(item.name for item in path.glob("*.toml"))
        hint = f" Did you mean {str(path / inside[0])!r}?" if inside else " No run file (.toml) is in it."
        raise ConfigError(f"{path} is a folder; a run file was expected.{hint}")
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise ConfigError(
                f"{path} has {size:,} bytes; a run file has at most {LARGEST_BYTES:,}. Is this a file of data? "
                f"Then name it in a run file: data = {run_file_write.text_literal(path.name)}"
            )
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"no run file {str(path)!r}.{_near_files(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: byte {error.start} is not valid UTF-8; save the file as UTF-8 text") from None


def _near_files(path: Path) -> str:
    """Return a sentence that names run files near a path that does not exist."""
    import difflib

    folder = path.parent
    if not folder.is_dir():
        return f" There is no folder {str(folder)!r} either."
    found = {str(item): item for item in sorted([*folder.glob("*.toml"), *folder.glob("*/*.toml")])[:200]}
    near = difflib.get_close_matches(str(path), found, n=3, cutoff=0.6) or list(found)[:3]
    if not near:
        return " No run file (.toml) is near; `burnish init USECASE DIR` makes one."
    return " Did you mean " + " or ".join(repr(item) for item in near) + "?"


def _syntax_message(path: Path, text: str, message: str) -> str:
    """Return what the parser said, with its place, the line itself and a way to repair it."""
    twice = run_file_lines.duplicate(text)
    if twice is not None:
        name, first, second = twice
        shown = run_file_write.dotted(name)
        return f"{path}:{second}: {shown!r} is defined twice, first on line {first}; keep one of the two"
    found = _POSITION.search(message)
    rows = text.splitlines() or [""]
    number = min(int(found[1]), len(rows)) if found else len(rows)
    said = _POSITION.sub("", message).replace("(at end of document)", "").strip()
    row = rows[number - 1].strip()
    hint = _hint(row, said, text)
    return f"{path}:{number}: not valid TOML: {said}" + (f"\n    {row}" if row else "") + (f"\n  {hint}" if hint else "")


def _hint(row: str, said: str, text: str) -> str:
    """Return how a line that is not TOML is probably meant, or an empty text."""
    if text.lstrip().startswith("{"):
        return "This looks like JSON. A run file is TOML: [table] lines and key = value."
    if any(mark in row for mark in "“”„‘’"):
        return "Write straight quotes: \" or '."
    if row.startswith("["):
        return "A table is written [name], a list of tables [[name]], alone on its line."
    key, equals, value = (part.strip() for part in row.partition("="))
    if not equals:
        yaml = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*:\s*(.*)", row)
        return f"Write {yaml[1]} = {yaml[2] or '...'}" if yaml else "Every line is key = value or [table]; texts stand in quotes."
    if not re.fullmatch(r"""[A-Za-z0-9_.\s-]+|.*["'].*""", key) or (" " in key and "." not in key and '"' not in key):
        return f'Quote a key with unusual characters: "{key}" = {value}'
    return _value_hint(key, value, said)


def _value_hint(key: str, value: str, said: str) -> str:
    """Return how the right-hand side of a line that is not TOML is probably meant, or an empty text."""
    bare = value.split("#")[0].strip()
    number = re.fullmatch(r"([+-]?)(\d*)\.(\d*)((?:[eE][+-]?\d+)?)", bare)
    if number and (number[2] or number[3]):
        return f"Write {key} = {number[1]}{number[2] or 0}.{number[3] or 0}{number[4]} (a digit on both sides of the point)."
    if re.fullmatch(r"[+-]?0\d+(\.\d+)?", bare):
        return f"Write {key} = {bare.lstrip('+-0') or 0} (no leading zeros), or quote it if it is text."
    if not bare:
        return f"A value is missing; leave the line out to keep the default of {key}."
    if bare.lower() in ("none", "null", "nil"):
        return f"TOML has no empty value; leave the line out to keep the default of {key}."
    if bare.lower() in _WORDS:
        return f"Write {key} = {_WORDS[bare.lower()]}"
    if "\\" in value:
        return f"A backslash begins an escape inside \"...\"; write single quotes: {key} = 'C:\\folder\\file', or use /."
    if value[0] in "\"'":
        quote = value[0]
        return f"The text that begins with {quote} does not end with {quote} on this line, or something follows it."
    if value[0] == "{":
        return 'An inline table stands on one line, without a comma at its end: {name = "sft", beta = 0.1}.'
    if value[0] == "[":
        return 'Elements of a list are divided by commas, and texts stand in quotes: ["a", "b"].'
    if re.match(r"[^\W\d_]|[./~_]", bare):
        return f"Text stands in quotes: {key} = {run_file_write.text_literal(bare)}"
    return "One key = value per line; texts stand in quotes." if "newline" in said else ""


def parse_override(text: str) -> Override:
    """Return the override in `a.b=value`, its value read as TOML and else as text. Raises ConfigError without a key or `=`."""
    name = text.partition("=")[0].strip()
    if not name or "=" not in text:
        raise ConfigError(f"command line: {text!r}: an override is KEY=VALUE, such as train.steps=200")
    if name.startswith("-"):
        raise ConfigError(f"command line: {text!r}: an override has no dashes before it; write {text.strip().lstrip('-')}")
    try:
        path, raw = run_file_lines.split_pair(text)
    except ValueError:
        raise ConfigError(f"command line: {text!r}: {name!r} is not a key of a run file, such as train.steps") from None
    return Override(path, _value(raw), raw)


def _value(raw: str) -> Any:
    try:
        # Inside a list nothing can follow the value unnoticed: neither a comment nor a second key.
        values = tomllib.loads(f"value = [{raw}]")
    except (tomllib.TOMLDecodeError, RecursionError):
        return raw
    if list(values) != ["value"] or len(values["value"]) != 1 or "\n" in raw:
        return raw
    return values["value"][0]
