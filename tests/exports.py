"""Models to export, for tests: small random networks of each family, tokenizers of each kind, and subjects with held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from burnish.data.dialog import Frame
from burnish.data.render import Renderer
from burnish.export import Subject
from burnish.models import Model, load_model
from burnish.types import Expected, Message, Origin, Task, content
from stub import WORDS, cpu, stub_tokenizer

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
}
STRETCHED = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 500000.0,
}
GEMMA = {
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 8,
    "num_hidden_layers": 6,
    "hidden_size": 32,
    "num_attention_heads": 2,
}

NETWORKS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": False}),
    "llama tied": ("LlamaConfig", {"tie_word_embeddings": True}),
    "llama stretched": ("LlamaConfig", {"rope_parameters": STRETCHED}),
    "llama linear": ("LlamaConfig", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}),
    "mistral": ("MistralConfig", {"head_dim": 32, "sliding_window": None}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 128}),
    "gemma": ("GemmaConfig", {"head_dim": 32}),
    "gemma2": ("Gemma2Config", GEMMA),
    "gemma3": ("Gemma3TextConfig", {**GEMMA, "num_key_value_heads": 1}),
}
"""A configuration of each family, as small as it goes; what GGUF readers take for granted is as in the real models."""

CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' + (first if loop.first else '') }}"
    "{{ message['content'] + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system message') }}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
LAST_SYSTEM = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set said = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}"
    "{% set said = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (said + '\\n\\n' if said and loop.last else '') + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""Templates as those of Qwen, Llama 3, Gemma and Mistral (which puts the system message into the last question) write them."""


def piece_tokenizer(*, first: bool = True) -> Any:
    """Return a SentencePiece-like tokenizer with byte tokens; `first` puts a space before each text."""
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learner = Tokenizer(BPE(unk_token="<unk>"))
    marks: list[Any] = [normalizers.Replace(" ", "▁")]
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *marks])
    learner.train_from_iterator(
        [WORDS + "Hello world user system 0123456789"], BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    import json

    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    raw = Tokenizer(BPE(learned["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *marks] if first else marks)
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    raw.add_special_tokens(["<unk>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def word_tokenizer(split: Any, *, whole_first: bool = False) -> Any:
    """Return a byte-level tokenizer that divides text by steps of its own (pre_tokenizers) before its bytes."""
    from tokenizers import pre_tokenizers

    tokenizer = stub_tokenizer()
    raw = tokenizer.backend_tokenizer
    raw.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    raw.model.ignore_merges = whole_first
    return tokenizer


def network_folder(folder: Path, kind: str = "llama", *, tokenizer: Any = None, template: str | None = None) -> Path:
    """Write a random network of a family with a tokenizer, its norms and biases away from their usual values, and return the folder."""
    import transformers

    tokenizer = tokenizer if tokenizer is not None else stub_tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    name, values = NETWORKS[kind]
    config = getattr(transformers, name)(
        vocab_size=len(tokenizer) + 8,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        **{**SIZES, **values},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    network.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


QUESTIONS = ("Where is the answer to it there?", "the order and the user, one question: is it an answer?", "ends there")


def tasks(count: int = 3, *, system: str | None = None) -> tuple[Task, ...]:
    """Return questions with an accepted answer."""
    found = []
    for number in range(count):
        turns = [Message(role="system", content=content(system))] if system else []
        turns.append(Message(role="user", content=content(QUESTIONS[number % len(QUESTIONS)])))
        found.append(Task(messages=tuple(turns), expected=Expected(texts=("the user",)), origin=Origin("rows.jsonl", number + 1)))
    return tuple(found)


def subject(
    folder: Path, *, rows: Sequence[Task] | None = None, frame: Frame | None = None, model: Model | None = None, **named: Any
) -> Subject:
    """Return the model of a folder with rows, ready to be exported."""
    model = model or load_model(str(folder), cpu())
    renderer = Renderer(model.tokenizer, model.max_length, model.end_ids(), frame or Frame())
    return Subject(str(folder), model, renderer, tuple(rows if rows is not None else tasks()), "for a test", **named)
