"""How rollouts are made: which prompts, how many answers, what is compared with what, and what a run may not change on the way.

Enters: options. Leaves: a checked `Plan`, and what follows from it and the number of a rollout alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from burnish.data.batching import shuffled
from burnish.errors import ConfigError, combined
from burnish.rollouts_sequences import Advantage
from burnish.sampling import Options

COMPARED = ("group", "centred", "leave_one_out")

SPEED_ONLY = ("tokens", "packing", "shared", "batch")
"""Options that a run may change when it is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How rollouts are made. Options that cannot be used raise ConfigError, all problems at once.

    Each rollout holds `samples` answers to each of `prompts` prompts, and serves `inner` epochs of `parts` optimizer steps each, a part
    being an equal share of its prompts. `kl` is what a nat from the reference costs in the reward (0: none); with a `kl_target`, in
    nats per answer, it adapts over `kl_horizon` answers. `discount` and `decay` are those of generalised advantages. `tokens`,
    `packing` and `shared` cut micro-batches, `batch` is answers in flight at once: none of the four changes what is learned.
    """

    advantage: Advantage
    prompts: int
    samples: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    inner: int = 1
    parts: int = 1
    kl: float = 0.0
    kl_target: float | None = None
    kl_horizon: float = 10_000.0
    discount: float = 1.0
    decay: float = 0.95
    seed: int = 0
    tokens: int = 8192
    packing: bool = False
    shared: bool = False
    batch: int = 64

    def __post_init__(self) -> None:
        problems = _plan_problems(self)
        if problems:
            raise combined(ConfigError, "Rollouts that cannot be made", problems)

    @property
    def steps(self) -> int:
        """Optimizer steps that a rollout serves."""
        return self.inner * self.parts


def _plan_problems(plan: Plan) -> list[str]:
    """Return what is wrong with a plan; sampling options are checked by `sampling.Options`."""
    problems = [
        f"{name} = {getattr(plan, name)}: expected a whole number from 1."
        for name in ("prompts", "inner", "parts", "tokens")
        if getattr(plan, name) < 1
    ]
    if plan.parts > plan.prompts:
        problems.append(f"parts = {plan.parts}: expected at most one for each of the {plan.prompts} prompts.")
    if plan.samples < (2 if plan.advantage in COMPARED else 1):
        problems.append(f"samples = {plan.samples}: {plan.advantage!r} compares answers to a prompt, so expected at least 2.")
    if plan.temperature == 0:
        problems.append("temperature = 0: every sample would be the same answer; expected a number above 0, such as 1.")
    if not 0 <= plan.kl < float("inf"):
        problems.append(f"kl = {plan.kl}: expected a number from 0.")
    if plan.kl_target is not None and not (plan.kl > 0 and plan.kl_target > 0 and plan.kl_horizon > 0):
        problems.append(f"kl_target = {plan.kl_target}: expected a number above 0, with kl and kl_horizon above 0 too.")
    if not (0 < plan.discount <= 1 and 0 <= plan.decay <= 1):
        problems.append(f"discount = {plan.discount}, decay = {plan.decay}: expected shares up to 1.")
    return problems


def chosen_prompts(size: int, plan: Plan, number: int) -> list[int]:
    """Return the numbers of the tasks that a rollout attempts: the next ones in the order of the epochs, a function of the seed."""
    order = shuffled(size, plan.seed)
    first = number * plan.prompts
    return [int(order(place // size)[place % size]) for place in range(first, first + plan.prompts)]


def sampling_options(plan: Plan, number: int) -> Options:
    """Return the sampling options of a rollout; its number sets its draws apart from those of others."""
    return Options(
        max_tokens=plan.max_tokens,
        temperature=plan.temperature,
        top_p=plan.top_p,
        top_k=plan.top_k,
        stop=plan.stop,
        seed=plan.seed,
        samples=plan.samples,
        batch=plan.batch,
        step=number,
    )


def dealt(plan: Plan, number: int, place: int) -> set[int] | None:
    """Return the groups that stand in step `place` of a rollout, dealt anew in each inner epoch; None: all of them."""
    if plan.parts == 1:
        return None
    epoch, part = divmod(place, plan.parts)
    # A key that no order of an epoch and no sampled answer has: those count their second word from 0.
    key = np.array([plan.seed, 2**64 - 1 - number], dtype=np.uint64)
    groups = np.random.Generator(np.random.Philox(key=key, counter=epoch)).permutation(plan.prompts) + 1
    return {int(group) for group in np.array_split(groups, plan.parts)[part]}


def lasting(plan: Plan) -> dict[str, Any]:
    """Return the options that a run may not change while it goes on, as JSON holds them."""
    kept = {item.name: getattr(plan, item.name) for item in fields(plan) if item.name not in SPEED_ONLY}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}
