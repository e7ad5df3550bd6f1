"""Spans of characters and tokens: which tokens a span touches, windows over long texts, and back from tags to spans.

Enters: character offsets of spans and of tokens. Leaves: tags per token, windows, spans. Used by `render_heads` on the way in, by
`reading` on the way out, so that both agree on what a token stands for.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from burnish.errors import DataError
from burnish.types import Origin, Sequence, Span, Tagged, plain


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A sequence, and the characters [start, end) of the row's text that each read-out stands for (-1, -1: none)."""

    sequence: Sequence
    chars_N2: np.ndarray


@dataclass(frozen=True, slots=True)
class Alignment:
    """How spans fit tokens: how many there are; how many had to be widened to whole tokens; how many had no token of their own."""

    spans: int = 0
    widened: int = 0
    lost: int = 0

    def __add__(self, other: Alignment) -> Alignment:
        return Alignment(self.spans + other.spans, self.widened + other.widened, self.lost + other.lost)


def token_chars(tokenizer: Any, text: str) -> tuple[list[int], np.ndarray]:
    """Return a text's tokens and the characters of each, [T, 2] int32, space around a token left out (an empty range: space alone)."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    trimmed = [_trimmed(text, start, end) for start, end in encoded["offset_mapping"]]
    return encoded["input_ids"], np.asarray(trimmed, dtype=np.int32).reshape(-1, 2)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a range of characters without space at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def touched(chars_T2: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """Return the first and last token that characters start..end touch, None where there is none."""
    hits = np.flatnonzero((chars_T2[:, 0] < end) & (chars_T2[:, 1] > start) & (chars_T2[:, 0] < chars_T2[:, 1]))
    return (int(hits[0]), int(hits[-1])) if len(hits) else None


def aligned(chars_T2: np.ndarray, start: int, end: int, origin: Origin) -> tuple[int, int]:
    """Return the first and last token of a span; DataError where no token touches it (it marks space, or lies outside the text)."""
    found = touched(chars_T2, start, end)
    if found is None:
        raise DataError(
            f"{origin}: the characters {start} to {end} hold no token: they are space, or lie outside the text. Mend them."
        )
    return found


def are_layered(spans: Many[Span], chars_T2: np.ndarray) -> bool:
    """Return whether two spans of different types share a token, so that one label per token could not tell both."""
    taken: dict[int, str] = {}
    for span in spans:
        found = touched(chars_T2, span.start, span.end)
        for token in range(found[0], found[1] + 1) if found else ():
            if taken.setdefault(token, span.label) != span.label:
                return True
    return False


def tags_of(example: Tagged, chars_T2: np.ndarray, types: Many[str], *, flat: bool) -> tuple[np.ndarray, Alignment]:
    """Return tags [T, C] of a row, one column per type: 0 outside, 1 the first token of a span, 2 inside; and how well spans fit.

    `flat` leaves each token to one type, the later span winning. A span whose first token begins another span of its column is lost,
    and counted. Raises DataError for spans that hold no token, types that are not known, and overlapping spans of one type.
    """
    column = {name: place for place, name in enumerate(types)}
    tags_TC = np.zeros((len(chars_T2), len(types)), dtype=np.int64)
    text = plain(example.content)
    widened = lost = 0
    before: dict[str, Span] = {}
    for span in sorted(example.spans):
        if span.label not in column:
            raise DataError(
                f"{example.origin}: spans of type {span.label!r} are not among those of the training rows ({', '.join(types)})."
            )
        last = before.get(span.label)
        if last is not None and span.start < last.end:
            raise DataError(
                f"{example.origin}: two spans of type {span.label!r} overlap ({last.start} to {last.end}, {span.start} to {span.end}). A head "
                f"tells one span of a type at a place: join them, or give the inner one a type of its own."
            )
        before[span.label] = span
        first, final = aligned(chars_T2, span.start, span.end, example.origin)
        bare = _trimmed(text, span.start, span.end)
        widened += (int(chars_T2[first, 0]), int(chars_T2[final, 1])) != bare
        mine = column[span.label]
        if tags_TC[first].any() if flat else tags_TC[first, mine] != 0:
            first += 1  # the token before belongs to the span before it
        if first > final:
            lost += 1
            continue
        if flat:
            tags_TC[first : final + 1] = 0
        tags_TC[first, mine] = 1
        tags_TC[first + 1 : final + 1, mine] = 2
    return tags_TC, Alignment(len(example.spans), widened, lost)


def spans_of(tags_TC: np.ndarray, chars_T2: np.ndarray, types: Many[str]) -> list[Span]:
    """Return the spans that tags [T, C] tell, sorted; a 2 with nothing before it begins a span, as readers of CoNLL files take it."""
    found = []
    for tags_T, name in zip(tags_TC.T, types, strict=True):
        starts = np.flatnonzero((tags_T == 1) | ((tags_T == 2) & (np.concatenate([[0], tags_T[:-1]]) == 0)))
        for start in starts.tolist():
            end = start + 1
            while end < len(tags_T) and tags_T[end] == 2:
                end += 1
            inside_T2 = chars_T2[start:end]
            inside_T2 = inside_T2[inside_T2[:, 0] < inside_T2[:, 1]]
            if len(inside_T2):
                found.append(Span(int(inside_T2[0, 0]), int(inside_T2[-1, 1]), name))
    return sorted(found)


def cuts(total: int, room: int, overlap: int) -> list[tuple[int, int]]:
    """Return windows [start, stop) of at most `room` tokens that cover `total`, neighbours sharing `overlap`; one where all fits."""
    assert room > overlap >= 0, "windows that do not move on"
    starts = [0]
    while starts[-1] + room < total:
        starts.append(starts[-1] + room - overlap)
    return [(start, min(total, start + room)) for start in starts]


def owned(windows: Many[tuple[int, int]], *, encoder: bool) -> list[tuple[int, int]]:
    """Return the part of each window that is read there, so that every token is read once, where most of its context is seen.

    An encoder sees both sides: the middle of an overlap divides it. A causal model sees what comes before: the earlier window has more.
    """
    borders = [0]
    for (_, stop), (start, _) in pairwise(windows):
        borders.append((start + stop) // 2 if encoder else stop)
    borders.append(windows[-1][1])
    return list(pairwise(borders))


def shares(answers: Many[tuple[int, int]], start: int, stop: int) -> dict[str, np.ndarray]:
    """Return streams "start" and "end" of a window over tokens start..stop: the share of each place, first that of no answer.

    Answers that lie in the window whole share it equally, each place counted once; without one, no answer is right.
    """
    inside = sorted({(first, last) for first, last in answers if start <= first and last < stop})
    streams = {}
    for name, side in (("start", 0), ("end", 1)):
        share_N = np.zeros(1 + stop - start, dtype=np.float32)
        for answer in inside:
            share_N[1 + answer[side] - start] += 1.0 / len(inside)
        if not inside:
            share_N[0] = 1.0
        streams[name] = share_N
    return streams
