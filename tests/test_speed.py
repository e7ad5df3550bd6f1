"""The speed benchmark: its formulae, what it makes of the lines of a driver, what it refuses, and the page that is written from it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent
SPEED = ROOT / "benchmarks" / "speed"
NAMES = sorted(
    path.stem for path in SPEED.glob("*.py") if not path.stem.startswith("drive_") and path.stem not in ("told", "reward")
)


@pytest.fixture(scope="module")
def speed() -> Iterator[dict[str, Any]]:
    """The modules of benchmarks/speed, which is no package; they leave sys.modules again, since their names are plain words."""
    before = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    sys.path.insert(0, str(SPEED))
    try:
        loaded: dict[str, ModuleType] = {name: __import__(name) for name in NAMES}
        yield loaded
    finally:
        sys.path.remove(str(SPEED))
        for name in NAMES:
            sys.modules.pop(name, None)
        sys.modules.update(before)


# ----------------------------------------------------------------------------------------------------------------------- formulae


def small(speed: dict[str, Any]) -> tuple[Any, Any]:
    """A shape, and the network of transformers that has it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = speed["work"].Shape(layers=2, hidden=32, heads=4, key_heads=2, head_size=16, feed_forward=48, vocabulary=96, rank=4)
    config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=48,
        vocab_size=96,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    return shape, LlamaForCausalLM(config)


def test_parameters_are_those_of_the_network_and_its_adapters(speed: dict[str, Any]) -> None:
    from peft import LoraConfig, get_peft_model

    shape, network = small(speed)
    found = speed["formulae"].parameters(shape)
    linears = [module for name, module in network.named_modules() if isinstance(module, torch.nn.Linear) and name != "lm_head"]
    assert found.body == sum(module.weight.numel() for module in linears)
    assert found.head == network.lm_head.weight.numel()
    adapted = get_peft_model(network, LoraConfig(r=4, target_modules="all-linear"))
    assert found.adapters == sum(item.numel() for name, item in adapted.named_parameters() if "lora_" in name)


def test_flops_of_full_tuning_are_those_that_torch_counts(speed: dict[str, Any]) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    shape, network = small(speed)
    length = 24
    ids = torch.randint(0, 96, (1, length))
    with FlopCounterMode(display=False) as counter:
        network(input_ids=ids, use_cache=False).logits.sum().backward()
    # Plain attention computes the half above the diagonal too.
    unseen = 6.0 * shape.layers * shape.heads * shape.head_size * length**2
    assert counter.get_total_flops() == speed["formulae"].flops(shape, [length], length, technique="full") + unseen


def test_the_shape_of_the_benchmark_costs_what_the_issue_says(speed: dict[str, Any]) -> None:
    shape = speed["work"].Shape()
    cost = speed["formulae"].flops(shape, [280] * 10, 10 * 112) / 2800
    assert cost == pytest.approx(0.54e9, rel=0.03)
    full = speed["formulae"].flops(shape, [280] * 10, 10 * 112, technique="full") / 2800
    assert 0.6 < cost / full < 0.8


def test_isolated_sequences_cost_less_than_one_long_one(speed: dict[str, Any]) -> None:
    shape = speed["work"].Shape()
    assert speed["formulae"].flops(shape, [512] * 4, 100) < speed["formulae"].flops(shape, [2048], 100)


def test_padding_and_spread_and_targets(speed: dict[str, Any]) -> None:
    formulae = speed["formulae"]
    assert formulae.padding_share(75, 100) == 0.25
    found = formulae.spread([3.0, 1.0, 2.0])
    assert (found.median, found.least, found.greatest, found.repeats) == (2.0, 1.0, 3.0, 3)
    assert formulae.Target(4.0).holds(4.0) and not formulae.Target(4.0).holds(3.99)
    assert formulae.Target(0.5, "most").holds(0.5) and not formulae.Target(0.5, "most").holds(0.51)


def test_the_gradient_of_the_second_step_follows_from_the_moments(speed: dict[str, Any]) -> None:
    parameter = torch.nn.Parameter(torch.randn(5))
    optimizer = torch.optim.AdamW([parameter], lr=1e-3)
    moments, gradient = [], torch.zeros(5)
    for _ in range(2):
        gradient = torch.randn(5)
        parameter.grad = gradient.clone()
        optimizer.step()
        moments.append(optimizer.state[parameter]["exp_avg"].clone())
    torch.testing.assert_close(speed["gate_files"].gradient_after(*moments), gradient)


# ------------------------------------------------------------------------------------------------------------ from lines to figures


