"""Whether a run's rows lie one behind the other, and what the sequences of a group have in common stands once (`batching_shared`).

Enters: a plan, and then the model with its technique. Leaves: a yes or no that is the same whenever the run is taken up again. It is
made before step 1 from the rows and the model alone, and stands in the run directory as `Device.shared`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from burnish.data.batching import cut_padded, units_of
from burnish.data.batching_shared import positions_of, saved_share
from burnish.devices import Device
from burnish.models import Model
from burnish.prepare_task import LONGEST_ANSWER, TaskPlan

if TYPE_CHECKING:
    from burnish.prepare import Plan

LEAST = 0.05
"""Share of positions that must be saved: below it, the row is divided into pieces for next to nothing."""

STEPS = 16
"""Steps from the first on whose padding stands for that of all others."""


def wants_sharing(plan: Plan) -> bool:
    """Return whether any task of a run has enough in common within its groups, or too much padding beside its rows.

    Not where a run asks for the plain way of everything (`train.fast = false`).
    """
    return plan.resolved.config.train.fast and any(_in_common(part) or _is_padded_much(part) for part in plan.parts.values())


def settled(device: Device, model: Model, plan: Plan) -> Device:
    """Return the device with sharing given up where it would not be exact, or no gain for this model; the same on every resume."""
    able = plan.technique.virtual_positions is None and _is_exact(model, plan)
    gains = any(_gains(model, part) for part in plan.parts.values())
    return replace(device, shared=device.shared and able and gains)


def is_shared(model: Model, part: TaskPlan) -> bool:
    """Return whether the batches of a task are laid out that way."""
    return model.target.shared and _gains(model, part)


def _gains(model: Model, part: TaskPlan) -> bool:
    """Return whether a task is quicker in pieces: for what its groups share, or for its padding where the pieces need no mask.

    Measured on one thread, forward and backward: 1.1 and 1.4 times as many steps where 15 % and 40 % of padded positions were padding.
    Compiled layers, which want few and even shapes, keep padded rows.
    """
    unmasked = model.pieces == "tiles" and not model.target.compiled
    return _in_common(part) or (unmasked and _is_padded_much(part))


def _in_common(part: TaskPlan) -> bool:
    """Return whether the groups of a task have enough in common; of attempts, which are still to be made, whether they form groups."""
    return saved_share(part.sequences) >= LEAST if part.rows.learned else part.config.rollout.samples > 1


def _is_padded_much(part: TaskPlan) -> bool:
    """Return whether padded rows of a task's first steps hold much that is no token of it; unknown of attempts: no."""
    if not part.rows.learned or part.config.train.packing:
        return False
    batch, numbers = part.config.train.batch, part.order()(0)
    padded = real = 0
    for first in range(0, min(len(numbers), STEPS * batch), batch):
        units = [unit for number in numbers[first : first + batch] for unit in units_of(part.sequences[int(number)])]
        cut = cut_padded(units, part.config.train.tokens)
        padded += sum(len(micro) * max(sequence.length for sequence in micro) for micro in cut)
        real += sum(map(positions_of, units))
    return padded > 0 and 1 - real / padded >= LEAST


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
