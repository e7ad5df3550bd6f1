"""The shared layout: what a group has in common stands once, and nobody can tell from values or gradients; when a run takes it.

Tolerances: 1e-5 in float32, 1e-11 in float64, of the largest number compared.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish import api, tune_layout
from burnish.data.batching import FixedBatches, collate, cut_units, shuffled, units_of
from burnish.data.batching_shared import common_prefix, positions_of, saved_share
from burnish.devices import Device, missing_compiler
from burnish.errors import ModelError, Stopped
from burnish.models import Model, adapt, forward, load_model
from burnish.models.fast import as_table, pieces_mask
from burnish.models.fast.attention import attend_rows, attention
from burnish.models.forward import places
from burnish.models.probe import probe
from burnish.techniques import TECHNIQUES
from burnish.types import Batch, Origin, Sequence
from cli_runs import last_checkpoint, metrics, result, write_run
from stub import load_stub, make_stub
from test_forward import ARCHITECTURES, BOTH, SMALL, Values, gradients, random_model, total

PIECES = sys.modules["burnish.models.fast.pieces"]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 3e-2}


def made(tokens: Any, *, group: int, draw: np.random.Generator, role: str = "policy") -> Sequence:
    """Return tokens with read-outs at most places, weights that differ, some of them zero."""
    tokens_T = np.asarray(tokens, dtype=np.int32)
    at_N = np.flatnonzero(draw.random(len(tokens_T) - 1) < 0.7).astype(np.int32)
    weight_N = draw.choice([0.0, 0.5, 1.0], len(at_N)).astype(np.float32)
    return Sequence(tokens_T, at_N, tokens_T[at_N + 1], weight_N, Origin("rows", group), group=group, role=role)


def groups(shapes: list[tuple[int, list[int]]], *, seed: int = 0, vocabulary: int = 97) -> list[Sequence]:
    """Return groups in any order: each a common prefix of so many tokens, and for each of its sequences what follows."""
    draw = np.random.default_rng(seed)
    found = []
    for number, (prefix, rests) in enumerate(shapes):
        common = list(draw.integers(0, vocabulary, prefix))
        for place, rest in enumerate(rests):
            # The first token after the prefix tells sequences apart, so that no more is in common than is meant to be.
            tail = [place % vocabulary, *draw.integers(0, vocabulary, rest - 1)] if rest else []
            found.append(made(common + tail, group=number + 1, draw=draw))
    return [found[place] for place in draw.permutation(len(found))]


SHAPES = [(11, [5, 9]), (6, [0, 4]), (7, [0, 0]), (0, [5, 7]), (8, [3]), (5, [3, 1, 4, 2])]
"""Two answers; one that another begins with; the same twice; nothing in common; one alone; four answers."""


def laid(model: Model, parts: list[Sequence], **layout: bool) -> Values:
    """Return log-probabilities, entropies and gradients of our forward pass in a layout."""
    batch = collate(parts, pad_id=0, device="cpu", **({"packing": False} | layout))
    kept: dict[str, Any] = {}

    def value() -> torch.Tensor:
        kept["outputs"] = forward(model, batch, BOTH)
        return total(kept["outputs"], batch)

    grads = gradients(model, value)  # pyright: ignore[reportArgumentType]
    return kept["outputs"].logprobs_N.detach(), kept["outputs"].entropy_N.detach(), grads


def same(found: Values, expected: Values, *, tolerance: float) -> None:
    for one, other in zip((*found[:2], *found[2]), (*expected[:2], *expected[2]), strict=True):
        scale = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(one / scale, other / scale, atol=tolerance, rtol=0)


# ---------------------------------------------------------------------------------------------------------------------- architectures

KINDS: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "qwen2": SMALL,
    "qwen3": SMALL | {"head_dim": 8},
    "gemma": SMALL | {"head_dim": 8},
    "gemma3_text": SMALL | {"head_dim": 8, "sliding_window": 32},
    "mistral": SMALL | {"sliding_window": 32},
    "phi": SMALL,
    "gpt2": ARCHITECTURES["gpt2"][0],
    "opt": ARCHITECTURES["opt"][0],
}


@pytest.mark.parametrize("way", ["tiles", "mask"])
@pytest.mark.parametrize("kind", KINDS)
def test_architectures_give_what_padded_rows_give(kind: str, way: str) -> None:
    """In value and gradient, by the table and by its plain twin, the mask; packed documents too where the table serves."""
    model = random_model(kind, **KINDS[kind])
    assert model.pieces == "mask", "the ecosystem's attention knows no table"
    parts = [*groups(SHAPES), *groups([(9, [0])], seed=4)]
    expected = laid(model, parts)
    if way == "tiles":
        assert attend_rows(model.network)
        probe(model)
    assert model.pieces == way
    same(laid(model, parts, shared=True), expected, tolerance=1e-5)
    same(laid(model, parts, packing=True), expected, tolerance=1e-5)


def test_what_slides_or_runs_on_is_told_apart() -> None:
    """Sequences longer than the window, and states that run on from one piece to the next, have no shared layout, and it says so."""
    narrow = random_model("mistral", **SMALL | {"sliding_window": 16})
    parts = groups([(11, [5, 3])])
    assert narrow.window == 16
    same(laid(narrow, parts, shared=True), laid(narrow, parts), tolerance=1e-5)
    with pytest.raises(ModelError, match="attention slides"):
        laid(narrow, groups([(11, [5, 6])]), shared=True)
    values = {"vocab_size": 97, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "intermediate_size": 64}
    recurrent = random_model("mamba", **values)
    assert recurrent.pieces == "none"
    with pytest.raises(ModelError, match="cannot stand once"):
        laid(recurrent, parts, shared=True)


# ------------------------------------------------------------------------------------------------------------------------- the layout


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 6), min_size=1, max_size=4)), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_every_place_holds_the_token_and_the_position_of_its_sequence(shapes: list[tuple[int, list[int]]]) -> None:
    parts = groups([(prefix + 2, rests) for prefix, rests in shapes])
    whole = [Sequence(p.tokens_T, np.arange(p.length), p.tokens_T, np.ones(p.length), p.origin, group=p.group) for p in parts]
    batch = collate(whole, packing=False, shared=True, pad_id=0, device="cpu")
    layout = batch.layout
    units = units_of(whole)
    assert layout.input_ids_BT.shape == (1, sum(positions_of(unit) for unit in units))
    place_N = places(layout, batch)
    assert torch.equal(layout.input_ids_BT[0, place_N], batch.target_N)
    assert torch.equal(layout.position_ids_BT[0, place_N], batch.at_N)
    assert batch.tokens == sum(part.length for part in parts), "a prompt counts as often as the data has it"
    mask = pieces_mask(as_table(layout.pieces_PK), layout.input_ids_BT.shape[1], torch.float32, "cpu")[0, 0]  # pyright: ignore
    seen = (mask == 0).sum(1)
    assert torch.equal(seen, layout.position_ids_BT[0] + 1), "a token sees those before it in its own sequence, and no others"


@given(st.lists(st.tuples(st.integers(0, 40), st.lists(st.integers(1, 30), min_size=1, max_size=4)), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_the_budget_counts_positions_and_no_group_is_divided(shapes: list[tuple[int, list[int]]]) -> None:
    parts = groups([(prefix + 1, rests) for prefix, rests in shapes])
    micro_batches = cut_units(units_of(parts), 64, packing=False, shared=True)
    assert sorted(id(part) for micro in micro_batches for part in micro) == sorted(map(id, parts))
    for micro in micro_batches:
        units = units_of(micro)
        assert len(units) == 1 or sum(map(positions_of, units)) <= 64
    assert len({group for micro in micro_batches for group in {part.group for part in micro}}) == sum(
        len({part.group for part in micro}) for micro in micro_batches
    )


def test_every_rank_gets_a_part_of_a_step_that_would_fit_one_row() -> None:
    units = units_of(groups([(9, [4, 6]), (12, [3, 2]), (8, [5, 7]), (7, [2, 9])]))

    def step(ranks: int) -> list[list[Batch]]:
        made = [FixedBatches(units, shuffled(4, 1), 4, 10**6, False, 0, "cpu", rank, ranks, shared=True) for rank in range(ranks)]
        return [source(0) for source in made]

    alone, pair = step(1), step(2)
    assert [len(batches) for batches in alone] == [1] and all(pair)
    assert sum(batch.tokens for batches in pair for batch in batches) == alone[0][0].tokens


def test_what_is_in_common_and_what_it_saves() -> None:
    one, other = groups([(6, [2, 4])])
    assert common_prefix([one, other]) == 6 and positions_of([one, other]) == 12
    assert saved_share([[one, other]]) == pytest.approx(6 / 18)
    assert common_prefix([one]) == 0 and saved_share([]) == 0.0


# ---------------------------------------------------------------------------------------------------------------------- the attention


def attended(table: torch.Tensor, *, dtype: torch.dtype, heads: int, shared: int, scaling: float | None, length: int) -> list[Any]:
    """Return what a layer gives for one row and the gradients of queries, keys and values; a mask goes to the ecosystem's attention."""
    draw = torch.Generator().manual_seed(length)
    parts = [torch.randn(1, length, count, 16, generator=draw).to(dtype) for count in (heads, shared, shared)]
    parts = [part.transpose(1, 2).requires_grad_() for part in parts]  # as a layer's projections lie in memory
    module = torch.nn.Module()
    vars(module).update(is_causal=True, num_key_value_groups=heads // shared)
    found, weights = attention(module, *parts, table, scaling=scaling)
    assert weights is None and found.shape == (1, length, heads, 16) and found.dtype == dtype
    (found.float() * torch.randn(found.shape, generator=draw)).sum().backward()
    return [found.detach(), *(part.grad for part in parts)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "shared", "scaling"), [(4, 4, None), (6, 2, 0.3), (3, 1, 1.0)])
