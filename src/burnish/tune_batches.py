"""Where the batches of a run come from: its rows, mixed by task, with the streams that only the untuned model can fill.

Enters: a run under way whose model stands as it does before step 0. Leaves: a function step -> micro-batches for the loop. To be called
before a checkpoint is taken up again: what the policy said before step 0 is read from the model here, or from the run directory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from burnish import config
from burnish.data.batching import FixedBatches, MixedBatches
from burnish.data.render_pairs import unrelated
from burnish.errors import ConfigError
from burnish.models import Model, load_model
from burnish.models.fast import keep
from burnish.prepare_task import TaskPlan
from burnish.reference import Units, WithDivergence, cached, key_of, log_probabilities, with_reference
from burnish.reference_kept import kept, weights_digest
from burnish.sampling import Options
from burnish.teacher import fill as fill_teacher
from burnish.tune_layout import is_shared
from burnish.tune_rollouts import WithAttempts, make_rollouts
from burnish.tune_taught import OwnAnswers
from burnish.types import Batch, Pair, Rated

if TYPE_CHECKING:
    from burnish.tune_state import Running

Source = Callable[[int], list[Batch]]


def make_batches(running: Running, *, between: Callable[[], None]) -> Source:
    """Return what gives each step its micro-batches: the rows of the only task, or of each by its share, or the model's own attempts.

    `between` is called between the batches of work of an attempt, and may raise to stop. Raises ConfigError where attempts leave other
    tasks no row.
    """
    plan, batch = running.plan, running.plan.resolved.config.train.batch
    if len(plan.parts) == 1:
        part = plan.first
        return (
            _of_task(running, part, between=between)
            if part.rows.learned
            else make_rollouts(running, part, prompts=batch, between=between)
        )
    shares = dict(zip(plan.parts, plan.shares(), strict=True))
    # A rollout holds as many prompts as any other of its task, so what a share leaves over of a row is not carried on for these.
    prompts = {name: max(1, round(shares[name] * batch)) for name, part in plan.parts.items() if not part.rows.learned}
    fixed = [name for name in plan.parts if name not in prompts]
    rows = batch - sum(prompts.values())
    if fixed and rows < 1:
        raise ConfigError(
            f"train.batch = {batch}: the attempts of {', '.join(prompts)} take all of it, which leaves no row for {', '.join(fixed)}. Raise "
            f"train.batch, or give the attempts a smaller share."
        )
    attempts = {name: make_rollouts(running, plan.parts[name], prompts=count, between=between) for name, count in prompts.items()}
    mixed: Source = lambda step: []  # noqa: E731  (where every task is attempted)
    if fixed:
        total = sum(shares[name] for name in fixed)
        mixed = MixedBatches(
            [_of_task(running, plan.parts[name], between=between) for name in fixed], [shares[name] / total for name in fixed], rows
        )
    return WithAttempts(mixed, attempts) if attempts else mixed


def _of_task(running: Running, part: TaskPlan, *, between: Callable[[], None]) -> FixedBatches | WithDivergence | OwnAnswers:
    """Return the batches of one task, its streams filled."""
    units = _with_reference(running, part, part.sequences, "reference") if part.reads("reference") else part.sequences
    if part.reads("teacher"):
        return _taught(running, part, units, between=between)
    fixed = _fixed(running, part, units, between=between)
    if not part.reads("divergence"):
        return fixed
    examples = [example for example in part.gathered.examples["train"] if isinstance(example, Rated | Pair)]
    others = unrelated(part.renderer, examples, seed=part.config.seed)
    kept = [others[row] for row in part.kept]
    return WithDivergence(fixed, running.model, _with_reference(running, part, kept, "unrelated"), running.ranks)


CANDIDATES = 32
"""Tokens of the teacher that are kept at each place; what is left of its probability is one bucket more."""


def _taught(running: Running, part: TaskPlan, units: Units, *, between: Callable[[], None]) -> FixedBatches | OwnAnswers:
    """Return the batches of a task with what the run's teacher finds likely, read once.

    The teacher is let go afterwards, unless the model is to answer rows by itself, which the teacher then reads step by step.
    """
    share = part.objective.own_share(part.config.objective.options)
    name = config.named_model(running.plan.resolved, part.config.teacher)
    running.watch.say(f"Reading what the teacher {name} says")
    teacher = load_model(name, running.model.target)
    flat = [sequence for unit in units for sequence in unit]
    filled = iter(fill_teacher(teacher, running.model.tokenizer, flat, candidates=CANDIDATES, tokens=part.config.train.tokens))
    fixed = _fixed(running, part, [[next(filled) for _ in unit] for unit in units], between=between)
    if share == 0:
        return fixed
    settings, tasks = part.config, part.tasks("train")
    options = Options(
        max_tokens=settings.evaluate.max_tokens or 64, temperature=1.0, seed=settings.seed, batch=settings.evaluate.batch
    )
    return OwnAnswers(
        source=fixed,
        model=running.model,
        teacher=teacher,
        renderer=part.renderer,
        tasks=[tasks[row] for row in part.kept],
        share=share,
        options=options,
        candidates=CANDIDATES,
        between=between,
    )


def _fixed(running: Running, part: TaskPlan, units: Units, *, between: Callable[[], None]) -> FixedBatches:
    train = part.config.train
    return FixedBatches(
        examples=_kept(running, part, units, between=between),
        order=part.order(),
        batch=train.batch,
        tokens=train.tokens,
        packing=train.packing,
        shared=is_shared(running.model, part),
        pad_id=running.model.pad_id(),
        device=running.model.device,
        rank=running.ranks.rank,
        ranks=running.ranks.size,
        multiple=_multiple(running.model),
        mask=running.model.encoder,
        change=part.rows.change,
    )


def _kept(running: Running, part: TaskPlan, units: Units, *, between: Callable[[], None]) -> Units:
    """Return the units with what the layers below all that moves say of them, computed once, where the run chose so.

    Raises ConfigError where the run asks for it and it cannot be.
    """
    asked, limit = part.config.train.reuse, running.model.target.kept
    if not limit or part.rows.change is not None:  # rows that differ from epoch to epoch say nothing twice
        return units

    def progress(line: str) -> None:
        between()
        if line:
            running.watch.say(line)

    kept, told = keep(
        running.model,
        units,
        limit=limit // running.ranks.size,
        tokens=part.config.train.tokens,
        undropped=bool(asked),
        all_or_none=not part.objective.additive,
        needs=part.objective.needs,
        between=progress,
    )
    if asked and kept is units:
        raise ConfigError(f"train.reuse = true: {told or 'no layer is frozen below all that moves'} Leave it out.")
    if told:
        running.watch.say(told)
    return kept


def _multiple(model: Model) -> int:
    """Return what the length of padded rows is a multiple of; never past the positions that a model has a table of."""
    return 64 if model.target.compiled and model.eye is None and model.max_length % 64 == 0 else 1


def _with_reference(running: Running, part: TaskPlan, units: Units, name: str) -> Units:
    """Return the units with what the policy says of them before step 0: read once, kept in the run directory and for other runs."""
    train, flat = part.config.train, [sequence for unit in units for sequence in unit]
    laid: dict[str, Any] = {"tokens": train.tokens, "packing": train.packing, "shared": is_shared(running.model, part)}

    def read() -> list[Any]:
        running.watch.say(f"Reading what the model says before tuning: {len(flat):,} sequences, once")
        return log_probabilities(running.model, flat, say=running.watch.say, **laid)

    def compute() -> list[Any]:
        begins_as_base = running.plan.technique.reference == "adapter_off"
        weights = weights_digest(running.model, without=running.names if begins_as_base else ())
        # How a pass is cut and computed rounds it: only a run that would have read the very same numbers takes them.
        numbers = f"{replace(running.model.target, threads=0)} {laid}"
        return kept(key_of(flat, fingerprint=f"{weights} {numbers}"), compute=read, say=running.watch.say)

    key = key_of(flat, fingerprint=_fingerprint(running))
    path = running.run.path / f"{name}-{part.name}.safetensors"
    if running.ranks.rank == 0:
        cached(path, key, compute=compute)
    running.ranks.barrier()  # the others read what the first one has written
    return with_reference(units, cached(path, key, compute=compute))


def _fingerprint(running: Running) -> str:
    """Return what the weights before step 0 follow from: the model, the technique with its options and seed, the number formats."""
    from burnish.tune_saving import model_digest

    config, target = running.plan.resolved.config, running.model.target
    technique = config.technique.model_dump_json()
    return (
        f"{running.plan.found.name} {model_digest(running.plan.found)} {technique} {config.seed} {target.dtype} {target.autocast}"
    )
