"""Every registered technique moves what it says, and what it leaves opens with the ecosystem's own loaders and gives the same logits.

To add one: an entry in CASES with the parameters that it may move and options that differ from the defaults.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.errors import ConfigError, ModelError
from burnish.merge import merge
from burnish.models import Model, adapt, forward, load_model, restore_weights, save_model
from burnish.models.outline import outline
from burnish.optim import make_optimizer
from burnish.sampling import Options, generate
from burnish.techniques import TECHNIQUES
from burnish.techniques.low_rank import quiet
from burnish.techniques.quantised import quantise, round_trip
from loop import assert_same_gradients, cut, eight_sequences, loss_and_gradient, moving, restore, run, snapshot
from stub import cpu, make_stub

PROBE = torch.tensor([[5, 9, 71, 33, 80, 12, 260, 101]])
LOW_RANK = r".*\.(q|k|v|o|gate|up|down)_proj\.lora_[AB]\..*"
WRONG_NUMBERS = (
    ({"rank": 0}, "a rank is at least 1"),
    ({"alpha": 0.0}, "nothing would be learned"),
    ({"dropout": 1.0}, "expected a share"),
    ({"dropout": -0.1}, "expected a share"),
    ({"rate_ratio": 0.0}, "B would not learn"),
    ({"targets": ["q_pro"]}, "no linear layer named q_pro. Did you mean 'q_proj'?"),
    ({"targets": ["norm"]}, "no linear layer named norm"),
    ({"targets": []}, "empty list"),
    ({"targets": ["q_proj"], "ranks": {"k_proj": 4}}, "no adapted layer is named 'k_proj'"),
    ({"ranks": {"q_proj": 0}}, "q_proj = 0; expected a number above 0"),
    ({"alphas": {"q_prj": 4.0}}, "Did you mean 'q_proj'?"),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """Which parameters of the stub move, by name; options that are not the defaults; what is wrong with options.

    `rate` lets the loss on eight rows fall by half within `steps`, with the options `learns` and the `optimizer`; `needs` are options without
    which there is no technique; `start` is what the model is before step 0: the base bit for bit, up to rounding, or a policy of its own.
    """

    moves: str
    options: Mapping[str, Any]
    rate: float
    refused: tuple[tuple[dict[str, Any], str], ...] = ()
    needs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    start: str = "base"
    steps: int = 30
    learns: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    optimizer: Any = "adamw"


CASES: dict[str, Case] = {
    "full": Case(moves=r".*", options={}, rate=5e-3),
    "lora": Case(
        moves=LOW_RANK,
        options={"rank": 4, "alpha": 16.0, "rank_stabilised": True, "ranks": {"layers.1.self_attn.q_proj": 7}, "rate_ratio": 4.0},
        rate=2e-2,
        refused=WRONG_NUMBERS,
    ),
    "dora": Case(
        moves=r".*\.(q|k|v|o|gate|up|down)_proj\.lora_([AB]|magnitude_vector)\..*",
        options={"rank": 4, "alpha": 8.0},
        rate=2e-2,
        refused=WRONG_NUMBERS,
    ),
    "pissa": Case(
        moves=LOW_RANK,
        options={"rank": 4, "alpha": 6.0, "alphas": {"v_proj": 12.0}},
        rate=1e-2,
        refused=(*WRONG_NUMBERS, ({"rank": 33}, "has only 32 directions")),
        start="rounded",
    ),
    "qlora": Case(moves=LOW_RANK, options={"rank": 4, "base": "int8"}, rate=2e-2, refused=WRONG_NUMBERS, start="quantised"),
    "ia3": Case(
        moves=r".*\.(k|v|down)_proj\.ia3_l\..*",
        options={"targets": ["k_proj", "v_proj", "down_proj"], "inner": ["down_proj"]},
        rate=2e-1,
        refused=(
            ({"targets": ["k_pro"]}, "k_pro is no linear layer"),
            ({"targets": ["k_proj"], "inner": ["down_proj"]}, "down_proj stands in inner and not in targets"),
            ({"inner": ["down_proj"]}, "without technique.targets"),
            ({"targets": []}, "empty list"),
        ),
        steps=60,
    ),
    "prompt": Case(
        moves=r"prompt_encoder\..*",
        options={"positions": 5, "text": "the answer"},
        rate=5e-2,
        learns={"positions": 50},
        refused=(
            ({"positions": 0}, "expected 1 up to"),
            ({"positions": 512}, "context of 512 tokens"),
            ({"positions": 3, "text": "xyzzy zyx"}, "tokens, and there are 3 positions"),
        ),
        start="own",
        steps=90,
    ),
    "prefix": Case(
        moves=r"prompt_encoder\..*",
        options={"positions": 5, "projection": True, "hidden": 24},
        rate=1e-1,
        refused=(
            ({"positions": 0}, "expected 1 up to"),
            ({"text": "a", "projection": True}, "has no effect"),
            ({"hidden": 8}, "only with technique.projection"),
        ),
        start="own",
        steps=60,
    ),
    "ptuning": Case(
        moves=r"prompt_encoder\..*",
        options={"positions": 5, "encoder": "lstm", "hidden": 24},
        rate=2e-2,
        learns={"positions": 50},
        optimizer="muon",  # matrices that make all positions at once: AdamW takes twice the steps
        refused=(({"positions": 0}, "expected 1 up to"), ({"hidden": 0}, "expected a width")),
        start="own",
        steps=90,
    ),
    "selective": Case(
        moves=r"(model\.layers\.1\..*|.*norm\.weight)",
        options={"last_layers": 1, "norms": True},
        rate=1e-2,
        refused=(
            ({}, "nothing is named that should move"),
            ({"last_layers": 3}, "the model has 2 layers"),
            ({"last_layers": -1}, "the model has 2 layers"),
            ({"biases": True}, "the model has no such parameters"),
        ),
        needs={"last_layers": 1},
        steps=60,
    ),
}

every_technique = pytest.mark.parametrize("name", TECHNIQUES)


def test_every_technique_has_a_case() -> None:
    assert CASES.keys() == TECHNIQUES.keys(), "say in CASES what it moves"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("techniques") / "stub")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Callable[..., Model]:
    """Return a function that gives a copy of the stub as loaded: reading it anew for each of the tests is most of their time."""
    once = {dtype: load_model(str(folder), cpu(dtype)) for dtype in ("float32", "bfloat16")}

    def copied(dtype: str = "float32") -> Model:
        return dataclasses.replace(once[dtype], network=copy.deepcopy(once[dtype].network), notes=[])

    return copied


@pytest.fixture
def adapted(loaded: Callable[..., Model]) -> Callable[..., Model]:
    def made(name: str, *, dtype: str = "float32", seed: int = 0, **options: Any) -> Model:
        model = loaded(dtype)
        torch.manual_seed(seed)
        adapt(model, TECHNIQUES[name], options or CASES[name].needs)
        return model

    return made


def logits(network: Any) -> torch.Tensor:
    """Return a network's own logits on the probe, those of virtual positions left out."""
    network.eval()
    with torch.no_grad():
        return network(input_ids=PROBE, use_cache=False).logits.float()[:, -PROBE.shape[1] :]


