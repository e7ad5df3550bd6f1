"""Scores of a reward of single answers: whether those that people found better get the higher one.

In: answers that are a number, and tasks that end with the judged answer and expect its rating. Out: statistics [rows, K] that add up,
although each row is compared with all others: what a row brings in is fixed on all rows first. B are rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.scores.parts import text_of
from burnish.types import Answer, Task


def is_rated(task: Task) -> bool:
    """Whether a task is an answer to be judged, of which the rating is known."""
    last = task.messages[-1].role if task.messages else ""
    return task.expected.number is not None and bool(np.isfinite(task.expected.number)) and last == "assistant"


def is_thumb(task: Task) -> bool:
    """Whether a task is an answer that has a thumb up (1) or down (0)."""
    return is_rated(task) and task.expected.number in (0.0, 1.0)


def thumb_auroc(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Chance that an answer with a thumb up gets a higher reward than one with a thumb down: the area under the ROC curve.

    Statistics [rows, 5]: the share of answers of the other thumb on the right side of a row's reward, ties half, and 1, for thumbs up;
    the same for thumbs down; the area over all rows. Their sums spread over groups as the area does. An answer that is no number is on the
    wrong side of all. Source: DeLong et al. 1988, "Comparing the Areas under Two or More Correlated ROC Curves", equations 4 and 5.
    """
    return area_statistics(_rewards(answers), np.array([_thumb(task) for task in tasks]))


def area_statistics(reward_B: np.ndarray, thumb_B: np.ndarray) -> np.ndarray:
    """Return the statistics [rows, 5] of `thumb_auroc` from a value for each row, nan for none, and whether it is up (1), down (0) or not counted."""
    up, down = reward_B[thumb_B == 1], reward_B[thumb_B == 0]
    found = np.zeros((len(thumb_B), 5))
    if not len(up) or not len(down):
        return found
    right = np.concatenate([[_share_below(one, down) for one in up], [_share_below(-one, -up) for one in down]])
    area = right[: len(up)].mean()
    found[thumb_B == 1, 0], found[thumb_B == 1, 1] = right[: len(up)], 1.0
    found[thumb_B == 0, 2], found[thumb_B == 0, 3] = right[len(up) :], 1.0
    found[thumb_B >= 0, 4] = area
    return found


def area_of_sums(sums: np.ndarray) -> np.ndarray:
    """Combine sums [..., 5] of `thumb_auroc` to the area [...]: on all rows the area itself; one row alone is its own share.

    A sum of both means less the area: so a draw of rows moves it by what both thumbs bring, which their average would halve.
    """
    rows = sums[..., 1] + sums[..., 3]
    area = np.divide(sums[..., 4], rows, out=np.full(np.shape(rows), np.nan), where=rows > 0)
    up = np.divide(sums[..., 0], sums[..., 1], out=np.array(area, copy=True), where=sums[..., 1] > 0)
    down = np.divide(sums[..., 2], sums[..., 3], out=np.array(area, copy=True), where=sums[..., 3] > 0)
    return np.clip(up + down - area, 0.0, 1.0)


def rating_correlation(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Rank correlation of reward and rating (Spearman): 1 where the order is the same, 0 where one says nothing of the other.

    Statistics [rows, 6]: with a and b the row's ranks in both, less the mean and divided by their deviation, ab, a, b, aa, bb, and 1. Rows
    that are equal share their mean rank. An answer that is no number has the rank furthest from its rating's.
    Source: Spearman 1904, "The Proof and Measurement of Association between Two Things".
    """
    from scipy.stats import rankdata

    rated_B = np.array([is_rated(task) for task in tasks], dtype=bool)
    found = np.zeros((len(tasks), 6))
    if not rated_B.any():
        return found
    rating_B = np.array([float(task.expected.number or 0.0) for task in tasks])[rated_B]
    reward_B = _rewards(answers)[rated_B]
    middle, most = np.median(rating_B), np.abs(np.nan_to_num(reward_B, posinf=0, neginf=0)).max() + 1.0
    reward_B = np.where(np.isnan(reward_B), np.where(rating_B > middle, -most, most), reward_B)
    a_B, b_B = (_standard(rankdata(values_B)) for values_B in (reward_B, rating_B))
    found[rated_B] = np.stack([a_B * b_B, a_B, b_B, a_B**2, b_B**2, np.ones(len(a_B))], axis=1)
    return found


def correlation_of_sums(sums: np.ndarray) -> np.ndarray:
    """Combine sums [..., 6] of `rating_correlation` to the correlation [...]; a single row's is 1 less half its squared difference of ranks.

    nan where all rows of several are alike in one of the two.
    """
    count = np.where(sums[..., 5] > 0, sums[..., 5], np.nan)
    product, a, b, aa, bb = (sums[..., place] / count for place in range(5))
    spread = np.sqrt(np.maximum(aa - a**2, 0.0) * np.maximum(bb - b**2, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(spread > 1e-12, (product - a * b) / spread, np.nan)
    return np.where(count == 1, 1.0 - (aa + bb - 2 * product) / 2, np.clip(value, -1.0, 1.0))


def _rewards(answers: Sequence[Answer]) -> np.ndarray:
    """Return the number that each answer is, nan where it is none."""
    return np.array([_number(text_of(answer)) for answer in answers])


def _number(text: str) -> float:
    try:
        value = float(text) if len(text) <= 40 else np.nan
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan


def _thumb(task: Task) -> int:
    return int(task.expected.number or 0) if is_thumb(task) else -1


def _share_below(value: float, others: np.ndarray) -> float:
    """Return the share of others below a value, equal ones half; nan is never below and has nothing below it."""
    return float(((others < value) + 0.5 * (others == value)).mean())


def _standard(ranks_B: np.ndarray) -> np.ndarray:
    centred_B = ranks_B - ranks_B.mean()
    return centred_B / (centred_B.std() or 1.0)
