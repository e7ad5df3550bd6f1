"""Scores of how far the certainty of a preference can be believed: a reward model's chance that the chosen answer is the better one.

In: answers that carry a margin, and tasks made of pairs. Out: statistics [rows, K] that add up. The chance is the logistic function of the
margin, as the loss of a reward model means it (Bradley and Terry); a margin in nats of two log-probabilities is no such thing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.scores.parts import means
from burnish.scores.preference import is_pair
from burnish.types import Answer, Task

BINS = 10
"""Bins of certainty between 0.5 (no preference) and 1."""


def calibration_error(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """How far the certainty of a preference is from how often it is right, averaged over bins of certainty (ECE).

    Statistics [rows, 11]: certainty less rightness in the bin that the row falls into, 0 in the others, and 1. Certainty is the chance of
    the preferred answer; a tie is half right. Few rows make it too large: an empty bin counts nothing, a small one its chance error.
    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599, equation 3.
    """
    found = np.zeros((len(tasks), BINS + 1))
    for row, (answer, task) in enumerate(zip(answers, tasks, strict=True)):
        if is_pair(task):
            margin = _margin(answer)
            certainty = _chance(abs(margin))
            found[row, min(int((certainty - 0.5) * 2 * BINS), BINS - 1)] = certainty - float(np.heaviside(margin, 0.5))
            found[row, BINS] = 1.0
    return found


def error_of_sums(sums: np.ndarray) -> np.ndarray:
    """Combine sums [..., 11] of `calibration_error` to the error [...]: the sizes of the bins' sums together, divided by the rows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(sums[..., :BINS]).sum(axis=-1) / sums[..., BINS]


def brier_score(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Mean squared distance between the chance given to the chosen answer and 1: calibration and sharpness in one; 0.25 is no preference.

    Statistics [rows, 2]. Source: Brier 1950, "Verification of Forecasts Expressed in Terms of Probability".
    """
    return means(
        (1.0 - _chance(_margin(answer))) ** 2 if is_pair(task) else None for answer, task in zip(answers, tasks, strict=True)
    )


def _margin(answer: Answer) -> float:
    """Return the margin; where there is none, what is certain and wrong: nothing is gained by not answering."""
    margin = answer.margin
    return -np.inf if margin is None or not np.isfinite(margin) else margin


def _chance(margin: float) -> float:
    """Return the logistic function of a margin."""
    return float(1.0 / (1.0 + np.exp(-np.clip(margin, -700.0, 700.0))))
