"""Single answers with a thumb up or down: learned from without pairs.

Enters: `Outputs.logprobs_N` at the tokens of answers, and the streams "rating" (1 or 0), "reference", and "divergence", the reference
point that the whole step shares. It is filled before the step (`reference`), so that the loss stays a sum. Leaves: one term,
"preference", a sum over answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from burnish.objectives.parts import above_0, answered, divergence_from_reference, from_0, log_ratio, mean_per_sequence, refuse
from burnish.types import Batch, Loss, Objective, Outputs, Pair, Rated

if TYPE_CHECKING:
    import torch


def kto(
    outputs: Outputs, batch: Batch, *, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> Loss:
    """Kahneman-Tversky optimization: learns from single answers with a thumb up or down, without pairs.

    Per answer with log-ratio h to the policy before step 0: `desirable_weight` · (1 − σ(β (h − z0))) for a thumb up, `undesirable_weight` ·
    (1 − σ(β (z0 − h))) for a thumb down. z0, the reference point, is the stream "divergence": filled before the step from answers to
    other prompts, no gradient through it. Where one kind of thumb is rarer, weights with which both kinds weigh about alike, numbers
    times weights, are what the paper advises.

    Source: Ethayarajh et al. 2024, arXiv 2402.01306, section 4. Raises ConfigError for options out of range.
    """
    _refuse_kto(beta, desirable_weight, undesirable_weight)
    assert outputs.logprobs_N is not None
    here_S = answered(batch).to(outputs.logprobs_N.dtype)
    good_S = here_S * (mean_per_sequence(batch.streams["rating"], batch) > 0.5)
    bad_S = here_S - good_S
    ratio_S = log_ratio(outputs, batch)
    gain_S = beta * (ratio_S - mean_per_sequence(batch.streams["divergence"], batch))
    loss_S = desirable_weight * good_S * (-gain_S).sigmoid() + undesirable_weight * bad_S * gain_S.sigmoid()
    reward_S, gain_S, count = beta * ratio_S.detach(), gain_S.detach(), here_S.sum()
    right_S = good_S * (gain_S > 0) + bad_S * (gain_S < 0)
    metrics = {
        "accuracy": (right_S.sum(), count),
        "desirable_reward": ((good_S * reward_S).sum(), good_S.sum()),
        "undesirable_reward": ((bad_S * reward_S).sum(), bad_S.sum()),
        "divergence": ((here_S * mean_per_sequence(batch.streams["divergence"], batch)).sum(), count),
        "kl": divergence_from_reference(outputs, batch),
    }
    return Loss(terms={"preference": loss_S.sum()}, metrics=metrics)


def kto_counts(
    batch: Batch, *, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> Mapping[str, torch.Tensor]:
    """Return the denominator of `kto`: the number of answers that have any weight."""
    _refuse_kto(beta, desirable_weight, undesirable_weight)
    return {"preference": answered(batch).to(batch.weight_N.dtype).sum()}


def _refuse_kto(beta: float, desirable_weight: float, undesirable_weight: float) -> None:
    """Raise ConfigError for options out of range."""
    weights = {"desirable_weight": from_0(desirable_weight), "undesirable_weight": from_0(undesirable_weight)}
    refuse({"beta": above_0(beta), **weights})


KTO = Objective(
    function=kto,
    counts=kto_counts,
    terms=("preference",),
    needs=("logprobs",),
    reads=(Rated, Pair),
    metrics=("accuracy", "desirable_reward", "undesirable_reward", "divergence", "kl"),
    renders="rated",
    preference="ratio",
    streams=("rating", "reference", "divergence"),
    rate_factor=0.05,  # as for DPO: nothing is imitated
)
