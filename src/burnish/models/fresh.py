"""Make a model that nothing has taught yet: a Llama network of chosen sizes with random weights, saved beside a tokenizer.

Enters: sizes, a tokenizer and a seed. Leaves: an ordinary Hugging Face folder, which from then on is a local model like any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

DEVIATION = 0.02
"""Standard deviation of fresh weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of a Llama network: widths in numbers of features, `context` in tokens."""

    hidden: int = 256
    layers: int = 8
    heads: int = 4
    key_heads: int = 2
    feed_forward: int = 704
    context: int = 2048
    rope_base: float = 10_000.0


def make_network(sizes: Sizes, tokenizer: Any, *, seed: int = 0) -> LlamaForCausalLM:
    """Return a fresh network in float32 for a tokenizer, its input embedding also its output head; the seed decides the weights.

    Weights are normal with deviation 0.02; projections that write into the residual stream are scaled down by the square root of their
    number, so that the stream does not grow with depth (Radford et al. 2019). Torch's own random state stays as it is.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokens = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(
        vocab_size=max(tokenizer.get_vocab().values()) + 1,  # numbers of a tokenizer from elsewhere may have gaps
        hidden_size=sizes.hidden,
        intermediate_size=sizes.feed_forward,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.key_heads,
        head_dim=sizes.hidden // sizes.heads,
        max_position_embeddings=sizes.context,
        rope_parameters={"rope_type": "default", "rope_theta": sizes.rope_base},
        initializer_range=DEVIATION,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        **tokens,
    )
    with torch.random.fork_rng(devices=[]):
        network = LlamaForCausalLM(config).float()
    generator = torch.Generator().manual_seed(seed)
    residual = DEVIATION / math.sqrt(2 * sizes.layers)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim == 2:  # the norms begin at one
                written = name.endswith(("o_proj.weight", "down_proj.weight"))
                weight.normal_(0.0, residual if written else DEVIATION, generator=generator)
    network.generation_config = GenerationConfig(eos_token_id=_ends(tokenizer), **tokens)
    return network


def first_learning_rate(hidden: int) -> float:
    """Return a highest learning rate for training from random weights: it falls with the width, and is at most 3e-3.

    In proportion to one over the width as Yang et al. 2022 (arXiv 2203.03466) derive for hidden matrices; the factor is that of the
    rates which Brown et al. 2020 (arXiv 2005.14165, table 2.1) found for widths from 768 to 4096.
    """
    return round(min(3e-3, 0.5 / hidden), 7)


def _ends(tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: those of the text and, where the tokenizer has it, of the turn."""
    from burnish.models.load import end_ids

    return list(end_ids(tokenizer, None))


def save_fresh(folder: Path, network: LlamaForCausalLM, tokenizer: Any) -> None:
    """Write network, tokenizer, chat template and generation settings into a folder that Transformers opens by itself."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    network.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
