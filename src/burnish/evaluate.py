"""Evaluate: let models answer the same tasks, apply scores, and say how far each figure can be trusted.

Enters: a model with its renderer, tasks, score names. Leaves: answers, and the score table of a report: every value with an interval
by a paired bootstrap over groups. The same functions serve the dev score during tuning and the final comparison with the base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from burnish.config_named import parted
from burnish.config_problems import wrong_options
from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.data.render_pairs import judged, pair_sequences, within_pairs
from burnish.errors import ConfigError, DataError
from burnish.models import Model
from burnish.reading import head_scores, read
from burnish.sampling import Options, generate, likelihoods
from burnish.scores import groups_of, intervals, resolve
from burnish.types import Answer, Score, Task


@dataclass(frozen=True, slots=True)
class Asking:
    """How tasks are put to a model: sampling options, and a function that is called between batches and may raise to stop.

    `per_token` compares the answers of a pair by their mean log-probability instead of its sum.
    """

    options: Options
    tokens: int = 8192
    between: Callable[[], None] | None = None
    per_token: bool = False


def resolve_scores(names: Sequence[str]) -> dict[str, Score]:
    """Return scores by name, in order; ConfigError for an unknown one."""
    return {name: resolve_score(name) for name in names}


def resolve_score(name: str) -> Score:
    """Return a score by name, or by `rouge_l(stem=false)` with options; ConfigError for an unknown name or option."""
    plain, options = parted(name)
    score = resolve(plain)
    if wrong := wrong_options(plain, score.statistics, options):
        raise ConfigError(f"score {name!r}: {' '.join(wrong)}")
    return replace(score, statistics=partial(score.statistics, **options)) if options else score


def answer(
    model: Model, renderer: Renderer | HeadRenderer, tasks: Sequence[Task], scores: Mapping[str, Score], asking: Asking
) -> list[Answer]:
    """Return the model's answer to each task, with generated text and likelihoods only where one of the scores needs them.

    A model with a head says what its head reads.
    """
    if isinstance(renderer, HeadRenderer):
        rows = [task.expected.asked or task for task in tasks]
        return read(model, renderer, rows, tokens=asking.tokens, between=asking.between)
    answers = [Answer() for _ in tasks]
    prompted = [number for number, task in enumerate(tasks) if task.text is None] if model.spec is None else []
    if prompted and any(score.needs == "text" for score in scores.values()):
        for number, given in zip(prompted, _generated(model, renderer, [tasks[n] for n in prompted], asking), strict=True):
            answers[number] = given
    measured = [n for n, task in enumerate(tasks) if any(s.needs == "likelihood" and s.applies(task) for s in scores.values())]
    if measured:
        for number, (nll, tokens, size) in zip(
            measured, _likelihoods(model, renderer, [tasks[n] for n in measured], asking), strict=True
        ):
            answers[number] = replace(answers[number], nll=nll, nll_tokens=tokens, nll_bytes=size)
    if any(score.needs == "preference" for score in scores.values()):
        compared = [number for number, task in enumerate(tasks) if task.expected.pair is not None]
        for number, margin in zip(compared, margins(model, renderer, [tasks[n] for n in compared], asking), strict=True):
            answers[number] = replace(answers[number], margin=margin)
    return answers


def margins(model: Model, renderer: Renderer, tasks: Sequence[Task], asking: Asking) -> list[float]:
    """Return by how many nats (or nats per token, `asking.per_token`) the chosen answer of each pair is likelier than the rejected one.

    A reward model says by how much it finds it better.
    A pair too long for the model is cut; one of which nothing is left to compare has the margin 0.
    """
    pairs = [task.expected.pair for task in tasks]
    sides = [
        within_pairs(pair_sequences(renderer, pair, group=1), renderer.max_length, policy="cut") if pair is not None else []
        for pair in pairs
    ]
    flat = [one for both in sides for one in both]
    if model.reads(renderer.task) is not None:
        scores = head_scores(
            model, [judged(one, margin=0.0, rating=0.0) for one in flat], tokens=asking.tokens, between=asking.between
        )
        worth = iter([float(score_NC[0, 0]) for score_NC in scores])
    else:
        said = likelihoods(model, flat, tokens_per_batch=asking.tokens, between=asking.between)
        worth = iter([-nll / (max(count, 1) if asking.per_token else 1) for nll, count in said])
    values = [[next(worth) for _ in both] for both in sides]
    return [both[0] - both[1] if len(both) == 2 else 0.0 for both in values]


def against(answers: Sequence[Answer], before: Sequence[Answer]) -> list[Answer]:
    """Return answers with each margin less that of the untuned model: what a model tuned against a reference has come to prefer."""
    return [
        after if after.margin is None or base.margin is None else replace(after, margin=after.margin - base.margin)
        for after, base in zip(answers, before, strict=True)
    ]


def _generated(model: Model, renderer: Renderer, tasks: Sequence[Task], asking: Asking) -> list[Answer]:
    """Return generated answers."""
    given = generate(model, [renderer.prompt(task) for task in tasks], asking.options, between=asking.between)
    return [Answer(text=one.text.strip(), stopped=one.stopped, tokens=len(one.tokens)) for one in given]


def _likelihoods(model: Model, renderer: Renderer, tasks: Sequence[Task], asking: Asking) -> list[tuple[float, int, int]]:
    """Return (nll in nats, tokens, UTF-8 bytes) of each task's expected text, windows of one text added up."""
    windows = [renderer.within(renderer.likelihood(task), "drop") for task in tasks]
    flat = [sequence for parts in windows for sequence in parts]
    found = iter(likelihoods(model, flat, tokens_per_batch=asking.tokens, between=asking.between))
    totals = []
    for parts in windows:
        values = [next(found) for _ in parts]
        totals.append((sum(nll for nll, _ in values), sum(tokens for _, tokens in values), sum(part.text_bytes for part in parts)))
    return totals


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """One score, by its name, on the rows of one task."""

    task: str
    name: str
    renderer: Renderer | HeadRenderer
    tasks: Sequence[Task]
    several: bool = False

    @property
    def label(self) -> str:
        """The score's name, after the task's where there are several."""
        return f"{self.task}/{self.name}" if self.several else self.name

    @property
    def score(self) -> Score:
        """The score itself; ConfigError for an unknown one."""
        return resolve_score(self.name)

    def value(self, answers: Sequence[Answer]) -> float:
        """Return the score of answers, without an interval."""
        return value(self.score, answers, self.tasks)


