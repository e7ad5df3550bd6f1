"""GGUF, read again: a plain runtime of its own, that believes nothing but the file.

Enters: the path of a GGUF file and tokens. Leaves: the text's tokens and the logits that a faithful runtime computes from it: weights
dequantised under their GGUF names, figures from the file's metadata, words divided by the rule that it names. Nothing here is shared with what
wrote the file, and no Hugging Face network is used, so that a fault in writing cannot cancel itself out. Slow, and only for comparing.

Sources: the GGUF specification; llama.cpp's graphs of llama, qwen2, qwen3, gemma, gemma2 and gemma3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.errors import ModelError
from burnish.export.gguf_words import cutter

if TYPE_CHECKING:
    import torch

PAIRED = ("llama",)
"""Architectures that turn neighbouring pairs; the others turn a vector's first half against its second."""

SLIDING = {"gemma2": 2, "gemma3": 6}
"""Architectures in which every so-manieth layer sees everything and the others see a window."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A GGUF file: its metadata by key, and its tensors by name, still on the disk."""

    facts: dict[str, Any]
    parts: dict[str, Any]

    @classmethod
    def of(cls, path: Path) -> Opened:
        """Open a file."""
        from gguf import GGUFReader

        reader = GGUFReader(str(path))
        return cls({key: field.contents() for key, field in reader.fields.items()}, {part.name: part for part in reader.tensors})

    @property
    def architecture(self) -> str:
        """The name of the architecture."""
        return self.facts["general.architecture"]

    def figure(self, key: str, default: Any = None) -> Any:
        """Return a figure of the architecture."""
        return self.facts.get(f"{self.architecture}.{key}", default)

    def weight(self, name: str) -> torch.Tensor:
        """Return a tensor in float32."""
        import gguf
        import torch

        part = self.parts[name]
        return torch.from_numpy(gguf.dequantize(part.data, part.tensor_type).astype(np.float32))

    def tokenizer(self) -> Callable[[str], list[int]]:
        """Return what gives the tokens of a text, marks in it taken as such, nothing put before or after it."""
        return cutter(self.facts)

    def template_teller(self) -> Any:
        """Return what `render_prompt` needs of a tokenizer: the template and the special tokens, from the file alone."""
        tokens = self.facts["tokenizer.ggml.tokens"]
        names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
        found = {
            name: tokens[self.facts[key]]
            for short, name in names.items()
            if (key := f"tokenizer.ggml.{short}_token_id") in self.facts
        }
        template = self.facts.get("tokenizer.chat_template", "")
        return SimpleNamespace(get_chat_template=lambda tools=None: template, special_tokens_map=found)


