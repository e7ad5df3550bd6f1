"""Reinforcement learning: make answers likelier that were better than expected. GRPO and its kin, RLOO, REINFORCE++ and PPO.

Enters: `Outputs` at the tokens of sampled answers, and the streams that `rollouts` filled: "sampled" (log-probability under the
policy that sampled; left out where that is the policy as it stands), "advantage", and where used "reference", "return", "value".
Leaves: sums over read-outs or sequences. What compares answers with each other is in the advantages, made beforehand (`advantages`):
nothing here looks beyond a sequence.

An advantage that belongs to a whole answer is repeated on its read-outs. Read-outs of weight 0 are no part of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from burnish.errors import ConfigError
from burnish.types import Answerable, Batch, Dialog, Labelled, Loss, Objective, Outputs, Pair, Tagged, Task

if TYPE_CHECKING:
    import torch

ATTEMPTED = (Dialog, Labelled, Tagged, Answerable, Pair, Task)
"""Rows with a prompt that can be attempted, and something that an attempt can be scored by."""

Variant = Literal["grpo", "dr_grpo", "dapo", "gspo"]

CLIPS: dict[str, tuple[float, float]] = {"grpo": (0.2, 0.2), "dr_grpo": (0.2, 0.2), "dapo": (0.2, 0.28), "gspo": (3e-4, 4e-4)}
"""How far below and above 1 the ratio may count, as each variant's paper has it."""

LARGEST_LOG_RATIO = 20.0
"""Beyond it a ratio says only that the policies have nothing in common, and its gradient would be infinity times zero."""

MOVED = ("ratio", "clipped", "drift")
"""What all of them tell: the mean ratio of the policy to the one that sampled, the share of ratios that the clip held back, and the
mean distance of log-probabilities in nats, which is zero at the first update after sampling."""


def grpo(
    outputs: Outputs,
    batch: Batch,
    *,
    variant: Variant = "grpo",
    clip: float | None = None,
    clip_high: float | None = None,
    kl: float = 0.0,
    longest_answer: int = 1,
) -> Loss:
    """Group-relative policy optimization: answers of a prompt are judged against each other, without a value model.

    Per token −min(r A, clip(r, 1 − clip, 1 + clip_high) A), with r the ratio of its probability now to that when it was sampled, plus
    `kl` times k3 = q − log q − 1, q the ratio of reference to policy (Schulman 2020), where `kl` is above 0. Variants: "grpo" averages
    over a sequence's tokens, then over sequences; "dr_grpo" divides the sums of sequences by one constant, `longest_answer` (1: the
    paper's formula; the token limit of generation: its code); "dapo" averages over all tokens of the step; "gspo" takes one ratio
    per sequence, the geometric mean of its tokens' ratios. Clips that are not given are those of the variant's paper; `clip` alone
    also sets `clip_high`.

    Source: Shao et al. 2024, arXiv 2402.03300, equation 3; Liu et al. 2025 (Dr. GRPO), arXiv 2503.20783; Yu et al. 2025 (DAPO), arXiv
    2503.14476, equation 8; Zheng et al. 2025 (GSPO), arXiv 2507.18071, equation 5. Raises ConfigError for options out of range.
    """
    import torch

    low, high = _clips(variant, clip, clip_high)
    _refuse(kl=kl, longest_answer=longest_answer - 1)
    log_ratio_N, advantage_N = _log_ratio(outputs, batch), _stream(batch, "advantage")
    factor_N = batch.weight_N
    if variant in ("grpo", "gspo"):
        factor_N = factor_N / _sum(batch.weight_N, batch).clamp(min=1e-12)[batch.sequence_N]
    if variant == "gspo":
        log_ratio_S, present_S = _sum(factor_N * log_ratio_N, batch), _present(batch)
        loss_S, clipped_S, ratio_S = _surrogate(log_ratio_S, _sum(factor_N * advantage_N, batch), low, high)
        policy, metrics = (present_S * loss_S).sum(), _metrics(log_ratio_N, batch, ratio_S, clipped_S, present_S)
    else:
        loss_N, clipped_N, ratio_N = _surrogate(log_ratio_N, advantage_N, low, high)
        policy, metrics = (factor_N * loss_N).sum(), _metrics(log_ratio_N, batch, ratio_N, clipped_N, batch.weight_N)
    k3_N = _k3(outputs, batch) if kl > 0 or "reference" in batch.streams else torch.zeros_like(batch.weight_N)
    count = batch.weight_N.sum() if kl > 0 or "reference" in batch.streams else batch.weight_N.sum() * 0
    metrics["reference_kl"] = ((batch.weight_N * k3_N).sum(), count)
    return Loss(terms={"policy": policy, "kl": kl * (factor_N * k3_N).sum()}, metrics=metrics)


