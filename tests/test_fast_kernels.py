"""The loops of `kernels.cpp` beside their plain twins in torch, and the differentiable steps that are made of them beside autograd."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.models import can_compile
from burnish.models.fast import kernels
from burnish.models.fast import kernels_plain as twins
from burnish.models.fast.linear import Part, project
from burnish.models.fast.one_token import Places, attend_one
from burnish.models.fast.products import together
from burnish.models.fast.rows import gate, normalise

NEEDS_LOOPS = pytest.mark.skipif(can_compile() is not None, reason="the loops cannot be compiled here")
TYPES = [torch.float32, torch.bfloat16]
DRAW = torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def loops() -> Iterator[None]:
    kernels.choose(can_compile() is None)
    yield
    kernels.choose(False)


def drawn(*shape: int, dtype: Any = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=DRAW).to(dtype)


def same(found: Any, expected: Any, *, rounding: int = 1) -> None:
    """Hold tensors to each other, up to `rounding` steps of their type at the greatest number."""
    for one, other in zip(found, expected, strict=True):
        if one is None or other is None or not other.numel():
            assert (one is None) == (other is None)
            continue
        assert one.dtype == other.dtype and one.shape == other.shape
        step = torch.finfo(one.dtype).eps * float(other.abs().max()) * (16 if one.dtype == torch.float32 else 1)
        torch.testing.assert_close(one.float(), other.float(), atol=rounding * step, rtol=0)


@NEEDS_LOOPS
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [7, 64])
def test_norms(dtype: torch.dtype, width: int) -> None:
    x_NH, weight_H, gradient_NH = drawn(5, width), drawn(width), drawn(5, width, dtype=dtype)
    for kind in {dtype, torch.float32}:
        x = x_NH.to(kind)
        (found, scale_N), expected = kernels.norm_forward(x, weight_H, 1e-6, dtype), twins.norm_forward(x, weight_H, 1e-6, dtype)
        same((found, scale_N), expected)
        same([kernels.norm_again(x, weight_H, scale_N, dtype)], [found])
        for moves in (True, False):
            given = (gradient_NH, x, weight_H, scale_N, moves)
            same(kernels.norm_backward(*given), twins.norm_backward(*given))


@NEEDS_LOOPS
def test_another_threads_default_number_format_changes_nothing() -> None:
    """Loading a model elsewhere in the process sets torch's default to bfloat16 for a while: room for numbers must not shrink with it."""
    states, weight = drawn(5, 64, dtype=torch.bfloat16), drawn(64)
    expected = kernels.norm_forward(states, weight, 1e-6, torch.bfloat16)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = kernels.norm_forward(states, weight, 1e-6, torch.bfloat16)
        source = Path(kernels.__file__).read_text(encoding="utf-8")
    finally:
        torch.set_default_dtype(torch.float32)
    assert found[1].dtype == torch.float32
    same(found, expected)
    made = re.findall(r"torch\.(?:empty|zeros)\((.*)", source)
    assert made and all("dtype=" in one for one in made), "a tensor whose address is handed over names its number format"


@NEEDS_LOOPS
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["silu", "gelu"])
def test_gates(dtype: torch.dtype, kind: str) -> None:
    both_NH, gradient_NH = 4 * drawn(6, 2 * 19, dtype=dtype), drawn(6, 19, dtype=dtype)
    both_NH[0, :3] = torch.tensor([-100.0, 100.0, 0.0])  # where the exponential ends
    for pair in (both_NH.chunk(2, -1), [one.contiguous() for one in both_NH.chunk(2, -1)]):
        same([kernels.gate_forward(kind, *pair)], [twins.gate_forward(kind, *pair)])
        same(kernels.gate_backward(kind, gradient_NH, *pair), twins.gate_backward(kind, gradient_NH, *pair))


@NEEDS_LOOPS
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("turned", [0, 4, 8])
def test_heads_are_put_in_order_and_turned(dtype: torch.dtype, turned: int) -> None:
    x_BTH = drawn(2, 5, 3 * 2 * 8, dtype=dtype)
    turn = (drawn(2, 5, turned), drawn(2, 5, turned)) if turned else None
    found, expected = kernels.heads_forward(x_BTH, turn, 3, 8), twins.heads_forward(x_BTH, turn, 3, 8)
    same([found], [expected])
    same([kernels.heads_backward(found, turn)], [twins.heads_backward(found, turn)])


