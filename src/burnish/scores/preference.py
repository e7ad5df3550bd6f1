"""Scores of preferences: whether of two answers to a prompt the better one is preferred, by a reward model or by likelihood.

In: answers that carry a margin, and tasks made of pairs. Out: statistics [rows, 2] that add up. Which margin it is (two rewards, two
log-probabilities, or how far both moved from the untuned model) is the evaluation's to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.scores.parts import means
from burnish.types import Answer, Task


def is_pair(task: Task) -> bool:
    """Whether a task knows a better and a worse answer."""
    return task.expected.pair is not None


def preference_accuracy(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Share of pairs of which the chosen answer is preferred to the rejected one; a tie counts half.

    Statistics [rows, 2].
    """

    def value(answer: Answer, task: Task) -> float | None:
        if not is_pair(task):
            return None
        margin = answer.margin
        return 0.0 if margin is None or not np.isfinite(margin) else float(np.heaviside(margin, 0.5))

    return means(value(answer, task) for answer, task in zip(answers, tasks, strict=True))
