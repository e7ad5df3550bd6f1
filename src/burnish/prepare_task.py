"""Prepare one task of a run: its rows gathered and rendered, checked, and divided into what an optimizer step counts.

Enters: the run as if it had this task alone, its gathered data and a renderer. Leaves: a `TaskPlan`. What concerns the whole run, its
model and its steps, stands in `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import nlargest
from itertools import islice
from textwrap import shorten
from typing import Any

import numpy as np

from burnish.config import RunConfig
from burnish.data.check_sequences import check_sequences
from burnish.data.dialog import as_task
from burnish.data.fields import fields
from burnish.data.findings import joined
from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.data.renderings import RENDERINGS, Policy, Rows, Wanted
from burnish.data.report import data_report
from burnish.data.tokens import token_ids
from burnish.errors import ConfigError, DataError, combined
from burnish.evaluate import resolve_score
from burnish.gather import Gathered
from burnish.reading_rows import judged_tasks
from burnish.scores import fitting, measures
from burnish.scores.grades import has_grade
from burnish.types import Answer, Example, Objective, Sequence, Task, Text

LONGEST_ANSWER = 512
"""The most tokens that an answer gets unless the run says otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskPlan:
    """One task that can start: every choice made, every row rendered. `config` is the run as if it had this task alone.

    `sequences` are what an optimizer step counts: those of a row that is kept, or one window of a long text; `kept` the number of
    the row that each comes from, among `gathered.examples["train"]`.
    """

    name: str
    config: RunConfig
    gathered: Gathered
    renderer: Renderer
    objective: Objective
    rows: Rows
    rendered: list[list[Sequence]]
    sequences: list[list[Sequence]]
    kept: list[int]
    share: float | None = None
    weight: float = 1.0

    @property
    def asker(self) -> Renderer | HeadRenderer:
        """What puts rows to the tuned model: its head's renderer where it has one that answers."""
        return self.rows.reader if self.rows.reader is not None and not self.rows.reader.spec.restores else self.renderer

    def reads(self, stream: str) -> bool:
        """Return whether the objective reads a stream, with the options of this run."""
        return stream in self.objective.reads_streams(self.config.objective.options)

    def tasks(self, side: str) -> list[Task]:
        """Return the rows of a side as tasks to attempt, each with the group that its interval is drawn over.

        None of them where nothing could be compared: an encoder's restored tokens, and ratings of a reward model.
        """
        if side != "train" and not self.rows.compares:
            return []
        rows = zip(self.gathered.examples[side], self.gathered.groups[side], strict=True)
        return [replace(as_task(example, self.gathered.frame), group=group) for example, group in rows]

    def measured_on(self) -> list[Task]:
        """Return the rows that scores are chosen for: those held out, or the training rows where none are."""
        return self.tasks("test") or self.tasks("dev") or self.tasks("train")

    def order(self) -> Callable[[int], np.ndarray]:
        """Return the order of each epoch: places in `sequences`."""
        return self.gathered.order(self.kept, self.config.seed)

    def settings(self) -> dict[str, Any]:
        """Return what a tuned model's folder says of itself: the form in which it was taught, to be asked in the same form."""
        frame = self.gathered.frame
        text = all(isinstance(example, Text) for example in self.gathered.examples["train"])
        return {
            "form": "text" if text else "dialog",
            "system": frame.system,
            "prompt": frame.prompt,
            "choices": list(frame.choices),
            "max_length": self.renderer.max_length,
            "max_tokens": self.config.evaluate.max_tokens,
        }


def plan_task(
    name: str,
    config: RunConfig,
    gathered: Gathered,
    renderer: Renderer,
    objective: Objective,
    *,
    encoder: bool = False,
    pictures: bool = False,
) -> TaskPlan:
    """Render and check the rows of one task. Raises DataError with every row that cannot be learned from."""
    own, examples = config.of_task(name), gathered.examples["train"]
    renderer = replace(renderer, frame=gathered.frame, learn=own.data.learn, task=name)
    rows = RENDERINGS[objective.renders](
        renderer, examples, Wanted(objective.head, encoder, pictures, own.seed, own.objective.options)
    )
    rendered = _render(rows, examples)
    findings = gathered.findings
    if rows.learned:
        limit, policy, ends = renderer.max_length, own.data.long_rows, renderer.end_ids if rows.by_token else None
        findings = joined([findings, check_sequences(examples, rendered, limit=limit, policy=policy, end_tokens=ends)])
    findings.raise_for_errors()
    units = _units(examples, rendered, rows, own.data.long_rows)
    task = config.task.get(name)
    return TaskPlan(
        name=name,
        config=own,
        gathered=replace(gathered, findings=findings),
        renderer=renderer,
        objective=objective,
        rows=rows,
        rendered=rendered,
        sequences=[parts for _, parts in units],
        kept=[row for row, _ in units],
        share=task.share if task is not None else None,
        weight=task.weight if task is not None else 1.0,
    )


