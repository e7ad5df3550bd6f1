"""GGUF: the weights and figures of a network under the names that llama.cpp knows.

Enters: a dense Hugging Face network of the Llama, Mistral, Qwen or Gemma family. Leaves: metadata and tensors written to a `GGUFWriter`. What
the file format cannot say of an architecture is refused with the reason, before anything is written.

Where the two worlds differ: llama.cpp turns neighbouring pairs of a head's vector in Llama models, so that rows of q and k change places;
Gemma's norms multiply by 1 + weight, and the file holds the sum; Llama 3's stretched rotations are a tensor of factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.errors import ModelError

Facts = Callable[[Any, Any, str], None]


@dataclass(frozen=True, slots=True)
class Family:
    """How one kind of network is said in GGUF: the architecture's name there, and what is done to its tensors."""

    architecture: str
    turns_pairs: bool = False
    norm_offset: float = 0.0


FAMILIES: dict[str, Family] = {
    "llama": Family("llama", turns_pairs=True),
    "mistral": Family("llama", turns_pairs=True),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "gemma": Family("gemma", norm_offset=1.0),
    "gemma2": Family("gemma2", norm_offset=1.0),
    "gemma3_text": Family("gemma3", norm_offset=1.0),
}
"""By transformers' name of the model type."""

CONVERTER = (
    "llama.cpp's own converter may know it: export it with --to merged, then python convert_hf_to_gguf.py FOLDER --outfile model.gguf "
    "--outtype f16"
)


def refuse_network(config: Any) -> None:
    """Raise ModelError where a network cannot be said in GGUF as it is, with what is in the way."""
    kind = config.model_type
    if kind not in FAMILIES:
        raise ModelError(f"a network of the type {kind!r} is not written as GGUF here (known: {', '.join(FAMILIES)}). {CONVERTER}")
    rope = dict(getattr(config, "rope_parameters", None) or {})
    ropes = [part for part in rope.values() if isinstance(part, Mapping)] or [rope]
    odd = [str(part.get("rope_type")) for part in ropes if part.get("rope_type", "default") not in ("default", "linear", "llama3")]
    problem = ""
    if odd:
        problem = f"its positions are stretched by {odd[0]!r}, which is not written here"
    elif getattr(config, "mlp_bias", False) or (kind in ("qwen3", "gemma", "gemma2", "gemma3_text") and config.attention_bias):
        problem = "it has biases that llama.cpp has no place for"
    elif kind in ("gemma2", "gemma3_text") and not _usual_scale(config):
        problem = f"it scales attention by {config.query_pre_attn_scalar}, and llama.cpp by the width of a head"
    elif kind in ("gemma2", "gemma3_text") and _periods(config) is None:
        problem = "its sliding layers follow each other in another order than llama.cpp takes them to"
    elif kind == "gemma3_text" and (config.final_logit_softcapping or config.attn_logit_softcapping):
        problem = "it caps logits, which llama.cpp does not do for Gemma 3"
    elif kind == "gemma3_text" and _rope(config, "sliding_attention").get("rope_theta", 10000.0) != 10000.0:
        problem = "its sliding layers turn at another rate than llama.cpp takes for granted (10000)"
    elif kind in ("qwen2", "qwen3") and getattr(config, "use_sliding_window", False):
        problem = "its attention slides, which llama.cpp does not do for Qwen"
    elif _activation(config) not in (("gelu_pytorch_tanh",) if kind.startswith("gemma") else ("silu",)):
        problem = f"its activation is {_activation(config)!r}"
    if problem:
        raise ModelError(f"{problem}. {CONVERTER}")


def _activation(config: Any) -> str:
    return str(getattr(config, "hidden_activation", None) or config.hidden_act)


def _usual_scale(config: Any) -> bool:
    return math.isclose(float(config.query_pre_attn_scalar), float(_head_dim(config)))


