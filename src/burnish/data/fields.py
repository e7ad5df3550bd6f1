"""The texts inside an example, whatever its type.

In: one example. Out: its pieces of text, each with a name for messages, the role that speaks, and whether it is put to the model or
expected from it. Checks, duplicates and splits look at rows only through this, so a new example type is described once.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from typing import Any, Literal

from burnish.types import (
    Answerable,
    Content,
    Dialog,
    Example,
    ImagePart,
    Labelled,
    Message,
    Pair,
    Rated,
    Row,
    Tagged,
    Task,
    Text,
    pictures_in,
    plain,
)

Side = Literal["input", "answer"]

# Characters that are not seen: a row that differs from another in these alone is the same row to a reader.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Field:
    """One text of an example: its name in messages, who speaks, whether it is put to the model or expected from it.

    `pictures` counts the pictures beside the text; `calls` says that the turn calls a tool (the calls are in the text as JSON).
    """

    name: str
    role: str
    side: Side
    text: str
    pictures: int = 0
    calls: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is said: no text but white space, no picture, no call."""
        return not self.text.strip() and not self.pictures and not self.calls


def fields(example: Example) -> Iterator[Field]:
    """Yield the texts of an example in reading order.

    An assistant's turn in a dialog is an answer; in a prompt (of a pair, a rated row, a task) it is input. Labels and ratings are
    annotations and not texts: see `annotation`.
    """
    match example:
        case Text():
            yield Field("text", "text", "input", example.text)
        case Dialog():
            yield from _turns("message", example.messages, answers=True)
        case Pair():
            yield from _turns("prompt message", example.prompt)
            yield from _turns("chosen message", example.chosen, answers=True)
            yield from _turns("rejected message", example.rejected, answers=True)
        case Rated():
            yield from _turns("message", example.messages[:-1])
            yield from _turns("message", example.messages[-1:], answers=True, first=len(example.messages))
        case Labelled() | Tagged():
            yield _of_content("content", "user", "input", example.content)
        case Answerable():
            yield Field("question", "user", "input", example.question)
            yield Field("context", "user", "input", example.context)
            yield from (Field(f"answer {i}", "assistant", "answer", text) for i, (_, text) in enumerate(example.answers, 1))
        case Task():
            if example.text is not None:
                yield Field("text", "text", "input", example.text)
            yield from _turns("message", example.messages)
            yield from (Field(f"expected text {i}", "assistant", "answer", t) for i, t in enumerate(example.expected.texts, 1))


def _turns(name: str, messages: ListOf[Message], *, answers: bool = False, first: int = 1) -> Iterator[Field]:
    for number, message in enumerate(messages, first):
        side: Side = "answer" if answers and message.role == "assistant" else "input"
        calls = "".join(
            f"\n{call.name} {json.dumps(call.arguments, sort_keys=True, ensure_ascii=False, default=str)}"
            for call in message.tool_calls
        )
        turn = _of_content(f"{name} {number} ({message.role})", message.role, side, message.content)
        yield Field(turn.name, turn.role, side, turn.text + calls, turn.pictures, bool(calls))


def _json(arguments: Mapping[str, Any]) -> str:
    return json.dumps(dict(arguments), sort_keys=True, ensure_ascii=False, default=str)


def _of_content(name: str, role: str, side: Side, parts: Content) -> Field:
    return Field(name, role, side, plain(parts), len(pictures_in(parts)))


def annotation(example: Row) -> str:
    """Return what is said about the texts: labels, number, spans, rating. Rows are exact duplicates only where it is equal too."""
    match example:
        case Labelled():
            return repr((tuple(sorted(example.labels)) if example.several else example.labels, example.number))
        case Tagged():
            return repr(sorted(example.spans))
        case Rated():
            return repr(float(example.rating))
        case Answerable():
            return repr(example.answers)
        case Task():
            expected = example.expected
            return repr((expected.labels, expected.spans, expected.number, expected.source))
    return ""


def pictures(example: Row) -> tuple[str, ...]:
    """Return the sha256 of every picture of an example in order: rows with other pictures are never duplicates."""
    return tuple(part.sha256 for part in shown(example))


def shown_by(examples: Iterable[Row]) -> tuple[ImagePart, ...]:
    """Return every picture of all examples."""
    return tuple(part for example in examples for part in shown(example))


def shown(example: Row) -> tuple[ImagePart, ...]:
    """Return every picture of an example in order."""
    match example:
        case Labelled() | Tagged():
            contents = [example.content]
        case Dialog() | Rated() | Task():
            contents = [message.content for message in example.messages]
        case Pair():
            contents = [message.content for message in (*example.prompt, *example.chosen, *example.rejected)]
        case _:
            contents = []
    return tuple(part for parts in contents for part in pictures_in(parts))


def normalised(text: str) -> str:
    """Return a text as it is compared: Unicode NFKC, case folded, invisible characters left out, white space as one space."""
    return _SPACE.sub(" ", _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()).strip()


def key_text(example: Example) -> str:
    """Return what makes a row the row it is, normalised: everything the user's side says and the answer, without system turns.

    Text: the text. Dialog and rated: user, tool and assistant turns. Pair: prompt, chosen and rejected. Labelled and tagged: the
    content alone, since a label tells about the text and would make short texts look more alike than they are. Answerable:
    question, context and answers. Task: the prompt and the canonical expected text. System turns are left out: rows share them.
    """
    texts = [field.text for field in fields(example) if field.role != "system" and not field.name.startswith("expected text")]
    if isinstance(example, Task):
        texts += [text for text in example.expected.texts[:1] if text != example.text]
    return normalised("\n".join(texts))


def input_text(example: Example) -> str:
    """Return what is put to the model, normalised, without system turns: two rows with the same are the same question."""
    return normalised("\n".join(field.text for field in fields(example) if field.side == "input" and field.role != "system"))
