"""A frozen base in 4 or 8 bits, in plain torch, so that it runs wherever torch does.

Enters: a Hugging Face network. Leaves: the same network whose linear layers hold codes and scales instead of weights, make the weight anew
in each pass and pass gradients to their input alone; and back. The head and the token vectors stay as they are. bitsandbytes
is quicker on a GPU (`techniques.bitsandbytes`).
"""

from __future__ import annotations

import json
import types
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from burnish.errors import ModelError

if TYPE_CHECKING:
    import torch

Kind = Literal["nf4", "int8"]

BLOCK = 64
"""Weights that share a scale."""

SCALE_BLOCK = 256
"""Scales that share a scale, with double quantisation."""

NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""The 16 levels of NormalFloat: means of neighbouring quantiles of a normal distribution. Source: Dettmers et al. 2023, 2305.14314, app. E."""

FACTS = "quantised.json"
"""How the base was quantised that an adapter was trained on, in the adapter's folder."""


def quantise(network: Any, *, kind: Kind, double: bool = True) -> int:
    """Quantise the network's linear layers in place, the output head left out, and return how many there are.

    "nf4": 4 bits, "int8": 8 bits, both with one scale for 64 weights; `double` stores the scales themselves in 8 bits (of nf4 alone,
    where they weigh). Source: Dettmers et al. 2023, arXiv 2305.14314. Raises ModelError for a network that is quantised already.
    """
    from burnish.techniques.low_rank import linear_layers

    if facts_of(network) is not None:
        raise ModelError("The model is quantised already. Start from its base in full precision.")
    layers = [network.get_submodule(name) for name in linear_layers(network)]
    import torch

    chosen = [layer for layer in layers if type(layer) is torch.nn.Linear and not layer.weight.is_meta]
    for layer in chosen:
        _quantise_layer(layer, kind, double and kind == "nf4")
    network.quantised = {"kind": kind, "double": double}
    return len(chosen)


def dequantise(network: Any, dtype: torch.dtype | None = None) -> int:
    """Give the quantised layers weights again, those that they computed with, and return how many there were; float32 unless told."""
    import torch

    count = 0
    for layer in network.modules():
        if hasattr(layer, "quantised_as"):
            weight = dense(layer).to(dtype or torch.float32)
            layer.weight = torch.nn.Parameter(weight, requires_grad=False)
            for name in [name for name in ("qweight", "scales", "scale_scales", "scale_mean") if name in layer._buffers]:
                del layer._buffers[name]
            del layer.forward, layer.quantised_as
            count += 1
    network.quantised = None
    return count


def facts_of(network: Any) -> dict[str, Any] | None:
    """Return how a network is quantised, as keyword arguments of `quantise`; None where it is not."""
    return getattr(network, "quantised", None)


def write_facts(network: Any, folder: Path) -> None:
    """Note in an adapter's folder how the base was quantised that it was trained on."""
    (folder / FACTS).write_text(json.dumps(facts_of(network)) + "\n", encoding="utf-8")


