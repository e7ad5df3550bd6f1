"""Which of several learning rates to take, from what their trials came to: the lowest dev loss, smoothed, the smaller one within noise.

Enters: trials with their losses on the parts of the dev rows. Leaves: a rate, or None. Pure arithmetic; `find_rate` makes the trials.
Letters: K parts of the dev rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from burnish.learning_rate import rounded

FACTOR = 3.0
"""From one rate to the next: the loss near its minimum changes little over less."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The first steps of a run at one rate: the dev loss after them, also by part of the rows; None and empty where it was given up."""

    rate: float
    loss: float | None
    losses: tuple[float, ...]
    steps: int
    note: str = ""


def finished(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that came to their end, the smallest rate first."""
    return sorted((trial for trial in trials if trial.loss is not None), key=lambda trial: trial.rate)


def lowest(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the lowest dev loss, None where none came to its end."""
    return min(finished(trials), key=_loss, default=None)


def choose(trials: Sequence[Trial], before_K: np.ndarray) -> float | None:
    """Return the rate to take, to two digits; None where no trial is better than the untuned model (`before_K`) by more than noise.

    The smallest rate whose loss is within one standard error of the lowest, the error being that of the difference part by part (the
    rule of one standard error of Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3). Where that is the lowest
    itself, and both its neighbours came to their end, the minimum of the parabola through the three over the logarithm of the rate.
    """
    done, best = finished(trials), lowest(trials)
    if best is None or not _better(best, before_K):
        return None
    place = top = done.index(best)
    while place > 0 and _better(done[place - 1], before_K) and not _worse(done[place - 1], best):
        place -= 1
    if place < top or not 0 < top < len(done) - 1:
        return rounded(done[place].rate)
    return rounded(_minimum(done[top - 1 : top + 2]))


def described(trials: Sequence[Trial], chosen: float | None) -> tuple[Trial, ...]:
    """Return the trials, the smallest rate first, with a note on the lowest and the chosen one."""
    best = lowest(trials)
    told = []
    for trial in sorted(trials, key=lambda trial: trial.rate):
        notes = [trial.note] if trial.note else []
        notes += ["lowest"] if trial is best else []
        notes += ["chosen"] if chosen is not None and trial.rate == chosen else []
        told.append(replace(trial, note=", ".join(notes)))
    return tuple(told)


def _loss(trial: Trial) -> float:
    assert trial.loss is not None
    return trial.loss


def _beyond_noise(difference_K: np.ndarray) -> bool:
    """Return whether the mean of paired differences is above 0 by more than its standard error."""
    error = difference_K.std(ddof=1) / np.sqrt(len(difference_K)) if len(difference_K) > 1 else 0.0
    return bool(difference_K.mean() > error)


def _better(trial: Trial, before_K: np.ndarray) -> bool:
    return _beyond_noise(before_K - np.asarray(trial.losses))


def _worse(trial: Trial, best: Trial) -> bool:
    return _beyond_noise(np.asarray(trial.losses) - np.asarray(best.losses))


def _minimum(three: Sequence[Trial]) -> float:
    """Return the rate at which the parabola through three trials, the middle one the lowest, has its minimum."""
    x_3 = np.log([trial.rate for trial in three])
    curve = np.polyfit(x_3 - x_3[1], [_loss(trial) for trial in three], 2)
    if curve[0] <= 0:  # all three alike
        return three[1].rate
    return float(np.exp(x_3[1] - curve[1] / (2 * curve[0])))
