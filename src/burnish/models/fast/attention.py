"""The ecosystem's interface of attention, answered by blocks of matrix products where a call is of that kind (`attend`).

Enters: queries, keys and values of one layer, as the ecosystem's attention interface hands them over. Leaves: what the ecosystem's own
function returns; that function is the plain twin, and takes every call that is not of this kind. It is the backward pass of the fused CPU
kernel that is slow, so where no gradient is wanted everything stays the ecosystem's, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from burnish.models.fast.attend import attend
from burnish.models.fast.pieces import attend_pieces, is_table, pieces_mask

NAME = "burnish_rows"

_wanted: ContextVar[bool] = ContextVar("burnish_rows", default=False)
"""Whether rows are computed as in training though no gradient is."""


def attend_rows(network: Any) -> bool:
    """Let a network's layers use `attention` where it pays, and return whether they do: not in older architectures.

    Weights, names and what is saved stay as they are.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if not getattr(network, "_supports_attention_backend", False) or network.config._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    network.set_attn_implementation(NAME)
    return True


@contextmanager
def attend_as_in_training() -> Iterator[None]:
    """Let rows be computed inside the `with` block as where gradients are: what is compared with a step must be read so."""
    before = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(before)


def in_training() -> bool:
    """Return whether rows are computed as in training: where gradients are, or inside `attend_as_in_training`."""
    import torch

    return torch.is_grad_enabled() or _wanted.get()


def attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> tuple[Any, None]:
    """Return softmax(scale Q Kᵀ) V as [B, T, H, D], and None for the weights, which nobody asked for.

    `query` is [B, H, T, D], `key` and `value` [B, K, T, D] with K dividing H; `attention_mask` None lets each place see itself and what
    stands before it, or everything where the layer is not causal; a table of pieces keeps apart what stands in one row.

    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    width = query.shape[-1]
    scaling = options.get("scaling")
    factor = 1 / math.sqrt(width) if scaling is None else float(scaling)
    plain = is_plain(attention_mask, options) and not options.get("dropout")
    whole = query.shape[2] == key.shape[2] and key.shape[3] == value.shape[3] == width
    if plain and whole and in_training() and query.device.type == "cpu" and not torch.compiler.is_compiling():
        query, key, value = (one.transpose(1, 2).flatten(2).contiguous() for one in (query, key, value))
        causal, pieces = is_causal(module, options), pieces_in(attention_mask)
        return attend(query, key, value, None, width=width, factor=factor, causal=causal, pieces=pieces).unflatten(
            -1, (-1, width)
        ), None
    if is_table(attention_mask):
        if plain:
            return attend_pieces(query, key, value, attention_mask, factor), None
        attention_mask = pieces_mask(attention_mask, query.shape[2], query.dtype, query.device)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def is_plain(attention_mask: Any, options: dict[str, Any]) -> bool:
    """Return whether a layer is asked for plain attention of whole rows or pieces: no mask, nothing beside queries, keys and values."""
    unmasked = attention_mask is None or is_table(attention_mask)
    return unmasked and all(options.get(name) is None for name in ("position_bias", "cache", "softcap"))


def pieces_in(attention_mask: Any) -> list[list[int]] | None:
    """Return the pieces of the only row that a table in a mask's place tells of, None where rows are whole."""
    return attention_mask.reshape(-1, 4).tolist() if is_table(attention_mask) else None


def is_causal(module: Any, options: dict[str, Any]) -> bool:
    """Return whether a place sees only what stands before it, as the call or else the layer says."""
    asked = options.get("is_causal")
    return bool(getattr(module, "is_causal", True) if asked is None else asked)
