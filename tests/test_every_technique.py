"""Every registered technique moves what it says, and what it leaves opens with the ecosystem's own loaders and gives the same logits.

To add one: an entry in CASES with the parameters that it may move and options that differ from the defaults.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.errors import ConfigError
from burnish.models import Model, adapt, load_model, save_model
from burnish.sampling import Options, generate
from burnish.techniques import TECHNIQUES
from loop import assert_same_gradients, cut, eight_sequences, loss_and_gradient, run, snapshot
from stub import cpu, make_stub

PROBE = torch.tensor([[5, 9, 71, 33, 80, 12, 260, 101]])


@dataclasses.dataclass(frozen=True)
class Case:
    """Which parameters of the stub move, by name; options that are not the defaults; what is wrong with options."""

    moves: str
    options: dict[str, Any]
    rate: float
    refused: tuple[tuple[dict[str, Any], str], ...] = ()


CASES: dict[str, Case] = {
    "full": Case(moves=r".*", options={}, rate=5e-3),
    "lora": Case(
        moves=r".*\.(q|k|v|o|gate|up|down)_proj\.lora_[AB]\..*",
        options={"rank": 4, "alpha": 16.0, "rank_stabilised": True},
        rate=2e-2,
        refused=(
            ({"rank": 0}, "a rank is at least 1"),
            ({"alpha": 0.0}, "nothing would be learned"),
            ({"dropout": 1.0}, "expected a share"),
            ({"dropout": -0.1}, "expected a share"),
            ({"targets": ["q_pro"]}, "no linear layer named q_pro. It has: down_proj, gate_proj, k_proj"),
            ({"targets": ["norm"]}, "no linear layer named norm"),
            ({"targets": []}, "empty list"),
        ),
    ),
}

every_technique = pytest.mark.parametrize("name", TECHNIQUES)


def test_every_technique_has_a_case() -> None:
    assert CASES.keys() == TECHNIQUES.keys(), "say in CASES what it moves"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("techniques") / "stub")


@pytest.fixture
def adapted(folder: Path) -> Callable[..., Model]:
    def made(name: str, *, dtype: str = "float32", seed: int = 0, **options: Any) -> Model:
        model = load_model(str(folder), cpu(dtype))
        torch.manual_seed(seed)
        adapt(model, TECHNIQUES[name], options)
        return model

    return made


def logits(network: Any) -> torch.Tensor:
    network.eval()
    with torch.no_grad():
        return network(input_ids=PROBE, use_cache=False).logits.float()


def tuned(model: Model, *, steps: int = 3, rate: float = 2e-2) -> Model:
    run(model, cut(eight_sequences(model), 128), steps=steps, rate=rate)
    return model


@every_technique
def test_only_the_intended_parameters_move(name: str, adapted: Callable[..., Model]) -> None:
    """All of them, and no other: the rest is as it was, bit for bit."""
    model = adapted(name, **CASES[name].options)
    before = snapshot(model)
    intended = {key for key in before if re.fullmatch(CASES[name].moves, key)}
    assert {key for key, parameter in model.network.named_parameters() if parameter.requires_grad} == intended
    tuned(model)
    moved = {key for key, parameter in model.network.named_parameters() if not torch.equal(before[key], parameter)}
    assert moved == intended
    assert model.parameters()[1] == sum(before[key].numel() for key in intended)


@every_technique
def test_the_policy_before_step_0_is_the_base(name: str, adapted: Callable[..., Model], folder: Path) -> None:
    """Bit for bit: what DPO and PPO call the reference is the model that the user named, and DPO's first loss is log 2."""
    base = logits(load_model(str(folder), cpu()).network)
    assert torch.equal(logits(adapted(name).network), base)
    assert torch.equal(logits(adapted(name, **CASES[name].options).network), base)


@every_technique
def test_the_reference_stays_the_base(name: str, adapted: Callable[..., Model], folder: Path) -> None:
    """After training: with the adapter off where the technique says so; elsewhere a copy is needed, because the base has moved."""
    base = logits(load_model(str(folder), cpu()).network)
    model = tuned(adapted(name))
    assert not torch.allclose(logits(model.network), base, atol=1e-3)
    if TECHNIQUES[name].reference == "adapter_off":
        with model.network.disable_adapter():
            assert torch.equal(logits(model.network), base)
        assert not torch.allclose(logits(model.network), base, atol=1e-3), "the adapter is on again"
    else:
        assert not hasattr(model.network, "disable_adapter")


