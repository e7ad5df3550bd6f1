"""THE loop: one Step per optimizer update, whatever the objective, the technique and the source of batches.

Enters: a model whose trainable parameters are marked, a function step -> micro-batches, and for each task its objective. Leaves: a
stream of Steps. Evaluating, logging and saving are ordinary code around the `for` that consumes it (`tune`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from burnish.devices import Ranks
from burnish.errors import RunError
from burnish.models import Model, forward
from burnish.optim import Optimizer, Schedule
from burnish.train_room import Room, run_pieces
from burnish.types import Batch, Loss, Objective

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class TaskLoss:
    """What a task's batches are trained on: an objective with its options, and the task's weight in the whole loss."""

    objective: Objective
    options: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0

    def counts(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return the denominators of this batch's terms."""
        return self.objective.counts(batch, **self.options)


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer update. `losses` are means per term over the whole step; `tokens` are real ones, over all ranks."""

    number: int
    losses: Mapping[str, float]
    metrics: Mapping[str, float]
    gradient_norm: float
    learning_rate: float
    tokens: int
    seconds: float


def train(
    model: Model,
    batches: Callable[[int], Sequence[Batch]],
    *,
    tasks: Mapping[str, TaskLoss],
    optimizer: Optimizer,
    schedule: Schedule,
    clip: float,
    first: int = 0,
    ranks: Ranks | None = None,
    room: Room | None = None,
) -> Iterator[Step]:
    """Yield a Step after each optimizer update, from step `first` to the schedule's end; `clip` 0 leaves gradients as they are.

    Each term is divided once by its count over all micro-batches and ranks of the step, so that how a step is cut into
    micro-batches cannot change its result; `room` says how large they may be, and learns of it where memory runs out. Raises
    RunError, weights untouched, where a loss or the gradient is not finite, or a row does not fit into memory.
    """
    import torch

    ranks, room = ranks or Ranks(), room or Room()
    parameters = [parameter for parameter in model.network.parameters() if parameter.requires_grad]
    optimizer.zero_grad(set_to_none=True)  # what a step that was interrupted may have left
    for number in range(first, schedule.steps):
        started = time.perf_counter()
        micro_batches = batches(number)
        counts = ranks.sum(step_counts(tasks, micro_batches, model))
        _refuse_unlearnable(number, tasks, counts, micro_batches, ranks)
        passes = add_gradients(model, micro_batches, tasks=tasks, counts=counts, optimizer=optimizer, room=room)
        sums = _zero_sums(tasks, model)
        for one in passes:
            _add(sums, one.batch.task, one.loss)
        suspects = [one.batch for one in passes if not math.isfinite(one.total)]
        room.agree(ranks)
        ranks.reduce_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip or math.inf, foreach=True).item()
        if ranks.agree(bool(suspects) or not math.isfinite(norm)):
            optimizer.zero_grad(set_to_none=True)
            raise _not_finite(number, norm, suspects or micro_batches)
        for group in optimizer.param_groups:
            group["lr"] = schedule(number)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if number == first:
            ranks.prove_equal(parameters)
        yield _step(number, ranks.sum(sums), counts, norm, schedule(number), time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class Pass:
    """What is left of a piece of a step once its gradient was added: the piece, its sums, and what it adds to the loss."""

    batch: Batch
    loss: Loss
    total: float


def add_gradients(
    model: Model,
    micro_batches: Sequence[Batch],
    *,
    tasks: Mapping[str, TaskLoss],
    counts: Mapping[Any, torch.Tensor],
    optimizer: Optimizer,
    room: Room,
) -> list[Pass]:
    """Add the gradient of all micro-batches, in pieces as small as the memory wants them, and return what each gave."""

    def run(batch: Batch) -> Pass:
        import torch

        task = tasks[batch.task]
        loss = task.objective.function(forward(model, batch, task.objective.needs), batch, **task.options)
        # A term that nothing in the step counts towards has the sum 0 and the denominator 0: it adds nothing.
        means = [term / counts[batch.task, name].clamp(min=1e-12) for name, term in loss.terms.items()]
        total = task.weight * torch.stack(means).sum()
        total.backward()
        return Pass(batch, _detached(loss), total.item())

    return run_pieces(
        micro_batches,
        run,
        room=room,
        divisible=lambda batch: tasks[batch.task].objective.additive,
        forget=optimizer.zero_grad,
        advice="" if model.target.recompute else "set train.recompute = true, ",
    )


def _detached(loss: Loss) -> Loss:
    """Return a loss without its graph."""
    terms = {name: term.detach() for name, term in loss.terms.items()}
    return Loss(terms, {name: (value.detach(), count.detach()) for name, (value, count) in loss.metrics.items()})


def step_counts(tasks: Mapping[str, TaskLoss], micro_batches: Sequence[Batch], model: Model) -> dict[Any, torch.Tensor]:
    """Return {(task, term): denominator} over this rank's micro-batches, with a key for every task so that ranks agree on the keys."""
    import torch

    counts: dict[Any, torch.Tensor] = {
        ("", "tokens"): torch.tensor(float(sum(batch.tokens for batch in micro_batches)), device=model.device)
    }
    for name, task in sorted(tasks.items()):
        mine = [task.counts(batch) for batch in micro_batches if batch.task == name]
        for term in task.objective.terms:
            counts[name, term] = sum((count[term] for count in mine), torch.zeros((), device=model.device))
    return counts


