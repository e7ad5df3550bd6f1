"""On-policy distillation: the model writes the answers of some rows itself, and a teacher says at each of their tokens what it would say.

Enters: the batches of a task's rows as they are given, the model, its teacher. Leaves: another source of batches, in which the answers of
a share of the rows are replaced by the model's own, drawn when the step is asked for. Which rows these are and what is drawn for them
follows from (seed, epoch, row) and the weights, so that nothing of it must persist: a step that is repeated is the same step.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from burnish.data.batching import FixedBatches
from burnish.data.render import Renderer
from burnish.errors import ConfigError, ModelError, combined
from burnish.models import Model
from burnish.rollouts_sequences import sequence_of
from burnish.sampling import Options, generate
from burnish.teacher import fill
from burnish.types import Batch, Sequence, Task

_ROWS_KEY = 2**64 - 2
"""Second word of the key by which rows are chosen; sampled answers count theirs from 0."""


@dataclass(frozen=True, slots=True, eq=False)
class OwnAnswers:
    """Batches of rows of which a share is answered by the model itself, the teacher's streams on all of them.

    `tasks[i]` is what example i of the source is an answer to; `candidates` how many of the teacher's likeliest tokens are kept.
    `between` is called before answers are drawn and may raise to stop. `told` holds the figures of the newest step.

    Source: Agarwal et al. 2023 (GKD), arXiv 2306.13649, algorithm 1, the share being its lambda, drawn for each row by itself.
    """

    source: FixedBatches
    model: Model
    teacher: Model
    renderer: Renderer
    tasks: Many[Task]
    share: float
    options: Options
    candidates: int
    between: Callable[[], None] = lambda: None
    told: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.tasks) == len(self.source.examples), "a task for each example"
        _refuse_texts(self.tasks)
        _refuse_long(self)

    def __call__(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of a step."""
        return self.cut(self.source.rows(step * self.source.batch, self.source.batch))

    def rows(self, first: int, count: int) -> list[tuple[int, int]]:
        """Return `count` examples as (number, epoch), as the source has them."""
        return self.source.rows(first, count)

    def cut(self, rows: Many[tuple[int, int]]) -> list[Batch]:
        """Return this rank's micro-batches of some examples, the model's own answers in place of the given ones where it is their turn."""
        own = [
            place for place, (number, epoch) in enumerate(rows) if chosen(number, epoch, seed=self.options.seed, share=self.share)
        ]
        units: list[Many[Sequence]] = [self.source.examples[number] for number, _ in rows]
        for place, sequence in zip(own, self._answered([rows[place] for place in own]), strict=True):
            units[place] = [sequence]
        return replace(self.source, examples=units).cut([(place, epoch) for place, (_, epoch) in enumerate(rows)])

    def largest(self) -> list[Batch]:
        """Return the largest micro-batch that the given answers can make."""
        return self.source.largest()

    def _answered(self, rows: Many[tuple[int, int]]) -> list[Sequence]:
        """Return the model's own answer to each row, with the teacher's streams."""
        answers: list[Any] = [None] * len(rows)
        prompts = [self.renderer.prompt(self.tasks[number]) for number, _ in rows]
        self.told.clear()
        for epoch in sorted({epoch for _, epoch in rows}):  # a step may run on over the end of an epoch
            places = [place for place, (_, of) in enumerate(rows) if of == epoch]
            numbers = [rows[place][0] for place in places]
            for first in range(0, len(places), self.options.batch):
                self.between()
                part = slice(first, first + self.options.batch)
                drawn = [prompts[place] for place in places[part]]
                made = generate(self.model, drawn, replace(self.options, step=epoch), numbers=numbers[part])
                for place, answer in zip(places[part], made, strict=True):
                    answers[place] = answer
        if not answers:
            return []
        lengths, stopped = [len(answer.tokens) for answer in answers], [answer.stopped for answer in answers]
        self.told.update({"own/length": float(np.mean(lengths)), "own/stop_rate": float(np.mean(stopped))})
        sequences = [
            sequence_of(prompt_T, answer, origin=self.tasks[number].origin, group=0, task=self.renderer.task)[0]
            for prompt_T, answer, (number, _) in zip(prompts, answers, rows, strict=True)
        ]
        return fill(self.teacher, self.model.tokenizer, sequences, candidates=self.candidates, tokens=self.source.tokens)


def chosen(number: int, epoch: int, *, seed: int, share: float) -> bool:
    """Return whether the model answers a row by itself in this epoch: a draw of its own for each, true for `share` of them."""
    key = np.array([seed, _ROWS_KEY], dtype=np.uint64)
    counter = np.array([0, 0, epoch, number], dtype=np.uint64)
    return bool(np.random.Generator(np.random.Philox(key=key, counter=counter)).random() < share)


def _refuse_texts(tasks: Many[Task]) -> None:
    """Raise ConfigError where a row is running text, to which there is no answer."""
    texts = [task for task in tasks if task.text is not None]
    if texts:
        raise ConfigError(
            f"on_policy: {len(texts)} rows are plain texts (the first is {texts[0].origin}), which ask nothing that could be answered. "
            f"Set objective.on_policy = 0, or use rows with a prompt."
        )


def _refuse_long(source: OwnAnswers) -> None:
    """Raise ModelError, all rows at once, where a prompt and an answer do not fit into what both models read."""
    room = min(source.model.max_length, source.teacher.max_length) - source.options.max_tokens
    lengths = [len(source.renderer.prompt(task)) for task in source.tasks]
    problems = [
        f"{task.origin}: {length} tokens." for task, length in zip(source.tasks, lengths, strict=True) if length > max(room, 0)
    ]
    if problems:
        raise combined(
            ModelError,
            f"Prompts that leave no room for an answer of {source.options.max_tokens} tokens to model and teacher (lower "
            f"evaluate.max_tokens, or leave these rows out)",
            list(dict.fromkeys(problems)),
        )