def grpo_counts(
    batch: Batch,
    *,
    variant: Variant = "grpo",
    clip: float | None = None,
    clip_high: float | None = None,
    kl: float = 0.0,
    longest_answer: int = 1,
) -> Mapping[str, torch.Tensor]:
    """Return the denominators of `grpo`: tokens for "dapo", else sequences, times `longest_answer` for "dr_grpo"; none for no KL."""
    count = batch.weight_N.sum() if variant == "dapo" else _present(batch).sum()
    count = count * longest_answer if variant == "dr_grpo" else count
    return {"policy": count, "kl": count if kl > 0 else count * 0}


def rloo(outputs: Outputs, batch: Batch, *, clip: float = 0.2) -> Loss:
    """REINFORCE with leave-one-out advantages: a whole answer is one action, judged against the others to the same prompt.

    Per sequence −min(r A, clip(r) A) with r the ratio of the answer's probability now to that when it was sampled: at the first update
    after sampling its gradient is that of −A log π(answer). `clip` 0 takes the ratio as it is. A KL penalty belongs into the reward.

    Source: Ahmadian et al. 2024, arXiv 2402.14740, equation 7; the ratio for later updates as in Schulman et al. 2017.
    """
    _refuse(clip=clip)
    log_ratio_N, weight_S = _log_ratio(outputs, batch), _sum(batch.weight_N, batch)
    advantage_S = _sum(batch.weight_N * _stream(batch, "advantage"), batch) / weight_S.clamp(min=1e-12)
    present_S = _present(batch)
    loss_S, clipped_S, ratio_S = _surrogate(_sum(batch.weight_N * log_ratio_N, batch), advantage_S, clip, clip)
    return Loss(terms={"policy": (present_S * loss_S).sum()}, metrics=_metrics(log_ratio_N, batch, ratio_S, clipped_S, present_S))


def rloo_counts(batch: Batch, *, clip: float = 0.2) -> Mapping[str, torch.Tensor]:
    """Return the denominator of `rloo`: the number of sequences that have an answer."""
    return {"policy": _present(batch).sum()}


def reinforce(outputs: Outputs, batch: Batch, *, clip: float = 0.2) -> Loss:
    """REINFORCE++: a clipped ratio per token, with advantages that were normalised over the whole step beforehand.

    −min(r A, clip(r) A), averaged over all tokens of the step. The token-wise KL penalty is part of the advantages; no value model and no
    comparison within a prompt is needed. `clip` 0 takes the ratio as it is.

    Source: Hu et al. 2025, arXiv 2501.03262.
    """
    _refuse(clip=clip)
    log_ratio_N = _log_ratio(outputs, batch)
    loss_N, clipped_N, ratio_N = _surrogate(log_ratio_N, _stream(batch, "advantage"), clip, clip)
    metrics = _metrics(log_ratio_N, batch, ratio_N, clipped_N, batch.weight_N)
    return Loss(terms={"policy": (batch.weight_N * loss_N).sum()}, metrics=metrics)


def reinforce_counts(batch: Batch, *, clip: float = 0.2) -> Mapping[str, torch.Tensor]:
    """Return the denominator of `reinforce`: the sum of the weights."""
    return {"policy": batch.weight_N.sum()}


