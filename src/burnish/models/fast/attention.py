"""Attention over short rows on a CPU: plain matrix products instead of the fused kernel, whose set-up costs more than the rows.

Enters: queries, keys and values of one layer, as the ecosystem's attention interface hands them over. Leaves: what the ecosystem's own
function returns; that function is the plain twin, and takes every call that is not of this kind. It is the backward pass of the fused CPU
kernel that is slow for short rows, so where no gradient is wanted everything stays the ecosystem's, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from burnish.models.fast.pieces import attend_pieces, is_table, pieces_mask

LONGEST = 256
"""Tokens of a row at most: beyond, the fused kernel wins or comes close, and keeping all weights for the backward pass costs memory."""

NAME = "burnish_short_rows"

_wanted: ContextVar[bool] = ContextVar("burnish_short_rows", default=False)
"""Whether rows are attended as in training though no gradient is computed."""


def attend_short_rows(network: Any) -> bool:
    """Let a network's layers use `attention` where it pays, and return whether they do: not on a GPU, and not in older architectures.

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
    """Let short rows be attended inside the `with` block as where gradients are computed: what is compared with a step must be read so."""
    before = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(before)


def attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> tuple[Any, None]:
    """Return softmax(scale Q Kᵀ) V as [B, T, H, D], and None for the weights, which nobody asked for.

    `query` is [B, H, T, D], `key` and `value` [B, K, T, D] with K dividing H; `attention_mask` None lets each place see itself and what
    stands before it, or everything where the layer is not causal; a table of pieces keeps apart what stands in one row.

    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if is_table(attention_mask):
        if not _has_extras(options):
            return attend_pieces(query, key, value, attention_mask, options.get("scaling") or 1 / math.sqrt(query.shape[3])), None
        attention_mask = pieces_mask(attention_mask, query.shape[2], query.dtype, query.device)
    if _is_short(query, key, value, attention_mask, options):
        asked = options.get("is_causal")
        causal = getattr(module, "is_causal", True) if asked is None else asked
        return _products(query, key, value, options.get("scaling"), bool(causal)), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def _is_short(query: Any, key: Any, value: Any, attention_mask: Any, options: dict[str, Any]) -> bool:
    """Return whether a call is of the kind that this file computes: in training, whole short rows on a CPU, without mask or extras."""
    import torch

    if not (torch.is_grad_enabled() or _wanted.get()):
        return False
    rows, width = query.shape[2], query.shape[3]
    plain = attention_mask is None and not _has_extras(options)
    whole = rows == key.shape[2] and key.shape[3] == value.shape[3] == width
    # weights [H, T, T] of a row are then at most four times as large as its queries [H, T, D]
    return plain and whole and query.device.type == "cpu" and rows <= min(LONGEST, 4 * width)


def _has_extras(options: dict[str, Any]) -> bool:
    """Return whether a call asks for more than softmax(scale Q Kᵀ) V."""
    special = any(options.get(name) is not None for name in ("position_bias", "cache", "softcap"))
    return special or bool(options.get("dropout"))


def _products(query: Any, key: Any, value: Any, scaling: float | None, causal: bool) -> Any:
    """Return the attention of all heads: one batched product per group of heads that share their keys, softmax in float32."""
    import torch

    rows, heads, length, width = query.shape
    shared = key.shape[1]
    scale = 1 / math.sqrt(width) if scaling is None else scaling
    query = (query * scale).reshape(rows * shared, -1, width)
    key, value = key.reshape(rows * shared, length, width), value.reshape(rows * shared, length, width)
    weights = torch.bmm(query, key.transpose(1, 2)).view(rows * shared, -1, length, length)
    if causal:
        weights = weights + torch.full((length, length), -torch.inf, dtype=weights.dtype, device=weights.device).triu_(1)
    weights = weights.softmax(-1, dtype=torch.promote_types(weights.dtype, torch.float32)).to(value.dtype)
    mixed = torch.bmm(weights.view(rows * shared, -1, length), value)
    return mixed.view(rows, heads, length, width).transpose(1, 2).contiguous()
