"""What a model of text has to beat: a 3-gram model with Kneser-Ney smoothing, and two compressors.

In: arrays of token ids, or bytes. Out: probabilities of tokens, or sizes in bytes. Used by `measure_text.py`. Letters in names: N
tokens or n-grams, C contexts, V vocabulary.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

FALLBACK = (0.0, 0.5, 0.75, 0.75)
"""Discounts where a text is too small to estimate them."""
XZ_PRESET = 9 | lzma.PRESET_EXTREME
"""Its dictionary of 64 MB holds all of the training text."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The n-grams of one length: the discounted share of each within its context, and what each context leaves to the level below.

    A key is the tokens of an n-gram as one number; keys and contexts are ascending.
    """

    key_N: np.ndarray
    share_N: np.ndarray
    context_C: np.ndarray
    rest_C: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Trigrams:
    """A 3-gram model over `vocabulary` tokens; `start` stands twice before each text."""

    vocabulary: int
    start: int
    third: Level
    second: Level
    first_V: np.ndarray

    def probability(self, before_N2: np.ndarray, token_N: np.ndarray) -> np.ndarray:
        """Return the probability of each token after the two tokens before it; over the vocabulary they sum to one."""
        size = self.vocabulary
        one_N, two_N, token_N = (values.astype(np.int64) for values in (before_N2[:, 0], before_N2[:, 1], token_N))
        chance_N = _mixed(self.second, two_N, two_N * size + token_N, self.first_V[token_N])
        return _mixed(self.third, one_N * size + two_N, (one_N * size + two_N) * size + token_N, chance_N)

    def bits(self, ids_T: np.ndarray) -> float:
        """Return the bits that the tokens of one text take."""
        padded = _padded(ids_T, self.start)
        before_N2 = np.stack([padded[:-2], padded[1:-1]], axis=1)
        return float(-np.log2(self.probability(before_N2, padded[2:])).sum())


def learn(texts: Iterable[np.ndarray], vocabulary: int, *, start: int) -> Trigrams:
    """Return the 3-gram model of texts given as token ids.

    Interpolated Kneser-Ney smoothing with three discounts (Chen and Goodman 1998): the levels below the third count in how many
    contexts a token stands and not how often; the lowest one leaves a share to every token of the vocabulary alike.
    """
    assert vocabulary**3 < 2**63, "three tokens in one number"
    keys = []
    for ids_T in texts:
        padded = _padded(ids_T, start)
        keys.append((padded[:-2] * vocabulary + padded[1:-1]) * vocabulary + padded[2:])
    assert keys, "a text to learn from"
    third_N, count_N = np.unique(np.concatenate(keys), return_counts=True)
    second_N, wider_N = np.unique(third_N % vocabulary**2, return_counts=True)
    token_N, widest_N = np.unique(second_N % vocabulary, return_counts=True)
    discount_N = discounts(widest_N)[np.minimum(widest_N, 3)]
    first_V = np.full(vocabulary, discount_N.sum() / widest_N.sum() / vocabulary)
    first_V[token_N] += (widest_N - discount_N) / widest_N.sum()
    return Trigrams(vocabulary, start, _level(third_N, count_N, vocabulary), _level(second_N, wider_N, vocabulary), first_V)


def discounts(count_N: np.ndarray) -> np.ndarray:
    """Return what is taken from n-grams that occur never (nothing), once, twice and more often, from how many there are of each.

    D_k = k - (k + 1) Y n_{k+1} / n_k with Y = n_1 / (n_1 + 2 n_2) (Chen and Goodman 1998, equation 26).
    """
    number = [int((count_N == count).sum()) for count in range(1, 5)]
    if min(number) == 0:
        return np.array(FALLBACK)
    share = number[0] / (number[0] + 2 * number[1])
    found = [count - (count + 1) * share * number[count] / number[count - 1] for count in (1, 2, 3)]
    # A context that leaves nothing to the level below would make an unseen token impossible.
    return np.array([0.0, *found]) if min(found) > 0 else np.array(FALLBACK)


def _level(key_N: np.ndarray, count_N: np.ndarray, vocabulary: int) -> Level:
    """Return the level of n-grams with their counts."""
    context_C, first_C = np.unique(key_N // vocabulary, return_index=True)
    number_C = np.diff(np.append(first_C, len(key_N)))
    total_C = np.add.reduceat(count_N, first_C)
    discount_N = discounts(count_N)[np.minimum(count_N, 3)]
    share_N = (count_N - discount_N) / np.repeat(total_C, number_C)
    return Level(key_N, share_N, context_C, np.add.reduceat(discount_N, first_C) / total_C)


def _mixed(level: Level, context_N: np.ndarray, key_N: np.ndarray, below_N: np.ndarray) -> np.ndarray:
    """Return the probabilities of a level: its own shares, and those below for what its contexts leave, or for all if unseen."""
    place_N, known_N = _found(level.context_C, context_N)
    own_N, seen_N = _found(level.key_N, key_N)
    return np.where(known_N, np.where(seen_N, level.share_N[own_N], 0.0) + level.rest_C[place_N] * below_N, below_N)


def _found(sorted_N: np.ndarray, wanted_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a place in an ascending array for each number, and whether it stands there."""
    place_N = np.minimum(np.searchsorted(sorted_N, wanted_N), len(sorted_N) - 1)
    return place_N, sorted_N[place_N] == wanted_N


def _padded(ids_T: np.ndarray, start: int) -> np.ndarray:
    return np.concatenate([np.array([start, start], dtype=np.int64), np.asarray(ids_T, dtype=np.int64)])


# ------------------------------------------------------------------------------------------------------------------- compressors


def gzip_bytes(text: bytes) -> int:
    """Return the size of a text under gzip at its highest level."""
    return len(gzip.compress(text, 9, mtime=0))


def xz_bytes(text: bytes, *, after: bytes = b"") -> int:
    """Return the size of a text under xz at its highest level, or what it adds to the stream of a text that it comes after."""
    if not after:
        return len(lzma.compress(text, preset=XZ_PRESET))
    return len(lzma.compress(after + text, preset=XZ_PRESET)) - len(lzma.compress(after, preset=XZ_PRESET))
