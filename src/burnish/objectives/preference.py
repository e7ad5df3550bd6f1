"""Preferences: make good answers likelier than bad ones, without a reward model. Six losses of pairs.

Enters: `Outputs.logprobs_N` at the tokens of answers, pairs as two sequences of one group with the roles "chosen" and "rejected",
and the stream "reference" where the loss compares with the policy before step 0. Leaves: the term "preference", a sum over pairs, and
"nll", a sum over the tokens of chosen answers, where one is added. Answers without a partner: `kto`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from burnish.objectives.parts import (
    COMPARISONS,
    LARGEST_EXPONENT,
    above_0,
    comparisons,
    divergence_from_reference,
    from_0,
    log_ratio,
    mean_per_sequence,
    number_of,
    pairs,
    per_sequence,
    refuse,
    smoothing,
    weight_per_sequence,
)
from burnish.types import Batch, Loss, Objective, Outputs, Pair

if TYPE_CHECKING:
    import torch

Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]


def dpo(
    outputs: Outputs,
    batch: Batch,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    length_normalised: bool = False,
    divergence: Divergence = "reverse_kl",
    alpha: float | None = None,
    sft_weight: float = 0.0,
) -> Loss:
    """Direct preference optimization: the chosen answer gains on the rejected one, measured from the policy before step 0.

    Per pair −log σ(m), m the difference of rewards β f'(π / π_ref); with `label_smoothing` ε, −(1−ε) log σ(m) − ε log σ(−m) (cDPO: a share ε
    of pairs is taken to be the wrong way round). The reward is β log(π / π_ref) for "reverse_kl"; `divergence` chooses another f, "alpha"
    with 0 < `alpha` < 1 (0.5 unless given). `length_normalised` divides an answer's log-ratio by its number of tokens; β is then best
    larger (2 to 10). `sft_weight` adds as much negative log-likelihood of the chosen answers, per token.

    Source: Rafailov et al. 2023, arXiv 2305.18290, equation 7; Mitchell 2023, "A note on DPO with noisy preferences" (cDPO); Wang et al.
    2023, arXiv 2309.16240, table 1 (f-DPO); Lambert et al. 2024, arXiv 2411.15124 (length-normalised). Raises ConfigError for options out
    of range.
    """
    from torch.nn.functional import logsigmoid

    _refuse_dpo(beta, label_smoothing, divergence, alpha, sft_weight)
    chosen_P, rejected_P = pairs(batch)
    reward_S = beta * _score(log_ratio(outputs, batch, mean=length_normalised), divergence, 0.5 if alpha is None else alpha)
    margin_P = reward_S[chosen_P] - reward_S[rejected_P]
    loss_P = -(1 - label_smoothing) * logsigmoid(margin_P) - label_smoothing * logsigmoid(-margin_P)
    metrics = {**comparisons(reward_S, chosen_P, rejected_P), "kl": divergence_from_reference(outputs, batch)}
    return Loss(terms={"preference": loss_P.sum(), "nll": sft_weight * _nll(outputs, batch, chosen_P)}, metrics=metrics)


def dpo_counts(
    batch: Batch,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    length_normalised: bool = False,
    divergence: Divergence = "reverse_kl",
    alpha: float | None = None,
    sft_weight: float = 0.0,
) -> Mapping[str, torch.Tensor]:
    """Return the denominators of `dpo`: pairs, and tokens of chosen answers, none where these are not imitated."""
    _refuse_dpo(beta, label_smoothing, divergence, alpha, sft_weight)
    return _counts_with_nll(batch, sft_weight)


def ipo(outputs: Outputs, batch: Batch, *, beta: float = 0.1) -> Loss:
    """Identity preference optimization: the gap between the answers' log-ratios is drawn to 1 / (2 beta) instead of growing on and on.

    Per pair (h − 1 / (2β))², h the difference of the answers' log-ratios to the policy before step 0, each averaged over its tokens. The
    paper's equation has sums; its authors' results were made with averages, as TRL's implementation, the reference here, learned from
    them. With β = 0.1 the gap aimed at is 5 nats per token, so the loss begins at 25.

    Source: Azar et al. 2023, arXiv 2310.12036, equation 17. Raises ConfigError for options out of range.
    """
    refuse({"beta": above_0(beta)})
    chosen_P, rejected_P = pairs(batch)
    ratio_S = log_ratio(outputs, batch, mean=True)
    loss_P = (ratio_S[chosen_P] - ratio_S[rejected_P] - 1 / (2 * beta)) ** 2
    metrics = {**comparisons(beta * ratio_S, chosen_P, rejected_P), "kl": divergence_from_reference(outputs, batch)}
    return Loss(terms={"preference": loss_P.sum()}, metrics=metrics)


def ipo_counts(batch: Batch, *, beta: float = 0.1) -> Mapping[str, torch.Tensor]:
    """Return the denominator of `ipo`: the number of pairs."""
    refuse({"beta": above_0(beta)})
    return {"preference": number_of(pairs(batch)[0])}


def simpo(outputs: Outputs, batch: Batch, *, beta: float = 2.0, gamma_ratio: float = 0.5) -> Loss:
    """Simple preference optimization: average log-probabilities compared, with a margin and without a reference.

    Per pair −log σ(β (a_chosen − a_rejected − `gamma_ratio`)), a the log-probability of an answer per token: the margin γ of the paper is
    β times `gamma_ratio`, which is how the paper advises to tune it (0 to 1).

    Source: Meng et al. 2024, arXiv 2405.14734, equation 6. Raises ConfigError for options out of range.
    """
    from torch.nn.functional import logsigmoid

    refuse({"beta": above_0(beta), "gamma_ratio": from_0(gamma_ratio)})
    assert outputs.logprobs_N is not None
    chosen_P, rejected_P = pairs(batch)
    average_S = mean_per_sequence(outputs.logprobs_N, batch)
    loss_P = -logsigmoid(beta * (average_S[chosen_P] - average_S[rejected_P] - gamma_ratio))
    return Loss(terms={"preference": loss_P.sum()}, metrics=comparisons(beta * average_S, chosen_P, rejected_P))


def simpo_counts(batch: Batch, *, beta: float = 2.0, gamma_ratio: float = 0.5) -> Mapping[str, torch.Tensor]:
    """Return the denominator of `simpo`: the number of pairs."""
    refuse({"beta": above_0(beta), "gamma_ratio": from_0(gamma_ratio)})
    return {"preference": number_of(pairs(batch)[0])}


def orpo(outputs: Outputs, batch: Batch, *, odds_weight: float = 0.1) -> Loss:
    """Odds-ratio preference optimization: fine-tuning on the chosen answers that also lowers the odds of the rejected ones.

    The negative log-likelihood of the chosen answers per token, plus `odds_weight` (the paper's lambda) times −log σ of the log of the odds
    ratio per pair. The odds of an answer are P / (1 − P), P its probability per token, the geometric mean. Needs no reference.

    Source: Hong et al. 2024, arXiv 2403.07691, equations 4 to 7. Raises ConfigError for options out of range.
    """
    from torch.nn.functional import logsigmoid

    refuse({"odds_weight": from_0(odds_weight)})
    assert outputs.logprobs_N is not None
    chosen_P, rejected_P = pairs(batch)
    average_S = mean_per_sequence(outputs.logprobs_N, batch)
    log_odds_S = average_S - _log_of_rest(average_S)
    loss_P = -odds_weight * logsigmoid(log_odds_S[chosen_P] - log_odds_S[rejected_P])
    return Loss(
        terms={"nll": _nll(outputs, batch, chosen_P), "preference": loss_P.sum()},
        metrics=comparisons(average_S, chosen_P, rejected_P),
    )


def orpo_counts(batch: Batch, *, odds_weight: float = 0.1) -> Mapping[str, torch.Tensor]:
    """Return the denominators of `orpo`: tokens of chosen answers, and pairs."""
    refuse({"odds_weight": from_0(odds_weight)})
    return _counts_with_nll(batch, 1.0)


def cpo(outputs: Outputs, batch: Batch, *, beta: float = 0.1, label_smoothing: float = 0.0, nll_weight: float = 1.0) -> Loss:
    """Contrastive preference optimization: DPO with a uniform reference, held to the good answers by imitating them.

    Per pair −log σ(β (log π(chosen) − log π(rejected))), smoothed as in dpo, plus `nll_weight` times the negative log-likelihood of the
    chosen answers per token.

    Source: Xu et al. 2024, arXiv 2401.08417, section 3. Raises ConfigError for options out of range.
    """
    from torch.nn.functional import logsigmoid

    refuse({"beta": above_0(beta), "label_smoothing": smoothing(label_smoothing), "nll_weight": from_0(nll_weight)})
    assert outputs.logprobs_N is not None
    chosen_P, rejected_P = pairs(batch)
    reward_S = beta * per_sequence(outputs.logprobs_N, batch)
    margin_P = reward_S[chosen_P] - reward_S[rejected_P]
    loss_P = -(1 - label_smoothing) * logsigmoid(margin_P) - label_smoothing * logsigmoid(-margin_P)
    return Loss(
        terms={"preference": loss_P.sum(), "nll": nll_weight * _nll(outputs, batch, chosen_P)},
        metrics=comparisons(reward_S, chosen_P, rejected_P),
    )


def cpo_counts(
    batch: Batch, *, beta: float = 0.1, label_smoothing: float = 0.0, nll_weight: float = 1.0
) -> Mapping[str, torch.Tensor]:
    """Return the denominators of `cpo`: pairs, and tokens of chosen answers, none where these are not imitated."""
    refuse({"beta": above_0(beta), "label_smoothing": smoothing(label_smoothing), "nll_weight": from_0(nll_weight)})
    return _counts_with_nll(batch, nll_weight)


def apo(outputs: Outputs, batch: Batch, *, beta: float = 0.1, variant: Literal["zero", "down"] = "zero") -> Loss:
    """Anchored preference optimization: says for each answer whether it should become likelier, not only for their difference.

    With r = β log(π / π_ref): "zero", per pair 1 − σ(r_chosen) + σ(r_rejected), raises chosen answers and lowers rejected ones, for chosen
    answers better than the model's own; "down", σ(r_chosen) + 1 − σ(r_chosen − r_rejected), lowers both, the rejected more, for a model
    that is already better than the chosen answers.

    Source: D'Oosterlinck et al. 2024, arXiv 2408.06266, equations 7 and 8. Raises ConfigError for options out of range.
    """
    refuse({"beta": above_0(beta)})
    chosen_P, rejected_P = pairs(batch)
    reward_S = beta * log_ratio(outputs, batch)
    chosen_reward_P, rejected_reward_P = reward_S[chosen_P], reward_S[rejected_P]
    if variant == "zero":
        loss_P = (-chosen_reward_P).sigmoid() + rejected_reward_P.sigmoid()
    else:
        loss_P = chosen_reward_P.sigmoid() + (rejected_reward_P - chosen_reward_P).sigmoid()
    metrics = {**comparisons(reward_S, chosen_P, rejected_P), "kl": divergence_from_reference(outputs, batch)}
    return Loss(terms={"preference": loss_P.sum()}, metrics=metrics)


def apo_counts(batch: Batch, *, beta: float = 0.1, variant: Literal["zero", "down"] = "zero") -> Mapping[str, torch.Tensor]:
    """Return the denominator of `apo`: the number of pairs, whatever the variant."""
    refuse({"beta": above_0(beta)})
    return {"preference": number_of(pairs(batch)[0])}


def _score(ratio_S: torch.Tensor, divergence: Divergence, alpha: float) -> torch.Tensor:
    """Return f'(u) up to a constant for u = exp(ratio): log u; −1/u; log(2u / (1+u)); (1 − u^−α) / α. Source: arXiv 2309.16240, table 1.

    The constants are those with which it is 0 at u = 1. Exponents are held to what float32 can represent.
    """
    from torch.nn.functional import logsigmoid

    if divergence == "forward_kl":
        return -(-ratio_S).clamp(max=LARGEST_EXPONENT).expm1()
    if divergence == "js":
        return math.log(2) + logsigmoid(ratio_S)
    if divergence == "alpha":
        return -(-alpha * ratio_S).clamp(max=LARGEST_EXPONENT).expm1() / alpha
    return ratio_S


def _log_of_rest(logprob_S: torch.Tensor) -> torch.Tensor:
    """Return log(1 − exp(x)) for x < 0 without losing digits at either end; x is held a little below 0, where it would be −∞."""
    import torch

    held_S = logprob_S.clamp(max=-1e-6)
    return torch.where(held_S > -math.log(2), (-torch.expm1(held_S)).log(), torch.log1p(-held_S.exp()))


def _nll(outputs: Outputs, batch: Batch, chosen_P: torch.Tensor) -> torch.Tensor:
    """Return the sum of weight times negative log-likelihood over the tokens of chosen answers, in nats."""
    assert outputs.logprobs_N is not None
    return per_sequence(-outputs.logprobs_N, batch)[chosen_P].sum()


def _counts_with_nll(batch: Batch, weight: float) -> Mapping[str, torch.Tensor]:
    """Return pairs and tokens of chosen answers; no tokens where the weight is 0, so that the term is not shown."""
    chosen_P, _ = pairs(batch)
    tokens = weight_per_sequence(batch)[chosen_P].sum()
    return {"preference": number_of(chosen_P), "nll": tokens if weight > 0 else tokens * 0}


def _refuse_dpo(beta: float, label_smoothing: float, divergence: Divergence, alpha: float | None, sft_weight: float) -> None:
    """Raise ConfigError for options out of range, and for an alpha that nothing would read."""
    wrong = {"beta": above_0(beta), "label_smoothing": smoothing(label_smoothing), "sft_weight": from_0(sft_weight)}
    if alpha is not None:
        right = divergence == "alpha" and 0 < alpha < 1
        wrong["alpha"] = (
            alpha,
            right,
            'a number between 0 and 1, with objective.divergence = "alpha"; without that, leave alpha out',
        )
    refuse(wrong)


PREFERENCE_RATE_FACTOR = 0.05
"""Nothing is imitated that would hold the answers in place. It makes of the rate of `sft` at width 4096 the 1e-6 of Rafailov et al. 2023,
arXiv 2305.18290; Meng et al. 2024, arXiv 2405.14734, searched from 3e-7 to 1e-6 there for `dpo`, `ipo` and `simpo`."""

IMITATING_RATE_FACTOR = 0.3
"""The chosen answer is imitated at the same time: between the others and `sft`, by our own choice."""

DPO = Objective(
    function=dpo,
    counts=dpo_counts,
    terms=("preference", "nll"),
    needs=("logprobs",),
    reads=(Pair,),
    metrics=(*COMPARISONS, "kl"),
    renders="pairs",
    preference="ratio",
    streams=("reference",),
    rate_factor=PREFERENCE_RATE_FACTOR,
)
IPO = Objective(
    function=ipo,
    counts=ipo_counts,
    terms=("preference",),
    needs=("logprobs",),
    reads=(Pair,),
    metrics=(*COMPARISONS, "kl"),
    renders="pairs",
    preference="ratio",
    streams=("reference",),
    rate_factor=PREFERENCE_RATE_FACTOR,
)
SIMPO = Objective(
    function=simpo,
    counts=simpo_counts,
    terms=("preference",),
    needs=("logprobs",),
    reads=(Pair,),
    metrics=COMPARISONS,
    renders="pairs",
    preference="mean",
    rate_factor=PREFERENCE_RATE_FACTOR,
)
ORPO = Objective(
    function=orpo,
    counts=orpo_counts,
    terms=("nll", "preference"),
    needs=("logprobs",),
    reads=(Pair,),
    metrics=COMPARISONS,
    renders="pairs",
    preference="mean",
    rate_factor=IMITATING_RATE_FACTOR,
)
CPO = Objective(
    function=cpo,
    counts=cpo_counts,
    terms=("preference", "nll"),
    needs=("logprobs",),
    reads=(Pair,),
    metrics=COMPARISONS,
    renders="pairs",
    rate_factor=IMITATING_RATE_FACTOR,
)
APO = Objective(
    function=apo,
    counts=apo_counts,
    terms=("preference",),
    needs=("logprobs",),
    reads=(Pair,),
    metrics=(*COMPARISONS, "kl"),
    renders="pairs",
    preference="ratio",
    streams=("reference",),
    rate_factor=PREFERENCE_RATE_FACTOR,
)
