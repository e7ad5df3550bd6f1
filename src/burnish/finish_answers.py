"""What a run is measured by: held-out rows as tasks, what a model says of them, and what the untouched base writes beside a head.

Enters: a plan, a model, rows. Leaves: answers. Called by `finish`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.devices import Device
from burnish.evaluate import Asking, answer, resolve_scores
from burnish.models import Model, is_encoder, is_picture_encoder, load_model
from burnish.models.heads import held_kind
from burnish.prepare import Plan
from burnish.prepare_task import TaskPlan
from burnish.reading import head_scores
from burnish.reading_rows import judged_tasks, rewards
from burnish.sampling import Options
from burnish.scores.ratings import is_rated
from burnish.types import Answer, Task


def rows_of(part: TaskPlan, side: str) -> list[Task]:
    """Return the rows of a side as tasks to measure on, also ratings that a reward model is to meet and texts to restore tokens of."""
    if part.rows.compares:
        return part.tasks(side)
    gathered = part.gathered
    return judged_tasks(gathered.examples[side], gathered.groups[side], gathered.frame)


def answers_of(model: Model, part: TaskPlan, tasks: Sequence[Task], asking: Asking) -> list[Answer]:
    """Return a model's answers to the rows of a task: what it writes, what its head reads, and its reward of each rated answer."""
    found = answer(model, part.rows.reader or part.renderer, tasks, resolve_scores(part.config.score), asking)
    return found if part.rows.compares else with_rewards(model, part.renderer, tasks, found, asking)


def with_rewards(model: Model, renderer: Renderer, tasks: Sequence[Task], given: Sequence[Answer], asking: Asking) -> list[Answer]:
    """Return the answers with the reward of each rated answer among the tasks, by the head of the renderer's task."""
    found, judged = list(given), [number for number, task in enumerate(tasks) if is_rated(task)]
    told = rewards(
        renderer,
        [tasks[number] for number in judged],
        lambda sequences: head_scores(model, sequences, tokens=asking.tokens, between=asking.between),
    )
    for number, one in zip(judged, told, strict=True):
        found[number] = one
    return found


def asking_for(plan: Plan, *, max_tokens: int | None = None) -> Asking:
    """Return how a run's held-out rows are put to a model; `max_tokens` stands in place of the run's own limit of an answer."""
    settings = plan.resolved.config
    longest = max_tokens or settings.evaluate.max_tokens or 64
    options = Options(max_tokens=longest, batch=settings.evaluate.batch, seed=settings.seed, long_prompts="cut")
    return Asking(options, tokens=settings.train.tokens)


def asking_of(part: TaskPlan, asking: Asking) -> Asking:
    """Return how the rows of a task are put to a model: pairs are compared as its objective does."""
    return replace(asking, per_token=part.objective.preference == "mean")


def preferences(plan: Plan, model: Model, rows: Mapping[str, Sequence[Task]], asking: Asking) -> dict[str, list[Answer]]:
    """Return by task what a model prefers on these rows, of the tasks whose objective compares that with the model before step 0."""
    found = {}
    for name, part in plan.parts.items():
        scores = {one: score for one, score in resolve_scores(part.config.score).items() if score.needs == "preference"}
        if scores and part.reads("reference") and name in rows:
            found[name] = answer(model, part.asker, rows[name], scores, asking_of(part, asking))
    return found


def zero_shot(plan: Plan, target: Device, held_out: Mapping[str, Sequence[Task]], asking: Asking) -> dict[str, list[Answer]]:
    """Return by task what the untouched base writes when it is asked as `sft` would ask it; nothing where there is no such question.

    That takes a head that reads what a model could write, and a base that writes: no encoder, and none that came with a head.
    """
    reads = {name: part for name, part in plan.parts.items() if isinstance(part.asker, HeadRenderer)}
    if (
        not reads
        or is_encoder(plan.model_config)
        or is_picture_encoder(plan.model_config)
        or held_kind(plan.model_config) is not None
    ):
        return {}
    base = load_model(plan.found.name, target)
    if base.spec is not None:
        return {}
    return {
        name: answer(base, part.renderer, held_out[name], resolve_scores(part.config.score), asking)
        for name, part in reads.items()
        if name in held_out
    }
