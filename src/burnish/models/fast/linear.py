"""Linear layers with their low-rank adapters as one differentiable step, several that read the same input at once.

Enters: an input and the modules of linear layers, PEFT's wrappers around them included; weights, names and what is saved stay theirs.
Leaves: their outputs. The base's products run in the type of the activations, adapters are rounded to it and keep their own type where
the optimizer sees them; nothing is cast to and fro, a frozen weight costs no product of its own, and an input that can be computed again
from what is kept anyway (`kept`) is not kept. The plain twins are the modules' own `forward`. Source of the arithmetic: Hu et al. 2021,
arXiv 2106.09685.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from burnish.models.fast import kernels

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One linear layer: weight [out, in] ([in, out] where `turned`, as GPT-2 has it), bias, and the adapter's A, B and scale, if any."""

    weight: Any
    bias: Any
    turned: bool = False
    a: Any = None
    b: Any = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """How a tensor is computed again in the backward pass: from tensors that others keep anyway.

    "norm": (x, weight, scale) as `kernels.norm_again` takes them; "silu" and "gelu": (gate, up).
    """

    kind: str
    tensors: tuple[Any, ...]

    def again(self, dtype: torch.dtype) -> Any:
        """Return the tensor, its places in rows."""
        if self.kind == "norm":
            x_NH, weight_H, scale_N = self.tensors
            return kernels.norm_again(x_NH, weight_H, scale_N, dtype)
        gate_NH, up_NH = self.tensors
        return kernels.gate_forward(self.kind, gate_NH, up_NH)


def read_part(module: Any) -> Part | None:
    """Return what a module computes, None where it is another than this file knows: quantised weights, DoRA, dropout, several adapters."""
    import torch
    from transformers.pytorch_utils import Conv1D

    adapter: dict[str, Any] = {}
    if hasattr(module, "base_layer"):
        read = _adapter(module)
        if read is None:
            return None
        adapter, module = read, module.base_layer
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)  # a quantised layer has one of its own
    if type(module) not in (torch.nn.Linear, Conv1D) or hooked:
        return None
    if "forward" in vars(module):  # a quantised weight is made anew by a function of its own
        return None
    return Part(module.weight, module.bias, turned=type(module) is Conv1D, **adapter)


def _adapter(module: Any) -> dict[str, Any] | None:
    """Return A, B and scale of a PEFT layer's adapter, nothing where it is switched off or folded in; None where it is of another kind."""
    from peft.tuners.lora.layer import Linear

    if type(module) is not Linear or (module.disable_adapters and module.merged):
        return None
    if module.disable_adapters or module.merged:
        return {}
    active = [name for name in module.active_adapters if name in module.lora_A]
    if not active:
        return {}
    name = active[0]
    dropout, b = module.lora_dropout[name], module.lora_B[name]
    if len(active) > 1 or name in module.lora_variant or b.bias is not None or (getattr(dropout, "p", 0.0) and module.training):
        return None
    return {"a": module.lora_A[name].weight, "b": b.weight, "scale": float(module.scaling[name])}


def read_parts(modules: Sequence[Any]) -> list[Part] | None:
    """Return what several modules compute, None where any of them is of another kind."""
    parts = [read_part(module) for module in modules]
    return None if any(part is None for part in parts) else [part for part in parts if part is not None]


def activation_type(x: torch.Tensor) -> torch.dtype:
    """Return the type that products are computed in: under autocast its own, else that of the input."""
    import torch

    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def project(x: torch.Tensor, parts: Sequence[Part]) -> tuple[torch.Tensor, ...]:
    """Return the output of each layer, [..., out], for one input [..., in]."""
    kept: Kept | None = getattr(x, "kept", None)
    dtype = activation_type(x)
    if kept is not None and x.dtype != dtype:
        kept = None
    tensors = [one for part in parts for one in (part.weight, part.bias, part.a, part.b)]
    facts = [(part.turned, part.scale) for part in parts]
    source = (*(kept.tensors if kept is not None else ()), None, None, None)[:3]
    return _project_class().apply(x, dtype, facts, kept.kind if kept is not None else "", *source, *tensors)


