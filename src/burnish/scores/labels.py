"""Scores of answers that name labels: accuracy, macro F1, and how often an answer is a label at all.

In: answers and tasks with expected labels and the labels they know (`Expected.choices`). Out: statistics [rows, K] that add up.
An answer is a label only if it is nothing else: "I think it is card_arrival" is not, so that the figures tell what a program that
reads the answer would get.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from burnish.scores.parts import means, text_of
from burnish.scores.reading import read_json
from burnish.types import Answer, Task

_SPACING = re.compile(r"[\s_]+|(?<=\w)-(?=\w)")
_BULLET = re.compile(r"^[-•*]\s+")
_EDGES = "\"'`“”‘’«».,;:!?*()[]{}<># "
"""Stripped around an answer. Not + and -, which tell C++ from C and -1 from 1."""


def has_labels(task: Task) -> bool:
    """Whether a task says which labels are right (possibly none of them)."""
    return task.expected.labels is not None


def accuracy(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Share of answers that name exactly the expected label, or exactly the expected set of labels.

    Statistics [rows, 2]. An answer that is no label is wrong.
    """
    return means(
        None if task.expected.labels is None else float(parsed is not None and set(parsed) == set(task.expected.labels))
        for parsed, task in zip(named_labels(answers, tasks), tasks, strict=True)
    )


