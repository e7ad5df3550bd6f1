"""Ways of running that may not change a result, compared as whole trajectories: losses step by step, and no drift to one side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.data.batching import FixedBatches, shuffled
from burnish.models import Model, adapt, load_model
from burnish.techniques import TECHNIQUES
from burnish.train import Step
from loop import eight_sequences, run
from stub import cpu, make_stub

STEPS = 12
TOLERANCE = 2e-4
"""Of a loss; rounding alone grows to about 1e-5 over these steps."""

WAYS: dict[str, dict[str, Any]] = {
    "one padded micro-batch": {"tokens": 10**9},
    "rows alone": {"tokens": 1},
    "small padded micro-batches": {"tokens": 110},
    "one packed row": {"tokens": 10**9, "packing": True},
    "small packed rows": {"tokens": 110, "packing": True},
    "the head in tiles": {"tokens": 10**9, "tile": 5 * 288},
    "the plain path": {"tokens": 10**9, "head": "whole"},
}
REFERENCE = "one padded micro-batch"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("trajectories") / "stub")


OPTIONS: dict[str, dict[str, Any]] = {"selective": {"last_layers": 1, "norms": True}}
"""Options of a technique that moves nothing unless it is told what."""
RATES = {"ia3": 3e-2, "prefix": 3e-2, "prompt": 3e-2}
"""Rates of the techniques whose few parameters take greater steps; 5e-3 for the others."""


def rate_of(technique: str) -> float:
    return RATES.get(technique, 5e-3)


def fresh(folder: Path, technique: str) -> Model:
    model = load_model(str(folder), cpu())
    torch.manual_seed(2)
    adapt(model, TECHNIQUES[technique], OPTIONS.get(technique, {}))
    return model


def batches(model: Model, *, tokens: int, packing: bool = False) -> FixedBatches:
    units = eight_sequences(model)
    return FixedBatches(units, shuffled(len(units), 1), 5, tokens, packing, 0, "cpu")


Walk = Callable[[str, str], list[Step]]


@pytest.fixture(scope="module")
def walk(folder: Path) -> Walk:
    """Return the steps of a technique run in one of the ways; each is run once."""
    import sys

    seen: dict[tuple[str, str], list[Step]] = {}

    def made(technique: str, way: str) -> list[Step]:
        if (technique, way) not in seen:
            settings = WAYS[way]
            model = fresh(folder, technique)
            model.head = settings.get("head", "separate")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys.modules["burnish.models.forward"], "TILE_ELEMENTS", settings.get("tile", 16_000_000))
                source = batches(model, tokens=settings["tokens"], packing=settings.get("packing", False))
                seen[technique, way] = run(model, source, steps=STEPS, rate=rate_of(technique))
        return seen[technique, way]

    return made


@pytest.mark.parametrize("way", [way for way in WAYS if way != REFERENCE])
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_pain_25_ways_of_running_walk_the_same_path(technique: str, way: str, walk: Walk) -> None:
    expected, found = walk(technique, REFERENCE), walk(technique, way)
    assert [step.losses["nll"] for step in found] == pytest.approx([step.losses["nll"] for step in expected], rel=TOLERANCE)
    assert [step.gradient_norm for step in found] == pytest.approx([step.gradient_norm for step in expected], rel=20 * TOLERANCE)
    assert [step.tokens for step in found] == [step.tokens for step in expected]
    residuals = [one.losses["nll"] - other.losses["nll"] for one, other in zip(found, expected, strict=True)]
    assert abs(sum(residuals)) / STEPS < TOLERANCE, "a drift to one side is a fault, not rounding"


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_the_path_goes_somewhere(technique: str, walk: Walk) -> None:
    """Two paths that both stand still would be equal, too."""
    losses = [step.losses["nll"] for step in walk(technique, REFERENCE)]
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_the_same_way_twice_is_the_same_bit_for_bit(technique: str, folder: Path, walk: Walk) -> None:
    model = fresh(folder, technique)
    again = run(model, batches(model, tokens=10**9), steps=STEPS, rate=rate_of(technique))
    assert [step.losses for step in again] == [step.losses for step in walk(technique, REFERENCE)]


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_pain_16_stopped_and_taken_up_again_is_uninterrupted(technique: str, folder: Path, tmp_path: Path, walk: Walk) -> None:
    """Weights and optimizer saved after step 5, loaded into a fresh process's model: the rest of the path bit for bit."""
    from burnish import checkpoint
    from burnish.models import restore_weights, save_model
    from burnish.optim import make_optimizer

    first = fresh(folder, technique)
    names = {name: parameter for name, parameter in first.network.named_parameters() if parameter.requires_grad}
    optimizer = make_optimizer(names)
    begun = run(first, batches(first, tokens=10**9), steps=5, rate=rate_of(technique), optimizer=optimizer)
    tensors, groups = checkpoint.optimizer_tensors(optimizer, names)
    save_model(first, tmp_path)

    second = fresh(folder, technique)
    restore_weights(second, tmp_path)
    names = {name: parameter for name, parameter in second.network.named_parameters() if parameter.requires_grad}
    taken_up = make_optimizer(names)
    checkpoint.load_optimizer(taken_up, tensors, names, groups)
    rest = run(second, batches(second, tokens=10**9), steps=STEPS, rate=rate_of(technique), optimizer=taken_up, first=5)
    assert [step.losses for step in (*begun, *rest)] == [step.losses for step in walk(technique, REFERENCE)]
