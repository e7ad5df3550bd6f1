"""Sources are mixed by weight: exactly over epochs, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data.mixture import mixture
from burnish.errors import ConfigError

SOURCES = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from([0.01, 0.1, 0.25, 1 / 3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.2])), min_size=1, max_size=4
)


def counts(pairs: np.ndarray) -> Counter[tuple[int, int]]:
    return Counter((int(source), int(row)) for source, row in pairs)


@settings(max_examples=100, deadline=None)
@given(sources=SOURCES, seed=st.integers(0, 2**31), epochs=st.integers(1, 8), first=st.integers(0, 10**6))
def test_rows_of_a_source_are_seen_equally_often_over_any_run_of_epochs(
    sources: list[tuple[int, float]], seed: int, epochs: int, first: int
) -> None:
    """A pain below the line, mixing: sets are neither mixed nor evaluated each by itself."""
    sizes, weights = [size for size, _ in sources], [weight for _, weight in sources]
    total: Counter[tuple[int, int]] = Counter()
    for epoch in range(first, first + epochs):
        pairs = mixture(sizes, weights, seed=seed, epoch=epoch)
        assert pairs.dtype == np.int64 and pairs.shape[1] == 2
        seen = counts(pairs)
        total += seen
        for source, (size, weight) in enumerate(sources):
            drawn = sum(count for (one, _), count in seen.items() if one == source)
            assert abs(drawn - size * weight) <= 1 + 1e-6 * size
    for source, (size, weight) in enumerate(sources):
        often = [total[source, row] for row in range(size)]
        assert all(abs(count - epochs * weight) < 1 + 1e-6 for count in often)
    assert all(row < sizes[source] for source, row in total)


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 40), parts=st.integers(1, 12), start=st.integers(0, 50), seed=st.integers(0, 1000))
def test_a_weight_of_one_nth_covers_all_rows_once_in_n_epochs(size: int, parts: int, start: int, seed: int) -> None:
    epochs = [counts(mixture([size], [1 / parts], seed=seed, epoch=epoch)) for epoch in range(start, start + parts)]
    assert sum(epochs, Counter()) == Counter({(0, row): 1 for row in range(size)})


def test_whole_weights_repeat_every_row_and_halves_take_a_seeded_half() -> None:
    assert counts(mixture([3], [2.0], seed=0, epoch=4)) == Counter({(0, row): 2 for row in range(3)})
    halves = {tuple(sorted(row for _, row in counts(mixture([40], [0.5], seed=seed, epoch=0)))) for seed in range(5)}
    assert len(halves) == 5 and all(len(half) == 20 for half in halves)


def test_the_same_seed_and_epoch_give_the_same_order_and_others_another() -> None:
    def drawn(seed: int, epoch: int) -> list[list[int]]:
        return mixture([20, 10], [1.0, 0.5], seed=seed, epoch=epoch).tolist()

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(1, 3) and drawn(1, 2) != drawn(2, 2)
    assert drawn(1, 2) != sorted(drawn(1, 2))


def test_a_source_is_drawn_alike_whatever_stands_beside_it() -> None:
    alone, beside = (counts(mixture(*sources, seed=3, epoch=1)) for sources in (([12], [0.5]), ([12, 5], [0.5, 2.0])))
    assert alone == Counter({pair: count for pair, count in beside.items() if pair[0] == 0})


def test_large_sources_and_late_epochs_stay_exact() -> None:
    size, weight = 200_000, 0.12345
    drawn = len(mixture([size], [weight], seed=0, epoch=10**9))
    assert abs(drawn - Fraction(weight).limit_denominator(100_000) * size) <= 1


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_weights_that_are_not_above_zero_are_refused_with_the_source(weight: float) -> None:
    with pytest.raises(ConfigError, match=r"source 2 has the weight .*expected a number above 0"):
        mixture([3, 3], [1.0, weight], seed=0, epoch=0)