def _refuse_unlearnable(
    number: int, tasks: Mapping[str, TaskLoss], counts: Mapping[Any, Any], micro_batches: Sequence[Batch], ranks: Ranks
) -> None:
    """Raise RunError for a step that would learn nothing while looking healthy, or whose loss is not a sum over micro-batches."""
    if not any(count > 0 for key, count in counts.items() if key[0]):
        raise RunError(
            f"Step {number + 1}: nothing in it is to be learned: every weight is zero. Rows in it: {_rows(micro_batches)}. Leave these "
            f"rows out, or look at data.learn and the weights of their messages."
        )
    for name, task in tasks.items():
        parts = sum(batch.task == name for batch in micro_batches)
        if not task.objective.additive and (parts > 1 or ranks.size > 1):
            raise RunError(
                f"Step {number + 1}: the objective of task {name!r} compares all rows of a step with each other, so a step cannot be cut "
                f"into {parts} micro-batches or spread over processes. Raise train.tokens, or lower train.batch; use one process."
            )


def _rows(batches: Sequence[Batch]) -> str:
    """Return where the rows of micro-batches were read, the first twelve of them."""
    origins = list(dict.fromkeys(str(origin) for batch in batches for origin in batch.origins))
    return ", ".join(origins[:12]) + (f" and {len(origins) - 12} more" if len(origins) > 12 else "")


def _zero_sums(tasks: Mapping[str, TaskLoss], model: Model) -> dict[Any, torch.Tensor]:
    """Return zeros for each term (task, name) and each metric's sum and count (task, name, part)."""
    import torch

    keys: list[Any] = [(name, term) for name, task in sorted(tasks.items()) for term in task.objective.terms]
    keys += [
        (name, metric, part)
        for name, task in sorted(tasks.items())
        for metric in task.objective.metrics
        for part in ("sum", "count")
    ]
    return {key: torch.zeros((), device=model.device) for key in keys}


def _add(sums: dict[Any, torch.Tensor], task: str, loss: Loss) -> None:
    """Add a micro-batch's terms, and its metrics with their counts, to the step's sums."""
    for name, term in loss.terms.items():
        sums[task, name] += term
    for name, (value, count) in loss.metrics.items():
        sums[task, name, "sum"] += value
        sums[task, name, "count"] += count


def _not_finite(number: int, norm: float, batches: Sequence[Batch]) -> RunError:
    """Return the error that names the rows of a step that cannot be applied."""
    return RunError(
        f"Step {number + 1}: the loss or its gradient is not finite (gradient norm {norm}). The step was not applied: the weights and "
        f"all checkpoints are as they were before it. Rows in it: {_rows(batches)}. Look at these rows, lower train.learning_rate, or set "
        f'dtype = "float32"; then continue with --resume.'
    )


def _step(number: int, sums: Mapping[Any, Any], counts: Mapping[Any, Any], norm: float, rate: float, seconds: float) -> Step:
    """Return the record of an update from its sums and counts; names carry the task only where there are several."""
    several = len({key[0] for key in counts if key[0]}) > 1
    losses, metrics = {}, {}
    for key in sums:
        label = f"{key[0]}/{key[1]}" if several else key[1]
        if len(key) == 2 and counts[key] > 0:
            losses[label] = (sums[key] / counts[key]).item()
        elif len(key) == 3 and key[2] == "sum" and sums[key[0], key[1], "count"] > 0:
            metrics[label] = (sums[key] / sums[key[0], key[1], "count"]).item()
    return Step(number, losses, metrics, norm, rate, int(counts["", "tokens"].item()), seconds)
