"""The classical baseline of rows with a number: ridge regression on TF-IDF features.

In: tasks that expect a number, ratings of an answer too. Out: a `Baseline` whose answers are numbers as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.baseline_parts import FOLDS, Baseline, chosen_rows, features, inputs_of, said
from burnish.types import Task

PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Candidates for the penalty on squared weights, the strongest first."""

ROWS_FOR_CHOICE = 1500


def numbers(train: Sequence[Task], test: Sequence[Task], seed: int) -> Baseline | None:
    """Return the number that words and parts of words speak for; the penalty by cross-validation over groups of training rows.

    What it says stays within the numbers of the training rows. Source: Hoerl and Kennard 1970, "Ridge Regression".
    """
    if (inputs := inputs_of(train, test)) is None:
        return None
    rows_train, rows_test = features(*inputs)
    number_B = np.array([task.expected.number for task in train], dtype=np.float64)
    if not np.isfinite(number_B).all() or len(train) < 2:
        return None
    penalty = _penalty(rows_train, number_B, train, seed)
    found_B = _ridge(rows_train, number_B, rows_test, penalty).clip(number_B.min(), number_B.max())
    return Baseline(f"ridge regression on TF-IDF (penalty {penalty:g})", said([f"{value:g}" for value in found_B]))


def _ridge(rows: Any, number_B: np.ndarray, asked: Any, penalty: float) -> np.ndarray:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=penalty, solver="sparse_cg", tol=1e-4).fit(rows, number_B).predict(asked)


def _penalty(rows: Any, number_B: np.ndarray, train: Sequence[Task], seed: int) -> float:
    """Return the penalty with the least squared error over folds of whole groups; the strongest where there is one fold."""
    kept, fold_B = chosen_rows(train, ROWS_FOR_CHOICE, seed)
    rows, number_B = rows[kept], number_B[kept]
    folds = [fold for fold in range(FOLDS) if 0 < (fold_B == fold).sum() < len(fold_B)]
    errors = np.zeros(len(PENALTIES))
    for fold in folds:
        inside, outside = fold_B != fold, fold_B == fold
        for index, penalty in enumerate(PENALTIES):
            errors[index] += ((_ridge(rows[inside], number_B[inside], rows[outside], penalty) - number_B[outside]) ** 2).sum()
    return PENALTIES[int(errors.argmin())]
