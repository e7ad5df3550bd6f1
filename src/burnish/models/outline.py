"""The sizes of a model before it is loaded: how many parameters it has, how many a technique moves, how wide it is.

Enters: a configuration and a technique. Leaves: an `Outline` for estimates of memory and time. No weights are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from burnish.models.heads import HeadSpec, configure, core_of, mark_head, network_class, width_of
from burnish.models.load import Model
from burnish.types import Technique


@dataclass(frozen=True, slots=True)
class Outline:
    """Parameters of the base, parameters that move, and the widths that memory depends on."""

    parameters: int
    trainable: int
    hidden: int
    layers: int
    vocabulary: int
    attention_width: int
    key_width: int
    attention_heads: int
    feed_forward: int | None
    tied: bool
    adapter: bool


def outline(
    config: Any,
    technique: Technique,
    options: Mapping[str, Any],
    *,
    head: HeadSpec | None = None,
    heads: Mapping[str, HeadSpec] | None = None,
) -> Outline:
    """Return the sizes of the model that `config` describes, with its head or those beside it, once the technique is applied."""
    import torch

    if head is not None:
        config = deepcopy(config)
        configure(config, head, name=str(config.name_or_path), pad_id=getattr(core_of(config), "pad_token_id", None))
    with torch.device("meta"):
        network = network_class(None if head is None else head.kind).from_config(config)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        network.requires_grad_(False)
        if head is not None:
            mark_head(network)
        network = technique.function(network, **options)
    trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    beside = sum(len(one.labels) * (width_of(config) + (one.kind != "sequence")) for one in (heads or {}).values())
    return _sizes(config, parameters + beside, trainable + beside, adapter=technique.saves == "adapter")


def outline_of(model: Model) -> Outline:
    """Return the sizes of a model that is loaded, as its technique left it."""
    total, moving = model.parameters()
    adapter = model.technique is not None and model.technique.saves == "adapter"
    return _sizes(model.plain().config, total - moving if adapter else total, moving, adapter=adapter)


def _sizes(config: Any, parameters: int, trainable: int, *, adapter: bool) -> Outline:
    text = core_of(config)
    hidden, found = width_of(config), getattr(text, "num_attention_heads", 1)
    attention_heads = int(found[-1] if isinstance(found, list | tuple) else found)  # of stages, those of the last one
    head_width = int(getattr(text, "head_dim", None) or hidden // attention_heads)
    return Outline(
        parameters=parameters,
        trainable=trainable,
        hidden=hidden,
        layers=int(getattr(text, "num_hidden_layers", None) or len(getattr(text, "hidden_sizes", None) or [1])),
        vocabulary=int(getattr(text, "vocab_size", 0)),
        attention_width=attention_heads * head_width,
        key_width=int(getattr(text, "num_key_value_heads", None) or attention_heads) * head_width,
        attention_heads=attention_heads,
        feed_forward=getattr(text, "intermediate_size", None),
        tied=bool(getattr(config, "tie_word_embeddings", False)),
        adapter=adapter,
    )
