"""Learn a tokenizer of a model's own: byte-level BPE with fixed special tokens and a chat template.

Enters: the texts of a run and how many tokens there may be. Leaves: a tokenizer that writes any text and gives it back unchanged, with
the same 32 special tokens under the same numbers whatever the texts were, so that models from different runs are alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS, EOS, PAD, END = "<s>", "</s>", "<pad>", "<|end|>"

NAMED_TOKENS = (
    *(BOS, EOS, PAD),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", END),
    *("<|tool_call|>", "<|/tool_call|>", "<|think|>", "<|/think|>"),
    *("<|image|>", "<|image_start|>", "<|image_end|>", "<|mask|>"),
)
RESERVED = 32
SPECIAL_TOKENS = (*NAMED_TOKENS, *(f"<|spare_{number}|>" for number in range(RESERVED - len(NAMED_TOKENS))))
"""Tokens 0 to 31. The spare ones let a later job have marks of its own without a change of the vocabulary."""

SMALLEST_VOCABULARY = RESERVED + 256
"""The special tokens and every byte; what is above is learned."""

_CALL = (
    "{% set function = call['function'] or call %}{% set given = function['arguments'] %}"
    "{{ '<|tool_call|>{\"name\": ' + function['name'] | tojson + ', \"arguments\": ' }}"
    "{{ given if given is string else given | tojson }}{{ '}<|/tool_call|>' }}"
)

CHAT_TEMPLATE = (
    # What a message says, whether it is plain text or a list of parts.
    "{% macro said(content) %}{% if content is string %}{{ content }}{% else %}{% for part in content or [] %}"
    "{{ '<|image|>' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}{% endmacro %}"
    "{{ bos_token }}"
    "{% set listed = 'Tools: ' + tools | tojson if tools else '' %}"
    "{% if listed and not (messages and messages[0]['role'] == 'system') %}{{ '<|system|>' + listed + '<|end|>' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>' }}"
    "{% generation %}{{ said(message['content']) }}"
    "{% for call in message['tool_calls'] or [] %}" + _CALL + "{% endfor %}{{ '<|end|>' }}{% endgeneration %}"
    "{% elif message['role'] in ['system', 'user', 'tool'] %}{{ '<|' + message['role'] + '|>' + said(message['content']) }}"
    "{% if loop.first and listed and message['role'] == 'system' %}{{ '\\n\\n' + listed }}{% endif %}{{ '<|end|>' }}"
    "{% else %}{{ raise_exception('a message is of the role system, user, assistant or tool, not ' + message['role']) }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""One mark for who speaks, the words, one mark for the end, nothing in between; what the assistant writes is marked for learning."""


def make_tokenizer(texts: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of at most `vocabulary` tokens learned from the texts; fewer where they hold too few repeated pieces.

    Byte-level BPE (Sennrich et al. 2016, over bytes as in Radford et al. 2019) with GPT-2's rule for dividing a text into words,
    which runtimes for GGUF files know. The same texts give the same tokenizer.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    assert vocabulary >= SMALLEST_VOCABULARY, "fewer tokens than bytes and special tokens"
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    raw.decoder = decoders.ByteLevel()
    special: list[Any] = list(SPECIAL_TOKENS)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return as_fast(raw)


def as_fast(raw: Any) -> PreTrainedTokenizerFast:
    """Return a learned tokenizer as the Hugging Face class that saves itself, with its special tokens and chat template named."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=BOS, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
