"""How certain a model is of a label: the probabilities of all labels that a row may have.

Enters: a model, what puts rows to it, and tasks with known labels. Leaves: the likeliest label of each task and its probability. Used by
`evaluate` and `decide`, where labels allow it; a free answer has no list of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.evaluate import Asking, answer
from burnish.models import Model
from burnish.reading import head_scores
from burnish.scores import SCORES
from burnish.types import Answer, Task

MOST = 200
"""Labels up to which each one's likelihood is measured: a forward pass for every label of every row."""


def has_labels(tasks: Sequence[Task]) -> bool:
    """Whether each of these tasks has one label out of a known list, short enough to be gone through."""
    return bool(tasks) and all(
        1 < len(task.expected.choices) <= MOST and task.expected.labels is not None and len(task.expected.labels) == 1
        for task in tasks
    )


def label_chances(
    model: Model, asker: Renderer | HeadRenderer, tasks: Sequence[Task], asking: Asking
) -> tuple[list[Answer], np.ndarray]:
    """Return the likeliest label of each task as an answer, and its probability among all labels.

    A head's scores become probabilities by their softmax; of a model that writes it is the likelihood of each label as the whole answer, its end
    with it, among those of all labels. A row too long for the model has the same chance for each.
    """
    if isinstance(asker, HeadRenderer):
        sequences = [window.sequence for task in tasks for window in asker.windows(task, learn=False)]
        scores = head_scores(model, asker.within(sequences, "cut"), tokens=asking.tokens, between=asking.between)
        logits, labels = [one[0] for one in scores], [asker.spec.labels] * len(tasks)
    else:
        every = [
            replace(task, expected=replace(task.expected, texts=(choice,))) for task in tasks for choice in task.expected.choices
        ]
        said = iter(answer(model, asker, every, {"bits_per_byte": SCORES["bits_per_byte"]}, asking))
        logits = [np.array([_logit(next(said)) for _ in task.expected.choices]) for task in tasks]
        labels = [task.expected.choices for task in tasks]
    logits = [one if np.isfinite(one).any() else np.zeros_like(one) for one in logits]
    chances = [np.exp(one - one.max()) / np.exp(one - one.max()).sum() for one in logits]
    best = [int(one.argmax()) for one in chances]
    answers = [Answer(text=names[place], stopped=True) for names, place in zip(labels, best, strict=True)]
    return answers, np.array([float(one[place]) for one, place in zip(chances, best, strict=True)])


def _logit(given: Answer) -> float:
    """Return the log-likelihood of an answer, minus infinity where it could not be measured."""
    return -given.nll if given.nll_tokens else -np.inf