def _periods(config: Any) -> int | None:
    """Return after how many layers one with full attention comes: 2 in Gemma 2, 6 in Gemma 3; None where it is otherwise."""
    period = 2 if config.model_type == "gemma2" else 6
    wanted = ["full_attention" if (layer + 1) % period == 0 else "sliding_attention" for layer in range(config.num_hidden_layers)]
    return period if list(config.layer_types) == wanted else None


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _rope(config: Any, layers: str = "full_attention") -> Mapping[str, Any]:
    """Return how positions turn, in layers with full attention where those differ."""
    rope: Any = getattr(config, "rope_parameters", None) or {"rope_theta": getattr(config, "rope_theta", 10000.0)}
    return rope.get(layers, rope)


def context_of(config: Any) -> int:
    """Return the longest input; of a Mistral whose attention slides only its window, which llama.cpp would not slide."""
    window = getattr(config, "sliding_window", None) if config.model_type == "mistral" else None
    return min(int(config.max_position_embeddings), int(window or config.max_position_embeddings))


# ---------------------------------------------------------------------------------------------------------------------- metadata


def write_figures(writer: Any, config: Any, rows: int) -> None:
    """Write the figures of a network; `rows` is how many vectors its token table has."""
    import gguf

    writer.add_context_length(context_of(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(_head_dim(config))
    writer.add_value_length(_head_dim(config))
    writer.add_vocab_size(rows)
    rope = _rope(config)
    writer.add_rope_dimension_count(_head_dim(config))
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if config.model_type == "gemma2":
        writer.add_attn_logit_softcapping(float(config.attn_logit_softcapping or 0.0))
        writer.add_final_logit_softcapping(float(config.final_logit_softcapping or 0.0))
    if config.model_type in ("gemma2", "gemma3_text"):
        writer.add_sliding_window(int(config.sliding_window))


# ----------------------------------------------------------------------------------------------------------------------- tensors


def tensors(network: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (GGUF name, float32 weight) for each tensor of a dense network, one at a time.

    The output head is left out where it is the token table itself, not merely where the configuration says so: an adapter may have parted
    them. Raises ModelError for a tensor that has no name in GGUF.
    """
    import gguf

    config = network.config
    family = FAMILIES[config.model_type]
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family.architecture)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    weights = network.state_dict()
    tied = same_table(network)
    factors = stretched(config)
    if factors is not None:
        yield "rope_freqs.weight", factors
    for name, weight in weights.items():
        if name == "lm_head.weight" and tied:
            continue
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise ModelError(f"its tensor {name} has no place in GGUF's {family.architecture!r}. {CONVERTER}")
        yield known, _as_there(name, weight.detach().float().cpu().numpy(), config, family)


def same_table(network: Any) -> bool:
    """Return whether the output head is the token table: the same memory, or the same numbers."""
    import torch

    table, head = network.get_input_embeddings().weight, network.get_output_embeddings().weight
    return head is table or head.data_ptr() == table.data_ptr() or (head.shape == table.shape and torch.equal(head, table))


def _as_there(name: str, weight: np.ndarray, config: Any, family: Family) -> np.ndarray:
    """Return a weight as the file holds it."""
    if family.turns_pairs and (".q_proj." in name or ".k_proj." in name):
        heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
        halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
    return weight + np.float32(family.norm_offset) if name.endswith("norm.weight") else weight


def stretched(config: Any) -> np.ndarray | None:
    """Return by what Llama 3's rotations are divided, [head_dim / 2]; None for networks that do not stretch them.

    Source: the Llama 3.1 model card's `apply_scaling`; low frequencies are divided by the factor, those between are blended.
    """
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    turns = 1.0 / float(rope["rope_theta"]) ** (np.arange(0, _head_dim(config), 2, dtype=np.float64) / _head_dim(config))
    wave = 2 * math.pi / turns
    low, high, old = (
        float(rope["low_freq_factor"]),
        float(rope["high_freq_factor"]),
        float(rope["original_max_position_embeddings"]),
    )
    smooth = np.clip((old / wave - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1.0 - smooth) / float(rope["factor"]) + smooth)).astype(np.float32)
