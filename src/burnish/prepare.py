"""Prepare a run up to the point where weights are needed: data gathered, rendered and checked, steps planned, costs estimated.

Enters: a resolved run. Leaves: a `Plan`, from which `tune` starts and which `check` shows. Everything that can be wrong with a run
file, its data or its model's folder is found here, at once, before any weights are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from burnish.config import Resolved, RunConfig, model_reference, with_value
from burnish.config_options import private_function
from burnish.data.dialog import Frame
from burnish.data.estimate import estimate, measure_matmul
from burnish.data.formats import FORMATS
from burnish.data.largest import largest
from burnish.data.render import Renderer
from burnish.data.seen import Seen, load_seen
from burnish.devices import cpu_bfloat16
from burnish.errors import BurnishError, ConfigError, ModelError
from burnish.gather import Gathered, gather
from burnish.learning_rate import lowest
from burnish.memory import free_memory
from burnish.models import (
    BESIDE,
    NOT_ON_ADAPTERS,
    Eye,
    Found,
    end_ids,
    extend,
    find_model,
    is_encoder,
    is_picture_encoder,
    longest_input,
    open_tokenizer,
    refuse_foreign_code,
    refuse_other_kind,
    width_of,
)
from burnish.models.fresh import first_learning_rate
from burnish.models.fresh_picture import first_picture_rate
from burnish.models.outline import Outline, outline
from burnish.objectives import OBJECTIVES
from burnish.optim import MOMENT_BYTES
from burnish.prepare_fresh import fresh_model, special_tokens
from burnish.prepare_pictures import picture_facts
from burnish.prepare_plan import Plan
from burnish.prepare_refuse import no_base, refuse_idle, refuse_silent, second_adapter
from burnish.prepare_task import answer_tokens, fitting_scores, plan_task, refuse_unreadable, task_report
from burnish.scores import SCORES
from burnish.techniques import TECHNIQUES
from burnish.types import Objective, Technique


def registries() -> dict[str, Any]:
    """Return the names that a run file may choose from, by kind."""
    return {"objective": OBJECTIVES, "technique": TECHNIQUES, "score": SCORES, "format": FORMATS}


def prepare(resolved: Resolved, *, measure: bool = False) -> Plan:
    """Return the plan of a run; `measure` also estimates its time, which takes a two-second matrix product.

    Raises ConfigError, ModelError or DataError with all problems found; a model that cannot be opened does not hide those of the data.
    """
    config = resolved.config
    technique, objectives = _technique(resolved), {name: _objective(resolved, name) for name in config.task_names}
    refuse_idle(resolved, technique, objectives)
    problems: list[BurnishError] = []
    opened: _Opened | None = None
    gathered: dict[str, Gathered] = {}
    special: tuple[str, ...] = ()
    fresh = config.model.is_fresh
    try:
        refuse_silent(resolved, technique, objectives)
        if fresh:
            special = special_tokens(resolved)
        else:
            opened = _open(resolved, find_model(model_reference(resolved)), objectives)
            special = tuple(opened.tokenizer.all_special_tokens)
        if technique.saves == "adapter" and fresh:
            raise ModelError(no_base(str(config.model)))
        if technique.saves == "adapter" and not technique.stacks and opened is not None and opened.found.adapter is not None:
            raise ModelError(second_adapter(str(config.model)))
    except BurnishError as error:
        problems.append(error)
    for name, objective in objectives.items():
        try:
            seen = seen_by(opened.found) if opened is not None else None
            gathered[name] = gather(config.of_task(name), resolved.base, special_tokens=special, seen=seen)
            refuse_unreadable(gathered[name], objective, config.of_task(name).objective.name)
        except BurnishError as error:
            problems.append(error)
    if problems:
        if len(problems) == 1:
            raise problems[0]
        raise type(problems[0])("\n".join(str(problem) for problem in problems)) from problems[-1]
    notes = [] if opened is None else opened.notes
    if fresh:
        # It learns its tokenizer from the rows, so it is made after them and before everything that reads a model.
        place, made = fresh_model(resolved, list(gathered.values()))
        opened = _open(resolved, find_model(str(place.resolve())), objectives)
        notes = [*opened.notes, *made]
    assert opened is not None
    parts = {
        name: plan_task(
            name,
            config,
            gathered[name],
            _renderer(opened, config.of_task(name), technique),
            objective,
            encoder=is_encoder(opened.config),
            pictures=is_picture_encoder(opened.config),
        )
        for name, objective in objectives.items()
    }
    plan = Plan(resolved, opened.found, opened.config, parts, technique, {}, notes)
    plan = _filled(plan)
    return replace(plan, report=_report(plan, measure=measure))


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """Where a model lies, its configuration and tokenizer, without weights, and notes on it."""

    found: Found
    config: Any
    tokenizer: Any
    notes: list[str]


def _kinds(resolved: Resolved, objectives: Mapping[str, Objective]) -> list[str | None]:
    """Return the kinds of heads that the run's model needs: that of its only task, or BESIDE and what the network itself must do.

    None stands for writing. Raises ConfigError for packed rows of an encoder.
    """
    kinds = list(dict.fromkeys(one.head for one in objectives.values()))
    restoring = any(one.head is not None and not one.adds_head for one in objectives.values())
    if restoring and resolved.config.train.packing:
        raise ConfigError("train.packing = true: an encoder reads in both directions, so rows in one line would see each other.")
    if len(objectives) == 1 or kinds == [None]:
        return list(kinds)
    return [BESIDE, *dict.fromkeys(one.head for one in objectives.values() if not one.adds_head)]


def _open(resolved: Resolved, found: Found, objectives: Mapping[str, Objective]) -> _Opened:
    refuse_foreign_code(found)
    first, *others = _kinds(resolved, objectives)
    model_config, tokenizer, notes = open_tokenizer(found, kind=first)
    for kind in others:
        refuse_other_kind(found.name, model_config, kind)
    if terms := resolved.config.model.add_terms:
        if isinstance(tokenizer, Eye):
            raise ModelError(f"model.add_terms: {found.name!r} reads pictures and no terms. Leave it out.")
        if found.adapter is not None:
            raise ModelError(f"model.add_terms: {NOT_ON_ADAPTERS}")
        added = extend(tokenizer, terms)
        pieces = sum(map(len, added.pieces.values())) / len(terms)
        notes = [*notes, f"{len(terms)} terms are tokens of their own, written with {pieces:.1f} tokens each before."]
    return _Opened(found, model_config, tokenizer, [*resolved.notes, *notes])


def _renderer(opened: _Opened, config: RunConfig, technique: Technique) -> Renderer:
    """Return what renders the rows of a task for this model; ConfigError for a limit above what the model reads."""
    if isinstance(opened.tokenizer, Eye):
        if config.data.max_length is not None:
            raise ConfigError("data.max_length: every picture takes as many positions as the model makes of one. Leave it out.")
        return Renderer(opened.tokenizer, opened.tokenizer.positions, (), Frame(config.data.system, config.data.prompt))
    taken = technique.virtual_positions(**config.technique.options) if technique.virtual_positions else 0
    data, longest = config.data, longest_input(opened.config) - taken
    if data.max_length is not None and data.max_length > longest:
        raise ConfigError(f"data.max_length = {data.max_length}, but the model reads {longest} tokens at most.")
    limit = data.max_length or min(longest, config.train.tokens)
    frame = Frame(data.system, data.prompt)
    return Renderer(opened.tokenizer, limit, end_ids(opened.tokenizer, opened.config), frame, learn=data.learn)


def _technique(resolved: Resolved) -> Technique:
    """Return the technique that the run names."""
    return _chosen(resolved, TECHNIQUES, resolved.config.technique.name, Technique, "technique")


def _objective(resolved: Resolved, task: str) -> Objective:
    """Return the objective that a task names."""
    return _chosen(resolved, OBJECTIVES, resolved.config.of_task(task).objective.name, Objective, "objective")


def _chosen(resolved: Resolved, registry: Any, name: str, kind: type[Any], field: str) -> Any:
    """Return the entry of a registry, or the user's own; ConfigError where it is of another kind."""
    value: Any = registry[name] if name in registry else private_function(name, resolved.base)
    if not isinstance(value, kind):
        raise ConfigError(f"{field}.name: expected a burnish.types.{kind.__name__} under that name, found {type(value).__name__}.")
    return value


