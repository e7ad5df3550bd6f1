"""How often each row of several sources stands in an epoch.

In: the number of rows and the weight of each source. Out: the (source, row) pairs of one epoch in a seeded order. Deterministic in
(seed, epoch): the plan of a run can be made again at any epoch without the ones before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as ListOf
from fractions import Fraction

import numpy as np

from burnish.errors import ConfigError, combined

# Weights are taken as the nearest fraction with a denominator up to this, so that fractions are carried over epochs without rounding.
FINEST = 100_000


def mixture(sizes: ListOf[int], weights: ListOf[float], *, seed: int, epoch: int) -> np.ndarray:
    """Return the rows of one epoch as (source, row) pairs, an int64 array [M, 2], in the epoch's own shuffled order.

    A weight is how often each row of its source appears per epoch: 2 twice, 0.5 every second epoch. Every row has a phase u, spread
    evenly over the rows of its source and shuffled by the seed, and appears floor((epoch + 1) * w + u) - floor(epoch * w + u) times. So
    an epoch holds w * size pairs of a source (rounded up or down), and after any number of epochs two rows of a source differ by one
    appearance at most; with 0.5, two epochs hold every row once. Raises ConfigError for weights that are not above 0.
    """
    assert len(sizes) == len(weights), f"{len(sizes)} sources, {len(weights)} weights"
    assert seed >= 0 and epoch >= 0, (seed, epoch)
    problems = [
        f"source {number} has the weight {weight}; expected a number above 0 ({1 / FINEST:g} at least). Leave the source out for none of it."
        for number, weight in enumerate(weights, 1)
        if not (math.isfinite(weight) and Fraction(weight).limit_denominator(FINEST) > 0)
    ]
    if problems:
        raise combined(ConfigError, "The weights of the sources cannot be used", problems)
    parts = []
    for source, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        row_M = np.repeat(np.arange(size), _appearances(size, weight, phase_seed=(seed, source), epoch=epoch))
        parts.append(np.stack([np.full_like(row_M, source), row_M], axis=1))
    pairs_MK = np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64)
    order_M = np.random.default_rng((seed, epoch, len(sizes))).permutation(len(pairs_MK))
    return pairs_MK[order_M].astype(np.int64)


def _appearances(size: int, weight: float, *, phase_seed: tuple[int, int], epoch: int) -> np.ndarray:
    """Return how often each of `size` rows appears in this epoch, int64, in exact arithmetic.

    With w = whole + p / q, the phase (2k + 1) / (2 size) of the k-th row of the seeded order, and everything over 2 size q.
    """
    exact = Fraction(weight).limit_denominator(FINEST)
    whole, rest = divmod(exact, 1)
    part, base = rest.numerator, rest.denominator
    rank_B = np.random.default_rng(phase_seed).permutation(size).astype(np.int64)
    phase_B = (2 * rank_B + 1) * base
    # Only the epoch modulo q matters (q * p / q is whole), which keeps the numbers inside 64 bits for any epoch.
    before = (epoch % base) * part * 2 * size
    after = before + part * 2 * size
    scale = 2 * size * base
    return int(whole) + (after + phase_B) // max(scale, 1) - (before + phase_B) // max(scale, 1)
