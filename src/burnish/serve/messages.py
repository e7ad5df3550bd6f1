"""Messages of a conversation as clients send them.

Enters: JSON objects in the OpenAI form. Leaves: `Message`s in burnish's own, or an `ApiError` that names the place. Pictures and files are
refused: nothing is fetched from an address in a request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.serve.problems import ApiError, wrong
from burnish.types import Message, Role, ToolCall, content

ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
TAKEN = {
    "system": {"content", "name"},
    "user": {"content", "name"},
    "assistant": {"content", "name", "tool_calls", "refusal", "audio", "function_call", "annotations"},
    "tool": {"content", "tool_call_id", "name"},
}
"""The fields of a message by its role; those that say nothing to a model must be null or a name."""


def to_messages(given: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Return messages; the ApiError (400) of the first that cannot be understood."""
    return tuple(_message(one, f"messages.{number}") for number, one in enumerate(given))


def _message(given: Mapping[str, Any], place: str) -> Message:
    told = given.get("role")
    role = ROLES.get(told) if isinstance(told, str) else None
    if role is None:
        raise wrong(f"{place}.role: expected one of {', '.join(ROLES)}.", param=f"{place}.role")
    unknown = sorted(set(given) - TAKEN[role] - {"role"})
    if unknown:
        raise wrong(f"{place}.{unknown[0][:60]}: a {role} message has no such field here.", param=f"{place}.{unknown[0][:60]}")
    for name in ("refusal", "audio", "function_call"):
        if given.get(name) is not None:
            raise wrong(f"{place}.{name}: only null is taken.", param=f"{place}.{name}")
    calls = _calls(given.get("tool_calls"), f"{place}.tool_calls")
    text = _text(given.get("content"), f"{place}.content", optional=role == "assistant" and bool(calls))
    return Message(role=role, content=content(text), tool_calls=calls)


def _text(given: Any, place: str, *, optional: bool) -> str:
    """Return the text of a message's content: a text, or parts that are texts."""
    if given is None and optional:
        return ""
    if isinstance(given, list):
        return "".join(_part(part, f"{place}.{number}") for number, part in enumerate(given))
    return sayable(given, place)


def sayable(given: Any, place: str) -> str:
    """Return a text; the ApiError of anything else, and of half a surrogate pair."""
    if not isinstance(given, str):
        raise wrong(f"{place}: expected a text.", param=place)
    if any("\ud800" <= letter <= "\udfff" for letter in given):
        raise wrong(f"{place}: holds half a surrogate pair, which is no text.", param=place)
    return given


def _part(given: Any, place: str) -> str:
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind in ("text", "input_text"):
        return sayable(given.get("text"), f"{place}.text")
    if kind in ("image_url", "input_image", "input_audio", "file", "video_url"):
        raise ApiError(400, f"{place}: this server takes text alone, and fetches nothing.", param=place, code="unsupported_content")
    raise wrong(f"{place}.type: expected 'text'.", param=f"{place}.type")


def _calls(given: Any, place: str) -> tuple[ToolCall, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise wrong(f"{place}: expected a list.", param=place)
    found = []
    for number, call in enumerate(given):
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            raise wrong(f"{place}.{number}.function: expected an object with name and arguments.", param=f"{place}.{number}")
        arguments = function.get("arguments", "{}")
        try:
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, Mapping):
            raise wrong(f"{place}.{number}.function.arguments: expected a JSON object in a text.", param=f"{place}.{number}")
        found.append(ToolCall(sayable(function.get("name"), f"{place}.{number}.function.name"), arguments))
    return tuple(found)
