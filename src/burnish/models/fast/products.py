"""What linear layers, norms and gates compute for the few rows of a step of generation, weights laid out for them where that pays.

Enters: modules of a network. Leaves: functions from rows to rows: a plain linear layer and plain low-rank adapters directly, anything else by
calling the module. Used by `slots`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from burnish.models.fast import kernels
from burnish.models.fast.switch import Switch, stacked, switched

if TYPE_CHECKING:
    import torch

    from burnish.models.load import Model

LARGEST = 2_000_000_000
"""Bytes of weights of which a second copy is made at most."""


def can_pack(model: Model) -> bool:
    """Return whether weights can be laid out for few rows: on a CPU with oneDNN, and where a copy of them is not too much."""
    import torch

    there = hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    on_cpu = model.device.type == "cpu" and platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.network.parameters())
    # Float32 weights whose products are bfloat16 are rounded at each call: the layout of float32 would undo that.
    exact = model.weight_dtype == torch.bfloat16 or torch.get_float32_matmul_precision() == "highest"
    return there and on_cpu and exact and size <= LARGEST


def _linear(module: Any, pack: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what a plain linear layer computes, its weights laid out for `pack` rows unless that is 0.

    oneDNN lays weights out anew at each call otherwise, which for few rows takes as long as the product.
    """
    import torch

    weight, bias = module.weight.detach(), module.bias
    if not pack:
        return lambda states: torch.nn.functional.linear(states, weight, bias)
    return _laid(weight, bias, pack)


def _laid(weight: torch.Tensor, bias: torch.Tensor | None, pack: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the product with a weight that is laid out for `pack` rows."""
    import torch

    with torch.no_grad():
        laid = torch.ops.mkldnn._reorder_linear_weight(weight, pack)
    return lambda states: torch.ops.mkldnn._linear_pointwise(states, laid, bias, "none", [], "")


def product(module: Any, pack: int, switch: Switch | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what a linear layer computes: a plain one and a plain LoRA directly, anything else by calling the module.

    With a `switch` the layer computes for each row with the adapter that the switch gives it.
    """
    import torch

    if _is_plain(module):
        return _linear(module, pack)
    if switch is not None:
        base = module.get_base_layer()
        stack = stacked(module, switch.names, base.weight.dtype) if _is_plain(base) else None
        assert stack is not None, "an adapter that cannot be chosen by row was let in"
        return switched(_linear(base, pack), stack, switch)
    found = _plain_lora(module)
    if found is None:
        return module
    base, down_RH, up_HR = found
    below = _linear(base, pack)

    def adapted(states_BH: torch.Tensor) -> torch.Tensor:
        return torch.addmm(below(states_BH), torch.nn.functional.linear(states_BH, down_RH), up_HR.t())

    return adapted


def together(modules: Sequence[Any], pack: int, switch: Switch | None = None) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """Return what several linear layers compute of the same rows: at once where all are plain, or all plain LoRA, and laid out anew anyway."""
    plain = all(_is_plain(module) for module in modules)
    adapters = [] if plain or switch is not None else [found for module in modules if (found := _plain_lora(module)) is not None]
    bases = list(modules) if plain else [base for base, _, _ in adapters]
    if not pack or len(bases) < len(modules) or len({base.bias is None for base in bases}) > 1:
        products = [product(module, pack, switch) for module in modules]
        return lambda states: tuple(one(states) for one in products)
    whole, widths = _whole(bases, pack), [base.out_features for base in bases]
    return _adapted(whole, widths, adapters) if adapters else lambda states: whole(states).split(widths, dim=-1)


def _whole(bases: Sequence[Any], pack: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the product with the weights of several plain layers below each other."""
    import torch

    with torch.no_grad():
        weight = torch.cat([base.weight.detach() for base in bases])
        bias = None if bases[0].bias is None else torch.cat([base.bias.detach() for base in bases])
    return _laid(weight, bias, pack)


def _adapted(
    whole: Callable[[torch.Tensor], torch.Tensor], widths: list[int], adapters: Sequence[tuple[Any, torch.Tensor, torch.Tensor]]
) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """Return the products of several layers with a low-rank adapter each, whose first halves are one product too."""
    import torch

    down_RH = torch.cat([down for _, down, _ in adapters])
    ranks = [len(down) for _, down, _ in adapters]
    up_LRH = [up.t().contiguous() for _, _, up in adapters]

    def products(states_BH: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts = whole(states_BH).split(widths, dim=-1)
        inner_LBR = torch.nn.functional.linear(states_BH, down_RH).split(ranks, dim=-1)
        for part, inner_BR, up_RH in zip(parts, inner_LBR, up_LRH, strict=True):
            part.addmm_(inner_BR, up_RH)
        return parts

    return products


def norm(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what an RMS norm of a Llama-like network computes, by the loops where they run."""
    weight, epsilon = module.weight.detach().float().contiguous(), module.variance_epsilon

    def normed(states_BH: torch.Tensor) -> torch.Tensor:
        if not kernels.running(states_BH):
            return module(states_BH)
        return kernels.norm_forward(states_BH, weight, epsilon, states_BH.dtype)[0]

    return normed


def gate(activation: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return what joins the two products of a gated layer, by the loops where they run and know the activation."""
    import torch

    known = type(activation) is torch.nn.SiLU or getattr(activation, "__name__", type(activation).__name__) in (
        "silu",
        "SiLUActivation",
    )

    def gated(gate_BF: torch.Tensor, up_BF: torch.Tensor) -> torch.Tensor:
        return kernels.gate_forward("silu", gate_BF, up_BF) if known and kernels.running(gate_BF) else activation(gate_BF) * up_BF

    return gated


def _plain_lora(module: Any) -> tuple[Any, torch.Tensor, torch.Tensor] | None:
    """Return base layer, A and scaled B in the base's dtype, of a LoRA layer with one adapter at work and nothing special about it."""
    if not hasattr(module, "lora_A"):
        return None
    from peft.tuners.lora.layer import Linear

    plain: Any = Linear
    base, active = module.get_base_layer(), module.active_adapters
    if type(module) is not plain or not _is_plain(base) or len(active) != 1 or active[0] not in module.lora_A:
        return None
    name = active[0]
    if (
        module.disable_adapters
        or module.merged
        or name in getattr(module, "lora_variant", {})
        or module.lora_B[name].bias is not None
    ):
        return None
    dtype = base.weight.dtype
    down_RH = module.lora_A[name].weight.detach().to(dtype)
    return base, down_RH, (module.scaling[name] * module.lora_B[name].weight.detach()).to(dtype)


def _is_plain(module: Any) -> bool:
    """Return whether a module is torch's linear layer, nothing in it replaced and nothing hung onto it."""
    import torch

    return type(module) is torch.nn.Linear and not ("forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks)
