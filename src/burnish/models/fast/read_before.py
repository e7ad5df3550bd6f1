"""The past of prompts read before, for prompts that begin alike: a system prompt that many requests share is read once.

Enters: prompts, and what the network kept of them. Leaves: the longest beginning that is at hand, and its keys and values. What is least
recently used goes first. The numbers are those that reading gives, up to the rounding of products of another shape.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

SHORTEST = 32
"""Tokens from which it pays to keep a beginning, and to take one up."""
STEP = 16
"""Beginnings are taken up in whole steps, so that prompts which part a few tokens apart are still read together."""
MOST = 256
"""Prompts kept at most: each is compared with every new one."""


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """A prompt that was read with an adapter (None: the base): its tokens, and the keys and values [K, T, D] of every layer."""

    adapter: str | None
    tokens_T: np.ndarray
    key_LKTD: list[torch.Tensor]
    value_LKTD: list[torch.Tensor]

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return sum(one.numel() * one.element_size() for one in (*self.key_LKTD, *self.value_LKTD))


class ReadBefore:
    """Prompts read before, up to a number of bytes; a class because they persist between reads."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self.kept: OrderedDict[int, Begun] = OrderedDict()
        self.taken = 0
        """Tokens that did not have to be read again, in all."""
        self._next = 0

    def find(self, tokens_T: np.ndarray, adapter: str | None) -> tuple[Begun | None, int]:
        """Return what begins like a prompt for longest, and for how many tokens: a whole number of steps, and never the whole prompt."""
        best, longest, number = None, 0, -1
        for key, begun in self.kept.items():
            if begun.adapter == adapter and (shared := _shared(begun.tokens_T, tokens_T)) > longest:
                best, longest, number = begun, shared, key
        usable = min(longest, len(tokens_T) - 1) // STEP * STEP
        if best is None or usable < SHORTEST:
            return None, 0
        self.kept.move_to_end(number)
        self.taken += usable
        return best, usable

    def put(self, tokens_T: np.ndarray, adapter: str | None, cache: Any, line: int, known: int) -> None:
        """Keep what a cache holds of a prompt at a line, unless that is little more than the `known` first tokens of another."""
        if len(tokens_T) - known < SHORTEST:
            return
        length = len(tokens_T)
        begun = Begun(
            adapter,
            tokens_T.copy(),
            [layer.keys[line, :, :length].clone() for layer in cache.layers],
            [layer.values[line, :, :length].clone() for layer in cache.layers],
        )
        if begun.size > self.limit:
            return
        for key, other in list(self.kept.items()):  # what it begins with is part of it now
            if other.adapter == adapter and _shared(other.tokens_T, tokens_T) == len(other.tokens_T):
                self._forget(key)
        self.kept[self._next] = begun
        self._next += 1
        self.size += begun.size
        while self.size > self.limit or len(self.kept) > MOST:
            self._forget(next(iter(self.kept)))

    def _forget(self, key: int) -> None:
        self.size -= self.kept.pop(key).size


def _shared(left_T: np.ndarray, right_T: np.ndarray) -> int:
    """Return how many tokens two prompts have in common at their beginning."""
    length = min(len(left_T), len(right_T))
    differ = left_T[:length] != right_T[:length]
    return int(differ.argmax()) if differ.any() else length
