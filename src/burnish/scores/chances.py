"""Scores of the probabilities of labels: how well they put rows in order, whatever threshold somebody chooses later.

In: answers with `chances`, and tasks with expected labels. Out: statistics [rows, K] that add up, although each row is compared with all
others: what a row brings in is fixed on all rows first. B are rows, C labels, K bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.scores.ratings import area_of_sums, area_statistics
from burnish.types import Answer, Task

BINS = 256
"""Thresholds that are told apart at most, at equal shares of the rows without the label."""


def auroc(answers: Sequence[Answer], tasks: Sequence[Task], *, positive: str | None = None) -> np.ndarray:
    """Chance that a row with a label gets a higher probability of it than one without: the area under the ROC curve.

    Statistics [rows, 5 C]: those of each label against all others (`ratings.area_statistics`), whose areas are averaged; of `positive` alone
    where it is named, and of two labels one, since both have the same area. An answer without probabilities is on the wrong side of all.
    Source: DeLong et al. 1988; Hand and Till 2001 for the reasons to average, here over one label against the rest.
    """
    labels = [positive] if positive is not None else _told_apart(tasks)
    parts = [area_statistics(_chance(answers, label), _holds(tasks, label)) for label in labels]
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(tasks), 5))


def mean_area_of_sums(sums: np.ndarray) -> np.ndarray:
    """Combine sums [..., 5 C] of `auroc` to the mean area [...] over the labels that some rows have and others have not."""
    area = area_of_sums(sums.reshape(*sums.shape[:-1], -1, 5))
    counted = np.isfinite(area)
    number = counted.sum(-1)
    return np.where(number > 0, np.where(counted, area, 0.0).sum(-1) / np.maximum(number, 1), np.nan)


def sensitivity(
    answers: Sequence[Answer], tasks: Sequence[Task], *, positive: str | None = None, specificity: float = 0.95
) -> np.ndarray:
    """Share of the rows with a label that are found where a share `specificity` of those without it is left in peace.

    `positive` is the label to be found, the last one by the alphabet if not named. Statistics [rows, 2 K + 4]: the bin of a row's probability
    among rows without and with the label, whether it is right at the threshold of all rows, 1, the specificity, 1. The threshold is chosen
    anew from the bins of every draw, so that an interval knows that it is uncertain too.
    """
    label = positive if positive is not None else next(iter(_told_apart(tasks)[-1:]), "")
    holds_B, chance_B = _holds(tasks, label), _chance(answers, label)
    told_B = ~np.isnan(chance_B)
    chance_B = np.where(told_B, chance_B, np.where(holds_B == 1, -1.0, 2.0))
    without = np.sort(chance_B[holds_B == 0])
    edges = np.unique(np.quantile(without, np.arange(1, BINS) / BINS, method="inverted_cdf")) if len(without) else np.zeros(0)
    bin_B = np.searchsorted(edges, chance_B, side="left")
    found = np.zeros((len(tasks), 2 * BINS + 4))
    for row, holds in enumerate(holds_B):
        if holds >= 0:
            found[row, holds * BINS + bin_B[row]] = 1.0
    place = _place(found[:, :BINS].sum(0), specificity) if len(without) else np.searchsorted(edges, 0.5)
    found[:, -4] = told_B & ((holds_B == 1) & (bin_B > place) | (holds_B == 0) & (bin_B <= place))
    found[:, -3], found[:, -2], found[:, -1] = holds_B >= 0, np.where(holds_B >= 0, specificity, 0.0), holds_B >= 0
    return found


def sensitivity_of_sums(sums: np.ndarray) -> np.ndarray:
    """Combine sums [..., 2 K + 4] of `sensitivity` to the share [...]; where rows of one kind are missing, to the share that was right."""
    without, with_it, rows = sums[..., :BINS], sums[..., BINS : 2 * BINS], sums[..., -1]
    wanted = np.divide(sums[..., -2], rows, out=np.ones(np.shape(rows)), where=rows > 0)
    place = np.apply_along_axis(lambda both: _place(both[:-1], both[-1]), -1, np.concatenate([without, wanted[..., None]], axis=-1))
    above = with_it.sum(-1) - np.take_along_axis(np.cumsum(with_it, axis=-1), np.asarray(place)[..., None], axis=-1)[..., 0]
    both = (without.sum(-1) > 0) & (with_it.sum(-1) > 0)
    share = np.divide(above, with_it.sum(-1), out=np.zeros(np.shape(rows)), where=with_it.sum(-1) > 0)
    right = np.divide(sums[..., -4], sums[..., -3], out=np.full(np.shape(rows), np.nan), where=sums[..., -3] > 0)
    return np.where(both, share, right)


def _place(without_K: np.ndarray, specificity: float) -> int:
    """Return the lowest bin up to which at least that share of the rows without the label lies."""
    total = without_K.sum()
    return int(np.searchsorted(np.cumsum(without_K), specificity * total - 1e-9)) if total else 0


def _told_apart(tasks: Sequence[Task]) -> list[str]:
    """Return the labels that tasks know, sorted; of two of which each row has one, the second alone."""
    expected = [task.expected for task in tasks if task.expected.labels is not None]
    labels = sorted({label for one in expected for label in (*one.choices, *(one.labels or ()))})
    single = all(len(one.labels or ()) == 1 for one in expected)
    return labels[1:] if single and len(labels) == 2 else labels


def _holds(tasks: Sequence[Task], label: str) -> np.ndarray:
    """Return 1 where a task expects the label, 0 where it does not, -1 where it expects none at all."""
    return np.array([-1 if task.expected.labels is None else int(label in task.expected.labels) for task in tasks], dtype=np.int64)


def _chance(answers: Sequence[Answer], label: str) -> np.ndarray:
    """Return the probability that each answer gives to a label, nan where it tells none."""
    return np.array([(one.chances or {}).get(label, np.nan) for one in answers], dtype=np.float64)
