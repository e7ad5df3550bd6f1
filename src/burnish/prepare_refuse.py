"""What does not fit together in a run: said before a model is loaded, with every problem and its remedy.

Enters: a resolved run, its technique and objectives. Leaves: nothing, or ConfigError. Called by `prepare`; what concerns rows stands in
`prepare_task`.
"""

from __future__ import annotations

from collections.abc import Mapping

from burnish.config import Resolved
from burnish.errors import ConfigError, combined
from burnish.techniques import TECHNIQUES
from burnish.types import Objective, Technique


def refuse_idle(resolved: Resolved, technique: Technique, objectives: Mapping[str, Objective]) -> None:
    """Raise ConfigError for what the run says and no objective of it reads, and for what one reads and the run does not say."""
    config, problems = resolved.config, []
    attempts = any(one.renders == "rollouts" for one in objectives.values())
    taught = any("teacher" in one.reads_streams(config.of_task(name).objective.options) for name, one in objectives.items())
    # A run that was written down names every value; only what differs from the default was meant.
    usual = type(config.rollout)()
    said = [f"rollout.{name}" for name in type(usual).model_fields if getattr(config.rollout, name) != getattr(usual, name)]
    if said and not attempts:
        problems.append(f"{', '.join(said)}: belongs to reinforcement learning (grpo, rloo, reinforce, ppo); leave the table out.")
    if taught and config.teacher is None:
        problems.append("teacher: this objective imitates another model; name it: teacher = MODEL.")
    if config.teacher is not None and not taught:
        problems.append(f"teacher = {config.teacher!r}: only the objective distill imitates a teacher; leave it out.")
    problems += [
        f"rollout.reward: {one.model_dump(exclude_none=True)}: each part is either a score or a model; give one of the two."
        for one in config.rollout.reward
        if (one.score is None) == (one.model is None)
    ]
    problems += [
        f"rollout.reward: {one.model_dump(exclude_none=True)}: task says whose head of a reward model judges, and there is no model."
        for one in config.rollout.reward
        if one.task is not None and one.model is None and one.score is not None
    ]
    if config.train.average < 1 and (why := _not_averaged(resolved, technique, objectives)) is not None:
        problems.append(f"train.average = {config.train.average:g}: {why} Leave it out.")
    if problems:
        raise combined(ConfigError, "What the run says and its objective do not fit", problems)


def _not_averaged(resolved: Resolved, technique: Technique, objectives: Mapping[str, Objective]) -> str | None:
    """Return why the result of a run cannot be averaged with its base, None where it can."""
    name = resolved.config.technique.name
    if resolved.config.model.is_fresh:
        return "the average with random weights is of no use."
    if technique.averages is None:
        fitting = ", ".join(one for one, technique in TECHNIQUES.items() if technique.averages is not None)
        return f"what technique {name!r} learns is not proportional to anything that could be scaled (these are: {fitting})."
    if any(one.adds_head for one in objectives.values()):
        return "a head begins as random numbers, which nothing is to be averaged with."
    return None


def cannot_be_heard(technique: Technique, objective: Objective) -> bool:
    """Return whether a technique puts positions before what a model writes, and the objective has it read instead."""
    return technique.virtual_positions is not None and objective.head is not None


def refuse_silent(resolved: Resolved, technique: Technique, objectives: Mapping[str, Objective]) -> None:
    """Raise ConfigError for a technique that puts positions before what a model writes, where an objective has it read instead."""
    silent = next((name for name, one in objectives.items() if cannot_be_heard(technique, one)), None)
    if silent is not None:
        config = resolved.config
        raise ConfigError(
            f"technique {config.technique.name!r} puts learned positions before a text that the model goes on writing, but with objective "
            f'{config.of_task(silent).objective.name!r} it writes none. Set technique.name = "lora", which trains the head too, or "full".'
        )


def second_adapter(model: str) -> str:
    """Return why an adapter cannot be tuned on a model that is an adapter."""
    return (
        f"model = {model!r} is an adapter itself, and another adapter on top of it could not be saved with it. "
        f'Set technique.name = "lora", which can stand on another low-rank adapter, or "full" (the first adapter is then merged); or '
        f"begin with its base."
    )


def no_base(model: str) -> str:
    """Return why an adapter cannot be tuned on a fresh model."""
    return (
        f"an adapter on {model} would change random weights a little and leave them random. "
        f'Set technique.name = "full", or begin with a model that there is: model = "tiny".'
    )
