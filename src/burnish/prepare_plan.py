"""The plan of a run: every choice made, every row rendered, nothing loaded.

Enters: what `prepare` found. Leaves: `Plan`, from which `tune` starts, which `check` shows and `finish` measures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from burnish.config import Resolved
from burnish.data.batching import shares_of
from burnish.models import MASKED, Found, HeadSpec, is_encoder
from burnish.prepare_task import TaskPlan
from burnish.types import Sequence, Task, Technique


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A run that can start: every choice made, every row rendered. `parts` are its tasks by name, one called main where it has one."""

    resolved: Resolved
    found: Found
    model_config: Any
    parts: dict[str, TaskPlan]
    technique: Technique
    report: dict[str, Any]
    notes: list[str]

    @property
    def first(self) -> TaskPlan:
        """The first task: in the form of its rows the model is asked where nothing else is said."""
        return next(iter(self.parts.values()))

    @property
    def fingerprint(self) -> str:
        """A sha256 of the content and division of all rows."""
        if len(self.parts) == 1:
            return self.first.gathered.fingerprint
        return hashlib.sha256(
            " ".join(f"{name} {part.gathered.fingerprint}" for name, part in self.parts.items()).encode()
        ).hexdigest()

    @property
    def head(self) -> HeadSpec | None:
        """The head of the network's class, None for one that writes. Of several tasks it is an encoder's own, if anything."""
        if len(self.parts) == 1:
            return self.first.rows.head
        return MASKED if is_encoder(self.model_config) else None

    @property
    def heads(self) -> dict[str, HeadSpec]:
        """The heads beside the network, by task, where the run has several tasks."""
        heads = {name: part.rows.head for name, part in self.parts.items()} if len(self.parts) > 1 else {}
        return {name: head for name, head in heads.items() if head is not None and not head.restores}

    @property
    def has_base(self) -> bool:
        """Whether the model before tuning can be asked: nothing of the network itself begins as random numbers, as a class's head does."""
        return self.head is None or self.head.restores

    def sequences(self) -> Iterator[Sequence]:
        """Yield every sequence that is learned from, of all tasks."""
        for part in self.parts.values():
            yield from chain.from_iterable(part.sequences)

    def shares(self) -> list[float]:
        """Return each task's part of a step."""
        parts = list(self.parts.values())
        sizes = [len(part.order()(0)) for part in parts]
        return shares_of(sizes, [part.share for part in parts], temperature=self.resolved.config.train.temperature)

    def tasks(self, side: str) -> list[Task]:
        """Return the rows of a side as tasks to attempt, those of all tasks one after the other."""
        return [task for part in self.parts.values() for task in part.tasks(side)]

    def settings(self) -> dict[str, Any]:
        """Return what a tuned model's folder says of itself, with a table for each task where there are several."""
        several = {name: part.settings() for name, part in self.parts.items()} if len(self.parts) > 1 else {}
        return self.first.settings() | ({"tasks": several, "task": self.first.name} if several else {})
