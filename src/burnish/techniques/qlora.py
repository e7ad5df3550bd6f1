"""QLoRA: low-rank adapters beside a frozen base that is stored in 4 or 8 bits.

Enters: a Hugging Face network. Leaves: a `PeftModel` around its quantised form in which only the adapters move. The adapter's folder says how
the base was quantised, so that it is opened on the same one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from burnish.techniques.folded import plain
from burnish.techniques.low_rank import low_rank
from burnish.techniques.quantised import quantise, write_facts
from burnish.types import Technique

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def qlora(
    network: PreTrainedModel,
    *,
    base: Literal["nf4", "int8", "bitsandbytes-nf4", "bitsandbytes-int8"] = "nf4",
    double: bool = True,
    rank: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    targets: list[str] | None = None,
    rank_stabilised: bool = False,
    ranks: dict[str, int] | None = None,
    alphas: dict[str, float] | None = None,
    rate_ratio: float = 1.0,
) -> PeftModel:
    """Train low-rank adapters on a base stored in 4 bits ("nf4") or 8 bits ("int8"): a quarter or half of the memory, and slower.

    With `double` the scales of nf4 are stored in 8 bits too. The forms with `bitsandbytes` in front need that package, and are quicker on
    a GPU. The other options are LoRA's. Merging takes the base as it was trained on, at full precision. Source: Dettmers et al.
    2023, arXiv 2305.14314.

    Raises ConfigError as `lora` does, and ModelError where bitsandbytes is asked for and missing.
    """
    if base == "nf4" or base == "int8":
        quantise(network, kind=base, double=double)
    elif not next(network.parameters()).is_meta:
        from burnish.techniques.bitsandbytes import reopened

        network = reopened(network, kind=base, double=double)
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


def save(network: Any, folder: Path) -> None:
    """Write PEFT's adapter folder, and in it how the base is quantised."""
    network.save_pretrained(str(folder), save_embedding_layers=False)
    write_facts(plain(network), folder)


# As LoRA: the paper trains both with the same.
QLORA = Technique(
    function=qlora,
    learning_rate=2e-3,
    width_power=0.9,
    merges=True,
    saves="adapter",
    reference="adapter_off",
    save=save,
    averages="factor",
)
