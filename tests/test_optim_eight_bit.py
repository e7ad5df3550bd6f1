"""AdamW with averages of one byte: a quarter of the memory, the course of AdamW, and exact resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from burnish import checkpoint
from burnish.optim import make_optimizer
from burnish.optim_eight_bit import BLOCK, CHUNK, EightBitAdamW, decoded, decoded_signed, encoded, encoded_signed
from loop import cut, eight_sequences, run, snapshot
from stub import load_stub


def shares(seed: int, *, power: float) -> torch.Tensor:
    """Return numbers from 0 to 1 over many orders of magnitude, the largest of each block 1, as the averages are scaled."""
    share_GK = torch.rand(64, BLOCK, generator=torch.Generator().manual_seed(seed)) ** power
    return share_GK / share_GK.amax(1, keepdim=True)


def dither(seed: int) -> torch.Tensor:
    return torch.randint(2**20, (64, BLOCK), dtype=torch.int32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("power", [1.0, 8.0])
def test_a_code_is_one_of_the_two_numbers_beside_and_right_on_average(power: float) -> None:
    """Rounded up or down in proportion: within an eighth each time, and without a bias that an average would add up."""
    share_GK = shares(1, power=power)
    sign_GK = torch.randn(64, BLOCK, generator=torch.Generator().manual_seed(2)).sign()
    above_GK = share_GK > 2.0**-31
    sums = torch.zeros(2, 64, BLOCK)
    for seed in range(300):
        unsigned_GK = decoded(encoded(share_GK, dither(seed)))
        signed_GK = decoded_signed(encoded_signed(share_GK * sign_GK, dither(seed)))
        assert bool(((unsigned_GK - share_GK).abs() <= 0.125 * share_GK)[above_GK].all())
        assert bool(((signed_GK - share_GK * sign_GK).abs() <= 0.125 * share_GK + 2.0**-18).all())
        sums += torch.stack([unsigned_GK, signed_GK * sign_GK])
    for mean_GK in sums / 300:
        # The error of a mean of 300 draws from a step of an eighth: below five of its standard deviations everywhere.
        assert bool(((mean_GK - share_GK).abs() <= 5 * 0.0625 * share_GK / 300**0.5 + 2.0**-18)[above_GK].all())


def test_nothing_stays_nothing_and_a_second_average_is_never_nothing() -> None:
    """Rows of an embedding that were not seen must not drift; a small second average under a first one must not divide by zero."""
    nothing_GK = torch.zeros(64, BLOCK)
    assert not decoded_signed(encoded_signed(nothing_GK, dither(0))).any()
    assert bool((decoded(encoded(nothing_GK, dither(0))) > 0).all())


def parameters(*shapes: tuple[int, ...], seed: int = 0) -> dict[str, torch.nn.Parameter]:
    draw = torch.Generator().manual_seed(seed)
    return {f"layer.{number}": torch.nn.Parameter(torch.randn(shape, generator=draw)) for number, shape in enumerate(shapes)}


def steps(optimizer: Any, moving: dict[str, torch.nn.Parameter], first: int, last: int, *, rate: float = 1e-2) -> None:
    """Take steps by gradients that follow from the number of the step and the values."""
    for number in range(first, last):
        draw = torch.Generator().manual_seed(number)
        for group in optimizer.param_groups:
            group["lr"] = rate
        for parameter in moving.values():
            parameter.grad = 0.1 * parameter.detach() + torch.randn(parameter.shape, generator=draw)
        optimizer.step()


SHAPES = ((100, 70), (300, 300), (5000,), (64,))
"""More and less than a chunk, blocks that are not full, a long vector, and one that is left to AdamW."""


def test_its_states_take_a_quarter_of_adamws() -> None:
    held = {}
    for name in ("adamw", "adamw8bit"):
        moving = parameters((512, 512), (128, 512))
        optimizer = make_optimizer(moving, name=name)
        steps(optimizer, moving, 0, 1)
        held[name] = sum(tensor.nbytes for state in optimizer.state.values() for tensor in state.values())
    assert held["adamw8bit"] < 0.26 * held["adamw"]


def test_small_parameters_keep_their_averages_in_float32() -> None:
    moving = parameters(*SHAPES)
    optimizer = make_optimizer(moving, name="adamw8bit")
    steps(optimizer, moving, 0, 1)
    kinds = {name: optimizer.state[parameter]["exp_avg"].dtype for name, parameter in moving.items()}
    assert kinds == {"layer.0": torch.int8, "layer.1": torch.int8, "layer.2": torch.int8, "layer.3": torch.float32}


def test_the_first_step_is_adamws() -> None:
    """A step is made of the averages before they are rounded, so the first one differs by nothing but the order of operations."""
    ours, theirs = parameters(*SHAPES), parameters(*SHAPES)
    for name, moving in (("adamw8bit", ours), ("adamw", theirs)):
        steps(make_optimizer(moving, name=name, weight_decay=0.1), moving, 0, 1)  # pyright: ignore[reportArgumentType]
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-7)


def test_many_steps_stay_beside_adamws() -> None:
    """Noise does not add up: after 400 steps of gradients that are mostly noise, the distance from AdamW is a small part of the way."""
    began, ours, theirs = (parameters((100, 70)) for _ in range(3))
    steps(make_optimizer(ours, name="adamw8bit"), ours, 0, 400, rate=3e-3)
    steps(make_optimizer(theirs), theirs, 0, 400, rate=3e-3)
    way = (theirs["layer.0"] - began["layer.0"]).norm()
    assert (ours["layer.0"] - theirs["layer.0"]).norm() < 0.1 * way


def test_a_slow_average_follows_gradients_that_become_smaller() -> None:
    """Rounded to the nearest code, a thousandth of change per step would never change it: half of a block would stand still."""
    moving = {"w": torch.nn.Parameter(torch.zeros(2 * BLOCK, 16))}
    optimizer: Any = EightBitAdamW([{"params": [moving["w"]], "weight_decay": 0.0, "rate_factor": 1.0}], betas=(0.9, 0.999))
    small = torch.ones_like(moving["w"])
    for number in range(1200):
        small[::2] = 1.0 if number < 200 else 0.1
        moving["w"].grad = small.clone()
        optimizer.step()
    state = optimizer.state[moving["w"]]
    second = decoded(state["exp_avg_sq"]).view(-1, BLOCK) * state["exp_avg_sq_scale"][:, None]
    first_part = 1 - 0.999**200
    expected = (first_part * 0.999**1000) + 0.01 * (1 - 0.999**1000)
    assert second.view(2 * BLOCK, 16)[::2].mean().item() == pytest.approx(expected, rel=0.05)


def test_a_factor_of_the_rate_is_kept() -> None:
    moving = parameters((100, 70))
    moving["layer.0"].rate_factor = 4.0  # pyright: ignore[reportAttributeAccessIssue]
    before = moving["layer.0"].detach().clone()
    steps(make_optimizer(moving, name="adamw8bit"), moving, 0, 1, rate=1e-2)
    assert float((moving["layer.0"].detach() - before).abs().max()) == pytest.approx(4e-2, rel=1e-3)


def test_it_goes_on_bit_for_bit_from_a_file(tmp_path: Path) -> None:
    whole, halved, taken_up = (parameters(*SHAPES) for _ in range(3))
    assert whole["layer.1"].numel() > CHUNK["cpu"]
    steps(make_optimizer(whole, name="adamw8bit"), whole, 0, 6)
    first = make_optimizer(halved, name="adamw8bit")
    steps(first, halved, 0, 3)
    tensors, groups = checkpoint.optimizer_tensors(first, halved)
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, tmp_path / "state.safetensors")
    for key, parameter in taken_up.items():
        parameter.data.copy_(halved[key].data)
    second = make_optimizer(taken_up, name="adamw8bit")
    checkpoint.load_optimizer(second, load_file(tmp_path / "state.safetensors"), taken_up, groups)
    steps(second, taken_up, 3, 6)
    assert all(torch.equal(whole[key], taken_up[key]) for key in whole)


def test_the_losses_of_a_run_are_adamws_within_a_percent(tmp_path: Path) -> None:
    """Forty steps of full tuning of the stub, from the same weights, by either optimizer."""
    found = {}
    for name in ("adamw", "adamw8bit"):
        model = load_stub(tmp_path / name)
        model.network.requires_grad_(True)
        before = snapshot(model)
        moving = {key: parameter for key, parameter in model.network.named_parameters() if parameter.requires_grad}
        taken = run(model, cut(eight_sequences(model), 400), steps=40, rate=1e-3, optimizer=make_optimizer(moving, name=name))  # pyright: ignore[reportArgumentType]
        found[name] = [step.losses["nll"] for step in taken]
        assert any(not torch.equal(before[key], parameter) for key, parameter in moving.items())
    assert found["adamw"][-1] < 0.5 * found["adamw"][0]
    assert found["adamw8bit"] == pytest.approx(found["adamw"], rel=0.01)
