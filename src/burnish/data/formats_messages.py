"""Messages as users write them in, `Message` tuples out: roles, text parts, tool calls and weights, checked one by one.

Used by the formats that hold dialogs. Shapes accepted: the `messages` of OpenAI's files and of TRL, the `conversations` of ShareGPT.
Problems are appended to a list, so that a row names all of them at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.errors import suggestion
from burnish.types import ROLES, Content, Message, TextPart, ToolCall, content, plain

ROLE_NAMES = {"developer": "system", "function": "tool"}
"""Further role names of OpenAI's files, and the role that each one is."""
SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
    "function_response": "tool",
}
"""Who speaks in ShareGPT (`from`), and the role that is."""
REASONING = ("thinking", "reasoning_content", "reasoning")
TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):")


def message_list(value: Any, where: str, problems: list[str]) -> list[Any]:
    """Return a list of messages, also from JSON text in a cell; anything else is a problem."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = decoded(value, where, problems)
    if not isinstance(value, list | tuple) or not value:
        problems.append(f"{where}: expected a list of messages, found {shown(value)}")
        return []
    return list(value)


def read_messages(value: Any, where: str, problems: list[str], *, sharegpt: bool = False) -> tuple[Message, ...]:
    """Return messages (of OpenAI, TRL or ShareGPT), each problem with the place of its message."""
    made: list[Message] = []
    for number, item in enumerate(message_list(value, where, problems), 1):
        place = f"{where}[{number}]"
        if not isinstance(item, Mapping):
            problems.append(f"{place}: expected a message with role and content, found {shown(item)}")
            continue
        message = _turn(item, place, problems) if sharegpt else _message(item, place, problems)
        if message is not None:
            made.append(message)
    return tuple(made)


def _message(item: Mapping[str, Any], place: str, problems: list[str]) -> Message | None:
    """Return one message of OpenAI's form."""
    role = item.get("role")
    role = ROLE_NAMES.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        hint = suggestion(str(role), ROLES)
        if "from" in item or str(role) in SPEAKERS:
            hint = " This looks like ShareGPT: set data.format = 'sharegpt' (from, value), or rename the roles."
        problems.append(f"{place}: role {shown(role)} is not one of {', '.join(ROLES)}.{hint}")
        return None
    for name in REASONING:
        if item.get(name):
            problems.append(f"{place}: {name!r} is not learned from; take it out, or put it into content")
    calls = _tool_calls(item, place, problems)
    if calls and role != "assistant":
        problems.append(f"{place}: only the assistant calls tools, found tool_calls with role {role!r}")
    parts = read_content(item.get("content"), place, problems, optional=bool(calls), keys=tuple(item))
    return Message(role, parts, calls, _weight(item, role, place, problems))  # type: ignore[arg-type]


def _turn(item: Mapping[str, Any], place: str, problems: list[str]) -> Message | None:
    """Return one turn of ShareGPT (`from`, `value`)."""
    speaker = item.get("from", item.get("role"))
    role = SPEAKERS.get(str(speaker).lower())
    if role is None:
        problems.append(f"{place}: from {shown(speaker)} is not one of {', '.join(SPEAKERS)}.{suggestion(str(speaker), SPEAKERS)}")
        return None
    value = item.get("value", item.get("content"))
    weight = _weight(item, role, place, problems)
    if speaker == "function_call":
        call = decoded(value, place, problems) if isinstance(value, str) else value
        calls = [made for one in (call if isinstance(call, list) else [call]) if (made := _tool_call(one, place, problems))]
        return Message("assistant", (), tuple(calls), weight)
    return Message(role, read_content(value, place, problems, keys=tuple(item)), (), weight)  # type: ignore[arg-type]


def read_content(value: Any, place: str, problems: list[str], *, optional: bool = False, keys: Sequence[str] = ()) -> Content:
    """Return content from a text or a list of text parts; empty content is a problem unless `optional`."""
    if value is None or value == "" or value == []:
        if not optional:
            near = suggestion("content", [key for key in keys if key not in ("role", "from")]) if value is None else ""
            problems.append(f"{place}: content is {'missing' if value is None else 'empty'}; expected text.{near}")
        return ()
    if isinstance(value, str):
        if not value.strip() and not optional:
            problems.append(f"{place}: content is blank; expected text")
        return content(value)
    if not isinstance(value, list | tuple):
        problems.append(
            f"{place}: content is {shown(value)}; expected text, or a list of parts such as {{'type': 'text', 'text': …}}"
        )
        return ()
    parts: list[TextPart] = []
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else None
        text = part.get("text") if isinstance(part, Mapping) else part
        if kind in ("image", "image_url", "input_image"):
            problems.append(
                f"{place}: holds a picture; only text is learned from so far: take such rows out, or their picture parts"
            )
        elif kind in ("text", "input_text", "output_text", None) and isinstance(text, str):
            parts.append(TextPart(text))
        else:
            problems.append(f"{place}: a part of content is {shown(part)}; expected {{'type': 'text', 'text': …}}")
    if parts and not optional and not plain(tuple(parts)).strip():
        problems.append(f"{place}: content is blank; expected text")
    return tuple(parts)


