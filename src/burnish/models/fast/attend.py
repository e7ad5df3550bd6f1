"""Attention in training, in blocks of matrix products: the weights of one block at a time, computed again in the backward pass.

Enters: queries, keys and values as the linear layers give them, the angles by which they are turned, and where a row holds several
documents, or groups whose common prefix stands once, its pieces. Leaves: what each place takes from those it sees. Blocks of queries
meet only the keys that they may see, heads that share keys are one product, and nothing of the size of the weights is kept. The plain
twin is the ecosystem's attention (`transformers.integrations.sdpa_attention`), of pieces under the mask `pieces.pieces_mask`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from burnish.models.fast import kernels

if TYPE_CHECKING:
    import torch

BLOCK = 128
"""Queries in a block: with fewer, products are too small; with more, more weights are computed that a causal layer does not need."""

ROOM = 1_000_000
"""Numbers in the scores of a block at most: with those of the gradients beside them, they stay within the caches."""


def attend(
    query_BTH: torch.Tensor,
    key_BTH: torch.Tensor,
    value_BTH: torch.Tensor,
    turn: tuple[torch.Tensor, torch.Tensor] | None,
    *,
    width: int,
    factor: float,
    causal: bool,
    pieces: Sequence[Sequence[int]] | None = None,
) -> torch.Tensor:
    """Return softmax(factor Q Kᵀ) V as [B, T, K G D], queries and keys turned by (cos, sin) [B, T, R] before; D is `width`.

    `pieces` of the only row are first and end of each, and of the piece that it continues, all of which it sees beside itself; a place
    in no piece takes nothing.

    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1; kept and computed again as by Dao et al. 2022, arXiv 2205.14135.
    """
    cosine, sine = turn if turn is not None else (None, None)
    return _attend_class().apply(query_BTH, key_BTH, value_BTH, cosine, sine, width, factor, causal, pieces)


@dataclass(frozen=True, slots=True)
class Block:
    """Queries that are computed at once, in some items: their places, the places of the keys that they see, and where among these they stand."""

    items: slice
    first: int
    end: int
    keys: tuple[slice, ...]
    place: int

    def seen(self, stream_ITD: torch.Tensor) -> torch.Tensor:
        """Return the part of keys or values that the queries see."""
        import torch

        parts = [stream_ITD[self.items, keys] for keys in self.keys]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def add(self, sums_IDT: torch.Tensor, part_IDK: torch.Tensor) -> None:
        """Add what the queries give to keys or values to their sums."""
        at = 0
        for keys in self.keys:
            sums_IDT[self.items, :, keys] += part_IDK[..., at : at + keys.stop - keys.start]
            at += keys.stop - keys.start


def _blocks(items: int, group: int, length: int, causal: bool, pieces: Sequence[Sequence[int]] | None) -> list[Block]:
    """Return the blocks of a pass."""
    found = []
    for begin, last, before_first, before_end in pieces if pieces is not None else [(0, length, 0, 0)]:
        before = before_end - before_first
        for first in range(begin, last, BLOCK):
            end = min(last, first + BLOCK)
            own = slice(begin, end if causal else last)
            keys = (slice(before_first, before_end), own) if before else (own,)
            some = max(1, ROOM // ((end - first) * group * (before + own.stop - begin)))
            place = before + first - begin
            found += [Block(slice(item, min(items, item + some)), first, end, keys, place) for item in range(0, items, some)]
    return found


@cache
def _attend_class() -> Any:
    """Return the autograd function; made on first use, because torch is not imported with the package."""
    import torch
    from torch.autograd.function import once_differentiable

    class Attend(torch.autograd.Function):
        """Attention; items are pairs of a row and a head of keys, the rows of an item its queries, place by place."""

        @staticmethod
        def forward(
            ctx: Any, query: Any, key: Any, value: Any, cosine: Any, sine: Any, width: int, factor: float, causal: bool, pieces: Any
        ) -> Any:
            turn = None if cosine is None else (cosine, sine)
            shared = key.shape[-1] // width
            heads = kernels.heads_forward(query.detach(), turn, shared, width)
            batch, _, length, group, _ = heads.shape
            query_IRD = heads.view(batch * shared, length * group, width)
            key_ITD = kernels.heads_forward(key.detach(), turn, shared, width).view(-1, length, width)
            value_ITD = kernels.heads_forward(value.detach(), None, shared, width).view(-1, length, width)
            wide = torch.promote_types(query.dtype, torch.float32)
            mixed_IRD = torch.empty_like(query_IRD) if pieces is None else torch.zeros_like(query_IRD)
            normaliser_IR = torch.empty(query_IRD.shape[:2], dtype=wide)
            for block in _blocks(len(query_IRD), group, length, causal, pieces):
                items, rows = block.items, slice(block.first * group, block.end * group)
                scores = torch.bmm(query_IRD[items, rows], block.seen(key_ITD).transpose(1, 2))
                normaliser_IR[items, rows] = kernels.weights_forward(scores, block.place, group, causal, factor)
                mixed_IRD[items, rows] = torch.bmm(scores, block.seen(value_ITD))
            ctx.save_for_backward(query_IRD, key_ITD, value_ITD, normaliser_IR, cosine, sine)
            ctx.shape, ctx.factor, ctx.causal, ctx.pieces = heads.shape, factor, causal, pieces
            return kernels.heads_backward(mixed_IRD.view(heads.shape), None)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *gradients: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            query_IRD, key_ITD, value_ITD, normaliser_IR, cosine, sine = ctx.saved_tensors
            batch, shared, length, group, width = ctx.shape
            above_IRD = kernels.heads_forward(gradients[0].contiguous(), None, shared, width).view(query_IRD.shape)
            to_query = torch.empty_like(query_IRD) if ctx.pieces is None else torch.zeros_like(query_IRD)
            # Keys and values are met by several blocks: their gradients are added up in float32; on their side, so that of the two factors
            # of their products the small one is the one that is turned.
            wide = torch.promote_types(query_IRD.dtype, torch.float32)
            to_key_IDT, to_value_IDT = (torch.zeros(len(key_ITD), width, length, dtype=wide) for _ in range(2))
            for block in _blocks(len(query_IRD), group, length, ctx.causal, ctx.pieces):
                items, rows = block.items, slice(block.first * group, block.end * group)
                query, above, key = query_IRD[items, rows], above_IRD[items, rows], block.seen(key_ITD)
                scores = torch.bmm(query, key.transpose(1, 2))
                pushed = torch.bmm(above, block.seen(value_ITD).transpose(1, 2))
                normaliser = normaliser_IR[items, rows].contiguous()
                kernels.weights_backward(scores, pushed, normaliser, block.place, group, ctx.causal, ctx.factor)
                block.add(to_value_IDT, torch.bmm(above.transpose(1, 2), scores))
                block.add(to_key_IDT, torch.bmm(query.transpose(1, 2), pushed))
                to_query[items, rows] = torch.bmm(pushed, key)
            turn = None if cosine is None else (cosine, sine)
            shape = (batch, shared, length, 1, width)
            to_key, to_value = (one.transpose(1, 2).to(query_IRD.dtype).reshape(shape) for one in (to_key_IDT, to_value_IDT))
            back = [kernels.heads_backward(to_key, turn), kernels.heads_backward(to_value, None)]
            return kernels.heads_backward(to_query.view(ctx.shape), turn), *back, None, None, None, None, None, None

    return Attend
