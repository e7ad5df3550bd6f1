"""The reference is the policy as it stood before step 0, for every technique, and what is kept of it on disk is never trusted blindly."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from burnish.data.batching import FixedBatches, shuffled
from burnish.data.render_pairs import pair_sequences, rated_sequences, unrelated
from burnish.errors import ModelError
from burnish.models import Model, adapt, load_model, save_model
from burnish.objectives import OBJECTIVES
from burnish.reference import WithDivergence, cached, divergence_point, fill, key_of, log_probabilities, with_reference
from burnish.techniques import TECHNIQUES
from burnish.train import Step, TaskLoss
from burnish.types import Sequence
from loop import cut, eight_sequences, run
from preference_cases import eight_pairs, eight_rated, renderer
from stub import cpu, make_stub

DPO = {"main": TaskLoss(OBJECTIVES["dpo"])}
KTO = {"main": TaskLoss(OBJECTIVES["kto"])}
Units = list[list[Sequence]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("reference") / "stub")


@pytest.fixture
def adapted(folder: Path) -> Callable[..., Model]:
    def made(technique: str = "full", *, source: Path = folder, **options: Any) -> Model:
        model = load_model(str(source), cpu())
        torch.manual_seed(0)
        adapt(model, TECHNIQUES[technique], options)
        return model

    return made


def pair_rows(model: Model) -> Units:
    return [pair_sequences(renderer(model), pair, group=number + 1) for number, pair in enumerate(eight_pairs())]


def flat(units: Units) -> list[Sequence]:
    return [sequence for unit in units for sequence in unit]


def direct(model: Model, one: Sequence) -> np.ndarray:
    """Return the targets' log-probabilities from the network's own logits, this sequence alone."""
    with torch.no_grad():
        logits_TV = model.network(input_ids=torch.as_tensor(one.tokens_T).long()[None], use_cache=False).logits[0]
    read = torch.log_softmax(logits_TV.double(), -1)[torch.as_tensor(one.at_N).long(), torch.as_tensor(one.target_N).long()]
    return read.numpy()


def assert_begins_at_the_reference(step: Step) -> None:
    assert step.losses["preference"] == pytest.approx(math.log(2), abs=1e-5)
    assert step.metrics["kl"] == pytest.approx(0, abs=1e-9)
    assert step.metrics["margin"] == pytest.approx(0, abs=1e-4)


# ----------------------------------------------------------------------------------------------------------- the policy before step 0


@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize("packing", [False, True])
def test_dpo_begins_at_log_2_for_every_technique(technique: str, packing: bool, adapted: Callable[..., Model]) -> None:
    """And moves away from there: the reference stays where it was while the policy learns."""
    model = adapted(technique, **({"last_layers": 1} if technique == "selective" else {}))
    units = fill(model, pair_rows(model), tokens=150, packing=packing)
    model.network.train()
    steps = run(model, cut(units, 150, packing=packing), steps=4, rate=TECHNIQUES[technique].learning_rate, tasks=DPO)
    assert_begins_at_the_reference(steps[0])
    assert steps[-1].metrics["kl"] > 1e-6 and steps[-1].losses["preference"] < 0.99 * math.log(2)


@pytest.mark.parametrize("way", ["merged_on_load", "exported", "same_model"])
def test_dpo_begins_at_log_2_after_fine_tuning(way: str, adapted: Callable[..., Model], tmp_path: Path) -> None:
    """A run that continues another one: its reference is the tuned model, not the base that the user once began with."""
    first = adapted("lora", rank=4)
    base = log_probabilities(first, flat(pair_rows(first)), tokens=400)
    run(first, cut(eight_sequences(first), 128), steps=4, rate=2e-2)
    if way == "merged_on_load":
        save_model(first, tmp_path)
        model = adapted("full", source=tmp_path)
    elif way == "exported":
        first.network.merge_and_unload().save_pretrained(str(tmp_path))
        first.tokenizer.save_pretrained(str(tmp_path))
        model = adapted("lora", source=tmp_path)
    else:
        model = first
    units = fill(model, pair_rows(model), tokens=400)
    away = [np.abs(one.streams["reference"] - part).mean() for one, part in zip(flat(units), base, strict=True)]
    assert np.mean(away) > 0.1, "fine-tuning has moved the model, and its reference with it"
    assert_begins_at_the_reference(run(model, cut(units, 150), tasks=DPO)[0])


def test_dropout_is_off_and_everything_is_put_back(adapted: Callable[..., Model]) -> None:
    model = adapted("lora", dropout=0.5)
    run(model, cut(eight_sequences(model), 128), steps=2, rate=2e-2)
    model.network.train()
    modes = [module.training for module in model.network.modules()]
    moving = [parameter.requires_grad for parameter in model.network.parameters()]
    once, again = (flat(fill(model, pair_rows(model), tokens=400)) for _ in range(2))
    off = flat(fill(model, pair_rows(model), policy="adapter_off", tokens=400))
    assert [module.training for module in model.network.modules()] == modes
    assert [parameter.requires_grad for parameter in model.network.parameters()] == moving
    assert torch.is_grad_enabled() and all(parameter.grad is None for parameter in model.network.parameters())
    assert all((one.streams["reference"] == other.streams["reference"]).all() for one, other in zip(once, again, strict=True))
    assert any((one.streams["reference"] != other.streams["reference"]).any() for one, other in zip(once, off, strict=True))


def test_adapter_off_is_the_base_where_the_adapter_began_at_zero(adapted: Callable[..., Model]) -> None:
    model = adapted("lora")
    before = log_probabilities(model, flat(pair_rows(model)), tokens=400)
    run(model, cut(eight_sequences(model), 128), steps=3, rate=2e-2)
    after = log_probabilities(model, flat(pair_rows(model)), policy="adapter_off", tokens=400)
    assert all((one == other).all() for one, other in zip(before, after, strict=True))
    with pytest.raises(ModelError, match="no adapter to switch off"):
        log_probabilities(adapted("full"), flat(pair_rows(model)), policy="adapter_off", tokens=400)


@pytest.mark.parametrize("rounded", [False, True])
def test_the_reference_is_rounded_as_training_is(rounded: bool, adapted: Callable[..., Model]) -> None:
    """Where activations are bfloat16 in training, exact references would begin elsewhere, by far more than rounding of a sum."""
    model = adapted("full")
    exact = fill(model, pair_rows(model), tokens=10_000)
    # As `Device.autocast` says it, without the minutes that compiling takes.
    model.target = SimpleNamespace(**dataclasses.asdict(model.target) | {"autocast": True})  # pyright: ignore
    units = fill(model, pair_rows(model), tokens=10_000) if rounded else exact
    step = run(model, cut(units, 10_000), tasks=DPO)[0]
    assert (step.metrics["kl"] < 1e-9) is rounded


# --------------------------------------------------------------------------------------------------------------------- what is filled


@pytest.mark.parametrize(("tokens", "packing"), [(1, False), (90, False), (10_000, False), (90, True)])
def test_log_probabilities_are_the_networks_own_in_every_cut(tokens: int, packing: bool, adapted: Callable[..., Model]) -> None:
    """In the order of the rows, for read-outs of any weight and any group, streams and all else kept."""
    model = adapted()
    units = pair_rows(model)
    units[3][0].weight_N[0] = 0.0
    units = [[dataclasses.replace(one, streams={"margin": one.weight_N * 2}) for one in unit] for unit in units]
    filled = fill(model, units, tokens=tokens, packing=packing)
    for before, after in zip(flat(units), flat(filled), strict=True):
        assert after.streams["reference"].dtype == np.float32 and after.streams["margin"] is before.streams["margin"]
        np.testing.assert_allclose(after.streams["reference"], direct(model, before), rtol=1e-5, atol=1e-5)
        assert dataclasses.replace(after, streams=before.streams).group == before.group and after.tokens_T is before.tokens_T
    assert "reference" not in units[0][0].streams, "what went in is as it was"


def test_what_is_done_is_said(adapted: Callable[..., Model]) -> None:
    model, lines = adapted(), []
    fill(model, pair_rows(model) * 2, tokens=1, say=lines.append)
    assert lines[0] == "Reading what the model says before tuning: 32 sequences, once" and len(lines) > 5


def test_sequences_that_cannot_be_read_are_refused(adapted: Callable[..., Model]) -> None:
    model = adapted()
    long = dataclasses.replace(pair_rows(model)[0][0], tokens_T=np.zeros(513, dtype=np.int32))
    with pytest.raises(ModelError, match=r"longer than the 512 tokens[\s\S]*pairs\.jsonl:1: 513 tokens"):
        log_probabilities(model, [long], tokens=10_000)
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match=r"not a finite number for 2 of 2 sequences \(first: pairs\.jsonl:1\)"):
        log_probabilities(model, pair_rows(model)[0], tokens=10_000)


# ------------------------------------------------------------------------------------------------------------------------ kept on disk


class Counted:
    """A computation that knows how often it was asked; a class because it counts."""

    def __init__(self, values: list[np.ndarray]) -> None:
        self.values, self.times = values, 0

    def __call__(self) -> list[np.ndarray]:
        self.times += 1
        return self.values


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return len(found) == len(expected) and all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


VALUES = [np.asarray([-1.5, -2.25], dtype=np.float32), np.zeros(0, dtype=np.float32), np.asarray([-0.125], dtype=np.float32)]


def test_kept_values_come_back_bit_for_bit(tmp_path: Path) -> None:
    for name, values in (("some", VALUES), ("none", [])):
        compute = Counted(values)
        path = tmp_path / "deep" / f"{name}.safetensors"
        assert all(same(cached(path, "key", compute=compute), values) for _ in range(3))
        assert compute.times == 1


def test_another_key_is_computed_anew_and_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    cached(path, "one", compute=Counted(VALUES))
    other = Counted([part - 1 for part in VALUES])
    assert same(cached(path, "two", compute=other), other.values) and other.times == 1
    assert same(cached(path, "two", compute=other), other.values) and other.times == 1
    again = Counted(VALUES)
    cached(path, "one", compute=again)
    assert again.times == 1


def test_a_damaged_file_is_never_trusted(tmp_path: Path) -> None:
    """Each byte of it changed, and cut off at each place: computed anew, never a wrong number, never an error."""
    path = tmp_path / "reference.safetensors"
    cached(path, "key", compute=Counted(VALUES))
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            assert same(cached(path, "key", compute=Counted(VALUES)), VALUES)
    path.write_bytes(whole)
    untouched = Counted(VALUES)
    cached(path, "key", compute=untouched)
    assert untouched.times == 0


def test_the_key_knows_tokens_places_targets_order_and_weights_before_step_0() -> None:
    def one(*tokens: int, at: tuple[int, ...] = (0,), target: tuple[int, ...] = (7,)) -> Sequence:
        made = [np.asarray(values, dtype=np.int32) for values in (tokens, at, target)]
        from burnish.types import Origin

        return Sequence(*made, np.ones(len(at), dtype=np.float32), Origin("rows.jsonl"))

    rows = [
        [one(1, 2)],
        [one(1, 3)],
        [one(1, 2, target=(8,))],
        [one(1, 2, at=(1,))],
        [one(1, 2), one(1, 3)],
        [one(1, 3), one(1, 2)],
    ]
    keys = [key_of(row, fingerprint="base, lora") for row in rows] + [key_of(rows[0], fingerprint="base, full")]
    assert len(set(keys)) == len(keys) and all(len(key) == 64 for key in keys)
    assert key_of([one(1, 2)], fingerprint="base, lora") == keys[0]
    wide = dataclasses.replace(one(1, 2), tokens_T=np.asarray([1, 2], dtype=np.int64))
    assert key_of([wide], fingerprint="base, lora") == keys[0], "the same tokens, however they are stored"


# --------------------------------------------------------------------------------------------------------------- KTO's reference point


def rated_rows(model: Model) -> tuple[Units, Units]:
    """Return rated answers, and their prompts with other rows' answers, both with the reference filled."""
    made = renderer(model)
    rows = [rated_sequences(made, row) for row in eight_rated()]
    return fill(model, rows, tokens=200), fill(model, unrelated(made, eight_rated(), seed=1), tokens=200)


