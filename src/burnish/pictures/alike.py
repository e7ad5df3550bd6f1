"""Which pictures are near copies: the same picture saved again, made smaller, lighter or a little cut.

Enters: `ImagePart`s. Leaves: a number for each picture, the same for those of one family. Copies of 8 x 8 grey levels propose pairs, which
are known by their correlation (a hash of a few bits misses pictures with large even areas, where noise decides each bit), and the larger
copies decide: two chest X-rays are much alike at a glance, and are no copies of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np

from burnish.errors import DataError
from burnish.pictures.look import THUMB, Look, look
from burnish.types import ImagePart

GLANCE = 0.98
"""Correlation of the copies of 8 x 8 grey levels from which two pictures are looked at more closely."""

CORRELATION = 0.99
"""Correlation of the grey copies from which two pictures are near copies. Of 4,406 X-rays, copies have 0.999 and other pairs at most 0.97."""

BLOCK = 512
"""Pictures compared with all others at a time, which bounds the memory."""


@lru_cache(maxsize=16)
def families(parts: tuple[ImagePart, ...]) -> Mapping[str, int]:
    """Return by sha256 the number of each picture's family, which near copies share.

    Blank pictures are alike only where they are equal, and so are those that cannot be opened, which the checks tell. Every pair is glanced
    at, so that the time grows with the square of their number.
    """
    distinct = list({part.sha256: part for part in parts}.values())
    looks = [_looked(part) for part in distinct]
    telling = np.array([place for place, one in enumerate(looks) if one is not None and not one.is_blank], dtype=np.int64)
    parent = list(range(len(distinct)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    greys = [one.grey_HW.ravel() for place in telling.tolist() if (one := looks[place]) is not None]
    grey_NK = np.stack(greys) if greys else np.zeros((0, 1), dtype=np.uint8)
    for first_P, second_P in _proposed(grey_NK):
        same_P = _correlation(grey_NK, first_P, second_P) >= CORRELATION
        for first, second in zip(telling[first_P[same_P]].tolist(), telling[second_P[same_P]].tolist(), strict=True):
            low, high = sorted((root(first), root(second)))
            parent[high] = low
    return {part.sha256: root(place) for place, part in enumerate(distinct)}


def _looked(part: ImagePart) -> Look | None:
    try:
        return look(part)
    except DataError:
        return None


def _proposed(grey_NK: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of places that are alike at a glance, the first place below the second."""
    if not len(grey_NK):
        return
    small_NK = grey_NK.reshape(len(grey_NK), 8, THUMB // 8, 8, THUMB // 8).mean((2, 4), dtype=np.float32).reshape(len(grey_NK), 64)
    small_NK -= small_NK.mean(axis=1, keepdims=True)
    small_NK /= np.maximum(np.linalg.norm(small_NK, axis=1, keepdims=True), 1e-6)
    for start in range(0, len(small_NK), BLOCK):
        row_P, column_P = np.nonzero(small_NK[start : start + BLOCK] @ small_NK[start:].T >= GLANCE)
        later_P = column_P > row_P
        yield row_P[later_P] + start, column_P[later_P] + start


def _correlation(grey_NK: np.ndarray, first_P: np.ndarray, second_P: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of the grey levels of each pair."""
    found_P = np.zeros(len(first_P))
    for start in range(0, len(first_P), 8192):
        sides = [grey_NK[places[start : start + 8192]].astype(np.float32) for places in (first_P, second_P)]
        a_PK, b_PK = (side - side.mean(axis=1, keepdims=True) for side in sides)
        size_P = np.sqrt((a_PK**2).sum(1) * (b_PK**2).sum(1))
        found_P[start : start + 8192] = (a_PK * b_PK).sum(1) / np.maximum(size_P, 1e-6)
    return found_P
