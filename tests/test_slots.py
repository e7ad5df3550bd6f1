"""Slots: rows that join and leave at any time say what they say alone, in every architecture whose layers they know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.models import Model, load_model
from burnish.models.fast import Slots, fits_slots
from burnish.sampling import Generated, Options, generate
from burnish.sampling.flight import Flight, Row
from burnish.sampling.padded import Padded
from burnish.techniques import TECHNIQUES
from stub import cpu, load_stub, make_stub

LENGTHS = (3, 17, 90, 40, 40, 9, 100, 2, 70, 1)
SHAPE: dict[str, Any] = {
    "vocab_size": 288,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.1,
    "max_position_embeddings": 512,
    "eos_token_id": [1, *range(66, 288, 20)],
}


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Model:
    model = load_stub(tmp_path_factory.mktemp("slots"))
    model.plain().config.eos_token_id = SHAPE["eos_token_id"]
    return model


@pytest.fixture(scope="module")
def prompts() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(60, 288, size=length) for length in LENGTHS]


def architecture(stub: Model, kind: str) -> Model:
    """Return a random network of an architecture, with the stub's tokenizer."""
    import transformers

    more: dict[str, Any] = {
        "MistralSliding": {"sliding_window": 8},
        "Mistral": {"sliding_window": None},
        "Qwen3": {"head_dim": 32},
        "Llama": {
            "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0},
            "attention_bias": True,
            "mlp_bias": True,
        },
        "GPT2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
        "Gemma2": {"head_dim": 16, "sliding_window": 8},
    }.get(kind, {})
    name = kind.removesuffix("Sliding")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**{**SHAPE, **more})
        network: Any = transformers.AutoModelForCausalLM.from_config(config).eval()
    return replace(stub, network=network, head="whole" if kind == "Gemma2" else "separate")


def twins(model: Model, prompts: Sequence[np.ndarray], options: Options, monkeypatch: pytest.MonkeyPatch) -> list[list[Generated]]:
    """Return the answers by slots and by the network's own cache."""
    quick = generate(model, prompts, options)
    with monkeypatch.context() as patch:
        patch.setattr("burnish.sampling.flight.fits_slots", lambda model: False)
        return [quick, generate(model, prompts, options)]


def assert_equal(quick: list[Generated], plain: list[Generated]) -> None:
    for left, right in zip(quick, plain, strict=True):
        assert (left.prompt, left.sample, left.stop_reason) == (right.prompt, right.sample, right.stop_reason)
        assert left.tokens.tolist() == right.tokens.tolist()
        np.testing.assert_allclose(left.logprobs, right.logprobs, atol=3e-5)


