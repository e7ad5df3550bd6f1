"""What scores are made of: statistics that add up over rows, and how their sums become a value.

In: one number per answer (None where a task holds nothing to compare with). Out: float64 arrays [rows, K] and the functions that
combine their sums. Used by every file of scores. A row that a score does not apply to is all zeros, and a row that it applies to
never is: so sums leave out what was not compared, and `intervals` can count the rows behind a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from burnish.types import Answer, Task


def text_of(answer: Answer) -> str:
    """Return an answer's text, and an empty text where it holds none."""
    return answer.text if isinstance(answer.text, str) else ""


def table(rows: Iterable[Sequence[float]], width: int) -> np.ndarray:
    """Return rows of statistics as a float64 array [rows, width], also where there are no rows."""
    return np.array(list(rows), dtype=np.float64).reshape(-1, width)


def means(values: Iterable[float | None]) -> np.ndarray:
    """Return (value, 1) for each value and (0, 0) for each None: the statistics [rows, 2] of a mean."""
    return table(((0.0, 0.0) if value is None else (float(value), 1.0) for value in values), 2)


def mean(sums: np.ndarray) -> np.ndarray:
    """Combine sums [..., 2] of (value, 1) to means [...]; nan where nothing was counted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1]


def f_measure(sums: np.ndarray) -> np.ndarray:
    """Combine sums [..., 4] of (hits, answered, expected, rows) to the micro F1 [...] = 2 hits / (answered + expected).

    Where nothing is expected and nothing was answered all is right: 1. Where no row was counted: nan.
    """
    hits, mentioned, rows = sums[..., 0], sums[..., 1] + sums[..., 2], sums[..., 3]
    value = np.where(mentioned > 0, 2.0 * hits / np.where(mentioned > 0, mentioned, 1.0), 1.0)
    return np.where(rows > 0, value, np.nan)


def best_text(answers: Sequence[Answer], tasks: Sequence[Task], compare: Callable[[str, str], float]) -> np.ndarray:
    """Return means [rows, 2] of `compare(reference, answer)`, taken at the best of a task's acceptable texts."""
    return means(
        max(compare(reference, text_of(answer)) for reference in task.expected.texts) if has_texts(task) else None
        for answer, task in zip(answers, tasks, strict=True)
    )


def has_texts(task: Task) -> bool:
    """Whether a task has an acceptable answer that is not blank."""
    return any(text.strip() for text in task.expected.texts)


def is_generated(task: Task) -> bool:
    """Whether a task is answered by generation: it has messages, and is not a plain text to continue."""
    return task.text is None