def ppo(
    outputs: Outputs,
    batch: Batch,
    *,
    clip: float = 0.2,
    value_clip: float = 0.2,
    value_weight: float = 0.1,
    entropy_weight: float = 0.0,
) -> Loss:
    """Proximal policy optimization: a clipped ratio per token, with a value head that says what was to be expected at each.

    Policy −min(r A, clip(r) A); value `value_weight` · max((v − R)², (v_old + clip(v − v_old, ±`value_clip`) − R)²), R the return; entropy
    −`entropy_weight` · H. Each is averaged over all tokens of the step. A clip of 0 is none.

    Source: Schulman et al. 2017, arXiv 1707.06347, equations 7 and 9; value_weight as in Ziegler et al. 2019, arXiv 1909.08593.
    """
    import torch

    assert outputs.values_N is not None and outputs.entropy_N is not None
    _refuse(clip=clip, value_clip=value_clip, value_weight=value_weight, entropy_weight=entropy_weight)
    weight_N, log_ratio_N = batch.weight_N, _log_ratio(outputs, batch)
    loss_N, clipped_N, ratio_N = _surrogate(log_ratio_N, _stream(batch, "advantage"), clip, clip)
    value_N, return_N, before_N = _kept(outputs.values_N, batch), _stream(batch, "return"), _stream(batch, "value")
    error_N = (value_N - return_N) ** 2
    if value_clip > 0:
        held_N = before_N + (value_N - before_N).clamp(-value_clip, value_clip)
        error_N = torch.maximum(error_N, (held_N - return_N) ** 2)
    entropy = (weight_N * _kept(outputs.entropy_N, batch)).sum()
    metrics = _metrics(log_ratio_N, batch, ratio_N, clipped_N, weight_N)
    metrics["entropy"] = (entropy, weight_N.sum())
    metrics["value_error"] = ((weight_N * (value_N - return_N) ** 2).sum(), weight_N.sum())
    terms = {
        "policy": (weight_N * loss_N).sum(),
        "value": value_weight * (weight_N * error_N).sum(),
        "entropy": -entropy_weight * entropy,
    }
    return Loss(terms=terms, metrics=metrics)


def ppo_counts(
    batch: Batch,
    *,
    clip: float = 0.2,
    value_clip: float = 0.2,
    value_weight: float = 0.1,
    entropy_weight: float = 0.0,
) -> Mapping[str, torch.Tensor]:
    """Return the denominators of `ppo`: the sum of the weights for each term, none for an entropy that does not count."""
    count = batch.weight_N.sum()
    return {"policy": count, "value": count, "entropy": count if entropy_weight > 0 else count * 0}


def _clips(variant: Variant, clip: float | None, clip_high: float | None) -> tuple[float, float]:
    """Return how far below and above 1 the ratio counts; raise ConfigError for an unknown variant or a clip that is not above 0."""
    if variant not in CLIPS:
        raise ConfigError(f"variant = {variant!r}: expected one of {', '.join(CLIPS)}.")
    low = CLIPS[variant][0] if clip is None else clip
    high = (CLIPS[variant][1] if clip is None else clip) if clip_high is None else clip_high
    if low <= 0 or high <= 0:
        raise ConfigError(f"clip = {low}, clip_high = {high}: expected numbers above 0, such as 0.2.")
    return low, high


def _refuse(**options: float) -> None:
    """Raise ConfigError for options below zero."""
    for name, value in options.items():
        if value < 0:
            raise ConfigError(f"{name} is too small by {-value:g}.")