def seen_by(found: Found) -> Seen | None:
    """Return the rows that a model is known to have been trained on, None where nothing is known."""
    return load_seen(found.seen, model=found.name) if found.seen is not None else None


def default_rate(plan: Plan) -> tuple[float, str]:
    """Return the learning rate that a run has where it names none, and what that follows from."""
    config = plan.resolved.config
    if config.model.is_fresh:
        first = first_picture_rate if config.model.init == "vit" else first_learning_rate
        return first(config.model.hidden), "model.hidden"
    width = width_of(plan.model_config)
    rate = lowest(plan.technique, width, [part.objective for part in plan.parts.values()])
    names = ", ".join(dict.fromkeys(part.config.objective.name for part in plan.parts.values()))
    return rate, f"the technique {config.technique.name}, width {width}, objective {names}"


def _filled(plan: Plan) -> Plan:
    """Return the plan with what follows from technique, model and data filled in: learning rate, steps, intervals, scores, answer length."""
    resolved = plan.resolved
    config = resolved.config
    if config.train.learning_rate is None:
        rate, origin = default_rate(plan)
        resolved = with_value(resolved, "train.learning_rate", rate, origin=origin)
    if config.train.steps is None:
        # Attempts at a prompt are learned from rollout.inner times.
        often = [(part.order(), 1 if part.rows.learned else config.rollout.inner) for part in plan.parts.values()]
        rows = sum(times * len(order(epoch)) for order, times in often for epoch in range(config.train.epochs or 1))
        resolved = with_value(
            resolved, "train.steps", -(-rows // config.train.batch), origin=f"the data ({config.train.epochs} epochs)"
        )
    steps = resolved.config.train.steps or 1
    if config.save.every == 0:
        resolved = with_value(resolved, "save.every", max(1, -(-steps // 10)), origin="the number of steps")
    if config.evaluate.every == 0 and any(part.gathered.examples["dev"] for part in plan.parts.values()):
        resolved = with_value(resolved, "evaluate.every", max(1, -(-steps // 5)), origin="the number of steps")
    for name, part in plan.parts.items():
        field = f"task.{name}.score" if config.task else "score"
        scores = fitting_scores(part)
        if not part.config.score:
            resolved = with_value(resolved, field, scores, origin="the data")
    writing = [part for part in plan.parts.values() if part.rows.head is None or part.rows.head.kind != "picture"]
    answered = [part for part in writing if any(task.text is None for task in part.measured_on())]
    if config.evaluate.max_tokens is None and answered:
        limit = max(answer_tokens(part) for part in answered)
        resolved = with_value(resolved, "evaluate.max_tokens", limit, origin="the data")
    parts = {name: replace(part, config=resolved.config.of_task(name)) for name, part in plan.parts.items()}
    return replace(plan, resolved=resolved, parts=parts)


def _report(plan: Plan, *, measure: bool) -> dict[str, Any]:
    """Return the data report of the run, with an estimate of its cost where asked; of several tasks each has a report of its own."""
    # What the model attempts by itself has no length before it is written, so nothing can be said of its cost.
    learned = all(part.rows.learned for part in plan.parts.values())
    estimated = estimate_cost(plan) if measure and learned else None
    if len(plan.parts) == 1:
        found = task_report(plan.first, notes=plan.notes, estimated=estimated)
        return found | ({"pictures": seen} if (seen := picture_facts(plan.first)) is not None else {})
    shares = dict(zip(plan.parts, plan.shares(), strict=True))
    tasks = {
        name: task_report(part, notes=[], estimated=None) | {"share": shares[name], "weight": part.weight, "name": name}
        for name, part in plan.parts.items()
    }
    return {
        "tasks": tasks,
        "notes": plan.notes,
        "estimate": estimated,
        "sources": [one for task in tasks.values() for one in task["sources"]],
    }


def estimate_cost(plan: Plan) -> dict[str, Any]:
    """Return estimated memory, steps and time of the run on this machine."""
    from torch import cuda

    config = plan.resolved.config
    sizes: Outline = outline(plan.model_config, plan.technique, config.technique.options, head=plan.head, heads=plan.heads)
    fast = config.dtype != "float32" and cpu_bfloat16()
    stored = 2 if config.dtype == "bfloat16" or (fast and sizes.adapter) else 4
    lengths = np.asarray([sequence.length for sequence in plan.sequences()], dtype=float)
    trained = sum(int(np.count_nonzero(sequence.weight_N)) for sequence in plan.sequences())
    means = [sum(one.length for unit in part.sequences for one in unit) / len(part.sequences) for part in plan.parts.values()]
    per_step = config.train.batch * sum(share * mean for share, mean in zip(plan.shares(), means, strict=True))
    rows = int(min(per_step, config.train.tokens))
    most = [
        largest(part.sequences, batch=part.config.train.batch, tokens=config.train.tokens, packing=config.train.packing)[1]
        for part in plan.parts.values()
    ]
    flops = measure_matmul(2.0, "bfloat16" if fast else "float32", rows=max(rows, 16), hidden=sizes.hidden)
    found = estimate(
        parameters=sizes.parameters,
        trainable=sizes.trainable,
        hidden=sizes.hidden,
        layers=sizes.layers,
        vocabulary=sizes.vocabulary,
        bytes_per_weight=stored,
        tokens_per_step=per_step,
        steps=config.train.steps or 1,
        flops=flops,
        adapter=sizes.adapter,
        tokens_per_batch=max(most),
        trained_share=trained / float(lengths.sum()),
        attended=float((lengths**2).sum() / lengths.sum()),
        attention_width=sizes.attention_width,
        key_width=sizes.key_width,
        feed_forward=sizes.feed_forward,
        heads=sizes.attention_heads,
        longest=int(lengths.max()),
        tied=sizes.tied,
        checkpointing=bool(config.train.recompute),
        moment_bytes=MOMENT_BYTES[config.train.optimizer],
    )
    return {**found, "memory": {**found["memory"], "free": free_memory("cuda" if cuda.is_available() else "cpu")}}
