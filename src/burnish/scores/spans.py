"""The score of answers that list labelled spans of a text.

In: answers that are JSON lists of {"text", "label"} (with "start" and "end" where they are known), and tasks with expected spans over
their source text. Out: statistics [rows, 4] that add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.scores.parts import table, text_of
from burnish.scores.reading import read_json
from burnish.types import Answer, Task


def has_spans(task: Task) -> bool:
    """Whether a task says which spans are right (possibly none) and of which text."""
    return task.expected.spans is not None and task.expected.source is not None


def span_f1(answers: Sequence[Answer], tasks: Sequence[Task], *, labels: bool = True) -> np.ndarray:
    """Spans with the right characters and the right label, as micro F1 over all answers (strict matching).

    Statistics [rows, 4]: right spans, spans answered, spans expected, rows. An item with "start" and "end" must have both right. An
    item with only "text", or whose text is not what stands at its offsets, matches a span of that text wherever it stands, each
    span once. Space around a text and the case of a label do not count. A span named twice or found nowhere is wrong, and an answer
    that is no such list counts as one wrong span, so that junk earns nothing where no span is expected. `labels=False` compares
    the characters alone. Source: micro F1 of CoNLL-2003; on lists with offsets it equals nervaluate's strict matching.
    """

    def row(answer: Answer, task: Task) -> tuple[float, float, float, float]:
        if task.expected.spans is None or task.expected.source is None:
            return 0.0, 0.0, 0.0, 0.0
        expected = len(task.expected.spans)
        items = _items(text_of(answer))
        if items is None:
            return 0.0, 1.0, float(expected), 1.0
        return float(_right(items, task, labels)), float(len(items)), float(expected), 1.0

    return table((row(answer, task) for answer, task in zip(answers, tasks, strict=True)), 4)


def _items(text: str) -> list[Any] | None:
    """Return the items of an answer's JSON list (or of the list under "spans" or "entities"), or None."""
    value = read_json(text)
    if isinstance(value, dict):
        value = value.get("spans", value.get("entities"))
    return value if isinstance(value, list) else None


def _right(items: Sequence[Any], task: Task, labels: bool) -> int:
    """Return the number of expected spans that the items name, offsets before texts."""
    expected, source = task.expected.spans, task.expected.source
    assert expected is not None and source is not None, "a task without spans"
    left = Counter((span.start, span.end, _label(span.label, labels)) for span in expected)
    placed, unplaced = _placed_and_unplaced(items, source, labels)
    hits = placed & left
    left -= hits
    texts: Counter[tuple[str, str]] = Counter()
    for (start, end, label), count in left.items():
        texts[source[start:end].strip(), label] += count
    return hits.total() + (unplaced & texts).total()


def _placed_and_unplaced(
    items: Sequence[Any], source: str, labels: bool
) -> tuple[Counter[tuple[int, int, str]], Counter[tuple[str, str]]]:
    """Return items with offsets as (start, end, label), those with a text alone as (text, label); others name no span.

    An item whose text is not what stands at its offsets is taken by its text: models copy well and count badly.
    """
    placed: Counter[tuple[int, int, str]] = Counter()
    unplaced: Counter[tuple[str, str]] = Counter()
    for item in items:
        if not isinstance(item, dict) or (labels and not isinstance(item.get("label"), str)):
            continue
        label, text, place = _label(item.get("label"), labels), item.get("text"), _offsets(item, source)
        if place is not None and (not isinstance(text, str) or source[place[0] : place[1]].strip() == text.strip()):
            placed[*place, label] += 1
        elif isinstance(text, str):
            unplaced[text.strip(), label] += 1
    return placed, unplaced


def _offsets(item: Mapping[str, Any], source: str) -> tuple[int, int] | None:
    """Return the start and end of an item where they are offsets into the source (true is no number)."""
    start, end = item.get("start"), item.get("end")
    if type(start) is int and type(end) is int and 0 <= start < end <= len(source):
        return start, end
    return None


def _label(label: object, labels: bool) -> str:
    return str(label).strip().casefold() if labels else ""
