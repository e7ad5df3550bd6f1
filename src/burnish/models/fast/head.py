"""Log-probabilities of targets from hidden states, without ever holding [N, vocabulary].

Enters: hidden states, the output head's weight, targets. Leaves: log-probabilities and entropies, differentiable. The rows go through
the head in tiles; the backward pass computes each tile's logits again and turns them into gradients at once, so that nothing as wide
as the vocabulary outlives its tile. The plain twin is `forward._tiled`, which lets autograd do the same.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def read_targets(
    hidden_NH: torch.Tensor, weight_VH: torch.Tensor, target_N: torch.Tensor, *, entropy: bool, rows: int, compiled: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 log-probabilities [N] of the targets and, where asked, entropies [N] in nats (else empty); `rows` make a tile.

    Products are computed in the type of the hidden states (under autocast: in its type), sums in float32 at least. No gradient is
    computed for a weight that is frozen.
    """
    import torch

    kind = torch.get_autocast_dtype(hidden_NH.device.type) if torch.is_autocast_enabled(hidden_NH.device.type) else None
    hidden_NH = hidden_NH.to(kind or weight_VH.dtype)
    return _head_class().apply(hidden_NH, weight_VH, target_N, entropy, rows, compiled)


@cache
def _head_class() -> Any:
    """Return the autograd function; made on first use, because torch is not imported with the package."""
    import torch

    class TiledHead(torch.autograd.Function):
        """The output head with the log-softmax behind it, as one differentiable step."""

        @staticmethod
        def forward(ctx: Any, hidden_NH: Any, weight_VH: Any, target_N: Any, entropy: bool, rows: int, compiled: bool) -> Any:
            read = _compiled(_read_tile) if compiled else _read_tile
            low_VH = weight_VH.detach().to(hidden_NH.dtype)
            parts = [read(h, low_VH, t, entropy) for h, t in _tiles(rows, hidden_NH.detach(), target_N)]
            logprobs_N, normaliser_N, entropy_N = (torch.cat(part) for part in zip(*parts, strict=True))
            ctx.save_for_backward(hidden_NH, weight_VH, target_N, normaliser_N, entropy_N)
            ctx.entropy, ctx.rows, ctx.compiled = entropy, rows, compiled
            return logprobs_N, entropy_N

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            hidden_NH, weight_VH, target_N, normaliser_N, entropy_N = (tensor.detach() for tensor in ctx.saved_tensors)
            logprob_gradient_N, entropy_gradient_N = gradients
            if not ctx.entropy:  # no row has one: the tiles take what is there in its place, unread
                entropy_N, entropy_gradient_N = normaliser_N, normaliser_N
            turn: Any = _compiled(_turn_tile) if ctx.compiled else _turn_tile
            moves = ctx.needs_input_grad[1]
            low_VH = weight_VH.to(hidden_NH.dtype)
            streams = (hidden_NH, target_N, normaliser_N, entropy_N, logprob_gradient_N, entropy_gradient_N)
            weight_gradient_VH = torch.zeros_like(weight_VH, dtype=_wide_type(weight_VH)) if moves else None
            hidden_gradients = []
            for h, *others in _tiles(ctx.rows, *streams):
                logit_gradient_TV = turn(h, low_VH, *others, ctx.entropy)
                hidden_gradients.append(logit_gradient_TV @ low_VH)
                if weight_gradient_VH is not None:
                    weight_gradient_VH += logit_gradient_TV.t() @ h
            if weight_gradient_VH is not None:
                weight_gradient_VH = weight_gradient_VH.to(weight_VH.dtype)
            return torch.cat(hidden_gradients), weight_gradient_VH, None, None, None, None

    return TiledHead


def _tiles(rows: int, *streams: Any) -> Any:
    """Return the streams cut into tiles of `rows`, each a tuple of a part of every stream; one empty tile where there are no rows."""
    return zip(*(stream.split(rows) for stream in streams), strict=True)


@cache
def _compiled(function: Any) -> Any:
    import torch

    return torch.compile(function, dynamic=True)


def _wide_type(tensor: torch.Tensor) -> torch.dtype:
    """Return float32, or float64 for a tensor that is."""
    import torch

    return torch.promote_types(tensor.dtype, torch.float32)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(_wide_type(tensor))


def _read_tile(
    hidden_TH: torch.Tensor, weight_VH: torch.Tensor, target_T: torch.Tensor, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return log-probabilities, log-normalisers and (where asked) entropies of a tile of rows."""
    logits_TV = _wide(hidden_TH @ weight_VH.t())
    normaliser_T = logits_TV.logsumexp(-1)
    logprobs_T = logits_TV.gather(-1, target_T[:, None]).squeeze(-1) - normaliser_T
    if not entropy:
        return logprobs_T, normaliser_T, normaliser_T[:0]
    probabilities_TV = (logits_TV - normaliser_T[:, None]).exp()
    return logprobs_T, normaliser_T, normaliser_T - (probabilities_TV * logits_TV).sum(-1)


def _turn_tile(
    hidden_TH: torch.Tensor,
    weight_VH: torch.Tensor,
    target_T: torch.Tensor,
    normaliser_T: torch.Tensor,
    entropy_T: torch.Tensor,
    logprob_gradient_T: torch.Tensor,
    entropy_gradient_T: torch.Tensor,
    entropy: bool,
) -> torch.Tensor:
    """Return the gradient at a tile's logits, in the type of the hidden states.

    With p the probabilities: d logprob / d logit_j = [j = target] − p_j, and d entropy / d logit_j = −p_j · (log p_j + entropy).
    """
    import torch

    log_probabilities_TV = _wide(hidden_TH @ weight_VH.t()) - normaliser_T[:, None]
    probabilities_TV = log_probabilities_TV.exp()
    hit_TV = torch.arange(weight_VH.shape[0], device=target_T.device)[None, :] == target_T[:, None]
    gradient_TV = (hit_TV.to(probabilities_TV.dtype) - probabilities_TV) * logprob_gradient_T[:, None]
    if entropy:
        gradient_TV = gradient_TV - probabilities_TV * (log_probabilities_TV + entropy_T[:, None]) * entropy_gradient_T[:, None]
    return gradient_TV.to(hidden_TH.dtype)