def quantise_as(network: Any, folder: Path) -> Any:
    """Return the network quantised as the adapter in this folder was trained, unchanged where that was not.

    Raises ModelError where the file is damaged.
    """
    path = folder / FACTS
    if not path.is_file():
        return network
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        kind, double = str(facts["kind"]), bool(facts["double"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} does not say how the base was quantised: {error}. Copy the adapter's folder again.") from error
    if kind.startswith("bitsandbytes"):
        from burnish.techniques.bitsandbytes import reopened

        return reopened(network, kind=kind, double=double)
    if kind not in ("nf4", "int8"):
        raise ModelError(f"{path}: kind = {kind!r} is not known. Expected nf4 or int8.")
    quantise(network, kind=kind, double=double)
    return network


def round_trip(weight: torch.Tensor, *, kind: Kind, double: bool = True) -> torch.Tensor:
    """Return a float32 weight as it comes back from being stored in 4 or 8 bits."""
    codes, scales = _pack(weight.float().flatten(), kind)
    if double and kind == "nf4":
        scales = _wide_scales(*_narrow_scales(scales))
    return _unpack(codes, scales, kind)[: weight.numel()].view(weight.shape)


def _quantise_layer(layer: Any, kind: Kind, double: bool) -> None:
    """Replace a linear layer's weight by codes and scales, and its forward by one that makes the weight anew."""
    weight = layer.weight.detach()
    codes, scales = _pack(weight.float().flatten(), kind)
    layer.quantised_as = (kind, double, weight.dtype)
    layer.register_parameter("weight", None)  # what reads it by mistake fails at once
    layer.register_buffer("qweight", codes)  # under this name PEFT looks for the device
    if double:
        small, scale_scales, mean = _narrow_scales(scales)
        layer.register_buffer("scales", small)
        layer.register_buffer("scale_scales", scale_scales)
        layer.register_buffer("scale_mean", mean)
    else:
        layer.register_buffer("scales", scales)
    layer.forward = types.MethodType(_forward, layer)


def _forward(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Return what a linear layer returns; the weight exists only during the call."""
    product = _product().apply(hidden, layer)
    return product if layer.bias is None else product + layer.bias.to(product.dtype)


def dense(layer: Any) -> torch.Tensor:
    """Return the weight [out, in] that a quantised layer computes with, in the dtype that it had."""
    kind, double, dtype = layer.quantised_as
    scales = _wide_scales(layer.scales, layer.scale_scales, layer.scale_mean) if double else layer.scales
    size = layer.out_features * layer.in_features
    return _unpack(layer.qweight, scales, kind)[:size].view(layer.out_features, layer.in_features).to(dtype)


@cache
def _product() -> Any:
    """Return the autograd function; made on first use, because torch is not imported with the package."""
    import torch

    class Product(torch.autograd.Function):
        """hidden times the layer's weight, which is made again for the backward pass instead of being kept."""

        @staticmethod
        def forward(ctx: Any, hidden: Any, layer: Any) -> Any:
            ctx.layer = layer
            return torch.nn.functional.linear(hidden, dense(layer).to(hidden.dtype))

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return gradients[0] @ dense(ctx.layer).to(gradients[0].dtype), None

    return Product


def _pack(values: torch.Tensor, kind: Kind) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes (uint8 with two values each, or int8) and float32 scales, one per block, of a flat float32 tensor."""
    import torch

    padded = torch.nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
    scales = padded.abs().amax(1).clamp(min=1e-12)
    shares = padded / scales[:, None]
    if kind == "int8":
        return (shares * 127).round().to(torch.int8).flatten(), scales
    levels = torch.tensor(NF4, device=values.device)
    codes = torch.bucketize(shares, (levels[1:] + levels[:-1]) / 2).to(torch.uint8).flatten()
    return codes[::2] << 4 | codes[1::2], scales


def _unpack(codes: torch.Tensor, scales: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Return the flat float32 values behind codes and scales."""
    import torch

    if kind == "int8":
        return (codes.view(-1, BLOCK).float() * (scales[:, None] / 127)).flatten()
    levels = torch.tensor(NF4, device=codes.device)
    both = torch.stack([codes >> 4, codes & 15], dim=1).flatten()
    return (levels[both.int()].view(-1, BLOCK) * scales[:, None]).flatten()


def _narrow_scales(scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return scales in 8 bits around their mean, the scales of these, and the mean; whole numbers, where the paper has 8-bit floats."""
    import torch

    mean = scales.mean()
    padded = torch.nn.functional.pad(scales - mean, (0, -len(scales) % SCALE_BLOCK)).view(-1, SCALE_BLOCK)
    second = padded.abs().amax(1).clamp(min=1e-12)
    return (padded / second[:, None] * 127).round().to(torch.int8).flatten()[: len(scales)], second, mean


def _wide_scales(small: torch.Tensor, second: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return float32 scales from their 8-bit form."""
    return small.float() * (second.repeat_interleave(SCALE_BLOCK)[: len(small)] / 127) + mean
