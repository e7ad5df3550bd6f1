"""Which rows say the same: exactly, or nearly.

In: examples. Out: clusters of their indices (or pairs between two sets). Checks report them; the split keeps a cluster on one side.

Near means: the Jaccard similarity of the sets of character 5-grams of `key_text` is at least the threshold. MinHash signatures in
buckets (locality-sensitive hashing: Broder 1997; Indyk and Motwani 1998) only propose candidates, and each is verified on the
true sets: the result never depends on the order of the rows, and short questions that share a beginning are not thrown together.
5-grams of characters and not of words, because one other word in a question of eight words is another question.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from collections.abc import Sequence as ListOf
from functools import cache, partial
from typing import NamedTuple

import numpy as np

from burnish.data.fields import annotation, key_text, pictures, shown_by
from burnish.errors import ConfigError
from burnish.pictures import families
from burnish.types import Example

Clusters = tuple[tuple[int, ...], ...]

NEAR = 0.85
"""Similarity from which rows are called near copies unless another is asked for."""
GRAM = 5
PERMUTATIONS = 128
# Three standard deviations of a similarity estimated from 128 minima; candidates below the threshold by more are not verified.
MARGIN = 0.1
# Shingles hashed at a time: bounds the memory of a signature, for rows that are whole books, and stays within a processor's cache.
BLOCK = 512


def exact(examples: ListOf[Example]) -> Clusters:
    """Return the clusters (two or more indices) of rows equal in `key_text`, pictures and annotation; empty rows are in none."""
    places: dict[Hashable, list[int]] = {}
    for index, example in enumerate(examples):
        text, seen = key_text(example), pictures(example)
        if text or seen:
            places.setdefault((text, seen, annotation(example)), []).append(index)
    return tuple(tuple(cluster) for cluster in places.values() if len(cluster) > 1)


def near(examples: ListOf[Example], *, threshold: float = NEAR) -> Clusters:
    """Return the clusters of rows that are equal or nearly equal, joined in chains: a near b and b near c puts all three together.

    Exact copies are in the clusters too, whatever their labels. Rows with pictures are near copies where their texts are equal and each
    picture is a near copy of the other row's (`pictures.alike`). A threshold of 1 leaves equal texts and pictures. Raises ConfigError for a
    threshold outside (0, 1].
    """
    rows, roots = _unique(examples), Roots(len(examples))
    for members in rows.values():
        for other in members[1:]:
            roots.join(members[0], other)
    index = _Index(threshold)
    if threshold == 1:  # equal texts are found by their equality alone
        return roots.clusters()
    of, known = families(shown_by(examples)), {}
    for (text, seen), members in rows.items():
        if seen:  # their texts are often none, or all the same: compared are the pictures
            roots.join(known.setdefault((text, tuple(of[one] for one in seen)), members[0]), members[0])
            continue
        row, place = index.row(text, seen), members[0]
        # A row already in the same cluster need not be looked at: the cluster is a chain in any case.
        for other, _ in index.similar(row, skip=partial(roots.same, place)):
            roots.join(other, place)
        index.add(row, place)
    return roots.clusters()


def between(first: ListOf[Example], second: ListOf[Example], *, threshold: float = NEAR) -> tuple[tuple[int, int, float], ...]:
    """Return, for each row of `second` that equals or nearly equals a row of `first`, (index there, own index, similarity).

    The most similar row is named, the earliest among equals; a similarity of 1 means equal texts. Raises ConfigError for a
    threshold outside (0, 1].
    """
    index, known = _Index(threshold), _unique(first)
    of = families(shown_by([*first, *second])) if threshold < 1 else {}
    like: dict[tuple[str, tuple[int, ...]], int] = {}
    for (text, seen), members in known.items() if threshold < 1 else ():
        if seen:
            like.setdefault((text, tuple(of[one] for one in seen)), members[0])
        else:
            index.add(index.row(text, seen), members[0])
    pairs: list[tuple[int, int, float]] = []
    for (text, seen), members in _unique(second).items():
        if (text, seen) in known:
            best = (known[text, seen][0], 1.0)
        elif threshold == 1:
            continue
        elif seen:
            place = like.get((text, tuple(of[one] for one in seen)))
            if place is None:
                continue
            best = (place, 0.9999)
        else:
            # Two different texts can have the same set of 5-grams; only equal texts are called 1.
            found = index.similar(index.row(text, seen))
            if not found:
                continue
            place, similarity = max(found, key=lambda pair: (pair[1], -pair[0]))
            best = (place, min(similarity, 0.9999))
        pairs += [(best[0], member, best[1]) for member in members]
    return tuple(sorted(pairs, key=lambda pair: pair[1]))


def _unique(examples: ListOf[Example]) -> dict[tuple[str, tuple[str, ...]], list[int]]:
    """Return the indices of each distinct (text, pictures), empty rows left out, in the order of first appearance."""
    rows: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for index, example in enumerate(examples):
        text, seen = key_text(example), pictures(example)
        if text or seen:
            rows.setdefault((text, seen), []).append(index)
    return rows


class Roots:
    """Disjoint sets of the indices 0..size-1 (union-find); the root of a set is its smallest index."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, index: int) -> int:
        """Return the smallest index of the set, shortening the way to it."""
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def same(self, first: int, second: int) -> bool:
        """Return whether two indices are in one set."""
        return self.root(first) == self.root(second)

    def join(self, first: int, second: int) -> None:
        """Make one set of the sets of two indices."""
        low, high = sorted((self.root(first), self.root(second)))
        self._parent[high] = low

    def clusters(self) -> Clusters:
        """Return the sets of two or more indices, ascending, ordered by their first."""
        members: dict[int, list[int]] = {}
        for index in range(len(self._parent)):
            members.setdefault(self.root(index), []).append(index)
        return tuple(tuple(cluster) for cluster in members.values() if len(cluster) > 1)


