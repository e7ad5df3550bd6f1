"""The classical baseline of questions with a context: the words of the context that the question's rarer words stand around.

In: tasks that ask about a context. Out: a `Baseline` that quotes a window of it, or says of a weak one what training rows say where the
context does not answer. How long the window is, and how weak is too weak, is chosen on training rows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from burnish.baseline_parts import Baseline, said
from burnish.scores.text import token_f1
from burnish.types import Answerable, Task

LENGTHS = (1, 2, 3, 5, 8, 12, 18, 26, 40)
"""Candidates for the words of a window."""

REACH = 12.0
"""Words over which the pull of a question's word falls to a third."""

ROWS_FOR_CHOICE = 200
MOST_WORDS = 20_000
"""Words of a context that are looked at."""

_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_WORD = re.compile(r"\w+(?:[-'.,/]\w+)*|[^\w\s]")


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """The best window of one length: its text, and how strongly the question's words stand around it, between 0 and 1 or so."""

    text: str
    strength: float


def quoted(train: Sequence[Task], test: Sequence[Task], seed: int) -> Baseline | None:
    """Return for each question the window of its context with the most of the question's words around it.

    A word of the window counts by its rarity, times that of the question's words around it, less the further off these stand; the
    question's own words count nothing. Rarity is the inverse document frequency among sentences (Spärck Jones 1972, "A Statistical
    Interpretation of Term Specificity").
    """
    if not all(task.expected.texts for task in train):
        return None
    rarity = _rarity(train)
    kept = [train[index] for index in np.random.default_rng(seed).permutation(len(train))[:ROWS_FOR_CHOICE]]
    words = _reader()
    found = [_places(task.expected.asked, rarity, words) for task in kept]
    length = max(LENGTHS, key=lambda length: _worth([places[length].text for places in found], kept))
    unanswered = next((task.expected.texts[0] for task in train if task.expected.asked and not task.expected.asked.answers), None)
    least = _least([places[length] for places in found], kept, unanswered)
    places = [_places(task.expected.asked, rarity, words)[length] for task in test]
    texts = [place.text if unanswered is None or place.strength > least else unanswered for place in places]
    return Baseline(f"{length} words of the context nearest to the question's words", said(texts))


def _reader() -> Any:
    """Return a function from a context to its words in lower case and their places, which remembers: many questions share a context."""

    @cache
    def words(context: str) -> tuple[tuple[str, ...], np.ndarray]:
        found = list(_WORD.finditer(context))[:MOST_WORDS]
        return tuple(match[0].lower() for match in found), np.array([match.span() for match in found]).reshape(-1, 2)

    return words


def _rarity(train: Sequence[Task]) -> Any:
    """Return a function from a word to its inverse document frequency among sentences of training contexts, 1 for a word of none."""
    contexts = {task.expected.asked.context for task in train if task.expected.asked is not None}
    pieces = [piece for context in contexts for piece in _SENTENCE.split(context) if piece.strip()]
    counts = Counter(word for piece in pieces for word in {match[0].lower() for match in _WORD.finditer(piece)})
    most = np.log(1.0 + len(pieces))
    return lambda word: float(np.log((1.0 + len(pieces)) / (1.0 + counts[word])) / most) if re.match(r"\w", word) else 0.0


def _places(asked: Answerable | None, rarity: Any, words: Any) -> dict[int, Place]:
    """Return the best window of each length."""
    assert asked is not None, "a task that asks about a context"
    (context_W, place_W2), question = words(asked.context), {match[0].lower() for match in _WORD.finditer(asked.question)}
    if not context_W:
        return dict.fromkeys(LENGTHS, Place("", 0.0))
    total = sum(map(rarity, question)) or 1.0
    near_W, shared_W = np.zeros(len(context_W)), np.zeros(len(context_W), dtype=bool)
    for word in question:
        hit_W = np.array([one == word for one in context_W])
        if (worth := rarity(word)) > 0 and hit_W.any():
            near_W += worth / total * np.exp(-_distance(hit_W) / REACH)
            shared_W |= hit_W
    known = {word: rarity(word) for word in set(context_W)}
    own_W = np.where(shared_W, 0.0, near_W * np.array([known[word] for word in context_W]))
    sums = np.concatenate([[0.0], np.cumsum(own_W)])
    found = {}
    for length in LENGTHS:
        size = min(length, len(context_W))
        strength_W = (sums[size:] - sums[:-size]) / size
        first = int(strength_W.argmax())
        text = asked.context[place_W2[first, 0] : place_W2[first + size - 1, 1]]
        found[length] = Place(text, float(strength_W[first]))
    return found


def _distance(hit_W: np.ndarray) -> np.ndarray:
    """Return how many words each place is from the nearest hit."""
    at, every = np.flatnonzero(hit_W), np.arange(len(hit_W))
    after = np.searchsorted(at, every)
    right = np.abs(at[np.minimum(after, len(at) - 1)] - every)
    return np.minimum(right, np.abs(at[np.maximum(after - 1, 0)] - every))


def _worth(texts: Sequence[str], tasks: Sequence[Task]) -> float:
    return float(token_f1(said(texts), tasks)[:, 0].sum())


def _least(places: Sequence[Place], tasks: Sequence[Task], unanswered: str | None) -> float:
    """Return the strength up to which it is better, on these rows, to say that the context does not answer."""
    if unanswered is None:
        return -1.0
    bounds = [-1.0, *np.quantile([place.strength for place in places], np.linspace(0.05, 1.0, 20)).tolist()]
    return max(bounds, key=lambda least: _worth([place.text if place.strength > least else unanswered for place in places], tasks))
