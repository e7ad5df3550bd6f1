"""Log-probabilities of targets from hidden states, without ever holding [N, vocabulary].

Enters: hidden states, the output head's weight, targets. Leaves: log-probabilities and entropies, differentiable. The rows go through
the head in tiles, which become gradients in place: at log-probabilities the gradient of a row is one number times a vector that does not
depend on it, so the forward pass computes that vector while the tile is there, and no logits are computed twice. Entropies, and a head
that moves while the tiles together are large, take another pass. The plain twin is `forward._tiled`, which lets autograd do the same.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from burnish.models.fast import kernels

if TYPE_CHECKING:
    import torch


KEEP = 256_000_000
"""Bytes of tiles that are kept for the gradient of a head that moves; above it they are computed again."""


def read_targets(
    hidden_NH: torch.Tensor, weight_VH: torch.Tensor, target_N: torch.Tensor, *, entropy: bool, rows: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 log-probabilities [N] of the targets and, where asked, entropies [N] in nats (else empty); `rows` make a tile.

    Products are computed in the type of the hidden states (under autocast: in its type), sums in float32 at least. No gradient is
    computed for a weight that is frozen.
    """
    import torch

    kind = torch.get_autocast_dtype(hidden_NH.device.type) if torch.is_autocast_enabled(hidden_NH.device.type) else None
    hidden_NH = hidden_NH.to(kind or weight_VH.dtype)
    return _head_class().apply(hidden_NH, weight_VH, target_N, entropy, rows)


@cache
def _head_class() -> Any:
    """Return the autograd function; made on first use, because torch is not imported with the package."""
    import torch
    from torch.autograd.function import once_differentiable

    class TiledHead(torch.autograd.Function):
        """The output head with the log-softmax behind it, as one differentiable step."""

        @staticmethod
        def forward(ctx: Any, hidden_NH: Any, weight_VH: Any, target_N: Any, entropy: bool, rows: int) -> Any:
            low_VH = weight_VH.detach().to(hidden_NH.dtype)
            turns, moves = ctx.needs_input_grad[0] and not entropy, ctx.needs_input_grad[1] and not entropy
            keeps = moves and len(target_N) * len(weight_VH) * low_VH.element_size() <= KEEP
            read, pushed, tiles = [], [], []
            for hidden_TH, target_T in _tiles(rows, hidden_NH.detach(), target_N):
                logits_TV = hidden_TH @ low_VH.t()
                read.append(kernels.head_forward(logits_TV, target_T, entropy))
                if turns or keeps:
                    kernels.head_backward(logits_TV, target_T, read[-1][1], None, None)
                    pushed += [logits_TV @ low_VH] if turns else []
                    tiles += [logits_TV] if keeps else []
            logprobs_N, normaliser_N, entropy_N = (torch.cat(part) for part in zip(*read, strict=True))
            pushed_NH = torch.cat(pushed) if turns else None
            ctx.save_for_backward(hidden_NH, weight_VH, target_N, normaliser_N, entropy_N, pushed_NH, *tiles)
            ctx.entropy, ctx.rows = entropy, rows
            ctx.mark_non_differentiable(*([] if entropy else [entropy_N]))
            return logprobs_N, entropy_N

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *gradients: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            hidden_NH, weight_VH, target_N, normaliser_N, entropy_N, pushed_NH, *tiles = ctx.saved_tensors
            above_N, above_entropy_N = gradients
            moves = ctx.needs_input_grad[1]
            if pushed_NH is not None and not moves:
                return (above_N[:, None] * pushed_NH).to(hidden_NH.dtype), None, None, None, None
            if not ctx.entropy:  # no row has one: the tiles take what is there in its place, unread
                entropy_N, above_entropy_N = normaliser_N, normaliser_N
            streams = (hidden_NH, target_N, normaliser_N, above_N, entropy_N, above_entropy_N)
            low_VH = weight_VH.detach().to(hidden_NH.dtype)
            moved_VH, into = _Moved(weight_VH) if moves else None, []
            for number, (hidden_TH, target_T, normaliser_T, above_T, *entropies) in enumerate(_tiles(ctx.rows, *streams)):
                if tiles:
                    gradient_TV, weighted_TH = tiles[number], (above_T[:, None] * hidden_TH).to(hidden_TH.dtype)
                else:
                    gradient_TV, weighted_TH = hidden_TH @ low_VH.t(), hidden_TH
                    kernels.head_backward(gradient_TV, target_T, normaliser_T, above_T, tuple(entropies) if ctx.entropy else None)
                if pushed_NH is None and ctx.needs_input_grad[0]:
                    into.append(gradient_TV @ low_VH)
                if moved_VH is not None:
                    moved_VH.add(gradient_TV, weighted_TH)
            if pushed_NH is not None:
                into = [(above_N[:, None] * pushed_NH).to(hidden_NH.dtype)]
            return torch.cat(into) if into else None, None if moved_VH is None else moved_VH.total(), None, None, None

    return TiledHead


class _Moved:
    """The gradient of the weight, added up over tiles in float32 at least."""

    def __init__(self, weight_VH: Any) -> None:
        import torch

        self.weight_VH, self.sum_VH = weight_VH, None
        self.wide = torch.promote_types(weight_VH.dtype, torch.float32)

    def add(self, gradient_TV: Any, hidden_TH: Any) -> None:
        """Add a tile's part."""
        part_VH = gradient_TV.t() @ hidden_TH
        self.sum_VH = part_VH.to(self.wide) if self.sum_VH is None else self.sum_VH.add_(part_VH)

    def total(self) -> Any:
        """Return the sum in the weight's type."""
        import torch

        return torch.zeros_like(self.weight_VH) if self.sum_VH is None else self.sum_VH.to(self.weight_VH.dtype)


def _tiles(rows: int, *streams: Any) -> Any:
    """Return the streams cut into tiles of `rows`, each a tuple of a part of every stream; one empty tile where there are no rows."""
    return zip(*(stream.split(rows) for stream in streams), strict=True)