def _render(rows: Rows, examples: list[Any]) -> list[list[Sequence]]:
    """Return the sequences of each example; DataError lists every row that cannot be shown to this model."""
    rendered, problems = [], []
    for number, example in enumerate(examples):
        try:
            rendered.append(rows.sequences(example, number))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise combined(DataError, "Rows that cannot be shown to this model as the objective needs them", problems)
    return rendered


def _units(examples: list[Any], rendered: list[list[Sequence]], rows: Rows, policy: Policy) -> list[tuple[int, list[Sequence]]]:
    """Return (row, sequences) of each unit that a step counts: a row within the length limit, or one window of a text.

    A long document would else weigh as much as it is long in a step that is counted in examples.
    """
    if not rows.learned:
        return [(row, []) for row in range(len(examples))]
    units = []
    for row, parts in enumerate(rendered):
        fitting = rows.finished(examples[row], rows.within(parts, policy))
        split = [[window] for window in fitting] if isinstance(examples[row], Text) else [fitting]
        units += [(row, unit) for unit in split if unit]
    return units


def refuse_unreadable(gathered: Gathered, objective: Objective, name: str) -> None:
    """Raise DataError where rows are of a kind that the objective cannot learn from."""
    wrong = [example for example in gathered.examples["train"] if not isinstance(example, objective.reads)]
    if wrong:
        kinds = sorted({type(example).__name__ for example in wrong})
        reads = ", ".join(kind.__name__ for kind in objective.reads)
        every = (example for side in gathered.examples.values() for example in side if not isinstance(example, objective.reads))
        first = min(every, key=lambda example: (example.origin.file, example.origin.line or 0))
        raise DataError(
            f"objective {name!r} cannot learn from {', '.join(kinds)} rows ({len(wrong)}, the first at {first.origin}: "
            f"{_held(first)}); it reads {reads}. Choose another objective (burnish ls objectives) or another data.format."
        )


def _held(example: Example) -> str:
    """Return what a row holds, part by part and cut short, for a message."""
    return ", ".join(f"{field.name} {shorten(repr(field.text), 40, placeholder='…')}" for field in islice(fields(example), 4))


def answer_tokens(plan: TaskPlan) -> int:
    """Return a limit on answers that leaves the longest expected one a quarter more room."""
    longest = max((int(np.count_nonzero(sequence.weight_N)) for parts in plan.sequences for sequence in parts), default=0)
    if plan.renderer.learn == "everything" or plan.objective.renders != "answers":
        # What is learned is not the answer and the token that ends it, so it is no measure of one.
        answers = (text for task in plan.tasks("train") if task.text is None for text in task.expected.texts[:1])
        longest = max((len(token_ids(plan.renderer.tokenizer, text)) for text in nlargest(32, answers, key=len)), default=0) + 1
    return int(min(LONGEST_ANSWER, max(16, 1.25 * longest), max(1, plan.renderer.max_length // 2)))


def fitting_scores(plan: TaskPlan) -> list[str]:
    """Return the scores of a task: those that the run names, or those that suit its rows.

    Raises ConfigError for a score that finds nothing to compare with in these rows.
    """
    tasks, given = _measured_on(plan), list(plan.config.score)
    problem = plan.rows.head.problem if plan.rows.head is not None else None
    suitable = fitting(tasks, problem, pictures=plan.rows.head is not None and plan.rows.head.kind == "picture")
    for name in given:
        if not measures(name, problem) or not any(resolve_score(name).applies(task) for task in tasks):
            raise ConfigError(f"score: {name!r} finds nothing to compare with in these rows. Suitable here: {', '.join(suitable)}.")
        if resolve_score(name).applies is has_grade:
            resolve_score(name).statistics([Answer()] * len(tasks), tasks)  # it says so where the order of grades is not known
    return given or suitable


def _measured_on(plan: TaskPlan) -> list[Task]:
    """Return the rows that scores are chosen for, also where a head judges them or restores their tokens."""
    if plan.rows.compares:
        return plan.measured_on()
    gathered = plan.gathered
    side = next((side for side in ("test", "dev") if gathered.examples[side]), "train")
    return judged_tasks(gathered.examples[side], gathered.groups[side], gathered.frame)


def task_report(plan: TaskPlan, *, notes: list[str], estimated: dict[str, Any] | None) -> dict[str, Any]:
    """Return the data report of a task, with the notes and the estimated cost of the run."""
    gathered, tokenizer = plan.gathered, plan.renderer.tokenizer
    return data_report(
        gathered.examples,
        {"train": plan.rendered},
        findings=gathered.findings,
        sources=gathered.sources,
        limit=plan.renderer.max_length,
        policy=plan.config.data.long_rows,
        decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
        groups=gathered.groups,
        notes=[*gathered.notes, *notes],
        estimated=estimated,
    )
