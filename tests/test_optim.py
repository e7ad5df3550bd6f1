"""The learning rate of a step is a pure function of its number; the optimizer decays what should decay."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish import checkpoint
from burnish.optim import Schedule, make_optimizer

Kind = Literal["cosine", "linear", "constant"]
KINDS: tuple[Kind, ...] = get_args(Kind)
kinds = st.sampled_from(KINDS)


@given(kinds, st.integers(1, 500), st.integers(0, 600), st.floats(1e-6, 1.0))
def test_rates_stay_between_nothing_and_the_peak(kind: Kind, steps: int, warmup: int, peak: float) -> None:
    rates = [Schedule(peak, steps, warmup, kind)(step) for step in range(steps)]
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates), "a step with no learning rate trains nothing"


@given(kinds, st.integers(2, 300), st.integers(0, 300))
def test_up_once_then_never_up_again(kind: Kind, steps: int, warmup: int) -> None:
    schedule = Schedule(1.0, steps, warmup, kind)
    rates = [schedule(step) for step in range(steps)]
    rising, falling = rates[:warmup], rates[warmup:]
    assert all(a < b for a, b in itertools.pairwise(rising))
    assert all(a >= b for a, b in itertools.pairwise(falling))
    assert warmup == 0 or warmup > steps or rising[-1] == 1.0
    assert warmup >= steps or falling[0] == 1.0


def test_warm_up_is_linear_and_its_first_step_is_not_lost() -> None:
    schedule = Schedule(0.8, 100, 4)
    assert [schedule(step) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_shapes_against_their_formulas() -> None:
    """Cosine: Loshchilov and Hutter 2016, equation 5, from the peak to a tenth of it; linear: a straight line to the same end."""
    cosine, linear = Schedule(2.0, 110, 10), Schedule(2.0, 110, 10, "linear")
    for step in range(10, 110):
        share = (step - 10) / 100
        assert cosine(step) == pytest.approx(0.2 + 1.8 * (1 + math.cos(math.pi * share)) / 2)
        assert linear(step) == pytest.approx(0.2 + 1.8 * (1 - share))
    assert {Schedule(2.0, 110, 10, "constant")(step) for step in range(10, 110)} == {2.0}
    assert cosine(10_000) == pytest.approx(0.2), "past the end it stays at the floor"


def test_a_constant_schedule_does_not_know_its_end() -> None:
    """That is why train.steps may change on resume under it, and only under it."""
    short, long = (Schedule(1.0, steps, 3, "constant") for steps in (10, 1000))
    assert [short(step) for step in range(10)] == [long(step) for step in range(10)]
    assert Schedule(1.0, 10, 3)(6) != Schedule(1.0, 1000, 3)(6)


@given(st.integers(0, 200), kinds)
def test_the_rate_needs_no_history(step: int, kind: Kind) -> None:
    """Resume purity (pain 16): asked for in any order, any number of times, after a restart, a step has one rate."""
    first, second = Schedule(0.1, 200, 20, kind), Schedule(0.1, 200, 20, kind)
    for earlier in range(step):
        first(earlier)
    assert first(step) == second(step) == first(step)


# ------------------------------------------------------------------------------------------------------------------------- optimizer


def parameters() -> dict[str, torch.nn.Parameter]:
    torch.manual_seed(0)
    shapes = {"layers.0.q_proj.weight": (4, 3), "norm.weight": (3,), "mixer.weight": (2, 2, 2), "embed_tokens.weight": (5, 3)}
    return {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}


NAMES = ("adamw", "adamw8bit", "muon")


@pytest.mark.parametrize("name", NAMES)
def test_matrices_decay_and_vectors_do_not(name: Any) -> None:
    """With no gradient but decay, one step multiplies a matrix by 1 - rate * decay and leaves norms and biases alone."""
    moving = parameters()
    before = [parameter.detach().clone() for parameter in moving.values()]
    optimizer = make_optimizer(moving, name=name, weight_decay=0.5)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for parameter in moving.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for old, new in zip(before, moving.values(), strict=True):
        torch.testing.assert_close(new.detach(), old * (0.95 if old.ndim > 1 else 1.0))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_it_once(name: Any) -> None:
    moving = parameters()
    held = [parameter for group in make_optimizer(moving, name=name).param_groups for parameter in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, moving.values()))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_moves_before_the_loop_sets_a_rate(name: Any) -> None:
    moving = parameters()
    before = [parameter.detach().clone() for parameter in moving.values()]
    optimizer = make_optimizer(moving, name=name, weight_decay=0.1)
    for parameter in moving.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(before, moving.values(), strict=True))


def test_one_step_equals_the_formula() -> None:
    """AdamW's first step, bias-corrected, is the sign of the gradient times the rate (Loshchilov and Hutter 2017, algorithm 2)."""
    moving = parameters()
    before = [parameter.detach().clone() for parameter in moving.values()]
    optimizer = make_optimizer(moving)
    gradients = [torch.randn_like(parameter) for parameter in moving.values()]
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    for parameter, gradient in zip(moving.values(), gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()
    for old, new, gradient in zip(before, moving.values(), gradients, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.01 * gradient.sign(), atol=1e-6, rtol=1e-5)


def test_the_second_moment_decays_as_asked() -> None:
    """train.beta2 reaches the optimizer: after a gradient of 1 the second moment is 1 - beta2."""
    moving = parameters()
    optimizer = make_optimizer(moving, beta2=0.75)
    for parameter in moving.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(torch.allclose(optimizer.state[parameter]["exp_avg_sq"], torch.tensor(0.25)) for parameter in moving.values())


def test_muon_turns_hidden_matrices_into_orthogonal_steps_and_leaves_the_rest_to_adamw() -> None:
    """Its first step on a matrix has singular values near 1 (the iteration of five ends between 0.5 and 1.5) times AdamW's usual size."""
    moving = {"layers.0.up_proj.weight": torch.nn.Parameter(torch.randn(24, 16)), **parameters()}
    before = {name: parameter.detach().clone() for name, parameter in moving.items()}
    optimizer = make_optimizer(moving, name="muon")
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    for parameter in moving.values():
        parameter.grad = torch.randn_like(parameter)
    gradients = {name: parameter.grad.clone() for name, parameter in moving.items() if parameter.grad is not None}
    optimizer.step()
    step = (before["layers.0.up_proj.weight"] - moving["layers.0.up_proj.weight"].detach()) / (0.01 * 0.2 * 24**0.5)
    singular = torch.linalg.svdvals(step)
    assert singular.min() > 0.4 and singular.max() < 1.6
    for name in ("norm.weight", "embed_tokens.weight", "mixer.weight"):
        expected = before[name] - 0.01 * gradients[name].sign()
        torch.testing.assert_close(moving[name].detach(), expected, atol=1e-6, rtol=1e-5)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in moving.values())


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_goes_on_bit_for_bit_from_what_a_checkpoint_holds(name: Any) -> None:
    def steps(optimizer: Any, moving: dict[str, torch.nn.Parameter], first: int, last: int) -> None:
        for number in range(first, last):
            generator = torch.Generator().manual_seed(number)
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            for parameter in moving.values():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()

    whole, halved, taken_up = parameters(), parameters(), parameters()
    steps(make_optimizer(whole, name=name), whole, 0, 6)
    first = make_optimizer(halved, name=name)
    steps(first, halved, 0, 3)
    tensors, groups = checkpoint.optimizer_tensors(first, halved)
    for key, parameter in taken_up.items():
        parameter.data.copy_(halved[key].data)
    second = make_optimizer(taken_up, name=name)
    checkpoint.load_optimizer(second, {key: tensor.clone() for key, tensor in tensors.items()}, taken_up, groups)
    steps(second, taken_up, 3, 6)
    assert all(torch.equal(whole[key], taken_up[key]) for key in whole)
