"""A frozen base in 4 or 8 bits through bitsandbytes, which has quick kernels for GPUs.

Enters: a Hugging Face network. Leaves: the same model opened again from where it came, quantised while it is read. Optional: where the
package is missing, an error says how to get it, and the tests of this file skip.
"""

from __future__ import annotations

import importlib.util
import types
from typing import Any

from burnish.errors import ModelError

INSTALL = "pip install 'burnish[gpu]'"


def reopened(network: Any, *, kind: str, double: bool) -> Any:
    """Return the network's base quantised by bitsandbytes: "bitsandbytes-nf4" or "bitsandbytes-int8".

    Raises ModelError where the package is missing or the model cannot be read so.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        plain = kind.removeprefix("bitsandbytes-")
        raise ModelError(
            f"technique.base = {kind!r} needs the package bitsandbytes, which is not installed. Install it with: {INSTALL} - or set "
            f"technique.base = {plain!r}, which needs nothing."
        )
    from transformers import BitsAndBytesConfig

    weight = next(network.parameters())
    if kind == "bitsandbytes-nf4":
        settings = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double, bnb_4bit_compute_dtype=weight.dtype
        )
    else:
        settings = BitsAndBytesConfig(load_in_8bit=True)
    try:
        opened = type(network).from_pretrained(
            network.config.name_or_path,
            quantization_config=settings,
            dtype=weight.dtype,
            device_map={"": str(weight.device)},
            trust_remote_code=False,
            use_safetensors=True,
        )
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"technique.base = {kind!r}: bitsandbytes could not open the model. ({text})") from error
    keep_gradients(opened)
    same_in_evaluation(opened)
    opened.quantised = {"kind": kind, "double": double}
    return opened


def keep_gradients(network: Any) -> None:
    """Keep bitsandbytes from packing its 4-bit layers anew in evaluation, after which they would pass no gradient.

    On a CPU with AVX512-BF16, one forward pass in evaluation mode changes the layers for good; without the flag they stay as they are.
    """
    for layer in network.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def same_in_evaluation(network: Any) -> None:
    """Let 8-bit layers on a CPU compute in evaluation what they compute in training: products with the weights that they hold.

    There, bitsandbytes rounds the activations to 8 bits too, but in evaluation alone: what the policy says before step 0, which is read in
    evaluation, would not be what the first step finds, and a model would be measured as another than the one that was trained.
    """
    for layer in network.modules():
        if type(layer).__name__ == "Linear8bitLt" and layer.weight.device.type == "cpu":
            layer.forward = types.MethodType(_as_in_training, layer)


def _as_in_training(layer: Any, hidden: Any) -> Any:
    """Return what an 8-bit layer returns in training."""
    from bitsandbytes import matmul  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]  (it is optional)

    if layer.weight.CB is not None:
        layer.init_8bit_state()
    layer.state.is_training = True
    bias = None if layer.bias is None else layer.bias.to(hidden.dtype)
    return matmul(hidden, layer.weight, bias=bias, state=layer.state)
