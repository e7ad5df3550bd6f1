"""Apply a model's chat template and know which characters of the result are learned.

Enters: a dialog with a weight per message. Leaves: segments of text, each given (weight 0) or learned. A turn of the assistant is
what it adds to the prompt before it, up to the end of the template's own mark (generation block) where it has marks; the result is
checked to reassemble the template's own output exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import DataError
from burnish.types import Dialog, Message, pictures_in, plain


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

    def one_by_one(self) -> list[Rendered]:
        """Return one rendering per learned segment: what stands before it and next to it given, the rest left out."""
        found = []
        for number, segment in enumerate(self.segments):
            if segment.weight != 0:
                before = (Segment(given.text, 0.0) for given in self.segments[:number])
                after = (given for given in self.segments[number + 1 : number + 2] if given.weight == 0)
                found.append(Rendered((*before, segment, *after)))
        return found


def template_message(message: Message) -> dict[str, Any]:
    """Return a message in the shape that chat templates read; DataError for a picture, which the template of a text model would lose."""
    if pictures_in(message.content):
        raise DataError(
            "this row holds a picture, and the model reads text alone. Choose a model that reads pictures, or leave such rows out."
        )
    values: dict[str, Any] = {"role": message.role, "content": plain(message.content)}
    if message.tool_calls:
        calls = [
            {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}} for call in message.tool_calls
        ]
        values["tool_calls"] = calls
    return values


def render_dialog(tokenizer: Any, dialog: Dialog, weights: Sequence[float]) -> list[Rendered]:
    """Return the dialog rendered with its learned turns marked; several renderings where the template rewrites earlier turns.

    Raises DataError where the template refuses the messages, leaves out what is to be learned, or does not continue its own prompt.
    """
    messages = [template_message(message) for message in dialog.messages]
    tools = [dict(tool) for tool in dialog.tools] or None
    text, blocks = render_messages(tokenizer, messages, tools)
    turns = [number for number, message in enumerate(dialog.messages) if message.role == "assistant"]
    last = len(messages) - 1  # the dialog up to its last message is the dialog
    spans = [_turn_span(tokenizer, messages, tools, turn, (text, blocks) if turn == last else None) for turn in turns]
    learned = [turn for turn in turns if weights[turn] != 0]
    _refuse_silence(dialog, learned, {turn: whole for turn, (_, _, whole) in zip(turns, spans, strict=True)})
    if all(text[:end] == whole[:end] for (_, end, whole) in spans):
        return [_marked(text, [(start, end, weights[turn]) for (start, end, _), turn in zip(spans, turns, strict=True)])]
    # The template shows earlier turns differently once they are past (such as without their reasoning): each learned turn is
    # rendered as it stood when it was the last one.
    return [
        _marked(whole, [(start, end, weights[turn])])
        for (start, end, whole), turn in zip(spans, turns, strict=True)
        if weights[turn] != 0
    ]


def render_prompt(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Any] = ()) -> str:
    """Return the text after which the model answers. Raises DataError where the template refuses the messages."""
    return _prompt(tokenizer, [template_message(message) for message in messages], [dict(tool) for tool in tools] or None)


def _prompt(tokenizer: Any, messages: list[dict[str, Any]], tools: list[Any] | None) -> str:
    return render_messages(tokenizer, messages, tools, open_turn=True)[0]


def render_messages(
    tokenizer: Any, messages: list[dict[str, Any]], tools: list[Any] | None, *, open_turn: bool = False
) -> tuple[str, list[tuple[int, int]] | None]:
    """Return the template's text, and the character spans of its generation blocks (None where it has none)."""
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    template = tokenizer.get_chat_template(tools=tools)
    marked = not open_turn and re.search(r"\{%-?\s*generation\b", template) is not None
    try:
        texts, blocks = render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=template,
            return_assistant_tokens_mask=marked,
            add_generation_prompt=open_turn,
            **tokenizer.special_tokens_map,
        )
    except (TemplateError, TypeError, KeyError) as error:
        raise DataError(f"the model's chat template refuses these messages: {error}") from error
    return texts[0], ([(int(start), int(end)) for start, end in blocks[0]] if marked else None)


def _turn_span(
    tokenizer: Any, messages: list[dict[str, Any]], tools: list[Any] | None, turn: int, rendered: tuple[str, Any] | None
) -> tuple[int, int, str]:
    """Return where an assistant turn starts and ends in the text of the dialog up to it, and that text.

    It starts where the prompt ends that the model will be given, so that all it will have to write is learned, and ends where the
    template's last generation block ends, or with the text. `rendered` is that dialog where it is rendered already.
    """
    whole, blocks = rendered or render_messages(tokenizer, messages[: turn + 1], tools)
    try:
        before = _prompt(tokenizer, messages[:turn], tools)
    except DataError:
        if turn:
            raise
        before = ""  # nothing was asked before the first message, which not every template can show
    if not whole.startswith(before):
        raise DataError(
            f"the model's chat template does not continue its own prompt at message {turn + 1}, so the model would be asked in another "
            f"form than it was taught in. Use a model whose template has none of these surprises."
        )
    end = blocks[-1][1] if blocks and blocks[-1][1] > len(before) else len(whole)
    return len(before), end, whole


def _refuse_silence(dialog: Dialog, learned: Sequence[int], wholes: Mapping[int, str]) -> None:
    """Raise DataError where the template leaves out calls of tools that are to be learned, as templates made without tools do."""
    for turn in learned:
        missing = [call.name for call in dialog.messages[turn].tool_calls if call.name not in wholes[turn]]
        if missing:
            raise DataError(
                f"the model's chat template leaves out the call of a tool ({', '.join(missing)}) in message {turn + 1}, so it cannot be "
                f"learned. Use a model whose template shows calls of tools, or write the call into the message's text."
            )


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
