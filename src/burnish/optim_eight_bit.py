"""AdamW whose two averages take one byte each: a quarter of the memory of its states, the same course within noise.

Enters: parameters in groups, as torch's optimizers take them. Leaves: an optimizer for the loop (`optim.Optimizer`) whose state is plain
tensors, so that a checkpoint holds it as it is. The averages are kept in blocks of 256 numbers, each as a small floating-point number
(3 bits of fraction) relative to the largest of its block.

Block-wise 8-bit states: Dettmers et al. 2021, arXiv 2110.02861. Two things differ. The codes are cut out of the bits of a float32, which takes
a few passes over numbers in the cache where a table takes a search. And they are rounded up or down at random, in proportion: the second
average changes by a thousandth per step, which the nearest code would swallow, so that it would never move again.

Why not a library: on a CPU, where most runs here happen, bitsandbytes 0.50 took seven times as long for a step, and torchao 0.18 four times,
after a minute of compiling; torchao's states are tensor subclasses, which no safetensors file holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BLOCK = 256
"""Numbers that share a scale."""
SMALLEST = 4096
"""Elements below which a parameter's averages stay in float32: they take no room, and norms and biases are sensitive."""
CHUNK = {"cpu": 2**15, "cuda": 2**22}
"""Elements handled at once: what a core's cache holds, or what fills a GPU; nothing larger is ever held in float32."""

CUT = 20
"""Bits of a float32's fraction that are dropped: 3 of 23 stay."""
ONE = 127 << (23 - CUT)
"""What is left of the bits of 1.0."""


def is_large(parameter: torch.Tensor) -> bool:
    """Return whether a parameter's averages are worth keeping in 8 bits, and it lies in one piece that can be cut."""
    return parameter.numel() >= SMALLEST and parameter.is_contiguous()


