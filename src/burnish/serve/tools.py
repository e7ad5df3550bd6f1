"""Calls of tools: which form a model's chat template gives them, how an answer is held to it, and how calls are read out of answers.

Enters: a tokenizer with its template, tools as clients describe them, and the tokens of an answer. Leaves: the marks around a call, a grammar
for an answer that must be one, and calls in the shape that clients read.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from burnish.data.template import render_dialog, render_prompt
from burnish.errors import DataError
from burnish.sampling.form import calls_grammar
from burnish.scores.reading import read_tool_calls
from burnish.serve.messages import sayable
from burnish.serve.problems import ApiError, wrong
from burnish.types import Dialog, Message, Origin, ToolCall, content

MARKS = ("<tool_call>", "<|tool_call|>", "[TOOL_CALLS]", "<|python_tag|>")
"""What well-known templates put before a call."""
PROBE = {
    "type": "function",
    "function": {"name": "probe_name", "description": "", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a template writes a call: marks before and after it, the name of the arguments' field, and whether the marks are single tokens."""

    before: str
    after: str
    arguments: str
    special: bool


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of a request, and whether one must be called: `must` None leaves it to the model, "" is any of them, else a name."""

    given: tuple[Mapping[str, Any], ...]
    must: str | None
    several: bool


def to_tools(given: Sequence[Mapping[str, Any]] | None, choice: Any, *, several: bool, limit: int, size: int) -> Tools | None:
    """Return the tools of a request, None where none may be called; the ApiError (400) of what cannot be understood."""
    if not given:
        if choice not in (None, "none", "auto"):
            raise wrong("tool_choice: there are no tools to choose from.", param="tool_choice")
        return None
    if len(given) > limit:
        raise wrong(f"tools: {len(given)} tools, and {limit} are taken.", param="tools")
    if len(json.dumps(given)) > size:
        raise wrong(f"tools: their description is longer than {size:,} bytes.", param="tools")
    names = [_name(tool, f"tools.{number}") for number, tool in enumerate(given)]
    if len(set(names)) < len(names):
        raise wrong("tools: two of them have the same name.", param="tools")
    must = (
        {"required": "", "auto": None, "none": None, None: None}.get(choice)
        if not isinstance(choice, dict)
        else _chosen(choice, names)
    )
    return None if choice == "none" else Tools(tuple(given), must, several)


def _name(tool: Mapping[str, Any], place: str) -> str:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, Mapping):
        raise wrong(f"{place}: expected {{'type': 'function', 'function': {{'name', 'parameters'}}}}.", param=place)
    if not isinstance(function.get("parameters", {}), Mapping):
        raise wrong(f"{place}.function.parameters: expected a JSON Schema.", param=place)
    return sayable(function.get("name"), f"{place}.function.name")


def _chosen(choice: Mapping[str, Any], names: Sequence[str]) -> str:
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or name not in names:
        raise wrong("tool_choice: expected none, auto, required, or the name of one of the tools.", param="tool_choice")
    return name


# ---------------------------------------------------------------------------------------------------------------------- the template


def call_form(tokenizer: Any) -> CallForm:
    """Return how a model's template writes calls; the ApiError (400) where it shows the model neither tools nor calls."""
    return _call_form(tokenizer, str(tokenizer.chat_template))


@lru_cache(maxsize=64)
def _call_form(tokenizer: Any, template: str) -> CallForm:
    refused = ApiError(
        400, "This model's chat template knows no tools, so it would not see them.", param="tools", code="tools_not_supported"
    )
    asked = Message(role="user", content=content("x"))
    call = Message(role="assistant", content=content(""), tool_calls=(ToolCall("probe_name", {"probe_key": 1}),))
    try:
        if "probe_name" not in render_prompt(tokenizer, [asked], [PROBE]):
            raise refused
        rendered = render_dialog(tokenizer, Dialog(messages=(asked, call), tools=(PROBE,), origin=Origin("probe")), [0.0, 1.0])
    except DataError:
        raise refused from None
    text = "".join(segment.text for segment in rendered[-1].segments if segment.weight)
    found = _object_around(text, text.find("probe_key"))
    if found is None:
        raise refused
    start, end, arguments = found
    before, after = text[:start].strip(), text[end:]
    for token in [tokenizer.eos_token, "<|im_end|>", "<|eot_id|>", "<|end|>", "<|eom_id|>"]:
        after = after.split(token)[0] if token else after
    special = bool(before) and all(_is_token(tokenizer, mark) for mark in (before, after.strip()) if mark)
    return CallForm(before if special else text[:start].lstrip(), after.strip() if special else after.rstrip(), arguments, special)


def _is_token(tokenizer: Any, mark: str) -> bool:
    number = tokenizer.convert_tokens_to_ids(mark)
    return number is not None and tokenizer.convert_ids_to_tokens(number) == mark and number in tokenizer.added_tokens_decoder


def _object_around(text: str, place: int) -> tuple[int, int, str] | None:
    """Return where the JSON object of a call starts and ends, and the field of its arguments; None where there is no such object."""
    decoder = json.JSONDecoder()
    for start in [number for number, letter in enumerate(text[: max(place, 0)]) if letter == "{"]:
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            continue
        fields = [key for key, inner in value.items() if isinstance(inner, dict)] if isinstance(value, dict) else []
        if value.get("name") == "probe_name" and fields:
            return start, end, fields[0]
    return None


def must_call(form: CallForm, tools: Tools) -> str:
    """Return the grammar of an answer that calls one of the tools that may be."""
    choices = []
    for tool in tools.given:
        function = tool["function"]
        if tools.must in ("", function["name"]):
            parameters = function.get("parameters") or {"type": "object", "properties": {}}
            fields = {"name": {"const": function["name"]}, form.arguments: parameters}
            choices.append({"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False})
    return calls_grammar(form.before, form.after, choices[0] if len(choices) == 1 else {"anyOf": choices}, special=form.special)


# ----------------------------------------------------------------------------------------------------------------------- the answer


def read_calls(tokenizer: Any, tokens: np.ndarray, tools: Tools) -> tuple[str, list[dict[str, Any]]]:
    """Return what an answer says beside its calls, and the calls; none where it makes none of these tools or they cannot be read."""
    text = tokenizer.backend_tokenizer.decode(tokens.tolist(), skip_special_tokens=False)
    for special, plain in (("<|tool_call|>", "<tool_call>"), ("<|/tool_call|>", "</tool_call>")):
        text = text.replace(special, plain)
    names = {tool["function"]["name"] for tool in tools.given}
    calls = [call for call in read_tool_calls(text) if call.name in names]
    if not calls:
        return "", []
    said = min((text.find(mark) for mark in MARKS if mark in text), default=0)
    shown = calls if tools.several else calls[:1]
    return text[:said].strip(), [
        {
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)},
        }
        for call in shown
    ]


def may_begin_call(tokenizer: Any, text: str, token: int) -> bool:
    """Return whether an answer so far may be, or hold, a call: then the rest of it is not shown before it is complete."""
    if tokenizer.convert_ids_to_tokens(token) in MARKS or text.lstrip()[:1] in ("{", "["):
        return True
    return any(text.rstrip().endswith(mark[:size]) for mark in MARKS for size in range(1, len(mark) + 1)) or any(
        mark in text for mark in MARKS
    )
