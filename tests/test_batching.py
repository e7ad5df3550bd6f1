"""Batches: which examples stand in a step never depends on how the step is cut or laid out, and nothing is lost on the way."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data.batching import FixedBatches, MixedBatches, collate, cut_packed, cut_padded, shares_of, shuffled
from burnish.types import Batch, Origin, Sequence


def sequence(length: int, number: int, *, group: int = 0, task: str = "main", readouts: int | None = None) -> Sequence:
    """Return a sequence whose origin's line is its number and whose tokens say who it is."""
    tokens_T = (np.arange(length) + 1000 * number).astype(np.int32)
    at_N = np.arange(length - 1 if readouts is None else readouts, dtype=np.int32)
    streams = {"advantage": np.full(len(at_N), float(number), dtype=np.float32)}
    weight_N = np.linspace(0.5, 1.0, len(at_N)).astype(np.float32)
    return Sequence(
        tokens_T, at_N, tokens_T[at_N + 1], weight_N, Origin("rows.jsonl", number), streams=streams, task=task, group=group
    )


def fixed(units: list[list[Sequence]], *, batch: int = 4, tokens: int = 64, packing: bool = False, **more: int) -> FixedBatches:
    order = shuffled(len(units), more.pop("seed", 0))
    return FixedBatches(units, order, batch, tokens, packing, pad_id=-1, device="cpu", **more)


lengths_of_units = st.lists(st.lists(st.integers(2, 24), min_size=1, max_size=3), min_size=1, max_size=12)


def as_units(lengths: list[list[int]]) -> list[list[Sequence]]:
    numbers = iter(range(1, 1000))
    return [[sequence(length, next(numbers), group=unit + 1) for length in parts] for unit, parts in enumerate(lengths)]


def lines(batches: list[Batch]) -> Counter[int]:
    """Return which sequences stand in micro-batches, by the line they were read from."""
    return Counter(origin.line or 0 for batch in batches for origin in batch.origins)


def readouts(batches: list[Batch]) -> Counter[tuple[int | None, int, int, float, float]]:
    """Return every read-out with all that an objective sees of it, so that two cuts can be compared as sets."""
    found: Counter[tuple[int | None, int, int, float, float]] = Counter()
    for batch in batches:
        for at, target, weight, owner, stream in zip(
            batch.at_N, batch.target_N, batch.weight_N, batch.sequence_N, batch.streams["advantage"], strict=True
        ):
            found[batch.origins[owner].line, int(at), int(target), float(weight), float(stream)] += 1
    return found


# ------------------------------------------------------------------------------------------------------------- what stands in a step


@settings(max_examples=40, deadline=None)
@given(lengths_of_units, st.integers(1, 5), st.integers(0, 6), st.integers(8, 200), st.booleans(), st.integers(1, 4))
def test_a_step_is_the_same_however_it_is_cut(
    lengths: list[list[int]], batch: int, step: int, tokens: int, packing: bool, ranks: int
) -> None:
    """Layout, budget and number of ranks cut a step; they do not change what is in it (pain 25)."""
    units = as_units(lengths)
    reference = fixed(units, batch=batch, tokens=10**9)(step)
    cut = [
        micro
        for rank in range(ranks)
        for micro in fixed(units, batch=batch, tokens=tokens, packing=packing, rank=rank, ranks=ranks)(step)
    ]
    assert readouts(cut) == readouts(reference)
    assert lines(cut) == lines(reference)
    assert sum(micro.tokens for micro in cut) == sum(micro.tokens for micro in reference)


@settings(max_examples=40, deadline=None)
@given(lengths_of_units, st.integers(1, 20))
def test_rows_padded_to_a_multiple_are_the_same_rows(lengths: list[list[int]], multiple: int) -> None:
    units = as_units(lengths)
    rounded = fixed(units, batch=len(units), tokens=100, multiple=multiple)(0)
    assert readouts(rounded) == readouts(fixed(units, batch=len(units), tokens=100)(0))
    for micro in rounded:
        width, longest = micro.layout.input_ids_BT.shape[1], int(micro.at_N.max()) + 1
        assert width % multiple == 0 and longest <= width


def test_short_rows_are_not_padded_to_long_ones() -> None:
    """Ten rows of 100 and ten of 20 in a budget that holds all of them: two passes, and no padding."""
    units = as_units([[100]] * 10 + [[20]] * 10)
    assert [[part.length for part in micro] for micro in cut_padded(units, 10_000)] == [[100] * 10 + [20] * 10]
    assert [{part.length for part in micro} for micro in cut_padded(units, 2_000)] == [{100}, {20}]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 4), st.integers(0, 2**63 - 1))