@pytest.mark.parametrize("kind", ["Llama", "Mistral", "Qwen2", "Qwen3"])
def test_slots_equal_the_networks_own_cache(
    stub: Model, prompts: list[np.ndarray], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens and log-probabilities in float32, places taken over by the next rows, longer than a block of columns."""
    model = architecture(stub, kind)
    assert fits_slots(model)
    options = Options(max_tokens=80, temperature=1.0, samples=2, batch=5, seed=1)
    quick, plain = twins(model, prompts, options, monkeypatch)
    assert_equal(quick, plain)
    assert len({len(answer.tokens) for answer in quick}) > 4, "rows should end at different places, else nothing is tested"
    assert max(len(answer.tokens) for answer in quick) > 64


@pytest.mark.parametrize("technique", ["lora", "dora", "ia3", "prompt", "ptuning", "prefix"])
def test_techniques_take_part(tmp_path: Path, prompts: list[np.ndarray], technique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not computed directly is called: every technique gives what the network with it gives."""
    model = load_stub(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model.network = TECHNIQUES[technique].function(model.network)
        for name, parameter in model.network.named_parameters():
            if parameter.requires_grad and "lora_A" not in name and "magnitude" not in name:
                parameter.data += 0.1 * torch.randn_like(parameter)
    model.network.eval()
    assert fits_slots(model)
    assert_equal(*twins(model, prompts, Options(max_tokens=20), monkeypatch))


@pytest.mark.parametrize("kind", ["MistralSliding", "Gemma2", "GPT2"])
def test_other_architectures_keep_their_own_cache(stub: Model, prompts: list[np.ndarray], kind: str) -> None:
    model = architecture(stub, kind)
    assert not fits_slots(model)
    assert isinstance(Flight(model, Options(max_tokens=4), rows=2).past, Padded)
    together = generate(model, prompts, Options(max_tokens=12))
    alone = generate(model, prompts, Options(max_tokens=12, batch=1))
    assert [answer.tokens.tolist() for answer in together] == [answer.tokens.tolist() for answer in alone]


def test_a_replaced_or_hooked_part_is_not_passed_over(stub: Model) -> None:
    layers: Any = stub.plain().get_decoder().layers
    layer = layers[0]
    assert fits_slots(stub)
    hook = layer.mlp.register_forward_hook(lambda module, inputs, output: output * 2)
    assert not fits_slots(stub)
    hook.remove()
    kept, layer.mlp = layer.mlp, torch.nn.Sequential(layer.mlp)
    assert not fits_slots(stub)
    layer.mlp = kept


def test_rows_join_while_others_are_under_way(stub: Model, prompts: list[np.ndarray]) -> None:
    """As a server admits them: one by one, at any step; each says what it says alone, and its place is free when it has left."""
    options = Options(max_tokens=30, temperature=1.0, seed=3)
    alone = generate(stub, prompts, options)
    flight, waiting, found = Flight(stub, options, rows=3), list(range(len(prompts))), {}
    steps = 0
    while waiting or len(flight):
        if waiting and flight.room and steps % 2 == 0:
            number = waiting.pop()
            flight.admit([Row(number, number, 0, prompts[number])])
        if len(flight):
            found |= {row.prompt: answer for row, answer in flight.advance()}
        assert len(flight) <= 3
        steps += 1
    assert isinstance(flight.past, Slots) and flight.room == 3
    assert_equal([found[number] for number in range(len(prompts))], alone)


def test_a_freed_place_is_taken_before_the_batch_is_empty(
    stub: Model, prompts: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch stays full: fewer steps than batch after batch would take; answers to one prompt are read for once."""
    steps, read = [], []
    step, read_alike = Slots.step, Slots._read_alike
    monkeypatch.setattr(Slots, "step", lambda self, token_B: (steps.append(len(token_B)), step(self, token_B))[1])
    monkeypatch.setattr(
        Slots, "_read_alike", lambda self, given, *known: (read.append(len(given)), read_alike(self, given, *known))[1]
    )
    generate(stub, prompts, Options(max_tokens=60, temperature=1.0, samples=2, batch=4))
    assert sum(read) == len(prompts)
    assert sum(steps) / len(steps) > 2.5


@pytest.mark.parametrize("technique", ["full", "lora"])
def test_bfloat16_stays_close_to_the_network(tmp_path: Path, prompts: list[np.ndarray], technique: str) -> None:
    """The first difference aside, log-probabilities of the same tokens lie within bfloat16's rounding of the network's own."""
    model = load_model(str(make_stub(tmp_path)), cpu("bfloat16"))
    if technique == "lora":
        model.network = TECHNIQUES["lora"].function(model.network)
        for name, parameter in model.network.named_parameters():
            parameter.data += 0.05 if "lora_B" in name else 0.0
        model.network.eval()
    assert fits_slots(model)
    for answer in generate(model, prompts, Options(max_tokens=40, temperature=1.0)):
        ids = torch.as_tensor([*prompts[answer.prompt].tolist(), *answer.tokens.tolist()])[None]
        with torch.no_grad():
            logprobs_TV = model.network(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
        start = len(prompts[answer.prompt])
        expected = logprobs_TV[torch.arange(start - 1, ids.shape[1] - 1), ids[0, start:]].numpy()
        assert np.abs(expected - answer.logprobs).mean() < 0.03 if len(expected) else True
