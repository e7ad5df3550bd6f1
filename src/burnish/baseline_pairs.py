"""The classical baseline of preferences: a reward that is a weighted sum of an answer's words, learned from the training pairs.

In: tasks made of pairs. Out: a `Baseline` whose answers carry margins (chosen less rejected), and for scores that read a text the chosen
answer of the nearest training prompt. The reward is the same function of both answers, so it cannot tell which one was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from burnish.baseline_free import nearest
from burnish.baseline_parts import FOLDS, Baseline, chosen_rows, features, inputs_of, said
from burnish.types import Message, Task, plain

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Candidates for C, the inverse strength of the regularisation."""

ROWS_FOR_CHOICE = 2000


def pairs(train: Sequence[Task], test: Sequence[Task], seed: int) -> Baseline | None:
    """Return by how much the words of the chosen answer speak for it more than those of the rejected one.

    Logistic regression without a constant on the difference of the answers' TF-IDF features (words and pairs of words), and on that of
    their lengths where cross-validation over groups of training rows finds that it helps; C is chosen there too.
    Source: Bradley and Terry 1952, "Rank Analysis of Incomplete Block Designs".
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    (chosen, rejected), (asked_chosen, asked_rejected) = _sides(train), _sides(test)
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", sublinear_tf=True)
    try:
        words.fit([*chosen, *rejected])
    except ValueError:  # no words at all
        return None
    rows = words.transform(chosen) - words.transform(rejected)
    asked = words.transform(asked_chosen) - words.transform(asked_rejected)
    longer_B, asked_longer_B = _longer(chosen, rejected), _longer(asked_chosen, asked_rejected)
    strength, with_length = _choice(rows, longer_B, train, seed)
    weights = _weights(_joined(rows, longer_B, with_length), strength)
    margin_B = _joined(asked, asked_longer_B, with_length) @ weights
    name = f"logistic regression on the difference of bags of words{' and lengths' if with_length else ''} (C = {strength:g})"
    answers = [replace(one, margin=float(margin)) for one, margin in zip(_texts(train, test), margin_B, strict=True)]
    return Baseline(name, tuple(answers))


def _sides(tasks: Sequence[Task]) -> tuple[list[str], list[str]]:
    """Return what the assistant says in the chosen and in the rejected answers."""
    found = [task.expected.pair for task in tasks]
    return [_said(pair.chosen) for pair in found if pair is not None], [_said(pair.rejected) for pair in found if pair is not None]


def _said(messages: Sequence[Message]) -> str:
    return "\n".join(plain(message.content) for message in messages if message.role == "assistant")


def _longer(chosen: Sequence[str], rejected: Sequence[str]) -> np.ndarray:
    """Return by how much the chosen answers are longer, as the logarithm of the ratio of their characters [B]."""
    return np.array([np.log((1 + len(one)) / (1 + len(other))) for one, other in zip(chosen, rejected, strict=True)])


def _joined(rows: Any, longer_B: np.ndarray, with_length: bool) -> Any:
    from scipy.sparse import csr_matrix, hstack

    return hstack([rows, csr_matrix(longer_B[:, None])]).tocsr() if with_length else rows


def _weights(rows: Any, strength: float) -> np.ndarray:
    """Return the weights under which the differences are likeliest to be positive; each pair also stands the other way round."""
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression

    ones_B = np.ones(rows.shape[0])
    # Both ways each pair counts twice, so half of C is the C of single pairs.
    model = LogisticRegression(C=strength / 2, fit_intercept=False, max_iter=200, tol=1e-3)
    return model.fit(vstack([rows, -rows]).tocsr(), np.concatenate([ones_B, -ones_B])).coef_[0]


def _choice(rows: Any, longer_B: np.ndarray, train: Sequence[Task], seed: int) -> tuple[float, bool]:
    """Return C, and whether the length is a feature: what makes the pairs of left-out groups likeliest; the first where none is left out."""
    kept, fold_B = chosen_rows(train, ROWS_FOR_CHOICE, seed)
    rows, longer_B = rows[kept], longer_B[kept]
    folds = [fold for fold in range(FOLDS) if 0 < (fold_B == fold).sum() < len(fold_B)]
    losses = {}
    for with_length, strength in product((False, True), STRENGTHS):
        joined, loss = _joined(rows, longer_B, with_length), 0.0
        for fold in folds:
            margin_B = joined[fold_B == fold] @ _weights(joined[fold_B != fold], strength)
            loss += float(np.logaddexp(0.0, -margin_B).sum())
        losses[strength, with_length] = loss
    return min(losses, key=lambda choice: losses[choice])


def _texts(train: Sequence[Task], test: Sequence[Task]) -> Sequence[Any]:
    """Return the chosen answer of the training row with the nearest prompt; empty answers where prompts hold no words."""
    if (inputs := inputs_of(train, test)) is None or not all(task.expected.texts for task in train):
        return said([""] * len(test))
    return said([train[index].expected.texts[0] for index in nearest(*features(*inputs))])