def policy(model: Model) -> torch.Tensor:
    """Return what our own forward pass gives at every read-out of the eight rows."""
    model.network.eval()
    with torch.no_grad():
        return torch.cat([forward(model, batch, ("logprobs",)).logprobs_N for batch in cut(eight_sequences(model), 128)])


def tuned(model: Model, *, steps: int = 3, rate: float = 2e-2) -> Model:
    run(model, cut(eight_sequences(model), 128), steps=steps, rate=rate)
    return model


def opened(name: str, saved: Path, folder: Path) -> Any:
    """Return what the ecosystem's own loaders make of a saved folder; a quantised base must be quantised by whoever opens it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.manual_seed(99)
    if TECHNIQUES[name].saves == "model":
        return AutoModelForCausalLM.from_pretrained(str(saved))
    base = AutoModelForCausalLM.from_pretrained(str(folder))
    if name == "qlora":
        quantise(base, kind=CASES[name].options["base"])
    with quiet():
        return PeftModel.from_pretrained(base, str(saved))


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
def test_its_size_is_known_before_the_model_is_loaded(name: str, adapted: Callable[..., Model]) -> None:
    """Pain 18: nobody says before the start what a run will need."""
    model = adapted(name, **CASES[name].options)
    found = outline(copy.deepcopy(model.plain().config), TECHNIQUES[name], CASES[name].options)
    assert found.trainable == model.parameters()[1]


@every_technique
def test_the_policy_before_step_0_is_the_base(name: str, adapted: Callable[..., Model], loaded: Callable[..., Model]) -> None:
    """Bit for bit, where it says so: what DPO and PPO call the reference is the model that the user named."""
    base = logits(loaded().network)
    for model in (adapted(name), adapted(name, **CASES[name].options)):
        start = logits(model.network)
        if CASES[name].start == "base":
            assert torch.equal(start, base)
        elif CASES[name].start == "rounded":
            torch.testing.assert_close(start, base, atol=1e-4, rtol=1e-4)
        else:
            assert not torch.allclose(start, base, atol=1e-3), "then it is the base, and its case should say so"
            assert TECHNIQUES[name].reference == "copy" or name == "qlora"


@every_technique
def test_the_reference_stays_the_policy_before_step_0(name: str, adapted: Callable[..., Model]) -> None:
    """After training: with the adapter off where the technique says so, elsewhere with a copy of what moves; DPO's first loss is log 2."""
    model = adapted(name)
    before, start = policy(model), {key: parameter.detach().clone() for key, parameter in moving(model).items()}
    assert torch.equal(policy(model), before)
    tuned(model)
    assert not torch.allclose(policy(model), before, atol=1e-3)
    if TECHNIQUES[name].reference == "adapter_off":
        with model.network.disable_adapter():
            assert torch.equal(policy(model), before)
        assert not torch.allclose(policy(model), before, atol=1e-3), "the adapter is on again"
    else:
        restore(model, snapshot(model) | start)
        assert torch.equal(policy(model), before)


