"""What a run with a head is measured on and against: its rows, the same head on the untouched base, and the base writing the answer.

Enters: a plan and, for the threshold, a tuned model. Leaves: rows as tasks, and what a head says of them; a model whose head alone has
learned from the same rows; the plan with the threshold above which an answer is given; what the base writes unasked. Called by `finish`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from burnish.data.batching import FixedBatches
from burnish.data.render_heads import HeadRenderer
from burnish.devices import Device
from burnish.evaluate import Asking, answer, resolve_scores
from burnish.models import Model, head_modules, is_encoder, load_model
from burnish.models.heads import held_kind
from burnish.optim import Schedule, make_optimizer
from burnish.prepare import Plan
from burnish.prepare_task import TaskPlan
from burnish.reading import choose_threshold, head_scores
from burnish.reading_rows import judged_tasks, rewards
from burnish.scores.ratings import is_rated
from burnish.train import TaskLoss, train
from burnish.types import Answer, Task

HEAD_RATE = 5e-3
"""Learning rate of a head alone: a single layer, which takes far greater steps than the network below it."""


def rows_of(part: TaskPlan, side: str) -> list[Task]:
    """Return the rows of a side as tasks to measure on, also ratings that a reward model is to meet and texts to restore tokens of."""
    if part.rows.compares:
        return part.tasks(side)
    gathered = part.gathered
    return judged_tasks(gathered.examples[side], gathered.groups[side], gathered.frame)


def answers_of(model: Model, part: TaskPlan, tasks: Sequence[Task], asking: Asking) -> list[Answer]:
    """Return a model's answers to the rows of a task: what it writes, what its head reads, and its reward of each rated answer."""
    found = answer(model, part.rows.reader or part.renderer, tasks, resolve_scores(part.config.score), asking)
    judged = [number for number, task in enumerate(tasks) if is_rated(task)] if not part.rows.compares else []
    if judged:
        told = rewards(
            part.renderer,
            [tasks[number] for number in judged],
            lambda sequences: head_scores(model, sequences, tokens=asking.tokens, between=asking.between),
        )
        for number, given in zip(judged, told, strict=True):
            found[number] = given
    return found


def zero_shot(plan: Plan, target: Device, held_out: Mapping[str, Sequence[Task]], asking: Asking) -> dict[str, list[Answer]]:
    """Return by task what the untouched base writes when it is asked as `sft` would ask it; nothing where there is no such question.

    That takes a head that reads what a model could write, and a base that writes: no encoder, and none that came with a head.
    """
    reads = {name: part for name, part in plan.parts.items() if isinstance(part.asker, HeadRenderer)}
    if not reads or is_encoder(plan.model_config) or held_kind(plan.model_config) is not None:
        return {}
    base = load_model(plan.found.name, target)
    if base.spec is not None:
        return {}
    return {
        name: answer(base, part.renderer, held_out[name], resolve_scores(part.config.score), asking)
        for name, part in reads.items()
        if name in held_out
    }


def base_with_head(plan: Plan, target: Device) -> Model:
    """Return the base with the head that the run gives it: an encoder's own head over the vocabulary as it is, another one trained."""
    assert plan.head is not None, "a run with a head"
    if plan.head.kind == "masked":
        return load_model(plan.found.name, target, head=plan.head)
    return head_on_frozen_base(plan, target)


def head_on_frozen_base(plan: Plan, target: Device) -> Model:
    """Return the base with a new head that has learned from the run's rows, in its order and as many steps, the base left as it is.

    What tuning the network itself adds is the difference to this.
    """
    import torch

    part, settings = plan.first, plan.resolved.config
    torch.manual_seed(settings.seed)
    model = load_model(plan.found.name, target, head=plan.head)
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