class _Row(NamedTuple):
    """What is compared of a row: its 5-grams as ascending hashes [K], their MinHash signature, its pictures."""

    shingles: np.ndarray
    signature: np.ndarray
    pictures: tuple[str, ...]


class _Index:
    """Rows added so far, and which of them are similar to another: MinHash buckets, then the true Jaccard similarity."""

    def __init__(self, threshold: float) -> None:
        if not 0 < threshold <= 1:
            raise ConfigError(
                f"The near-duplicate threshold is {threshold}; expected a similarity above 0 and at most 1. "
                "0.85 is usual; 1 joins only equal texts."
            )
        self._threshold = threshold
        bands, self._width = _bands(threshold)
        # A bucket holds the number of its row, and a list only where there are several: most rows are alone in each of theirs.
        self._buckets: list[dict[int, int | list[int]]] = [{} for _ in range(bands)]
        self._rows: list[_Row] = []
        self._places: list[int] = []
        # Sizes and the low bytes of the signatures of the remembered rows, in arrays that double: thousands of candidates of a row
        # (rows made from one template) are compared in one call.
        self._sizes_B = np.zeros(1024, dtype=np.int64)
        self._minima_BK = np.zeros((1024, PERMUTATIONS), dtype=np.uint8)

    def row(self, text: str, seen: tuple[str, ...]) -> _Row:
        """Return what is compared of a normalised text and its pictures."""
        shingles_K = _shingles(text)
        return _Row(shingles_K, _signature(shingles_K), seen)

    def add(self, row: _Row, place: int) -> None:
        """Remember a row under its place."""
        number = len(self._rows)
        if number == len(self._sizes_B):
            self._sizes_B = np.concatenate([self._sizes_B, np.zeros_like(self._sizes_B)])
            self._minima_BK = np.concatenate([self._minima_BK, np.zeros_like(self._minima_BK)])
        for bucket, key in zip(self._buckets, self._keys(row), strict=True):
            held = bucket.get(key)
            if isinstance(held, list):
                held.append(number)
            else:
                bucket[key] = number if held is None else [held, number]
        self._sizes_B[number] = len(row.shingles)
        self._minima_BK[number] = row.signature & 0xFF
        self._rows.append(row)
        self._places.append(place)

    def similar(self, row: _Row, *, skip: Callable[[int], bool] = lambda place: False) -> list[tuple[int, float]]:
        """Return (place, similarity) of the remembered rows at or above the threshold; `skip(place)` is asked before each look."""
        found = []
        for number in self._candidates(row):
            other, place = self._rows[number], self._places[number]
            if other.pictures != row.pictures or skip(place):
                continue
            similarity = _jaccard(row.shingles, other.shingles)
            if similarity >= self._threshold:
                found.append((place, similarity))
        return found

    def _candidates(self, row: _Row) -> list[int]:
        """Return the numbers of the rows worth verifying, ascending."""
        numbers: set[int] = set()
        for bucket, key in zip(self._buckets, self._keys(row), strict=True):
            held = bucket.get(key)
            if held is not None:
                numbers.update(held if isinstance(held, list) else (held,))
        if not numbers:
            return []
        chosen_B = np.sort(np.fromiter(numbers, dtype=np.int64, count=len(numbers)))
        sizes_B, size = self._sizes_B[chosen_B], len(row.shingles)
        # |A and B| / |A or B| is at most the ratio of the sizes, which costs nothing to know.
        chosen_B = chosen_B[np.minimum(sizes_B, size) >= self._threshold * np.maximum(sizes_B, size)]
        agreeing_B = np.count_nonzero(self._minima_BK[chosen_B] == (row.signature & 0xFF).astype(np.uint8), axis=1)
        return chosen_B[agreeing_B >= (self._threshold - MARGIN) * PERMUTATIONS].tolist()

    def _keys(self, row: _Row) -> list[int]:
        """Return the bucket that a row falls into in each band, by a hash of its minima: a wrong neighbour is only a candidate more."""
        used = len(self._buckets) * self._width
        bands_BK = row.signature[:used].astype(np.uint64).reshape(len(self._buckets), self._width)
        factor, keys_B = np.uint64(0x9E3779B97F4A7C15), np.zeros(len(self._buckets), dtype=np.uint64)
        for place in range(self._width):
            keys_B = (keys_B ^ bands_BK[:, place]) * factor
        return keys_B.tolist()