@every_technique
def test_what_is_saved_opens_with_the_ecosystems_loaders(
    name: str, adapted: Callable[..., Model], folder: Path, tmp_path: Path
) -> None:
    """transformers' and PEFT's own from_pretrained, under another random seed, give the same logits bit for bit (pain 21)."""
    from transformers import AutoTokenizer

    model = tuned(adapted(name, **CASES[name].options))
    save_model(model, tmp_path)
    exactly = {"atol": 0.0, "rtol": 0.0} if CASES[name].start != "rounded" else {"atol": 2e-5, "rtol": 1e-5}
    ours, theirs = load_model(str(tmp_path), cpu()), opened(name, tmp_path, folder)
    torch.testing.assert_close(logits(theirs), logits(model.network), **exactly)
    torch.testing.assert_close(logits(ours.network), logits(model.network), **exactly)
    torch.testing.assert_close(policy(ours), policy(model), **exactly)
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path))
    assert tokenizer.chat_template == model.tokenizer.chat_template
    assert tokenizer("the other user: ü")["input_ids"] == model.tokenizer("the other user: ü")["input_ids"]


@every_technique
def test_a_checkpoint_puts_everything_back(name: str, adapted: Callable[..., Model], tmp_path: Path) -> None:
    """What moves, bit for bit, into a model that started under another seed; and the same policy with it (pain 16)."""
    model = tuned(adapted(name, **CASES[name].options))
    save_model(model, tmp_path)
    other = adapted(name, seed=5, **CASES[name].options)
    restore_weights(other, tmp_path)
    kept = moving(model)
    assert all(torch.equal(parameter, kept[key]) for key, parameter in moving(other).items())
    assert torch.equal(policy(other), policy(model))


@every_technique
def test_generation_is_the_networks_own_greedy(name: str, adapted: Callable[..., Model], folder: Path, tmp_path: Path) -> None:
    """Our batched sampler against transformers' and PEFT's generate on what was saved, prompt by prompt."""
    model = tuned(adapted(name, **CASES[name].options), steps=6)
    save_model(model, tmp_path)
    theirs = opened(name, tmp_path, folder)
    theirs.eval()
    prompts = [np.asarray(prompt, dtype=np.int32) for prompt in ([5, 9, 71], [12, 33, 44, 7, 101, 8], [90])]
    answers = generate(model, prompts, Options(max_tokens=10))
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.as_tensor(prompt.astype(np.int64))[None]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Position ids are not supported")  # PEFT's word on its own call
            made = theirs.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10, pad_token_id=model.pad_id()
            )
        expected = made[0, len(prompt) :].tolist()
        ends = [place for place, token in enumerate(expected) if token in model.end_ids()]
        assert answer.tokens.tolist() == expected[: ends[0] if ends else None]