@cache
def _project_class() -> Any:
    """Return the autograd function; made on first use, because torch is not imported with the package."""
    import torch
    from torch.autograd.function import once_differentiable

    class Project(torch.autograd.Function):
        """y_i = x W_iᵀ + bias_i + scale_i x A_iᵀ B_iᵀ for layers i that share x; one product with all A at once."""

        @staticmethod
        def forward(ctx: Any, x: Any, dtype: Any, facts: Any, kind: str, *given: Any) -> Any:
            low_NH = x.detach().reshape(-1, x.shape[-1]).to(dtype)
            parts = _parts(facts, given[3:])
            a_RH = _stack(parts, dtype)
            inner_NR = None if a_RH is None else low_NH @ a_RH.t()
            outputs = []
            for part, place in zip(parts, _places(parts), strict=True):
                weight = part.weight.detach().to(dtype)
                bias = None if part.bias is None else part.bias.detach().to(dtype)
                y = torch.nn.functional.linear(low_NH, weight.t() if part.turned else weight, bias)
                if part.a is not None:
                    assert inner_NR is not None
                    y.addmm_(inner_NR[:, place], _scaled(part, dtype).t())
                outputs.append(y.view(*x.shape[:-1], -1))
            wanted = any(ctx.needs_input_grad[7 + 4 * i] or ctx.needs_input_grad[9 + 4 * i] for i in range(len(parts)))
            source = (None,) * 3 if not wanted else given[:3] if kind else (low_NH, None, None)
            ctx.save_for_backward(*source, inner_NR, *given[3:])
            ctx.facts, ctx.kind, ctx.dtype, ctx.shape, ctx.into = facts, kind, dtype, x.shape, x.dtype
            return tuple(outputs)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *gradients: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            saved = ctx.saved_tensors
            parts, inner_NR, dtype = _parts(ctx.facts, saved[4:]), saved[3], ctx.dtype
            needed = ctx.needs_input_grad
            above = [one.reshape(-1, one.shape[-1]).to(dtype) for one in gradients]
            input_NH = None
            if any(needed[7 + 4 * i] or needed[9 + 4 * i] for i in range(len(parts))):  # a weight or an A that moves
                kept = Kept(ctx.kind, tuple(one for one in saved[:3] if one is not None))
                input_NH = kept.again(dtype) if ctx.kind else saved[0]
            return _gradients(ctx, parts, above, inner_NR, input_NH)

    return Project


def _gradients(ctx: Any, parts: Sequence[Part], above: Sequence[Any], inner_NR: Any, input_NH: Any) -> tuple[Any, ...]:
    """Return the gradients of all that `Project` was given, None for what needs none."""
    import torch

    needed, dtype = ctx.needs_input_grad, ctx.dtype
    scaled = [None if part.b is None else _scaled(part, dtype) for part in parts]
    pushed = [gradient @ b for gradient, b in zip(above, scaled, strict=True) if b is not None]
    pushed_NR = (pushed[0] if len(pushed) == 1 else torch.cat(pushed, 1)) if pushed else None
    a_gradient_RH = None
    if pushed_NR is not None and any(needed[9 + 4 * i] for i in range(len(parts))):
        a_gradient_RH = pushed_NR.t() @ input_NH
    into_NH, found = None, []
    for i, (part, gradient, place) in enumerate(zip(parts, above, _places(parts), strict=True)):
        weight_moves, bias_moves, a_moves, b_moves = needed[7 + 4 * i : 11 + 4 * i]
        if needed[0]:
            weight = part.weight.detach().to(dtype)
            weight = weight.t() if part.turned else weight
            into_NH = gradient @ weight if into_NH is None else into_NH.addmm_(gradient, weight)
        moved = None
        if weight_moves:
            moved = (input_NH.t() @ gradient if part.turned else gradient.t() @ input_NH).to(part.weight.dtype)
        found += [
            moved,
            gradient.sum(0, dtype=torch.promote_types(dtype, torch.float32)).to(part.bias.dtype) if bias_moves else None,
            a_gradient_RH[place].to(part.a.dtype) if a_moves and a_gradient_RH is not None else None,
            (gradient.t() @ inner_NR[:, place]).to(part.b.dtype).mul_(part.scale) if b_moves else None,
        ]
    if into_NH is not None and pushed_NR is not None:
        into_NH.addmm_(pushed_NR, _stack(parts, dtype))
    into = None if into_NH is None else into_NH.view(ctx.shape).to(ctx.into)
    return (into, None, None, None, None, None, None, *found)


def _parts(facts: Sequence[tuple[bool, float]], tensors: Sequence[Any]) -> list[Part]:
    """Return the layers from their tensors in a row."""
    fours = [tensors[4 * i : 4 * i + 4] for i in range(len(facts))]
    return [Part(w, bias, turned, a, b, scale) for (w, bias, a, b), (turned, scale) in zip(fours, facts, strict=True)]


def _stack(parts: Sequence[Part], dtype: torch.dtype) -> Any:
    """Return the A of all layers below each other, [R, in], None where there are none."""
    import torch

    found = [part.a.detach().to(dtype) for part in parts if part.a is not None]
    return None if not found else found[0] if len(found) == 1 else torch.cat(found)


def _places(parts: Sequence[Part]) -> list[slice]:
    """Return where each layer's A stands among all of them."""
    found, place = [], 0
    for part in parts:
        rank = 0 if part.a is None else len(part.a)
        found.append(slice(place, place + rank))
        place += rank
    return found


def _scaled(part: Part, dtype: torch.dtype) -> Any:
    """Return scale B, rounded once."""
    return (part.b.detach() * part.scale).to(dtype)
