"""The stub: a random two-layer Llama with a byte-level tokenizer, made in a moment, saved as an ordinary Hugging Face folder.

Every test that needs a model takes it from here, so that none depends on a download or on the bundled model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from burnish.devices import Device
from burnish.models import Model, load_model
from burnish.models.template import PLAIN_TEMPLATE

BOS, EOS = "<|bos|>", "<|eos|>"
BYTES_AND_SPECIAL = 258
"""The smallest vocabulary: 256 bytes, and the two special tokens."""
CONTEXT = 512

# Words that the few merges are learned from. Every other text, in any script, falls apart into bytes.
WORDS = "the user and the assistant in the other order: an answer to the question, there is one here and it ends there. "


def stub_tokenizer(*, vocab: int = 288, template: bool = True) -> Any:
    """Return a fast byte-level tokenizer with bos and eos, no padding token, and `vocab` tokens (258 are bytes and special)."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    assert vocab >= BYTES_AND_SPECIAL, "fewer tokens than bytes"
    raw = Tokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    raw.decoder = decoders.ByteLevel()
    bytes_alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special: list[Any] = [BOS, EOS]
    raw.train_from_iterator(
        [WORDS], BpeTrainer(vocab_size=vocab, special_tokens=special, initial_alphabet=bytes_alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=BOS, eos_token=EOS, clean_up_tokenization_spaces=False)
    if template:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def make_stub(
    folder: Path, *, seed: int = 0, vocab: int = 288, template: bool = True, context: int = CONTEXT, layers: int = 2
) -> Path:
    """Write the stub model into `folder` (made if missing) and return it; the same seed gives the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = stub_tokenizer(vocab=vocab, template=template)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.1,  # far enough from uniform that the best token is no accident of rounding
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LlamaForCausalLM(config)
    network.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def cpu(dtype: Any = "float32") -> Device:
    """Return the CPU with weights in `dtype` and exact products."""
    import torch

    return Device("cpu", dtype, "float32", torch.get_num_threads())


def load_stub(folder: Path, *, seed: int = 0, vocab: int = 288, template: bool = True, context: int = CONTEXT) -> Model:
    """Return a freshly made stub, loaded on the CPU in float32."""
    return load_model(str(make_stub(Path(folder) / "stub", seed=seed, vocab=vocab, template=template, context=context)), cpu())
