"""What a run with heads is measured against, and how: the same heads on the untouched base, and thresholds chosen on dev rows.

Enters: a plan and, for the threshold, a tuned model. Leaves: a model whose heads alone have learned from the same rows; the plan with the
threshold above which an answer is given. Called by `finish`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from burnish.data.batching import FixedBatches
from burnish.devices import Device
from burnish.models import Model, head_modules, head_named, load_model
from burnish.models.fast import keep, let_go
from burnish.optim import Schedule, make_optimizer
from burnish.prepare import Plan
from burnish.prepare_task import TaskPlan
from burnish.reading import choose_threshold
from burnish.train import TaskLoss, train

Between = Callable[[], None] | None
"""Called between steps and batches; it may raise to stop."""

HEAD_RATE = 5e-3
"""Learning rate of a head alone: a single layer, which takes far greater steps than the network below it."""

LARGEST = 2_000_000_000
"""Bytes of hidden states that are kept at most while a head alone learns."""


def head_on_frozen_base(plan: Plan, target: Device, *, between: Between = None) -> Model:
    """Return the base with a new head that has learned from the run's rows, in its order and as many steps, the base left as it is.

    What tuning the network itself adds is the difference to this. `between` is called between steps and may raise to stop.
    """
    import torch

    torch.manual_seed(plan.resolved.config.seed)
    model = load_model(plan.found.name, target, head=plan.head, terms=plan.resolved.config.model.add_terms)
    network = model.plain()
    for name in head_modules(network):
        network.get_submodule(name).requires_grad_(True)
    _learn(
        plan,
        plan.first,
        model,
        steps=plan.resolved.config.train.steps or 1,
        batch=plan.resolved.config.train.batch,
        between=between,
    )
    network.requires_grad_(False)
    network.eval()
    return model


@contextmanager
def heads_alone(plan: Plan, model: Model, names: Collection[str], *, between: Between = None) -> Iterator[Plan]:
    """Give the model, as it stands, heads that learned from the run's rows while the network stayed, inside the `with` block.

    For runs with heads by task, those of the tasks `names`: each learns alone, from as many rows per step as it had in the run. Yields
    the plan with the thresholds of these heads; afterwards the model has its own again, also where `between`, called between steps,
    stops it. Other runs only get their threshold.
    """
    import torch

    if not plan.heads:
        yield with_threshold(plan, model, between=between)
        return
    moving = [parameter for parameter in model.network.parameters() if parameter.requires_grad]
    kept, specs = {name: head_named(model, name) for name in plan.heads if name in names}, dict(model.heads)
    own = {name: [tensor.detach().clone() for tensor in head.parameters()] for name, head in kept.items()}
    spread = float(getattr(model.plain().config.get_text_config(), "initializer_range", None) or 0.02)
    shares = dict(zip(plan.parts, plan.shares(), strict=True))
    train_settings = plan.resolved.config.train
    try:
        for parameter in moving:
            parameter.requires_grad_(False)
        for name, head in kept.items():
            torch.manual_seed(plan.resolved.config.seed)  # for each, so that one head does not depend on which others learn
            with torch.no_grad():
                head.weight.normal_(std=spread)
                if head.bias is not None:
                    head.bias.zero_()
            head.requires_grad_(True)
            batch = max(1, round(shares[name] * train_settings.batch))
            _learn(plan, plan.parts[name], model, steps=train_settings.steps or 1, batch=batch, between=between)
            head.requires_grad_(False)
        yield with_threshold(plan, model, between=between)
    finally:
        with torch.no_grad():
            for name, head in kept.items():
                for tensor, before in zip(head.parameters(), own[name], strict=True):
                    tensor.copy_(before)
        model.heads = specs
        for parameter in moving:
            parameter.requires_grad_(True)


def _learn(plan: Plan, part: TaskPlan, model: Model, *, steps: int, batch: int, between: Between = None) -> None:
    """Let what is trainable of the model learn from a task's rows, in the run's order."""
    settings = plan.resolved.config.train
    units, fresh = part.sequences, model.prefix is None
    if fresh:  # a run that kept what lies below its adapters holds on to that
        units, _ = keep(
            model,
            units,
            limit=LARGEST,
            tokens=settings.tokens,
            needs=part.objective.needs,
            between=lambda line: between() if between is not None else None,
        )
    batches = FixedBatches(
        examples=units,
        order=part.order(),
        batch=batch,
        tokens=settings.tokens,
        packing=settings.packing,
        pad_id=model.pad_id(),
        device=model.device,
        mask=model.encoder,
    )
    moving = {name: parameter for name, parameter in model.network.named_parameters() if parameter.requires_grad}
    tasks = {part.name: TaskLoss(part.objective, part.config.objective.options)}
    schedule = Schedule(HEAD_RATE, steps, round(settings.warmup * steps), settings.schedule)
    for _ in train(model, batches, tasks=tasks, optimizer=make_optimizer(moving), schedule=schedule, clip=settings.clip):
        if between is not None:  # the head learns; nothing of this run is kept but the figures
            between()
    if fresh:
        let_go(model)


def with_threshold(plan: Plan, model: Model, *, between: Between = None) -> Plan:
    """Return the plan with the log-odds above which this model answers, chosen on dev rows, where rows without an answer are known."""
    parts = {name: _with_threshold(part, model, between) for name, part in plan.parts.items()}
    return replace(plan, parts=parts)


def _with_threshold(part: TaskPlan, model: Model, between: Between) -> TaskPlan:
    reader, dev = part.rows.reader, part.gathered.examples["dev"]
    if reader is None or reader.spec.kind != "span" or reader.spec.threshold is None or not dev:
        return part
    spec = replace(reader.spec, threshold=choose_threshold(model, reader, dev, tokens=part.config.train.tokens, between=between))
    if part.name in model.heads:
        model.heads[part.name] = spec
    else:
        model.spec = spec
    return replace(part, rows=replace(part.rows, head=spec, reader=replace(reader, spec=spec)))
