"""Scores of answers that a program reads: valid JSON, its fields, and calls of tools.

In: answers and tasks whose reference is JSON, or that expect calls of tools. Out: statistics [rows, K] that add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.scores.parts import means, table, text_of
from burnish.scores.reading import UNREADABLE, canonical, read_json, read_tool_calls
from burnish.types import Answer, Task, ToolCall

LARGEST_ALIGNMENT = 40_000
"""Pairs of list elements that are compared to align two lists; beyond it lists are compared in order."""


def json_reference(task: Task) -> Any:
    """Return the JSON object or list that the canonical text of a task is, or UNREADABLE."""
    value = read_json(task.expected.texts[0]) if task.expected.texts else UNREADABLE
    return value if isinstance(value, (dict, list)) else UNREADABLE


def has_json(task: Task) -> bool:
    """Whether the canonical text of a task is a JSON object or list."""
    return json_reference(task) is not UNREADABLE


def has_tool_calls(task: Task) -> bool:
    """Whether a task says which tools are to be called (possibly none)."""
    return task.expected.tool_calls is not None


def json_valid(answers: Sequence[Answer], tasks: Sequence[Task], *, fenced: bool = False) -> np.ndarray:
    """Share of answers that are one valid JSON object or list and nothing else.

    Statistics [rows, 2]. `fenced` also takes JSON inside one Markdown code fence.
    """
    return means(
        float(isinstance(read_json(text_of(answer), fenced=fenced), (dict, list))) if has_json(task) else None
        for answer, task in zip(answers, tasks, strict=True)
    )


def json_field_f1(answers: Sequence[Answer], tasks: Sequence[Task], *, fenced: bool = True) -> np.ndarray:
    """Fields of the JSON answer that have the right path and value, as micro F1 over all answers.

    Statistics [rows, 4]: right fields, fields answered, fields expected, rows. A field is a value that holds no others, named by
    the keys that lead to it; elements of lists are paired so that most fields agree, whatever their order. Runs of space in strings
    count as one space, 1.0 equals 1, and "1" does not. An answer that is not JSON has no fields.
    """

    def row(answer: Answer, task: Task) -> tuple[float, float, float, float]:
        reference = json_reference(task)
        if reference is UNREADABLE:
            return 0.0, 0.0, 0.0, 0.0
        expected = _fields(reference)
        value = read_json(text_of(answer), fenced=fenced)
        if value is UNREADABLE:
            return 0.0, 0.0, expected, 1.0
        return _shared_fields(reference, value), _fields(value), expected, 1.0

    return table((row(answer, task) for answer, task in zip(answers, tasks, strict=True)), 4)


def tool_call(answers: Sequence[Answer], tasks: Sequence[Task], *, arguments: bool = True) -> np.ndarray:
    """Share of answers that call exactly the expected tools with the expected arguments, in any order.

    Statistics [rows, 2]. Where no call is expected, an answer without one is right. `arguments=False` compares names alone.
    Arguments are equal as JSON values: the order of keys does not count, the order of lists does.
    """

    def right(answer: Answer, task: Task) -> float | None:
        if task.expected.tool_calls is None:
            return None
        given = Counter(_call_key(call, arguments) for call in read_tool_calls(text_of(answer)))
        return float(given == Counter(_call_key(call, arguments) for call in task.expected.tool_calls))

    return means(right(answer, task) for answer, task in zip(answers, tasks, strict=True))


def _call_key(call: ToolCall, arguments: bool) -> tuple[str, str]:
    return call.name, canonical(call.arguments) if arguments else ""


def _fields(value: Any) -> int:
    """Return the number of fields of a JSON value; an empty object or list is one field."""
    children = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return sum(map(_fields, children)) if children else 1


def _shared_fields(expected: Any, given: Any) -> int:
    """Return how many fields two JSON values share; equal values share all of theirs."""
    if isinstance(expected, Mapping) and isinstance(given, Mapping) and expected and given:
        return sum(_shared_fields(value, given[key]) for key, value in expected.items() if key in given)
    if isinstance(expected, list) and isinstance(given, list) and expected and given:
        return _shared_elements(expected, given)
    return int(canonical(expected, collapse=True) == canonical(given, collapse=True)) if _fields(expected) == 1 else 0


def _shared_elements(expected: list[Any], given: list[Any]) -> int:
    """Return the fields that two lists share when their elements are paired in the best way."""
    if not any(isinstance(element, (Mapping, list)) for element in expected):
        counts = (Counter(canonical(element, collapse=True) for element in side) for side in (expected, given))
        return sum((next(counts) & next(counts)).values())
    if len(expected) * len(given) > LARGEST_ALIGNMENT:
        return sum(_shared_fields(left, right) for left, right in zip(expected, given, strict=False))
    from scipy.optimize import linear_sum_assignment

    shared = np.array([[_shared_fields(left, right) for right in given] for left in expected])
    return int(shared[linear_sum_assignment(shared, maximize=True)].sum())
