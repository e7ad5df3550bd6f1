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
    name: Literal["adamw", "muon"] = "adamw",
    weight_decay: float = 0.0,
    beta2: float = 0.999,
) -> Optimizer:
    """Return the optimizer over named parameters; matrices decay, vectors (norms, biases) do not.

    "adamw": Loshchilov and Hutter 2017, arXiv 1711.05101. "muon" turns the momentum of each hidden matrix into the nearest orthogonal
    one, scaled so that the learning rate means what it does for AdamW, which it leaves embeddings, heads and vectors to:
    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the scale from Liu et al. 2025, arXiv 2502.16982.
    """
    import torch

    orthogonal = [item for key, item in parameters.items() if name == "muon" and _is_hidden_matrix(key, item)]
    chosen = {id(item) for item in orthogonal}
    rest = [item for item in parameters.values() if id(item) not in chosen]
    groups = [
        {"params": [item for item in rest if item.ndim >= 2], "weight_decay": weight_decay},
        {"params": [item for item in rest if item.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    parts: list[torch.optim.Optimizer] = []
    if groups:
        parts.append(torch.optim.AdamW(groups, lr=0.0, betas=(0.9, beta2), eps=1e-8, fused=True))
    if orthogonal:
        parts.append(torch.optim.Muon(orthogonal, lr=0.0, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    return parts[0] if len(parts) == 1 else Several(parts)


def _is_hidden_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    """Return whether a parameter is a matrix between hidden states, and no table of tokens."""
    return parameter.ndim == 2 and not any(part in name for part in ("embed", "lm_head", "wte", "wpe"))


class Several:
    """Several optimizers over different parameters, as one: what the loop and the checkpoints use of an optimizer."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
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