def source(model: Model, examples: Units, *, batch: int = 4, **more: Any) -> FixedBatches:
    return FixedBatches(examples, shuffled(len(examples), 0), batch, 150, False, model.pad_id(), "cpu", **more)


def test_the_reference_point_is_the_mean_divergence_held_above_0(adapted: Callable[..., Model]) -> None:
    model = adapted()
    _, others = rated_rows(model)
    assert divergence_point(model, flat(others), tokens=200) == pytest.approx(0, abs=1e-5)
    assert divergence_point(model, [], tokens=200) == 0
    moved = [
        [dataclasses.replace(one, streams={"reference": one.streams["reference"] - shift}) for one in unit]
        for unit, shift in zip(others, np.linspace(-0.1, 0.3, len(others)), strict=True)
    ]
    # A silent read-out is no part of an answer, nor is a sequence without weight one.
    moved[0][0].weight_N[0] = 0.0
    moved[0][0].streams["reference"][0] = -1e6
    silent = dataclasses.replace(moved[1][0], weight_N=np.zeros_like(moved[1][0].weight_N))
    sums = [float(((direct(model, one) - one.streams["reference"]) * one.weight_N).sum()) for one in flat(moved)]
    expected = sum(sums) / len(sums)
    assert expected > 0.1
    assert divergence_point(model, [*flat(moved), silent], tokens=200) == pytest.approx(expected, rel=1e-4)
    below = [dataclasses.replace(one, streams={"reference": one.streams["reference"] * 0}) for one in flat(others)]
    assert divergence_point(model, below, tokens=200) == 0.0


