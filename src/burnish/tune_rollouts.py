"""Reinforcement learning as a source of batches of a run: attempts, judged by the run's rewards, against the model before step 0.

Enters: a run under way, before a checkpoint is taken up again. Leaves: `Rollouts` for the loop; what it tells after a step; its state for
checkpoints. What judges answers is made in `tune_rewards`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.models import Model, forward
from burnish.prepare_task import TaskPlan
from burnish.rollouts import Rollouts
from burnish.rollouts_plan import Plan
from burnish.rollouts_watch import warnings
from burnish.tune_layout import is_shared
from burnish.tune_rewards import as_score, guard_of, judges_of, longest_attempt
from burnish.tune_taught import OwnAnswers
from burnish.types import Batch, Score

if TYPE_CHECKING:
    import torch

    from burnish.tune_state import Running


@dataclass(frozen=True, slots=True, eq=False)
class WithAttempts:
    """Batches of tasks with fixed rows, and of tasks that the model attempts, by name: the rows of a step, then its attempts."""

    fixed: Callable[[int], list[Batch]]
    attempts: Mapping[str, Rollouts]

    def __call__(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of a step, task after task."""
        return [*self.fixed(step), *(batch for rollouts in self.attempts.values() for batch in rollouts(step))]

    def largest(self) -> list[Batch]:
        """Return the largest micro-batch of each task."""
        sources = [getattr(self.fixed, "largest", list), *(rollouts.largest for rollouts in self.attempts.values())]
        return [batch for source in sources for batch in source()]


def _attempts(source: Any) -> Mapping[str, Rollouts]:
    """Return the rollouts of a source of batches, by what its figures and its state are told under; "" stands for the only task."""
    if isinstance(source, WithAttempts):
        return {f"{name}/": rollouts for name, rollouts in source.attempts.items()}
    return {"": source} if isinstance(source, Rollouts) else {}


def make_rollouts(running: Running, part: TaskPlan, *, prompts: int, between: Callable[[], None]) -> Rollouts:
    """Return the attempts of a task as a source of batches, `prompts` to a rollout. Raises ConfigError for what cannot be made."""
    settings = part.config
    options, chosen = settings.objective.options, settings.rollout
    needs_reference = chosen.kl > 0 or part.reads("reference")
    plan = Plan(
        advantage=part.objective.advantage_of(options),  # pyright: ignore[reportArgumentType]  (the plan refuses another)
        prompts=prompts,
        samples=chosen.samples,
        max_tokens=longest_attempt(part),
        temperature=chosen.temperature,
        inner=chosen.inner,
        kl=chosen.kl,
        kl_target=chosen.kl_target,
        discount=chosen.discount,
        decay=chosen.decay,
        seed=settings.seed,
        tokens=settings.train.tokens,
        packing=settings.train.packing,
        shared=is_shared(running.model, part),
        batch=settings.evaluate.batch,
    )
    return Rollouts(
        model=running.model,
        renderer=part.renderer,
        tasks=part.tasks("train"),
        parts=judges_of(part, running.plan.resolved, running.model.target),
        plan=plan,
        guard=guard_of(part),
        reference=_reference(running) if needs_reference else None,
        between=between,
        rank=running.ranks.rank,
        ranks=running.ranks.size,
        processes=running.ranks,
        own_logprobs=part.objective.own_logprobs,
    )


# ---------------------------------------------------------------------------------------------------------- the model before step 0


def _reference(running: Running) -> Callable[[Batch], torch.Tensor]:
    """Return what reads the model as it stood before step 0: by switching the adapter off where it starts at zero, else from a copy."""
    model = running.model
    if running.plan.technique.reference == "adapter_off":
        before: Callable[[], Any] = model.network.disable_adapter
    else:
        kept = {name: parameter.detach().clone() for name, parameter in running.names.items()}

        @contextmanager
        def as_it_stood() -> Iterator[None]:
            moved = {name: parameter.data for name, parameter in running.names.items()}
            for name, parameter in running.names.items():
                parameter.data = kept[name]
            try:
                yield
            finally:
                for name, parameter in running.names.items():
                    parameter.data = moved[name]

        before = as_it_stood

    def read(batch: Batch) -> torch.Tensor:
        with before():
            return _logprobs(model, batch)

    return read


def _logprobs(model: Model, batch: Batch) -> torch.Tensor:
    logprobs_N = forward(model, batch, ("logprobs",)).logprobs_N
    assert logprobs_N is not None, "asked for log-probabilities"
    return logprobs_N


# -------------------------------------------------------------------------------------------------------- what it tells, and its state


def told(source: Any, step: int) -> dict[str, float]:
    """Return what is to be logged of the answers that a step learned from; nothing for batches of fixed rows."""
    if isinstance(source, OwnAnswers):
        return dict(source.told)
    found: dict[str, float] = {}
    for above, rollouts in _attempts(source).items():
        if not rollouts.records:
            continue
        record = asdict(rollouts.records[-1])
        parts = record.pop("parts")
        found |= {
            f"{above}rollout/{name}": value
            for name, value in record.items()
            if value is not None and name not in ("number", "step")
        }
        found |= {f"{above}reward/{name}": value for name, value in parts.items()} if len(parts) > 1 else {}
    return found


def warned(source: Any, scores: list[tuple[int, float]]) -> list[str]:
    """Return what is going wrong with the rollouts so far, in words. `scores` are (step, dev score), more being better."""
    found = _attempts(source).items()
    return [f"{above.rstrip('/')}: {one}" if above else one for above, made in found for one in warnings(made.records, scores)]


def worth_of(source: Any) -> dict[str, Score]:
    """Return by task ("" for the only one) the reward as a score of held-out answers; none where it is a score that stands by itself."""
    found = {above.removesuffix("/"): as_score(made.parts, made.guard) for above, made in _attempts(source).items()}
    return {name: score for name, score in found.items() if score is not None}


def state_of(source: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return what must persist of a source of batches: facts for JSON, and tensors; nothing of fixed rows, which follow from the step."""
    import torch

    facts, tensors = {}, {}
    for above, rollouts in _attempts(source).items():
        state = rollouts.state()
        facts[above] = state["facts"]
        tensors |= {f"{above}{name}": torch.from_numpy(np.ascontiguousarray(values)) for name, values in state["arrays"].items()}
    return facts.get("", facts), tensors


def load_state(source: Any, facts: Mapping[str, Any] | None, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put a source of batches back to where a checkpoint was written."""
    for above, rollouts in _attempts(source).items() if facts else ():
        assert facts is not None
        arrays = {name.removeprefix(above): tensor.numpy() for name, tensor in tensors.items() if name.startswith(above)}
        rollouts.load({"facts": facts[above] if above else facts, "arrays": arrays})
