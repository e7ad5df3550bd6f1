"""Every objective with every technique: it learns, its loss on eight rows falling by half, or it is refused and says why.

Both registries are read, so a new entry is covered at once: an objective by its rows in `test_every_objective`, a technique by the rate
here, or by its own. What does not go together follows from what both declare, and is refused before a model is loaded.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import api
from burnish.data.batching import collate, cut_padded
from burnish.data.render_heads import MASKED
from burnish.errors import BurnishError, ConfigError
from burnish.merge import merge
from burnish.models import Model, adapt, forward, load_model, save_model
from burnish.objectives import OBJECTIVES
from burnish.optim import Schedule, make_optimizer
from burnish.reference import fill, log_probabilities
from burnish.techniques import TECHNIQUES
from burnish.techniques.low_rank import linear_names
from burnish.train import TaskLoss, train
from burnish.types import Batch, Sequence
from cli_runs import write_labelled, write_rows
from loop import cut, eight_sequences, moving, run
from preference_cases import eight_pairs, pair_sequences, renderer
from stub import cpu, make_stub
from test_encoders import make_encoder
from test_every_objective import CASES, Case
from test_every_objective_runs import MADE, run_of

Units = list[list[Sequence]]


@dataclasses.dataclass(frozen=True)
class Learning:
    """With which rate, options and optimizer a technique learns eight rows soon, and in how many steps at most."""

    rate: float
    options: Callable[[Any], dict[str, Any]] = lambda network: {}
    optimizer: Any = "adamw"
    steps: int = 120


LEARNING: dict[str, Learning] = {
    "full": Learning(5e-3),
    "lora": Learning(2e-2),
    "dora": Learning(2e-2),
    "pissa": Learning(1e-2),
    "qlora": Learning(1e-2),
    "ia3": Learning(2e-1, lambda network: {"targets": linear_names(network), "inner": []}),
    "prompt": Learning(5e-2, lambda network: {"positions": 50}),
    "prefix": Learning(1e-1),
    "ptuning": Learning(2e-2, lambda network: {"positions": 50}, optimizer="muon"),
    "selective": Learning(2e-2, lambda network: {"last_layers": 2, "head": True}),
}
"""The stub is random: what moves must bring all it says, which few numbers far from the answer do slowly."""


def learning(technique: str) -> Learning:
    """Return how a technique learns; one that is new here at ten times its own rate, and with its defaults."""
    return LEARNING.get(technique, Learning(10 * TECHNIQUES[technique].learning_rate))


def refused(objective: str, technique: str) -> bool:
    """Return whether the two cannot go together: what stands before a text that is written, and a model that reads instead."""
    return TECHNIQUES[technique].virtual_positions is not None and OBJECTIVES[objective].head is not None


@dataclasses.dataclass(frozen=True)
class Ready:
    """An objective's rows on the model as loaded."""

    case: Case
    model: Model
    units: Units


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ready]:
    """Return a function that makes each model and each objective's rows once."""
    models: dict[Any, Model] = {}
    cases: dict[str, Ready] = {}

    def made(objective: str) -> Ready:
        if objective not in cases:
            case = CASES[objective]
            make = wider_encoder if OBJECTIVES[objective].head == "masked" else case.model
            if make not in models:
                models[make] = make(tmp_path_factory.mktemp("matrix"))
            cases[objective] = Ready(case, models[make], case.units(models[make]))
        return cases[objective]

    return made


def wider_encoder(folder: Path) -> Model:
    """Return an encoder in which also a few factors are numbers enough to learn eight rows: half as wide, (IA)3 ends above half."""
    return load_model(str(make_encoder(folder / "bert", width=64)), cpu(), head=MASKED)


def adapted(model: Model, technique: str) -> Model:
    """Return a copy of a model with the technique applied, and then its value head, as a run does it."""
    mine = dataclasses.replace(model, network=copy.deepcopy(model.network), notes=[])
    head = mine.network._modules.pop("value_head", None)
    torch.manual_seed(0)
    adapt(mine, TECHNIQUES[technique], learning(technique).options(mine.network))
    if head is not None:
        mine.network.value_head = head.requires_grad_(True)
    return mine