class EightBitAdamW:
    """AdamW over parameter groups with `weight_decay` and `rate_factor`; a class because its averages persist."""

    def __init__(self, groups: Sequence[dict[str, Any]], *, betas: tuple[float, float], eps: float = 1e-8) -> None:
        self.param_groups: list[dict[str, Any]] = [{**group, "lr": 0.0, "betas": betas, "eps": eps} for group in groups]
        self.state: Any = defaultdict(dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients; they are never kept as zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def step(self) -> None:
        """Update the parameters by their gradients."""
        import torch

        dithers: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is None:
                        continue
                    state = self.state[parameter] or _fresh(parameter)
                    self.state[parameter] = state
                    state["step"] += 1
                    key = (parameter.device, int(state["step"]))
                    if key not in dithers:
                        dithers[key] = _dither(*key)
                    _update(parameter, state, group, dithers[key])


def _fresh(parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return averages of zero: a code for each number, and a scale for each block."""
    import torch

    blocks, device = -(-parameter.numel() // BLOCK), parameter.device
    return {
        "step": torch.zeros(()),
        "exp_avg": torch.zeros(blocks * BLOCK, dtype=torch.int8, device=device),
        "exp_avg_scale": torch.zeros(blocks, device=device),
        "exp_avg_sq": torch.zeros(blocks * BLOCK, dtype=torch.uint8, device=device),
        "exp_avg_sq_scale": torch.zeros(blocks, device=device),
    }


def _dither(device: torch.device, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is added to the dropped bits of a chunk's numbers, for either average: the same in every run at this step."""
    import torch

    draw = torch.Generator(device).manual_seed(step)
    shape = (CHUNK[device.type] // BLOCK, BLOCK)
    first, second = (torch.randint(2**CUT, shape, dtype=torch.int32, device=device, generator=draw) for _ in range(2))
    return first, second


def _update(parameter: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any], dither: Any) -> None:
    """Update one parameter and its averages, a chunk at a time; Loshchilov and Hutter 2017, algorithm 2."""
    import torch

    rate, decay = group["lr"] * group["rate_factor"], group["weight_decay"]
    (beta1, beta2), step = group["betas"], float(state["step"])
    slope, spread = rate / (1 - beta1**step), (1 - beta2**step) ** -0.5
    flat_K, gradient_K = parameter.view(-1), parameter.grad.reshape(-1)  # pyright: ignore[reportOptionalMemberAccess]
    size = CHUNK[parameter.device.type]
    for start in range(0, len(flat_K), size):
        part_K, blocks = flat_K[start : start + size], slice(start // BLOCK, -(-min(start + size, len(flat_K)) // BLOCK))
        codes = slice(blocks.start * BLOCK, blocks.stop * BLOCK)
        given_K = torch.nn.functional.pad(gradient_K[start : start + size].float(), (0, codes.stop - codes.start - len(part_K)))
        given_GK = given_K.view(-1, BLOCK)
        first_GK = decoded_signed(state["exp_avg"][codes].view(-1, BLOCK)).mul_(state["exp_avg_scale"][blocks, None])
        second_GK = decoded(state["exp_avg_sq"][codes].view(-1, BLOCK)).mul_(state["exp_avg_sq_scale"][blocks, None])
        first_GK.lerp_(given_GK, 1 - beta1)
        second_GK.mul_(beta2).addcmul_(given_GK, given_GK, value=1 - beta2)
        change_GK = second_GK.sqrt().mul_(spread).add_(group["eps"]).reciprocal_().mul_(first_GK)
        change_K = change_GK.view(-1)[: len(part_K)]
        part_K.mul_(1 - rate * decay).add_(change_K.to(part_K.dtype), alpha=-slope)
        for name, average_GK, encode, noise in (
            ("exp_avg", first_GK, encoded_signed, dither[0]),
            ("exp_avg_sq", second_GK, encoded, dither[1]),
        ):
            scale_G = average_GK.abs().amax(1) if name == "exp_avg" else average_GK.amax(1)
            average_GK.div_(scale_G.clamp(min=1e-38)[:, None])
            state[f"{name}_scale"][blocks] = scale_G
            state[name][codes] = encode(average_GK, noise[: len(average_GK)]).view(-1)


def encoded(share_GK: torch.Tensor, dither_GK: torch.Tensor) -> torch.Tensor:
    """Return the codes, uint8, of numbers from 0 to 1: exponents down to 2 ** -32, what is smaller counts as that.

    A second average that became 0 beside a first one that did not would make a step of any size.
    """
    import torch

    return share_GK.view(torch.int32).add(dither_GK).bitwise_right_shift_(CUT).sub_(ONE - 255).clamp_(0, 255).to(torch.uint8)


def decoded(code_GK: torch.Tensor) -> torch.Tensor:
    """Return the numbers that the codes of `encoded` stand for."""
    import torch

    return code_GK.to(torch.int32).add_(ONE - 255).bitwise_left_shift_(CUT).view(torch.float32)


OFFSET = 2.0**-16 * 1.125
"""Added to the size of a signed number, so that code 0 is 0 and the codes next to it are evenly spaced: what `ONE - 127` stands for."""


def encoded_signed(share_GK: torch.Tensor, dither_GK: torch.Tensor) -> torch.Tensor:
    """Return the codes, int8, of numbers from -1 to 1."""
    import torch

    code_GK = share_GK.abs().add_(OFFSET).view(torch.int32).add_(dither_GK).bitwise_right_shift_(CUT).sub_(ONE - 127).clamp_(0, 127)
    return code_GK.to(torch.int8).mul_(share_GK.sign().to(torch.int8))


def decoded_signed(code_GK: torch.Tensor) -> torch.Tensor:
    """Return the numbers that the codes of `encoded_signed` stand for."""
    import torch

    size_GK = code_GK.to(torch.int32).abs_().add_(ONE - 127).bitwise_left_shift_(CUT).view(torch.float32).sub_(OFFSET)
    return size_GK.mul_(code_GK.sign())
