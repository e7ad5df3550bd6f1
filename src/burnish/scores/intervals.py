"""How far a score can be trusted: values of one or several arms with bootstrap intervals, and their differences.

In: the statistics [rows, K] of each arm on the same rows, and the group of each row (a document, a customer, a conversation). Out:
the object that a report shows for one score, of plain Python values. Rows of one group resemble each other, so groups are drawn and
not rows; all arms see the same draw, so that what makes a row hard for both cancels in their difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.errors import ConfigError
from burnish.types import Score, Task

FEW_GROUPS = 20
"""Below this number of groups an interval is marked as rough."""

_CHUNK = 4_000_000
"""Most numbers of a matrix of draws [resamples, groups] that are held at once."""

_RESERVED = ("difference", "differences", "n", "groups", "higher_is_better", "note")


def groups_of(tasks: Sequence[Task]) -> list[str]:
    """Return each task's group; a task without one is a group of its own."""
    return [f"row {index}" if task.group is None else f"group {task.group}" for index, task in enumerate(tasks)]


def intervals(
    score: Score,
    statistics_by_arm: Mapping[str, np.ndarray],
    groups: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    difference_from: str = "base",
) -> dict[str, Any]:
    """Return each arm's value and the differences between arms, with intervals by a paired bootstrap over groups.

    {ARM: {"mean", "low", "high"}, …, "difference": {…}, "n", "groups", "higher_is_better"}. `difference` is the arm "tuned" (or the
    only other one) minus `difference_from`, and is left out where there are not both; with more than two arms, `differences` holds
    every other arm minus `difference_from`. Rows to which the score does not apply (all zeros in every arm) are not counted in "n".
    "low" and "high" are None where there are fewer than two groups or a value is not finite, and "note" says so.

    Intervals are BCa (Efron 1987) with the acceleration from leaving out one group at a time, and levels widened as Student's t is
    wider than the normal (Hesterberg 2015), which holds the level from about 15 groups on. The result depends on nothing but
    the arguments. Raises ConfigError for impossible arguments.
    """
    _check(statistics_by_arm, resamples, level)
    arms = list(statistics_by_arm)
    sums_AGK, rows = _group_sums(np.stack([np.asarray(statistics_by_arm[arm], dtype=np.float64) for arm in arms]), groups)
    number = sums_AGK.shape[1]
    points_A = score.combine(sums_AGK.sum(axis=1))
    draws_AR = _resampled(score, sums_AGK, resamples, seed)
    left_out_AG = score.combine(sums_AGK.sum(axis=1, keepdims=True) - sums_AGK)

    def estimate(weights: Mapping[str, float]) -> dict[str, float | None]:
        factors_A = np.array([weights.get(arm, 0.0) for arm in arms])
        used = factors_A != 0
        with np.errstate(invalid="ignore"):
            point, draws_R, left_out_G = (factors_A[used] @ values[used] for values in (points_A, draws_AR, left_out_AG))
        low, high = _interval(float(point), draws_R, left_out_G, level)
        return {"mean": _finite(float(point)), "low": low, "high": high}

    report: dict[str, Any] = {arm: estimate({arm: 1.0}) for arm in arms}
    others = [arm for arm in arms if arm != difference_from] if difference_from in arms else []
    chosen = "tuned" if "tuned" in others else others[0] if len(others) == 1 else None
    if chosen is not None:
        report["difference"] = estimate({chosen: 1.0, difference_from: -1.0})
    if len(others) > 1:
        report["differences"] = {arm: estimate({arm: 1.0, difference_from: -1.0}) for arm in others}
    notes = _notes([report[arm] for arm in arms], number)
    report |= {"n": rows, "groups": number, "higher_is_better": score.higher_is_better}
    return report | ({"note": "; ".join(notes)} if notes else {})