def test_each_epoch_covers_each_example_once(size: int, batch: int, epochs: int, seed: int) -> None:
    batches = fixed(as_units([[3]] * size), batch=batch, seed=seed)
    steps = batches.steps_in(epochs)
    seen = [number for step in range(steps) for number in batches.chosen(step)]
    assert (steps - 1) * batch < epochs * size <= len(seen)
    for epoch in range(epochs):
        assert sorted(seen[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_the_place_in_the_data_needs_no_history() -> None:
    """Resume (pain 16): step 7 is the same whether or not steps 0 to 6 were asked for, in another object or in this one."""
    units = as_units([[5]] * 9)
    walked = fixed(units)
    before = [walked.chosen(step) for step in range(8)]
    assert fixed(units).chosen(7) == before[7] == walked.chosen(7)


def test_epochs_differ_and_follow_from_the_seed() -> None:
    orders = [shuffled(50, 3)(epoch).tolist() for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert shuffled(50, 3)(1).tolist() == orders[1]
    assert shuffled(50, 4)(1).tolist() != orders[1]


def test_an_order_without_examples_is_not_waited_for() -> None:
    with pytest.raises(AssertionError, match="no examples"):
        FixedBatches([], shuffled(0, 0), 4, 64, False, pad_id=0, device="cpu").chosen(0)


# ------------------------------------------------------------------------------------------------------------------ how a step is cut


@pytest.mark.parametrize("packing", [False, True])
@settings(max_examples=40, deadline=None)
@given(lengths=lengths_of_units, tokens=st.integers(8, 120))
def test_the_budget_holds(packing: bool, lengths: list[list[int]], tokens: int) -> None:
    """No micro-batch is larger than the budget, except a group that is too large alone (its sequences may not be parted)."""
    units = as_units(lengths)
    for micro in (cut_packed if packing else cut_padded)(units, tokens):
        longest, total = max(part.length for part in micro), sum(part.length for part in micro)
        size = total if packing else longest * len(micro)
        assert size <= tokens or len({part.group for part in micro}) == 1


@settings(max_examples=40, deadline=None)
@given(lengths=lengths_of_units, tokens=st.integers(8, 120))
def test_a_group_is_never_divided(lengths: list[list[int]], tokens: int) -> None:
    """A pair's chosen and rejected answer, or the answers to one prompt, are compared inside one micro-batch."""
    units = as_units(lengths)
    for cut in (cut_padded(units, tokens), cut_packed(units, tokens)):
        homes = [{number for number, micro in enumerate(cut) for part in micro if part.group == unit[0].group} for unit in units]
        assert all(len(home) == 1 for home in homes)


@pytest.mark.parametrize("packing", [False, True])
def test_windows_of_a_long_text_keep_to_the_budget(packing: bool) -> None:
    """A book is one example of many windows, which belong to no group: it must not become one enormous micro-batch (pain 17)."""
    book = [sequence(16, number) for number in range(1, 101)]
    cut = (cut_packed if packing else cut_padded)([book, [sequence(8, 101)]], 64)
    assert all(len(micro) * 16 <= 64 for micro in cut)
    assert sorted(part.origin.line or 0 for micro in cut for part in micro) == list(range(1, 102))


def test_the_largest_micro_batch_comes_first() -> None:
    """Memory is short at once or never (pain 17)."""
    lengths = [[int(length)] for length in np.random.default_rng(0).integers(2, 60, 40)]
    for packing in (False, True):
        micro = fixed(as_units(lengths), batch=40, packing=packing)(0)
        assert max(len(part.layout.input_ids_BT[0]) for part in micro) == len(micro[0].layout.input_ids_BT[0])


def test_like_lengths_stand_together() -> None:
    """Padding is waste: under a tenth of the positions here, where rows in file order would waste a third."""
    drawn = np.random.default_rng(1).integers(4, 64, 200)
    micro = fixed(as_units([[int(length)] for length in drawn]), batch=200, tokens=512)(0)
    positions = sum(part.layout.input_ids_BT.numel() for part in micro)
    assert sum(part.tokens for part in micro) / positions > 0.9


# ------------------------------------------------------------------------------------------------------------------- how it is laid out


@pytest.mark.parametrize("packing", [False, True])
def test_a_layout_holds_every_token_where_it_says(packing: bool) -> None:
    parts = [sequence(5, 1), sequence(3, 2), sequence(4, 3)]
    batch = collate(parts, packing=packing, pad_id=-7, device="cpu")
    layout = batch.layout
    for number, part in enumerate(parts):
        row, start = int(layout.row_S[number]), int(layout.start_S[number])
        assert layout.input_ids_BT[row, start : start + part.length].tolist() == part.tokens_T.tolist()
        assert layout.position_ids_BT[row, start : start + part.length].tolist() == list(range(part.length))
        mine = (batch.sequence_N == number).nonzero().flatten()
        place = row, start + batch.at_N[mine] + 1
        assert layout.input_ids_BT[place].tolist() == batch.target_N[mine].tolist(), "read one before the token it predicts"
    assert batch.tokens == 12
    assert (layout.input_ids_BT == -7).sum() == (0 if packing else 3)
    assert (layout.document_BT is not None) == packing


def test_packed_positions_know_their_document() -> None:
    layout = collate([sequence(3, 1), sequence(2, 2)], packing=True, pad_id=0, device="cpu").layout
    assert layout.document_BT is not None
    assert layout.document_BT.tolist() == [[0, 0, 0, 1, 1]]


def test_a_micro_batch_holds_one_task() -> None:
    with pytest.raises(AssertionError, match="one task"):
        collate([sequence(3, 1, task="a"), sequence(3, 2, task="b")], packing=False, pad_id=0, device="cpu")


def test_a_sequence_without_readouts_is_carried() -> None:
    batch = collate([sequence(4, 1, readouts=0), sequence(3, 2)], packing=True, pad_id=0, device="cpu")
    assert batch.sequence_N.tolist() == [1, 1]
    assert batch.tokens == 7


# ---------------------------------------------------------------------------------------------------------------------- several tasks


def mixed(sizes: list[int], shares: list[float], *, batch: int) -> MixedBatches:
    parts = []
    for number, size in enumerate(sizes):
        units = [[sequence(5, 100 * number + row, task=f"task{number}")] for row in range(1, size + 1)]
        parts.append(fixed(units, batch=batch, seed=number))
    return MixedBatches(parts, [share / sum(shares) for share in shares], batch)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.floats(0.01, 5)), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(1, 12),
)
def test_each_task_gets_its_share_of_the_rows_and_what_is_left_over_is_carried_on(
    tasks: list[tuple[int, float]], batch: int, steps: int
) -> None:
    source = mixed([size for size, _ in tasks], [share for _, share in tasks], batch=batch)
    total: Counter[str] = Counter()
    for step in range(steps):
        rows = Counter(one.task for one in source(step) for _ in one.origins)
        assert rows.total() == batch
        total += rows
    for number, share in enumerate(source.shares):
        assert abs(total[f"task{number}"] - share * batch * steps) <= len(tasks)


def test_a_step_of_several_tasks_is_the_same_whoever_asks_for_it_first() -> None:
    straight, jumped = mixed([7, 3], [2, 1], batch=4), mixed([7, 3], [2, 1], batch=4)
    expected = [lines(straight(step)) for step in range(6)]
    assert [lines(jumped(step)) for step in (5, 0, 3, 1, 4, 2)] == [expected[step] for step in (5, 0, 3, 1, 4, 2)]


def test_a_task_is_passed_through_whole_before_a_row_of_it_comes_again() -> None:
    source = mixed([4, 8], [1, 2], batch=3)
    seen = sum((lines(source(step)) for step in range(4)), Counter())
    assert set(seen.values()) == {1} and len(seen) == 12


def test_micro_batches_of_several_tasks_hold_one_each() -> None:
    for batch in mixed([5, 5], [1, 1], batch=10)(0):
        assert len({origin.line // 100 for origin in batch.origins if origin.line}) == 1


def test_shares_follow_the_rows_the_temperature_or_what_is_given() -> None:
    assert shares_of([30, 10], [None, None]) == pytest.approx([0.75, 0.25])
    assert shares_of([30, 10], [1.0, 1.0]) == pytest.approx([0.5, 0.5])
    tempered = shares_of([30, 10], [None, None], temperature=2.0)
    assert tempered[0] / tempered[1] == pytest.approx(3**0.5)


def test_a_step_of_a_late_epoch_makes_the_order_of_that_epoch_alone() -> None:
    """Else a step costs as many rows as all epochs before it hold: half a second at a hundred thousand rows in the seventh."""
    asked: list[int] = []
    plain = shuffled(10, 1)
    one = Sequence(np.arange(3, dtype=np.int32), np.array([1]), np.array([2]), np.ones(1, dtype=np.float32), Origin("rows", 1))
    source = FixedBatches([[one]] * 10, lambda epoch: asked.append(epoch) or plain(epoch), 4, 100, False, 0, "cpu")
    expected = [(int(number), epoch) for epoch in range(10) for number in plain(epoch)]
    assert source.rows(80, 4) == expected[80:84]
    asked.clear()
    assert source.rows(84, 10) == expected[84:94]
    assert set(asked) <= {8, 9}