@NEEDS_LOOPS
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("first", "keys"), [(0, 4), (5, 9), (30, 34)])
def test_weights_of_attention(dtype: torch.dtype, causal: bool, first: int, keys: int) -> None:
    scores, above = 5 * drawn(2, 4 * 3, keys, dtype=dtype), drawn(2, 4 * 3, keys, dtype=dtype)
    given: Any = (first, 3, causal, 0.3)
    one, other = scores.clone(), scores.clone()
    normaliser = kernels.weights_forward(one, *given)
    same([normaliser, one], [twins.weights_forward(other, *given), other])
    mine, theirs = [scores.clone(), above.clone()], [scores.clone(), above.clone()]
    kernels.weights_backward(*mine, normaliser, *given)
    twins.weights_backward(*theirs, normaliser, *given)
    same(mine, theirs)


@NEEDS_LOOPS
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("entropy", [False, True])
def test_the_head(dtype: torch.dtype, entropy: bool) -> None:
    logits_NV, target_N, above_N = 6 * drawn(4, 2100, dtype=dtype), torch.tensor([0, 7, 2099, 7]), drawn(4)
    found = kernels.head_forward(logits_NV, target_N, entropy)
    same(found, twins.head_forward(logits_NV, target_N, entropy), rounding=8)
    pair = (found[2], drawn(4)) if entropy else None
    for above in (above_N, None):
        one, other = logits_NV.clone(), logits_NV.clone()
        kernels.head_backward(one, target_N, found[1], above, pair)
        twins.head_backward(other, target_N, found[1], above, pair)
        same([one], [other], rounding=2)


@NEEDS_LOOPS
def test_what_is_not_a_number_stays_so() -> None:
    x = torch.full((2, 32), torch.nan, dtype=torch.bfloat16)
    assert kernels.norm_forward(x, torch.ones(32), 1e-6, torch.bfloat16)[0].isnan().all()
    assert kernels.gate_forward("silu", x, torch.ones_like(x)).isnan().all()
    kernels.weights_forward(scores := x[None].clone(), 31, 1, True, 1.0)
    assert scores.isnan().all()
    assert kernels.head_forward(x, torch.tensor([0, 1]), False)[0].isnan().all()


def test_loops_that_cannot_be_compiled_are_said_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in str(can_compile())
    kernels.choose(False)
    x = drawn(3, 8)
    same(kernels.norm_forward(x, torch.ones(8), 1e-6, x.dtype), twins.norm_forward(x, torch.ones(8), 1e-6, x.dtype))


# --------------------------------------------------------------------------------------------------------------- differentiable steps