def _bands(threshold: float) -> tuple[int, int]:
    """Return (bands, rows a band): the longest bands that propose a pair at the threshold with a probability of 0.99 or more.

    A pair of similarity s shares one of b bands of r minima with probability 1 - (1 - s^r)^b.
    """
    return max(
        ((PERMUTATIONS // rows, rows) for rows in range(1, 33) if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= 0.99),
        key=lambda bands: bands[1],
        default=(PERMUTATIONS, 1),
    )


@cache
def _permutations() -> tuple[np.ndarray, np.ndarray]:
    """Return the odd factors and the summands [PERMUTATIONS, 1] of the hash functions, the same on every machine."""
    draw = np.random.Generator(np.random.Philox(key=1))
    factors_P, summands_P = (draw.integers(2**64, size=(PERMUTATIONS, 1), dtype=np.uint64) for _ in range(2))
    return factors_P | np.uint64(1), summands_P


def _signature(shingles_K: np.ndarray) -> np.ndarray:
    """Return the MinHash signature [PERMUTATIONS] of a set: the least value of each hash function over it, uint32.

    The upper half of a x + b modulo 2^64 is a universal hash of x. Source: Dietzfelbinger 1996, "Universal hashing and k-wise
    independent random variables via integer arithmetic without primes"; Broder 1997 for the minima.
    """
    factors_P1, summands_P1 = _permutations()
    least_P = np.full(PERMUTATIONS, 2**64 - 1, dtype=np.uint64)
    for start in range(0, len(shingles_K), BLOCK):
        hashes_PK = shingles_K[start : start + BLOCK].astype(np.uint64)[None] * factors_P1 + summands_P1
        np.minimum(least_P, hashes_PK.min(axis=1), out=least_P)
    return (least_P >> np.uint64(32)).astype(np.uint32)


def _shingles(text: str) -> np.ndarray:
    """Return the distinct character 5-grams of a text as ascending 32-bit hashes; a shorter text is one gram of its own.

    A polynomial of the code points modulo 2^64, its upper half kept: no Python runs per character.
    """
    codes_T = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    if len(codes_T) < GRAM:
        codes_T = np.pad(codes_T, (0, GRAM - len(codes_T)))
    factor, hashes_T = np.uint64(0x9E3779B97F4A7C15), np.zeros(len(codes_T) - GRAM + 1, dtype=np.uint64)
    for offset in range(GRAM):
        hashes_T = hashes_T * factor + codes_T[offset : offset + len(hashes_T)] + np.uint64(1)
    return np.unique(((hashes_T * factor) >> np.uint64(32)).astype(np.uint32))


def _jaccard(first_K: np.ndarray, second_K: np.ndarray) -> float:
    shared = len(np.intersect1d(first_K, second_K, assume_unique=True))
    return shared / (len(first_K) + len(second_K) - shared)
