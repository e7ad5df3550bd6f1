"""The quick pieces of `models/fast` beside their plain twins: the same values and the same gradients."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.devices import missing_compiler
from burnish.models import Model, compile_layers
from burnish.models.fast import read_targets
from loop import cut, eight_sequences
from loop import run as run_steps
from stub import load_stub

PLAIN = sys.modules["burnish.models.forward"]
QUIET_COMPILER = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:The .grad attribute"
)  # torch's own, in its compiler
NEEDS_COMPILER = pytest.mark.skipif(missing_compiler("cpu") is not None, reason="there is no C++ compiler")
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 3e-2}


def values(read: Any, dtype: torch.dtype, *, entropy: bool, frozen: bool = False, rows: int = 23) -> list[torch.Tensor]:
    """Return log-probabilities, entropies and the gradients of hidden states and weight, of a mix in which every row counts."""
    draw = torch.Generator().manual_seed(rows)
    hidden_NH = torch.randn(rows, 16, generator=draw).to(dtype).requires_grad_()
    weight_VH = torch.randn(50, 16, generator=draw).to(dtype).requires_grad_(not frozen)
    target_N = torch.randint(0, 50, (rows,), generator=draw)
    factor_N = torch.randn(rows, generator=draw).to(torch.promote_types(dtype, torch.float32))
    logprobs_N, entropy_N = read(hidden_NH, weight_VH, target_N, entropy)
    total = (factor_N * logprobs_N).sum() + ((factor_N.flip(0) * entropy_N).sum() if entropy else 0.0)
    total.backward()
    found = [logprobs_N.detach(), entropy_N.detach(), hidden_NH.grad, weight_VH.grad]
    assert frozen == (weight_VH.grad is None)
    return [item for item in found if item is not None]


def plain(hidden_NH: torch.Tensor, weight_VH: torch.Tensor, target_N: torch.Tensor, entropy: bool) -> Any:
    head = torch.nn.Linear(*weight_VH.shape[::-1], bias=False, dtype=weight_VH.dtype)
    del head.weight
    head.weight = weight_VH  # pyright: ignore[reportAttributeAccessIssue]
    return PLAIN._tiled(head, hidden_NH, target_N, entropy)


def fast(rows: int, *, compiled: bool = False) -> Any:
    def read(hidden_NH: torch.Tensor, weight_VH: torch.Tensor, target_N: torch.Tensor, entropy: bool) -> Any:
        return read_targets(hidden_NH, weight_VH, target_N, entropy=entropy, rows=rows, compiled=compiled)

    return read


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 7, 100])
@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_head_equals_its_plain_twin(dtype: torch.dtype, rows: int, entropy: bool, frozen: bool) -> None:
    found = values(fast(rows), dtype, entropy=entropy, frozen=frozen)
    expected = values(plain, dtype, entropy=entropy, frozen=frozen)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype or not other.numel()
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        torch.testing.assert_close(one / scale, other / scale, atol=TOLERANCE[dtype], rtol=0, check_dtype=other.numel() > 0)


def test_the_head_of_no_rows_has_gradients_of_zero() -> None:
    _, _, hidden_gradient, weight_gradient = values(fast(7), torch.float32, entropy=True, rows=0)
    assert hidden_gradient.shape == (0, 16) and not weight_gradient.any()


@NEEDS_COMPILER
@QUIET_COMPILER
def test_the_compiled_head_equals_the_eager_one() -> None:
    for entropy in (False, True):
        found = values(fast(9, compiled=True), torch.float32, entropy=entropy)
        for one, other in zip(found, values(fast(9), torch.float32, entropy=entropy), strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)


def test_a_trunk_without_a_list_of_layers_is_left_as_it_is() -> None:
    assert compile_layers(torch.nn.Linear(2, 2)) == 0


@NEEDS_COMPILER
@QUIET_COMPILER
def test_compiled_layers_train_like_eager_ones(tmp_path: Path) -> None:
    """A trajectory of five steps over rows of several lengths, and then generation's way through the same layers, without gradients."""
    eager = load_stub(tmp_path)
    compiled = Model(
        copy.deepcopy(eager.network),
        eager.tokenizer,
        eager.found,
        replace(eager.target, compiled=True),
        eager.head,
        eager.documents,
    )
    assert compile_layers(compiled.trunk()) == 2
    assert dict(compiled.network.named_parameters()).keys() == dict(eager.network.named_parameters()).keys()
    batches = cut(eight_sequences(eager), 200)
    assert len({batch.layout.input_ids_BT.shape for batch in batches}) > 1
    losses = []
    for model in (eager, compiled):
        model.network.requires_grad_(True)
        losses.append([sum(step.losses.values()) for step in run_steps(model, batches, steps=5)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] != pytest.approx(losses[0][-1], rel=1e-4), "nothing was learned, so the comparison says nothing"
    ids_BT = torch.arange(12)[None]
    with torch.no_grad():
        one, other = (model.network(input_ids=ids_BT).logits for model in (eager, compiled))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