def sampled_by(model: Model, base: Model, units: Units) -> Units:
    """Return attempts as if this model had made them: clips hold back what is too far from the policy that sampled."""
    parts = [part for unit in units for part in unit]
    if "sampled" not in parts[0].streams:
        return units
    now, before = (log_probabilities(one, parts, tokens=10**6) for one in (model, base))
    streams = iter(
        {**part.streams, **{name: part.streams[name] + (mine - theirs) for name in ("sampled", "reference")}}
        for part, mine, theirs in zip(parts, now, before, strict=True)
    )
    return [[dataclasses.replace(part, streams=next(streams)) for part in unit] for unit in units]


@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_falls_by_half_or_the_reason_is_said(objective: str, technique: str, ready: Callable[[str], Ready]) -> None:
    """Half of the way to the lowest that it could become: 0, but for policies, whose advantages have both signs."""
    found = ready(objective)
    if refused(objective, technique):
        with pytest.raises(ConfigError, match=r"technique.name: prompt methods .* for models that write text"):
            adapted(found.model, technique)
        return
    model = adapted(found.model, technique)
    units = sampled_by(model, found.model, found.units)
    batches = [
        collate(part, packing=False, pad_id=model.pad_id(), device="cpu", mask=model.encoder) for part in cut_padded(units, 10**9)
    ]
    least = found.case.least([part for unit in units for part in unit])
    steps = train(
        model,
        lambda step: batches,
        tasks={"main": TaskLoss(OBJECTIVES[objective], found.case.options)},
        optimizer=make_optimizer(moving(model), name=learning(technique).optimizer),
        schedule=Schedule(learning(technique).rate, learning(technique).steps, kind="constant"),
        clip=1.0,
    )
    first, lowest, made = math.nan, math.inf, 0
    for step in steps:
        loss = sum(step.losses.values()) - least
        first, lowest, made = (loss if step.number == 0 else first), min(lowest, loss), made + 1
        if lowest < 0.5 * first:
            break
    assert -1e-5 < lowest < 0.5 * first, f"to {lowest / first:.2f} of {first:.3f} in {made} steps"


def said(model: Model, batches: list[Batch], needs: tuple[str, ...]) -> torch.Tensor:
    """Return what a model says at the read-outs."""
    model.network.eval()
    with torch.no_grad():
        outputs = [forward(model, batch, needs) for batch in batches]
    return torch.cat([part for one in outputs for part in (one.scores_NC, one.logprobs_N) if part is not None])


@pytest.mark.parametrize(
    "technique", [name for name, one in TECHNIQUES.items() if one.saves == "adapter" and not one.virtual_positions]
)
@pytest.mark.parametrize("objective", [name for name, one in OBJECTIVES.items() if one.head is not None])
def test_a_head_that_was_tuned_with_an_adapter_is_saved_with_it(
    objective: str, technique: str, ready: Callable[[str], Ready], tmp_path: Path
) -> None:
    """The folder, opened again, says at every read-out what the tuned model said (pains 10 and 21)."""
    found = ready(objective)
    model = adapted(found.model, technique)
    batches = [
        collate(part, packing=False, pad_id=model.pad_id(), device="cpu", mask=model.encoder)
        for part in cut_padded(found.units, 256)
    ]
    before = said(model, batches, OBJECTIVES[objective].needs)
    tasks = {"main": TaskLoss(OBJECTIVES[objective], found.case.options)}
    run(model, batches, steps=2, rate=learning(technique).rate, tasks=tasks)
    after = said(model, batches, OBJECTIVES[objective].needs)
    assert not torch.allclose(after, before, atol=1e-3)
    save_model(model, tmp_path)
    again = load_model(str(tmp_path), cpu(), head=model.spec)
    torch.testing.assert_close(said(again, batches, OBJECTIVES[objective].needs), after, atol=2e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refused")
    make_stub(folder / "stub")
    make_encoder(folder / "encoder")
    write_rows(folder / "dialogs.jsonl")
    write_labelled(folder / "labelled.jsonl")
    for kind, row in MADE.items():
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row(number)) + "\n" for number in range(24)))
    return folder


