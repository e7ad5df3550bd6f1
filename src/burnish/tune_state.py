"""What a run under way consists of, and who watches it.

Enters and leaves: nothing; `tune` fills these and `tune_saving` writes and reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from burnish import runs
from burnish.devices import Ranks
from burnish.models import Model
from burnish.optim import Optimizer, Schedule
from burnish.prepare import Plan
from burnish.signals import Stop
from burnish.train_room import Room
from burnish.types import Answer, Batch, Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Watch:
    """What a person is told while a run goes on: sentences, a record per step (see `tune_log.log`), and that there are no more steps."""

    say: Callable[[str], None] = lambda text: None
    step: Callable[[dict[str, Any]], None] = lambda record: None
    done: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Progress:
    """What must persist between steps beside weights, optimizer and random numbers; saved with every checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    evaluated: int = -1
    best: float | None = None
    best_step: int = 0
    worse: int = 0
    stopped_early: bool = False
    dev: list[tuple[int, float]] = field(default_factory=list)
    """(step, score on dev rows) so far, more being better."""
    warmup: int = 0
    """Steps of warm-up, fixed when the run began: a run may be lengthened on resume, its past may not change."""
    positions: int = 0
    """What `Room` was bounded to when this was saved."""


@dataclass(slots=True, eq=False)
class Running:
    """A run under way: its plan, folder, model, optimizer and progress. `saved` is the step of the newest checkpoint."""

    plan: Plan
    run: runs.Run
    model: Model
    optimizer: Optimizer
    schedule: Schedule
    ranks: Ranks
    stop: Stop
    watch: Watch
    dev: dict[str, list[Task]]
    progress: Progress
    before: dict[str, dict[str, list[Answer]]] = field(default_factory=dict)
    """What the untuned model prefers on dev and test rows, for tasks whose objective compares with it."""
    batches: Callable[[int], list[Batch]] = lambda step: []
    events: runs.EventWriter | None = None
    saved: int = -1
    room: Room = field(default_factory=Room)
    """How large micro-batches may be."""
    peak: int = 0
    """The most bytes held before the count was last begun anew (`tune_memory.measure`)."""

    @property
    def names(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that move, by name."""
        return {name: parameter for name, parameter in self.model.network.named_parameters() if parameter.requires_grad}
