"""Selective tuning: some of the model's own parameters move, by what they are.

Enters: a Hugging Face network. Leaves: the same network with the named parts marked. What is saved is a whole model folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from burnish.errors import ConfigError
from burnish.techniques.low_rank import head_names
from burnish.types import Technique

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def selective(
    network: PreTrainedModel,
    *,
    last_layers: int = 0,
    norms: bool = False,
    biases: bool = False,
    embeddings: bool = False,
    head: bool = False,
) -> PreTrainedModel:
    """Train the parts that are named: the last layers, the scales of the norms, the biases, the token vectors, the output head.

    What is tied moves together: with shared token vectors, `head` and `embeddings` are the same matrix. Sources: biases alone are
    Ben Zaken et al. 2021, arXiv 2106.10199; norms alone Zhao et al. 2023, arXiv 2312.11420.

    Raises ConfigError where nothing is named, for more layers than there are, and for a part that the model does not have.
    """
    asked = {"last_layers": last_layers, "norms": norms, "biases": biases, "embeddings": embeddings, "head": head}
    if not any(asked.values()):
        raise ConfigError(
            "technique selective: nothing is named that should move. Set at least one of technique.last_layers (a number), norms, biases, "
            "embeddings, head (true)."
        )
    found = {
        "last_layers": _of_last_layers(network, last_layers) if last_layers else [],
        "norms": _of_norms(network) if norms else [],
        "biases": [item for name, item in network.named_parameters() if name.endswith("bias")] if biases else [],
        "embeddings": list(network.get_input_embeddings().parameters()) if embeddings else [],
        # What comes in trainable is a task's head as `models` knows it: an encoder's pooler belongs to that.
        "head": [*_of_head(network), *(item for item in network.parameters() if item.requires_grad)] if head else [],
    }
    for name, wanted in asked.items():
        if wanted and not found[name]:
            raise ConfigError(f"technique.{name} = {str(wanted).lower()}: the model has no such parameters. Leave it out.")
    network.requires_grad_(False)
    for parameters in found.values():
        for parameter in parameters:
            parameter.requires_grad_(True)
    return network


def _of_last_layers(network: Any, number: int) -> list[Any]:
    """Return the parameters of the last layers; ConfigError for a number that is not among 1 and all of them."""
    import torch

    lists = [module for module in network.modules() if isinstance(module, torch.nn.ModuleList)]
    layers = max(lists, key=lambda item: sum(parameter.numel() for parameter in item.parameters()), default=[])
    if not 1 <= number <= len(layers):
        raise ConfigError(f"technique.last_layers = {number}: the model has {len(layers)} layers.")
    return [parameter for layer in list(layers)[-number:] for parameter in layer.parameters()]


def _of_norms(network: Any) -> list[Any]:
    """Return the parameters of the normalisation layers, which networks name by what they are."""
    return [
        item for module in network.modules() if "norm" in type(module).__name__.lower() for item in module.parameters(recurse=False)
    ]


def _of_head(network: Any) -> list[Any]:
    """Return the parameters of the output head, or of a task's head where the network does not write text."""
    output = network.get_output_embeddings()
    heads = [output] if output is not None else [getattr(network, name) for name in head_names(network)]
    return [parameter for module in heads for parameter in module.parameters()]


# Two and a half times that of full tuning: fewer parameters move, and each has to do more.
SELECTIVE = Technique(
    function=selective,
    learning_rate=1e-3,
    merges=False,
    saves="model",
    reference="copy",
    why_not="nothing to merge",
    averages="weights",
)
