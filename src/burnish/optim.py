"""The optimizer and the learning rate of each step.

Enters: a model's trainable parameters and the run's numbers. Leaves: a torch optimizer for the loop, and a pure function of the
step, so that a resumed run needs no scheduler state.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from burnish.optim_eight_bit import EightBitAdamW, is_large

if TYPE_CHECKING:
    import torch


class Optimizer(Protocol):
    """What the loop and the checkpoints use of an optimizer."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameters with the numbers that hold for them; the loop sets `lr`."""
        ...

    @property
    def state(self) -> Any:
        """What persists for each parameter."""
        ...

    def step(self) -> Any:
        """Update the parameters by their gradients."""
        ...

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        ...


MOMENT_BYTES = {"adamw": 8.0, "adamw8bit": 2.03, "muon": 8.0}
"""Bytes that an optimizer keeps for each number that moves, at most."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate over a run: a linear warm-up, then `kind`. `steps` is the length of the whole run in optimizer steps."""

    peak: float
    steps: int
    warmup: int = 0
    kind: Literal["cosine", "linear", "constant"] = "cosine"
    floor: float = 0.1
    """Where cosine and linear end, as a share of the peak."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if self.kind == "constant":
            return self.peak
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        share = 0.5 * (1 + math.cos(math.pi * progress)) if self.kind == "cosine" else 1 - progress
        return self.peak * (self.floor + (1 - self.floor) * share)


def make_optimizer(
    parameters: Mapping[str, torch.nn.Parameter],
    *,
    name: Literal["adamw", "adamw8bit", "muon"] = "adamw",
    weight_decay: float = 0.0,
    beta2: float = 0.999,
) -> Optimizer:
    """Return the optimizer over named parameters; matrices decay, vectors (norms, biases) do not.

    A parameter with an attribute `rate_factor` learns at that multiple of the rate that the loop sets (LoRA+ needs it).

    "adamw": Loshchilov and Hutter 2017, arXiv 1711.05101. "adamw8bit": the same with averages of one byte each (`optim_eight_bit`), those
    of small parameters apart. "muon" turns the momentum of each hidden matrix into the nearest orthogonal
    one, scaled so that the learning rate means what it does for AdamW, which it leaves embeddings, heads and vectors to:
    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the scale from Liu et al. 2025, arXiv 2502.16982.
    """
    import torch

    orthogonal = [item for key, item in parameters.items() if name == "muon" and _is_hidden_matrix(key, item)]
    chosen = {id(item) for item in orthogonal}
    large = [item for item in parameters.values() if name == "adamw8bit" and is_large(item)]
    chosen |= {id(item) for item in large}
    rest = [item for item in parameters.values() if id(item) not in chosen]
    parts: list[Any] = []
    if groups := _decaying(rest, weight_decay):
        parts.append(torch.optim.AdamW(groups, lr=0.0, betas=(0.9, beta2), eps=1e-8, fused=True))
    if orthogonal:
        parts.append(torch.optim.Muon(_by_factor(orthogonal, weight_decay), lr=0.0, adjust_lr_fn="match_rms_adamw"))
    for part in parts:
        _honour_factors(part)
    if large:
        parts.append(EightBitAdamW(_decaying(large, weight_decay), betas=(0.9, beta2)))
    return parts[0] if len(parts) == 1 else Several(parts)


def _decaying(items: Sequence[torch.nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups in which matrices decay and vectors do not."""
    groups = _by_factor([item for item in items if item.ndim >= 2], weight_decay)
    return groups + _by_factor([item for item in items if item.ndim < 2], 0.0)


def _by_factor(items: Sequence[torch.nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups, one for each `rate_factor` among the parameters, in the order in which the factors come up."""
    factors = dict.fromkeys(float(getattr(item, "rate_factor", 1.0)) for item in items)
    return [
        {
            "params": [item for item in items if float(getattr(item, "rate_factor", 1.0)) == factor],
            "weight_decay": weight_decay,
            "rate_factor": factor,
        }
        for factor in factors
    ]


def _honour_factors(optimizer: torch.optim.Optimizer) -> None:
    """Let each group of the optimizer step at `rate_factor` times its rate; the loop sets and sees one rate for all of them."""
    if all(group["rate_factor"] == 1.0 for group in optimizer.param_groups):
        return
    scheduled: list[Any] = []

    def raise_rates(*_: Any) -> None:
        scheduled[:] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * group["rate_factor"]

    def put_back(*_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
            group["lr"] = rate

    optimizer.register_step_pre_hook(raise_rates)
    optimizer.register_step_post_hook(put_back)


OUTER = ("embed", "lm_head", "wte", "wpe", "named_heads", "value_head", "score", "classifier", "qa_outputs")
"""Parts of the names of matrices that do not lead from hidden states to hidden states: tables of tokens, and heads."""


def _is_hidden_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    """Return whether a parameter is a matrix between hidden states, and no table of tokens or head."""
    return parameter.ndim == 2 and not any(part in name for part in OUTER)


class Several:
    """Several optimizers over different parameters, as one: what the loop and the checkpoints use of an optimizer."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts
        self.state: defaultdict[torch.Tensor, Any] = defaultdict(dict)
        for part in parts:
            part.state = self.state

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all of them, in order."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """Update the parameters of all of them."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all of them."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)
