"""Sequences in batches of like lengths, each known by its number afterwards: for whatever reads a model instead of training it.

Enters: sequences in the caller's order. Leaves: batches, with the number of each of their sequences and its part of the read-outs, so that
what a pass finds goes back to where it belongs. Pairs, groups and windows need not stand together here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from burnish.data.batching import collate, cut_units, units_of
from burnish.types import Batch, Sequence

if TYPE_CHECKING:
    from burnish.models.load import Model

Numbered = list[tuple[int, slice]]
"""Of each sequence of a batch its number among all, and its part of the batch's read-outs N."""


def numbered_batches(
    model: Model,
    sequences: Many[Sequence],
    *,
    tokens: int,
    packing: bool = False,
    shared: bool = False,
    by_task: bool = False,
    between: Callable[[], None] | None = None,
) -> Iterator[tuple[Numbered, Batch]]:
    """Yield the batches of all sequences that have read-outs, each of at most `tokens` positions, without their streams.

    With `shared` the sequences of a group stay together, and what they have in common is read once. With `by_task` each sequence keeps
    its task, by which heads are told apart (a batch holds one task); else all are of one. `between` is called before each batch and may
    raise to stop.
    """
    task = {} if by_task else {"task": "main"}
    bare = {number: replace(one, streams={}, **task) for number, one in enumerate(sequences) if len(one.at_N)}
    number_of = {id(one): number for number, one in bare.items()}  # the cut goes by length
    units = units_of(list(bare.values())) if shared else [[one] for one in bare.values()]
    for parts in cut_units(units, tokens, packing=packing, shared=shared):
        if between is not None:
            between()
        # A batch holds the read-outs in the order of its sequences, whatever the layout.
        ends = list(accumulate(len(one.at_N) for one in parts))
        places = [(number_of[id(one)], slice(end - len(one.at_N), end)) for one, end in zip(parts, ends, strict=True)]
        batch = collate(parts, packing=packing, shared=shared, pad_id=model.pad_id(), device=model.device, mask=model.encoder)
        yield places, batch