def paired_draws(
    score: Score, statistics_by_arm: Mapping[str, np.ndarray], groups: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return the value of each arm [arms], the same on resampled groups [arms, resamples], and the rows and groups behind them.

    The draws are those that `intervals` makes its intervals of.
    """
    stacked = np.stack([np.asarray(values, dtype=np.float64) for values in statistics_by_arm.values()])
    sums_AGK, rows = _group_sums(stacked, groups)
    return score.combine(sums_AGK.sum(axis=1)), _resampled(score, sums_AGK, resamples, seed), rows, sums_AGK.shape[1]


def _check(statistics_by_arm: Mapping[str, np.ndarray], resamples: int, level: float) -> None:
    """Raise ConfigError for arguments that come from a user and cannot be used."""
    reserved = [arm for arm in statistics_by_arm if arm in _RESERVED]
    if reserved:
        raise ConfigError(f"an arm cannot be called {reserved[0]!r}: the report uses this name. Choose another one")
    if resamples < 100:
        raise ConfigError(f"intervals need at least 100 resamples, not {resamples}; 2000 is usual")
    if not 0.0 < level < 1.0:
        raise ConfigError(f"the level of an interval lies between 0 and 1, not at {level}; 0.95 is usual")
    assert statistics_by_arm, "intervals of no arm"


def _group_sums(statistics_ARK: np.ndarray, groups: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return the statistics summed over the rows of each group [arms, groups, K], and the number of rows that count."""
    assert statistics_ARK.shape[1] == len(groups), f"{statistics_ARK.shape[1]} rows of statistics, {len(groups)} groups"
    counts_R = (statistics_ARK != 0).any(axis=(0, 2))
    names = np.array([str(group) for group, counted in zip(groups, counts_R, strict=True) if counted])
    unique, group_of_row = np.unique(names, return_inverse=True)
    sums_AGK = np.zeros((statistics_ARK.shape[0], len(unique), statistics_ARK.shape[2]))
    for sums_GK, statistics_RK in zip(sums_AGK, statistics_ARK, strict=True):
        np.add.at(sums_GK, group_of_row, statistics_RK[counts_R])
    return sums_AGK, int(counts_R.sum())


def _resampled(score: Score, sums_AGK: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return the values [arms, resamples] on groups drawn with replacement, the same draw for all arms.

    A chunk of draws at a time bounds the memory; the generator runs on from chunk to chunk, so its size changes nothing.
    """
    arms, number, _ = sums_AGK.shape
    if number == 0:
        return np.full((arms, 0), np.nan)
    generator = np.random.default_rng(seed)
    chunks: list[np.ndarray] = []
    chunk = max(1, _CHUNK // number)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.integers(0, number, size=(size, number))
        flat = (drawn + number * np.arange(size)[:, None]).ravel()
        weights_RG = np.bincount(flat, minlength=size * number).reshape(size, number).astype(np.float64)
        chunks.append(np.stack([score.combine(weights_RG @ sums_GK) for sums_GK in sums_AGK]))
    return np.concatenate(chunks, axis=1)


def _interval(point: float, draws_R: np.ndarray, left_out_G: np.ndarray, level: float) -> tuple[float | None, float | None]:
    """Return the BCa interval, or None twice where there is nothing to compute it from.

    It is made to hold its own estimate, which the correction can leave outside where values are few and discrete.
    """
    from scipy.special import ndtr, ndtri, stdtrit

    number, resamples = len(left_out_G), len(draws_R)
    if number < 2 or not (math.isfinite(point) and np.isfinite(draws_R).all()):
        return None, None
    tail = (1.0 - level) / 2.0
    z = float(stdtrit(number - 1, 1.0 - tail)) * math.sqrt(number / (number - 1))
    # a draw equal to the estimate up to rounding is a tie: else the last bit would decide on which side half of the draws lie
    tied = np.isclose(draws_R, point, rtol=1e-9, atol=1e-12)
    below = float(((draws_R < point) & ~tied).sum() + 0.5 * tied.sum()) / resamples
    bias = float(ndtri(min(max(below, 0.5 / resamples), 1.0 - 0.5 / resamples)))
    acceleration = _acceleration(left_out_G)

    def share(quantile: float) -> float:
        shifted = bias + quantile
        room = 1.0 - acceleration * shifted
        # past its pole the correction has no meaning: take the end of the draws
        return float(ndtr(bias + shifted / room)) if room > 0 else float(quantile > 0)

    low, high = np.quantile(draws_R, [share(-z), share(z)])
    return min(float(low), point), max(float(high), point)


def _acceleration(left_out_G: np.ndarray) -> float:
    """Return how the standard error changes with the value: the skewness of the jackknife over groups, divided by six."""
    if not np.isfinite(left_out_G).all():
        return 0.0
    deviations = left_out_G.mean() - left_out_G
    scale = float((deviations**2).sum())
    return float((deviations**3).sum()) / (6.0 * scale**1.5) if scale > 1e-24 else 0.0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _notes(estimates: Sequence[Mapping[str, float | None]], number: int) -> list[str]:
    """Return what a reader must know about the intervals, in a few words each."""
    notes: list[str] = []
    if number == 0:
        return ["the score applies to no row"]
    if number < 2:
        notes.append("no interval: it takes at least two groups of rows")
    elif number < FEW_GROUPS:
        notes.append(f"rough intervals: only {number} groups of rows")
    if any(estimate["mean"] is None for estimate in estimates):
        notes.append("a value is not finite")
    elif number >= 2 and any(estimate["low"] is None for estimate in estimates):
        notes.append("no interval: the value is not finite on some resamples")
    if any(estimate["low"] is not None and estimate["low"] == estimate["high"] for estimate in estimates):
        notes.append("all groups are alike in an arm, so that its interval has no width: more rows would show how rare others are")
    return notes