def gradients(function: Any, tensors: list[Any]) -> list[Any]:
    """Return what a function gives and the gradients of all tensors that take one, of a mix in which every number counts."""
    leaves = [one.detach().clone().requires_grad_(one.requires_grad) for one in tensors]
    outputs = function(*leaves)
    draw = torch.Generator().manual_seed(1)
    total = torch.stack([(one.double() * torch.randn(one.shape, generator=draw)).sum() for one in outputs]).sum()
    moving = [one for one in leaves if one.requires_grad]
    return [*(one.detach() for one in outputs), *torch.autograd.grad(total, moving)]


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("input_moves", [False, True])
def test_linear_layers_on_one_input_equal_autograd(moves: bool, turned: bool, input_moves: bool) -> None:
    """Layers with and without adapter and bias, behind a norm that is computed again."""
    shapes = [(6, 4), (3, 0), (5, 2)]
    tensors = [drawn(2, 3, 8).requires_grad_(input_moves), drawn(8).requires_grad_(moves)]
    for out, rank in shapes:
        tensors += [drawn(*((8, out) if turned else (out, 8))).requires_grad_(moves), drawn(out).requires_grad_(moves)]
        tensors += [drawn(rank, 8).requires_grad_(), drawn(out, rank).requires_grad_()] if rank else []

    def read(tensors: Any) -> list[tuple[Any, ...]]:
        rest = list(tensors)
        return [(*(rest.pop(0) for _ in range(4 if rank else 2)),) for _, rank in shapes]

    def quick(x: Any, weight: Any, *tensors: Any) -> Any:
        fours = [(*one, None, None)[:4] for one in read(tensors)]
        parts = [Part(w, bias, turned, a, b, 0.7) for w, bias, a, b in fours]
        return project(normalise(x, weight, 1e-6, more=1.0), parts)

    def plain(x: Any, weight: Any, *tensors: Any) -> Any:
        n = torch.nn.functional.rms_norm(x, (8,), weight + 1, 1e-6)
        found = []
        for w, bias, *adapter in read(tensors):
            y = n @ (w if turned else w.t()) + bias
            found.append(y + 0.7 * n @ adapter[0].t() @ adapter[1].t() if adapter else y)
        return found

    for one, other in zip(gradients(quick, tensors), gradients(plain, tensors), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_a_gate_is_computed_again_for_the_layer_behind_it() -> None:
    tensors = [drawn(4, 6).requires_grad_(), drawn(4, 6).requires_grad_(), drawn(3, 6).requires_grad_()]

    def plain(a: Any, b: Any, weight: Any) -> Any:
        return [(torch.nn.functional.silu(a) * b) @ weight.t()]

    found = gradients(lambda a, b, weight: project(gate("silu", a, b), [Part(weight, None)]), tensors)
    for one, other in zip(found, gradients(plain, tensors), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_an_input_that_no_gradient_needs_is_not_kept() -> None:
    x, weight = drawn(4, 6).requires_grad_(), drawn(3, 6)
    (y,) = project(x, [Part(weight, None)])
    node: Any = y.grad_fn
    kept = [one for one in node.saved_tensors if one is not None]
    assert [one.data_ptr() for one in kept] == [weight.data_ptr()]


# ---------------------------------------------------------------------------------------------------------------- one token for each row


@NEEDS_LOOPS
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("shared", "group", "width"), [(1, 1, 6), (2, 3, 8), (3, 3, 64), (1, 7, 16), (2, 5, 128)])
def test_attention_of_one_token(dtype: torch.dtype, shared: int, group: int, width: int) -> None:
    """The loops mix what torch's attention mixes and leave the same slots, wherever each row stands; parts may be views of one product."""
    rows, columns = 6, 80
    column_B = torch.tensor([0, 1, 15, 16, 17, 79])
    whole = drawn(rows, shared * (group + 2) * width, dtype=dtype)
    split = whole.split([shared * group * width, shared * width, shared * width], dim=-1)
    query, key, value = (part.view(rows, -1, width) for part in split)
    turn = (drawn(rows, 1, width, dtype=dtype), drawn(rows, 1, width, dtype=dtype))
    slots = [drawn(rows + 1, shared, columns, width, dtype=dtype) for _ in range(2)]
    found = {}
    for compiled in (True, False):
        kernels.choose(compiled)
        past = (slots[0].clone(), slots[1].clone())
        mixed = attend_one((query, key, value), past, Places(column_B, turn, 80, dtype), 0.3)
        found[compiled] = (mixed, *past)
    assert not torch.equal(found[True][1], slots[0]) and torch.equal(found[True][1][-1], slots[0][-1]), (
        "only rows of the step are written"
    )
    same(found[True], found[False], rounding=4 if dtype == torch.bfloat16 else 1)


@NEEDS_LOOPS
def test_a_rows_mix_does_not_depend_on_the_others() -> None:
    parts = [drawn(5, heads, 16) for heads in (4, 2, 2)]
    turn, past = (drawn(5, 1, 16), drawn(5, 1, 16)), (drawn(5, 2, 40, 16), drawn(5, 2, 40, 16))
    column_B = torch.tensor([3, 39, 20, 0, 7])
    whole = attend_one(
        (parts[0], parts[1], parts[2]), (past[0].clone(), past[1].clone()), Places(column_B, turn, 40, torch.float32), 0.25
    )
    for row in range(5):
        one = slice(row, row + 1)
        places = Places(column_B[one], (turn[0][one], turn[1][one]), int(column_B[row]) + 1, torch.float32)
        alone = attend_one(
            (parts[0][one], parts[1][one], parts[2][one]), (past[0][one].clone(), past[1][one].clone()), places, 0.25
        )
        assert torch.equal(alone[0], whole[row])


@pytest.mark.parametrize("adapted", ["all", "none", "some"])
def test_products_together_are_products_apart(adapted: str) -> None:
    """Layers that read the same rows, with low-rank adapters on all, none or some of them."""
    from peft import LoraConfig, get_peft_model

    class Three(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (torch.nn.Linear(32, width, bias=False) for width in (48, 16, 16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) + self.b(x).sum() + self.c(x).sum()

    network: Any = Three()
    if adapted != "none":
        names = ["a", "b", "c"] if adapted == "all" else ["b"]
        network = get_peft_model(network, LoraConfig(r=4, target_modules=names, init_lora_weights=False)).base_model.model
    modules, x_BH = [network.a, network.b, network.c], drawn(5, 32)
    with torch.inference_mode():
        for pack in (0, 4):
            for one, module in zip(together(modules, pack)(x_BH), modules, strict=True):
                torch.testing.assert_close(one, module(x_BH), atol=1e-5, rtol=1e-5)