@every_technique
def test_pain_3_merged_equals_unmerged(name: str, adapted: Callable[..., Model], tmp_path: Path) -> None:
    """Logits within 1e-4 of the largest and the same greedy answer from the merged folder as a plain model; or refused with the reason."""
    model = tuned(adapted(name, **CASES[name].options), steps=8)
    save_model(model, tmp_path / "tuned")
    if not TECHNIQUES[name].merges:
        with pytest.raises(ModelError, match=r"nothing to merge|cannot be merged: its virtual positions"):
            merge(str(tmp_path / "tuned"), tmp_path / "merged")
        assert not (tmp_path / "merged").exists()
        assert TECHNIQUES[name].why_not
        return
    prompts = [np.asarray([5, 9, 71], dtype=np.int32), np.asarray([12, 33, 44, 7], dtype=np.int32)]
    before, answers = logits(model.network), generate(model, prompts, Options(max_tokens=12))
    record = merge(str(tmp_path / "tuned"), tmp_path / "merged")
    assert record.change <= 1e-4 * record.largest_logit
    assert record.saved_change <= 1e-4 * record.largest_logit
    again = load_model(str(tmp_path / "merged"), cpu())
    assert again.found.adapter is None
    torch.testing.assert_close(logits(again.network), before, atol=3e-4, rtol=1e-4)
    assert [answer.text for answer in generate(again, prompts, Options(max_tokens=12))] == [answer.text for answer in answers]


@every_technique
def test_the_loss_on_eight_rows_falls_by_half(name: str, adapted: Callable[..., Model]) -> None:
    case = CASES[name]
    model = adapted(name, **case.learns)
    optimizer = make_optimizer(moving(model), name=case.optimizer)
    steps = run(model, cut(eight_sequences(model), 1024), steps=case.steps, rate=case.rate, optimizer=optimizer)
    assert steps[-1].losses["nll"] < 0.5 * steps[0].losses["nll"]


@every_technique
def test_its_default_learning_rate_learns_and_does_not_explode(name: str, adapted: Callable[..., Model]) -> None:
    model = adapted(name)
    steps = run(model, cut(eight_sequences(model), 1024), steps=30, rate=TECHNIQUES[name].learning_rate)
    losses = [step.losses["nll"] for step in steps]
    assert losses[-1] < 0.8 * losses[0]
    assert max(losses) < 1.05 * losses[0]


@every_technique
def test_split_batch_equals_whole_batch(name: str, adapted: Callable[..., Model]) -> None:
    """In gradient too, and padded equals packed: documents of one row do not see each other, nor each other's virtual positions.

    Pain 25.
    """
    model = adapted(name)
    units = eight_sequences(model)
    _, expected = loss_and_gradient(model, cut(units, 10**9))
    _, found = loss_and_gradient(model, cut(units, 40, packing=True))
    assert_same_gradients(found, expected)
    _, found = loss_and_gradient(model, cut(units, 10**9, packing=True))
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
    assert generate(model, [np.asarray([5, 9, 71], dtype=np.int32)], Options(max_tokens=3))


@pytest.mark.parametrize(("name", "options", "says"), [(name, *case) for name in CASES for case in CASES[name].refused])
def test_options_that_make_no_sense_are_explained(
    name: str, options: dict[str, Any], says: str, loaded: Callable[..., Model]
) -> None:
    model = loaded()
    with pytest.raises(ConfigError, match=re.escape(says)):
        adapt(model, TECHNIQUES[name], options)


@every_technique
def test_it_declares_what_it_is(name: str) -> None:
    technique = TECHNIQUES[name]
    assert len((inspect.getdoc(technique.function) or "").split("\n\n")[0]) > 20
    assert 1e-6 < technique.learning_rate < 1e-1
    assert technique.merges != bool(technique.why_not), "a reason where it does not merge, and only there"
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


