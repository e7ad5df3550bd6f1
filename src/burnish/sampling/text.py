"""From generated tokens to text: stop strings, and pieces that never hold half a character.

Enters: token ids, as many as there are so far. Leaves: text. Decoding is incremental, so that a long answer is not decoded anew at
each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

HALF = "\ufffd"
"""What a decoder writes for bytes that are no character, such as the first bytes of one that is not complete yet."""
BYTES_OF_A_CHARACTER = 4


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of the tokens, special ones left out, spaces exactly as the tokens have them."""
    return tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=True)


def final_text(text: str, stop: Sequence[str], *, complete: bool) -> tuple[str, bool]:
    """Return the text of an answer, cut before the first stop string, and whether there was one.

    `complete` is False where the answer ran into the token limit; half a character at its end is then left out.
    """
    ends = [place for place in (text.find(part) for part in stop) if place >= 0]
    if ends:
        return text[: min(ends)], True
    return (text if complete else text.rstrip(HALF)), False


def window(stop: Sequence[str]) -> int:
    """Return how many of the last tokens must be decoded to see a stop string that the newest one completes.

    Each token inside it holds at least one of its bytes; the rest is room for half a character in front.
    """
    return max(len(part.encode("utf-8")) for part in stop) + BYTES_OF_A_CHARACTER if stop else 0


def stopped_rows(tokenizer: Any, tails: Sequence[Sequence[int]], stop: Sequence[str]) -> list[bool]:
    """Return for each row whether a stop string stands in the text of its last tokens."""
    texts = (decoded(tokenizer, tail) for tail in tails)
    return [any(part in text for part in stop) for text in texts]


@dataclass(slots=True, eq=False)
class Pieces:
    """The text of one answer while it arises. `shown` is what was given out so far; it never has to be taken back.

    Tokens before `settled` are decoded and will not change; those from `start` on are decoded with the next one, since a decoder
    may treat a token differently at the start of a text.
    """

    tokenizer: Any
    stop: tuple[str, ...] = ()
    shown: str = ""
    held: str = ""
    tokens: list[int] = field(default_factory=list)
    start: int = 0
    settled: int = 0

    def push(self, token: int) -> str:
        """Return the text that the next token makes certain: nothing while a character or a stop string may be half done."""
        self.tokens.append(token)
        before = decoded(self.tokenizer, self.tokens[self.start : self.settled])
        now = decoded(self.tokenizer, self.tokens[self.start :])
        if len(now) > len(before) and not now.endswith(HALF):
            self.held += now[len(before) :]
            self.start, self.settled = self.settled, len(self.tokens)
        safe = len(self.held) - _beginning_of_stop(self.held, self.stop)
        piece, self.held = self.held[:safe], self.held[safe:]
        self.shown += piece
        return piece


def _beginning_of_stop(text: str, stop: Sequence[str]) -> int:
    """Return the length of the longest end of `text` that may be the beginning of a stop string."""
    longest = max((len(part) for part in stop), default=0)
    tries = range(min(longest, len(text)), 0, -1)
    return next((size for size in tries if any(part.startswith(text[-size:]) for part in stop)), 0)
