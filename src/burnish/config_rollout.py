"""The schema of reinforcement learning in a run file: how a model attempts tasks, and what its answers are worth.

Enters: plain values of the table [rollout]. Leaves: a frozen `RolloutConfig`, a part of the run's (`config_schema`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from burnish.config_named import as_named
from burnish.config_parts import Count, Table, Text


class RewardConfig(Table):
    """One part of what an answer is worth in reinforcement learning: a score, or a reward model."""

    score: Annotated[Text | None, BeforeValidator(as_named, json_schema_input_type=str | dict[str, Any] | None)] = None
    """a score (burnish ls scores) or module:function, perhaps a table with its options: {name = "last_number", tolerance = 0.1}"""
    model: Text | None = None
    """run directory or folder of a reward model, instead of a score"""
    task: Text | None = None
    """of a reward model with several tasks: the one whose head judges; not set: its only reward head"""
    weight: float = 1.0
    """factor in the sum of all parts; negative for what is to be avoided"""


def as_rewards(value: object) -> object:
    """Return the list of tables that the name of a score, or a list of names, stands for; anything else unchanged."""
    if isinstance(value, str | Mapping):
        value = [value]
    if isinstance(value, list | tuple):
        return tuple({"score": as_named(item)} if isinstance(item, str) else _with_score(item) for item in value)
    return value


def _with_score(value: object) -> object:
    return {**value, "score": as_named(value["score"])} if isinstance(value, Mapping) and "score" in value else value


Rewards = Annotated[tuple[RewardConfig, ...], BeforeValidator(as_rewards, json_schema_input_type=str | list[str | RewardConfig])]


class RolloutConfig(Table):
    """How a model attempts tasks by itself in reinforcement learning; without meaning for other objectives."""

    reward: Rewards = ()
    """scores or reward models that judge an answer, added by weight; empty: the first score of the run"""
    samples: Count = 8
    """answers to each prompt"""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """temperature at which they are drawn"""
    max_tokens: Count | None = None
    """longest answer in tokens; not set: evaluate.max_tokens"""
    soft_limit: Count | None = None
    """tokens from which an answer loses reward for its length, all of it at max_tokens; not set: length costs nothing"""
    inner: Count = 1
    """optimizer steps made of one set of answers"""
    kl: Annotated[float, Field(ge=0)] = 0.0
    """what a nat of distance from the model before tuning costs in the reward"""
    kl_target: Annotated[float, Field(gt=0)] | None = None
    """distance in nats per answer that rollout.kl is adapted to; not set: it stays as it is"""
    discount: Annotated[float, Field(gt=0, le=1)] = 1.0
    """what a reward one token later is worth (ppo, reinforce)"""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.95
    """lambda of generalised advantage estimation (ppo)"""