def test_layers_are_chosen_and_ranked_by_name(adapted: Callable[..., Model]) -> None:
    model = adapted(
        "lora", rank=4, alpha=8.0, targets=["q_proj", "layers.1.mlp.up_proj"], ranks={"up_proj": 6}, alphas={"up_proj": 3.0}
    )
    layers = {key: module for key, module in model.plain().named_modules() if hasattr(module, "lora_A")}
    assert {key.removeprefix("model.layers."): module.r["default"] for key, module in layers.items()} == {
        "0.self_attn.q_proj": 4,
        "1.self_attn.q_proj": 4,
        "1.mlp.up_proj": 6,
    }
    assert {module.scaling["default"] for module in layers.values()} == {2.0, 0.5}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_lora_plus_moves_b_at_a_multiple_of_the_rate(optimizer: Any, adapted: Callable[..., Model]) -> None:
    """Hayou et al. 2024: the loop sets one rate, A and B step at rates that differ by the ratio, and the loop's own stays as it was."""
    steps = []
    for ratio in (1.0, 16.0):
        model = adapted("lora", rank=4, rate_ratio=ratio)
        made = make_optimizer(moving(model), name=optimizer)
        before = {key: parameter.detach().clone() for key, parameter in moving(model).items()}
        run(model, cut(eight_sequences(model), 512), steps=1, rate=1e-3, optimizer=made)
        assert {group["lr"] for group in made.param_groups} == {1e-3}
        steps.append({key: parameter.detach() - before[key] for key, parameter in moving(model).items()})
    for key, plain in steps[0].items():
        torch.testing.assert_close(steps[1][key], plain * (16.0 if ".lora_B." in key else 1.0), atol=1e-6, rtol=1e-3)