def test_every_step_gets_the_point_of_its_own_rows_and_of_the_model_just_before_it(adapted: Callable[..., Model]) -> None:
    """The same on all read-outs of a step, whatever the micro-batches, and without a trace in the model."""
    model = adapted()
    rows, others = rated_rows(model)
    plain = source(model, rows)
    batches = WithDivergence(plain, model, others)
    assert all(batch.streams["divergence"].abs().max() < 1e-5 for batch in batches(0))
    run(model, cut(eight_sequences(model), 128), steps=3, rate=2e-2)
    model.network.train()
    for step in (0, 1, 5):
        found, bare = batches(step), plain(step)
        points = torch.cat([batch.streams["divergence"] for batch in found])
        mine = [one for number in plain.chosen(step) for one in others[number]]
        expected = max(0.0, np.mean([(direct(model, one) - one.streams["reference"]).sum() for one in mine]))
        assert expected > 0 and points.tolist() == pytest.approx([expected] * len(points), rel=1e-4)
        assert all(
            torch.equal(one.at_N, other.at_N) and one.origins == other.origins for one, other in zip(found, bare, strict=True)
        )
        assert all(torch.equal(one.streams["rating"], other.streams["rating"]) for one, other in zip(found, bare, strict=True))
    assert all(parameter.grad is None for parameter in model.network.parameters()) and model.network.training


