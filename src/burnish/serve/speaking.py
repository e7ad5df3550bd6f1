"""An answer while it is given: what of it can be shown already, and what must wait.

Enters: the tokens of a sample as they come, and its answer at the end. Leaves: pieces of text that are never taken back, the log-probabilities
of their tokens, and calls of tools once they are complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from burnish.sampling import Generated
from burnish.sampling.flight import Row
from burnish.sampling.text import Pieces
from burnish.serve.prompts import Prepared
from burnish.serve.shapes import chat_entry, reason_of
from burnish.serve.tools import may_begin_call, read_calls

Noted = tuple[int, float, Sequence[tuple[int, float]]]
"""A token, its log-probability, and the likeliest tokens at its place."""


@dataclass(slots=True, eq=False)
class Speaking:
    """One sample of a request. A message is shown without the space around it, as evaluation reads it; a continued text as it is."""

    prepared: Prepared
    row: Row
    chat: bool
    pieces: Pieces = field(init=False)
    shown: str = ""
    said: str = ""
    held: str = ""
    holding: bool = False
    seen: int = 0
    noted: list[Noted] = field(default_factory=list)
    answer: Generated | None = None

    def __post_init__(self) -> None:
        self.pieces = Pieces(self.prepared.tokenizer, self.prepared.options.stop)

    def push(self, token: int, logprob: float, likeliest: Sequence[tuple[int, float]]) -> str:
        """Return the text that the next token makes certain."""
        self.seen += 1
        self.noted.append((token, logprob, likeliest))
        piece = self.pieces.push(token)
        if not self.chat:
            self.shown += piece
            return piece
        self.said += piece
        if self.prepared.tools is not None and not self.holding:
            self.holding = may_begin_call(self.prepared.tokenizer, self.said, token)
        text = self.held + piece if self.shown else (self.held + piece).lstrip()
        if self.holding:
            self.held = text
            return ""
        kept = text.rstrip()
        self.held = text[len(kept) :]
        self.shown += kept
        return kept

    def finish(self, answer: Generated) -> tuple[str, list[dict[str, Any]], str]:
        """Return the rest of the text, the calls of tools, and why the answer ended."""
        self.answer = answer
        best = answer.likeliest
        for place in range(self.seen, len(answer.tokens)):
            self.noted.append((int(answer.tokens[place]), float(answer.logprobs[place]), best[place] if best else ()))
        said, calls = self.calls(answer)
        text = said if calls else answer.text.strip() if self.chat else answer.text
        form: Any = self.row.form
        reason = reason_of(answer, shortened=form is not None and form.shortened)
        return text[len(self.shown) :], calls, "tool_calls" if calls and reason == "stop" else reason

    def calls(self, answer: Generated) -> tuple[str, list[dict[str, Any]]]:
        """Return what is said beside calls of tools, and the calls."""
        if self.prepared.tools is None:
            return "", []
        return read_calls(self.prepared.tokenizer, answer.tokens, self.prepared.tools)

    def entries(self) -> list[dict[str, Any]]:
        """Return the log-probabilities noted since they were last asked for, as a conversation tells them."""
        found = [chat_entry(self.prepared.tokenizer, *one) for one in self.noted]
        self.noted.clear()
        return found