def a_run(
    speed: dict[str, Any], arm: str, seconds: float, *, problem: str | None = None, rows: str = "unknown", **more: Any
) -> Any:
    """A run of four steps of 100 tokens, the first of which warms up and takes ten times as long."""
    ends = [5.0 + 10 * seconds + seconds * number for number in range(4)]
    steps = [
        {"event": "step", "at": at, "tokens": 100, "labels": 40, "positions": 125, "rows": 8, "loss": 2.0 - 0.1 * number, **more}
        for number, at in enumerate(ends)
    ]
    events = [{"event": "train", "at": 5.0}, *steps, {"event": "end", "at": ends[-1]}]
    events = [{"processor": 1.0, "peak_bytes": 2e9, **line} for line in events]
    return speed["protocol"].Run(arm, 0, {"rows": rows, "batch": 8}, events, 60.0, 1e12, 0.0, 0.0, problem)


def a_row(speed: dict[str, Any], **more: Any) -> Any:
    rows = speed["rows"]
    arms = tuple(rows.Arm(name, "burnish", "", {}, steps=4, warmup=1) for name in ("burnish", "other"))
    figure = rows.Figure("tokens_per_second over other", "tokens_per_second", "burnish", "other", speed["formulae"].Target(4.0))
    return rows.Row("a row", arms, (figure,), **more)


def test_rates_leave_out_the_steps_that_warm_up(speed: dict[str, Any]) -> None:
    found = speed["measures"].measures(a_run(speed, "burnish", 2.0), a_row(speed).arms[0])
    assert found["tokens_per_second"] == pytest.approx(50.0)
    assert found["label_tokens_per_second"] == pytest.approx(20.0)
    assert found["examples_per_second"] == pytest.approx(4.0)
    assert found["padding_share"] == pytest.approx(0.2)
    assert found["peak_gb"] == pytest.approx(2.0)
    assert (found["ready"], found["first_step"], found["seconds_total"]) == (5.0, 25.0, 60.0)


def test_a_side_that_makes_one_step_has_no_rates(speed: dict[str, Any]) -> None:
    run = a_run(speed, "burnish", 2.0)
    run.events[2:] = run.events[-1:]
    found = speed["measures"].measures(run, a_row(speed).arms[0])
    assert (found["ready"], found["first_step"]) == (5.0, 25.0) and "steps_per_second" not in found


def test_pairs_bear_the_pass_that_reads_the_reference(speed: dict[str, Any]) -> None:
    run = a_run(speed, "burnish", 2.0, rows="pairs_of_a_test")
    run.events.append({"event": "reference", "seconds": 8.0, "sequences": 32, "processor": 1.0, "peak_bytes": 2e9})
    found = speed["measures"].measures(run, a_row(speed).arms[0])
    assert found["pairs_per_second"] == pytest.approx(1 / (8.0 / 16 + 2.0 / 8))


@pytest.mark.parametrize(("seconds", "word"), [(8.0, "holds"), (7.9, "falls short")])
def test_a_row_says_whether_it_holds(speed: dict[str, Any], seconds: float, word: str) -> None:
    row = a_row(speed)
    runs = [a_run(speed, "burnish", 2.0), a_run(speed, "other", seconds)]
    figures = [speed["measures"].judged(figure, speed["measures"].summary(row, runs)) for figure in row.figures]
    assert figures[0]["value"] == pytest.approx(seconds / 2)
    assert figures[0]["verdict"] == word == speed["measures"].verdict(figures)


def test_a_side_that_does_not_run_leaves_no_figure(speed: dict[str, Any]) -> None:
    row = a_row(speed)
    runs = [a_run(speed, "burnish", 2.0), a_run(speed, "other", 9.0, problem="exit status 1")]
    sides = speed["measures"].summary(row, runs)
    assert sides["other"] == {"problem": "exit status 1"}
    assert speed["measures"].judged(row.figures[0], sides)["verdict"] == "not measured"


GOOD = {
    "arm": "burnish",
    "problem": None,
    "cosine": 0.9999,
    "norm": 1.0,
    "moved": 0.1,
    "told": [2.0, 1.9],
    "losses": [2.001, 1.899],
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"cosine": 0.998}, "cosine"),
        ({"norm": 0.0}, "zero"),
        ({"moved": 0.0}, "zero"),
        ({"told": [2.1, 1.9]}, "loss of step 1"),
        ({"problem": "exit status 1"}, "exit status"),
    ],
)
def test_a_side_that_does_other_work_is_refused(speed: dict[str, Any], change: dict[str, Any], told: str | None) -> None:
    found = speed["measures"].refusals(a_row(speed, gate="gradients"), [GOOD | change], [])
    assert [told in reason for reason in found] == ([] if told is None else [True])


