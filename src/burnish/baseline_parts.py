"""What the classical baselines share: the result, what a task says, TF-IDF features, groups and folds of training rows.

In: tasks. Out: `Baseline`, texts without the instruction that all of them repeat, sparse features learned from training texts alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.types import Answer, Task, plain

FOLDS = 3


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline's answers to the test tasks, in their order, what made them, and the seconds it took.

    `scores` names the only scores by which it compares with a model, where its answers hold no more than those read; empty: all.
    """

    name: str
    answers: tuple[Answer, ...]
    seconds: float = 0.0
    scores: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """A baseline for one kind of rows: whether a task is of that kind, and what answers (train, test, seed), None where it cannot."""

    holds: Callable[[Task], bool]
    answers: Callable[[Sequence[Task], Sequence[Task], int], Baseline | None]


def said(texts: Sequence[str]) -> tuple[Answer, ...]:
    """Return texts as complete answers."""
    return tuple(Answer(text, stopped=True) for text in texts)


# ---------------------------------------------------------------------------------------------------------------- what a task says


def prompt_of(task: Task) -> str:
    """Return what a user says in a task, and the answer that is to be judged where one stands last.

    The system's part and example answers are the same in every row or tell nothing.
    """
    judged = task.messages[-1:] if task.messages and task.messages[-1].role == "assistant" else ()
    return "\n".join(plain(message.content) for message in task.messages if message.role == "user" or message in judged)


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


def inputs_of(train: Sequence[Task], test: Sequence[Task]) -> tuple[list[str], list[str]] | None:
    """Return what the users say in both, without the instruction that all training rows share; None where no word is left to learn from."""
    inputs = without_common_ends([prompt_of(task) for task in train], [prompt_of(task) for task in test])
    return inputs if any(re.search(r"\w", text) for text in inputs[0]) else None


# ------------------------------------------------------------------------------------------------------------------ groups and folds


def groups_of_rows(train: Sequence[Task]) -> np.ndarray:
    """Return a number for the group of each task; a task without one is a group of its own."""
    names = [(index, None) if task.group is None else (-1, task.group) for index, task in enumerate(train)]
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names])


def chosen_rows(train: Sequence[Task], most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `most` rows, whole groups but for the last, in random order, and the fold (of FOLDS) of each: a group is in one fold."""
    groups_B = groups_of_rows(train)
    order = np.random.default_rng(seed).permutation(groups_B.max() + 1)
    ranks_B = np.argsort(order)[groups_B]
    kept = np.argsort(ranks_B, kind="stable")[:most]
    return kept, ranks_B[kept] % FOLDS


# ------------------------------------------------------------------------------------------------------------------------ features


def features(train: Sequence[str], test: Sequence[str]) -> tuple[Any, Any]:
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
