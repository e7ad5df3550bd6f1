"""Running text in pieces of about so many tokens, each ending where a sentence or paragraph does.

Enters: a text and a size. Leaves: (start, end) of each piece in it. Tokens are counted as words and signs, whichever model reads them
afterwards, so that the same text always falls into the same pieces. Passages of retrieval and of `synthesize` are cut here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(r"\w+|[^\w\s]")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])|\n[^\S\n]*\n\s*")
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|Fig|vs|approx|e\.g|i\.e|etc)|\b[A-Z])\.$")


def count_tokens(text: str) -> int:
    """Return the number of words and signs of a text."""
    return sum(1 for _ in _TOKEN.finditer(text))


def pieces(text: str, size: int) -> list[tuple[int, int]]:
    """Return (start, end) of consecutive pieces of at most `size` tokens, white space around them left out.

    A piece ends where a sentence or paragraph does. A sentence that is longer by itself is a piece of its own, cut between words from
    twice the size on. A rest of less than a quarter of the size goes to the piece before it.
    """
    made: list[tuple[int, int, int]] = []
    for start, end in _sentences(text, size):
        tokens = count_tokens(text[start:end])
        if not tokens:
            continue
        if made and made[-1][2] + tokens <= size:
            made[-1] = (made[-1][0], end, made[-1][2] + tokens)
        else:
            made.append((start, end, tokens))
    if len(made) > 1 and made[-1][2] < size / 4:
        last = made.pop()
        made[-1] = (made[-1][0], last[1], made[-1][2] + last[2])
    return [_stripped(text, start, end) for start, end, _ in made]


def _sentences(text: str, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each sentence, and of the parts of those that are as long as two pieces."""
    start = 0
    ends = [found.end() for found in _SENTENCE_END.finditer(text) if not _ABBREVIATION.search(text[: found.start()][-12:])]
    for end in [*ends, len(text)]:
        tokens = list(_TOKEN.finditer(text, start, end))
        if len(tokens) > 2 * size:
            for first in range(size, len(tokens), size):
                cut = tokens[first].start()
                yield start, cut
                start = cut
        yield start, end
        start = end


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
