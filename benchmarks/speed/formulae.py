"""The formulae by which figures are made: model FLOPs, padding, medians, and whether a row holds.

Enters: sizes, counts and seconds. Leaves: numbers. Imports nothing. The letters are those of the literature: layers L, hidden h, rank r.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


class Sizes(Protocol):
    """The sizes of a Llama network (`work.Shape`)."""

    @property
    def layers(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def key_heads(self) -> int: ...
    @property
    def head_size(self) -> int: ...
    @property
    def feed_forward(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def rank(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters that a token is multiplied with: the body's matrices, the output head, the adapters on all linear layers."""

    body: int
    head: int
    adapters: int


def parameters(shape: Sizes) -> Parameters:
    """Return the parameters of a network by what they cost: N_b, N_h and N_A."""
    h, query, key, f = shape.hidden, shape.heads * shape.head_size, shape.key_heads * shape.head_size, shape.feed_forward
    linears = [(h, query), (h, key), (h, key), (query, h), (h, f), (h, f), (f, h)]
    return Parameters(
        body=shape.layers * sum(inner * outer for inner, outer in linears),
        head=shape.vocabulary * h,
        adapters=shape.layers * shape.rank * sum(inner + outer for inner, outer in linears),
    )


def flops(shape: Sizes, lengths: Sequence[int], trained: int, *, technique: Literal["lora", "full"] = "lora") -> float:
    """Return the model FLOPs of training on sequences of these lengths, `trained` of their tokens carrying a label.

    Real tokens only; nothing computed twice, no padding. Full: 6 N_b + 6 N_h l + 6 L d_q S per token; LoRA: 4 N_b + 6 N_A + 4 N_h l +
    6 L d_q S, since no gradient of a frozen matrix is needed; S is the mean of squared lengths over the mean length.
    """
    tokens, squares = sum(lengths), sum(length * length for length in lengths)
    known = parameters(shape)
    attention = 6.0 * shape.layers * shape.heads * shape.head_size * squares
    if technique == "full":
        return 6.0 * known.body * tokens + 6.0 * known.head * trained + attention
    return 4.0 * known.body * tokens + 6.0 * known.adapters * tokens + 4.0 * known.head * trained + attention


def share_of_peak(work: float, seconds: float, peak: float) -> float:
    """Return which share of the measured matrix peak (FLOP/s) some work took."""
    return work / (seconds * peak)


def padding_share(tokens: int, positions: int) -> float:
    """Return the share of the positions of a layout that hold no token."""
    return 1.0 - tokens / positions


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some repeats, with the least and the greatest."""

    median: float
    least: float
    greatest: float
    repeats: int

    def over(self, other: Spread) -> float:
        """Return how many times the median of another this one's is."""
        return self.median / other.median


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the range of some repeats."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must reach: `least` it at least, or `most` it at most."""

    bound: float
    kind: Literal["least", "most"] = "least"

    def holds(self, value: float) -> bool:
        """Return whether a value reaches the target."""
        return value >= self.bound if self.kind == "least" else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.kind == 'least' else '≤'} {round(self.bound, 3):,g}"
