"""Low-rank parts that were put into the base weights before training, and how they are written out again.

Enters: a PEFT network whose plain network carries `folded`: for a layer's name the pairs (A, B) whose product B A was added to
its weight. Leaves: an adapter folder relative to the ORIGINAL base, of the sum of the ranks, that opens with PEFT's own loader; and, from
such a folder, the network as it was. PiSSA takes its first adapter out of the base so; an adapter that a model came with is put
in so, before a second one is trained on top.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.errors import ModelError

if TYPE_CHECKING:
    import torch

PREFIX = "base_model.model."
"""What PEFT puts before the names of the plain network's layers."""


def folded_in(network: Any) -> dict[str, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Return {layer: pairs (A [rank, in], B [out, rank])} that its weights hold beside the original base; empty for most."""
    return getattr(plain(network), "folded", {})


def plain(network: Any) -> Any:
    """Return the Hugging Face network inside PEFT's wrapper."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def lora_layers(network: Any) -> dict[str, Any]:
    """Return {layer: PEFT's LoRA module} of the plain network's adapted layers."""
    return {
        name: module for name, module in plain(network).named_modules() if hasattr(module, "lora_A") and "default" in module.lora_A
    }


def pairs(network: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return {layer: (A, B)} of a LoRA adapter in float32, its scale put into B, so that B A is what it adds to a weight."""
    found = {}
    for name, layer in lora_layers(network).items():
        a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
        found[name] = (a.float().clone(), b.float() * layer.scaling["default"])
    return found


def is_plain_lora(network: Any) -> bool:
    """Return whether the adapter is nothing but products added to dense weights: no DoRA, no trained heads or vectors, no biases."""
    config = network.peft_config["default"]
    return (
        config.peft_type == "LORA"
        and not getattr(plain(network), "quantised", None)
        and not config.use_dora
        and config.bias == "none"
        and not config.modules_to_save
        and not config.trainable_token_indices
    )


def take_in(network: Any) -> Any:
    """Put a plain LoRA adapter into the base weights, in float32, and return the plain network, which remembers it.

    Raises ModelError for an adapter that is more than a LoRA.
    """
    if not is_plain_lora(network):
        raise ModelError(
            "The model is an adapter that cannot be written as a plain LoRA, so another adapter on top of it could not be saved with it. "
            "Merge it first (burnish merge), or set technique.name = 'full'."
        )
    held = {name: [pair] for name, pair in pairs(network).items()}
    network = network.unload()
    for name, parts in held.items():
        add(network.get_submodule(name), parts[0])
    network.folded = {**getattr(network, "folded", {}), **held}
    return network


def merged_in(network: Any) -> Any:
    """Return the plain network with its adapter in its weights; ModelError for one of virtual positions, which no weight can hold."""
    if network.active_peft_config.is_prompt_learning:
        raise ModelError(
            "The model is an adapter of virtual positions, which cannot be merged, so it cannot be tuned any further by another technique. "
            "Begin with its base."
        )
    from burnish.techniques.quantised import dequantise, facts_of

    base = plain(network)
    if str((facts_of(base) or {}).get("kind", "")).startswith("bitsandbytes"):
        raise ModelError("The model is an adapter on a base quantised by bitsandbytes. Merge it first (burnish merge).")
    dequantise(base, base.dtype)
    return network.merge_and_unload()


def add(layer: Any, pair: tuple[torch.Tensor, torch.Tensor], *, sign: float = 1.0) -> None:
    """Add sign * B A to a layer's weight; the sum is made in float32 and rounded once."""
    import torch

    a, b = (part.to(layer.weight.device) for part in pair)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.float() + sign * oriented(layer, b @ a))


def oriented(layer: Any, weight: torch.Tensor) -> torch.Tensor:
    """Return an [out, in] matrix as the layer stores it: GPT-2's layers keep [in, out]."""
    from transformers.pytorch_utils import Conv1D

    return weight.t() if isinstance(layer, Conv1D) else weight


def save(network: Any, folder: Path) -> None:
    """Write the adapter; what was folded into the base stands in it as further ranks, so that it belongs to the original base."""
    if not folded_in(network):
        # Of resized tables the new rows alone are saved, as what is trained; PEFT would add the whole tables.
        network.save_pretrained(str(folder), save_embedding_layers=False)
        return
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    held, layers = folded_in(network), lora_layers(network)
    config = copy.deepcopy(network.peft_config["default"])
    state = {key: tensor.contiguous() for key, tensor in get_peft_model_state_dict(network, save_embedding_layers=False).items()}
    ranks, alphas = {}, {}
    for name in dict.fromkeys([*layers, *held]):
        scale = layers[name].scaling["default"] if name in layers else 1.0
        a, b = joined(state, name, held.get(name, []), scale)
        state[f"{PREFIX}{name}.lora_A.weight"], state[f"{PREFIX}{name}.lora_B.weight"] = a, b
        ranks[name], alphas[name] = len(a), scale * len(a)
    config.r, config.lora_alpha = max(ranks.values()), max(alphas.values())
    config.rank_pattern, config.alpha_pattern, config.use_rslora = ranks, alphas, False
    config.target_modules, config.init_lora_weights, config.inference_mode = sorted(ranks), True, True
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.cpu() for key, tensor in state.items()}, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def joined(
    state: Any, name: str, parts: list[tuple[torch.Tensor, torch.Tensor]], scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A [ranks, in] and B [out, ranks] of a layer: the trained ranks as they are, then the folded ones divided by the scale."""
    import torch

    key = f"{PREFIX}{name}.lora_{{}}.weight"
    trained = [(state[key.format("A")], state[key.format("B")])] if key.format("A") in state else []
    every = [*trained, *((a.to(state_device(state)), b.to(state_device(state)) / scale) for a, b in parts)]
    return torch.cat([a for a, _ in every]).contiguous(), torch.cat([b for _, b in every], dim=1).contiguous()


def state_device(state: Any) -> torch.device:
    """Return where a state's tensors are."""
    return next(iter(state.values())).device


def restore(network: Any, folder: Path) -> None:
    """Put what `save` wrote back: the trained ranks bit for bit, and what was folded into the base as it was then.

    Another machine's decomposition may differ in signs from the one saved, so the base is corrected by the difference.
    Raises ModelError where the folder holds other layers or ranks than the model.
    """
    from peft import set_peft_model_state_dict
    from peft.utils import load_peft_weights

    state, held, base = load_peft_weights(str(folder), device="cpu"), folded_in(network), plain(network)
    layers = lora_layers(network)
    for name, parts in held.items():
        a, b = (state.get(f"{PREFIX}{name}.lora_{side}.weight") for side in "AB")
        own = layers[name].r["default"] if name in layers else 0
        if a is None or b is None or len(a) != own + sum(len(part) for part, _ in parts):
            raise ModelError(f"{folder}: the saved weights are not this model's ({name} differs).")
        scale = layers[name].scaling["default"] if name in layers else 1.0
        state |= {f"{PREFIX}{name}.lora_A.weight": a[:own], f"{PREFIX}{name}.lora_B.weight": b[:, :own]}
        if name not in layers:
            del state[f"{PREFIX}{name}.lora_A.weight"], state[f"{PREFIX}{name}.lora_B.weight"]
        layer = layers[name].get_base_layer() if name in layers else base.get_submodule(name)
        held[name] = _refolded(layer, parts, a[own:], b[:, own:] * scale, scale)
    unknown = list(set_peft_model_state_dict(network, state).unexpected_keys)
    if unknown:
        raise ModelError(f"{folder}: the saved weights are not this model's ({', '.join(unknown[:3])} differ).")


def _refolded(layer: Any, parts: list[Any], a: torch.Tensor, b: torch.Tensor, scale: float) -> list[Any]:
    """Return the parts that the layer's weight holds: those that it has, or else the saved ones, put in the place of these."""
    import torch

    present_a = torch.cat([part.to(a.device) for part, _ in parts])
    present_b = torch.cat([(part.to(b.device) / scale) * scale for _, part in parts], dim=1)
    if torch.equal(present_a, a) and torch.equal(present_b, b):
        return parts
    add(layer, (present_a, present_b), sign=-1.0)
    add(layer, (a, b))
    return [(a, b)]
