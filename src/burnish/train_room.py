"""How large a micro-batch may be, and what happens where one does not fit: it is divided, and the step's result stays what it was.

Enters: the micro-batches of a step and a function that adds the gradient of one. Leaves: what that function returned for each piece. A
bound is known before step 1 (`tune_memory`) or found here, where the memory of a GPU runs out: the step is then begun anew in smaller
pieces, so that nothing of the pass that failed counts, and so are all later steps. Counts are known before, so pieces change nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from burnish.devices import Ranks
from burnish.errors import RunError
from burnish.types import Batch, Layout

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


@dataclass(slots=True)
class Room:
    """The most positions of a micro-batch, 0 for no bound: what a run finds out of its memory and keeps to its end."""

    positions: int = 0
    say: Callable[[str], None] = field(default=lambda text: None)

    def pieces(self, batch: Batch) -> list[Batch]:
        """Return the batch in pieces within the bound, each half of another; what may not be divided stays as it is."""
        halves = halved(batch) if 0 < self.positions < positions(batch) else None
        return [batch] if halves is None else [piece for half in halves for piece in self.pieces(half)]

    def agree(self, ranks: Ranks) -> None:
        """Take the smallest bound of all ranks, so that a run that is resumed begins as it went on."""
        if ranks.size > 1:
            least = ranks.least(float(self.positions or UNBOUNDED))
            self.positions = 0 if least == UNBOUNDED else int(least)


UNBOUNDED = 2.0**52


def run_pieces(
    batches: Sequence[Batch],
    run: Callable[[Batch], Result],
    *,
    room: Room,
    divisible: Callable[[Batch], bool],
    forget: Callable[[], None],
    advice: str = "",
) -> list[Result]:
    """Return what `run` gives for each piece of each batch, all of them anew in smaller pieces where the memory runs out.

    `forget` drops the gradients that were added so far. Random draws (dropout) are taken back too, so that the result is the one of
    a run that knew the smaller bound before. Raises RunError with the rows where a batch that may not be divided does not fit; `advice`
    says what else would help.
    """
    state = _random_state()
    while True:
        current = None
        try:
            found: list[Result] = []
            for batch in batches:
                for current in room.pieces(batch) if divisible(batch) else [batch]:
                    found.append(run(current))
            return found
        except Exception as error:
            if current is None or not is_out_of_memory(error):
                raise
            if not divisible(current) or halved(current) is None:
                raise too_large(current, advice) from error
        # Only here, past the handler, are the failed pass and its tensors let go.
        forget()
        gc.collect()
        _release()
        _put_back(state)
        room.positions = positions(current) // 2
        room.say(
            f"Out of memory at {positions(current):,} positions: micro-batches are divided into pieces of at most {room.positions:,} from "
            f"here on. The result stays the same; train.tokens = {room.positions} would begin so."
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is used up: torch's own, the one of cuBLAS, or that of the CPU's allocator."""
    import torch

    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("CUBLAS_STATUS_ALLOC_FAILED" in text or "can't allocate memory" in text)
    )


def too_large(batch: Batch, advice: str = "") -> RunError:
    """Return the error that names the rows of a batch that does not fit and cannot be divided."""
    origins = list(dict.fromkeys(str(origin) for origin in batch.origins))
    rows = ", ".join(origins[:12]) + (f" and {len(origins) - 12} more" if len(origins) > 12 else "")
    what = "belong together and do not fit into memory" if len(batch.role_S) > 1 else "does not fit into memory, even alone"
    return RunError(
        f"{rows}: {what} ({positions(batch):,} positions). Leave it out, lower data.max_length, {advice}or take a smaller model; then "
        f"start anew. `burnish check` estimates what a run needs."
    )


# ------------------------------------------------------------------------------------------------------------------ dividing


def positions(batch: Batch) -> int:
    """Return how many positions a batch has in its layout, padding counted."""
    return int(batch.layout.input_ids_BT.numel())


