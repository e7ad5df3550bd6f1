"""The plain twins of the loops in `kernels.cpp`, in torch: for other machines and types, and to hold the loops to.

Enters and leaves: what `kernels` says, function by function. Everything is computed in float32 at least and rounded at the end.
"""

from __future__ import annotations

from typing import Any


def _wide(tensor: Any) -> Any:
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def norm_forward(x_NH: Any, weight_H: Any, epsilon: float, dtype: Any) -> tuple[Any, Any]:
    """Return x scale weight, and the scales."""
    wide_NH = _wide(x_NH)
    scale_N = (wide_NH.square().mean(-1) + epsilon).rsqrt()
    return norm_again(x_NH, weight_H, scale_N, dtype), scale_N


def norm_again(x_NH: Any, weight_H: Any, scale_N: Any, dtype: Any) -> Any:
    """Return x scale weight."""
    return (_wide(x_NH) * scale_N[:, None] * _wide(weight_H)).to(dtype)


def norm_backward(gradient_NH: Any, x_NH: Any, weight_H: Any, scale_N: Any, moves: bool) -> tuple[Any, Any]:
    """Return the gradients at x and at the weight."""
    wide_NH, above_NH, scale_N1 = _wide(x_NH), _wide(gradient_NH), scale_N[:, None]
    pushed_NH = above_NH * _wide(weight_H)
    along_N1 = (pushed_NH * wide_NH).mean(-1, keepdim=True) * scale_N1.square()
    moved_H = (above_NH * wide_NH * scale_N1).sum(0) if moves else None
    return (scale_N1 * (pushed_NH - wide_NH * along_N1)).to(x_NH.dtype), moved_H


def gate_forward(kind: str, gate_NH: Any, up_NH: Any) -> Any:
    """Return act(gate) up."""
    return (_activate(kind, _wide(gate_NH)) * _wide(up_NH)).to(gate_NH.dtype)


def gate_backward(kind: str, gradient_NH: Any, gate_NH: Any, up_NH: Any) -> tuple[Any, Any]:
    """Return the gradients at gate and up."""
    import torch

    with torch.enable_grad():
        x_NH = _wide(gate_NH).detach().requires_grad_()
        value_NH = _activate(kind, x_NH)
        (above_NH,) = torch.autograd.grad(value_NH, x_NH, _wide(gradient_NH) * _wide(up_NH))
    return above_NH.to(gate_NH.dtype), (_wide(gradient_NH) * value_NH.detach()).to(up_NH.dtype)


def _activate(kind: str, x_NH: Any) -> Any:
    import torch

    return torch.nn.functional.silu(x_NH) if kind == "silu" else torch.nn.functional.gelu(x_NH, approximate="tanh")


def heads_forward(x_BTH: Any, turn: tuple[Any, Any] | None, shared: int, width: int) -> Any:
    """Return heads in the order [B, K, T, G, D], turned."""
    batch, length, _ = x_BTH.shape
    return _rotate(x_BTH.reshape(batch, length, shared, -1, width).transpose(1, 2), turn, back=False).contiguous()


def heads_backward(gradient: Any, turn: tuple[Any, Any] | None) -> Any:
    """Return the gradient at what `heads_forward` was given."""
    return _rotate(gradient, turn, back=True).transpose(1, 2).flatten(2).contiguous()


def _rotate(heads: Any, turn: tuple[Any, Any] | None, *, back: bool) -> Any:
    """Return heads [B, K, T, G, D] with their first numbers turned, or turned back as a gradient is."""
    import torch

    if turn is None:
        return heads
    cosine, sine = (one[:, None, :, None, :] for one in turn)
    width = cosine.shape[-1]
    half, wide = width // 2, _wide(heads[..., :width])
    if back:
        crossed = wide * sine
        other = torch.cat([crossed[..., half:], -crossed[..., :half]], -1)
    else:
        other = torch.cat([-wide[..., half:], wide[..., :half]], -1) * sine
    return torch.cat([(wide * cosine + other).to(heads.dtype), heads[..., width:]], -1)


def weights_forward(scores: Any, first: int, group: int, causal: bool, factor: float) -> Any:
    """Turn scores into weights in place; return log-normalisers."""
    seen = _seen(scores, first, group, causal, factor)
    normaliser = seen.logsumexp(-1)
    scores.copy_((seen - normaliser[..., None]).exp())
    return normaliser


def weights_backward(scores: Any, above: Any, normaliser: Any, first: int, group: int, causal: bool, factor: float) -> None:
    """Turn scores into weights and the gradient at the weights into that at the scores, in place."""
    weights = (_seen(scores, first, group, causal, factor) - normaliser[..., None]).exp()
    wide = _wide(above)
    along = (weights * wide).sum(-1, keepdim=True)
    scores.copy_(weights)
    above.copy_(factor * weights * (wide - along))


def _seen(scores: Any, first: int, group: int, causal: bool, factor: float) -> Any:
    """Return the scores times the factor, those of keys that a row may not see at minus infinity."""
    import torch

    wide = _wide(scores) * factor
    if not causal:
        return wide
    place_R = first + torch.arange(scores.shape[1], device=scores.device) // group
    hidden_RK = torch.arange(scores.shape[2], device=scores.device)[None, :] > place_R[:, None]
    return wide.masked_fill_(hidden_RK, -torch.inf)


def head_forward(logits_NV: Any, target_N: Any, entropy: bool) -> tuple[Any, Any, Any]:
    """Return log-probabilities, log-normalisers and entropies."""
    wide_NV = _wide(logits_NV)
    normaliser_N = wide_NV.logsumexp(-1)
    logprob_N = wide_NV.gather(-1, target_N[:, None]).squeeze(-1) - normaliser_N
    if not entropy:
        return logprob_N, normaliser_N, normaliser_N[:0]
    probability_NV = (wide_NV - normaliser_N[:, None]).exp()
    return logprob_N, normaliser_N, normaliser_N - (probability_NV * wide_NV).sum(-1)


def head_backward(logits_NV: Any, target_N: Any, normaliser_N: Any, gradient_N: Any, entropy: tuple[Any, Any] | None) -> None:
    """Turn logits into the gradient at them, in place."""
    import torch

    log_NV = _wide(logits_NV) - normaliser_N[:, None]
    probability_NV = log_NV.exp()
    factor_N1 = torch.ones_like(normaliser_N)[:, None] if gradient_N is None else gradient_N[:, None]
    gradient_NV = -probability_NV * factor_N1
    gradient_NV.scatter_add_(1, target_N[:, None], factor_N1.to(gradient_NV.dtype))
    if entropy is not None:
        gradient_NV -= probability_NV * (log_NV + entropy[0][:, None]) * entropy[1][:, None]
    logits_NV.copy_(gradient_NV)
