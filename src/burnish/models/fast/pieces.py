"""Attention over pieces of one row on a CPU: packed documents, and groups whose common prefix stands once before what sets them apart.

Enters: queries, keys and values of one layer, and a table of pieces in place of a mask. A piece sees itself causally and all of the
piece that it continues, if it continues one. Leaves: what the ecosystem's attention gives under `pieces_mask`, its plain twin, without
ever holding a mask: tiles of queries against just the keys that they may see, as plain matrix products, their weights computed again in
the backward pass. Keys of a prefix stand beside a piece's own under one softmax, so nothing has to be merged afterwards.

Measured against torch's fused kernel for CPUs, forward and backward, one thread, bfloat16, 9 heads of 64 over 3 for keys: 42 ms against
115 ms for 8 groups of a prefix of 256 and two pieces of 64; 104 ms against 229 ms for 2 groups of 1024 and two of 256.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROWS = 128
"""Queries of a tile at most, for each head: 64 and 256 are within a tenth of it at all lengths measured, 96 to 1,280."""


def is_table(mask: Any) -> bool:
    """Return whether what stands in a mask's place is a table of pieces: whole numbers, where masks are true and false or added."""
    import torch

    return mask is not None and mask.dtype == torch.int64


def as_table(pieces_PK: torch.Tensor) -> torch.Tensor:
    """Return pieces in the form in which they pass through any network: as a mask of four dimensions, which the ecosystem leaves as it is.

    `pieces_PK` is int64 [P, 4]: first and end of a piece in the row, first and end of the piece that it continues (the same: none).
    """
    _register()
    return pieces_PK[None, None].cpu()


def pieces_mask(table: torch.Tensor, length: int, dtype: torch.dtype, device: Any) -> torch.Tensor:
    """Return a table as an additive mask [1, 1, T, T]: 0 where a query may see a key, else the dtype's minimum."""
    import torch

    mask = torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=device)
    for first, end, before_first, before_end in table.reshape(-1, 4).tolist():
        mask[first:end, before_first:before_end] = 0
        mask[first:end, first:end].triu_(1)
    return mask[None, None]


def attend_pieces(query: Any, key: Any, value: Any, table: torch.Tensor, scale: float) -> Any:
    """Return the attention of all heads as [1, T, H, D]; `query` is [1, H, T, D], `key` and `value` [1, K, T, D] with K dividing H."""
    import torch

    assert len(query) == 1, "pieces lie in one row"
    parts = [query[0], key[0], value[0]]
    if torch.is_autocast_enabled(query.device.type):
        parts = [part.to(torch.get_autocast_dtype(query.device.type)) for part in parts]
    pieces = table.reshape(-1, 4)
    if not torch.is_grad_enabled():  # calling an operator of ours for the first time loads torch's compiler, which takes a second
        return _forward(parts[0], parts[1], parts[2], pieces, scale)[None]
    return torch.ops.burnish.attention_over_pieces(*parts, pieces, scale)[None]


# --------------------------------------------------------------------------------------------------------------------------- the tiles


def _tiles(pieces: torch.Tensor, *streams: Any) -> Iterator[tuple[int, int, int, int, int, list[Any]]]:
    """Yield first and end of a tile's queries, first and end of the prefix, first of its own keys, and of each stream the keys' part.

    A stream is [K, T, D]; its part [K, keys, D] holds the prefix and then the piece up to the tile's end.
    """
    import torch

    for first, end, before_first, before_end in pieces.tolist():
        whole = [part[:, first:end] for part in streams]
        if before_end > before_first:
            whole = [torch.cat([part[:, before_first:before_end], own], 1) for part, own in zip(streams, whole, strict=True)]
        for start in range(first, end, ROWS):
            stop = min(end, start + ROWS)
            seen = before_end - before_first + stop - first
            yield start, stop, before_first, before_end, first, [part[:, :seen] for part in whole]


def _weights(query_KRD: Any, key_KSD: Any, rows: int) -> Any:
    """Return the softmax [K, R, S] of queries, scaled already, against the keys that they see; the last `rows` keys are their own places.

    R counts the queries of all heads that share keys, one head after the other.
    """
    import torch

    weights = torch.bmm(query_KRD, key_KSD.transpose(1, 2)).view(len(key_KSD), -1, rows, key_KSD.shape[1])
    weights[..., -rows:] += torch.full((rows, rows), -torch.inf, dtype=weights.dtype).triu_(1)
    return weights.softmax(-1).view(*query_KRD.shape[:2], -1)


