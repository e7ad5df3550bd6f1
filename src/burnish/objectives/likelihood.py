"""Maximum likelihood of the tokens that are to be learned: supervised fine-tuning, and continued pretraining where all tokens are.

Enters: `Outputs.logprobs_N` and the batch's weights, and the stream "reference" where drifting from it is to cost something. Leaves:
the terms "nll" and "kl", weighted sums in nats; "kl" counts nothing unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from burnish.types import Answerable, Batch, Dialog, Labelled, Loss, Objective, Outputs, Pair, Tagged, Text

if TYPE_CHECKING:
    import torch


def sft(outputs: Outputs, batch: Batch, *, kl: float = 0.0) -> Loss:
    """Supervised fine-tuning: imitate the assistant's turns; on plain text, continued pretraining.

    The sum over read-outs of weight times negative log-likelihood, in nats. Of a pair, the chosen answer is imitated.
    Source: Ouyang et al. 2022, "Training language models to follow instructions with human feedback", section 3.5.

    `kl` above 0 adds kl times weight times k3 = exp(d) - d - 1 with d = reference - own log-probability of the target (the stream
    "reference"): 0 where the two agree, above 0 elsewhere. On tokens that the policy sampled it estimates KL(policy, reference); on
    tokens of the data, as here, it is a penalty for drifting from the base on them. Source: Schulman 2020, "Approximating KL divergence".
    """
    import torch

    assert outputs.logprobs_N is not None and kl >= 0
    nll_N = -outputs.logprobs_N * batch.weight_N
    if not kl:
        return Loss(terms={"nll": nll_N.sum(), "kl": batch.weight_N.new_zeros(())})
    apart_N = torch.where(batch.weight_N != 0, batch.streams["reference"] - outputs.logprobs_N, 0.0)
    k3_N = torch.expm1(apart_N) - apart_N
    return Loss(terms={"nll": nll_N.sum(), "kl": kl * (k3_N * batch.weight_N).sum()})


def sft_counts(batch: Batch, *, kl: float = 0.0) -> Mapping[str, torch.Tensor]:
    """Return the denominators of `sft`: the sum of the weights, and for "kl" nothing where it is not asked for."""
    total = batch.weight_N.sum()
    return {"nll": total, "kl": total if kl else total.new_zeros(())}


def sft_streams(*, kl: float = 0.0, **others: object) -> tuple[str, ...]:
    """Return the streams that `sft` reads: what the base says, only where drifting from it costs something; `others` change nothing."""
    return ("reference",) if kl else ()


SFT = Objective(
    function=sft,
    counts=sft_counts,
    terms=("nll", "kl"),
    needs=("logprobs",),
    reads=(Text, Dialog, Labelled, Tagged, Answerable, Pair),
    streams=sft_streams,
)
