"""The forward pass: whatever the layout, the tile and the path, the same numbers as each sequence alone, in value and gradient.

Tolerances: 1e-5 in float32 (logits of the stub are about 5 in size), 1e-11 in float64.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data.batching import collate
from burnish.devices import Device
from burnish.errors import ModelError
from burnish.models import Model, forward
from burnish.models.find import Found
from burnish.models.probe import probe
from burnish.types import Batch, Origin, Outputs, Sequence
from stub import load_stub

MODULE = sys.modules["burnish.models.forward"]
"""The module, whose name the function of the same name takes in its package."""

BOTH = ("logprobs", "entropy")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("forward"))


@pytest.fixture(scope="module")
def exact(stub: Model) -> Model:
    """The stub in float64."""
    return Model(copy.deepcopy(stub.network).double(), stub.tokenizer, stub.found, stub.target, stub.head, stub.documents)


def sequences(lengths: list[int], *, seed: int = 0, vocabulary: int = 288) -> list[Sequence]:
    """Return random sequences with random read-outs: not every position, weights that differ, some of them zero."""
    draw = np.random.default_rng(seed)
    made = []
    for number, length in enumerate(lengths):
        tokens_T = draw.integers(0, vocabulary, length).astype(np.int32)
        at_N = np.flatnonzero(draw.random(length - 1) < 0.7).astype(np.int32)
        weight_N = draw.choice([0.0, 0.5, 1.0], len(at_N)).astype(np.float32)
        made.append(Sequence(tokens_T, at_N, tokens_T[at_N + 1], weight_N, Origin("rows", number + 1), group=number))
    return made


def batch_of(parts: list[Sequence], *, packing: bool = False) -> Batch:
    return collate(parts, packing=packing, pad_id=0, device="cpu")


def total(outputs: Outputs, batch: Batch) -> torch.Tensor:
    """Return a number that every read-out's log-probability and entropy goes into, each with its own factor."""
    assert outputs.logprobs_N is not None and outputs.entropy_N is not None
    factors_N = torch.cos(torch.arange(len(batch.at_N)))
    return (batch.weight_N * outputs.logprobs_N).sum() + (factors_N * outputs.entropy_N).sum()


def gradients(model: Model, value: torch.Tensor) -> list[torch.Tensor]:
    """Return the gradient of a value in every parameter, frozen or not."""
    parameters = list(model.network.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
        parameter.grad = None
    value().backward() if callable(value) else value.backward()
    found = [torch.zeros_like(item) if item.grad is None else item.grad.clone() for item in parameters]
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None
    return found


Values = tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]


def ours(model: Model, parts: list[Sequence], *, packing: bool = False) -> Values:
    """Return log-probabilities, entropies and gradients of our forward pass."""
    batch = batch_of(parts, packing=packing)
    kept: dict[str, Any] = {}

    def value() -> torch.Tensor:
        kept["outputs"] = forward(model, batch, BOTH)
        return total(kept["outputs"], batch)

    grads = gradients(model, value)  # pyright: ignore[reportArgumentType]
    return kept["outputs"].logprobs_N.detach(), kept["outputs"].entropy_N.detach(), grads


def each_alone(model: Model, parts: list[Sequence]) -> Values:
    """Return the same from the network's own logits, one sequence at a time, by torch's own log-softmax and distributions."""
    batch = batch_of(parts)
    kept: dict[str, Any] = {}

    def value() -> torch.Tensor:
        logprobs, entropies = [], []
        for part in parts:
            logits_TV = model.network(input_ids=torch.as_tensor(part.tokens_T, dtype=torch.long)[None], use_cache=False).logits[0]
            logits_NV = logits_TV[torch.as_tensor(part.at_N, dtype=torch.long)]
            target_N = torch.as_tensor(part.target_N, dtype=torch.long)
            logprobs.append(logits_NV.log_softmax(-1).gather(-1, target_N[:, None])[:, 0])
            entropies.append(torch.distributions.Categorical(logits=logits_NV).entropy())
        kept["outputs"] = Outputs(torch.cat(logprobs), torch.cat(entropies))
        return total(kept["outputs"], batch)

    grads = gradients(model, value)  # pyright: ignore[reportArgumentType]
    return kept["outputs"].logprobs_N.detach(), kept["outputs"].entropy_N.detach(), grads


