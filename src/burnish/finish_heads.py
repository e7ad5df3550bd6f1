"""What a run with a head is measured against, and how: the same head on the untouched base, and a threshold chosen on dev rows.

Enters: a plan and, for the threshold, a tuned model. Leaves: a model whose head alone has learned from the same rows; the plan with the
threshold above which an answer is given. Called by `finish`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from burnish.data.batching import FixedBatches, collate, cut_padded
from burnish.devices import Device
from burnish.models import Model, head_modules, hidden_states, load_model
from burnish.models.fast import with_states_kept
from burnish.optim import Schedule, make_optimizer
from burnish.prepare import Plan
from burnish.reading import choose_threshold
from burnish.sampling.mode import evaluating
from burnish.train import TaskLoss, train
from burnish.types import Sequence

HEAD_RATE = 5e-3
"""Learning rate of a head alone: a single layer, which takes far greater steps than the network below it."""


def head_on_frozen_base(plan: Plan, target: Device) -> Model:
    """Return the base with a new head that has learned from the run's rows, in its order and as many steps, the base left as it is.

    What tuning the network itself adds is the difference to this.
    """
    import torch

    part, settings = plan.first, plan.resolved.config
    torch.manual_seed(settings.seed)
    model = load_model(plan.found.name, target, head=plan.head, terms=plan.resolved.config.model.add_terms)
    network = model.plain()
    for name in head_modules(network):
        network.get_submodule(name).requires_grad_(True)
    kept = with_states_kept(model, part.sequences, _states)
    alone, units = kept if kept is not None else (model, part.sequences)
    batches = FixedBatches(
        examples=units,
        order=part.order(),
        batch=settings.train.batch,
        tokens=settings.train.tokens,
        packing=settings.train.packing,
        pad_id=model.pad_id(),
        device=model.device,
        mask=alone.encoder,
    )
    steps = settings.train.steps or 1
    moving = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    tasks = {part.name: TaskLoss(part.objective, part.config.objective.options)}
    schedule = Schedule(HEAD_RATE, steps, round(settings.train.warmup * steps), settings.train.schedule)
    for _ in train(alone, batches, tasks=tasks, optimizer=make_optimizer(moving), schedule=schedule, clip=settings.train.clip):
        pass  # the head learns; nothing of this run is kept but the figures
    network.requires_grad_(False)
    network.eval()
    return model


def _states(model: Model, sequences: list[Sequence]) -> list[Any]:
    """Return the hidden states [N, H] at the read-outs of each sequence, read in batches of like lengths."""
    import torch

    found: list[Any] = [None] * len(sequences)
    # The group carries each sequence's number through the batches, which are cut by length.
    units = [[replace(sequence, group=number, task="main", streams={})] for number, sequence in enumerate(sequences)]
    with evaluating(model.network), torch.no_grad():
        for part in cut_padded(units, 8192):
            batch = collate(part, packing=False, pad_id=model.pad_id(), device=model.device, mask=model.encoder)
            pieces = hidden_states(model, batch).split([len(sequence.at_N) for sequence in part])
            for sequence, piece in zip(part, pieces, strict=True):
                found[sequence.group] = piece
    return found


def with_threshold(plan: Plan, model: Model) -> Plan:
    """Return the plan with the log-odds above which this model answers, chosen on dev rows, where rows without an answer are known."""
    part, reader = plan.first, plan.first.rows.reader
    dev = part.gathered.examples["dev"]
    if reader is None or reader.spec.kind != "span" or reader.spec.threshold is None or not dev:
        return plan
    spec = replace(reader.spec, threshold=choose_threshold(model, reader, dev, tokens=part.config.train.tokens))
    model.spec = spec
    rows = replace(part.rows, head=spec, reader=replace(reader, spec=spec))
    return replace(plan, parts={**plan.parts, part.name: replace(part, rows=rows)})
