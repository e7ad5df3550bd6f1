"""Apply a model's chat template and know which characters of the result are learned.

Enters: a dialog with a weight per message. Leaves: segments of text, each given (weight 0) or learned. Where the template marks the
assistant's turns itself (generation blocks), its marks are taken; elsewhere the turns are found as what each one adds to the prompt
before it, and the result is checked to reassemble the template's own output exactly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import DataError
from burnish.types import Dialog, Message, plain


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of rendered text and how strongly it is learned (0: given)."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class Rendered:
    """A dialog as the model's template writes it, in segments."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(segment.text for segment in self.segments)


def template_message(message: Message) -> dict[str, Any]:
    """Return a message in the shape that chat templates read."""
    values: dict[str, Any] = {"role": message.role, "content": plain(message.content)}
    if message.tool_calls:
        calls = [
            {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}} for call in message.tool_calls
        ]
        values["tool_calls"] = calls
    return values


def render_dialog(tokenizer: Any, dialog: Dialog, weights: Sequence[float]) -> list[Rendered]:
    """Return the dialog rendered with its learned turns marked; several renderings where the template rewrites earlier turns.

    Raises DataError where the template refuses the messages or where no marking reassembles its output.
    """
    messages = [template_message(message) for message in dialog.messages]
    tools = [dict(tool) for tool in dialog.tools] or None
    text, blocks = _render(tokenizer, messages, tools)
    turns = [number for number, message in enumerate(dialog.messages) if message.role == "assistant"]
    if blocks is not None and len(blocks) == len(turns):
        return [_marked(text, [(start, end, weights[turn]) for (start, end), turn in zip(blocks, turns, strict=True)])]
    spans = _turn_spans(tokenizer, messages, tools, turns)
    if all(text[:end] == whole for (_, end, whole) in spans):
        return [_marked(text, [(start, end, weights[turn]) for (start, end, _), turn in zip(spans, turns, strict=True)])]
    # The template shows earlier turns differently once they are past (such as without their reasoning): each learned turn is
    # rendered as it stood when it was the last one.
    return [
        _marked(whole, [(start, end, weights[turn])])
        for (start, end, whole), turn in zip(spans, turns, strict=True)
        if weights[turn] > 0
    ]


def _render(tokenizer: Any, messages: list[dict[str, Any]], tools: list[Any] | None) -> tuple[str, list[tuple[int, int]] | None]:
    """Return the template's text, and the character spans of its generation blocks (None where it has none)."""
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    template = tokenizer.get_chat_template(tools=tools)
    marked = "{% generation %}" in template or "{%- generation" in template
    try:
        texts, blocks = render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=template,
            return_assistant_tokens_mask=marked,
            add_generation_prompt=False,
            **tokenizer.special_tokens_map,
        )
    except (TemplateError, TypeError, KeyError) as error:
        raise DataError(f"the model's chat template refuses these messages: {error}") from error
    return texts[0], ([(int(start), int(end)) for start, end in blocks[0]] if marked else None)


def _turn_spans(
    tokenizer: Any, messages: list[dict[str, Any]], tools: list[Any] | None, turns: Sequence[int]
) -> list[tuple[int, int, str]]:
    """Return for each assistant turn its start and end in the text of the dialog up to it, and that text."""
    spans = []
    for turn in turns:
        before = (
            tokenizer.apply_chat_template(messages[:turn], tools=tools, tokenize=False, add_generation_prompt=True) if turn else ""
        )
        whole, _ = _render(tokenizer, messages[: turn + 1], tools)
        if not whole.startswith(before):
            raise DataError(
                f"the model's chat template does not continue its own prompt at message {turn + 1}, so what to learn cannot be told from "
                f"what is given. Use a template with generation blocks, or a model whose template has none of these surprises."
            )
        spans.append((len(before), len(whole), whole))
    return spans


def _marked(text: str, spans: Sequence[tuple[int, int, float]]) -> Rendered:
    """Return the text cut at the spans, what lies between them given."""
    segments, position = [], 0
    for start, end, weight in spans:
        segments += [Segment(text[position:start], 0.0), Segment(text[start:end], weight)]
        position = end
    segments.append(Segment(text[position:], 0.0))
    rendered = Rendered(tuple(segment for segment in segments if segment.text))
    assert rendered.text == text, "segments do not reassemble the template's output"
    return rendered


def tool_call_text(message: Message) -> str:
    """Return an assistant message's tool calls as JSON, for showing and comparing."""
    return json.dumps([{"name": call.name, "arguments": dict(call.arguments)} for call in message.tool_calls], ensure_ascii=False)
