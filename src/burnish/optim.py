"""The optimizer and the learning rate of each step.

Enters: a model's trainable parameters and the run's numbers. Leaves: a torch optimizer for the loop, and a pure function of the
step, so that a resumed run needs no scheduler state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch


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
    parameters: Sequence[torch.nn.Parameter], *, weight_decay: float = 0.0, beta2: float = 0.999
) -> torch.optim.AdamW:
    """Return AdamW over the parameters; matrices decay, vectors (norms, biases) do not.

    Source: Loshchilov and Hutter 2017, arXiv 1711.05101.
    """
    import torch

    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=(0.9, beta2), eps=1e-8, fused=True)
