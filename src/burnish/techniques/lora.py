"""Low-rank adapters beside frozen linear layers, through PEFT, so that the result opens with PEFT's own loader.

Enters: a Hugging Face network. Leaves: a `PeftModel` around it in which only the adapters move. Also here: DoRA, which learns the
length of each row of a weight apart from its direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from burnish.techniques.folded import restore, save
from burnish.techniques.low_rank import low_rank
from burnish.types import Technique

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def lora(
    network: PreTrainedModel,
    *,
    rank: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    targets: list[str] | None = None,
    rank_stabilised: bool = False,
    ranks: dict[str, int] | None = None,
    alphas: dict[str, float] | None = None,
    rate_ratio: float = 1.0,
) -> PeftModel:
    """Train low-rank adapters on all linear layers (or on `targets`), the base frozen.

    The update of a layer is scale * B A with scale = alpha / rank, or alpha / sqrt(rank) where `rank_stabilised`. B starts at zero,
    so that the model before step 0 is the base. Layers are named by their last name (`q_proj`) or by more of it
    (`layers.0.self_attn.q_proj`); `ranks` and `alphas` set those of single ones. B learns at `rate_ratio` times the learning rate of
    A (LoRA+ takes 16). Source: Hu et al. 2021, arXiv 2106.09685; Kalajdzievski 2023, arXiv 2312.03732; Hayou et al. 2024,
    arXiv 2402.12354.

    Raises ConfigError for a rank below 1, an alpha that is not above 0, a dropout outside 0..1, or names that are no layers of it.
    """
    return low_rank(
        network,
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        targets=targets,
        rank_stabilised=rank_stabilised,
        ranks=ranks,
        alphas=alphas,
        rate_ratio=rate_ratio,
    )


def dora(
    network: PreTrainedModel,
    *,
    rank: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    targets: list[str] | None = None,
    rank_stabilised: bool = False,
    ranks: dict[str, int] | None = None,
    alphas: dict[str, float] | None = None,
    rate_ratio: float = 1.0,
) -> PeftModel:
    """Train low-rank adapters that turn each row of a weight, and a number per row that stretches it; slower than LoRA per step.

    The weight becomes m (W + scale B A) / |W + scale B A|, row by row; m starts at |W|, so that the model before step 0 is the base.
    The options are LoRA's. Source: Liu et al. 2024, arXiv 2402.09353.

    Raises ConfigError as `lora` does.
    """
    return low_rank(
        network,
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        targets=targets,
        rank_stabilised=rank_stabilised,
        ranks=ranks,
        alphas=alphas,
        rate_ratio=rate_ratio,
        use_dora=True,
    )


# Four times that of full tuning on the bundled model, where ten times is at the edge of what stays stable, and ten times at width 4096: see
# `learning_rate`.
LORA = Technique(
    function=lora,
    learning_rate=2e-3,
    width_power=0.9,
    merges=True,
    saves="adapter",
    reference="adapter_off",
    save=save,
    restore=restore,
    stacks=True,
    averages="factor",
)

# As LoRA: the paper trains both with the same.
DORA = Technique(
    function=dora, learning_rate=2e-3, width_power=0.9, merges=True, saves="adapter", reference="adapter_off", save=save
)