def same(found: Values, expected: Values, dtype: torch.dtype) -> None:
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(found[0], expected[0], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(found[1], expected[1], atol=tolerance, rtol=tolerance)
    for one, other in zip(found[2], expected[2], strict=True):
        torch.testing.assert_close(one, other, atol=10 * tolerance, rtol=10 * tolerance)


LENGTHS = [17, 5, 29, 2, 11]


@pytest.fixture(params=["float32", "float64"])
def model(request: pytest.FixtureRequest, stub: Model, exact: Model) -> Model:
    return stub if request.param == "float32" else exact


@pytest.mark.parametrize("packing", [False, True])
def test_padded_and_packed_equal_each_alone(model: Model, packing: bool) -> None:
    """Value and gradient; torch's own entropy and log-softmax are the reference."""
    parts = sequences(LENGTHS)
    same(ours(model, parts, packing=packing), each_alone(model, parts), model.weight_dtype)


@pytest.mark.parametrize("rows", [1, 3, 10_000])
def test_tiled_equals_untiled(model: Model, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits made and forgotten a few rows at a time give the values and gradients of all at once."""
    parts = sequences(LENGTHS)
    monkeypatch.setattr(MODULE, "TILE_ELEMENTS", rows * 288)
    same(ours(model, parts), each_alone(model, parts), model.weight_dtype)


@pytest.mark.parametrize("packing", [False, True])
def test_the_whole_model_path_equals_the_separate_head(model: Model, packing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain twin of the fast path."""
    parts = sequences(LENGTHS, seed=3)
    fast = ours(model, parts, packing=packing)
    monkeypatch.setattr(model, "head", "whole")
    same(ours(model, parts, packing=packing), fast, model.weight_dtype)


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_any_set_of_sequences_gives_the_same_readouts_in_both_layouts(stub: Model, lengths: list[int], seed: int) -> None:
    parts = sequences(lengths, seed=seed)
    with torch.no_grad():
        padded, packed = (forward(stub, batch_of(parts, packing=packing), BOTH) for packing in (False, True))
    assert padded.logprobs_N is not None and packed.logprobs_N is not None
    torch.testing.assert_close(padded.logprobs_N, packed.logprobs_N, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded.entropy_N, packed.entropy_N, atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------- what must not leak


def test_packed_documents_do_not_see_each_other(stub: Model) -> None:
    """Changing one packed row leaves the others bit for bit, and no gradient reaches a row from another's loss."""
    first, second = sequences([9, 14], seed=5)
    other = sequences([9], seed=6)[0]
    values = []
    for neighbour in (first, other):
        outputs = forward(stub, batch_of([neighbour, second], packing=True), ("logprobs",))
        assert outputs.logprobs_N is not None
        values.append(outputs.logprobs_N[len(neighbour.at_N) :])
    assert torch.equal(values[0], values[1])

    def loss_of_second() -> torch.Tensor:
        outputs = forward(stub, batch_of([first, second], packing=True), ("logprobs",))
        assert outputs.logprobs_N is not None
        return outputs.logprobs_N[len(first.at_N) :].sum()

    embedding_gradient = gradients(stub, loss_of_second)[0]  # pyright: ignore[reportArgumentType]
    only_first = [int(token) for token in set(first.tokens_T) - set(second.tokens_T)]
    assert only_first and not embedding_gradient[only_first].any()
    assert embedding_gradient[second.tokens_T[:1]].any()


def test_what_stands_in_the_padding_does_not_matter(stub: Model) -> None:
    parts = sequences([20, 4], seed=7)
    values = [forward(stub, collate(parts, packing=False, pad_id=pad, device="cpu"), BOTH).logprobs_N for pad in (0, 250)]
    assert values[0] is not None and torch.equal(values[0], values[1])  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------------------------------------------------------- what is asked for


def test_only_what_is_needed_is_filled(stub: Model) -> None:
    outputs = forward(stub, batch_of(sequences([5])), ("logprobs",))
    assert outputs.entropy_N is None and outputs.logprobs_N is not None


@pytest.mark.parametrize("rows", [2, 10_000])
def test_a_batch_without_readouts_still_runs_backward(stub: Model, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank with nothing to learn in a step takes part in it with zeros."""
    monkeypatch.setattr(MODULE, "TILE_ELEMENTS", rows * 288)
    nowhere, weightless = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
    empty = Sequence(np.arange(4, dtype=np.int32), nowhere, nowhere, weightless, Origin("rows"))
    grads = ours(stub, [empty])[2]
    assert all(not gradient.any() for gradient in grads)


def test_no_logits_over_the_vocabulary_are_kept(stub: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the backward pass keeps does not grow with read-outs times vocabulary: a tile is computed again instead (pain 17)."""
    rows, vocabulary = 4, 288
    parts = sequences([40, 40, 40], seed=2)
    readouts = sum(len(part.at_N) for part in parts)
    monkeypatch.setattr(MODULE, "TILE_ELEMENTS", rows * vocabulary)
    kept: list[tuple[int, ...]] = []
    stub.network.requires_grad_(True)
    try:
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: (kept.append(tuple(tensor.shape)), tensor)[1], lambda tensor: tensor
        ):
            forward(stub, batch_of(parts), BOTH)
    finally:
        stub.network.requires_grad_(False)
    over_vocabulary = [shape for shape in kept if vocabulary in shape and shape not in {(vocabulary, 64), (64, vocabulary)}]
    assert readouts > 60 and kept
    assert not over_vocabulary, over_vocabulary


# ------------------------------------------------------------------------------------------------------------------- architectures

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}


def random_model(kind: str, **values: Any) -> Model:
    """Return a random network of an architecture, weights large enough that what leaks shows, probed as a loaded one is."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    network: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values)).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    network.requires_grad_(False)
    tokenizer: Any = None
    model = Model(network, tokenizer, Found(kind, kind), Device("cpu", "float32", "float32", 1))
    probe(model)
    return model


ARCHITECTURES: dict[str, tuple[dict[str, Any], str, str]] = {
    "mistral": (SMALL | {"sliding_window": 4}, "separate", "positions"),
    "qwen3": (SMALL | {"head_dim": 8}, "separate", "positions"),
    "gemma2": (SMALL | {"head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 5.0}, "whole", "positions"),
    "granite": (SMALL | {"logits_scaling": 4.0}, "whole", "positions"),
    "cohere": (SMALL | {"logit_scale": 0.25}, "whole", "positions"),
    "gpt2": ({"vocab_size": 97, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 128}, "separate", "positions"),
    "opt": (SMALL | {"ffn_dim": 64, "word_embed_proj_dim": 32, "pad_token_id": 1}, "separate", "mask"),
}
"""Kind: (configuration, how its head must be run, what keeps packed documents apart)."""


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_architectures_equal_each_alone(kind: str, packing: bool) -> None:
    """Sliding windows, capped and scaled logits, learned positions: found out by the probe, then right in value and gradient.

    Sequences are longer than the sliding window of 4: a packed row must keep it, as a row alone does.
    """
    values, head, documents = ARCHITECTURES[kind]
    model = random_model(kind, **values)
    assert (model.head, model.documents) == (head, documents)
    parts = sequences([15, 9, 12], vocabulary=97)
    found, expected = ours(model, parts, packing=packing), each_alone(model, parts)
    for one, other in zip((*found[:2], *found[2]), (*expected[:2], *expected[2]), strict=True):
        scale = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(one / scale, other / scale, atol=2e-5, rtol=1e-4)


def test_a_head_that_is_not_separate_is_noted() -> None:
    assert any("plain path" in note for note in random_model("granite", **ARCHITECTURES["granite"][0]).notes)


def test_state_that_runs_on_between_packed_rows_is_refused() -> None:
    """A recurrent network has no mask that could keep packed rows apart; padded rows are right there, and packing says so."""
    model = random_model("mamba", vocab_size=97, hidden_size=32, state_size=4, num_hidden_layers=2, intermediate_size=64)
    parts = sequences([9, 7], vocabulary=97)
    assert model.documents == "mixed"
    same(ours(model, parts), each_alone(model, parts), torch.float32)
    with pytest.raises(ModelError, match=r"packed rows see each other.*train.packing = false"):
        forward(model, batch_of(parts, packing=True), BOTH)


def test_a_network_that_sees_the_future_is_refused() -> None:
    """An encoder would learn to copy what it is shown, with a loss near zero (pain 1's cousin): not a causal model, and said so."""
    with pytest.raises(ModelError, match="must be causal"):
        random_model("bert", **SMALL)
