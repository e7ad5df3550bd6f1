"""What a row of data means, and what is asked of a model for it: the part of the core types that says nothing of tensors.

Nothing here computes. `data` makes these of rows, scores compare them with answers; the rest of the core types stands in `types`, which
offers these too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = ("system", "user", "assistant", "tool")


# ------------------------------------------------------------------------------------------------ where something comes from


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an example was read: a file as the user named it, a line from 1 (or row of a table), and a section or page."""

    file: str
    line: int | None = None
    section: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return place if self.section is None else f"{place} ({self.section})"


# ------------------------------------------------------------------------------------------------------------ what a row means


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text inside content."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture inside content: a local path, the sha256 of its bytes, and where it stands in a file of many (`pictures.arrays`)."""

    path: str
    sha256: str
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else self.path


Content = tuple[TextPart | ImagePart, ...]


def content(text: str) -> Content:
    """Return content that holds only this text."""
    return (TextPart(text),)


def pictures_in(parts: Content) -> tuple[ImagePart, ...]:
    """Return the pictures of content, in order."""
    return tuple(part for part in parts if isinstance(part, ImagePart))


def plain(parts: Content) -> str:
    """Return the text of content, its pictures left out."""
    return "".join(part.text for part in parts if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool by the assistant: its name and its arguments as a JSON object."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a dialog. `weight` is how strongly an assistant turn is learned; None leaves it to the renderer's policy."""

    role: Role
    content: Content
    tool_calls: tuple[ToolCall, ...] = ()
    weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What all examples have: their origin, a group that is never divided between train, dev and test, and a part scored by itself."""

    origin: Origin
    group: str | None = None
    slice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Row):
    """A text to continue: every token is learned."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialog(Row):
    """Messages of which the assistant's are imitated; `tools` are JSON schemas offered to the model."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(Row):
    """A prompt with a better and a worse continuation; `tools` are JSON schemas offered to the model."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated(Row):
    """Messages with a rating of the last answer: a number, or 1 and 0 for a thumb up and down; `tools` as in a dialog."""

    messages: tuple[Message, ...]
    rating: float
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled(Row):
    """Content with one label, several labels, or a number (`labels` empty); `several` says which of the first two is meant."""

    content: Content
    labels: tuple[str, ...] = ()
    number: float | None = None
    several: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters start..end (end excluded) of a text, with a label; spans may overlap."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged(Row):
    """A text with labelled spans of characters."""

    content: Content
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerable(Row):
    """A question on a context; `answers` are (character offset, text) pairs, none where the context does not say."""

    question: str
    context: str
    answers: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a score compares an answer with; only the fields that the task has are filled.

    `texts` are acceptable answers, the first one canonical. `labels` is None where the task has none. `choices` are all labels a
    task knows, so that a score can tell a wrong label from an answer that is no label at all.
    """

    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    choices: tuple[str, ...] = ()
    spans: tuple[Span, ...] | None = None
    source: str | None = None
    number: float | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    pair: Pair | None = None
    asked: Answerable | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Row):
    """A prompt to attempt, with what is needed to score the attempt. `text` is set instead of messages for plain text."""

    messages: tuple[Message, ...]
    expected: Expected
    tools: tuple[Mapping[str, Any], ...] = ()
    text: str | None = None


Example = Text | Dialog | Pair | Rated | Labelled | Tagged | Answerable | Task