def joint(measures: Sequence[Measure], values: Mapping[str, float]) -> float:
    """Return the one figure by which the best checkpoint of a run is chosen.

    It is the only measure as it is; of several tasks the mean of their measures, those of which less is better counted as negative.
    """
    if len(measures) == 1:
        return values[measures[0].label]
    return float(np.mean([values[one.label] if one.score.higher_is_better else -values[one.label] for one in measures]))


def value(score: Score, answers: Sequence[Answer], tasks: Sequence[Task]) -> float:
    """Return one score over all tasks, without an interval: what tuning watches on dev rows."""
    return float(score.combine(score.statistics(answers, tasks).sum(0)))


def compare(
    arms: Mapping[str, Sequence[Answer]],
    tasks: Sequence[Task],
    scores: Mapping[str, Score],
    *,
    seed: int = 0,
    difference_from: str = "base",
) -> dict[str, dict[str, Any]]:
    """Return for each score the value and interval of each arm, and of its difference from one of them, as `report.json` holds them.

    An arm whose answers lack what a score needs (a baseline has no likelihood) is left out of that score.
    """
    table = {}
    for name, score in scores.items():
        fitting = {arm: answers for arm, answers in arms.items() if _holds(score, answers)}
        if not fitting or not any(score.applies(task) for task in tasks):
            raise DataError(f"score {name!r} finds nothing to compare with in these {len(tasks)} rows. See: burnish ls scores")
        statistics = {arm: np.asarray(score.statistics(answers, tasks)) for arm, answers in fitting.items()}
        table[name] = intervals(score, statistics, groups_of(tasks), seed=seed, difference_from=difference_from)
    return table


def each_slice(tasks: Sequence[Task], measure: Callable[[list[int]], Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each slice of the rows, in alphabetical order, what `measure` says of the rows at these places.

    Rows that name no slice are part of none. Whatever their whole is measured by, a slice is measured by the same.
    """
    places: dict[str, list[int]] = {}
    for place, task in enumerate(tasks):
        if task.slice is not None:
            places.setdefault(task.slice, []).append(place)
    return {name: {"rows": len(places[name]), "scores": dict(measure(places[name]))} for name in sorted(places)}


def fitting_scores(scores: Mapping[str, Score], tasks: Sequence[Task]) -> dict[str, Score]:
    """Return the scores that find something to compare with in these rows, in their order."""
    return {name: score for name, score in scores.items() if any(score.applies(task) for task in tasks)}


def _holds(score: Score, answers: Sequence[Answer]) -> bool:
    """Return whether answers hold what a score needs: a classical baseline has no likelihoods, and few arms have margins."""
    if score.needs == "likelihood":
        return any(one.nll_tokens for one in answers)
    if score.needs == "chances":
        return any(one.chances is not None for one in answers)
    return score.needs != "preference" or any(one.margin is not None for one in answers)


def examples_table(arms: Mapping[str, Sequence[Answer]], tasks: Sequence[Task], *, limit: int = 12) -> list[dict[str, Any]]:
    """Return a few tasks with every arm's answer, spread over the rows, for people to read."""
    from burnish.types import plain

    step = max(1, len(tasks) // limit)
    rows = []
    for number in range(0, len(tasks), step)[:limit]:
        task = tasks[number]
        if task.text is not None:
            continue
        prompt = "\n\n".join(plain(message.content) for message in task.messages)
        rows.append(
            {
                "prompt": prompt,
                "expected": task.expected.texts[0] if task.expected.texts else "",
                "origin": str(task.origin),
                **{arm: answers[number].text for arm, answers in arms.items()},
            }
        )
    return rows
