"""(IA)3: a learned factor for each key, value and inner activation; the smallest of the adapters.

Enters: a Hugging Face network. Leaves: a `PeftModel` around it in which only these vectors move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from burnish.errors import ConfigError
from burnish.techniques.low_rank import head_names, linear_layers, linear_names, matches, quiet, task_type
from burnish.techniques.prompt import refuse_new_terms
from burnish.types import Technique

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

USUAL = (
    (("k_proj", "v_proj", "down_proj"), ("down_proj",)),
    (("c_attn", "mlp.c_proj"), ("mlp.c_proj",)),
    (("k_proj", "v_proj", "fc2"), ("fc2",)),
    (("query_key_value", "dense_4h_to_h"), ("dense_4h_to_h",)),
    (("key", "value", "output.dense"), ("output.dense",)),
)
"""What the paper's three places are called in well-known networks: all layers, and those of them that scale their input."""


def ia3(network: PreTrainedModel, *, targets: list[str] | None = None, inner: list[str] | None = None) -> PeftModel:
    """Train one factor per key, value and inner activation of each layer: a few thousand numbers, and the least capable adapter.

    The layers in `targets` have their output multiplied, those of them that are also in `inner` their input (the last matrix of the
    feed-forward part). All factors start at one, so that the model before step 0 is the base. Source: Liu et al. 2022,
    arXiv 2205.05638.

    Raises ConfigError for names that are no layers of the model, and where they must be given because its names are unknown here.
    """
    from peft import IA3Config, get_peft_model

    refuse_new_terms(network)
    if targets is None:
        if inner is not None:
            raise ConfigError(
                "technique.inner is set without technique.targets: name all layers in targets, and those of them in inner."
            )
        targets, inner = _usual(network)
    layers = linear_layers(network)
    missing = [name for name in [*targets, *(inner or [])] if not any(matches(layer, name) for layer in layers)]
    outside = [name for name in inner or [] if name not in targets]
    if missing or outside or not targets:
        raise ConfigError(
            f"technique.targets, technique.inner: {', '.join(missing or outside) or '(empty list)'} "
            f"{'is no linear layer of the model' if missing or not targets else 'stands in inner and not in targets'}. "
            f"It has: {', '.join(linear_names(network))}."
        )
    config = IA3Config(
        target_modules=list(targets),
        feedforward_modules=list(inner or []),
        task_type=task_type(network),
        modules_to_save=head_names(network) or None,
    )
    with quiet():
        return get_peft_model(network, config)  # pyright: ignore[reportReturnType]


def _usual(network: PreTrainedModel) -> tuple[list[str], list[str]]:
    """Return the layers that the paper adapts under the names that this network has for them."""
    layers = linear_layers(network)
    for targets, inner in USUAL:
        if all(any(matches(layer, name) for layer in layers) for name in targets):
            return list(targets), list(inner)
    raise ConfigError(
        f"technique.targets must be set for this model: its layers for keys, values and the last of the feed-forward part are not known "
        f"by name here. It has: {', '.join(linear_names(network))}."
    )


# The paper uses 3e-3 for models of billions; factors near one need larger steps in small ones.
IA3 = Technique(function=ia3, learning_rate=2e-2, width_power=0.5, merges=True, saves="adapter", reference="adapter_off")
