"""How far a model agrees with itself, and how far its certainty can be believed: figures of answers alone, whatever gave them.

Enters: answers as texts, which of them are right, how certain they are, and the group of each row. Leaves: plain values, each with an interval over
groups and the number of rows behind it. Used by `evaluate` and `decide`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from burnish.scores import SCORES, intervals

BINS, FEWEST_OF_A_BIN = 15, 4
"""Bins of equal mass for the calibration error, fewer where they would hold less than this many rows."""
SUREST = 0.8
RESAMPLES = 500


def shares(values_R: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Return the mean of values with its 95 % interval over groups, and n."""
    if not len(values_R):
        return {"mean": None, "low": None, "high": None, "n": 0}
    # A row of zeros alone would count as not compared; the second column says that it was.
    table = np.stack([np.asarray(values_R, dtype=np.float64), np.ones(len(values_R))], axis=1)
    found = intervals(SCORES["exact_match"], {"value": table}, groups)
    return {**found["value"], "n": found["n"]}


def agreement(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """Return for each row the share of pairs among its answers that are the same; 1 where it has one answer."""
    return np.array([np.mean([one == other for one, other in combinations(row, 2)]) if len(row) > 1 else 1.0 for row in texts])


def commonest(texts: Sequence[str]) -> tuple[int, float]:
    """Return the place of the first of the commonest answers, and its share of all: a certainty that needs no probabilities."""
    answer, count = Counter(texts).most_common(1)[0]
    return list(texts).index(answer), count / len(texts)


def calibration(certain_R: np.ndarray, correct_R: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Return the Brier score, the expected calibration error over bins of equal mass, and the accuracy on the surest 80 %.

    Each has a 95 % interval; that of the error is of a percentile bootstrap over groups, since its bins change with every draw.
    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599.
    """
    certain_R, correct_R = np.asarray(certain_R, dtype=np.float64), np.asarray(correct_R, dtype=np.float64)
    surest = np.argsort(-certain_R, kind="stable")[: max(1, round(SUREST * len(certain_R)))]
    _, group_R = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(group_R == number) for number in range(group_R.max() + 1)]
    draw, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES if len(members) > 1 else 0):
        rows = np.concatenate([members[number] for number in draw.integers(0, len(members), len(members))])
        drawn.append(_calibration_error(certain_R[rows], correct_R[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (None, None)
    error = _calibration_error(certain_R, correct_R)
    return {
        "brier": shares((certain_R - correct_R) ** 2, groups),
        "error": {
            "mean": error,
            "low": None if low is None else min(float(low), error),
            "high": None if high is None else max(float(high), error),
            "n": len(certain_R),
        },
        "accuracy_at_80": shares(correct_R[surest], [str(groups[int(row)]) for row in surest]),
        "n": len(certain_R),
    }


def _calibration_error(certain_R: np.ndarray, correct_R: np.ndarray) -> float:
    """Return the mean over bins of equal mass of how far certainty is from the share that is right."""
    order = np.argsort(-certain_R, kind="stable")
    bins = min(BINS, max(1, len(order) // FEWEST_OF_A_BIN))
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [len(part) * abs(float(certain_R[part].mean()) - float(correct_R[part].mean())) for part in parts]
    return float(sum(gaps) / len(order))
