"""Frozen prefixes: beginning where frozen layers end walks the path of the whole model, in value, gradient and trajectory.

Architectures are made here at random, as small as they come, one of each family that puts its layers together in a way of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import api
from burnish.data.batching import FixedBatches, shuffled
from burnish.data.dialog import Frame
from burnish.data.render_heads import HeadRenderer, spec_for
from burnish.models import Model, adapt, load_model
from burnish.models.fast import keep, let_go
from burnish.objectives import OBJECTIVES
from burnish.techniques import TECHNIQUES
from burnish.train import TaskLoss
from burnish.tune import Watch
from burnish.types import Sequence
from cli_runs import cli, metrics, refused, result, write_labelled, write_rows, write_run
from loop import assert_same_gradients, eight_sequences, loss_and_gradient, run
from stub import cpu, make_stub, stub_tokenizer
from test_encoders import encoder_tokenizer, make_encoder
from test_every_objective_runs import run_of
from test_labels_objectives import CASES, labelled_rows

Units = list[list[Sequence]]
SIZES: dict[str, Any] = {
    "vocab_size": 288,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
FAMILIES: dict[str, Callable[[Any], Any]] = {
    "llama": lambda made: made.LlamaConfig(**SIZES),
    "qwen3": lambda made: made.Qwen3Config(**SIZES),
    "gemma2": lambda made: made.Gemma2Config(**SIZES, sliding_window=16, query_pre_attn_scalar=8),
    "phi": lambda made: made.PhiConfig(**{**SIZES, "num_key_value_heads": 4}),
    "gpt2": lambda made: made.GPT2Config(
        vocab_size=288,
        n_embd=32,
        n_layer=4,
        n_head=4,
        n_positions=256,
        initializer_range=0.1,
        bos_token_id=0,
        eos_token_id=1,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ),
}
MOVES: dict[str, tuple[str, Callable[[Model], dict[str, Any]], int]] = {
    "last layers": ("selective", lambda model: {"last_layers": 2}, 2),
    "lora above": ("lora", lambda model: {"targets": _above(model, 3)}, 3),
}
"""Technique, its options, and how many of four layers stay."""


def _above(model: Model, first: int) -> list[str]:
    """Return the linear layers of the layers from `first` on, by their whole names."""
    from burnish.techniques.low_rank import linear_layers

    return [name for name in linear_layers(model.plain()) if any(f".{number}." in name for number in range(first, 4))]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that writes a random model of a family, once."""
    import transformers

    folder = tmp_path_factory.mktemp("families")

    def made(name: str) -> Path:
        if not (folder / name).exists():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                network: Any = transformers.AutoModelForCausalLM.from_config(FAMILIES[name](transformers))
            network.save_pretrained(str(folder / name))
            stub_tokenizer().save_pretrained(str(folder / name))
        return folder / name

    return made


def adapted(place: Path, technique: str, options: Any, *, dtype: str = "float32", **more: Any) -> Model:
    torch.manual_seed(0)
    model = load_model(str(place), cpu(dtype), **more)
    adapt(model, TECHNIQUES[technique], options(model) if callable(options) else options)
    model.network.train()
    return model


def batches(model: Model, units: Units, *, packing: bool = False, tokens: int = 300) -> FixedBatches:
    return FixedBatches(
        units, shuffled(len(units), 1), 5, tokens, packing, model.pad_id(), "cpu", mask=model.encoder
    )  # five of eight rows in a step: micro-batches of every epoch are others


