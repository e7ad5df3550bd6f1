"""The rule for learning rates: what was published and measured at the ends, how it falls in between, and what a run says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from burnish import api
from burnish.learning_rate import REFERENCE_WIDTH, lowest, rate, rounded
from burnish.listing import techniques
from burnish.objectives import OBJECTIVES
from burnish.prepare import prepare
from burnish.techniques import TECHNIQUES
from cli_runs import cli, write_rows, write_run
from stub import make_stub

SFT = OBJECTIVES["sft"]
WIDTHS = (320, 512, 768, 1024, 2048, 4096, 8192)


@pytest.mark.parametrize(
    ("technique", "width", "objective", "low", "high"),
    [
        ("full", 320, "sft", 5e-4, 1e-3),  # the bundled model, as measured
        ("full", 4096, "sft", 1e-5, 3e-5),  # Touvron et al. 2023: 2e-5
        ("lora", 4096, "sft", 1e-4, 3e-4),  # Dettmers et al. 2023: 2e-4 for 7 and 13 billion parameters
        ("qlora", 8192, "sft", 5e-5, 2e-4),  # the same: 1e-4 for 33 and 65 billion
        ("full", 768, "classification", 2e-5, 1e-4),  # Devlin et al. 2018: 2e-5 to 5e-5; up to twice that, see HEAD_RATE_FACTOR
        ("lora", 768, "classification", 3e-4, 1e-3),  # Hu et al. 2021: 4e-4 and 5e-4; the same
        ("full", 4096, "dpo", 5e-7, 2e-6),  # Rafailov et al. 2023: 1e-6
        ("full", 4096, "grpo", 5e-7, 2e-6),  # Shao et al. 2024: 1e-6
    ],
)
def test_it_agrees_with_what_was_published(technique: str, width: int, objective: str, low: float, high: float) -> None:
    assert low <= rate(TECHNIQUES[technique], width, OBJECTIVES[objective]) <= high


@pytest.mark.parametrize("name", TECHNIQUES)
def test_it_falls_with_the_width_and_never_rises_above_what_was_measured(name: str) -> None:
    technique = TECHNIQUES[name]
    rates = [rate(technique, width, SFT) for width in WIDTHS]
    assert all(wider < narrower for narrower, wider in pairwise(rates))
    assert rate(technique, REFERENCE_WIDTH, SFT) == rate(technique, 64, SFT) == technique.learning_rate


@pytest.mark.parametrize("width", WIDTHS)
def test_lora_is_well_above_full_and_prompts_are_above_lora(width: int) -> None:
    """Four times on the bundled model, about ten times at the width of real ones."""
    full, lora, prompt = (rate(TECHNIQUES[name], width, SFT) for name in ("full", "lora", "prompt"))
    assert 4 <= lora / full <= 14 and (width < 2048 or lora / full >= 7)
    assert prompt > lora
    assert {rate(TECHNIQUES[name], width, SFT) for name in ("dora", "qlora")} == {lora}


def test_what_is_not_imitation_bears_less() -> None:
    imitating = {"sft", "mlm", "distill"}
    assert {name for name, objective in OBJECTIVES.items() if objective.rate_factor == 1.0} == imitating
    assert all(0.01 <= objective.rate_factor <= 1.0 for objective in OBJECTIVES.values())
    # Every objective that compares with a reference by its declaration, or learns from its own attempts, is among the smallest.
    smallest = [one for one in OBJECTIVES.values() if one.preference == "ratio" or one.renders == "rollouts"]
    assert len(smallest) == 8 and {one.rate_factor for one in smallest} == {0.05}


def test_several_tasks_take_the_rate_of_the_one_that_bears_least() -> None:
    full = TECHNIQUES["full"]
    assert lowest(full, 320, [SFT, OBJECTIVES["dpo"]]) == rate(full, 320, OBJECTIVES["dpo"]) < rate(full, 320, SFT)


def test_two_digits_are_all_that_is_claimed() -> None:
    assert [rounded(value) for value in (0.000123456, 5e-4, 0.0299)] == [0.00012, 5e-4, 0.03]


# ------------------------------------------------------------------------------------------------------------------------- in a run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rates")
    make_stub(folder / "stub")
    write_rows(folder / "rows.jsonl")
    (folder / "mine.py").write_text(
        "from dataclasses import replace\n"
        "from burnish.objectives import OBJECTIVES\n"
        "from burnish.techniques import TECHNIQUES\n"
        'TECHNIQUE = replace(TECHNIQUES["full"], learning_rate=7e-4)\n'
        'OBJECTIVE = replace(OBJECTIVES["sft"], rate_factor=0.5)\n'
    )
    return folder


def filled(place: Path, **changes: Any) -> tuple[float | None, str]:
    """Return the learning rate of a prepared run and where it comes from."""
    plan = prepare(api.resolve(write_run(place, "./stub", **changes)))
    return plan.resolved.config.train.learning_rate, plan.resolved.origins["train.learning_rate"]


def test_a_run_without_a_rate_gets_it_from_the_rule_and_says_so(place: Path) -> None:
    assert filled(place) == (2e-3, "the technique lora, width 64, objective sft")
    assert filled(place, technique__name="full") == (5e-4, "the technique full, width 64, objective sft")
    assert filled(place, train__learning_rate=0.02)[0] == 0.02


def test_a_wider_model_gets_less(place: Path) -> None:
    config = place / "stub" / "config.json"
    before = config.read_text()
    values = json.loads(before) | {"hidden_size": 1024, "head_dim": 16}
    try:
        config.write_text(json.dumps(values))
        assert filled(place) == (rate(TECHNIQUES["lora"], 1024, SFT), "the technique lora, width 1024, objective sft")
    finally:
        config.write_text(before)


def test_techniques_and_objectives_of_ones_own_take_part(place: Path) -> None:
    given = filled(place, technique__name="mine:TECHNIQUE", objective__name="mine:OBJECTIVE")
    assert given == (3.5e-4, "the technique mine:TECHNIQUE, width 64, objective mine:OBJECTIVE")


def test_ls_shows_the_rate_of_the_bundled_model_and_says_so() -> None:
    shown = {row["name"]: row["learning_rate_of_tiny"] for row in techniques()}
    assert shown["lora"] == rate(TECHNIQUES["lora"], 320, SFT)
    listed = cli("ls", "techniques", "--json")
    assert {row["name"]: row["learning_rate_of_tiny"] for row in listed.json} == shown


def test_a_technique_without_a_power_is_one_of_matrices() -> None:
    plain = replace(TECHNIQUES["full"], learning_rate=1e-2)
    assert plain.width_power == 1.25
    assert rate(plain, 640, SFT) == rounded(1e-2 / 2**1.25)
