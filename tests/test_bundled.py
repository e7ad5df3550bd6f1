"""The bundled models: opened by plain transformers, the same answers by both ways, any text written and read back unchanged."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish import api
from burnish.assets import BUNDLED, SEEN, bundled_model, reserved
from burnish.data.seen import load_seen
from burnish.models.fresh_tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS
from burnish.types import Dialog, Message, Origin, content

QUESTION = "Read this.\n\nThe ferry leaves at noon. It carries twelve cars.\n\nHow many cars does it carry?"
MEGABYTES = 24


@cache
def opened(name: str) -> tuple[Any, Any]:
    """Return network and tokenizer as anybody's script would open them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(bundled_model(name))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", BUNDLED)
def test_sizes_that_later_work_and_other_tools_rely_on(name: str) -> None:
    network, tokenizer = opened(name)
    config = network.config
    assert type(network).__name__ == "LlamaForCausalLM" and config.tie_word_embeddings
    assert config.max_position_embeddings >= 2048
    assert config.head_dim == 64 and config.hidden_size % 64 == 0 and config.intermediate_size % 64 == 0
    assert len(tokenizer) == config.vocab_size == 8192
    assert tokenizer.convert_ids_to_tokens(list(range(32))) == list(SPECIAL_TOKENS)
    assert (bundled_model(name) / "model.safetensors").stat().st_size < MEGABYTES * 1e6


@pytest.mark.parametrize("name", BUNDLED)
def test_plain_transformers_generates_the_same_tokens(name: str) -> None:
    network, tokenizer = opened(name)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt")
    ids = ids if isinstance(ids, torch.Tensor) else ids["input_ids"]
    with torch.no_grad():
        whole = network.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
    theirs = tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
    ours = api.generate(api.load(name, dtype="float32"), [QUESTION], max_tokens=24)[0]["text"]
    assert ours.strip() == theirs.strip() != ""


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_survives_the_tokenizer(text: str) -> None:
    _, tokenizer = opened("tiny")
    ids = tokenizer(text, add_special_tokens=False).input_ids
    marked = any(token in text for token in SPECIAL_TOKENS)
    assert marked or tokenizer.decode(ids, skip_special_tokens=False) == text


def test_both_have_one_tokenizer_and_the_template_with_marks() -> None:
    files = [
        {file: (bundled_model(name) / file).read_bytes() for file in ("tokenizer.json", "chat_template.jinja")} for name in BUNDLED
    ]
    assert files[0] == files[1]
    assert files[0]["chat_template.jinja"].decode() == CHAT_TEMPLATE and "{% generation %}" in CHAT_TEMPLATE


@pytest.mark.parametrize("name", BUNDLED)
def test_a_model_says_what_it_has_seen_and_where_that_comes_from(name: str) -> None:
    seen = load_seen(bundled_model(name) / SEEN)
    assert len(seen.hash_N) > 50_000
    card = (bundled_model(name) / "README.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in card and "openstax.org" in card and "covid" in card.lower()


def test_reserved_rows_are_seen_by_none() -> None:
    path = reserved()
    assert path is not None
    kept = set(load_seen(path).hash_N.tolist())
    assert len(kept) > 1000
    for name in BUNDLED:
        assert not kept & set(load_seen(bundled_model(name) / SEEN).hash_N.tolist())


def test_an_instruction_that_was_held_out_is_not_among_the_seen() -> None:
    """And one that was trained on is, by the chat model alone."""
    trained = Dialog(
        messages=(Message("user", content("What are the first 10 square numbers?")), Message("assistant", content("1, 4"))),
        origin=Origin("rows"),
    )
    knows = {name: load_seen(bundled_model(name) / SEEN).knows(trained) for name in BUNDLED}
    held_back = load_seen(reserved() or bundled_model("tiny")).knows(trained)
    assert knows == {"tiny": False, "tiny-chat": not held_back}


def test_the_settings_of_both_end_an_answer_where_a_turn_ends() -> None:
    for name in BUNDLED:
        settings_of = json.loads((bundled_model(name) / "generation_config.json").read_text(encoding="utf-8"))
        assert SPECIAL_TOKENS.index("<|end|>") in settings_of["eos_token_id"]
