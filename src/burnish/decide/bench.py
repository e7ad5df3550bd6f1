"""The bench that all arms stand on: one base, one renderer, one index, the same rows, the same length of answers.

Enters: the plan of a run and its rows. Leaves: what an arm puts to a model for a row, and the answers, with tokens and seconds counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from burnish.config_decide import DecideConfig
from burnish.data.fields import normalised
from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.decide.arms import Arm
from burnish.decide.prompts import Help, Layout, fit, put
from burnish.decide.protocol import Item, Rows
from burnish.devices import apply_device
from burnish.evaluate import Asking, answer, resolve_scores
from burnish.evaluate_wordings import RULES, Wordings
from burnish.models import Model
from burnish.prepare import Plan
from burnish.prepare_task import TaskPlan
from burnish.retrieval import Document, Embed, How, Index, build, search
from burnish.sampling import Options
from burnish.types import Answer, Score, Task

WHOLE = 10_000
"""Words of a "passage" when questions of rows are looked through: more than any question has."""
LONGEST_GOLD = 40
"""Words up to which an answer is looked for in the documents word for word."""
WRONG = 3
"""Passages that the diagnostic of bad retrieval shows."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an arm may choose on the dev rows: an instruction, how many examples and passages, the layout, a factor of the learning rate.

    `examples_by` says how a searched prompt takes its examples.
    """

    instruction: str = ""
    examples: int = 0
    passages: int = 0
    layout: Layout = "turns"
    rate: float = 1.0
    examples_by: str = "none"

    def told(self) -> str:
        """Return what was chosen, in words."""
        parts = [f"instruction {self.instruction!r}"] if self.instruction else []
        parts += (
            [f"{self.examples} example{'s' * (self.examples > 1)} ({self.examples_by}, {self.layout})"] if self.examples else []
        )
        parts += [f"{self.passages} passage{'s' * (self.passages > 1)}"] if self.passages else []
        parts += [f"learning rate × {self.rate:g}"] if self.rate != 1.0 else []
        return ", ".join(parts) or "nothing to choose"


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What all arms share.

    `pool` are the rows that examples are taken from, `examples` the index over their questions; `wordings` the user's other wordings of questions.
    """

    plan: Plan
    rows: Rows
    folder: Path
    model: Model
    index: Index | None
    examples: Index
    pool: Sequence[Item]
    embed: Embed | None = None
    wordings: Wordings = RULES
    between: Callable[[], None] | None = None
    looked: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Places of passages already looked up, by question and way."""

    @property
    def part(self) -> TaskPlan:
        """The run's only task."""
        return self.plan.first

    @property
    def has_head(self) -> bool:
        """Whether tuned weights answer through a head of their own, and the base writes."""
        return self.part.rows.head is not None

    @property
    def several_labels(self) -> bool:
        """Whether a row may have several labels."""
        return self.part.rows.head is not None and self.part.rows.head.problem == "several"

    @property
    def settings(self) -> DecideConfig:
        """The table [decide] of the run."""
        return self.plan.resolved.config.decide

    @property
    def scores(self) -> dict[str, Score]:
        """The scores of the run, the first one decides."""
        return resolve_scores(self.part.config.score)

    @property
    def headline(self) -> str:
        """The score that decides."""
        return self.part.config.score[0]

    @property
    def answer_tokens(self) -> int:
        """The longest answer, the same for every arm."""
        return self.plan.resolved.config.evaluate.max_tokens or 64

    @property
    def room(self) -> int:
        """Tokens that a prompt may have, in training too: the longest sequence of the run less the longest answer."""
        return min(self.model.max_length, self.part.renderer.max_length) - self.answer_tokens

    def tokens(self, task: Task) -> int:
        """Return how many tokens a prompt has."""
        return len(self.part.renderer.prompt(task))

    def asker_of(self, model: Model) -> Renderer | HeadRenderer:
        """Return what puts rows to a model: the run's renderer, or the head's where the model has one."""
        spec, reader = model.reads(self.part.name), self.part.rows.reader
        return self.part.renderer if spec is None or reader is None else replace(reader, spec=spec)

    def asking(self, **changes: Any) -> Asking:
        """Return how every arm is asked: greedily, in batches."""
        config = self.plan.resolved.config
        options = Options(max_tokens=self.answer_tokens, batch=config.evaluate.batch, seed=config.seed, long_prompts="cut")
        return Asking(replace(options, **changes), tokens=config.train.tokens, between=self.between)


def with_pool(bench: Bench, pool: Sequence[Item]) -> Bench:
    """Return the bench with examples taken from these rows alone."""
    return replace(bench, pool=pool, examples=questions_of(pool))


def questions_of(pool: Sequence[Item]) -> Index:
    """Return an index over the questions of rows; the document of each passage is the row's place."""
    return build((Document(f"{place:07}", item.question, item.task.origin) for place, item in enumerate(pool)), size=WHOLE)


# ------------------------------------------------------------------------------------------------------------- examples, passages


def help_for(bench: Bench, arm: Arm, setting: Setting, item: Item, *, without_document: bool = False) -> Help:
    """Return what stands beside a question, cut to what the model reads; `without_document` hides the document that holds its answer."""
    by = setting.examples_by if arm.examples == "searched" else arm.examples
    examples = _examples(bench, by, setting.examples, item)
    passages = _passages(bench, arm, setting.passages, item, without_document=without_document)
    given = Help(setting.instruction, tuple(examples), tuple(passages), setting.layout)
    return fit(item, given, tokens=bench.tokens, room=bench.room)


