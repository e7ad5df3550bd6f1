"""Will it fit? What a run does about memory before step 1: layers recomputed only where they must be, and the largest micro-batch tried.

Enters: a run under way, its model loaded and its batches known. Leaves: the model with or without recomputed layers, and the bound of
`train_room.Room`, both kept on resume. Nothing is applied: weights, gradients and random numbers are as before afterwards.

On a GPU the largest micro-batch is simply run; where it does not fit, `train_room` divides it. On a CPU the system would kill the process, so
a small piece is measured first and the whole is run only if it will fit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from burnish import checkpoint
from burnish.data.estimate import memory_parts
from burnish.data.largest import largest
from burnish.devices import Ranks, peak_memory
from burnish.errors import ConfigError
from burnish.memory import forget_peak, free_memory, held_memory
from burnish.models import Model, recompute_layers
from burnish.models.outline import outline_of
from burnish.models.virtual import is_segment
from burnish.optim import MOMENT_BYTES
from burnish.prepare import Plan
from burnish.train import TaskLoss, add_gradients, step_counts
from burnish.train_room import halved, positions, too_large
from burnish.types import Batch

if TYPE_CHECKING:
    from burnish.tune_state import Running

SHARE = 0.9
"""Part of the free memory that a step may take; the rest is for what nobody counts."""
SURE = 0.4
"""Part of the free memory below which an expectation needs no trial on a CPU: it would have to be wrong by more than a factor of two."""
FULL_SPEED = {"cpu": 1024, "cuda": 4096}
"""Positions from which smaller micro-batches cost speed: memory is saved by dividing down to here, and by recomputing only below."""
NO_LAYERS = "this network has no list of layers"
CACHED = "prefix tuning hands its layers a cache, which computing them twice would fill twice"


def tasks_of(plan: Plan) -> dict[str, TaskLoss]:
    """Return what each task's batches are trained on."""
    return {name: TaskLoss(part.objective, part.config.objective.options, part.weight) for name, part in plan.parts.items()}


# ------------------------------------------------------------------------------------------------------------------- recomputing


def recompute_where_needed(plan: Plan, model: Model, *, ranks: Ranks, resumed: bool = False) -> str | None:
    """Let layers recompute what they hold as the run says, else where memory is short; return what is to be told of it.

    To be called when layers are as they will run. The choice is written into the model's device, and a run that is resumed keeps it.
    Raises ConfigError where it is asked for and cannot be.
    """
    wanted = plan.resolved.config.train.recompute
    if not resumed:
        chosen = wanted if wanted is not None else ranks.agree(_short_of_memory(plan, model))
        model.target = replace(model.target, recompute=chosen)
    if not model.target.recompute:
        return None
    lacking = CACHED if is_segment(model.network) else None if recompute_layers(model.trunk()) else NO_LAYERS
    if lacking is None:
        return "Layers compute again in the backward pass what they hold inside: less memory, more arithmetic"
    if wanted:
        raise ConfigError(f"train.recompute = true: {lacking}. Leave it out; lower train.tokens or data.max_length to save memory.")
    model.target = replace(model.target, recompute=False)
    return f"Memory is short, and layers cannot be recomputed: {lacking}"


def _short_of_memory(plan: Plan, model: Model) -> bool:
    """Return whether not even a micro-batch that is as small as full speed, or a group, allows is expected to fit."""
    free, train = free_memory(model.target.name), plan.resolved.config.train
    if free is None:
        return False
    least = FULL_SPEED[model.target.name.split(":")[0]]
    for part in plan.parts.values():
        chosen = part.config.rollout
        # Attempts at a prompt stay together; the prompt is taken to be as long as an answer.
        single = chosen.samples * 2 * (chosen.max_tokens or part.config.evaluate.max_tokens or 64)
        whole = max(single, train.tokens)
        if part.rows.learned:
            whole = largest(part.sequences, batch=train.batch, tokens=train.tokens, packing=train.packing)[1]
            single = largest(part.sequences, batch=1, tokens=1, packing=train.packing)[1]
        if sum(needed(model, min(whole, max(least, single)), optimizer=train.optimizer)) > SHARE * free:
            return True
    return False


def needed(model: Model, count: int, *, optimizer: str, longest: int = 10**9) -> tuple[float, float]:
    """Return the bytes that a pass over a micro-batch of `count` positions is expected to take, and those of the optimizer's averages."""
    sizes = outline_of(model)
    parts = memory_parts(
        parameters=sizes.parameters,
        trainable=sizes.trainable,
        hidden=sizes.hidden,
        layers=sizes.layers,
        vocabulary=sizes.vocabulary,
        bytes_per_weight=2.0 if model.target.dtype == "bfloat16" or model.target.autocast else 4.0,
        tokens_per_batch=count,
        adapter=sizes.adapter,
        attention_width=sizes.attention_width,
        key_width=sizes.key_width,
        feed_forward=sizes.feed_forward,
        heads=sizes.attention_heads if model.target.name == "cpu" else 0,
        longest=longest,
        tied=sizes.tied,
        checkpointing=model.target.recompute,
        moment_bytes=MOMENT_BYTES[optimizer],
    )
    gradients = 4.0 * sizes.trainable if model.target.dtype == "float32" else parts["gradients"]
    return gradients + parts["activations"] + parts["logits"], parts["optimizer"]


