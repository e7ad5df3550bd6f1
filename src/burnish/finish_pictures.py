"""What a run on pictures must show beside its scores: what is left of them without the pictures, and which rows it gets most wrong.

Enters: a tuned model, its plan, held-out tasks and its answers. Leaves: answers to the same questions with blanked and with exchanged
pictures, a sentence where that makes no difference, and a sheet of the worst rows. Called by `finish`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from burnish.evaluate import Asking, compare
from burnish.finish_answers import answers_of
from burnish.models import Model
from burnish.pictures import BLANK, sheet
from burnish.prepare_task import TaskPlan
from burnish.report_words import figure, interval, number
from burnish.types import Answer, ImagePart, Score, Task, pictures_in

GUARDS = ("blanked", "swapped")
"""The arms that answer without the right pictures."""

WORST = 48
"""Rows on the sheet of mistakes at most."""


def shown(task: Task) -> tuple[ImagePart, ...]:
    """Return the pictures of a task."""
    return tuple(part for message in task.messages for part in pictures_in(message.content))


def guards(model: Model, part: TaskPlan, tasks: Sequence[Task], asking: Asking) -> dict[str, list[Answer]]:
    """Return a model's answers to tasks whose pictures are grey, and to tasks that have each other's; nothing where there are no pictures.

    A model that answers as well then has not looked at them.
    """
    if not any(shown(task) for task in tasks):
        return {}
    found = {"blanked": answers_of(model, part, [_with(task, lambda place: BLANK) for task in tasks], asking)}
    if len(tasks) > 1:
        found["swapped"] = answers_of(model, part, swapped(tasks, seed=part.config.seed), asking)
    return found


def swapped(tasks: Sequence[Task], *, seed: int) -> list[Task]:
    """Return tasks of which each one shows the pictures of another one, in an order that the seed decides."""
    order = np.random.default_rng(seed).permutation(len(tasks))
    giver = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    others = [shown(tasks[giver[row]]) for row in range(len(tasks))]
    return [_with(task, _taken_from(given)) if given else task for task, given in zip(tasks, others, strict=True)]


def _taken_from(given: tuple[ImagePart, ...]) -> Callable[[int], ImagePart]:
    return lambda place: given[place % len(given)]


def _with(task: Task, other: Callable[[int], ImagePart]) -> Task:
    """Return a task with picture number 0, 1, … replaced by what a function gives."""
    messages, place = [], 0
    for message in task.messages:
        content = []
        for part in message.content:
            if isinstance(part, ImagePart):
                part, place = other(place), place + 1
            content.append(part)
        messages.append(replace(message, content=tuple(content)))
    return replace(task, messages=tuple(messages))


def ignored(arms: Mapping[str, Sequence[Answer]], tasks: Sequence[Task], headline: str, score: Score, *, seed: int) -> str | None:
    """Return a sentence where the tuned model is not proven better with its pictures than with blanked ones, None where it is."""
    if "blanked" not in arms or "tuned" not in arms:
        return None
    row = compare({"base": arms["blanked"], "tuned": arms["tuned"]}, tasks, {headline: score}, seed=seed)[headline]
    low, high = (number(row["difference"].get(end)) for end in ("low", "high"))
    if low is not None and high is not None and (low > 0 if score.higher_is_better else high < 0):
        return None
    return (
        f"It may be ignoring the pictures: {headline} {figure(row['tuned']['mean'])} with them and {figure(row['base']['mean'])} with blanked ones "
        f"(difference {figure(row['difference']['mean'], signed=True)}; {interval(row['difference'], signed=True)})."
    )


def worst_rows(answers: Sequence[Answer], tasks: Sequence[Task], look: Callable[[ImagePart], Any]) -> bytes | None:
    """Return a sheet of the pictures that a model is most wrong about, the worst first: what is expected, and how likely it found that.

    None where no answer tells probabilities, or all are right. `look` gives a picture as the model sees it.
    """
    missed = []
    for answer, task in zip(answers, tasks, strict=True):
        if answer.chances is None or task.expected.labels is None or not shown(task):
            continue
        least = min((answer.chances.get(label, 0.0) for label in task.expected.labels), default=1.0)
        if least < 0.5:
            missed.append((least, ", ".join(task.expected.labels), shown(task)[0]))
    if not missed:
        return None
    missed.sort(key=lambda one: one[0])
    rows = missed[:WORST]
    return sheet([look(part) for *_, part in rows], [f"{label} {100 * chance:.0f} %" for chance, label, _ in rows])
