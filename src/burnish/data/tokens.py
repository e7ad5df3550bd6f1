"""From rendered text to tokens, and what is known of each: how strongly it is learned, how many bytes of text it stands for.

Enters: a tokenizer and segments of text, given or learned. Leaves: token ids in which each learned segment stands after exactly the
tokens that its prompt will have at inference, where the prompt is tokenized without knowing what will follow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from burnish.data.template import Segment
from burnish.errors import DataError


@dataclass(frozen=True, slots=True)
class Tokens:
    """The ids of a text; the weight of each, 0 where it is given; and the UTF-8 bytes of the learned ones, ends of turns left out."""

    ids: list[int]
    weights: list[float]
    text_bytes: int


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Ids, the part of the text that each belongs to (None: it straddles two), and the bytes credited to each."""

    ids: list[int]
    owners: list[int | None]
    sizes: list[int]


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of a text, nothing added."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def tokenize_segments(tokenizer: Any, segments: Iterable[Segment], end_ids: Collection[int]) -> Tokens | None:
    """Return the segments as tokens, the token after a learned segment learned too if it ends a turn.

    The whole text is tokenized at once, as other tools do. Where a token would straddle the border between what is given and what is
    learned, or a prompt alone has other tokens (a line break that merges with nothing after it), each segment is tokenized by itself
    instead. None where even then a later prompt would differ from inference: its turns must be rendered one by one.

    Raises DataError where tokenizing segment by segment changes the text.
    """
    parts = _merged(segments)
    text = "".join(part.text for part in parts)
    encoded = _together(tokenizer, parts, text)
    if None in encoded.owners or not _prompts_stand(tokenizer, parts, encoded):
        apart = _apart(tokenizer, parts)
        if tokenizer.decode(apart.ids) != tokenizer.decode(encoded.ids):
            raise DataError(
                "the text cannot be cut between prompt and answer without changing it; end the prompt with a line break or a space."
            )
        if not _prompts_stand(tokenizer, parts, apart):
            return None
        encoded = apart
    weights = [parts[owner].weight for owner in encoded.owners if owner is not None]
    for place, (before, token) in enumerate(pairwise(encoded.ids), start=1):
        if weights[place] == 0 and weights[place - 1] != 0 and token in end_ids and before not in end_ids:
            weights[place] = weights[place - 1]
    learned = zip(encoded.ids, weights, encoded.sizes, strict=True)
    return Tokens(encoded.ids, weights, sum(size for token, weight, size in learned if weight != 0 and token not in end_ids))


def bytes_per_token(text: str, offsets: Iterable[tuple[int, int]]) -> list[int]:
    """Return the UTF-8 bytes of a text credited to each token, adding up to all of them: up to where the next token starts."""
    starts = [start for start, _ in offsets]
    bounds = [*starts[1:], len(text)] if starts else []
    if text.isascii():  # a byte a character: places are sizes already
        ends = np.maximum.accumulate(np.asarray([0, *bounds], dtype=np.int64))
        return np.diff(ends).tolist()
    position, counts = 0, []
    for bound in bounds:
        counts.append(len(text[position : max(bound, position)].encode("utf-8")))
        position = max(bound, position)
    return counts


def _merged(segments: Iterable[Segment]) -> list[Segment]:
    """Return the segments without empty ones, given neighbours joined: a border between them means nothing."""
    parts: list[Segment] = []
    for segment in segments:
        if parts and segment.weight == parts[-1].weight == 0:
            parts[-1] = Segment(parts[-1].text + segment.text, 0.0)
        elif segment.text:
            parts.append(segment)
    return parts


def _encode(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]


def _together(tokenizer: Any, parts: list[Segment], text: str) -> _Encoded:
    """Return the whole text tokenized at once."""
    ids, offsets = _encode(tokenizer, text)
    return _Encoded(ids, _owners(parts, offsets), bytes_per_token(text, offsets))


def _apart(tokenizer: Any, parts: list[Segment]) -> _Encoded:
    """Return each part tokenized by itself."""
    found = _Encoded([], [], [])
    for number, part in enumerate(parts):
        ids, offsets = _encode(tokenizer, part.text)
        found.ids.extend(ids)
        found.owners.extend([number] * len(ids))
        found.sizes.extend(bytes_per_token(part.text, offsets))
    return found


def _owners(parts: list[Segment], offsets: list[tuple[int, int]]) -> list[int | None]:
    """Return the part that holds the characters start..end of each token, None where they straddle two."""
    if not parts:
        return [None] * len(offsets)
    borders = np.cumsum([0, *(len(part.text) for part in parts)])
    starts_T, ends_T = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    first_T = np.minimum(np.searchsorted(borders, starts_T, side="right") - 1, len(parts) - 1)
    held = (ends_T <= borders[first_T + 1]).tolist()
    return [owner if inside else None for owner, inside in zip(first_T.tolist(), held, strict=True)]


def _prompts_stand(tokenizer: Any, parts: list[Segment], encoded: _Encoded) -> bool:
    """Return whether the tokens before each learned part are those that the text before it has alone."""
    prompt = ""
    for number, part in enumerate(parts):
        if part.weight != 0 and prompt:
            before = sum(owner is not None and owner < number for owner in encoded.owners)
            if token_ids(tokenizer, prompt) != encoded.ids[:before]:
                return False
        prompt += part.text
    return True