def logits(opened: Opened, rows: Sequence[np.ndarray], places: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the logits [P, V] at the places of each row of tokens, computed layer by layer so that one layer is in memory at a time."""
    import torch

    if opened.architecture not in ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"):
        raise ModelError(f"the file's architecture {opened.architecture!r} cannot be computed here.")
    table_VH = opened.weight("token_embd.weight")
    with torch.inference_mode():
        states = [table_VH[torch.as_tensor(row)] * _embedding_scale(opened) for row in rows]
        for layer in range(opened.figure("block_count")):
            states = _layer(opened, layer, states)
        head_VH = opened.weight("output.weight") if "output.weight" in opened.parts else table_VH
        norm_H, cap = opened.weight("output_norm.weight"), opened.figure("final_logit_softcapping", 0.0)
        found = []
        for hidden_TH, places_P in zip(states, places, strict=True):
            logits_PV = _norm(opened, hidden_TH[torch.as_tensor(places_P)], norm_H) @ head_VH.T
            found.append((cap * torch.tanh(logits_PV / cap) if cap else logits_PV).numpy())
    return found


def _embedding_scale(opened: Opened) -> float:
    return math.sqrt(opened.figure("embedding_length")) if opened.architecture.startswith("gemma") else 1.0


def _norm(opened: Opened, hidden: torch.Tensor, weight_H: torch.Tensor) -> torch.Tensor:
    eps = opened.figure("attention.layer_norm_rms_epsilon")
    return hidden * (hidden.square().mean(-1, keepdim=True) + eps).rsqrt() * weight_H


def _layer(opened: Opened, layer: int, states: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the hidden states of all rows after one layer."""
    import torch

    names = [name for name in opened.parts if name.startswith(f"blk.{layer}.")]
    weights = {name.removeprefix(f"blk.{layer}."): opened.weight(name) for name in names}

    def linear(hidden: torch.Tensor, name: str) -> torch.Tensor:
        product = hidden @ weights[f"{name}.weight"].T
        return product + weights[f"{name}.bias"] if f"{name}.bias" in weights else product

    def after(hidden: torch.Tensor, name: str) -> torch.Tensor:
        return _norm(opened, hidden, weights[f"{name}.weight"]) if f"{name}.weight" in weights else hidden

    found = []
    for hidden_TH in states:
        read_TH = _norm(opened, hidden_TH, weights["attn_norm.weight"])
        seen_TH = linear(_attention(opened, layer, weights, *(linear(read_TH, f"attn_{part}") for part in "qkv")), "attn_output")
        hidden_TH = hidden_TH + after(seen_TH, "post_attention_norm")
        read_TH = _norm(opened, hidden_TH, weights["ffn_norm.weight"])
        gate = linear(read_TH, "ffn_gate")
        silu = not opened.architecture.startswith("gemma")
        gate = torch.nn.functional.silu(gate) if silu else torch.nn.functional.gelu(gate, approximate="tanh")
        found.append(hidden_TH + after(linear(gate * linear(read_TH, "ffn_up"), "ffn_down"), "post_ffw_norm"))
    return found


def _attention(
    opened: Opened, layer: int, weights: dict[str, torch.Tensor], q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """Return what each place of a row saw, [T, heads x width]."""
    import torch

    length, width = len(q), opened.figure("attention.key_length")
    heads, kv_heads = opened.figure("attention.head_count"), opened.figure("attention.head_count_kv")
    q, k, v = (part.reshape(length, -1, width).transpose(0, 1) for part in (q, k, v))
    if "attn_q_norm.weight" in weights:
        q, k = (_norm(opened, part, weights[f"attn_{name}_norm.weight"]) for part, name in ((q, "q"), (k, "k")))
    slides = opened.architecture in SLIDING and (layer + 1) % SLIDING[opened.architecture] != 0
    q, k = (_turned(opened, part, slides=slides) for part in (q, k))
    k, v = (part.repeat_interleave(heads // kv_heads, dim=0) for part in (k, v))
    odds_NTT = q @ k.transpose(1, 2) / math.sqrt(width)
    if cap := opened.figure("attn_logit_softcapping", 0.0):
        odds_NTT = cap * torch.tanh(odds_NTT / cap)
    behind_TT = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    hidden_TT = behind_TT < 0
    if slides:
        hidden_TT = hidden_TT | (behind_TT >= opened.figure("attention.sliding_window"))
    return (odds_NTT.masked_fill(hidden_TT, -math.inf).softmax(-1) @ v).transpose(0, 1).reshape(length, -1)


def _turned(opened: Opened, part_NTD: torch.Tensor, *, slides: bool) -> torch.Tensor:
    """Return queries or keys turned by their positions."""
    import torch

    width = part_NTD.shape[-1]
    local = slides and opened.architecture == "gemma3"
    base = 10000.0 if local else opened.figure("rope.freq_base", 10000.0)
    rates_D = 1.0 / base ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    if not local and opened.figure("rope.scaling.type") == "linear":
        rates_D = rates_D / opened.figure("rope.scaling.factor")
    if "rope_freqs.weight" in opened.parts:
        rates_D = rates_D / opened.weight("rope_freqs.weight").double()
    angle_TD = torch.arange(part_NTD.shape[1], dtype=torch.float64)[:, None] * rates_D
    cos_TD, sin_TD = angle_TD.cos().float(), angle_TD.sin().float()
    if opened.architecture in PAIRED:
        one, two = part_NTD[..., 0::2], part_NTD[..., 1::2]
        return torch.stack([one * cos_TD - two * sin_TD, two * cos_TD + one * sin_TD], dim=-1).flatten(-2)
    one, two = part_NTD[..., : width // 2], part_NTD[..., width // 2 :]
    return torch.cat([one * cos_TD - two * sin_TD, two * cos_TD + one * sin_TD], dim=-1)
