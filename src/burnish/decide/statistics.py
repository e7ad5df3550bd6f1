"""What the score tables of several arms say together: values, paired differences and how sure they are.

Enters: the statistics [rows, K] of each arm on the same rows, the group of each row, and the score that combines them. Leaves: a
`Comparison`, in which more is always better (of scores where less is better, values are negative). Groups are drawn and not rows, and all arms
see the same draw, so that what makes a row hard for every arm cancels in their differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from burnish.scores import intervals
from burnish.scores.intervals import paired_draws
from burnish.types import Score

RESAMPLES = 2000
POWER = 0.8416212335729143
"""Quantile of the normal distribution at a power of 80 %."""
CERTAIN = 1.959963984540054
"""Quantile at 97.5 %: both ends of a 95 % interval."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Arms on the same rows.

    `values` by arm, more being better; `draws_AR` the same on resampled groups, arms in the order of `values`; `rows` and `groups` behind them.
    `correct` are, by arm, the rows answered wholly right where the score knows nothing between right and wrong, else nothing.
    """

    values: Mapping[str, float]
    draws_AR: np.ndarray
    rows: int
    groups: int
    correct: Mapping[str, np.ndarray]

    def gain(self, arm: str, other: str) -> float:
        """Return by how much `arm` is observed to be better than `other`."""
        return self.values[arm] - self.values[other]

    def gains(self, arm: str, other: str) -> np.ndarray:
        """Return the same difference on every resample."""
        names = list(self.values)
        return self.draws_AR[names.index(arm)] - self.draws_AR[names.index(other)]


def compare(
    statistics: Mapping[str, np.ndarray], groups: Sequence[str], score: Score, *, seed: int = 0, resamples: int = RESAMPLES
) -> Comparison:
    """Return the comparison of arms by a score."""
    sign = 1.0 if score.higher_is_better else -1.0
    points_A, draws_AR, rows, number = paired_draws(score, statistics, groups, resamples=resamples, seed=seed)
    values = {arm: sign * float(point) for arm, point in zip(statistics, points_A, strict=True)}
    return Comparison(values, sign * draws_AR, rows, number, _correct(statistics))


def _correct(statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return by arm which rows are right, where every row of every arm is either right or wrong; nothing otherwise."""
    binary = all(
        values.shape[1] == 2 and np.isin(values[:, 0], (0.0, 1.0)).all() and np.isin(values[:, 1], (0.0, 1.0)).all()
        for values in statistics.values()
    )
    return {arm: values[:, 0] > 0 for arm, values in statistics.items()} if binary else {}


def difference(
    statistics: Mapping[str, np.ndarray],
    groups: Sequence[str],
    score: Score,
    arm: str,
    other: str,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, float | None]:
    """Return by how much `arm` is better than `other`, with a 95 % interval; more is better, also of a score where less is."""
    pair = {name: np.asarray(statistics[name], dtype=np.float64) for name in (other, arm)}
    found = intervals(score, pair, groups, seed=seed, resamples=resamples, difference_from=other)["difference"]
    if score.higher_is_better:
        return found
    turned = {key: None if value is None else -value for key, value in found.items()}
    return {"mean": turned["mean"], "low": turned["high"], "high": turned["low"]}


def mcnemar(right: np.ndarray, other: np.ndarray) -> tuple[int, int, float]:
    """Return how many rows only the first arm has right, how many only the second, and the exact two-sided probability of such a split.

    Source: McNemar 1947, with the binomial distribution in place of the normal one.
    """
    from scipy.stats import binomtest

    only, theirs = int((right & ~other).sum()), int((other & ~right).sum())
    chance = float(binomtest(min(only, theirs), only + theirs).pvalue) if only + theirs else 1.0
    return only, theirs, chance


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """Return probabilities adjusted for their number, so that one false finding among all is as rare as 5 % says. Source: Holm 1979."""
    adjusted, worst = {}, 0.0
    for place, (name, chance) in enumerate(sorted(chances.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, (len(chances) - place) * chance))
        adjusted[name] = worst
    return {name: adjusted[name] for name in chances}


def detectable(rows: int, discordant: float) -> float:
    """Return the smallest difference between two arms that this many rows show with 80 % power, at a two-sided level of 5 %.

    `discordant` is the share of rows that one arm has right and the other wrong. Solves √n δ = 1.96 √d + 0.84 √(d - δ²) for δ: Miettinen 1968.
    """
    if rows < 1 or not 0.0 < discordant <= 1.0:
        return math.nan
    low, high = 0.0, math.sqrt(discordant)
    for _ in range(60):
        middle = (low + high) / 2
        needed = CERTAIN * math.sqrt(discordant) + POWER * math.sqrt(max(discordant - middle**2, 0.0))
        low, high = (middle, high) if math.sqrt(rows) * middle < needed else (low, middle)
    return high


def detectable_between(comparison: Comparison, arm: str, other: str) -> float:
    """Return the smallest difference between two arms that these rows show with 80 % power, from the scatter of their difference.

    Rows of one group do not count as so many independent ones, which the formula for single rows would assume.
    """
    return float((CERTAIN + POWER) * comparison.gains(arm, other).std())


def rows_needed(comparison: Comparison, arm: str, other: str, *, margin: float) -> int | None:
    """Return how many rows like these would prove that `arm` is less than `margin` behind `other`, None where no number would.

    As if the observed difference were the true one, and the error fell with the root of the number of rows.
    """
    behind, error = comparison.gain(other, arm), float(comparison.gains(other, arm).std())
    if behind >= margin:
        return None
    return max(comparison.rows, math.ceil(comparison.rows * (CERTAIN * error / (margin - behind)) ** 2))