def both(make: Callable[[], Model], units_of: Callable[[Model], Units], objective: str, **more: Any) -> tuple[Any, Any, str]:
    """Return (steps, gradient of the first, tokens) of a model as it stands and of one that keeps its prefix, and what was told."""
    found, told = [], ""
    packing, limit, undropped = more.pop("packing", False), more.pop("limit", 10**9), more.pop("undropped", False)
    for kept in (False, True):
        model = make()
        units = units_of(model)
        if kept:
            units, told = keep(model, units, limit=limit, tokens=200, needs=OBJECTIVES[objective].needs, undropped=undropped)
        source, tasks = batches(model, units, packing=packing), {"main": TaskLoss(OBJECTIVES[objective])}
        _, gradients = loss_and_gradient(model, source(0), tasks=tasks)
        steps = run(model, source, steps=6, rate=5e-3, tasks=tasks)
        found.append((steps, gradients, [step.tokens for step in steps]))
    return found[0], found[1], told


def assert_same_path(one: Any, other: Any, *, tolerance: float = 1e-4) -> None:
    losses = [[sum(step.losses.values()) for step in steps] for steps, _, _ in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=tolerance)
    assert losses[0][-1] != pytest.approx(losses[0][0], rel=1e-3), "nothing was learned, so the comparison says nothing"
    assert_same_gradients(other[1], one[1])
    assert one[2] == other[2], "tokens that are passed over count as learned from"


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")  # PEFT's, on GPT-2's kind of layer
@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("name", FAMILIES)
def test_upper_layers_learn_the_same_behind_kept_states(name: str, moves: str, family: Callable[[str], Path]) -> None:
    technique, options, below = MOVES[moves]
    calls: list[int] = []

    def make() -> Model:
        model = adapted(family(name), technique, options)
        layers = max((m for m in model.trunk().modules() if isinstance(m, torch.nn.ModuleList)), key=len)
        layers[0].register_forward_pre_hook(lambda module, inputs: calls.append(0) if module.training else None)
        layers[below - 1].mlp.register_forward_hook(lambda module, inputs, output: calls.append(1) if module.training else None)
        return model

    plain, kept, told = both(make, eight_sequences, "sft")
    assert f"the {below} lowest of 4 layers say is kept of 8 of 8" in told
    assert_same_path(plain, kept)
    assert calls.count(1) <= calls.count(0) / 2 + 1, "the frozen layers ran in the steps"


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("limit", [10**9, 20_000])
def test_in_both_layouts_and_where_not_all_fits(packing: bool, limit: int, family: Callable[[str], Path]) -> None:
    def make() -> Model:
        return adapted(family("llama"), "selective", {"last_layers": 1})

    plain, kept, told = both(make, eight_sequences, "sft", packing=packing, limit=limit)
    assert ("8 of 8" in told) == (limit == 10**9) and "0 of 8" not in told
    assert_same_path(plain, kept)


def test_in_bfloat16_states_are_kept_as_they_are_computed(family: Callable[[str], Path]) -> None:
    model = adapted(family("llama"), "selective", {"last_layers": 1}, dtype="bfloat16")
    keep(model, eight_sequences(model), limit=10**9, tokens=200, needs=("logprobs",))
    assert model.prefix is not None and [table.dtype for table in model.prefix.tables] == [torch.bfloat16]


@pytest.mark.parametrize("name", CASES)
def test_a_head_on_a_frozen_trunk_learns_from_what_it_reads_alone(name: str, tmp_path: Path) -> None:
    """Classes, numbers, tags and spans: the trunk is not run at all, and only what is read is kept."""
    case = CASES[name]
    objective = next(key for key, value in OBJECTIVES.items() if value is case.objective)

    def make() -> Model:
        model = case.model(tmp_path)
        adapt(model, TECHNIQUES["selective"], {"head": True})
        model.network.train()
        return model

    plain, kept, told = both(make, case.units, objective)
    assert "all 2 frozen layers" in told
    assert_same_path(plain, kept)
    model = make()
    units = case.units(model)
    placed, _ = keep(model, units, limit=10**9, tokens=200, needs=case.objective.needs)
    assert model.prefix is not None
    assert model.prefix.rows <= sum(len(set(one.at_N.tolist())) for unit in units for one in unit)
    model.trunk().layers[0].register_forward_hook(lambda *_: pytest.fail("the trunk was run"))
    run(model, batches(model, placed), steps=2, tasks={"main": TaskLoss(case.objective)})


