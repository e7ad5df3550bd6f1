"""A complete rollout, and how it is kept: as arrays that a checkpoint holds, without anything that only this process knows.

Enters: sequences with their streams. Leaves: named arrays, and from these the same sequences again. Used by `rollouts` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.types import Sequence, Task


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """A complete rollout: its number, and its sequences with all their streams, the answers to a prompt behind each other."""

    number: int
    sequences: tuple[Sequence, ...]
    tasks: tuple[int, ...]
    """The number of the task that each sequence attempts."""


def arrays_of(rollout: Rollout) -> dict[str, np.ndarray]:
    """Return a rollout as arrays: everything of its sequences behind each other, and where each one ends."""
    sequences = rollout.sequences
    arrays = {
        "task_S": np.asarray(rollout.tasks, dtype=np.int64),
        "group_S": np.asarray([sequence.group for sequence in sequences], dtype=np.int64),
        "length_S": np.asarray([sequence.length for sequence in sequences], dtype=np.int64),
        "readouts_S": np.asarray([len(sequence.at_N) for sequence in sequences], dtype=np.int64),
        "tokens": np.concatenate([sequence.tokens_T for sequence in sequences]),
    }
    for name in ("at_N", "target_N", "weight_N"):
        arrays[name] = np.concatenate([getattr(sequence, name) for sequence in sequences])
    for name in sequences[0].streams:
        arrays[f"stream.{name}"] = np.concatenate([sequence.streams[name] for sequence in sequences])
    return arrays


def rollout_of(number: int, arrays: Mapping[str, Any], tasks: Many[Task], task: str) -> Rollout:
    """Return the rollout that `arrays_of` took apart; the arrays may have become tensors on the way."""
    held = {name: np.asarray(values) for name, values in arrays.items()}
    lengths, readouts = np.cumsum(held["length_S"])[:-1], np.cumsum(held["readouts_S"])[:-1]
    tokens = np.split(held["tokens"], lengths)
    parts = {name: np.split(values, readouts) for name, values in held.items() if name.endswith("_N") or name.startswith("stream.")}
    sequences = tuple(
        Sequence(
            tokens_T=tokens[place],
            at_N=parts["at_N"][place],
            target_N=parts["target_N"][place],
            weight_N=parts["weight_N"][place],
            origin=tasks[int(held["task_S"][place])].origin,
            streams={name.removeprefix("stream."): split[place] for name, split in parts.items() if name.startswith("stream.")},
            group=int(held["group_S"][place]),
            task=task,
        )
        for place in range(len(tokens))
    )
    return Rollout(number, sequences, tuple(int(value) for value in held["task_S"]))
