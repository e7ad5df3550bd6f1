"""What linear layers compute for the few rows of a step of generation, weights laid out for them where that pays.

Enters: modules of a network. Leaves: functions from rows to rows: a plain linear layer and plain low-rank adapters directly, anything else by
calling the module. Used by `slots`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