def _kept(values_N: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the values where read-outs count, and 0 elsewhere: whatever stands there could overflow, and 0 · inf is not 0."""
    import torch

    return torch.where(batch.weight_N != 0, values_N, torch.zeros_like(values_N))


def _stream(batch: Batch, name: str) -> torch.Tensor:
    return _kept(batch.streams[name], batch)


def _sum(values_N: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the sum over each sequence [S]."""
    import torch

    zeros_S = torch.zeros(len(batch.role_S), dtype=values_N.dtype, device=values_N.device)
    return zeros_S.index_add(0, batch.sequence_N, values_N)


def _present(batch: Batch) -> torch.Tensor:
    """Return [S] 1 for each sequence with anything that counts, else 0."""
    return (_sum(batch.weight_N, batch) > 0).to(batch.weight_N.dtype)


def _log_ratio(outputs: Outputs, batch: Batch) -> torch.Tensor:
    """Return [N] the log of the ratio of the policy to the one that sampled, 0 where nothing counts.

    Without the stream "sampled" they are one policy: all ratios are 1, with the gradient of the log-probabilities.
    """
    assert outputs.logprobs_N is not None
    sampled_N = batch.streams.get("sampled", outputs.logprobs_N.detach())
    return _kept(outputs.logprobs_N - sampled_N, batch)


def _surrogate(
    log_ratio: torch.Tensor, advantage: torch.Tensor, low: float, high: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the clipped surrogate loss, where the clip held it back (1, else 0), and the ratio, per token or per sequence.

    Source: Schulman et al. 2017, arXiv 1707.06347, equation 7; bounds apart as in Yu et al. 2025. `low` and `high` 0: no clip.
    """
    import torch

    ratio = log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()
    free = ratio * advantage
    if low == high == 0:
        return -free, torch.zeros_like(ratio), ratio.detach()
    held = ratio.clamp(1 - low, 1 + high) * advantage
    return -torch.minimum(free, held), (held < free).to(ratio.dtype), ratio.detach()


def _k3(outputs: Outputs, batch: Batch) -> torch.Tensor:
    """Return [N] an estimate of the divergence from the reference that is never negative: q − log q − 1, q = reference / policy."""
    assert outputs.logprobs_N is not None
    log_q_N = _kept(batch.streams["reference"] - outputs.logprobs_N, batch).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    return log_q_N.exp() - log_q_N - 1


def _metrics(
    log_ratio_N: torch.Tensor, batch: Batch, ratio: torch.Tensor, clipped: torch.Tensor, counted: torch.Tensor
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return MOVED; ratio and clipped are per token or per sequence, as `counted` is."""
    return {
        "ratio": ((counted * ratio).sum(), counted.sum()),
        "clipped": ((counted * clipped).sum(), counted.sum()),
        "drift": ((batch.weight_N * log_ratio_N.abs()).sum(), batch.weight_N.sum()),
    }


def grpo_streams(*, kl: float = 0.0, **others: object) -> tuple[str, ...]:
    """Return the streams that `grpo` reads: the reference only where leaving it costs something; `others` change nothing."""
    return ("sampled", "advantage", "reference") if kl else ("sampled", "advantage")


def grpo_advantage(*, variant: Variant = "grpo", **others: object) -> str:
    """Return how rewards become advantages: Dr. GRPO leaves out the division by a group's deviation."""
    return "centred" if variant == "dr_grpo" else "group"


RATE_FACTOR = 0.05
"""An advantage is a noisy guide. It makes of the rate of `sft` at width 4096 the 1e-6 of Shao et al. 2024, arXiv 2402.03300."""

GRPO = Objective(
    function=grpo,
    counts=grpo_counts,
    terms=("policy", "kl"),
    needs=("logprobs",),
    reads=ATTEMPTED,
    metrics=(*MOVED, "reference_kl"),
    renders="rollouts",
    streams=grpo_streams,
    advantage=grpo_advantage,
    own_logprobs=True,
    rate_factor=RATE_FACTOR,
)
RLOO = Objective(
    function=rloo,
    counts=rloo_counts,
    terms=("policy",),
    needs=("logprobs",),
    reads=ATTEMPTED,
    metrics=MOVED,
    renders="rollouts",
    advantage="leave_one_out",
    own_logprobs=True,
    streams=("sampled", "advantage"),
    rate_factor=RATE_FACTOR,
)
REINFORCE = Objective(
    function=reinforce,
    counts=reinforce_counts,
    terms=("policy",),
    needs=("logprobs",),
    reads=ATTEMPTED,
    metrics=MOVED,
    renders="rollouts",
    advantage="reward_to_go",
    own_logprobs=True,
    streams=("sampled", "advantage"),
    rate_factor=RATE_FACTOR,
)
PPO = Objective(
    function=ppo,
    counts=ppo_counts,
    terms=("policy", "value", "entropy"),
    needs=("logprobs", "entropy", "values"),
    reads=ATTEMPTED,
    metrics=(*MOVED, "entropy", "value_error"),
    renders="rollouts",
    advantage="generalised",
    streams=("sampled", "advantage", "return", "value"),
    rate_factor=RATE_FACTOR,
)
