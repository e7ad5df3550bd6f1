"""Intervals say what they claim: they cover the truth as often as their level, and nothing but their arguments decides them."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.errors import ConfigError
from burnish.scores import SCORES, groups_of, intervals
from burnish.scores.parts import mean
from burnish.types import Expected, Origin, Score, Task

MEAN = Score(statistics=lambda answers, tasks: np.zeros((0, 2)), combine=mean)


def rows(values: np.ndarray) -> np.ndarray:
    """The statistics of a mean."""
    return np.stack([np.asarray(values, dtype=float), np.ones(len(values))], axis=1)


def alone(number: int) -> list[str]:
    return [str(index) for index in range(number)]


def clustered(generator: np.random.Generator, groups: int, size: int) -> tuple[np.ndarray, list[str]]:
    """Rows right or wrong, of groups that differ in how easy they are; the truth is 0.75."""
    ease_G = generator.beta(1.5, 0.5, size=groups)
    return (generator.random((groups, size)) < ease_G[:, None]).astype(float).ravel(), [
        str(g) for g in range(groups) for _ in range(size)
    ]


def test_the_report_has_the_shape_that_readers_rely_on() -> None:
    generator = np.random.default_rng(0)
    base, tuned = generator.random(60), generator.random(60) + 0.4
    report = intervals(MEAN, {"base": rows(base), "tuned": rows(tuned)}, [f"g{index // 2}" for index in range(60)])
    assert list(report) == ["base", "tuned", "difference", "n", "groups", "higher_is_better"]
    assert all(list(report[arm]) == ["mean", "low", "high"] for arm in ("base", "tuned", "difference"))
    assert (report["n"], report["groups"], report["higher_is_better"]) == (60, 30, True)
    assert report["base"]["mean"] == pytest.approx(base.mean())
    assert report["difference"]["mean"] == pytest.approx(tuned.mean() - base.mean())
    assert report["difference"]["low"] > 0
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_intervals_of_clustered_rows_cover_the_truth_and_row_by_row_they_would_not() -> None:
    generator, covered, covered_by_rows, trials = np.random.default_rng(1), 0, 0, 300
    for _ in range(trials):
        values, groups = clustered(generator, 25, 6)
        by_group = intervals(MEAN, {"base": rows(values)}, groups, resamples=400)["base"]
        by_row = intervals(MEAN, {"base": rows(values)}, alone(len(values)), resamples=400)["base"]
        covered += by_group["low"] <= 0.75 <= by_group["high"]
        covered_by_rows += by_row["low"] <= 0.75 <= by_row["high"]
    assert 0.92 <= covered / trials <= 0.98
    assert covered_by_rows / trials < 0.85


@pytest.mark.parametrize("number", [12, 40])
def test_intervals_of_a_paired_difference_cover_the_truth_on_few_rows(number: int) -> None:
    generator, covered, trials = np.random.default_rng(2), 0, 300
    for _ in range(trials):
        shared = generator.normal(size=number)
        arms = {"base": rows(shared + generator.normal(size=number)), "tuned": rows(shared + 0.3 + generator.gamma(1, 1, number))}
        found = intervals(MEAN, arms, alone(number), resamples=400)["difference"]
        covered += found["low"] <= 1.3 <= found["high"]
    assert 0.91 <= covered / trials <= 0.985


def test_intervals_of_a_corpus_score_cover_the_truth() -> None:
    generator, score, covered, trials = np.random.default_rng(3), SCORES["span_f1"], 0, 300

    def sample(number: int) -> np.ndarray:
        expected = 1 + generator.poisson(3, number)
        hits = generator.binomial(expected, generator.beta(3, 1.5, number))
        return np.stack([hits, hits + generator.poisson(0.6, number), expected, np.ones(number)], axis=1).astype(float)

    truth = score.combine(sample(1_000_000).sum(axis=0))
    for _ in range(trials):
        found = intervals(score, {"base": sample(40)}, alone(40), resamples=400)["base"]
        covered += found["low"] <= truth <= found["high"]
    assert 0.91 <= covered / trials <= 0.985


def test_the_difference_of_paired_rows_is_known_better_than_its_arms() -> None:
    generator = np.random.default_rng(4)
    hardness = generator.normal(size=200)
    arms = {"base": rows(hardness), "tuned": rows(hardness + 0.1 + 0.1 * generator.normal(size=200))}
    report = intervals(MEAN, arms, alone(200))
    width = {name: report[name]["high"] - report[name]["low"] for name in ("base", "tuned", "difference")}
    assert width["difference"] < 0.2 * width["base"]
    shuffled = arms | {"tuned": arms["tuned"][generator.permutation(200)]}
    unpaired = intervals(MEAN, shuffled, alone(200))["difference"]
    assert unpaired["high"] - unpaired["low"] > 1.2 * width["base"]
    assert report["difference"]["low"] > 0 > unpaired["low"]


def test_the_same_arm_twice_differs_by_exactly_nothing() -> None:
    values = rows(np.random.default_rng(5).random(50))
    assert intervals(MEAN, {"base": values, "tuned": values}, alone(50))["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**32 - 1), st.sampled_from(["mean", "span_f1", "bleu", "macro_f1"]))
def test_an_interval_holds_its_estimate_and_widens_with_its_level(number: int, seed: int, name: str) -> None:
    generator = np.random.default_rng(seed)
    score = SCORES.get(name, MEAN)
    width = {"mean": 2, "span_f1": 4, "bleu": 10, "macro_f1": 11}[name]
    counts = generator.integers(1, 5, size=(2, number, width)).astype(float)
    arms = {"base": counts[0], "tuned": counts[1]}
    narrow, wide = (intervals(score, arms, alone(number), resamples=200, level=level) for level in (0.5, 0.95))
    for part in ("base", "tuned", "difference"):
        assert wide[part]["low"] <= narrow[part]["low"] <= narrow[part]["mean"] <= narrow[part]["high"] <= wide[part]["high"]
        assert wide[part]["mean"] == narrow[part]["mean"]


def test_more_rows_narrow_the_interval() -> None:
    values = np.random.default_rng(6).random(1600)
    widths = []
    for number in (25, 100, 400, 1600):
        found = intervals(MEAN, {"base": rows(values[:number])}, alone(number))["base"]
        widths.append(found["high"] - found["low"])
    assert widths == sorted(widths, reverse=True)
    assert widths[1] / widths[3] == pytest.approx(4.0, rel=0.3)


def test_the_result_depends_on_nothing_but_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(7)
    arms = {"base": rows(generator.random(90)), "tuned": rows(generator.random(90))}
    groups = [f"g{index % 31}" for index in range(90)]
    first = intervals(MEAN, arms, groups)
    np.random.seed(3)  # a global generator is not read
    assert intervals(MEAN, arms, groups) == first
    monkeypatch.setattr(sys.modules[intervals.__module__], "_CHUNK", 500)  # nor does the memory given to it matter
    assert intervals(MEAN, arms, groups) == first
    assert intervals(MEAN, arms, groups, seed=1) != first
    order = generator.permutation(90)  # nor the order of the rows
    moved = intervals(MEAN, {arm: values[order] for arm, values in arms.items()}, [groups[index] for index in order])
    for part in ("base", "tuned", "difference"):
        assert list(moved[part].values()) == pytest.approx(list(first[part].values()), abs=1e-12)


def test_any_number_of_arms_is_compared_with_one() -> None:
    generator = np.random.default_rng(8)
    arms = {name: rows(generator.random(40)) for name in ("base", "tuned", "linear")}
    report = intervals(MEAN, arms, alone(40))
    assert list(report["differences"]) == ["tuned", "linear"]
    assert report["difference"] == report["differences"]["tuned"]
    assert report["differences"]["linear"]["mean"] == pytest.approx(report["linear"]["mean"] - report["base"]["mean"])
    other = intervals(MEAN, arms, alone(40), difference_from="linear")
    assert other["difference"]["mean"] == pytest.approx(report["tuned"]["mean"] - report["linear"]["mean"])
    # an arm's own interval does not depend on the company it is in
    assert intervals(MEAN, {"tuned": arms["tuned"]}, alone(40))["tuned"] == report["tuned"]
    assert "difference" not in intervals(MEAN, {"tuned": arms["tuned"]}, alone(40))
    two = intervals(MEAN, {"base": arms["base"], "prompted": arms["linear"]}, alone(40))
    assert two["difference"] == report["differences"]["linear"]


def test_lower_is_better_keeps_its_sign_and_says_so() -> None:
    base, tuned = (np.stack([np.full(30, nats) + np.arange(30) / 100, np.full(30, 10.0)], axis=1) for nats in (30.0, 20.0))
    report = intervals(SCORES["perplexity"], {"base": base, "tuned": tuned}, alone(30))
    assert report["higher_is_better"] is False
    assert report["difference"]["high"] < 0


def test_rows_that_the_score_does_not_apply_to_are_not_counted() -> None:
    generator = np.random.default_rng(9)
    values = rows(generator.random(40))
    padded = np.concatenate([values, np.zeros((25, 2))])
    with_others = intervals(MEAN, {"base": padded}, [*alone(40), *["other"] * 25])
    assert with_others == intervals(MEAN, {"base": values}, alone(40))
    assert with_others["n"] == 40


@pytest.mark.parametrize(
    ("number", "groups", "note"),
    [
        (6, ["one"] * 6, "at least two groups"),
        (1, ["one"], "at least two groups"),
        (0, [], "no row"),
    ],
)
def test_without_two_groups_there_is_no_interval_and_a_note(number: int, groups: list[str], note: str) -> None:
    report = intervals(MEAN, {"base": rows(np.arange(number)), "tuned": rows(np.arange(number))}, groups)
    for part in ("base", "tuned", "difference"):
        assert report[part]["low"] is None
        assert report[part]["high"] is None
    assert note in report["note"]
    assert (report["base"]["mean"] is None) == (number == 0)
    json.dumps(report, allow_nan=False)


def test_few_groups_and_arms_without_a_single_miss_are_marked() -> None:
    assert "only 5 groups" in intervals(MEAN, {"base": rows(np.random.default_rng(0).random(5))}, alone(5))["note"]
    perfect = intervals(MEAN, {"base": rows(np.ones(50))}, alone(50))
    assert perfect["base"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert "no width" in perfect["note"]


def test_values_that_are_not_finite_are_null_and_never_reach_the_json() -> None:
    endless = np.array([[1e6, 1.0]] * 30)
    report = intervals(SCORES["perplexity"], {"base": endless, "tuned": endless}, alone(30))
    assert report["base"] == report["difference"] == {"mean": None, "low": None, "high": None}
    assert "not finite" in report["note"]
    json.dumps(report, allow_nan=False)


def test_impossible_arguments_are_refused() -> None:
    values = rows(np.ones(5))
    with pytest.raises(ConfigError, match="resamples"):
        intervals(MEAN, {"base": values}, alone(5), resamples=0)
    with pytest.raises(ConfigError, match="level"):
        intervals(MEAN, {"base": values}, alone(5), level=95)
    with pytest.raises(ConfigError, match="'n'"):
        intervals(MEAN, {"n": values}, alone(5))


def test_tasks_without_a_group_are_groups_of_their_own() -> None:
    tasks = [Task(messages=(), expected=Expected(), origin=Origin("a"), group=group) for group in ("x", None, "x", None, "row 1")]
    found = groups_of(tasks)
    assert found[0] == found[2]
    assert len(set(found)) == 4
