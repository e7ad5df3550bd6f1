"""Prompted arms where answers are compared instead of written: how much likelier the base finds the better one behind worked examples.

Enters: the bench of the prompted arms, with rows that are pairs. Leaves: margins by arm. Examples and their number are chosen as `burnish decide` chooses
them; what is compared is the likelihood of both answers behind that prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from burnish import api
from burnish.decide.arms import Arm
from burnish.decide.bench import Bench, Said, Setting, help_for, value
from burnish.decide.prompts import put
from burnish.decide.protocol import Item
from burnish.decide.search import choose
from burnish.evaluate import answer
from burnish.finish_answers import answers_of, asking_for, asking_of
from burnish.prepare import Plan
from burnish.types import Answer, Task


def is_pairs(tasks: Sequence[Task]) -> bool:
    """Whether all rows are pairs."""
    return all(task.expected.pair is not None for task in tasks)


def chosen(bench: Bench, arm: Arm, trials: int) -> tuple[Setting, list[Answer]]:
    """Return what an arm chooses on the dev rows, and its margins on the held-out ones."""
    setting, _ = choose(bench, arm, trials=trials, measure=lambda one: value(bench, compared(bench, arm, one, bench.rows.dev)))
    return setting, compared(bench, arm, setting, bench.rows.test).answers


def compared(bench: Bench, arm: Arm, setting: Setting, items: Sequence[Item]) -> Said:
    """Return the margins of pairs behind an arm's prompt."""
    tasks = []
    for item in items:
        task = put(item, help_for(bench, arm, setting, item))
        assert task.expected.pair is not None, "rows of another kind among pairs"
        pair = replace(task.expected.pair, prompt=task.messages)
        tasks.append(replace(task, expected=replace(task.expected, pair=pair)))
    answers = answer(bench.model, bench.part.renderer, tasks, bench.scores, bench.asking())
    return Said(tasks, answers, [bench.tokens(task) for task in tasks], 0.0, [()] * len(tasks))


def of_tuned(plan: Plan, run: str, tasks: Sequence[Task]) -> list[Answer]:
    """Return the margins of a finished run, which its answers.jsonl does not hold."""
    part = plan.first
    return answers_of(api.load(run).model, part, tasks, asking_of(part, asking_for(plan)))


def told(answers: Sequence[Answer]) -> list[Answer]:
    """Return margins with the words that a page shows of them."""
    return [
        replace(one, text="finds the preferred one better" if (one.margin or 0) > 0 else "finds the other one better")
        for one in answers
    ]
