"""Low-rank adapters beside frozen linear layers, through PEFT, so that the result opens with PEFT's own loader.

Enters: a Hugging Face network. Leaves: a `PeftModel` around it in which only the adapters move.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from burnish.errors import ConfigError
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
) -> PeftModel:
    """Train low-rank adapters on all linear layers (or on `targets`), the base frozen.

    The update of a layer is scale * B A with scale = alpha / rank, or alpha / sqrt(rank) where `rank_stabilised`. B starts at zero,
    so that the model before step 0 is the base. Source: Hu et al. 2021, arXiv 2106.09685; Kalajdzievski 2023, arXiv 2312.03732.

    Raises ConfigError for a rank below 1, an alpha that is not above 0, a dropout outside 0..1, or targets that are no layers of it.
    """
    from peft import LoraConfig, get_peft_model

    if rank < 1:
        raise ConfigError(f"technique.rank = {rank}: a rank is at least 1. Usual values are 8 to 64.")
    if not 0 <= dropout < 1:
        raise ConfigError(f"technique.dropout = {dropout}: expected a share from 0 up to, not including, 1.")
    if not alpha > 0:
        raise ConfigError(
            f"technique.alpha = {alpha}: with a scale of alpha / rank, nothing would be learned. Usual values are 1 to 2 times the rank."
        )
    known = linear_names(network)
    missing = [target for target in targets or () if target not in known]
    if missing or targets == []:
        raise ConfigError(
            f"technique.targets: the model has no linear layer named {', '.join(missing) or '(empty list)'}. It has: {', '.join(known)}. "
            f"Leave targets out to take them all."
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]  (PEFT divides by the rank; a float is fine)
        lora_dropout=dropout,
        target_modules=targets if targets is not None else "all-linear",
        use_rslora=rank_stabilised,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # PEFT asks transformers a question that is about to be renamed; that is between the two of them.
        warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated", category=FutureWarning)
        return get_peft_model(network, config)  # pyright: ignore[reportReturnType]


def linear_names(network: PreTrainedModel) -> list[str]:
    """Return the distinct last names of the network's linear layers (GPT-2's kind too), its output head left out."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = network.get_output_embeddings()
    modules = ((name, module) for name, module in network.named_modules() if isinstance(module, torch.nn.Linear | Conv1D))
    return sorted({name.rsplit(".", 1)[-1] for name, module in modules if module is not head})


LORA = Technique(function=lora, learning_rate=1e-3, merges=True, saves="adapter", reference="adapter_off")
