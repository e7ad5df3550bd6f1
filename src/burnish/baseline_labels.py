"""The classical baseline of rows with labels: logistic regression on TF-IDF features, the most frequent label where there is one alone.

In: tasks with labels to learn from and to answer. Out: a `Baseline` that gives labels as the training data writes them.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.baseline_parts import FOLDS, Baseline, chosen_rows, features, inputs_of, said
from burnish.types import Task

STRENGTHS = (1.0, 10.0, 100.0)
"""Candidates for C, the inverse strength of the regularisation."""

ROWS_FOR_CHOICE = 750
"""Rows on which C is chosen; all of them train the final model."""


def labels(train: Sequence[Task], test: Sequence[Task], seed: int) -> Baseline | None:
    """Return the labels that words and parts of words speak for; C by cross-validation over groups of training rows."""
    if (inputs := inputs_of(train, test)) is None:
        return None
    name, texts = _classified(train, *inputs, seed)
    return Baseline(name, said(texts))


def _classified(train: Sequence[Task], inputs: Sequence[str], asked: Sequence[str], seed: int) -> tuple[str, list[str]]:
    """Return the name of the classifier and the text of the label, or labels, that it gives to each input asked for."""
    written = _writing(train)
    expected = [tuple(sorted(set(task.expected.labels or ()))) for task in train]
    several = any(len(labels) != 1 for labels in expected)
    known = sorted({label for labels in expected for label in labels})
    if len(known) < 2:
        commonest = Counter(expected).most_common(1)[0][0]
        return "most frequent label", [written(commonest)] * len(asked)
    rows_train, rows_test = features(inputs, asked)
    targets_BC = np.array([[label in labels for label in known] for labels in expected])
    strength = _strength(rows_train, targets_BC, several, train, seed)
    given_BC = _fit_and_predict(rows_train, targets_BC, rows_test, several, strength)
    found = [tuple(label for label, given in zip(known, row, strict=True) if given) for row in given_BC]
    return f"logistic regression on TF-IDF (C = {strength:g})", [written(each) for each in found]


def _writing(train: Sequence[Task]) -> Any:
    """Return a function from labels to an answer, written as the training data writes these labels where it does."""
    seen = {tuple(sorted(set(task.expected.labels or ()))): task.expected.texts[0] for task in train if task.expected.texts}
    return lambda labels: seen.get(labels) or (labels[0] if len(labels) == 1 else json.dumps(labels, ensure_ascii=False))


def _strength(rows: Any, targets_BC: np.ndarray, several: bool, train: Sequence[Task], seed: int) -> float:
    """Return the C with the best accuracy over folds of whole groups; the middle one where there are too few groups.

    The choice is made on at most ROWS_FOR_CHOICE rows, whole groups again. Ties go to the stronger regularisation.
    """
    kept, fold_B = chosen_rows(train, ROWS_FOR_CHOICE, seed)
    dense, targets_BC = _rotated(rows[kept]), targets_BC[kept]
    scores = np.zeros(len(STRENGTHS))
    folds = [fold for fold in range(FOLDS) if _learnable(targets_BC[fold_B != fold]) and (fold_B == fold).any()]
    if len(folds) < 2:
        return STRENGTHS[1]
    for fold in folds:
        inside, outside = fold_B != fold, fold_B == fold
        for index, strength in enumerate(STRENGTHS):
            given = _fit_and_predict(dense[inside], targets_BC[inside], dense[outside], several, strength)
            scores[index] += (given == targets_BC[outside]).all(axis=1).mean()
    return STRENGTHS[int(np.argmax(scores))]


def _learnable(targets_BC: np.ndarray) -> bool:
    """Whether there are two different targets among the rows."""
    return len(targets_BC) > 0 and bool((targets_BC != targets_BC[0]).any())


def _rotated(rows: Any) -> np.ndarray:
    """Return few dense rows with the same inner products as the sparse ones.

    A linear model under an L2 penalty depends on nothing else, and in this form its fit costs a fraction: as many columns as rows.
    """
    gram = np.asarray((rows @ rows.T).todense(), dtype=np.float64)
    return np.linalg.cholesky(gram + 1e-6 * np.eye(len(gram)))


def _fit_and_predict(rows: Any, targets_BC: np.ndarray, asked: Any, several: bool, strength: float) -> np.ndarray:
    """Return which labels a logistic regression gives to the rows asked for, as booleans [rows, C].

    One label each: multinomial. Several: one regression for each label, given where it is more likely than not.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    given_BC = np.zeros((asked.shape[0], targets_BC.shape[1]), dtype=bool)
    with warnings.catch_warnings():
        # a hundred steps are enough for a baseline; what is left of the gradient then does not change a label
        warnings.simplefilter("ignore", ConvergenceWarning)
        # few rows of many labels are labels still, not a regression
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        if not several:
            model = LogisticRegression(C=strength, max_iter=100, tol=3e-4).fit(rows, targets_BC.argmax(axis=1))
            given_BC[np.arange(len(given_BC)), model.predict(asked)] = True
            return given_BC
        for column, target_B in enumerate(targets_BC.T):
            if target_B.all() or not target_B.any():
                given_BC[:, column] = target_B[0]
            else:
                model = LogisticRegression(C=strength, max_iter=100, tol=3e-4)
                given_BC[:, column] = model.fit(rows, target_B).predict(asked)
    return given_BC