def test_ranks_share_the_work_and_agree_on_the_point(adapted: Callable[..., Model]) -> None:
    model = adapted()
    _, others = rated_rows(model)
    run(model, cut(eight_sequences(model), 128), steps=3, rate=2e-2)
    alone, shares = divergence_point(model, flat(others), tokens=200), []

    def told(values: Any) -> Any:  # notes what one rank has to say, and answers with what both said
        shares.append(values)
        return {name: sum(share[name] for share in shares) for name in values}

    for rank in (0, 1):
        ranks: Any = SimpleNamespace(rank=rank, size=2, sum=told)
        together = divergence_point(model, flat(others), tokens=200, ranks=ranks)
    assert [share["count"].item() for share in shares] == [4, 4]
    assert together == pytest.approx(alone, rel=1e-5)


def test_kto_learns_which_answers_are_good(adapted: Callable[..., Model]) -> None:
    """From thumbs alone, through the loop: rewards part, and the point is above 0 once the model has moved."""
    model = adapted("lora")
    rows, others = rated_rows(model)
    batches = WithDivergence(source(model, rows, batch=8), model, others)
    steps = run(model, batches, steps=15, rate=1e-2, tasks=KTO)
    assert steps[0].losses["preference"] == pytest.approx(0.5, abs=1e-4) and steps[0].metrics["kl"] == pytest.approx(0, abs=1e-9)
    assert steps[-1].losses["preference"] < 0.4
    assert steps[-1].metrics["desirable_reward"] > steps[-1].metrics["undesirable_reward"] + 0.5


def test_arrays_of_other_sequences_are_not_taken(adapted: Callable[..., Model]) -> None:
    units = pair_rows(adapted())
    values = [np.zeros(len(one.at_N), dtype=np.float32) for one in flat(units)]
    assert len(flat(with_reference(units, values))) == 16
    for wrong in ([*values, values[0]], [values[0][:-1], *values[1:]]):
        with pytest.raises(AssertionError, match="sequences"):
            with_reference(units, wrong)
