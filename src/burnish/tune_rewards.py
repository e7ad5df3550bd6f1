"""What judges the answers of a run in reinforcement learning: scores by name, and reward models, one head of several tasks among them.

Enters: a task of a run and where its models are to be. Leaves: the weighted parts of its reward for `tune_rollouts`, and the same reward
as a score of held-out answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from burnish import config
from burnish.config import Resolved
from burnish.data.dialog import Frame
from burnish.data.render import Renderer
from burnish.data.render_pairs import judged_sequences, within_pairs
from burnish.devices import Device
from burnish.errors import ConfigError, suggestion
from burnish.evaluate import resolve_scores
from burnish.models import Model, load_model
from burnish.prepare_task import TaskPlan
from burnish.reading import head_scores
from burnish.rewards import LengthGuard, Part, rewards
from burnish.scores import SCORES
from burnish.scores.parts import mean
from burnish.types import Answer, Message, Rated, Score, Task, content


def longest_attempt(part: TaskPlan) -> int:
    """Return how many tokens an attempt has at most."""
    return part.config.rollout.max_tokens or part.config.evaluate.max_tokens or 64


def guard_of(part: TaskPlan) -> LengthGuard | None:
    """Return what a long attempt loses, None where length costs nothing."""
    soft = part.config.rollout.soft_limit
    return None if soft is None else LengthGuard(soft=soft, limit=longest_attempt(part))


def judges_of(part: TaskPlan, resolved: Resolved, target: Device) -> list[Part]:
    """Return what judges the answers of a task: what the run names, or its first score. Raises ConfigError for what cannot."""
    chosen = part.config.rollout.reward
    if not chosen:
        usable = [name for name, score in resolve_scores(part.config.score).items() if score.needs == "text"]
        if not usable:
            raise ConfigError(f"score: none of {', '.join(part.config.score)} is one of an answer's text, so none can be a reward.")
        return [Part(name=usable[0], judge=resolve_scores(usable[:1])[usable[0]])]
    found = []
    for reward in chosen:
        if reward.model is not None:
            name = reward.model if reward.task is None else f"{reward.model}/{reward.task}"
            judge = reward_model(reward.model, resolved, target, task=reward.task)
            found.append(Part(name=name, judge=judge, weight=reward.weight))
            continue
        assert reward.score is not None, "prepare refuses a part that is neither"
        judge = resolve_scores([reward.score])[reward.score]
        if judge.needs != "text":
            fitting = ", ".join(name for name, score in SCORES.items() if score.needs == "text")
            raise ConfigError(f"rollout.reward: {reward.score!r} is no score of an answer's text. Suitable: {fitting}.")
        found.append(Part(name=reward.score, judge=judge, weight=reward.weight))
    return found


def reward_model(name: str, resolved: Resolved, target: Device, *, task: str | None = None) -> Callable[..., np.ndarray]:
    """Return what judges answers by a reward model: a number each, more being better.

    Of a run with several tasks, `task` says whose head judges; its only reward head where not given. Raises ConfigError for another kind
    of model, and where it is not clear which head is meant.
    """
    model = load_model(config.named_model(resolved, name), target)
    called, settings = _reward_head(model, name, task)
    limit = int(settings.get("max_length") or model.max_length)
    frame = Frame(settings.get("system"), settings.get("prompt"))
    renderer = Renderer(model.tokenizer, limit, model.end_ids(), frame, task=called)

    def judge(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
        rows = [
            Rated(
                messages=(*task.messages, Message(role="assistant", content=content(one.text))),
                rating=0.0,
                tools=task.tools,
                origin=task.origin,
            )
            for one, task in zip(answers, tasks, strict=True)
        ]
        read = [within_pairs(judged_sequences(renderer, row, group=1), limit, policy="cut") for row in rows]
        scores = head_scores(model, [one for part in read for one in part], tokens=resolved.config.train.tokens)
        return np.asarray([float(score_NC[0, 0]) for score_NC in scores])

    return judge


def _reward_head(model: Model, name: str, task: str | None) -> tuple[str, Mapping[str, Any]]:
    """Return the task whose head gives rewards, and the form in which that was taught; ConfigError where there is no one such head."""
    known: Mapping[str, Any] = model.found.settings.get("tasks", {})
    if task is not None and task not in known:
        said = f"Its tasks: {', '.join(known)}.{suggestion(task, known)}" if known else "It learned one task, which has no name."
        raise ConfigError(f"rollout.reward: model = {name!r} has no task {task!r}. {said}")
    heads = [one for one, spec in model.heads.items() if spec.problem == "reward" and task in (None, one)]
    if not heads and task is None and model.spec is not None and model.spec.problem == "reward":
        return "main", model.found.settings
    if not heads:
        whose = "is no reward model" if task is None else f"has no reward head for the task {task!r}"
        raise ConfigError(f'rollout.reward: model = {name!r} {whose}. Tune one first: objective = "reward".')
    if len(heads) > 1:
        raise ConfigError(
            f"rollout.reward: model = {name!r} has reward heads for {', '.join(heads)}. Say whose is meant: task = {heads[0]!r}."
        )
    return heads[0], known[heads[0]]


def as_score(parts: Sequence[Part], guard: LengthGuard | None) -> Score | None:
    """Return a reward as a score of held-out answers, None where it is one score that stands by itself."""
    if guard is None and len(parts) == 1 and isinstance(parts[0].judge, Score):
        return None

    def statistics(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
        values_S = rewards(answers, tasks, parts, guard=guard).total_S
        return np.stack([values_S, np.ones(len(values_S))], axis=1)

    return Score(statistics=statistics, combine=mean, best=float("inf"))
