"""Masked language modelling: an encoder restores tokens that were hidden from it, to learn the language of a field before a head.

Enters: `Outputs.logprobs_N` at the masked places and the batch's weights. Leaves: one term, "nll", a weighted sum in nats. Which tokens
are masked is drawn by `data.render_masked`, anew in every epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from burnish.types import Batch, Loss, Objective, Outputs, Text

if TYPE_CHECKING:
    import torch


def mlm(outputs: Outputs, batch: Batch) -> Loss:
    """Continued pretraining of an encoder on plain text: 15 % of the tokens are hidden and predicted from both sides.

    The sum over masked places of weight times negative log-likelihood of the token that stood there, in nats.
    Source: Devlin et al. 2018, "BERT", arXiv 1810.04805, section 3.1.
    """
    assert outputs.logprobs_N is not None
    return Loss(terms={"nll": -(outputs.logprobs_N * batch.weight_N).sum()})


def mlm_counts(batch: Batch) -> Mapping[str, torch.Tensor]:
    """Return the denominator of `mlm`: the sum of the weights of the masked places."""
    return {"nll": batch.weight_N.sum()}


MLM = Objective(
    function=mlm, counts=mlm_counts, terms=("nll",), needs=("logprobs",), reads=(Text,), renders="masked", head="masked"
)
