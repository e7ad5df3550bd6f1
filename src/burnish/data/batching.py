"""Cut sequences into steps and micro-batches, and lay a micro-batch out for the model.

Enters: the sequences of each example. Leaves: a function step -> micro-batches. Which examples stand in a step is a pure function of
(seed, step): neither the layout, nor the token budget, nor the number of ranks can change it; they only decide how the step is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from burnish.data.batching_shared import positions_of, shared_layout
from burnish.data.largest import largest
from burnish.types import Batch, Layout, Sequence

if TYPE_CHECKING:
    import torch


ALIKE = 0.75
"""Length of a row, as a share of the longest of a micro-batch, below which padding costs more than another pass."""


@dataclass(frozen=True, slots=True, eq=False)
class FixedBatches:
    """Batches of a fixed data set.

    `examples` are the sequences of each example; `order(epoch)` lists example numbers; `batch` counts examples per optimizer step,
    over all ranks; `tokens` is the budget of a micro-batch, in positions of the layout. Steps run on over the end of an epoch.
    """

    examples: Many[Many[Sequence]]
    order: Callable[[int], np.ndarray]
    batch: int
    tokens: int
    packing: bool
    pad_id: int
    device: Any
    rank: int = 0
    ranks: int = 1
    multiple: int = 1
    """Padded rows are as long as a multiple of this: compiled layers and matrix units are quicker with few shapes, and even ones."""
    mask: bool = False
    """Say which positions are padding: an encoder would read it."""
    shared: bool = False
    """Rows lie one behind the other, and what a group has in common stands once (`batching_shared`)."""
    change: Callable[[Many[Sequence], int, int], Many[Sequence]] | None = None
    """What becomes of the sequences of (example, its number, epoch), such as masking; a pure function, so that a step stays one."""
    sizes: list[int] = field(default_factory=list)
    """Examples of each epoch that was asked for: so that a step makes the order of its own epoch and not those of all before it."""

    def steps_in(self, epochs: int) -> int:
        """Return the number of steps that hold `epochs` epochs, the last one perhaps running over."""
        return -(-sum(len(self.order(epoch)) for epoch in range(epochs)) // self.batch)

    def chosen(self, step: int) -> list[int]:
        """Return the numbers of the examples of a step."""
        return [number for number, _ in self.rows(step * self.batch, self.batch)]

    def rows(self, first: int, count: int) -> list[tuple[int, int]]:
        """Return `count` examples as (number, epoch), from the one that stands at place `first` of all epochs in a row."""
        assert self.examples, "no examples to make batches of"
        found: list[tuple[int, int]] = []
        epoch = 0
        while len(found) < count:
            if epoch == len(self.sizes):
                self.sizes.append(len(self.order(epoch)))
            if first < self.sizes[epoch]:
                numbers = self.order(epoch)[first : first + count - len(found)]
                found += [(int(number), epoch) for number in numbers]
            first = max(0, first - self.sizes[epoch])
            epoch += 1
        return found

    def __call__(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of a step, the longest first, so that memory is short at once or never."""
        return self.cut(self.rows(step * self.batch, self.batch))

    def cut(self, rows: Many[tuple[int, int]]) -> list[Batch]:
        """Return this rank's micro-batches of some examples, each with the epoch in which it stands."""
        change = self.change or (lambda sequences, number, epoch: sequences)
        units = [unit for number, epoch in rows for unit in units_of(change(self.examples[number], number, epoch))]
        batches = []
        for kept in (False, True):  # a micro-batch begins at the first layer, or at what is kept of all its sequences
            part = [unit for unit in units if all(one.kept is not None for one in unit) == kept]
            laid: dict[str, Any] = {"packing": self.packing, "shared": self.shared and not kept}
            tokens = self.tokens
            if laid["shared"]:  # a row that held a whole step would leave all ranks but one without work
                tokens = min(tokens, -(-sum(map(positions_of, part)) // self.ranks))
            batches += [(micro, laid) for micro in cut_units(part, tokens, **laid)]
        return [
            collate(micro, **laid, pad_id=self.pad_id, device=self.device, multiple=self.multiple, mask=self.mask)
            for micro, laid in batches[self.rank :: self.ranks]
        ]

    def largest(self) -> list[Batch]:
        """Return the largest micro-batch that the rows can make, whatever their order."""
        numbers, _ = largest(self.examples, batch=self.batch, tokens=self.tokens, packing=self.packing or self.shared)
        batches = replace(self, rank=0, ranks=1).cut([(number, 0) for number in numbers])
        return [max(batches, key=lambda batch: batch.layout.input_ids_BT.numel())]


class Rows(Protocol):
    """What mixing needs of the rows of a task."""

    def rows(self, first: int, count: int) -> list[tuple[int, int]]:
        """Return `count` examples as (number, epoch), from a place of all epochs in a row."""
        ...

    def cut(self, rows: Many[tuple[int, int]]) -> list[Batch]:
        """Return this rank's micro-batches of some examples."""
        ...

    def largest(self) -> list[Batch]:
        """Return the largest micro-batch that the rows can make."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class MixedBatches:
    """Batches of several tasks: each step takes a part of its rows from each, and a micro-batch holds one task.

    `shares` add up to 1. What a share leaves over of a row is carried to the next step, so that after any number of steps each task
    has had its share to within a row.
    """

    parts: Many[Rows]
    shares: Many[float]
    batch: int
    taken: list[tuple[int, ...]] = field(default_factory=list)
    """Rows of each task before step 0, 1, 2 ...: filled as far as it has been asked for, and the same whoever asks."""

    def before(self, step: int) -> tuple[int, ...]:
        """Return how many rows of each task stand in the steps before this one."""
        if not self.taken:
            self.taken.append((0,) * len(self.parts))
        while len(self.taken) <= step:
            counts = list(self.taken[-1])
            for row in range(sum(counts), sum(counts) + self.batch):
                behind = [share * (row + 1) - count for share, count in zip(self.shares, counts, strict=True)]
                counts[behind.index(max(behind))] += 1
            self.taken.append(tuple(counts))
        return self.taken[step]

    def __call__(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of a step, task after task."""
        batches: list[Batch] = []
        for part, first, end in zip(self.parts, self.before(step), self.before(step + 1), strict=True):
            if end > first:
                batches += part.cut(part.rows(first, end - first))
        return batches

    def largest(self) -> list[Batch]:
        """Return the largest micro-batch of each task."""
        return [batch for part in self.parts for batch in part.largest()]


def shares_of(rows: Many[int], given: Many[float | None], *, temperature: float = 1.0) -> list[float]:
    """Return each task's part of a step: as given, else in proportion to its rows to the power of 1 / temperature.

    Temperature 1 takes every row equally often; a greater one favours small tasks. Source: Raffel et al. 2019, arXiv 1910.10683, section 3.5.2.
    """
    raw = [float(share) if share is not None else count ** (1.0 / temperature) for count, share in zip(rows, given, strict=True)]
    return [share / sum(raw) for share in raw]


def shuffled(size: int, seed: int) -> Callable[[int], np.ndarray]:
    """Return the order of each epoch: a permutation that depends on seed and epoch alone."""
    from functools import lru_cache

    @lru_cache(maxsize=4)
    def order(epoch: int) -> np.ndarray:
        return np.random.Generator(np.random.Philox(key=seed, counter=epoch)).permutation(size)

    return order


def units_of(sequences: Many[Sequence]) -> list[list[Sequence]]:
    """Return what may not be divided over micro-batches: the sequences of one group together, those without a group (0) each alone."""
    groups: dict[int, list[Sequence]] = {}
    for sequence in sequences:
        if sequence.group != 0:
            groups.setdefault(sequence.group, []).append(sequence)
    return [*groups.values(), *([sequence] for sequence in sequences if sequence.group == 0)]


def cut_units(units: Iterable[list[Sequence]], tokens: int, *, packing: bool, shared: bool = False) -> list[list[Sequence]]:
    """Return micro-batches within the budget, which counts positions of the layout; a unit's sequences stay together."""
    if shared:
        return cut_packed(units, tokens, size=positions_of)
    return (cut_packed if packing else cut_padded)(units, tokens)


def cut_padded(units: Iterable[list[Sequence]], tokens: int) -> list[list[Sequence]]:
    """Return micro-batches of like lengths whose padded size stays within the budget; a unit's sequences stay together.

    A group that is larger than the budget by itself gets a micro-batch of its own; the windows of a long text are divided.
    """
    micro_batches: list[list[Sequence]] = []
    longest = 0
    units = _divided(units, lambda unit: len(unit) * _longest(unit) <= tokens)
    for unit in sorted(units, key=_longest, reverse=True):
        room = bool(micro_batches) and (len(micro_batches[-1]) + len(unit)) * longest <= tokens
        # A row that would be padded much goes on to a micro-batch of shorter ones, once this one is worth a pass by itself.
        alike = bool(micro_batches) and (_longest(unit) >= ALIKE * longest or len(micro_batches[-1]) * longest < tokens / 4)
        if room and alike:
            micro_batches[-1] += unit
        else:
            micro_batches.append(list(unit))
            longest = _longest(unit)
    return micro_batches


def cut_packed(
    units: Iterable[list[Sequence]], tokens: int, *, size: Callable[[list[Sequence]], int] | None = None
) -> list[list[Sequence]]:
    """Return micro-batches that are filled one behind the other up to the budget, by first fit, the longest unit first.

    `size` is what a unit takes of the row: its tokens, where nothing else is said.
    """
    size = size or _total
    micro_batches: list[list[Sequence]] = []
    room: list[int] = []
    divided = _divided(units, lambda unit: size(unit) <= tokens)
    for taken, unit in sorted(((size(unit), unit) for unit in divided), key=lambda pair: pair[0], reverse=True):
        fits = next((number for number, free in enumerate(room) if free >= taken), None)
        if fits is None:
            micro_batches.append(list(unit))
            room.append(tokens - taken)
        else:
            micro_batches[fits] += unit
            room[fits] -= taken
    return micro_batches


def _divided(units: Iterable[list[Sequence]], fits: Callable[[list[Sequence]], bool]) -> list[list[Sequence]]:
    """Return the units with each one that does not fit divided into its sequences, unless they form a group (0 is none)."""
    divided: list[list[Sequence]] = []
    for unit in units:
        grouped = any(sequence.group for sequence in unit)
        divided += [unit] if grouped or fits(unit) else [[sequence] for sequence in unit]
    return divided


def _longest(unit: list[Sequence]) -> int:
    return max(sequence.length for sequence in unit)


def _total(unit: list[Sequence]) -> int:
    return sum(sequence.length for sequence in unit)


def collate(
    sequences: Many[Sequence],
    *,
    packing: bool,
    pad_id: int,
    device: Any,
    multiple: int = 1,
    mask: bool = False,
    shared: bool = False,
) -> Batch:
    """Return one micro-batch: the sequences as rows padded on the right, or one behind the other in a single row.

    With `shared`, what a group has in common stands once in that row. Padded rows get a length that `multiple` divides, and with `mask`
    say which positions are real, as an encoder must know; a single row is as long as it is.
    """
    import torch

    assert len({sequence.task for sequence in sequences}) == 1, "a micro-batch holds one task"
    if shared:
        layout = shared_layout(sequences, device)
    elif packing:
        layout = packed_layout(sequences, device)
    else:
        layout = padded_layout(sequences, pad_id, device, multiple=multiple, mask=mask)
    if any(sequence.images for sequence in sequences):
        layout = replace(layout, images_S=tuple(sequence.images for sequence in sequences))
    layout = _with_kept(layout, sequences)
    names = sequences[0].streams.keys()

    def joined(parts: list[np.ndarray], kind: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(np.concatenate(parts), dtype=kind, device=device)

    return Batch(
        layout=layout,
        at_N=joined([sequence.at_N for sequence in sequences], torch.long),
        target_N=joined([sequence.target_N for sequence in sequences], torch.long),
        weight_N=joined([sequence.weight_N for sequence in sequences], torch.float32),
        sequence_N=joined([np.full(len(sequence.at_N), number) for number, sequence in enumerate(sequences)], torch.long),
        streams={name: _stream([sequence.streams[name] for sequence in sequences], device) for name in names},
        group_S=torch.as_tensor([sequence.group for sequence in sequences], device=device),
        role_S=tuple(sequence.role for sequence in sequences),
        task=sequences[0].task,
        origins=tuple(sequence.origin for sequence in sequences),
        tokens=sum(sequence.length if sequence.kept is None else sequence.kept.tokens for sequence in sequences),
    )


def _with_kept(layout: Layout, sequences: Many[Sequence]) -> Layout:
    """Return the layout with the rows of the hidden states that the model keeps, if it keeps those of all sequences."""
    import torch

    kept = [sequence.kept.row for sequence in sequences if sequence.kept is not None]
    if len(kept) < len(sequences):
        return layout
    kept_BT = np.full(layout.input_ids_BT.shape, kept[0], dtype=np.int64)  # padding may name any row
    for row, start, first, sequence in zip(layout.row_S.tolist(), layout.start_S.tolist(), kept, sequences, strict=True):
        kept_BT[row, start : start + sequence.length] = first + np.arange(sequence.length)
    return replace(layout, kept_BT=torch.from_numpy(kept_BT))


def _stream(parts: list[np.ndarray], device: Any) -> torch.Tensor:
    """Return a stream of all sequences, [N] or [N, K]: whole numbers (tokens) stay whole, all else is float32."""
    import torch

    values = np.concatenate(parts)
    return torch.as_tensor(values, dtype=torch.long if values.dtype.kind == "i" else torch.float32, device=device)


def padded_layout(sequences: Many[Sequence], pad_id: int, device: Any, *, multiple: int = 1, mask: bool = False) -> Layout:
    """Return each sequence as a row, padded on the right; `mask` says in `document_BT` which positions are real."""
    import torch

    longest = -(-max(sequence.length for sequence in sequences) // multiple) * multiple
    ids_BT = np.full((len(sequences), longest), pad_id, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids_BT[row, : sequence.length] = sequence.tokens_T
    positions_BT = torch.arange(longest, device=device).expand(len(sequences), longest)
    rows_S = torch.arange(len(sequences), device=device)
    documents_BT = None
    if mask:
        lengths_S = torch.as_tensor([sequence.length for sequence in sequences], device=device)
        documents_BT = torch.where(positions_BT < lengths_S[:, None], rows_S[:, None], -1)
    return Layout("padded", torch.as_tensor(ids_BT, device=device), positions_BT, documents_BT, rows_S, torch.zeros_like(rows_S))


def packed_layout(sequences: Many[Sequence], device: Any) -> Layout:
    """Return all sequences in one row, positions starting anew at each."""
    import torch

    lengths = [sequence.length for sequence in sequences]
    ids_BT = np.concatenate([sequence.tokens_T for sequence in sequences]).astype(np.int64)[None]
    positions_BT = np.concatenate([np.arange(length) for length in lengths])[None]
    documents_BT = np.repeat(np.arange(len(lengths)), lengths)[None]
    starts_S = torch.as_tensor(np.cumsum([0, *lengths[:-1]]), dtype=torch.long, device=device)
    ids, positions, documents = (
        torch.as_tensor(part, dtype=torch.long, device=device) for part in (ids_BT, positions_BT, documents_BT)
    )
    return Layout("packed", ids, positions, documents, torch.zeros_like(starts_S), starts_S)