# --------------------------------------------------------------------------------------------------------------------- the trial


def rehearse(running: Running) -> None:
    """Try the largest micro-batch of the run before step 1, and bound micro-batches where it does not fit.

    Says what was expected, what was measured, and what was done about it. Raises RunError for rows that do not fit by themselves.
    """
    source = getattr(running.batches, "largest", None)
    batch = max(source(), key=positions, default=None) if source is not None else None
    free = free_memory(running.model.target.name)
    if batch is not None and free is not None:
        _try(running, batch, free)
    running.room.agree(running.ranks)


def _try(running: Running, batch: Batch, free: int) -> None:
    model, say = running.model, running.watch.say
    expected, averages = _expected(running, batch), needed(model, 0, optimizer=running.plan.resolved.config.train.optimizer)[1]
    about = f"the largest micro-batch ({positions(batch):,} positions)"
    cuda = model.target.name.startswith("cuda")
    if not cuda and expected + averages < SURE * free:
        say(f"Memory: about {_size(expected + averages)} expected for {about}, {_size(free)} free")
        return
    if not cuda:
        bound_by_a_piece(running, batch, SHARE * free - averages)
    measured = measure(running, batch, reserved=int(averages) if cuda else 0)
    expected = max(_expected(running, one) for one in running.room.pieces(batch))
    pieces = f", in pieces of at most {running.room.positions:,}" if running.room.positions else ""
    say(f"Memory: {about}{pieces} took {_size(measured)}, expected were {_size(expected)}; {_size(free)} free before")


def _expected(running: Running, batch: Batch) -> float:
    """Return the bytes that a pass over a batch is expected to take."""
    optimizer, longest = running.plan.resolved.config.train.optimizer, batch.layout.input_ids_BT.shape[1]
    return needed(running.model, positions(batch), optimizer=optimizer, longest=longest)[0]


def bound_by_a_piece(running: Running, batch: Batch, allowed: float) -> None:
    """Set the bound of micro-batches to what `allowed` bytes hold, judged by a piece of the largest one that is run first.

    What a pass takes grows with the rows of one length, so the piece tells of the whole; its gradients do not grow. The piece is a quarter,
    or less where that is expected to take more than half of what is allowed. Raises RunError for rows that do not fit by themselves.
    """
    divisible = tasks_of(running.plan)[batch.task].objective.additive
    piece = batch
    while divisible and (4 * positions(piece) > positions(batch) or 2 * _expected(running, piece) > allowed):
        halves = halved(piece)
        if halves is None:
            break
        piece = halves[0]
    fixed = sum(4.0 * parameter.numel() for parameter in running.names.values())
    taken = max(measure(running, piece) - fixed, 1.0)
    fitting = int((allowed - fixed) / taken * positions(piece))
    if fitting >= positions(batch):
        return
    running.room.positions = max(fitting, 1)
    for one in running.room.pieces(batch) if divisible else [batch]:
        if positions(one) > fitting:
            raise too_large(one, "" if running.model.target.recompute else "set train.recompute = true, ")
    running.watch.say(
        f"Memory: {positions(batch):,} positions at once would take {_size(fixed + taken * positions(batch) / positions(piece))} of "
        f"{_size(allowed)} that may be used, so micro-batches are divided into pieces of at most {fitting:,}. The result stays the same; "
        f"train.tokens = {fitting} would begin so."
    )


def measure(running: Running, batch: Batch, *, reserved: int = 0) -> int:
    """Return the bytes that a pass over a batch takes, forward and backward, gradients among them; nothing is applied.

    `reserved` bytes are held meanwhile on a GPU, for what will be there in a step.
    """
    import torch

    model, tasks = running.model, tasks_of(running.plan)
    tensors, state = checkpoint.capture_rng()
    was_training = model.network.training
    model.network.train()
    running.peak = max(running.peak, peak_memory(model.target))
    before = held_memory(model.target.name)
    if not forget_peak(model.target.name):
        before = running.peak
    held = torch.empty(reserved, dtype=torch.uint8, device=model.device)
    try:
        add_gradients(
            model, [batch], tasks=tasks, counts=step_counts(tasks, [batch], model), optimizer=running.optimizer, room=running.room
        )
    finally:
        running.optimizer.zero_grad(set_to_none=True)
        model.network.train(was_training)
        checkpoint.restore_rng(tensors, state)
    taken = max(0, peak_memory(model.target) - before - held.nbytes)
    del held
    return taken


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
