"""What a conversation in the terminal must remember, and with whom it can be compared and rated.

Used by the other files of this room: `chat_asking` puts questions, `chat_commands` does what a slash asks for, `chat_terminal` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from burnish.data.render import Renderer
from burnish.models import Model
from burnish.retrieval import Passage
from burnish.sampling import Options
from burnish.types import Message

Read = Callable[[str], str]
Say = Callable[[str, str], None]
Look = Callable[[str], Sequence[Passage]]

YOU, MODEL, BASE = "You: ", "Model: ", "Base: "
NOTE, WRONG, NAME = "dim", "red", "bold cyan"
"""The styles of asides, of problems, and of who speaks."""


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """What the model was tuned from: its name and version, and what gives it, ready to answer, for the length of a `with` block."""

    name: str
    version: str | None
    opened: Callable[[], AbstractContextManager[Model]]


@dataclass(frozen=True, slots=True)
class Feedback:
    """Where judgements go: the file of `burnish rate`, who judges, and name and version of the model."""

    file: Path
    rater: str
    model: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """The newest answer: the messages that it answers as they were put, its text, and the base's to the same where that was asked."""

    messages: tuple[Message, ...]
    text: str
    base: str | None = None


@dataclass(slots=True, eq=False)
class Conversation:
    """What a chat must remember. `turns` are complete exchanges; the oldest `hidden` of them no longer fit the model's context.

    `look` gives the passages of documents for a question; they stand above it when it is asked, and are not remembered. `open_documents`
    makes such a function of a place, `base` is whom `/compare` asks, `feedback` where `/rate` writes; None: that cannot be had here.
    """

    model: Model
    renderer: Renderer
    options: Options
    say: Say
    person: bool
    system: str | None = None
    turns: list[tuple[str, str]] = field(default_factory=list)
    hidden: int = 0
    asked: int = 0
    look: Look | None = None
    open_documents: Callable[[str], Look] | None = None
    base: Base | None = None
    feedback: Feedback | None = None
    said: Said | None = None

    def note(self, text: str, style: str = NOTE) -> None:
        """Tell the person something that is no answer of the model."""
        self.say(f"({text})\n" if style == NOTE else f"{text}\n", style)

    def saved(self) -> list[dict[str, str]]:
        """Return the whole conversation as messages, hidden turns too."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for question, answer in self.turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return messages
