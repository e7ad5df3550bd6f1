"""The score of grades, classes that stand in an order: how far answers are from agreement, a far miss counting more than a near one.

In: answers, and tasks that expect a grade, as a label or as a whole number. Out: statistics [rows, C C] that add up; C are grades.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from burnish.errors import ConfigError
from burnish.scores.labels import has_labels, named_labels
from burnish.scores.numbers import last_number_of
from burnish.scores.parts import text_of
from burnish.types import Answer, Task

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def has_grade(task: Task) -> bool:
    """Whether a task expects one label, or a whole number."""
    number = task.expected.number
    if has_labels(task):
        return len(task.expected.labels or ()) == 1
    return number is not None and float(number).is_integer()


def weighted_kappa(answers: Sequence[Answer], tasks: Sequence[Task], *, order: list[str] | None = None) -> np.ndarray:
    """Agreement of grades beyond chance, misses weighted by the square of their distance: 1 for the same grades, 0 for chance.

    Statistics [rows, C C]: 1 in the cell of expected and answered grade. `order` names the grades from least to most; grades that are numbers
    stand in their own order. An answer that is no grade counts as the one furthest from what was expected; a number as the nearest grade.
    Source: Cohen 1968, "Weighted kappa". Raises ConfigError for grades in words without an order.
    """
    rows = [row for row, task in enumerate(tasks) if has_grade(task)]
    names = sorted({name for row in rows for name in (*tasks[row].expected.choices, _expected(tasks[row]))})
    grades = _ordered(names, order)
    place = {name: number for number, name in enumerate(grades)}
    found = np.zeros((len(tasks), len(grades) ** 2))
    said = list(named_labels(answers, tasks))
    for row in rows:
        expected = place[_expected(tasks[row])]
        given = _given(answers[row], tasks[row], said[row], grades, place)
        found[row, expected * len(grades) + (given if given is not None else _furthest(expected, len(grades)))] = 1.0
    return found


def kappa_of_sums(sums: np.ndarray) -> np.ndarray:
    """Combine sums [..., C C] of `weighted_kappa` to the agreement [...]; nan without rows, 1 where all are one grade and answered so."""
    size = round(sums.shape[-1] ** 0.5)
    seen = sums.reshape(*sums.shape[:-1], size, size)
    total = seen.sum((-1, -2))
    weight = (np.arange(size)[:, None] - np.arange(size)[None, :]) ** 2.0
    by_chance = seen.sum(-1)[..., :, None] * seen.sum(-2)[..., None, :] / np.maximum(total, 1.0)[..., None, None]
    apart, expected = (np.asarray((part * weight).sum((-1, -2))) for part in (seen, by_chance))
    value = 1.0 - np.divide(apart, expected, out=np.asarray(apart > 0, dtype=np.float64), where=expected > 0)
    return np.where(total > 0, value, np.nan)


def _expected(task: Task) -> str:
    return task.expected.labels[0] if task.expected.labels else f"{task.expected.number:g}"


def _ordered(names: Sequence[str], order: list[str] | None) -> list[str]:
    if order is not None:
        if missing := [name for name in names if name not in order]:
            raise ConfigError(
                f"score weighted_kappa: order lacks {', '.join(map(repr, missing))}; name all grades, from least to most."
            )
        return list(order)
    if not all(_NUMBER.fullmatch(name) for name in names):
        raise ConfigError(
            f"score weighted_kappa: {', '.join(names[:6])} are words, whose order nobody knows. Name it, from least to most: "
            f'{{name = "weighted_kappa", order = ["low", "high"]}}.'
        )
    return sorted(names, key=float)


def _given(answer: Answer, task: Task, labels: tuple[str, ...] | None, grades: Sequence[str], place: dict[str, int]) -> int | None:
    """Return the place of the grade that an answer gives, None where it gives none."""
    if task.expected.labels is not None:
        return place.get(labels[0]) if labels is not None and len(labels) == 1 else None
    number = last_number_of(text_of(answer))
    if number is None:
        return None
    return int(np.argmin([abs(float(grade) - float(number)) for grade in grades]))


def _furthest(expected: int, size: int) -> int:
    return 0 if expected >= size / 2 else size - 1