@pytest.mark.parametrize("technique", [name for name in TECHNIQUES if any(refused(one, name) for one in OBJECTIVES)])
def test_what_cannot_go_together_is_refused_before_a_model_is_loaded(
    technique: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are named, and what to choose instead; no folder is left."""
    monkeypatch.setattr(
        importlib.import_module("burnish.prepare_model"), "load_model", lambda *_, **__: pytest.fail("weights were read first")
    )
    for objective in OBJECTIVES:
        if refused(objective, technique):
            with pytest.raises(
                ConfigError, match=rf"technique '{technique}' .* objective '{objective}' .* technique.name = \"lora\""
            ):
                api.tune(run_of(place, objective, tmp_path / "out", technique=technique))
    assert not (tmp_path / "out").exists()


def test_a_technique_that_leaves_a_new_head_random_is_refused_by_name(place: Path, tmp_path: Path) -> None:
    """Nothing of the run is left, so that the corrected one can use its folder."""
    run = run_of(place, "classification", tmp_path / "out", technique={"name": "selective", "last_layers": 1})
    with pytest.raises(BurnishError, match=r"technique: this one does not train the head \(score\)"):
        api.tune(run)
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------------- where a run begins that goes on from another


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The stub fine-tuned on answers: as an adapter, merged into an ordinary folder, and with all of it moved."""
    folder = tmp_path_factory.mktemp("tuned")
    source = make_stub(folder / "stub")
    for name, technique in (("adapter", "lora"), ("full", "full")):
        model = load_model(str(source), cpu())
        torch.manual_seed(0)
        adapt(model, TECHNIQUES[technique], {})
        run(model, cut(eight_sequences(model), 512), steps=5, rate=1e-2)
        save_model(model, folder / name)
    merge(str(folder / "adapter"), folder / "merged")
    return {"stub": source, **{name: folder / name for name in ("adapter", "merged", "full")}}


@pytest.mark.parametrize("begun", ["adapter", "merged", "full"])
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_dpo_begins_at_log_2_in_a_run_that_goes_on_from_another(technique: str, begun: str, tuned: dict[str, Path]) -> None:
    """The first loss is log 2 and the divergence 0 from the tuned model; what cannot stand on an adapter is refused with the way out."""
    model = load_model(str(tuned[begun]), cpu())
    options = learning(technique).options(model.plain())
    chosen = TECHNIQUES[technique]
    if begun == "adapter" and chosen.saves == "adapter" and not chosen.stacks:
        with pytest.raises(BurnishError, match=r"is itself an adapter .* Use technique.name = \"lora\" or \"full\""):
            adapt(model, chosen, options)
        return
    torch.manual_seed(0)
    adapt(model, chosen, options)
    rows = [pair_sequences(renderer(model), pair, group=number + 1) for number, pair in enumerate(eight_pairs())]
    units = fill(model, rows, tokens=10**6)
    untuned = load_model(str(tuned["stub"]), cpu())
    parts = [part for unit in units for part in unit]
    away = [
        abs(part.streams["reference"] - base).mean()
        for part, base in zip(parts, log_probabilities(untuned, parts, tokens=10**6), strict=True)
    ]
    assert max(away) > 0.1, "the reference is the tuned model and not the base that it once was"
    model.network.train()
    step = run(model, cut(units, 10**6), tasks={"main": TaskLoss(OBJECTIVES["dpo"])})[0]
    assert step.losses["preference"] == pytest.approx(math.log(2), abs=1e-5)
    assert step.metrics["kl"] == pytest.approx(0, abs=1e-9) and step.metrics["margin"] == pytest.approx(0, abs=1e-4)
