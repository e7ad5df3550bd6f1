"""Attention of one token more for each row of a step of generation, over keys and values in slots.

Enters: queries, keys and values of the new tokens, not turned yet, and the slots. Leaves: what the queries mix, and slots that hold the new keys
and values. On a CPU whose loops run (`kernels`) one pass does it all; elsewhere torch's own attention does, in pieces of rows of like length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from burnish.models.fast import kernels

if TYPE_CHECKING:
    import torch

ROWS_TOGETHER = 4
"""Rows of a piece in torch's attention on a CPU; they stand in the order of their lengths, until others take their places."""

PADDED_SHARE = 0.9
"""Attention is cut into pieces where that leaves at most this share of the columns."""

Piece = tuple[slice, int, "torch.Tensor | None"]


@dataclass(frozen=True, eq=False)
class Places:
    """Where the tokens of a step stand, for all layers: their columns in the slots, and cos and sin [B, 1, D] of those."""

    column_B: torch.Tensor
    turn: tuple[torch.Tensor, torch.Tensor]
    most: int
    """Columns that any row sees at most."""
    dtype: torch.dtype

    @cached_property
    def wide_turn(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cos and sin as contiguous float32."""
        cosine, sine = (one.float().contiguous() for one in self.turn)
        return cosine, sine

    @cached_property
    def pieces(self) -> list[Piece]:
        """Return the rows in pieces that are attended together, each with its width and mask: all at once, unless few are much longer.

        On a GPU another call costs more than padding does.
        """
        columns, count = self.column_B.tolist(), len(self.column_B)
        edges = range(0, count, ROWS_TOGETHER)
        widths = [max(columns[first : first + ROWS_TOGETHER]) + 1 for first in edges]
        if self.column_B.device.type != "cpu" or sum(widths) > PADDED_SHARE * max(widths) * len(widths):
            return [(slice(0, count), max(widths), _mask(self.column_B, max(widths), self.dtype))]
        pieces = [slice(first, min(first + ROWS_TOGETHER, count)) for first in edges]
        return [(rows, width, _mask(self.column_B[rows], width, self.dtype)) for rows, width in zip(pieces, widths, strict=True)]


def attend_one(
    parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor], past: tuple[torch.Tensor, torch.Tensor], places: Places, factor: float
) -> torch.Tensor:
    """Put the keys and values [B, K, D] of new tokens into slots [S, K, C, D], and return what the queries [B, H, D] mix, [B, H D]."""
    if kernels.can_attend_token(parts[0], past[0], parts[0].shape[-1]):
        return kernels.token_forward(parts, places.wide_turn, past, places.column_B, places.most, factor)
    return _plain(parts, past, places, factor)


def _plain(
    parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor], past: tuple[torch.Tensor, torch.Tensor], places: Places, factor: float
) -> torch.Tensor:
    """Return the same by torch's own attention."""
    import torch

    (query, key, value), (key_SKCD, value_SKCD), (cosine_B1D, sine_B1D) = parts, past, places.turn
    count, heads, width = query.shape
    both, half, shared = torch.cat([query, key], dim=1), width // 2, key.shape[1]
    turned = torch.cat([-both[..., half:], both[..., :half]], dim=-1)
    both = both * cosine_B1D + turned * sine_B1D
    query_BKGD, key_BKD = both[:, :heads].view(count, shared, -1, width), both[:, heads:]
    row_B = torch.arange(count, device=query.device)
    key_SKCD[row_B, :, places.column_B], value_SKCD[row_B, :, places.column_B] = key_BKD, value
    mixed = [
        torch.nn.functional.scaled_dot_product_attention(
            query_BKGD[rows], key_SKCD[rows, :, :wide], value_SKCD[rows, :, :wide], attn_mask=mask_B11C, scale=factor
        )
        for rows, wide, mask_B11C in places.pieces
    ]
    return (mixed[0] if len(mixed) == 1 else torch.cat(mixed)).reshape(count, -1)


def _mask(column_B: torch.Tensor, width: int, dtype: torch.dtype) -> torch.Tensor | None:
    """Return an additive mask [B, 1, 1, C] that shows each row its own columns, None where all rows hold equally many."""
    import torch

    if bool((column_B == width - 1).all()):
        return None
    later_BC = torch.arange(width, device=column_B.device)[None] > column_B[:, None]
    return torch.zeros(later_BC.shape, dtype=dtype, device=column_B.device).masked_fill(later_BC, -torch.inf)[:, None, None]