def halved(batch: Batch) -> tuple[Batch, Batch] | None:
    """Return a batch in two parts of about half its positions, groups left whole; None where it is one group or one row."""
    groups = batch.group_S.tolist()
    borders = [place for place in range(1, len(groups)) if groups[place] == 0 or groups[place] != groups[place - 1]]
    if not borders:
        return None
    before_S = _before(batch.layout)
    half = positions(batch) / 2
    border = min(borders, key=lambda place: abs(before_S[place] - half))
    return _part(batch, 0, border), _part(batch, border, len(groups))


def _before(layout: Layout) -> list[int]:
    """Return how many positions stand before each sequence, or before its group where what the group has in common stands once."""
    width, start_S = layout.input_ids_BT.shape[1], layout.start_S if layout.before_S is None else layout.before_S
    return (layout.row_S * width + start_S).tolist()


def _part(batch: Batch, first: int, end: int) -> Batch:
    """Return sequences `first` to `end` of a batch as a batch; of padded rows without a mask the real tokens are in proportion."""
    inside_N = (batch.sequence_N >= first) & (batch.sequence_N < end)
    layout = _part_of(batch.layout, first, end)
    if layout.document_BT is not None:
        tokens = int((layout.document_BT >= 0).sum())
    else:
        tokens = round(batch.tokens * end / len(batch.role_S)) - round(batch.tokens * first / len(batch.role_S))
    return replace(
        batch,
        layout=layout,
        at_N=batch.at_N[inside_N],
        target_N=batch.target_N[inside_N],
        weight_N=batch.weight_N[inside_N],
        sequence_N=batch.sequence_N[inside_N] - first,
        streams={name: stream[inside_N] for name, stream in batch.streams.items()},
        group_S=batch.group_S[first:end],
        role_S=batch.role_S[first:end],
        origins=batch.origins[first:end],
        tokens=tokens,
    )


def _part_of(layout: Layout, first: int, end: int) -> Layout:
    """Return the part of a layout in which the sequences `first` to `end` lie: rows of a padded one, else columns of its only row."""
    import torch

    start, last = 0, layout.input_ids_BT.shape[1]
    if layout.kind != "padded":
        before = _before(layout)
        start, last = before[first], before[end] if end < len(before) else last
        place: tuple[slice, slice] = slice(None), slice(start, last)
    else:
        place = slice(first, end), slice(None)
    documents_BT = layout.document_BT
    if documents_BT is not None:
        documents_BT = documents_BT[place]
        documents_BT = torch.where(documents_BT >= 0, documents_BT - first, documents_BT)
    rows_S = layout.row_S[first:end]
    return replace(
        layout,
        input_ids_BT=layout.input_ids_BT[place],
        position_ids_BT=layout.position_ids_BT[place],
        document_BT=documents_BT,
        row_S=rows_S - first if layout.kind == "padded" else rows_S,
        start_S=layout.start_S[first:end] - start,
        prefix_S=None if layout.prefix_S is None else layout.prefix_S[first:end],
        before_S=None if layout.before_S is None else layout.before_S[first:end] - start,
        images_S=layout.images_S[first:end],
        kept_BT=None if layout.kept_BT is None else layout.kept_BT[place],
        pieces_PK=None if layout.pieces_PK is None else _inside(layout.pieces_PK, start, last),
    )


def _inside(pieces_PK: torch.Tensor, start: int, last: int) -> torch.Tensor:
    """Return the pieces of a row that lie in some of its columns, counted from the first of them."""
    found_PK = pieces_PK[(pieces_PK[:, 0] >= start) & (pieces_PK[:, 1] <= last)]
    return (found_PK - start).clamp(min=0)  # what continues no piece names an empty one at the row's start


# -------------------------------------------------------------------------------------------------------------- the machine's state


def _random_state() -> list[torch.Tensor]:
    import torch

    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])]


def _put_back(state: list[torch.Tensor]) -> None:
    import torch

    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state(state[1])


def _release() -> None:
    """Give what the allocator of a GPU keeps back to it: pieces of other sizes are to come."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
