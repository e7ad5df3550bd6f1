"""PiSSA: low-rank adapters that start at the largest directions of the weights themselves.

Enters: a Hugging Face network. Leaves: a `PeftModel` around it whose base has lost what its adapters begin with. What is saved is a plain
LoRA of twice the rank relative to the untouched base (`folded`): PEFT's own way of saving would make every reader repeat the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from burnish.errors import ConfigError
from burnish.techniques.folded import add, lora_layers, oriented, plain, restore, save
from burnish.techniques.low_rank import low_rank
from burnish.types import Technique

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel


def pissa(
    network: PreTrainedModel,
    *,
    rank: int = 16,
    alpha: float = 16.0,
    dropout: float = 0.0,
    targets: list[str] | None = None,
    rank_stabilised: bool = False,
    ranks: dict[str, int] | None = None,
    alphas: dict[str, float] | None = None,
    rate_ratio: float = 1.0,
) -> PeftModel:
    """Train low-rank adapters that start as the best low-rank copy of each weight, the rest of the weight frozen.

    With U S V the singular values of W, B = U S^(1/2) and A = S^(1/2) V of the `rank` largest (over the scale), and the base becomes
    W - scale B A, so that the model before step 0 is the base up to rounding. The options are LoRA's. Source: Meng et al. 2024,
    arXiv 2404.02948.

    Raises ConfigError as `lora` does, and for a rank above the smaller side of a layer.
    """
    on_meta = next(network.parameters()).is_meta
    adapted = low_rank(
        network,
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        targets=targets,
        rank_stabilised=rank_stabilised,
        ranks=ranks,
        alphas=alphas,
        rate_ratio=rate_ratio,
        init_lora_weights=True,
    )
    before = getattr(plain(adapted), "folded", {})
    held = {name: [*before.get(name, [])] for name in before}
    for name, layer in lora_layers(adapted).items():
        small = min(layer.in_features, layer.out_features)
        if layer.r["default"] > small:
            raise ConfigError(f"technique.rank = {layer.r['default']}: {name} has only {small} directions. Use a rank up to that.")
        if not on_meta:  # sizes alone are wanted
            held.setdefault(name, []).append(_start(layer))
    setattr(plain(adapted), "folded", held)  # noqa: B010  (the network's class knows no such field)
    return adapted


def _start(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Move the largest directions of a layer's weight into its adapter; return (A, B) whose product was added to the weight."""
    import torch

    base, scale = layer.get_base_layer(), layer.scaling["default"]
    rank = layer.r["default"]
    left, values, right = torch.linalg.svd(oriented(base, base.weight.detach().float()), full_matrices=False)
    root = (values[:rank] / scale).sqrt()
    a, b = root[:, None] * right[:rank], left[:, :rank] * root
    with torch.no_grad():
        layer.lora_A["default"].weight.copy_(a)
        layer.lora_B["default"].weight.copy_(b)
    taken = (a, b * -scale)
    add(base, taken)
    return taken


# As LoRA: the paper keeps LoRA's settings, with alpha equal to the rank.
PISSA = Technique(
    function=pissa,
    learning_rate=1e-3,
    merges=True,
    saves="adapter",
    reference="copy",
    save=save,
    restore=restore,
    stacks=True,
)
