"""Scores of rewards, of their certainty and of restored tokens, against independent references, and how wide their intervals are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.scores import SCORES, fitting, intervals, measures
from burnish.types import Answer, Expected, Message, Origin, Pair, Task, content


def rated(rating: float) -> Task:
    turns = (Message("user", content("?")), Message("assistant", content("so")))
    return Task(messages=turns, expected=Expected(number=rating), origin=Origin("rows", 1))


def paired() -> Task:
    whole = Pair(prompt=(), chosen=(), rejected=(), origin=Origin("rows", 1))
    return Task(messages=(), expected=Expected(pair=whole), origin=Origin("rows", 1))


def value(name: str, answers: list[Answer], tasks: list[Task]) -> float:
    return float(SCORES[name].combine(SCORES[name].statistics(answers, tasks).sum(axis=0)))


def said(values: object) -> list[Answer]:
    return [Answer(text=f"{one:.9g}") for one in np.asarray(values)]


rows = st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 1)), min_size=4, max_size=30).filter(
    lambda rows: len({t for _, t in rows}) == 2
)


@settings(deadline=None)  # the first call imports
@given(rows)
def test_the_area_is_that_of_the_roc_curve(rows: list[tuple[int, int]]) -> None:
    from sklearn.metrics import roc_auc_score

    rewards, thumbs = zip(*rows, strict=True)
    assert value("thumb_auroc", said(rewards), [rated(one) for one in thumbs]) == pytest.approx(roc_auc_score(thumbs, rewards))


@settings(deadline=None)
@given(rows.filter(lambda rows: len({reward for reward, _ in rows}) > 1))
def test_the_correlation_is_spearmans(rows: list[tuple[int, int]]) -> None:
    from scipy.stats import spearmanr

    rewards, ratings = zip(*rows, strict=True)
    expected = spearmanr(rewards, ratings).statistic
    assert value("rating_correlation", said(rewards), [rated(one) for one in ratings]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["thumb_auroc", "rating_correlation"])
def test_intervals_of_what_compares_rows_are_as_wide_as_chance(name: str) -> None:
    """Their half width against the spread of the figure itself over many samples of the same kind."""
    draw, points, widths = np.random.default_rng(0), [], []
    for seed in range(120):
        truth = draw.integers(0, 2, 60).astype(float) if name == "thumb_auroc" else draw.normal(size=60)
        tasks, answers = [rated(float(one)) for one in truth], said(truth + draw.normal(size=60) * 1.2)
        points.append(value(name, answers, tasks))
        if seed < 20:
            row = intervals(
                SCORES[name], {"model": SCORES[name].statistics(answers, tasks)}, [str(n) for n in range(60)], resamples=400
            )
            widths.append((row["model"]["high"] - row["model"]["low"]) / 2)
    assert np.mean(widths) == pytest.approx(1.96 * np.std(points), rel=0.25)


def test_calibration_is_the_gap_between_certainty_and_rightness() -> None:
    sure = [Answer(margin=one) for one in (2.0, 2.0, 2.0, -2.0)]
    chance = 1 / (1 + np.exp(-2.0))
    assert value("calibration_error", sure, [paired()] * 4) == pytest.approx(abs(chance - 0.75))
    assert value("brier_score", sure, [paired()] * 4) == pytest.approx((3 * (1 - chance) ** 2 + chance**2) / 4)
    undecided = [Answer(margin=0.0)] * 4
    assert value("calibration_error", undecided, [paired()] * 4) == 0.0
    assert value("brier_score", undecided, [paired()] * 4) == 0.25
    draw = np.random.default_rng(0)
    margins = draw.normal(size=20_000) * 2
    turned = np.where(draw.random(20_000) < 1 / (1 + np.exp(-np.abs(margins))), np.abs(margins), -np.abs(margins))
    assert value("calibration_error", [Answer(margin=float(one)) for one in turned], [paired()] * 20_000) < 0.02
    assert value("calibration_error", [Answer(margin=float(5 * one)) for one in turned], [paired()] * 20_000) > 0.1


def test_the_scores_of_a_head_follow_from_what_it_says_and_the_rows() -> None:
    text = Task(messages=(), expected=Expected(texts=("x",)), text="x", origin=Origin("rows", 1))
    assert fitting([text], "masked") == ["restored_tokens", "bits_per_masked_token"]
    assert fitting([text], None) == ["bits_per_byte", "perplexity"]
    assert fitting([rated(1), rated(0)], "reward") == ["thumb_auroc"]
    assert fitting([rated(1), rated(4)], "reward") == ["rating_correlation"]
    assert fitting([paired(), paired(), rated(1)], "reward") == ["preference_accuracy", "calibration_error", "thumb_auroc"]
    assert not measures("perplexity", "masked") and not measures("restored_tokens", None) and measures("my:score", "masked")
