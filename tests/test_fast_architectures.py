"""The quick pieces in whole models: architectures with small random weights train alike by them and the plain way, in value and gradient."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from burnish import tune_saving
from burnish.models import Model, adapt, can_compile, load_model, plain_pieces, set_up
from burnish.models.fast import kernels, quicken
from burnish.techniques import TECHNIQUES
from loop import cut, eight_sequences, loss_and_gradient
from stub import cpu, stub_tokenizer

LLAMA: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA |= {"num_key_value_heads": 2, "head_dim": 8}
KINDS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "llama": ("Llama", LLAMA, []),
    "mistral": ("Mistral", LLAMA | {"sliding_window": 16}, []),
    "qwen2": ("Qwen2", {key: value for key, value in LLAMA.items() if key != "head_dim"}, []),
    "qwen3": ("Qwen3", LLAMA, []),
    "gemma": ("Gemma", LLAMA | {"hidden_activation": "gelu_pytorch_tanh"}, []),
    "gemma2": ("Gemma2", LLAMA | {"query_pre_attn_scalar": 8}, ["Gemma2Attention"]),
    "gemma3": ("Gemma3", LLAMA | {"query_pre_attn_scalar": 8}, []),
    "phi": ("Phi", {key: value for key, value in LLAMA.items() if key != "head_dim"}, ["PhiAttention", "PhiMLP"]),
    "phi3": ("Phi3", {key: value for key, value in LLAMA.items() if key != "head_dim"}, ["Phi3Attention", "Phi3MLP"]),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4}, ["GPT2Attention", "GPT2MLP"]),
}
"""Architectures by name: class, sizes, and which of their modules are computed the plain way where there is no adapter."""


@pytest.fixture(autouse=True)
def put_back() -> Any:
    yield
    kernels.choose(False)


def made(kind: str, folder: Path, quick: Any, technique: str, **options: Any) -> Model:
    """Return a model of an architecture with random weights, adapted, its B filled so that no gradient is zero by chance."""
    import transformers

    name, sizes, _ = KINDS[kind]
    if not folder.exists():
        tokenizer = stub_tokenizer()
        ids = {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.eos_token_id,
        }
        of_text = "Gemma3Text" if name == "Gemma3" else name
        config = getattr(transformers, f"{of_text}Config")(vocab_size=len(tokenizer), **sizes, **ids)
        torch.manual_seed(0)
        getattr(transformers, "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM")(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    model = load_model(str(folder), replace(cpu(), quick=quick))
    torch.manual_seed(1)
    adapt(model, TECHNIQUES[technique], options)
    with torch.no_grad():
        for parameter_name, parameter in model.network.named_parameters():
            if "lora_B" in parameter_name:
                parameter.normal_(0, 0.1)
    return model


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("technique", ["lora", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_architecture_trains_alike_both_ways(kind: str, technique: str, packing: bool, tmp_path: Path) -> None:
    if can_compile() is None:
        set_up(replace(cpu(), quick="loops"))
    quick, plain = (made(kind, tmp_path / kind, way, technique) for way in ("loops", "no"))
    assert plain_pieces(quick.trunk()) == ([] if technique == "lora" else KINDS[kind][2])
    batches = cut(eight_sequences(quick), 200, packing=packing)
    found, gradients = loss_and_gradient(quick, batches)
    expected, others = loss_and_gradient(plain, batches)
    assert sum(found.losses.values()) == pytest.approx(sum(expected.losses.values()), rel=2e-5)
    assert gradients.keys() == others.keys()
    for name, other in others.items():
        assert float((gradients[name] - other).norm()) <= 2e-4 * float(other.norm()) + 1e-7, name


def test_a_copy_of_a_quick_network_computes_with_its_own_weights(tmp_path: Path) -> None:
    model = made("llama", tmp_path / "llama", "torch", "full")
    other = copy.deepcopy(model.network)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
    ids_BT = torch.arange(12)[None]
    assert not model.network(input_ids=ids_BT).logits.any() and other(input_ids=ids_BT).logits.any()


@pytest.mark.parametrize(
    "options", [{"rank_stabilised": True}, {"ranks": {"q_proj": 2}, "alphas": {"v_proj": 5.0}}, {"targets": ["v_proj"]}]
)
def test_options_of_adapters_are_honoured(options: dict[str, Any], tmp_path: Path) -> None:
    quick, plain = (made("llama", tmp_path / "llama", way, "lora", **options) for way in ("torch", "no"))
    batches = cut(eight_sequences(quick), 300)
    (found, gradients), (expected, others) = loss_and_gradient(quick, batches), loss_and_gradient(plain, batches)
    assert sum(found.losses.values()) == pytest.approx(sum(expected.losses.values()), rel=2e-5)
    for name, other in others.items():
        torch.testing.assert_close(gradients[name], other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("technique", "options"), [("dora", {}), ("lora", {"dropout": 0.5})])
def test_adapters_of_another_kind_take_the_plain_way_and_it_is_said(
    technique: str, options: dict[str, Any], tmp_path: Path
) -> None:
    quick, plain = (made("llama", tmp_path / "llama", way, technique, **options) for way in ("torch", "no"))
    quick.network.train()
    assert plain_pieces(quick.trunk()) == ["LlamaAttention", "LlamaMLP"]
    if technique == "dora":
        batches = cut(eight_sequences(quick), 300)
        (_, gradients), (_, others) = loss_and_gradient(quick, batches), loss_and_gradient(plain, batches)
        for name, other in others.items():
            torch.testing.assert_close(gradients[name], other, atol=1e-5, rtol=1e-3)


def test_switched_off_and_merged_adapters_are_followed(tmp_path: Path) -> None:
    model = made("llama", tmp_path / "llama", "torch", "lora")
    ids_BT = torch.arange(12)[None]

    def logits() -> torch.Tensor:
        return model.network(input_ids=ids_BT).logits.detach()

    adapted = logits()
    with model.network.disable_adapter():
        base = logits()
    assert not torch.allclose(adapted, base, atol=1e-3)
    torch.testing.assert_close(
        base, made("llama", tmp_path / "llama", "no", "full").network(input_ids=ids_BT).logits.detach(), atol=1e-5, rtol=1e-4
    )
    model.network.merge_adapter()
    torch.testing.assert_close(logits(), adapted, atol=1e-4, rtol=1e-4)


def test_nothing_is_computed_below_the_lowest_parameter_that_moves(tmp_path: Path) -> None:
    model = made("llama", tmp_path / "llama", "torch", "lora", targets=["layers.1.self_attn.v_proj"])
    reached: list[int] = []
    for number, layer in enumerate(model.trunk().layers):
        layer.mlp.register_forward_hook(lambda *given, number=number: reached.append(number) if given[2].requires_grad else None)
    batch = cut(eight_sequences(model), 300)[0]
    loss_and_gradient(model, [batch])
    assert reached == [1], "a layer below the adapter takes part in the backward pass"


def test_a_module_that_computes_something_else_is_left_alone(tmp_path: Path) -> None:
    model = made("llama", tmp_path / "llama", "no", "full")

    class Louder(type(model.trunk().layers[0].mlp)):
        def forward(self, x: Any) -> Any:
            return 2 * super().forward(x)

    model.trunk().layers[0].mlp.__class__ = Louder
    quicken(model.network, replace(cpu(), quick="torch"))
    assert "forward" not in vars(model.trunk().layers[0].mlp) and "forward" in vars(model.trunk().layers[1].mlp)


@pytest.mark.parametrize("fast", [True, False])
def test_the_run_file_switches_them_and_the_device_records_it(fast: bool, tmp_path: Path) -> None:
    plan: Any = SimpleNamespace(resolved=SimpleNamespace(config=SimpleNamespace(train=SimpleNamespace(fast=fast))))
    chosen = tune_saving._quick(plan, cpu())
    assert chosen == ("no" if not fast else "loops" if can_compile() is None else "torch")
    model = made("llama", tmp_path / "llama", chosen, "lora")
    assert any("forward" in vars(module) for module in model.network.modules()) == fast
    assert asdict(model.target)["quick"] == chosen