@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert", "roberta"])
@pytest.mark.parametrize("options", [{"head": True}, {"head": True, "last_layers": 1}])
def test_an_encoders_head_learns_the_same_once_its_layers_drop_nothing(kind: str, options: Any, tmp_path: Path) -> None:
    """BERT drops a tenth of everything in training: kept only where the run says that its frozen layers should not."""
    place = make_encoder(tmp_path / kind, kind)

    def units_of(model: Model) -> Units:
        assert model.spec is not None
        render = HeadRenderer(model.tokenizer, 60, Frame(), model.spec, encoder=True)
        return [render.sequences(row) for row in labelled_rows()]

    spec = spec_for("sequence", labelled_rows(), encoder_tokenizer())

    def make() -> Model:
        model = adapted(place, "selective", options, head=spec)
        for module in model.network.modules():  # what stands above the frozen layers would drop differently in the two runs
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            for name in ("attention_dropout", "attn_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        return model

    plain, kept, told = both(make, units_of, "classification")
    assert "is kept of 8 of 8" in told, told
    assert_same_path(plain, kept)
    model = adapted(place, "selective", options, head=spec)
    units, told = keep(model, units_of(model), limit=10**9, tokens=200, needs=("scores",))
    dropping = kind != "modernbert"
    assert (model.prefix is None) == dropping
    if dropping:
        assert "With train.reuse = true they drop nothing" in told
        _, told = keep(model, units, limit=10**9, tokens=200, needs=("scores",), undropped=True)
        assert "is kept of 8 of 8" in told and model.prefix is not None
    if "last_layers" not in options:
        assert model.prefix is not None and model.prefix.reads == "first", "only the pooled token is kept"


@pytest.mark.parametrize(
    ("technique", "options", "why"),
    [
        ("lora", {}, ""),
        ("full", {}, ""),
        ("selective", {"last_layers": 1, "embeddings": True}, ""),
        ("selective", {"norms": True}, ""),
        ("prompt", {"positions": 3}, "virtual positions"),
    ],
)
def test_where_nothing_is_frozen_below_nothing_is_kept(technique: str, options: Any, why: str, tmp_path: Path) -> None:
    model = adapted(make_stub(tmp_path / "stub"), technique, options)
    units = eight_sequences(model)
    found, told = keep(model, units, limit=10**9, tokens=200, needs=("logprobs",))
    assert found is units and model.prefix is None and why in told and bool(why) == bool(told)


def test_dropout_of_frozen_layers_forbids_it_unless_it_is_switched_off(family: Callable[[str], Path]) -> None:
    def make() -> Model:
        model = adapted(family("gpt2"), "selective", {"last_layers": 1})
        model.trunk().h[0].mlp.dropout.p = 0.3
        return model

    model = make()
    units = eight_sequences(model)
    state = torch.random.get_rng_state()
    found, told = keep(model, units, limit=10**9, tokens=200, needs=("logprobs",))
    assert found is units and "drop out a part" in told and torch.equal(state, torch.random.get_rng_state())
    found, told = keep(model, units, limit=10**9, tokens=200, needs=("logprobs",), undropped=True)
    assert "is kept of 8 of 8" in told
    model.network.train()
    assert not model.trunk().h[0].mlp.dropout.training and model.trunk().h[-1].mlp.dropout.training


def test_what_does_not_fit_and_what_is_no_sum_is_left_as_it_is(tmp_path: Path) -> None:
    model = adapted(make_stub(tmp_path / "stub"), "selective", {"last_layers": 1})
    units = eight_sequences(model)
    for more in ({"limit": 100}, {"limit": 20_000, "all_or_none": True}):
        found, told = keep(model, units, tokens=200, needs=("logprobs",), **more)
        assert found is units and "would take" in told


def test_the_same_tokens_are_kept_once_and_let_go_on_demand(tmp_path: Path) -> None:
    model = adapted(make_stub(tmp_path / "stub"), "selective", {"last_layers": 1})
    units = eight_sequences(model)
    keep(model, [*units, *units], limit=10**9, tokens=200, needs=("logprobs",))
    assert model.prefix is not None and model.prefix.rows == sum(one.length for unit in units for one in unit)
    keep(model, units[:2], limit=10**9, tokens=200, needs=("logprobs",))  # another task of the run: a table of its own
    assert len(model.prefix.tables) == 2
    let_go(model)
    assert model.prefix.size == 0


# ------------------------------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    make_stub(folder / "stub")
    write_rows(folder / "rows.jsonl")
    write_labelled(folder / "labelled.jsonl")
    return folder


UPPER: dict[str, Any] = {"technique__name": "selective", "technique__last_layers": 1, "train__steps": 9, "save__every": 3}


def test_a_run_reads_frozen_layers_once_and_ends_where_it_would(place: Path) -> None:
    said: list[str] = []
    watch = Watch(say=said.append)
    for name, more in (("kept", {}), ("plain", {"train__reuse": False})):
        api.tune(write_run(place, "./stub", name=f"{name}.toml", output=str(place / name), **UPPER, **more), watch=watch)
    assert sum("is kept of" in line for line in said) == 1
    numbers = [json.loads((place / name / "environment.json").read_text())["numbers"]["kept"] for name in ("kept", "plain")]
    assert numbers[0] > 0 == numbers[1]
    found = [[row["loss"] for row in metrics(place / name) if "loss" in row] for name in ("kept", "plain")]
    assert found[0] == pytest.approx(found[1], rel=1e-4) and len(found[0]) == 9


def test_stopped_and_resumed_behind_kept_states_is_bit_for_bit_the_same(place: Path) -> None:
    whole, parts = place / "whole", place / "parts"
    api.tune(write_run(place, "./stub", name="whole.toml", output=str(whole), **UPPER))
    run = write_run(place, "./stub", name="parts.toml", output=str(parts), **UPPER)

    class Crash(Exception):
        """A death without a word."""

    def crash(record: dict[str, Any]) -> None:
        if record["step"] == 5:
            raise Crash

    with pytest.raises(Crash):
        api.tune(run, watch=Watch(step=crash))
    api.tune(run, resume=True)
    assert result(parts) == result(whole)


def test_no_more_is_kept_than_the_limit(tmp_path: Path) -> None:
    """Memory is flat in rows beyond it."""
    model = adapted(make_stub(tmp_path / "stub"), "selective", {"last_layers": 1})
    placed, _ = keep(model, eight_sequences(model), limit=30_000, tokens=200, needs=("logprobs",))
    assert model.prefix is not None and 15_000 < model.prefix.size <= 30_000
    assert model.prefix.size == sum(table.nbytes for table in model.prefix.tables)
    assert 0 < sum(one.kept is not None for unit in placed for one in unit) < 8


def test_a_run_of_one_epoch_keeps_nothing(place: Path) -> None:
    said: list[str] = []
    run = write_run(place, "./stub", output=str(place / "once"), **{**UPPER, "train__steps": 2})
    api.tune(run, watch=Watch(say=said.append))
    assert not any("is kept of" in line for line in said)


def test_asking_for_what_cannot_be_is_refused(place: Path) -> None:
    run = write_run(place, "./stub", output=str(place / "never"), train__reuse=True, train__steps=9)
    assert "no layer is frozen below" in refused(cli("tune", run))


def test_a_head_alone_can_be_said(place: Path) -> None:
    """`technique.head` on a model with a head moves the head and nothing else."""
    said: list[str] = []
    run = run_of(place, "classification", place / "head", technique={"name": "selective", "head": True})
    run["train"]["steps"] = 12
    api.tune(run, watch=Watch(say=said.append))
    assert any("all 2 frozen layers say is kept" in line for line in said)
