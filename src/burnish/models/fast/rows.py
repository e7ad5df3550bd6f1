"""What works on each row by itself, as differentiable steps: RMS normalisation and gated activations.

Enters and leaves: tensors [..., H]. Each is one pass over memory forward and one or two backward; what comes out tells (`kept`) how it is
computed again, so that a linear layer behind it need not keep it. The plain twins are the modules' own `forward`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from burnish.models.fast import kernels
from burnish.models.fast.linear import Kept, activation_type

if TYPE_CHECKING:
    import torch


def normalise(x: torch.Tensor, weight: torch.Tensor, epsilon: float, *, more: float) -> torch.Tensor:
    """Return x (weight + more) / sqrt(mean(x²) + epsilon), in the type that products are computed in; sums in float32 at least."""
    rows = x.reshape(-1, x.shape[-1])
    y, scale_N = _norm_class().apply(rows, weight, epsilon, more, activation_type(x))
    y = y.view(x.shape)
    y.kept = Kept("norm", (rows.detach(), weight.detach() + more if more else weight.detach(), scale_N))
    return y


def gate(kind: str, gate_NH: torch.Tensor, up_NH: torch.Tensor) -> torch.Tensor:
    """Return act(gate) up for `kind` "silu" or "gelu" (by tanh)."""
    rows = [one.reshape(-1, one.shape[-1]) for one in (gate_NH, up_NH)]
    y = _gate_class().apply(kind, *rows).view(gate_NH.shape)
    y.kept = Kept(kind, tuple(one.detach() for one in rows))
    return y


@cache
def _norm_class() -> Any:
    """Return the autograd function; made on first use, because torch is not imported with the package."""
    import torch
    from torch.autograd.function import once_differentiable

    class Normalise(torch.autograd.Function):
        """RMS normalisation; the scales of the rows come out beside it, for whoever computes it again."""

        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, epsilon: float, more: float, dtype: Any) -> Any:
            factor = weight.detach() + more if more else weight.detach()
            y, scale_N = kernels.norm_forward(x.detach(), factor, epsilon, dtype)
            ctx.mark_non_differentiable(scale_N)
            ctx.save_for_backward(x, weight, scale_N)
            ctx.more = more
            return y, scale_N

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *gradients: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            x, weight, scale_N = ctx.saved_tensors
            factor = weight + ctx.more if ctx.more else weight
            into, moved = kernels.norm_backward(gradients[0], x, factor, scale_N, ctx.needs_input_grad[1])
            return into, None if moved is None else moved.to(weight.dtype), None, None, None

    return Normalise


@cache
def _gate_class() -> Any:
    """Return the autograd function; made on first use, because torch is not imported with the package."""
    import torch
    from torch.autograd.function import once_differentiable

    class Gate(torch.autograd.Function):
        """A gated activation, of which gate and up are kept."""

        @staticmethod
        def forward(ctx: Any, kind: str, gate_NH: Any, up_NH: Any) -> Any:
            ctx.save_for_backward(gate_NH, up_NH)
            ctx.kind = kind
            return kernels.gate_forward(kind, gate_NH.detach(), up_NH.detach())

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *gradients: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            return (None, *kernels.gate_backward(ctx.kind, gradients[0], *ctx.saved_tensors))

    return Gate
