"""The classical baseline of plain text: an n-gram model of its bytes, which says how many bits each byte of a new text takes.

In: tasks that are texts to continue. Out: a `Baseline` with the likelihood of each text, comparable by `bits_per_byte` alone: its tokens
are bytes. Letters in names: N places of a text or n-grams, C contexts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from burnish.baseline_parts import Baseline
from burnish.types import Answer, Task

ORDER = 5
START = 256
SYMBOLS = 257
"""The 256 bytes, and what stands before a text."""

MOST_BYTES = 20_000_000
"""Training text beyond this is left out: it would take memory, and change little."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The n-grams of one length as ascending numbers: each one's discounted share in its context, what each context leaves to shorter ones."""

    key_N: np.ndarray
    share_N: np.ndarray
    context_C: np.ndarray
    rest_C: np.ndarray


def text(train: Sequence[Task], test: Sequence[Task], seed: int) -> Baseline | None:
    """Return the likelihood of each test text under a 5-gram model of the bytes of the training texts."""
    pieces, size = [], 0
    for task in train:
        raw = (task.text or "").encode("utf-8", "surrogatepass")
        pieces.append(raw[: MOST_BYTES - size])
        size += len(pieces[-1])
    if not size:
        return None
    levels = learn([piece for piece in pieces if piece])
    raws = [(task.text or "").encode("utf-8", "surrogatepass") for task in test]
    answers = (Answer(nll=nats(levels, raw), nll_tokens=len(raw), nll_bytes=len(raw)) for raw in raws)
    return Baseline(f"{ORDER}-gram model of bytes (Kneser-Ney)", tuple(answers), scores=("bits_per_byte",))


def learn(texts: Sequence[bytes], *, order: int = ORDER) -> list[Level]:
    """Return the levels of an interpolated Kneser-Ney model, single bytes first.

    The longest n-grams count how often they occur, shorter ones before how many different bytes they do. One discount a level,
    n_1 / (n_1 + 2 n_2). Source: Kneser and Ney 1995, "Improved Backing-Off for M-Gram Language Modeling"; Chen and Goodman 1998, section 3.
    """
    key_N, count_N = np.unique(np.concatenate([_keys(text, order) for text in texts]), return_counts=True)
    levels = [_level(key_N, count_N)]
    for length in range(order - 1, 0, -1):
        key_N, count_N = np.unique(key_N % SYMBOLS**length, return_counts=True)
        levels.append(_level(key_N, count_N))
    return levels[::-1]


def nats(levels: Sequence[Level], text: bytes) -> float:
    """Return the negative log-likelihood of a text in nats."""
    if not text:
        return 0.0
    return float(-np.log(probabilities(levels, _keys(text, len(levels)))).sum())


def probabilities(levels: Sequence[Level], key_N: np.ndarray) -> np.ndarray:
    """Return the probability of the last byte of each n-gram after the others; over all 256 bytes they sum to one."""
    chance_N = np.full(len(key_N), 1 / 256)
    for length, level in enumerate(levels, 1):
        own_N = key_N % SYMBOLS**length
        place_N, known_N = _found(level.context_C, own_N // SYMBOLS)
        at_N, seen_N = _found(level.key_N, own_N)
        mixed_N = np.where(seen_N, level.share_N[at_N], 0.0) + level.rest_C[place_N] * chance_N
        chance_N = np.where(known_N, mixed_N, chance_N)
    return chance_N


def _keys(text: bytes, order: int) -> np.ndarray:
    """Return for each byte of a text the n-gram that ends there, as a number in base SYMBOLS."""
    padded = np.concatenate([np.full(order - 1, START), np.frombuffer(text, dtype=np.uint8).astype(np.int64)])
    key_N = np.zeros(len(text), dtype=np.int64)
    for place in range(order):
        key_N = key_N * SYMBOLS + padded[place : place + len(text)]
    return key_N


def _level(key_N: np.ndarray, count_N: np.ndarray) -> Level:
    once, twice = int((count_N == 1).sum()), int((count_N == 2).sum())
    # Without n-grams that occur once or twice the formula gives 0 or 1: a context would leave nothing, or everything.
    discount = once / (once + 2 * twice) if once and twice else 0.5
    context_C, first_C = np.unique(key_N // SYMBOLS, return_index=True)
    number_C = np.diff(np.append(first_C, len(key_N)))
    total_C = np.add.reduceat(count_N, first_C)
    return Level(key_N, (count_N - discount) / np.repeat(total_C, number_C), context_C, discount * number_C / total_C)


def _found(sorted_N: np.ndarray, wanted_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a place in an ascending array for each number, and whether the number stands there."""
    place_N = np.minimum(np.searchsorted(sorted_N, wanted_N), len(sorted_N) - 1)
    return place_N, sorted_N[place_N] == wanted_N
