"""The quick pieces of `models/fast` beside their plain twins: the same values and the same gradients."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.devices import missing_compiler
from burnish.models import compile_layers, load_model
from burnish.models.fast import read_targets
from burnish.models.fast.attention import attention
from loop import cut, eight_sequences
from loop import run as run_steps
from stub import cpu, load_stub

PLAIN = sys.modules["burnish.models.forward"]
FAST_ATTENTION = sys.modules["burnish.models.fast.attention"]
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


def fast(rows: int) -> Any:
    def read(hidden_NH: torch.Tensor, weight_VH: torch.Tensor, target_N: torch.Tensor, entropy: bool) -> Any:
        return read_targets(hidden_NH, weight_VH, target_N, entropy=entropy, rows=rows)

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


def test_a_trunk_without_a_list_of_layers_is_left_as_it_is() -> None:
    assert compile_layers(torch.nn.Linear(2, 2)) == 0


@NEEDS_COMPILER
@QUIET_COMPILER
def test_compiled_layers_train_like_eager_ones(tmp_path: Path) -> None:
    """A trajectory of five steps over rows of several lengths, and then generation's way through the same layers, without gradients."""
    eager = load_stub(tmp_path)
    compiled = load_model(str(tmp_path / "stub"), replace(cpu(), compiled=True))
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


# --------------------------------------------------------------------------------------------------------------- attention, short rows


def attended(attend: Any, *, causal: bool, dtype: torch.dtype, heads: int, shared: int, length: int, scaling: float | None) -> Any:
    """Return what a layer's attention gives and the gradients of queries, keys and values, of a mix in which every number counts."""
    draw = torch.Generator().manual_seed(length)
    parts = [torch.randn(3, count, length, 16, generator=draw).to(dtype).requires_grad_() for count in (heads, shared, shared)]
    module = torch.nn.Module()
    vars(module).update(is_causal=causal, num_key_value_groups=heads // shared)
    found, weights = attend(module, *parts, None, scaling=scaling)
    assert weights is None and found.shape == (3, length, heads, 16) and found.dtype == dtype
    (found.float() * torch.randn(found.shape, generator=draw)).sum().backward()
    return [found.detach(), *(part.grad for part in parts)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("heads", "shared", "length", "scaling"), [(4, 4, 1, None), (4, 2, 7, None), (6, 1, 33, 0.3), (2, 2, 64, 1.0)]
)
def test_attention_over_short_rows_equals_the_ecosystems(
    causal: bool, dtype: torch.dtype, heads: int, shared: int, length: int, scaling: float | None
) -> None:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    options: dict[str, Any] = {
        "heads": heads,
        "shared": shared,
        "length": length,
        "scaling": scaling,
        "causal": causal,
        "dtype": dtype,
    }
    for one, other in zip(attended(attention, **options), attended(sdpa_attention_forward, **options), strict=True):
        scale = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(one / scale, other / scale, atol=TOLERANCE[dtype], rtol=0)


def test_only_whole_rows_without_extras_leave_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(FAST_ATTENTION, "attend", lambda query, *_, **__: taken.append(query.shape[1]) or query)
    module = torch.nn.Module()

    def call(length: int, keys: int | None = None, mask: Any = None, learned: bool = True, **options: Any) -> None:
        query, key = torch.randn(1, 2, length, 64), torch.randn(1, 2, keys or length, 64)
        with torch.set_grad_enabled(learned):
            attention(module, query, key, key, mask, **options)

    call(300)
    assert taken == [300]
    call(1, keys=9)
    call(8, mask=torch.ones(1, 1, 8, 8, dtype=torch.bool))
    call(8, learned=False)
    with FAST_ATTENTION.attend_as_in_training():
        call(8, learned=False)
    assert taken.pop() == 8
    call(8, dropout=0.1)
    call(8, position_bias=torch.zeros(1, 2, 8, 8))
    assert taken == [300]


def test_a_loaded_model_uses_it_and_saves_no_trace_of_it(tmp_path: Path) -> None:
    model = load_stub(tmp_path / "stub")
    assert model.plain().config._attn_implementation == FAST_ATTENTION.NAME
    model.plain().save_pretrained(tmp_path / "saved")
    assert FAST_ATTENTION.NAME not in (tmp_path / "saved" / "config.json").read_text()
    other = type(model.plain()).from_pretrained(tmp_path / "saved")
    ids = torch.arange(4, 24)[None]
    with torch.no_grad():
        torch.testing.assert_close(model.plain()(ids).logits, other(ids).logits, atol=1e-5, rtol=1e-5)