def _weight(item: Mapping[str, Any], role: str, place: str, problems: list[str]) -> float | None:
    """Return a message's weight: 0 or 1 on an assistant's message (OpenAI's fine-tuning files), None where it has none."""
    weight = item.get("weight")
    if weight is None:
        return None
    if role != "assistant":
        problems.append(f"{place}: weight stands on a {role} message; only the assistant's messages are learned: take it off")
    elif weight not in (0, 1):
        problems.append(f"{place}: weight is {shown(weight)}; expected 0 (not learned) or 1 (learned)")
    return float(weight) if weight in (0, 1) else None


def _tool_calls(item: Mapping[str, Any], place: str, problems: list[str]) -> tuple[ToolCall, ...]:
    """Return the tool calls of a message, also from the older `function_call`."""
    calls = item.get("tool_calls")
    if calls is None and item.get("function_call") is not None:
        calls = [item["function_call"]]
    if calls is None:
        return ()
    if isinstance(calls, str):
        calls = decoded(calls, f"{place}.tool_calls", problems)
    if not isinstance(calls, list | tuple):
        problems.append(f"{place}: tool_calls is {shown(calls)}; expected a list")
        return ()
    return tuple(made for call in calls if (made := _tool_call(call, place, problems)) is not None)


def _tool_call(call: Any, place: str, problems: list[str]) -> ToolCall | None:
    """Return one tool call from {'function': {'name', 'arguments'}} or {'name', 'arguments'}; arguments as object or JSON text."""
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
        problems.append(f"{place}: a tool call is {shown(call)}; expected {{'function': {{'name': …, 'arguments': …}}}}")
        return None
    arguments = inner.get("arguments")
    arguments = {} if arguments is None or arguments == "" else arguments
    if isinstance(arguments, str):
        arguments = decoded(arguments, f"{place}: arguments of {inner['name']}", problems)
    if not isinstance(arguments, Mapping):
        if arguments is not None:
            problems.append(f"{place}: arguments of {inner['name']} are {shown(arguments)}; expected a JSON object")
        return None
    return ToolCall(inner["name"], dict(arguments))


def read_tools(value: Any, problems: list[str]) -> tuple[Mapping[str, Any], ...]:
    """Return the tools offered to the model: JSON schemas as objects or as JSON text."""
    if isinstance(value, str) and value.strip():
        value = decoded(value, "tools", problems)
    if value is None or value == "" or value == []:
        return ()
    if not isinstance(value, list | tuple):
        problems.append(f"tools: expected a list of JSON schemas, found {shown(value)}")
        return ()
    for number, tool in enumerate(value, 1):
        inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            problems.append(f"tools[{number}]: expected an object with 'function' and its 'name', found {shown(tool)}")
    return tuple(value)


def check_order(messages: Sequence[Message], where: str, problems: list[str], *, end: str | None = "assistant") -> None:
    """Add what is wrong with the order of roles: system first and once, tool answers behind a call, `end` last."""
    roles = [message.role for message in messages]
    if "system" in roles[1:]:
        problems.append(f"{where}[{roles.index('system', 1) + 1}]: a system message stands behind others; put one, at the start")
    for number, role in enumerate(roles, 1):
        before = messages[number - 2] if number > 1 else None
        if role == "tool" and not (before is not None and (before.role == "tool" or before.tool_calls)):
            problems.append(f"{where}[{number}]: a tool message does not follow a tool call of the assistant")
    if roles and end is not None and roles[-1] != end:
        problems.append(f"{where}: the last message is the {roles[-1]}'s; expected the {end}'s")
    if (
        end == "assistant"
        and messages
        and not any(m.role == "assistant" and m.weight != 0 for m in messages)
        and "assistant" in roles
    ):
        problems.append(
            f"{where}: every assistant message has weight 0, so the row trains on nothing; set one to 1 or take the row out"
        )


def transcript(text: str, where: str, problems: list[str]) -> tuple[Message, ...]:
    """Return the messages of a transcript with turns 'Human:' and 'Assistant:' (the form of HH-RLHF, Bai et al. 2022)."""
    pieces = TRANSCRIPT.split(text if text.startswith("\n\n") else f"\n\n{text.lstrip()}")
    if pieces[0].strip():
        problems.append(f"{where}: text stands before the first 'Human:' turn")
    made: list[Message] = []
    for number, (speaker, words) in enumerate(zip(pieces[1::2], pieces[2::2], strict=True), 1):
        if not words.strip():
            problems.append(f"{where}: turn {number} ({speaker}) is empty; expected text")
        made.append(Message("user" if speaker == "Human" else "assistant", content(words.strip())))
    return tuple(made)


def is_transcript(value: Any) -> bool:
    """Say whether a text is a transcript of Human and Assistant turns."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def decoded(text: str, place: str, problems: list[str]) -> Any:
    """Return the value of JSON text in a cell; None and a problem where it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"{place}: not valid JSON ({error})")
        return None


def shown(value: Any) -> str:
    """Return a value for a message, cut to a readable length."""
    if value is None:
        return "missing"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
