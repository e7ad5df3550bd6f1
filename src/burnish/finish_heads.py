"""What a run with a head is measured against, and how: the same head on the untouched base, and a threshold chosen on dev rows.

Enters: a plan and, for the threshold, a tuned model. Leaves: a model whose head alone has learned from the same rows; the plan with the
threshold above which an answer is given. Called by `finish`.
"""

from __future__ import annotations

from dataclasses import replace

from burnish.data.batching import FixedBatches
from burnish.devices import Device
from burnish.models import Model, head_modules, load_model
from burnish.optim import Schedule, make_optimizer
from burnish.prepare import Plan
from burnish.reading import choose_threshold
from burnish.train import TaskLoss, train

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
    batches = FixedBatches(
        examples=part.sequences,
        order=part.order(),
        batch=settings.train.batch,
        tokens=settings.train.tokens,
        packing=settings.train.packing,
        pad_id=model.pad_id(),
        device=model.device,
        mask=model.encoder,
    )
    steps = settings.train.steps or 1
    moving = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    tasks = {part.name: TaskLoss(part.objective, part.config.objective.options)}
    schedule = Schedule(HEAD_RATE, steps, round(settings.train.warmup * steps), settings.train.schedule)
    for _ in train(model, batches, tasks=tasks, optimizer=make_optimizer(moving), schedule=schedule, clip=settings.train.clip):
        pass  # the head learns; nothing of this run is kept but the figures
    network.requires_grad_(False)
    network.eval()
    return model


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
