"""Reads structure out of an answer's text: JSON, and calls of tools as models write them.

In: any text. Out: plain values, or UNREADABLE. Used by the scores of labels, spans and structured answers. Nothing here raises,
whatever the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from burnish.types import ToolCall

UNREADABLE: Final = object()
"""What `read_json` gives for a text that is not JSON (None is a JSON value)."""

DEEPEST = 64
"""Levels of nesting that are read; more is junk, and would overflow the stack of what walks over it."""

_FENCE = "```"
_CALL, _CALL_END = re.compile(r"<\|?tool_call\|?>"), re.compile(r"<\|?/tool_call\|?>")
"""How models mark a call; the second spelling is that of the bundled models."""


def read_json(text: str, *, fenced: bool = True) -> Any:
    """Return the JSON value that a text is, or UNREADABLE.

    `fenced` also reads it out of one Markdown code fence around the whole text. NaN and infinities are not JSON (RFC 8259).
    """
    body = _unfenced(text) if fenced else text
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return UNREADABLE
    return UNREADABLE if _too_deep(value) else value


def canonical(value: Any, *, collapse: bool = False) -> str:
    """Return one text for all spellings of a JSON value: keys sorted, 1.0 as 1, true not as 1.

    `collapse` also makes every run of space in a string one space.
    """
    return json.dumps(_normal(value, collapse), sort_keys=True)


def read_tool_calls(text: str) -> tuple[ToolCall, ...]:
    """Return the calls of tools that an answer makes, none where it makes none or they cannot be read.

    Read are: blocks between <tool_call> and </tool_call>, also written <|tool_call|>; a text after [TOOL_CALLS] or <|python_tag|>; and an answer
    that is nothing but JSON. Each is one call or a list of calls, {"name": …, "arguments": {…}} or with "parameters", also inside "function" or
    "tool_calls"; arguments may be JSON in a string.
    """
    pieces = _CALL.split(text)
    if len(pieces) > 1:
        bodies = [_CALL_END.split(piece, maxsplit=1)[0] for piece in pieces[1:]]
    else:
        marker = next((marker for marker in ("[TOOL_CALLS]", "<|python_tag|>") if marker in text), None)
        bodies = [text if marker is None else text.split(marker, 1)[1]]
    calls: list[ToolCall] = []
    for body in bodies:
        value = read_json(body)
        found = _calls_of(value)
        if found is None:
            # one broken call makes the whole answer unusable: a program would not run the other half either
            return ()
        calls.extend(found)
    return tuple(calls)


def _calls_of(value: Any) -> list[ToolCall] | None:
    """Return the calls that a JSON value stands for, or None where it is something else."""
    if isinstance(value, Mapping) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    items = value if isinstance(value, list) else [value]
    calls = [_call_of(item) for item in items]
    return [call for call in calls if call is not None] if all(call is not None for call in calls) else None


def _call_of(item: Any) -> ToolCall | None:
    """Return the call that a JSON object stands for, or None."""
    if isinstance(item, Mapping) and isinstance(item.get("function"), Mapping):
        item = item["function"]
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        return None
    arguments = item.get("arguments", item.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = read_json(arguments, fenced=False)
    return ToolCall(item["name"], arguments) if isinstance(arguments, Mapping) else None


def _unfenced(text: str) -> str:
    """Return what stands inside one code fence around the whole text, or the text itself."""
    body = text.strip()
    if not (body.startswith(_FENCE) and body.endswith(_FENCE) and "\n" in body):
        return text
    return body.split("\n", 1)[1][: -len(_FENCE)]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _normal(value: Any, collapse: bool) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _normal(item, collapse) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(item, collapse) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return " ".join(value.split()) if collapse and isinstance(value, str) else value