def test_pissa_starts_at_the_largest_directions_and_leaves_the_rest(
    adapted: Callable[..., Model], loaded: Callable[..., Model]
) -> None:
    """Meng et al. 2024: what is left in the base is orthogonal to what the adapter begins with, and both make the weight."""
    base = loaded().plain().get_submodule("model.layers.0.mlp.up_proj").weight
    layer = adapted("pissa", rank=5, alpha=10.0).plain().get_submodule("model.layers.0.mlp.up_proj")
    values = torch.linalg.svdvals(base)
    rest, start = layer.base_layer.weight, 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(rest + start, base, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(torch.linalg.svdvals(start)[:5], values[:5], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.linalg.svdvals(rest)[:10], values[5:15], atol=1e-5, rtol=1e-4)


def test_pissa_is_put_back_also_where_the_decomposition_has_other_signs(adapted: Callable[..., Model], tmp_path: Path) -> None:
    """Another machine's linear algebra may turn a direction around: base and adapter must go together all the same."""
    from burnish.techniques.folded import add, folded_in

    model = tuned(adapted("pissa", rank=4))
    save_model(model, tmp_path)
    other = adapted("pissa", rank=4)
    for name, parts in folded_in(other.network).items():
        layer, (a, b) = other.plain().get_submodule(name), parts[0]
        add(layer.base_layer, (a, b), sign=-1.0)
        folded_in(other.network)[name] = [(a.flip(0) * 0.5, b.flip(1) * 1.5)]
        add(layer.base_layer, folded_in(other.network)[name][0])
    assert not torch.allclose(policy(other), policy(model), atol=1e-2)
    restore_weights(other, tmp_path)
    torch.testing.assert_close(policy(other), policy(model), atol=2e-5, rtol=1e-5)


def test_dora_is_the_formula(adapted: Callable[..., Model]) -> None:
    """Liu et al. 2024, equation 5, against PEFT's layer after training."""
    model = tuned(adapted("dora", rank=4, alpha=8.0))
    layer = model.plain().get_submodule("model.layers.1.mlp.gate_proj")
    turned = layer.base_layer.weight + 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    weight = layer.lora_magnitude_vector["default"].weight[:, None] * turned / turned.norm(dim=1, keepdim=True)
    hidden = torch.randn(3, weight.shape[1])
    torch.testing.assert_close(layer(hidden), hidden @ weight.t(), atol=1e-5, rtol=1e-5)


def test_ia3_multiplies(adapted: Callable[..., Model]) -> None:
    """Liu et al. 2022: keys and values by their factors, the inner activation before the last matrix."""
    model = tuned(adapted("ia3"))
    key, down = (model.plain().get_submodule(f"model.layers.0.{name}") for name in ("self_attn.k_proj", "mlp.down_proj"))
    hidden, inner = torch.randn(3, 64), torch.randn(3, 128)
    torch.testing.assert_close(key(hidden), key.base_layer(hidden) * key.ia3_l["default"].flatten())
    torch.testing.assert_close(down(inner), down.base_layer(inner * down.ia3_l["default"].flatten()))


@pytest.mark.parametrize(
    ("options", "moves"),
    [
        ({"norms": True}, r".*norm\.weight"),
        ({"embeddings": True}, r"model\.embed_tokens\.weight"),
        ({"head": True}, r"lm_head\.weight"),
        ({"last_layers": 2}, r"model\.layers\..*"),
    ],
)
def test_selective_moves_what_is_named(options: dict[str, Any], moves: str, adapted: Callable[..., Model]) -> None:
    names = set(moving(adapted("selective", **options)))
    assert names
    assert names == {key for key in snapshot(adapted("full")) if re.fullmatch(moves, key)}


# ------------------------------------------------------------------------------------------------------------------ a quantised base


def test_nf4_levels_follow_from_their_definition() -> None:
    """Dettmers et al. 2023: quantiles of a normal distribution, 8 of them positive and 7 negative beside zero, over the largest."""
    from burnish.techniques.quantised import NF4

    offset = 0.9677083
    positive = torch.special.ndtri(torch.linspace(offset, 0.5, 9, dtype=torch.float64)[:-1])
    negative = -torch.special.ndtri(torch.linspace(offset, 0.5, 8, dtype=torch.float64)[:-1])
    levels = torch.cat([positive, negative, torch.zeros(1, dtype=torch.float64)]).sort().values
    torch.testing.assert_close(torch.tensor(NF4, dtype=torch.float64), levels / levels.max(), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(("kind", "worst", "bits"), [("nf4", 0.11, 4.2), ("int8", 0.006, 8.6)])
def test_a_quantised_layer_is_near_small_and_exact_in_its_gradient(kind: Any, worst: float, bits: float) -> None:
    """Every weight takes its nearest level; what is computed is what `dense` says, forward and backward; odd sizes too."""
    from burnish.techniques.quantised import dense, dequantise

    torch.manual_seed(0)
    for shape in ((48, 64), (7, 13)):
        network = load_tiny(shape)
        weight, bias = network.inner.weight.detach().clone(), network.inner.bias
        assert quantise(network, kind=kind) == 1
        layer, stored = network.inner, dense(network.inner)
        assert (stored - weight).norm() / weight.norm() < worst
        size = sum(buffer.numel() * buffer.element_size() for buffer in layer.buffers())
        assert shape[0] * shape[1] < 1000 or 8 * size / weight.numel() < bits
        hidden = torch.randn(5, shape[1], requires_grad=True)
        product = layer(hidden)
        torch.testing.assert_close(product, hidden @ stored.t() + bias)
        product.square().sum().backward()
        torch.testing.assert_close(hidden.grad, (2 * product.detach()) @ stored)
        assert dequantise(network) == 1
        assert torch.equal(network.inner.weight, stored)
        torch.testing.assert_close(network.inner(hidden), product)


def load_tiny(shape: tuple[int, int]) -> Any:
    """Return a network of one linear layer with what techniques ask of a network."""
    network: Any = torch.nn.Module()
    network.inner = torch.nn.Linear(shape[1], shape[0])
    network.get_output_embeddings = lambda: network
    return network


def test_evaluation_between_steps_leaves_a_quantised_base_trainable(adapted: Callable[..., Model]) -> None:
    """A quantised layer that repacks itself for evaluation would pass no gradient afterwards, without a word."""
    model = adapted("qlora")
    _, before = loss_and_gradient(model, cut(eight_sequences(model), 512))
    policy(model)
    model.network.train()
    _, after = loss_and_gradient(model, cut(eight_sequences(model), 512))
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_a_quantised_base_has_no_weight_to_be_read_by_mistake(adapted: Callable[..., Model]) -> None:
    """What is merged past our own merge, or quantised twice, fails instead of going on with other numbers."""
    model = adapted("qlora")
    with pytest.raises(AttributeError):
        model.network.merge_and_unload()
    with pytest.raises(ModelError, match="quantised already"):
        quantise(model.plain(), kind="nf4")


def test_bitsandbytes_says_how_to_get_it(adapted: Callable[..., Model]) -> None:
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(ModelError, match=re.escape("pip install 'burnish[gpu]'")):
        adapted("qlora", base="bitsandbytes-nf4")


@pytest.fixture
def quantised_elsewhere() -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: its quantised base is not tested here")


@pytest.mark.usefixtures("quantised_elsewhere")
@pytest.mark.parametrize("base", ["bitsandbytes-nf4", "bitsandbytes-int8"])
def test_bitsandbytes_trains_evaluates_and_trains(base: str, adapted: Callable[..., Model], tmp_path: Path) -> None:
    """What is read in evaluation is what training finds; saved, loaded and merged it stays the same model."""
    model = adapted("qlora", base=base)
    step, before = loss_and_gradient(model, cut(eight_sequences(model), 512))
    policy(model)
    model.network.train()
    again, after = loss_and_gradient(model, cut(eight_sequences(model), 512))
    assert again.losses == step.losses
    assert_same_gradients(after, before)
    trained = policy(model)
    torch.testing.assert_close(policy(model), trained)  # policy evaluates: no mode of the layers changes what they say
    save_model(tuned(model), tmp_path / "adapter")
    torch.testing.assert_close(policy(load_model(str(tmp_path / "adapter"), cpu())), policy(model))
    merge(str(tmp_path / "adapter"), str(tmp_path / "merged"))
    torch.testing.assert_close(policy(load_model(str(tmp_path / "merged"), cpu())), policy(model), atol=2e-3, rtol=2e-3)


@pytest.mark.usefixtures("quantised_elsewhere")
def test_bitsandbytes_stores_what_plain_torch_stores(adapted: Callable[..., Model]) -> None:
    """nf4 is the same to the bit; with scales in 8 bits (other levels) and int8 (a scale for a row, not for 64 weights) as near the original."""
    import bitsandbytes.functional as theirs

    weight = torch.randn(128, 320, generator=torch.Generator().manual_seed(1)) * 0.02

    def error(found: torch.Tensor) -> float:
        return float((found - weight).norm() / weight.norm())

    single = theirs.dequantize_4bit(*theirs.quantize_4bit(weight, quant_type="nf4"))
    assert torch.equal(single, round_trip(weight, kind="nf4", double=False))
    double = theirs.dequantize_4bit(*theirs.quantize_4bit(weight, quant_type="nf4", compress_statistics=True))
    assert error(round_trip(weight, kind="nf4")) == pytest.approx(error(double), rel=0.01)
    codes, scales, _ = theirs.int8_vectorwise_quant(weight.half())
    assert error(round_trip(weight, kind="int8")) < error(theirs.int8_vectorwise_dequant(codes, scales).float())
    batches = cut(eight_sequences(adapted("qlora", double=False)), 512)
    _, ours = loss_and_gradient(adapted("qlora", double=False), batches)
    _, gradients = loss_and_gradient(adapted("qlora", base="bitsandbytes-nf4", double=False), batches)
    assert_same_gradients(gradients, ours)


# -------------------------------------------------------------------------------------------------------------------- a task's head


def test_low_rank_adapters_train_and_save_a_tasks_head(folder: Path, tmp_path: Path) -> None:
    """The folder opens with PEFT's loader on the class that has the head, and gives the same logits."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    def base() -> Any:
        torch.manual_seed(3)
        network = AutoModelForSequenceClassification.from_pretrained(str(folder), num_labels=3)
        network.config.pad_token_id = 0
        return network

    network: Any = TECHNIQUES["lora"].function(base(), rank=3)
    assert {key.split(".")[-4] for key, item in network.named_parameters() if item.requires_grad and "lora" not in key} == {"score"}
    assert not [key for key, _ in network.named_parameters() if "score" in key and "lora" in key]
    with torch.no_grad():
        for item in network.parameters():
            if item.requires_grad:
                item.add_(0.05)
    network.save_pretrained(str(tmp_path))
    with quiet():
        again: Any = PeftModel.from_pretrained(base(), str(tmp_path))
    expected = network.eval()(input_ids=PROBE).logits
    torch.testing.assert_close(again.eval()(input_ids=PROBE).logits, expected)
    with pytest.raises(ConfigError, match="models that write text"):
        TECHNIQUES["prompt"].function(base())
