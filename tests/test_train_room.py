"""Memory that runs out: the step is begun anew in smaller pieces, and its result is what it would have been."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.devices import Ranks
from burnish.errors import RunError
from burnish.models import Model
from burnish.objectives import OBJECTIVES
from burnish.train import TaskLoss, train
from burnish.train_room import Room, halved, is_out_of_memory, positions, run_pieces
from burnish.types import Batch, Origin, Sequence
from loop import assert_same_gradients, cut, eight_sequences, loss_and_gradient, restore, run, snapshot
from stub import load_stub

TRAIN = sys.modules[train.__module__]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("room"))


@pytest.fixture
def model(loaded: Model) -> Iterator[Model]:
    """The stub with every parameter moving, put back to what it was after each test."""
    before = snapshot(loaded)
    loaded.network.requires_grad_(True)
    yield loaded
    loaded.network.zero_grad(set_to_none=True)
    loaded.network.requires_grad_(False)
    restore(loaded, before)


def paired(units: list[list[Sequence]]) -> list[list[Sequence]]:
    """Return the rows as pairs, each a group of its own."""
    return [
        [replace(a[0], group=number + 1), replace(b[0], group=number + 1)]
        for number, (a, b) in enumerate(zip(units[::2], units[1::2], strict=True))
    ]


@contextmanager
def memory(model: Model, limit: int, *, where: str = "forward", only: int | None = None) -> Iterator[list[int]]:
    """Let passes over more than `limit` positions fail: before the first product, or deep in the backward pass, where gradients of the
    upper layer have been added already. `only` the micro-batch of that number fails, once. Yields the sizes that failed."""
    failed: list[int] = []
    sizes: list[int] = []
    plain = TRAIN.forward

    def too_much() -> bool:
        wanted = sizes[-1] > limit and (only is None or (len(sizes) - 1 == only and not failed))
        failed.extend([sizes[-1]] if wanted else [])
        return wanted

    def forward(model: Model, batch: Batch, needs: tuple[str, ...]) -> Any:
        sizes.append(positions(batch))
        if where == "forward" and too_much():
            raise torch.OutOfMemoryError("CUDA out of memory. (a test)")
        return plain(model, batch, needs)

    def hook(*_: Any) -> None:
        if where == "backward" and too_much():
            assert any(parameter.grad is not None for parameter in model.trunk().layers[1].parameters())
            raise torch.OutOfMemoryError("CUDA out of memory. (a test)")

    handle = model.trunk().layers[0].register_full_backward_pre_hook(hook)
    TRAIN.forward = forward  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield failed
    finally:
        TRAIN.forward = plain  # pyright: ignore[reportAttributeAccessIssue]
        handle.remove()


# ---------------------------------------------------------------------------------------------------------------------- dividing


def test_groups_whose_common_prefix_stands_once_are_divided_too(model: Model) -> None:
    """The pieces give the loss and the gradient of the whole, though two sequences of a group are read at places that they share."""
    from burnish.data.batching import collate

    prompts = eight_sequences(model)
    units = []
    for number, unit in enumerate(prompts[:4]):  # two sequences each that begin with the same tokens, and go on in their own ways
        whole, cut_at = unit[0], unit[0].length - 2
        other = replace(whole, tokens_T=whole.tokens_T.copy())
        other.tokens_T[cut_at:] = (other.tokens_T[cut_at:] + 1) % 50
        units += [replace(whole, group=number + 1), replace(other, group=number + 1)]
    whole = collate(units, packing=False, shared=True, pad_id=0, device="cpu")
    assert whole.layout.kind == "shared"
    assert positions(whole) < sum(one.length for one in units)
    expected_step, expected = loss_and_gradient(model, [whole])
    for bound in (positions(whole) - 1, 1):
        pieces = Room(bound).pieces(whole)
        assert sum(map(positions, pieces)) == positions(whole)
        step, found = loss_and_gradient(model, pieces)
        assert step.losses["nll"] == pytest.approx(expected_step.losses["nll"], rel=1e-6)
        assert_same_gradients(found, expected)
    assert len(pieces) == 4, "in the end each piece is one group"


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_pieces_of_a_batch_give_its_loss_and_gradient(model: Model, packing: bool, grouped: bool) -> None:
    units = paired(eight_sequences(model)) if grouped else eight_sequences(model)
    (whole,) = cut(units, 10**9, packing=packing)
    expected_step, expected = loss_and_gradient(model, [whole])
    for bound in (positions(whole) - 1, positions(whole) // 3, 1):
        pieces = Room(bound).pieces(whole)
        assert len(pieces) > 1
        assert sum(piece.tokens for piece in pieces) == whole.tokens
        assert [origin for piece in pieces for origin in piece.origins] == list(whole.origins)
        step, found = loss_and_gradient(model, pieces)
        assert step.losses["nll"] == pytest.approx(expected_step.losses["nll"], rel=1e-6)
        assert_same_gradients(found, expected)
    assert len(pieces) == (4 if grouped else 8), "in the end each piece is one row, or one group"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=12), st.booleans(), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_groups_stay_whole_and_nothing_is_lost(rows: list[tuple[int, int]], packing: bool, bound: int) -> None:
    """However rows are grouped: every piece is within the bound or one unit, and all read-outs come back with what they say."""
    import numpy as np

    from burnish.data.batching import collate, units_of

    made = [
        Sequence(
            tokens_T=np.full(length, number, dtype=np.int32),
            at_N=np.arange(length, dtype=np.int32),
            target_N=np.full(length, number, dtype=np.int32),
            weight_N=np.ones(length, dtype=np.float32),
            origin=Origin("rows.jsonl", number),
            streams={"advantage": np.full(length, float(number), dtype=np.float32)},
            group=group,
        )
        for number, (group, length) in enumerate(rows)
    ]
    ordered = [one for unit in units_of(made) for one in unit]
    whole = collate(ordered, packing=packing, pad_id=0, device="cpu")
    pieces = Room(bound).pieces(whole)
    units = {one.group for one in made if one.group}
    for piece in pieces:
        assert positions(piece) <= bound or halved(piece) is None
        layout = piece.layout
        width = layout.input_ids_BT.shape[1]
        place_N = layout.row_S[piece.sequence_N] * width + layout.start_S[piece.sequence_N] + piece.at_N
        assert torch.equal(layout.input_ids_BT.flatten()[place_N], piece.target_N), "a read-out stands on its own token"
        assert torch.equal(layout.position_ids_BT.flatten()[place_N], piece.at_N)
        assert torch.equal(piece.streams["advantage"].long(), piece.target_N)
        units -= {group for group in piece.group_S.tolist() if sum(group in other.group_S.tolist() for other in pieces) == 1}
    assert not units, "a group is in two pieces"
    assert sum(len(piece.at_N) for piece in pieces) == len(whole.at_N)


def test_an_encoders_rows_say_which_positions_are_padding_after_dividing(model: Model) -> None:
    from burnish.data.batching import collate

    flat = [part for unit in eight_sequences(model) for part in unit]
    whole = collate(flat, packing=False, pad_id=0, device="cpu", mask=True)
    assert whole.layout.document_BT is not None
    for piece in Room(1).pieces(whole):
        assert piece.layout.document_BT is not None
        assert set(piece.layout.document_BT.unique().tolist()) <= {-1, 0}
        assert int((piece.layout.document_BT == 0).sum()) == piece.tokens


# ------------------------------------------------------------------------------------------------------------- memory that runs out


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("limit", [90, 150])
def test_a_run_that_runs_out_of_memory_ends_where_it_would_have(model: Model, where: str, packing: bool, limit: int) -> None:
    """Splitting keeps the batch and its result (pain 17); what the failed pass added to the gradients does not count."""
    before, batches = snapshot(model), cut(eight_sequences(model), 400, packing=packing)
    expected, after = run(model, batches, steps=4), snapshot(model)
    restore(model, before)
    said: list[str] = []
    room = Room(say=said.append)
    with memory(model, limit, where=where) as failed:
        found = run(model, batches, steps=4, room=room)
    assert failed and room.positions <= failed[-1] // 2
    assert [step.losses["nll"] for step in found] == pytest.approx([step.losses["nll"] for step in expected], rel=1e-5)
    assert [step.gradient_norm for step in found] == pytest.approx([step.gradient_norm for step in expected], rel=1e-4)
    assert [step.tokens for step in found] == [step.tokens for step in expected]
    assert_same_gradients(snapshot(model), after)
    assert len(said) == len(failed), "each bound is told once"
    assert f"train.tokens = {room.positions}" in said[-1]


def test_the_bound_is_remembered(model: Model) -> None:
    """Later steps begin in pieces that fit: nothing fails twice at the same size."""
    batches, room = cut(eight_sequences(model), 400), Room()
    with memory(model, 150) as failed:
        run(model, batches, steps=3, room=room)
        often = len(failed)
        run(model, batches, steps=3, room=room)
    assert often == len(failed) == len(set(failed))


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("only", [0, 1, 2])
def test_whichever_micro_batch_fails_the_gradient_is_the_same(model: Model, where: str, only: int) -> None:
    batches = cut(eight_sequences(model), 200)
    assert len(batches) == 3
    step, expected = loss_and_gradient(model, batches)
    with memory(model, 0, where=where, only=only) as failed:
        again, found = loss_and_gradient(model, batches, room=Room())
    assert len(failed) == 1
    assert again.losses["nll"] == pytest.approx(step.losses["nll"], rel=1e-6)
    assert_same_gradients(found, expected)


def test_a_run_that_knew_the_bound_before_is_the_same_bit_for_bit(model: Model) -> None:
    """The failed attempt leaves no trace, not in the gradients and not in the random numbers that dropout draws."""
    model.plain().config.attention_dropout = 0.1
    for layer in model.trunk().layers:
        layer.self_attn.attention_dropout = 0.1
    model.network.train()
    before, batches, room = snapshot(model), cut(eight_sequences(model), 400), Room()
    try:
        torch.manual_seed(5)
        with memory(model, 150, where="backward") as failed:
            found = run(model, batches, steps=3, room=room)
        assert failed
        after = snapshot(model)
        restore(model, before)
        torch.manual_seed(5)
        expected = run(model, batches, steps=3, room=Room(room.positions))
        assert [step.losses for step in found] == [step.losses for step in expected]
        assert all(torch.equal(parameter, after[name]) for name, parameter in snapshot(model).items())
        restore(model, before)
        torch.manual_seed(6)
        assert [step.losses for step in found] != [step.losses for step in run(model, batches, steps=3, room=Room(room.positions))]
    finally:
        model.network.eval()
        model.plain().config.attention_dropout = 0.0
        for layer in model.trunk().layers:
            layer.self_attn.attention_dropout = 0.0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit of the address space")
def test_memory_that_really_runs_out_is_survived() -> None:
    """No injection: the process may map 100 MB more, a pass over all rows wants more than that, and the step comes out the same (pain 17).

    In a process of its own: what earlier tests mapped and gave back would be room here that the limit does not see."""
    import json
    import subprocess
    from pathlib import Path

    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "out_of_memory.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert 500 <= found["positions"] < 24_000, "the pass over all rows failed, and a smaller one was found"
    assert found["loss"] == pytest.approx(found["expected_loss"], rel=1e-5)
    assert found["worst_gradient"] < 1e-5


def test_a_row_that_does_not_fit_alone_is_named(model: Model) -> None:
    with (
        memory(model, 20),
        pytest.raises(RunError, match=r"rows\.jsonl:\d: does not fit into memory, even alone \(\d+ positions") as raised,
    ):
        run(model, cut(eight_sequences(model), 400))
    for word in ("data.max_length", "train.recompute = true", "smaller model"):
        assert word in str(raised.value)


def test_a_group_that_does_not_fit_is_named(model: Model) -> None:
    with memory(model, 20), pytest.raises(RunError, match=r"rows\.jsonl:5, rows\.jsonl:6: belong together and do not fit"):
        run(model, cut(paired(eight_sequences(model)), 400))


def test_what_compares_all_rows_of_a_step_is_not_divided(model: Model) -> None:
    tasks = {"main": TaskLoss(replace(OBJECTIVES["sft"], additive=False))}
    with memory(model, 20), pytest.raises(RunError, match="belong together"):
        run(model, cut(eight_sequences(model), 10**9), tasks=tasks)
    step = run(model, cut(eight_sequences(model), 10**9), tasks=tasks, room=Room(50))[0]
    assert step.losses


def test_other_errors_are_passed_on(model: Model) -> None:
    def fail(batch: Batch) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run_pieces(cut(eight_sequences(model), 400), fail, room=Room(), divisible=lambda batch: True, forget=lambda: None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
            ),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("device-side assert triggered"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_ranks_keep_the_smallest_bound() -> None:
    room = Room(100)
    room.agree(Ranks())
    assert room.positions == 100

    class Others:
        """Ranks of which another one found a smaller bound."""

        size = 2

        def least(self, value: float) -> float:
            return min(value, 70.0)

    others: Any = Others()
    room.agree(others)
    assert room.positions == 70
    free = Room()
    free.agree(others)
    assert free.positions == 70
    others.least = lambda value: value
    unbounded = Room()
    unbounded.agree(others)
    assert unbounded.positions == 0
