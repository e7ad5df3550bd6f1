"""Whether what the sequences of a group have in common is computed once: both answers to a prompt, all samples of a task.

Enters: a plan, and then the model with its technique. Leaves: a yes or no that is the same whenever the run is taken up again. It is
made before step 1 from the rows and the model alone, and stands in the run directory as `Device.shared`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from burnish.data.batching_shared import saved_share
from burnish.devices import Device
from burnish.models import Model
from burnish.prepare_task import LONGEST_ANSWER, TaskPlan

if TYPE_CHECKING:
    from burnish.prepare import Plan

LEAST = 0.05
"""Share of a task's tokens that must be saved: below it, the row is divided into pieces for next to nothing."""


def wants_sharing(plan: Plan) -> bool:
    """Return whether any task of a run has enough in common within its groups."""
    return any(_gains(part) for part in plan.parts.values())


def settled(device: Device, model: Model, plan: Plan) -> Device:
    """Return the device with sharing given up where it would not be exact, or not for this model; the same on every resume."""
    return replace(device, shared=device.shared and plan.technique.virtual_positions is None and _is_exact(model, plan))


def is_shared(model: Model, part: TaskPlan) -> bool:
    """Return whether the batches of a task are laid out that way."""
    return model.target.shared and _gains(part)


def _gains(part: TaskPlan) -> bool:
    """Return whether the groups of a task have enough in common; of attempts, which are still to be made, whether they form groups."""
    return saved_share(part.sequences) >= LEAST if part.rows.learned else part.config.rollout.samples > 1


def _is_exact(model: Model, plan: Plan) -> bool:
    """Return whether a prefix that stands once gives what it gives before each answer alone.

    Not under dropout, which would draw once for both; not where a layer sees back less far than the longest sequence; not for an
    encoder, nor where one reading is made of a whole row.
    """
    by_row = model.head == "whole" and model.spec is not None
    near = model.window is None or all(_longest(part) <= model.window for part in plan.parts.values())
    return model.pieces != "none" and not by_row and near and not _drops_out(model)


def _longest(part: TaskPlan) -> int:
    """Return the most tokens that a sequence of a task may have."""
    if part.rows.learned:
        return max((sequence.length for unit in part.sequences for sequence in unit), default=0)
    return part.renderer.max_length + (part.config.rollout.max_tokens or LONGEST_ANSWER)


def _drops_out(model: Model) -> bool:
    """Return whether anything is dropped at random in training."""
    import torch

    config = model.plain().config.get_text_config()
    rates = [getattr(config, name, 0.0) or 0.0 for name in ("attention_dropout", "attn_pdrop")]
    rates += [module.p for module in model.network.modules() if isinstance(module, torch.nn.Dropout)]
    return any(rate > 0 for rate in rates)