def label_parse_rate(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Share of answers that are a label the task knows, right or wrong, and nothing else.

    Statistics [rows, 2]. It tells a model that chooses the wrong label from one that does not follow the form.
    """
    return means(
        None if task.expected.labels is None else float(parsed is not None)
        for parsed, task in zip(named_labels(answers, tasks), tasks, strict=True)
    )


def macro_f1(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """F1 of each label, averaged over the labels that were expected or answered at least once.

    Statistics [rows, 3 C + 2] for C labels: of each one right, wrongly answered, missed; answers that are no label where none is
    expected; rows. An answer that is no label misses the expected ones. Rare labels weigh as much as frequent ones.
    """
    known: set[str] = set()
    for task in tasks:
        known.update(task.expected.choices, task.expected.labels or ())
    column = {label: 3 * index for index, label in enumerate(sorted(known))}
    statistics = np.zeros((len(tasks), 3 * len(known) + 2))
    for row, parsed, task in zip(statistics, named_labels(answers, tasks), tasks, strict=True):
        if task.expected.labels is None:
            continue
        expected, given = set(task.expected.labels), set(parsed or ())
        row[[column[label] for label in expected & given]] = 1.0
        row[[column[label] + 1 for label in given - expected]] = 1.0
        row[[column[label] + 2 for label in expected - given]] = 1.0
        row[-2:] = float(parsed is None and not expected), 1.0
    return statistics


def macro_f1_of_sums(sums: np.ndarray) -> np.ndarray:
    """Combine sums [..., 3 C + 2] of `macro_f1` to the mean F1 [...] of the labels that occur; nan without rows.

    Where no label occurs, it is 1 if no label was what every answer said, else 0: junk is no better than a label there.
    """
    right, wrong, missed = (sums[..., offset:-2:3] for offset in range(3))
    occurring = 2.0 * right + wrong + missed
    f1 = 2.0 * right / np.where(occurring > 0, occurring, 1.0)
    labels = (occurring > 0).sum(axis=-1)
    value = np.where(labels > 0, f1.sum(axis=-1) / np.maximum(labels, 1), np.where(sums[..., -2] > 0, 0.0, 1.0))
    return np.where(sums[..., -1] > 0, value, np.nan)


# ----------------------------------------------------------------------------------------------------------------- text -> labels


@dataclass(frozen=True, slots=True)
class _Known:
    """Labels by their spellings, the strictest spelling first; a spelling that two labels share is in no mapping."""

    spellings: tuple[Mapping[str, str], ...]
    commas: int
    """The most commas that a label holds."""


def parse_labels(text: str, choices: Sequence[str], *, none: bool = True) -> tuple[str, ...] | None:
    """Return the labels of `choices` that a text names and nothing else, or None where it is anything else.

    Compared without regard to case, quotes, final punctuation, and space written as _ or -, as far as no two labels become equal
    by it. Several labels stand in lines, between commas, or in a JSON list. With `none`, "[]" and "none" name no label: ().
    """
    parsed = _parse(text, _known(tuple(choices)))
    return parsed if parsed or none else None


def named_labels(answers: Sequence[Answer], tasks: Sequence[Task]) -> Iterable[tuple[str, ...] | None]:
    """Yield the labels that each answer names, in the spelling of the task.

    A task without choices knows the labels that the others expect, and "none" is an answer only where some task expects another
    number of labels than one. The expected text itself always names the expected labels, however the data writes them.
    """
    none = any(task.expected.labels is not None and len(task.expected.labels) != 1 for task in tasks)
    everywhere = tuple(dict.fromkeys(label for task in tasks for label in task.expected.labels or ()))
    for answer, task in zip(answers, tasks, strict=True):
        expected, text = task.expected, text_of(answer)
        if expected.labels is None:
            yield None
        elif text.strip() and any(text.strip() == reference.strip() for reference in expected.texts):
            yield expected.labels
        else:
            known = expected.choices or everywhere
            missing = tuple(label for label in expected.labels if label not in known)
            yield parse_labels(text, known + missing, none=none)


def _spelling(label: str) -> str:
    return _SPACING.sub(" ", unicodedata.normalize("NFKC", label).casefold()).strip()


def _bare(label: str) -> str:
    return _spelling(_BULLET.sub("", label.strip()).strip(_EDGES))


@lru_cache(maxsize=256)
def _known(labels: tuple[str, ...]) -> _Known:
    """Return labels by their spellings; the same choices stand in every task, so this is done once."""
    spellings: list[dict[str, str]] = []
    for shape in (str.strip, _spelling, _bare):
        mapping: dict[str, str] = {}
        shared: set[str] = set()
        for label in labels:
            if mapping.setdefault(shape(label), label) != label:
                shared.add(shape(label))
        spellings.append({key: label for key, label in mapping.items() if key and key not in shared})
    return _Known(tuple(spellings), max((label.count(",") for label in labels), default=0))


def _label(text: str, known: _Known) -> str | None:
    """Return the label that a text spells, the strictest spelling first."""
    for shape, mapping in zip((str.strip, _spelling, _bare), known.spellings, strict=True):
        label = mapping.get(shape(text))
        if label is not None:
            return label
    return None


def _parse(text: str, known: _Known) -> tuple[str, ...] | None:
    whole = _label(text, known)
    if whole is not None:
        return (whole,)
    stripped = text.strip()
    if stripped.startswith(("[", "```")):
        listed = read_json(stripped)
        if isinstance(listed, list):
            return _all(_label(element if isinstance(element, str) else json.dumps(element), known) for element in listed)
    if _bare(text) == "none":
        return ()
    lines = [line for line in stripped.splitlines() if line.strip()]
    return _all(label for line in lines for label in _between_commas(line, known)) if lines else None


def _between_commas(line: str, known: _Known) -> Iterable[str | None]:
    """Yield the label of each piece between commas, or None; a label that holds commas itself is taken whole."""
    whole = _label(line, known)
    pieces = [line] if whole is not None else line.split(",")
    start = 0
    while start < len(pieces):
        longest = min(len(pieces), start + known.commas + 1)
        for end in range(longest, start, -1):
            label = _label(",".join(pieces[start:end]), known)
            if label is not None or end == start + 1:
                yield label
                start = end
                break


def _all(labels: Iterable[str | None]) -> tuple[str, ...] | None:
    """Return the labels, each once, or None as soon as one of them is None."""
    found: dict[str, None] = {}
    for label in labels:
        if label is None:
            return None
        found[label] = None
    return tuple(found)
