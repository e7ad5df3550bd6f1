"""Maximum likelihood of the tokens that are to be learned: supervised fine-tuning, and continued pretraining where all tokens are.

Enters: `Outputs.logprobs_N` and the batch's weights. Leaves: one term, "nll", a weighted sum in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from burnish.types import Answerable, Batch, Dialog, Labelled, Loss, Objective, Outputs, Pair, Tagged, Text

if TYPE_CHECKING:
    import torch


def sft(outputs: Outputs, batch: Batch) -> Loss:
    """Supervised fine-tuning: imitate the assistant's turns; on plain text, continued pretraining.

    The sum over read-outs of weight times negative log-likelihood, in nats. Of a pair, the chosen answer is imitated.
    Source: Ouyang et al. 2022, "Training language models to follow instructions with human feedback", section 3.5.
    """
    assert outputs.logprobs_N is not None
    nll_N = -outputs.logprobs_N * batch.weight_N
    return Loss(terms={"nll": nll_N.sum()})


def sft_counts(batch: Batch) -> Mapping[str, torch.Tensor]:
    """Return the denominator of `sft`: the sum of the weights."""
    return {"nll": batch.weight_N.sum()}


SFT = Objective(
    function=sft,
    counts=sft_counts,
    terms=("nll",),
    needs=("logprobs",),
    reads=(Text, Dialog, Labelled, Tagged, Answerable, Pair),
)
