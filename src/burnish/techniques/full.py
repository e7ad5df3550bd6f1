"""Full fine-tuning: every parameter moves.

Enters and leaves: a Hugging Face network. What is saved is a whole model folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from burnish.types import Technique

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def full(network: PreTrainedModel) -> PreTrainedModel:
    """Train all parameters of the model; the most capable technique and the one that forgets most.

    Source: Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", arXiv 1801.06146.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network


# High for full tuning, where 1e-5 is usual for billions of parameters: the models that fit a laptop are small and take it.
FULL = Technique(
    function=full,
    learning_rate=5e-4,
    merges=False,
    saves="model",
    reference="copy",
    why_not="its weights are the model's own",
    averages="weights",
)
