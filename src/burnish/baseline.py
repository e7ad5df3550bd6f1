"""What a tuned model must beat: a cheap classical baseline on the same rows, without any language model.

In: tasks to learn from and tasks to answer. Out: answers like a model's, scored by the same scores and shown beside them. Which kind of
baseline it is follows from what the rows hold (KINDS); each stands in a file of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from burnish.baseline_context import quoted
from burnish.baseline_free import free
from burnish.baseline_labels import labels
from burnish.baseline_numbers import numbers
from burnish.baseline_pairs import pairs
from burnish.baseline_parts import Baseline, Kind, without_common_ends
from burnish.baseline_pixels import has_pictures, pixels
from burnish.baseline_spans import spans
from burnish.baseline_text import text
from burnish.scores.labels import has_labels
from burnish.scores.numbers import is_number
from burnish.scores.preference import is_pair
from burnish.scores.spans import has_spans
from burnish.types import Task

__all__ = ["Baseline", "linear_baseline", "without_common_ends"]

KINDS: tuple[Kind, ...] = (
    Kind(has_pictures, pixels),
    Kind(lambda task: task.text is not None, text),
    Kind(is_pair, pairs),
    Kind(is_number, numbers),
    Kind(has_labels, labels),
    Kind(has_spans, spans),
    Kind(lambda task: task.expected.asked is not None, quoted),
    Kind(lambda task: task.text is None, free),
)
"""The first kind that all tasks are of answers them."""


def linear_baseline(train: Sequence[Task], test: Sequence[Task], *, seed: int) -> Baseline | None:
    """Return the answers of the classical baseline to the test tasks, or None where the tasks allow none.

    Pictures: a linear model on their pixels. Texts: an n-gram model of their bytes. Pairs: a reward of a bag of words. Numbers: ridge
    regression, labels: logistic regression, both on TF-IDF features. Spans: a classifier of words by their form and their neighbours.
    Questions with a context: the window that the question's words stand around. Other tasks with reference texts: the nearest training
    row's text, or the beginning of the input.
    Nothing of the test tasks is read but what is asked, and no choice is made on them. None without rows, or words in the prompts.
    """
    started = time.monotonic()
    tasks = [*train, *test]
    kind = next((kind for kind in KINDS if all(map(kind.holds, tasks))), None)
    if not train or not test or kind is None:
        return None
    found = kind.answers(train, test, seed)
    return None if found is None else replace(found, seconds=time.monotonic() - started)