def _examples(bench: Bench, by: str, count: int, item: Item) -> list[Item]:
    """Return worked examples, the nearest one last; never the row itself."""
    if by == "none" or count == 0:
        return []
    if by == "fixed":
        return [one for one in fixed_examples(bench.pool, count + 1) if one.id != item.id][:count]
    found = [bench.pool[int(hit.passage.document)] for hit in search(bench.examples, item.question, limit=count + 1)]
    near = [one for one in found if one.id != item.id][:count]
    missing = [one for one in fixed_examples(bench.pool, 2 * count + 1) if one.id != item.id and one not in near]
    return [*missing[: count - len(near)], *reversed(near)]


def fixed_examples(pool: Sequence[Item], count: int) -> list[Item]:
    """Return examples with answers as different as possible, the first ones in the order of the pool."""
    first: dict[str, Item] = {}
    for item in pool:
        first.setdefault(normalised(item.answer), item)
    chosen = list(first.values())[:count]
    return chosen + [item for item in pool if item not in chosen][: count - len(chosen)]


def _passages(bench: Bench, arm: Arm, count: int, item: Item, *, without_document: bool) -> list[str]:
    """Return the passages of an arm for a question, the best one first."""
    if arm.passages == "none" or bench.index is None:
        return []
    if arm.passages == "corpus":
        kept = (one for one in bench.rows.documents if not (without_document and one.name == item.document))
        return [one.text for one in kept]
    holding = set(gold(bench, item))
    if arm.passages == "gold":
        places = [] if without_document else sorted(holding)[:1]
    elif arm.passages == "wrong":
        near = looked_up(bench, item.question, "bm25")
        places = [place for place in near if place not in holding and not _from(bench, place, item)][:WRONG]
    else:
        places = looked_up(bench, item.question, arm.passages)
        if without_document:
            places = [place for place in places if place not in holding and not _from(bench, place, item)]
        places = places[:count]
    return [bench.index.passages[place].text for place in places]


def _from(bench: Bench, place: int, item: Item) -> bool:
    assert bench.index is not None
    return item.document is not None and bench.index.passages[place].document == item.document


def looked_up(bench: Bench, question: str, how: How) -> list[int]:
    """Return the places of passages for a question, looked up once."""
    assert bench.index is not None
    if (question, how) not in bench.looked:
        deep = max(32, 4 * max(bench.settings.passages))
        found = search(bench.index, question, limit=deep, how=how, embed=bench.embed)
        bench.looked[question, how] = [hit.place for hit in found]
    return bench.looked[question, how]


def gold(bench: Bench, item: Item) -> list[int]:
    """Return the places of passages that hold a row's answer: where the row says it stands, else where it stands word for word."""
    if bench.index is None:
        return []
    passages = bench.index.passages
    if item.evidence is not None:
        part, start, end = item.evidence
        whole = [
            place
            for place, one in enumerate(passages)
            if one.document == item.document and one.part == part and one.start < end and one.end > start
        ]
        full = [place for place in whole if passages[place].start <= start and passages[place].end >= end]
        return full or whole
    wanted = normalised(item.answer)
    if not wanted or item.task.expected.labels is not None or len(wanted.split()) > LONGEST_GOLD:
        return []
    near = looked_up(bench, f"{item.question} {item.answer}", "bm25")
    return [place for place in near if wanted in normalised(passages[place].text)]


# ------------------------------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What an arm said to rows: the tasks as they were put, the answers, tokens of each prompt, seconds for all, passages shown."""

    tasks: list[Task]
    answers: list[Answer]
    prompt_tokens: list[int]
    seconds: float
    shown: list[tuple[str, ...]]


def ask(
    bench: Bench,
    arm: Arm,
    setting: Setting,
    items: Sequence[Item],
    model: Model,
    *,
    asking: Asking | None = None,
    without_document: bool = False,
) -> Said:
    """Return what an arm answers to rows."""
    apply_device(bench.model.target)  # tuning an arm may have left torch with other formats
    started = time.perf_counter()
    given = [help_for(bench, arm, setting, item, without_document=without_document) for item in items]
    tasks = [put(item, one) for item, one in zip(items, given, strict=True)]
    asker = bench.asker_of(model)
    answers = answer(model, asker, tasks, bench.scores, asking or bench.asking())
    seconds = time.perf_counter() - started
    return Said(tasks, answers, [_tokens(asker, task) for task in tasks], seconds, [one.passages for one in given])


def _tokens(asker: Renderer | HeadRenderer, task: Task) -> int:
    """Return how many tokens a model reads before it answers."""
    if isinstance(asker, HeadRenderer):
        return sum(window.sequence.length for window in asker.windows(task, learn=False))
    return len(asker.prompt(task))


def value(bench: Bench, said: Said) -> float:
    """Return the deciding score of answers, more being better."""
    score = bench.scores[bench.headline]
    found = float(score.combine(np.asarray(score.statistics(said.answers, said.tasks)).sum(0)))
    return found if score.higher_is_better else -found


def statistics(bench: Bench, answers: Mapping[str, Sequence[Answer]], items: Sequence[Item], name: str) -> dict[str, np.ndarray]:
    """Return the statistics [rows, K] of each arm by one score."""
    tasks = [item.task for item in items]
    score = bench.scores[name]
    return {arm: np.asarray(score.statistics(given, tasks), dtype=np.float64) for arm, given in answers.items()}
