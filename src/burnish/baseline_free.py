"""The classical baseline of free text: the answer of the most similar training row, or the beginning of the input where that is better.

In: tasks with reference texts. Out: a `Baseline`. Which of the two it is, is decided on training rows alone, by the score that heads the
table of such rows: summaries and rewritings have most of their words from the input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from burnish.baseline_parts import Baseline, features, groups_of_rows, inputs_of, said
from burnish.scores import SCORES, applicable
from burnish.types import Task

ROWS_FOR_CHOICE = 200
"""Training rows on which copying is compared with the nearest answer."""

_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")


def free(train: Sequence[Task], test: Sequence[Task], seed: int) -> Baseline | None:
    """Return for each task the text of the nearest training row, or its own first sentences, whichever scores higher on training rows."""
    if (inputs := inputs_of(train, test)) is None or not all(task.expected.texts for task in train):
        return None
    rows_train, rows_test = features(*inputs)
    answers = [_written(task) for task in train]
    words = median(len(answer.split()) for answer in answers)
    kept = np.random.default_rng(seed).permutation(len(train))[:ROWS_FOR_CHOICE]
    score = SCORES[applicable(train)[0]]
    if score.needs == "text" and len(train) > 1:
        groups_B, asked = groups_of_rows(train), [train[index] for index in kept]
        others = nearest(rows_train, rows_train[kept], apart=(groups_B, groups_B[kept]))
        sign = 1 if score.higher_is_better else -1
        copied, taken = (
            sign * float(score.combine(score.statistics(said(texts), asked).sum(axis=0)))
            for texts in ([beginning(inputs[0][index], words) for index in kept], [answers[index] for index in others])
        )
        if copied > taken:
            return Baseline("beginning of the input", said([beginning(one, words) for one in inputs[1]]))
    return Baseline("nearest training answer by TF-IDF", said([answers[index] for index in nearest(rows_train, rows_test)]))


def _written(task: Task) -> str:
    """Return the answer of a row as a model writes it, its calls of tools as JSON."""
    if not task.expected.tool_calls:
        return task.expected.texts[0]
    return json.dumps(
        [{"name": call.name, "arguments": dict(call.arguments)} for call in task.expected.tool_calls], ensure_ascii=False
    )


def beginning(source: str, words: float) -> str:
    """Return the first sentences of a text, as few as hold this many words, at least one."""
    taken: list[str] = []
    for sentence in (piece.strip() for piece in _SENTENCE.split(source)):
        if taken and sum(len(one.split()) for one in taken) >= words:
            break
        taken += [sentence] if sentence else []
    return " ".join(taken)


def nearest(rows_train: Any, rows_asked: Any, *, apart: tuple[np.ndarray, np.ndarray] | None = None) -> list[int]:
    """Return the training row most like each row asked for by the cosine of their features; the first one where several are.

    `apart` are the groups of both, and no row is then nearest to one of its own group.
    """
    found: list[int] = []
    for start in range(0, rows_asked.shape[0], 512):  # bounds the memory of the similarities
        likeness = np.asarray((rows_asked[start : start + 512] @ rows_train.T).todense())
        if apart is not None:
            likeness = np.where(apart[1][start : start + 512, None] == apart[0][None, :], -1.0, likeness)
        found += likeness.argmax(axis=1).tolist()
    return found