def test_first_losses_that_differ_are_refused(speed: dict[str, Any]) -> None:
    row, refusals = a_row(speed, gate="losses"), speed["measures"].refusals
    runs = [a_run(speed, "burnish", 2.0), a_run(speed, "other", 9.0)]
    assert refusals(row, [], runs) == []
    runs[1].events[1]["loss"] = 2.1
    assert "first losses differ" in refusals(row, [], runs)[0]


def test_a_row_whose_gradients_are_zero_is_refused(speed: dict[str, Any]) -> None:
    row, refusals = a_row(speed, gate="moves"), speed["measures"].refusals
    runs = [a_run(speed, "burnish", 2.0, gradient_norm=1.0), a_run(speed, "other", 9.0, grad_norm=0.0)]
    assert refusals(row, [], runs) == ["other: every gradient is zero"]


# ------------------------------------------------------------------------------------------------------------ rows, page, results


def test_figures_name_sides_that_are_there(speed: dict[str, Any]) -> None:
    for name, row in speed["rows"].ROWS.items():
        arms = {arm.name for arm in row.arms}
        assert len(arms) == len(row.arms), name
        for figure in row.figures if not row.needs else ():
            assert {figure.arm, figure.over or figure.arm} <= arms, (name, figure.name)
        for arm in row.arms:
            assert ((SPEED / arm.driver).is_file() and arm.warmup < arm.steps) or name == "start", (name, arm.name)


def test_pieces_of_this_version_are_where_they_are_taken_away(speed: dict[str, Any]) -> None:
    from importlib import import_module

    levers = speed["levers"]
    assert levers.LEVERS
    for name in levers.LEVERS:
        for place in levers.PIECES[name].places:
            module, attribute = place.split(":")
            assert hasattr(import_module(module), attribute), place


def test_a_piece_that_this_version_does_not_have_is_no_line(speed: dict[str, Any]) -> None:
    levers = speed["levers"]
    assert not levers.Lever(("burnish.models.forward:no_such_name",), levers._nothing).there()
    assert not levers.Lever(("burnish.no_such_module:forward",), levers._nothing).there()


def test_reasons_are_of_rows_that_are_there(speed: dict[str, Any]) -> None:
    reasons = speed["reasons"]
    assert set(reasons.REASONS) | set(reasons.NOTES) <= set(speed["rows"].ROWS)


def test_the_page_and_its_picture_are_those_of_the_results(speed: dict[str, Any]) -> None:
    for path, content in speed["page"].files():
        assert path.read_text(encoding="utf-8") == content, f"{path.name} is not up to date: python benchmarks/speed/page.py"


def test_results_are_of_the_work_as_it_is_and_say_on_what_they_were_measured(speed: dict[str, Any]) -> None:
    for path in sorted(speed["page"].RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        assert result["row"] == path.stem and result["verdict"] in ("holds", "falls short", "not measured", "measured", "refused")
        if not result.get("lacks"):
            assert result["work"]["version"] == speed["work"].VERSION and not result["work"]["smoke"], path.name
            assert result["machine"]["model"] and result["versions"]["burnish"] and result["date"], path.name


def test_a_page_of_any_results_can_be_written(speed: dict[str, Any]) -> None:
    row, measures = a_row(speed), speed["measures"]
    runs = [a_run(speed, "burnish", 2.0), a_run(speed, "other", 8.0), a_run(speed, "other", 9.0)]
    sides = measures.summary(row, runs)
    result = {
        "row": "sft",
        "title": "a row",
        "date": "2026-01-01",
        "commit": "abc",
        "repeats": 2,
        "machine": {
            "model": "a processor",
            "cores": 2,
            "features": ["avx2"],
            "memory_gb": 8,
            "system": "Linux",
            "load_of_others": 0.5,
        },
        "versions": {"burnish": {"python": "3.11"}},
        "gate": {"kind": "gradients", "sides": [GOOD], "refused": []},
        "sides": sides,
        "tried": {"other": [{"choice": {"bf16": False}, "speed": 1.0, "problem": None}]},
        "figures": [measures.judged(figure, sides) for figure in row.figures],
        "verdict": "holds",
    }
    written = speed["page"].text({"sft": result})
    assert "4.24 ×" in written and "**holds**" in written and "11.8 [11.1, 12.5]" in written and "**noisy**" in written
    drawn = speed["plot"].draw(speed["plot"].bars({"sft": result}))
    assert drawn.count("<rect") == 2 and "50 tokens/s" in drawn
