"""The score of answers that end in a number, as those to problems of arithmetic do.

In: answers, and tasks that expect a number. Out: statistics [rows, 2] that add up. The last number of the answer counts, as people give
their result last.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from burnish.scores.parts import means, text_of
from burnish.types import Answer, Task

LONGEST = 40
"""Digits of a number that is read; more is junk."""

_NUMBER = re.compile(r"(?<![\w.])[-−+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+(?!\.?\d))?|(?<![\w.])[-−+]?\.\d+")


def last_number(answers: Sequence[Answer], tasks: Sequence[Task], *, tolerance: float = 0.0) -> np.ndarray:
    """Share of answers whose last number is the expected one, or lies within a share `tolerance` of it.

    Statistics [rows, 2]. Expected is the task's number, else the last number of its canonical text. 1,000 is 1000, 0.50 is 1/2, and
    signs of currency or per cent around a number are no part of it.
    """

    def right(answer: Answer, task: Task) -> float | None:
        expected = expected_number(task)
        if expected is None:
            return None
        given = last_number_of(text_of(answer))
        return float(given is not None and abs(given - expected) <= Fraction(tolerance) * abs(expected))

    return means(right(answer, task) for answer, task in zip(answers, tasks, strict=True))


def absolute_error(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Mean distance between the number that an answer ends in and the expected one; less is better.

    Statistics [rows, 2]. An answer without a number counts as one that is wrong by twice what is expected, and by 1 at least.
    """

    def distance(answer: Answer, task: Task) -> float | None:
        expected = task.expected.number
        if expected is None or not np.isfinite(expected):
            return None
        given = last_number_of(text_of(answer))
        return max(2 * abs(expected), 1.0) if given is None else abs(float(given) - expected)

    return means(distance(answer, task) for answer, task in zip(answers, tasks, strict=True))


def is_number(task: Task) -> bool:
    """Whether a task's row holds a number, not only a text that ends in one."""
    return task.expected.number is not None


def has_number(task: Task) -> bool:
    """Whether a task expects a number, by itself or at the end of its canonical text."""
    return expected_number(task) is not None


def expected_number(task: Task) -> Fraction | None:
    """Return the number that a task expects, None where there is none."""
    if task.expected.number is not None:
        return Fraction(str(task.expected.number)) if np.isfinite(task.expected.number) else None
    return last_number_of(task.expected.texts[0]) if task.expected.texts else None


def last_number_of(text: str) -> Fraction | None:
    """Return the last number of a text that can be read."""
    for found in reversed(_NUMBER.findall(text)):
        plain = found.replace(",", "").replace("−", "-")
        if len(plain) > LONGEST:
            return None
        try:
            whole, _, part = plain.partition("/")
            return Fraction(whole) / Fraction(part) if part else Fraction(whole)
        except (ValueError, ZeroDivisionError):
            return None
    return None
