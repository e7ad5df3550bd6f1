"""The formats that say which answer is better: pairs of a chosen and a rejected answer, and answers with a rating.

A row's values under their standard names in, a `Pair` or `Rated` out. Column names are those of TRL (preference and unpaired
preference) and OpenAI's preference files; transcripts are those of HH-RLHF.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from burnish.data.formats_dialog import answer_messages, optional_text, prompt_messages, raise_all, required_text, with_input
from burnish.data.formats_messages import check_order, is_transcript, read_messages, read_tools, shown, transcript
from burnish.types import Message, Origin, Pair, Rated, content

Values = Mapping[str, Any]
Messages = tuple[Message, ...]
UP = {"true", "1", "yes", "up", "good", "thumbs_up", "like"}
DOWN = {"false", "0", "no", "down", "bad", "thumbs_down", "dislike"}


def pairs(values: Values, origin: Origin) -> Pair:
    """A prompt with a chosen and a rejected answer, as texts or messages.

    The prompt may be left out where both answers are whole dialogs (lists of messages, or transcripts with Human: and Assistant:)
    that begin alike: what they share is the prompt. OpenAI's input, preferred_output and non_preferred_output are read too.
    """
    problems: list[str] = []
    chosen, rejected = (_answer(values.get(name), name, problems) for name in ("chosen", "rejected"))
    asked = values.get("prompt")
    asked = values["input"] if asked is None and isinstance(values.get("input"), Mapping) else asked
    if asked is None or asked == "":
        prompt, chosen, rejected = _shared(values, chosen, rejected, problems)
    elif isinstance(asked, Mapping):  # OpenAI: {"messages": […], "tools": […]}
        prompt = prompt_messages(asked.get("messages"), "input.messages", problems)
    elif is_transcript(f"{asked}\n\nAssistant:") and not isinstance(asked, list):
        prompt = transcript(str(asked).rstrip().removesuffix("Assistant:"), "prompt", problems)
    elif isinstance(asked, str):
        prompt = (Message("user", content(with_input(asked, optional_text(values, "input", problems)))),)
    else:
        prompt = prompt_messages(asked, "prompt", problems)
    tools = read_tools(_tools(values, asked), problems)
    system = optional_text(values, "system", problems)
    if system:
        prompt = (Message("system", content(system)), *prompt)
    if not problems and chosen == rejected:
        problems.append("chosen and rejected are the same; expected two different answers")
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not problems:
            check_order((*prompt, *answer), name, problems)
    raise_all(problems)
    return Pair(prompt=prompt, chosen=chosen, rejected=rejected, tools=tools, origin=origin)


def _tools(values: Values, asked: Any) -> Any:
    """Return the tools that a row offers: in a column of their own, or inside OpenAI's input."""
    return asked.get("tools") if values.get("tools") is None and isinstance(asked, Mapping) else values.get("tools")


def _answer(value: Any, name: str, problems: list[str]) -> Messages:
    """Return the messages of one answer: from a text, a transcript or a list of messages."""
    return transcript(value, name, problems) if is_transcript(value) else answer_messages(value, name, problems)


def _shared(values: Values, chosen: Messages, rejected: Messages, problems: list[str]) -> tuple[Messages, Messages, Messages]:
    """Divide two dialogs that begin alike into prompt and answers: the prompt is what they share, up to the last user's turn."""
    if problems:
        return (), chosen, rejected
    if not all(is_transcript(values[name]) or len(answer) > 1 for name, answer in (("chosen", chosen), ("rejected", rejected))):
        problems.append("prompt: is missing, and chosen and rejected are not whole dialogs; give the prompt in its own column")
        return (), chosen, rejected
    same = 0
    while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
        same += 1
    while same and chosen[same - 1].role not in ("user", "tool"):
        same -= 1
    if not same:
        problems.append("chosen and rejected do not begin with the same user's turn; expected dialogs that share their prompt")
    return chosen[:same], chosen[same:], rejected[same:]


def rated(values: Values, origin: Origin) -> Rated:
    """A prompt and completion (or messages) with a label true or false (TRL's unpaired preference), or with a rating (a number)."""
    problems: list[str] = []
    if values.get("messages") is not None or "prompt" not in values:
        made = read_messages(values.get("messages"), "messages", problems)
    else:
        made = prompt_messages(values.get("prompt"), "prompt", problems)
        made = (*made, *answer_messages(values.get("completion"), "completion", problems))
    if values.get("label") is None and values.get("rating") is None:
        missing = "rating: is missing; expected a number" if "rating" in values else "label: is missing; expected true or false"
        problems.append(missing)
        rating = 0.0
    elif values.get("label") is not None:
        rating = _thumb(values["label"], problems)
    else:
        rating = number(values["rating"], "rating", problems)
    tools = read_tools(values.get("tools"), problems)
    system = optional_text(values, "system", problems)
    if system:
        made = (Message("system", content(system)), *made)
    if not problems:
        check_order(made, "messages", problems)
    raise_all(problems)
    return Rated(messages=made, rating=rating, tools=tools, origin=origin)


def _thumb(value: Any, problems: list[str]) -> float:
    """Return 1 for a thumb up and 0 for a thumb down."""
    word = str(value).strip().lower().removesuffix(".0")
    if word not in UP | DOWN:
        problems.append(f"label: expected true or false, found {shown(value)}; map a number to columns.rating instead")
    return 1.0 if word in UP else 0.0


def number(value: Any, name: str, problems: list[str]) -> float:
    """Return a finite number, also from text."""
    try:
        made = float(required_text({name: value}, name, problems) or 0)
    except ValueError:
        made = math.nan
    if not math.isfinite(made):
        problems.append(f"{name}: expected a number, found {shown(value)}")
    return made