def test_tiles_equal_the_mask(dtype: torch.dtype, heads: int, shared: int, scaling: float | None, monkeypatch: Any) -> None:
    monkeypatch.setattr(PIECES, "ROWS", 8)  # several tiles to a piece
    layout = collate(
        groups([(21, [5, 17, 3]), (0, [9, 30]), (13, [0, 6])]), packing=False, shared=True, pad_id=0, device="cpu"
    ).layout
    assert layout.pieces_PK is not None
    table, length = as_table(layout.pieces_PK), layout.input_ids_BT.shape[1]
    options: dict[str, Any] = {"dtype": dtype, "heads": heads, "shared": shared, "scaling": scaling, "length": length}
    expected = attended(pieces_mask(table, length, dtype, "cpu"), **options)
    for one, other in zip(attended(table, **options), expected, strict=True):
        scale = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(one / scale, other / scale, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(missing_compiler("cpu") is not None, reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")  # torch's own, in its compiler
def test_a_compiled_layer_attends_over_pieces_too(tmp_path: Path) -> None:
    from burnish.models import compile_layers

    model = load_model(str(make_stub(tmp_path / "stub")), Device("cpu", "float32", "float32", 1, compiled=True))
    assert attend_rows(model.network)
    probe(model)
    assert model.pieces == "tiles"
    expected = laid(model, groups(SHAPES), shared=True)
    assert compile_layers(model.trunk()) == 2
    for seed in (0, 1):  # another table, other lengths
        parts = groups(SHAPES[: 6 - seed], seed=seed)
        found = laid(model, parts, shared=True)
        if seed == 0:
            same(found, expected, tolerance=1e-5)


# ------------------------------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stub and pairs whose prompts are long beside their answers."""
    folder = tmp_path_factory.mktemp("shared")
    make_stub(folder / "stub")
    rows = [
        {
            "prompt": f"which of these would you say is the right answer to question {number}? " * 2,
            "chosen": f"the {number}th, " + "of course " * (number % 3),
            "rejected": "no idea " * (1 + number % 4),
        }
        for number in range(20)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


RUN: dict[str, Any] = {
    "objective__name": "dpo",
    "score": ["preference_accuracy"],
    "train__learning_rate": 1e-2,
    "evaluate__max_tokens": None,
}


def numbers(output: Path) -> dict[str, Any]:
    return json.loads((output / "environment.json").read_text("utf-8"))["numbers"]


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """An undisturbed run."""
    output = place / "whole"
    api.tune(write_run(place, "./stub", output=str(output), **RUN))
    return output


def test_a_run_in_the_shared_layout_walks_the_path_of_a_padded_one(place: Path, whole: Path, monkeypatch: Any) -> None:
    """Step by step, from the loss log 2 on; reference included, which is read in the layout of the run."""
    assert numbers(whole)["shared"]
    monkeypatch.setattr(tune_layout, "LEAST", 2.0)
    output = place / "padded"
    api.tune(write_run(place, "./stub", output=str(output), **RUN))
    assert not numbers(output)["shared"]
    steps, others = ([line for line in metrics(run) if "loss" in line] for run in (whole, output))
    assert len(steps) == 6 and steps[0]["loss"] == pytest.approx(np.log(2), abs=1e-5) and steps[-1]["loss"] < 0.69
    for one, other in zip(steps, others, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-4)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=4e-3)
        assert one["tokens"] == other["tokens"]


def test_a_run_keeps_its_layout_when_it_is_resumed(place: Path, whole: Path, monkeypatch: Any) -> None:
    """Stopped after step 4, resumed under another rule: the rest bit for bit, as the run directory says that it began."""
    import signal

    from burnish.tune import Watch

    output = place / "halves"
    run = write_run(place, "./stub", output=str(output), **RUN)
    stop = Watch(step=lambda record: signal.raise_signal(signal.SIGTERM) if record["step"] == 4 else None)
    with pytest.raises(Stopped):
        api.tune(run, watch=stop)
    assert last_checkpoint(output).name == "checkpoint-4"
    monkeypatch.setattr(tune_layout, "wants_sharing", lambda plan: False)
    api.tune(run, resume=True)
    assert result(output) == result(whole)


@pytest.mark.parametrize("technique", ["lora", "prompt"])
def test_prompt_methods_and_dropout_have_rows_of_their_own(place: Path, technique: str) -> None:
    output = place / technique
    options: dict[str, Any] = {"technique__name": technique} | ({"technique__dropout": 0.1} if technique == "lora" else {})
    api.tune(write_run(place, "./stub", output=str(output), **RUN | {"train__steps": 1} | options))
    assert not numbers(output)["shared"]


@pytest.mark.parametrize("technique", ["prompt", "prefix"])
def test_virtual_tokens_are_refused_where_a_prefix_stands_once(tmp_path: Path, technique: str) -> None:
    model = load_stub(tmp_path)
    adapt(model, TECHNIQUES[technique], {})
    with pytest.raises(ModelError, match="cannot stand once"):
        laid(model, groups(SHAPES), shared=True)