@every_technique
def test_what_is_saved_opens_with_the_ecosystems_loaders(
    name: str, adapted: Callable[..., Model], folder: Path, tmp_path: Path
) -> None:
    """transformers' and PEFT's own from_pretrained, under another random seed, give the same logits bit for bit (pain 21)."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = tuned(adapted(name, **CASES[name].options))
    save_model(model, tmp_path)
    torch.manual_seed(99)
    if TECHNIQUES[name].saves == "adapter":
        network: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(folder)), str(tmp_path))
    else:
        network = AutoModelForCausalLM.from_pretrained(str(tmp_path))
    assert torch.equal(logits(network), logits(model.network))
    assert torch.equal(logits(load_model(str(tmp_path), cpu()).network), logits(model.network))
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path))
    assert tokenizer.chat_template == model.tokenizer.chat_template
    assert tokenizer("the other user: ü")["input_ids"] == model.tokenizer("the other user: ü")["input_ids"]


@every_technique
def test_pain_3_merged_equals_unmerged(name: str, adapted: Callable[..., Model], tmp_path: Path) -> None:
    """Logits within 1e-5 and the same greedy answer, also after the merged model was saved and loaded as a plain one."""
    if not TECHNIQUES[name].merges:
        assert not hasattr(adapted(name).network, "merge_and_unload"), "nothing to merge: its weights are the model's own"
        return
    model = tuned(adapted(name, **CASES[name].options), steps=8)
    prompts = [np.asarray([5, 9, 71], dtype=np.int32), np.asarray([12, 33, 44, 7], dtype=np.int32)]
    before, answers = logits(model.network), generate(model, prompts, Options(max_tokens=12))
    merged = model.network.merge_and_unload()
    torch.testing.assert_close(logits(merged), before, atol=1e-5, rtol=1e-5)
    plain = Model(merged, model.tokenizer, model.found, model.target)
    save_model(plain, tmp_path)
    again = load_model(str(tmp_path), cpu())
    torch.testing.assert_close(logits(again.network), before, atol=1e-5, rtol=1e-5)
    assert [answer.text for answer in generate(again, prompts, Options(max_tokens=12))] == [answer.text for answer in answers]


@every_technique
def test_the_loss_on_eight_rows_falls_by_half(name: str, adapted: Callable[..., Model]) -> None:
    model = adapted(name)
    steps = run(model, cut(eight_sequences(model), 128), steps=30, rate=CASES[name].rate)
    assert steps[-1].losses["nll"] < 0.5 * steps[0].losses["nll"]


@every_technique
def test_its_default_learning_rate_learns_and_does_not_explode(name: str, adapted: Callable[..., Model]) -> None:
    model = adapted(name)
    steps = run(model, cut(eight_sequences(model), 128), steps=40, rate=TECHNIQUES[name].learning_rate)
    losses = [step.losses["nll"] for step in steps]
    assert losses[-1] < 0.8 * losses[0]
    assert max(losses) < 1.05 * losses[0]


@every_technique
def test_split_batch_equals_whole_batch(name: str, adapted: Callable[..., Model]) -> None:
    model = adapted(name)
    units = eight_sequences(model)
    _, expected = loss_and_gradient(model, cut(units, 10**9))
    _, found = loss_and_gradient(model, cut(units, 40, packing=True))
    assert_same_gradients(found, expected)


@every_technique
def test_its_start_follows_from_the_seed(name: str, adapted: Callable[..., Model]) -> None:
    one, two = (snapshot(adapted(name, seed=seed)) for seed in (7, 7))
    assert all(torch.equal(one[key], two[key]) for key in one)


@every_technique
def test_what_moves_is_float32_on_a_bfloat16_base(name: str, adapted: Callable[..., Model]) -> None:
    """Steps smaller than bfloat16's three digits would be lost; where the base itself moves, `choose_device` keeps it float32."""
    if TECHNIQUES[name].saves == "model":
        pytest.skip("the base moves: its dtype is the device's choice (test_devices)")
    model = adapted(name, dtype="bfloat16")
    assert {parameter.dtype for parameter in model.network.parameters() if parameter.requires_grad} == {torch.float32}
    assert model.weight_dtype == torch.bfloat16
    assert tuned(model).weight_dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "options", "says"), [(name, *case) for name in CASES for case in CASES[name].refused])
def test_options_that_make_no_sense_are_explained(
    name: str, options: dict[str, Any], says: str, adapted: Callable[..., Model]
) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        adapted(name, **options)


@every_technique
def test_it_declares_what_it_is(name: str) -> None:
    technique = TECHNIQUES[name]
    assert len((inspect.getdoc(technique.function) or "").split("\n\n")[0]) > 20
    assert 1e-6 < technique.learning_rate < 1e-1
    options = list(inspect.signature(technique.function).parameters.values())[1:]
    assert all(
        option.kind is inspect.Parameter.KEYWORD_ONLY and option.default is not inspect.Parameter.empty for option in options
    )
    assert CASES[name].options.keys() <= {option.name for option in options}


# ---------------------------------------------------------------------------------------------------------------------- LoRA's own


def test_lora_rank_targets_and_scale_are_what_is_asked_for(adapted: Callable[..., Model]) -> None:
    model = adapted("lora", rank=3, targets=["q_proj", "down_proj"], alpha=6.0)
    moving = {key: parameter for key, parameter in model.network.named_parameters() if parameter.requires_grad}
    assert {key.split(".lora_")[0].rsplit(".", 1)[-1] for key in moving} == {"q_proj", "down_proj"}
    assert all(3 in parameter.shape for parameter in moving.values())
    scales = {module.scaling["default"] for module in model.network.modules() if isinstance(getattr(module, "scaling", None), dict)}
    assert scales == {2.0}
    stabilised = adapted("lora", rank=4, alpha=6.0, rank_stabilised=True)
    assert {
        module.scaling["default"] for module in stabilised.network.modules() if isinstance(getattr(module, "scaling", None), dict)
    } == {3.0}


def test_lora_dropout_acts_in_training_and_only_there(adapted: Callable[..., Model]) -> None:
    """An option that is accepted is not ignored: in training mode two passes differ, in evaluation mode they do not."""
    model = tuned(adapted("lora", dropout=0.5))
    assert torch.equal(logits(model.network), logits(model.network))
    model.network.train()
    with torch.no_grad():
        first, second = (model.network(input_ids=PROBE, use_cache=False).logits for _ in range(2))
    assert not torch.equal(first, second)


def test_the_head_and_the_embedding_stay_out_of_lora(adapted: Callable[..., Model]) -> None:
    model = adapted("lora")
    assert not [key for key, _ in model.network.named_parameters() if "lora" in key and ("lm_head" in key or "embed" in key)]
