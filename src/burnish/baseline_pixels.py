"""The classical baseline of pictures: a linear model on a small copy of each, which knows no shape, only what is bright or coloured where.

In: tasks that show a picture and expect labels or a number. Out: a `Baseline` with the probability of each label. What a tuned network does
better than this is what it sees beyond light and place. Letters: B rows, F features, C labels.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.baseline_parts import FOLDS, Baseline, chosen_rows, said
from burnish.pictures import look
from burnish.types import Answer, ImagePart, Task, pictures_in

STRENGTHS = (0.001, 0.01, 0.1)
"""Candidates for C, the inverse strength of the regularisation, of features with deviation 1."""

PENALTIES = (1000.0, 100.0, 10.0)
"""Candidates for the penalty of a ridge regression on them."""

ROWS_FOR_CHOICE = 1500


def has_pictures(task: Task) -> bool:
    """Whether a task shows exactly one picture and nothing else."""
    return len(_shown(task)) == 1 and (task.expected.labels is not None or task.expected.number is not None)


def pixels(train: Sequence[Task], test: Sequence[Task], seed: int) -> Baseline | None:
    """Return what 32 x 32 grey and 8 x 8 coloured places of each picture speak for; the regularisation by cross-validation over groups.

    Labels by logistic regression, one for all or one each; a number by ridge regression, kept within those of the training rows.
    """
    rows_BF, asked_BF = _features(train, test)
    if all(task.expected.number is not None for task in [*train, *test]):
        number_B = np.array([task.expected.number for task in train], dtype=np.float64)
        penalty = _chosen(rows_BF, train, seed, PENALTIES, lambda x, y, z, p: ((_ridge(x, number_B[y], z, p)), number_B))
        found_B = _ridge(rows_BF, number_B, asked_BF, penalty).clip(number_B.min(), number_B.max())
        return Baseline(f"ridge regression on pixels (penalty {penalty:g})", said([f"{value:g}" for value in found_B]))
    known = sorted({label for task in train for label in task.expected.labels or ()})
    if len(known) < 2:
        return None
    target_BC = np.array([[label in (task.expected.labels or ()) for label in known] for task in train], dtype=np.float64)
    single = bool((target_BC.sum(1) == 1).all())
    strength = _chosen(rows_BF, train, seed, STRENGTHS, lambda x, y, z, c: (_chances(x, target_BC[y], z, c, single), target_BC))
    chance_BC = _chances(rows_BF, target_BC, asked_BF, strength, single)
    answers = tuple(_answer(dict(zip(known, row.tolist(), strict=True)), single) for row in chance_BC)
    return Baseline(f"logistic regression on pixels (C = {strength:g})", answers)


def _answer(chances: dict[str, float], single: bool) -> Answer:
    if single:
        return Answer(max(chances, key=lambda label: chances[label]), stopped=True, chances=chances)
    labels = [label for label, chance in chances.items() if chance > 0.5]
    return Answer(json.dumps(labels, ensure_ascii=False) if labels else "none", stopped=True, chances=chances)


def _shown(task: Task) -> tuple[ImagePart, ...]:
    return tuple(part for message in task.messages for part in pictures_in(message.content))


def _features(train: Sequence[Task], test: Sequence[Task]) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of both, [B, F] float32, with mean 0 and deviation 1 in the training rows."""
    sides = []
    for tasks in (train, test):
        looks = [look(_shown(task)[0]) for task in tasks]
        sides.append(np.stack([np.concatenate([one.grey_HW.ravel(), one.colour_HWC.ravel()]) for one in looks]).astype(np.float32))
    mean_F, deviation_F = sides[0].mean(0), sides[0].std(0)
    return tuple((side - mean_F) / np.maximum(deviation_F, 1.0) for side in sides)  # pyright: ignore[reportReturnType]


def _chosen(rows_BF: np.ndarray, train: Sequence[Task], seed: int, candidates: Sequence[float], fit: Any) -> float:
    """Return the candidate with the least squared error over folds of whole groups; the middle one where there are too few groups."""
    kept, fold_B = chosen_rows(train, ROWS_FOR_CHOICE, seed)
    folds = [fold for fold in range(FOLDS) if 0 < (fold_B == fold).sum() < len(fold_B)]
    if len(folds) < 2:
        return candidates[1]
    errors = np.zeros(len(candidates))
    for fold in folds:
        inside, outside = kept[fold_B != fold], kept[fold_B == fold]
        for place, candidate in enumerate(candidates):
            found, expected = fit(rows_BF[inside], inside, rows_BF[outside], candidate)
            errors[place] += ((found - expected[outside]) ** 2).sum()
    return candidates[int(errors.argmin())]


def _chances(rows_BF: np.ndarray, target_BC: np.ndarray, asked_BF: np.ndarray, strength: float, single: bool) -> np.ndarray:
    """Return the probability of each label for the rows asked for, [B, C]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    found_BC = np.zeros((len(asked_BF), target_BC.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hundred steps are enough for a baseline
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        if single:
            label_B = target_BC.argmax(1)
            if len(set(label_B.tolist())) == 1:
                found_BC[:, label_B[0]] = 1.0
                return found_BC
            model = LogisticRegression(C=strength, max_iter=100).fit(rows_BF, label_B)
            found_BC[:, model.classes_] = model.predict_proba(asked_BF)
            return found_BC
        for column, target_B in enumerate(target_BC.T):
            if target_B.all() or not target_B.any():
                found_BC[:, column] = target_B[0]
            else:
                model = LogisticRegression(C=strength, max_iter=100).fit(rows_BF, target_B)
                found_BC[:, column] = model.predict_proba(asked_BF)[:, 1]
    return found_BC


def _ridge(rows_BF: np.ndarray, number_B: np.ndarray, asked_BF: np.ndarray, penalty: float) -> np.ndarray:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=penalty).fit(rows_BF, number_B).predict(asked_BF)
