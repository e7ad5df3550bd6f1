"""The rule of `decide` where the truth is planted, its intervals, and the arithmetic of cost."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.decide.costs import break_evens
from burnish.decide.measure import summary
from burnish.decide.need import few_and_worse, overtakes
from burnish.decide.recommendation import Candidate, Cost, break_even, break_even_band, recommend
from burnish.decide.statistics import compare, detectable, detectable_between, difference, holm, mcnemar
from burnish.scores import SCORES

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "decide"
ACCURACY = SCORES["accuracy"]


@pytest.fixture(scope="module")
def simulate() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return __import__("simulate")
    finally:
        sys.path.remove(str(FOLDER))


def right(*rows: int) -> np.ndarray:
    return np.stack([np.array(rows), np.ones(len(rows))], axis=1).astype(np.float64)


def drawn(share: float, rows: int, seed: int) -> np.ndarray:
    return right(*(np.random.default_rng(seed).random(rows) < share).astype(int))


@pytest.mark.parametrize("kind", ["behaviour", "facts", "both needed", "neither needed", "misleading corpus"])
def test_the_rule_finds_what_is_planted(simulate: ModuleType, kind: str) -> None:
    """Forty tables of 300 rows; benchmarks/decide/simulate.json has a thousand."""
    accuracies, winner = simulate.PLANTED[kind]
    found = simulate.rule(accuracies, winner, tables=40, resamples=100)
    assert found["within_margin"] >= 0.92 and found["planted_winner"] >= 0.85 and found["two_margins_worse"] <= 0.05


@pytest.mark.parametrize("per_group", [1, 5])
def test_intervals_of_differences_hold_the_truth(simulate: ModuleType, per_group: int) -> None:
    assert simulate.coverage(150, per_group=per_group, tables=100) >= 0.88  # 95 % less three standard errors of 100 tables


def test_the_same_arm_twice_differs_by_nothing_and_the_cheaper_name_wins() -> None:
    values = drawn(0.6, 200, 0)
    groups = [str(row // 3) for row in range(200)]
    comparison = compare({"dear": values, "cheap": values.copy()}, groups, ACCURACY)
    assert difference({"dear": values, "cheap": values.copy()}, groups, ACCURACY, "dear", "cheap") == {
        "mean": 0.0,
        "low": 0.0,
        "high": 0.0,
    }
    found = recommend([Candidate("dear", Cost(0, 2), 1), Candidate("cheap", Cost(0, 1), 1)], comparison, queries=10)
    assert found is not None and (found.arm, found.label, found.chance) == ("cheap", "proven", 1.0)
    assert mcnemar(comparison.correct["dear"], comparison.correct["cheap"]) == (0, 0, 1.0)


def test_costs_that_hardly_differ_go_to_fewer_parts() -> None:
    values = drawn(0.6, 200, 0)
    comparison = compare({"many": values, "few": values}, [str(row) for row in range(200)], ACCURACY)
    arms = [Candidate("many", Cost(0, 1.0), 3), Candidate("few", Cost(0, 1.09), 0)]
    chosen = recommend(arms, comparison, queries=100)
    assert chosen is not None and chosen.arm == "few"
    chosen = recommend([arms[0], Candidate("few", Cost(0, 1.2), 0)], comparison, queries=100)
    assert chosen is not None and chosen.arm == "many"


def test_gates_and_diagnostics_are_never_chosen() -> None:
    tables = {"gold": right(*[1] * 150), "broken": right(*[1] * 150), "left": drawn(0.5, 150, 1)}
    comparison = compare(tables, [str(row) for row in range(150)], ACCURACY)
    gold = Candidate("gold", Cost(0, 0), 0, offered=False)
    broken = Candidate("broken", Cost(0, 0), 0, failed=("p95 latency",))
    found = recommend([gold, broken, Candidate("left", Cost(0, 9), 3)], comparison)
    assert found is not None and found.arm == found.best == "left"
    assert recommend([gold, broken], comparison) is None


def test_few_rows_are_provisional_and_say_how_many_are_needed() -> None:
    tables = {"a": drawn(0.7, 60, 2), "b": drawn(0.7, 60, 3)}
    comparison = compare(tables, [str(row) for row in range(60)], ACCURACY)
    found = recommend([Candidate("a", Cost(0, 1), 0), Candidate("b", Cost(0, 2), 1)], comparison, margin=0.3)
    assert found is not None and found.label == "provisional" and "60 held-out rows" in found.reasons[0]


def test_where_less_is_better_the_lower_value_wins() -> None:
    score = SCORES["absolute_error"]
    tables = {"far": np.array([[4.0, 1.0]] * 120), "near": np.array([[1.0, 1.0]] * 120)}
    groups = [str(row) for row in range(120)]
    comparison = compare(tables, groups, score)
    assert comparison.gain("near", "far") == 3.0
    assert difference(tables, groups, score, "near", "far")["mean"] == 3.0
    found = recommend([Candidate("far", Cost(0, 1), 0), Candidate("near", Cost(0, 9), 1)], comparison, margin=0.5)
    assert found is not None and found.arm == "near"


@given(st.floats(0, 1e6), st.floats(1e-6, 1e3), st.floats(0, 1e6), st.floats(1e-6, 1e3), st.integers(0, 50))
def test_beyond_the_break_even_the_first_arm_is_cheaper(
    fixed: float, per_query: float, other_fixed: float, other_query: float, updates: int
) -> None:
    one, other = Cost(fixed, per_query, 3.0), Cost(other_fixed, other_query, 1.0)
    point = break_even(one, other, updates=updates)
    if per_query >= other_query:
        assert point is None or fixed < other_fixed
    elif point is not None:
        assert one.total(point * 1.01 + 1, updates) < other.total(point * 1.01 + 1, updates)
        if point > 1:
            assert one.total(point * 0.99, updates) >= other.total(point * 0.99, updates) * (1 - 1e-9)


def test_a_band_of_break_even_holds_its_middle_or_says_never() -> None:
    tuned, retrieval = Cost(1000, 0.1), Cost(10, 0.3)
    low, middle, high = break_even_band(tuned, retrieval, ((0.09, 0.12), (0.25, 0.32)))
    assert low is not None and middle is not None and high is not None and low < middle < high
    assert break_even_band(tuned, retrieval, ((0.09, 0.26), (0.25, 0.32)))[2] is None
    assert break_even(Cost(1000, 0.3), Cost(10, 0.3)) is None


def test_what_would_change_the_choice_does_change_it() -> None:
    tables = {"prompt": drawn(0.80, 400, 5), "tuned": drawn(0.80, 400, 5), "weak": drawn(0.5, 400, 6)}
    comparison = compare(tables, [str(row) for row in range(400)], ACCURACY)
    arms = [Candidate("prompt", Cost(0, 2.0, 0), 1), Candidate("tuned", Cost(1000, 1.0, 50), 2), Candidate("weak", Cost(0, 0.1), 0)]
    found = recommend(arms, comparison, queries=500, updates=2)
    assert found is not None and found.arm == "prompt"
    more = next(flip for flip in found.flips if flip.quantity == "queries" and flip.value > 500)
    assert more.arm == "tuned"
    for value, arm in ((more.value * 0.99, "prompt"), (more.value * 1.01, "tuned")):
        again = recommend(arms, comparison, queries=value, updates=2)
        assert again is not None and again.arm == arm
    wide = next(flip for flip in found.flips if flip.quantity == "margin")
    assert wide.arm == "weak" and wide.value == pytest.approx(found.behind["weak"], abs=1e-6)


def test_detectable_differences_are_those_of_the_formula() -> None:
    expected = {(100, 0.1): 8.8, (200, 0.2): 8.8, (300, 0.3): 8.8, (500, 0.2): 5.6, (1000, 0.1): 2.8, (2000, 0.3): 3.4}
    for (rows, discordant), points in expected.items():
        assert 100 * detectable(rows, discordant) == pytest.approx(points, abs=0.06)
    tables = {"a": drawn(0.7, 500, 7), "b": drawn(0.7, 500, 8)}
    comparison = compare(tables, [str(row) for row in range(500)], ACCURACY)
    share = float((comparison.correct["a"] != comparison.correct["b"]).mean())
    assert detectable_between(comparison, "a", "b") == pytest.approx(detectable(500, share), rel=0.1)


def test_holm_is_never_below_the_plain_probability() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {"a": pytest.approx(0.03), "b": pytest.approx(0.06), "c": pytest.approx(0.06)}


def test_tuning_overtakes_where_its_line_crosses() -> None:
    def size(rows: int, few: float, tuned: float) -> dict[str, Any]:
        return {"rows": rows, "few_shot_nearest": {"mean": few}, "tuned": {"mean": tuned}}

    table = [size(100, 0.5, 0.3), size(200, 0.5, 0.4), size(400, 0.5, 0.6), size(800, 0.5, 0.7)]
    assert overtakes(table, "few_shot_nearest", higher=True, margin=0.03) == pytest.approx(200 * 2**0.5, abs=1)
    assert overtakes(table[2:], "few_shot_nearest", higher=True, margin=0.03) == 400
    assert overtakes(table[:2], "few_shot_nearest", higher=True, margin=0.03) is None
    assert overtakes([size(100, 0.5, 0.51)], "few_shot_nearest", higher=True, margin=0.03) is None
    assert overtakes([size(100, 0.5, 0.3)], "few_shot_nearest", higher=False, margin=0.03) == 100


def test_kinds_with_few_rows_that_are_answered_worse_are_named_the_rarest_first() -> None:
    learned = {"common": 50, "rare and bad": 3, "rare and good": 4}
    right = {
        "common": [True] * 6 + [False] * 4,
        "rare and bad": [False] * 3 + [True],
        "rare and good": [True] * 3,
        "never seen": [False],
    }
    found = few_and_worse(learned, right)
    assert [(row["label"], row["rows"], row["right"], row["n"]) for row in found] == [
        ("never seen", 0, 0, 1),
        ("rare and bad", 3, 1, 4),
    ]


def test_the_interval_of_a_few_times_holds_the_true_mean() -> None:
    """Five times each: with the normal quantile and the plain deviation it would hold it in about 84 % of the cases."""
    draw = np.random.default_rng(0)
    found = [summary((draw.standard_normal(5) * 20 + 100).tolist()) for _ in range(2000)]
    assert 0.93 <= np.mean([one["low"] <= 100 <= one["high"] for one in found]) <= 0.97
    alone = summary([50.0])
    assert (alone["low"], alone["high"]) == (0.0, 100.0), "one time alone says next to nothing"


def test_break_evens_say_which_arm_wins_in_the_long_run() -> None:
    spent = {
        "tuned": {"cost": Cost(1000, 0.1, 20), "band": (0.09, 0.11)},
        "retrieval": {"cost": Cost(10, 0.3, 1), "band": (0.28, 0.32)},
    }
    for chosen, other in (("tuned", "retrieval"), ("retrieval", "tuned")):
        none, some, more = break_evens(spent, chosen, updates=12)[other]
        assert {row["cheaper"] for row in (none, some, more)} == {"tuned"}
        assert none["middle"] == pytest.approx(990 / 0.2) and some["middle"] == pytest.approx((990 + 12 * 19) / 0.2)
        assert none["least"] < none["middle"] < none["most"] < more["most"]