def _forward(query: Any, key: Any, value: Any, pieces: Any, scale: float) -> Any:
    """Return [T, H, D] for queries [H, T, D] and keys and values [K, T, D]. Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1."""
    import torch

    heads, length, width = query.shape
    shared = len(key)
    query, key, value = query.reshape(shared, -1, length, width), key.contiguous(), value.contiguous()
    found = torch.zeros(length, heads, value.shape[2], dtype=query.dtype)
    for start, stop, *_, (keys, values) in _tiles(pieces, key, value):
        tile = (query[:, :, start:stop] * scale).reshape(shared, -1, width)
        mixed = torch.bmm(_weights(tile, keys, stop - start), values)
        found[start:stop] = mixed.view(heads, stop - start, -1).transpose(0, 1)
    return found


def _backward(gradient: Any, query: Any, key: Any, value: Any, pieces: Any, scale: float) -> tuple[Any, Any, Any]:
    """Return the gradients of queries, keys and values from that of what `_forward` gave; sums over tiles are float32 at least."""
    import torch

    heads, length, width = query.shape
    shared, kind = len(key), query.dtype
    query, key, value = query.reshape(shared, -1, length, width), key.contiguous(), value.contiguous()
    gradient = gradient.transpose(0, 1).reshape(shared, -1, length, value.shape[2])
    wide = torch.promote_types(kind, torch.float32)
    query_gradient = torch.zeros(query.shape, dtype=kind)  # contiguous, as the shapes that a compiler is told of say
    key_gradient, value_gradient = torch.zeros(key.shape, dtype=wide), torch.zeros(value.shape, dtype=wide)
    for start, stop, before_first, before_end, first, (keys, values) in _tiles(pieces, key, value):
        tile = (query[:, :, start:stop] * scale).reshape(shared, -1, width)
        wanted = gradient[:, :, start:stop].reshape(shared, -1, value.shape[2])
        weights = _weights(tile, keys, stop - start)
        turned = torch.ops.aten._softmax_backward_data(torch.bmm(wanted, values.transpose(1, 2)), weights, -1, kind)
        query_gradient[:, :, start:stop] = torch.bmm(turned, keys).mul_(scale).view(shared, -1, stop - start, width)
        before = before_end - before_first
        for sums, part in (
            (key_gradient, torch.bmm(turned.transpose(1, 2), tile)),
            (value_gradient, torch.bmm(weights.transpose(1, 2), wanted)),
        ):
            sums[:, before_first:before_end] += part[:, :before]
            sums[:, first:stop] += part[:, before:]
    return query_gradient.view(heads, length, width), key_gradient.to(key.dtype), value_gradient.to(value.dtype)


@cache
def _register() -> None:
    """Make the attention and its gradients known to torch as operators, which a compiled layer calls without looking inside."""
    import torch

    inputs = "Tensor query, Tensor key, Tensor value, Tensor pieces, float scale"
    attend = torch.library.custom_op("burnish::attention_over_pieces", _forward, mutates_args=(), schema=f"({inputs}) -> Tensor")
    gradients = torch.library.custom_op(
        "burnish::attention_over_pieces_gradients",
        _backward,
        mutates_args=(),
        schema=f"(Tensor gradient, {inputs}) -> (Tensor, Tensor, Tensor)",
    )

    def shape(query: Any, key: Any, value: Any, pieces: Any, scale: float) -> Any:
        return query.new_empty(query.shape[1], query.shape[0], value.shape[2])

    def shapes(gradient: Any, query: Any, key: Any, value: Any, pieces: Any, scale: float) -> Any:
        return tuple(torch.empty(part.shape, dtype=part.dtype, device=part.device) for part in (query, key, value))

    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.scale = inputs
        ctx.save_for_backward(*tensors)

    def turn(ctx: Any, gradient: Any) -> Any:
        return *gradients(gradient, *ctx.saved_tensors, ctx.scale), None, None

    attend.register_fake(shape)
    gradients.register_fake(shapes)
    attend.register_autograd(turn, setup_context=keep)
