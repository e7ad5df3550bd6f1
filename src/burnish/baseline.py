"""What a tuned model must beat: a classical baseline on the same rows, without any language model.

In: tasks to learn from and tasks to answer. Out: answers like a model's, scored by the same scores and shown beside them. Where tasks
have labels it is a logistic regression on TF-IDF features, else the answer of the most similar training row.
"""

from __future__ import annotations

import json
import re
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.types import Answer, Task, plain

STRENGTHS = (1.0, 10.0, 100.0)
"""Candidates for C, the inverse strength of the regularisation."""

FOLDS = 3
ROWS_FOR_CHOICE = 750
"""Rows on which C is chosen; all of them train the final model."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline's answers to the test tasks, in their order, what made them, and the seconds it took."""

    name: str
    answers: tuple[Answer, ...]
    seconds: float


def linear_baseline(train: Sequence[Task], test: Sequence[Task], *, seed: int) -> Baseline | None:
    """Return the answers of the classical baseline to the test tasks, or None where the tasks allow none.

    Tasks with labels: words and pairs of words, and 3 to 5 characters within words, weighted by TF-IDF, into a logistic
    regression; C by cross-validation over groups of the training rows alone. Other tasks with reference texts: the canonical text
    of the nearest training row by the cosine of the same features. Nothing of the test tasks is read but their prompts. None for
    plain text to continue, for prompts without words, and without rows.
    """
    started = time.monotonic()
    tasks = [*train, *test]
    if not train or not test or any(task.text is not None for task in tasks):
        return None
    inputs = without_common_ends([_prompt(task) for task in train], [_prompt(task) for task in test])
    if not any(re.search(r"\w", text) for text in inputs[0]):
        return None
    if all(task.expected.labels is not None for task in tasks):
        name, texts = _classified(train, *inputs, seed)
    elif all(task.expected.texts for task in train):
        name, texts = _nearest(train, *inputs)
    else:
        return None
    return Baseline(name, tuple(Answer(text, stopped=True) for text in texts), time.monotonic() - started)


# ---------------------------------------------------------------------------------------------------------------------- features


def _prompt(task: Task) -> str:
    """Return what a user says in a task: the system's part and example answers are the same in every row or tell nothing."""
    return "\n".join(plain(message.content) for message in task.messages if message.role == "user")


def without_common_ends(train: Sequence[str], test: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the texts without the instruction that begins or ends all training prompts.

    It tells the rows apart in nothing, and a list of labels in it would make most of the work.
    """
    if len(set(train)) == 1:
        return list(train), list(test)
    # cut at the edge of a word, which else would lose its beginning or end in some rows
    prefix = _common_start(train)
    if any(re.match(r"\w", text[len(prefix) :]) for text in train):
        prefix = re.sub(r"\w+$", "", prefix)
    suffix = _common_start([text[len(prefix) :][::-1] for text in train])[::-1]
    if any(re.search(r"\w$", text.removesuffix(suffix)) for text in train):
        suffix = re.sub(r"^\w+", "", suffix)

    def inner(text: str) -> str:
        return text.removeprefix(prefix).removesuffix(suffix)

    return [inner(text) for text in train], [inner(text) for text in test]


def _common_start(texts: Sequence[str]) -> str:
    """Return the longest text that all begin with: what the first and the last in alphabetical order share."""
    first, last = min(texts), max(texts)
    differ = (index for index, (left, right) in enumerate(zip(first, last, strict=False)) if left != right)
    return first[: next(differ, min(len(first), len(last)))]


def _features(train: Sequence[str], test: Sequence[str]) -> tuple[Any, Any]:
    """Return the TF-IDF features of both as sparse float32 rows of length 1, learned from the training texts."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    shapes = (
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+", sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True),
    )
    blocks = [(shape.fit_transform(train), shape.transform(test)) for shape in shapes]
    rows_train, rows_test = (normalize(hstack([block[side] for block in blocks]).tocsr().astype(np.float32)) for side in range(2))
    return rows_train, rows_test


# ------------------------------------------------------------------------------------------------------------------------ labels


def _classified(train: Sequence[Task], inputs: Sequence[str], asked: Sequence[str], seed: int) -> tuple[str, list[str]]:
    """Return the name of the classifier and the text of the label, or labels, that it gives to each input asked for."""
    written = _writing(train)
    expected = [tuple(sorted(set(task.expected.labels or ()))) for task in train]
    several = any(len(labels) != 1 for labels in expected)
    known = sorted({label for labels in expected for label in labels})
    if len(known) < 2:
        commonest = Counter(expected).most_common(1)[0][0]
        return "most frequent label", [written(commonest)] * len(asked)
    rows_train, rows_test = _features(inputs, asked)
    targets_BC = np.array([[label in labels for label in known] for labels in expected])
    strength = _strength(rows_train, targets_BC, several, _groups(train), seed)
    given_BC = _fit_and_predict(rows_train, targets_BC, rows_test, several, strength)
    labels = [tuple(label for label, given in zip(known, row, strict=True) if given) for row in given_BC]
    return f"logistic regression on TF-IDF (C = {strength:g})", [written(each) for each in labels]


def _writing(train: Sequence[Task]) -> Any:
    """Return a function from labels to an answer, written as the training data writes these labels where it does."""
    seen = {tuple(sorted(set(task.expected.labels or ()))): task.expected.texts[0] for task in train if task.expected.texts}
    return lambda labels: seen.get(labels) or (labels[0] if len(labels) == 1 else json.dumps(labels, ensure_ascii=False))


def _groups(train: Sequence[Task]) -> np.ndarray:
    """Return a number for the group of each task; a task without one is a group of its own."""
    names = [(index, None) if task.group is None else (-1, task.group) for index, task in enumerate(train)]
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names])


def _strength(rows: Any, targets_BC: np.ndarray, several: bool, groups_B: np.ndarray, seed: int) -> float:
    """Return the C with the best accuracy over folds of whole groups; the middle one where there are too few groups.

    The choice is made on at most ROWS_FOR_CHOICE rows, whole groups again. Ties go to the stronger regularisation.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(groups_B.max() + 1)
    ranks_B = np.argsort(order)[groups_B]
    kept = np.argsort(ranks_B, kind="stable")[:ROWS_FOR_CHOICE]
    dense, targets_BC, fold_B = _rotated(rows[kept]), targets_BC[kept], ranks_B[kept] % FOLDS
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


# --------------------------------------------------------------------------------------------------------------------- free text


def _nearest(train: Sequence[Task], inputs: Sequence[str], asked: Sequence[str]) -> tuple[str, list[str]]:
    """Return the canonical text of the training row nearest to each input asked for; the first one where several are."""
    rows_train, rows_test = _features(inputs, asked)
    nearest: list[int] = []
    for start in range(0, len(asked), 512):  # bounds the memory of the similarities
        nearest += np.asarray((rows_test[start : start + 512] @ rows_train.T).todense()).argmax(axis=1).tolist()
    return "nearest training answer by TF-IDF", [train[index].expected.texts[0] for index in nearest]
