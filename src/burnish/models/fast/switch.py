"""Several low-rank adapters over one base, chosen by row: rows of one batch may each have another, or none.

Enters: the linear layers of a network that holds adapters by name, and which adapter each row has. Leaves: what a layer computes for such a
batch: one product with the base's weight for all rows, and one with the adapters that the batch has between them, where each row sees its
own part alone. Prompts are read by the network itself, one adapter at a time (`reading_as`). Source of the idea: Sheng et al. 2023, arXiv
2311.03285 (S-LoRA); a mask over stacked ranks needs no kernel of its own, and the zeros that it leaves change no sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Stack = tuple["torch.Tensor", "torch.Tensor", tuple[int, ...]]
"""A [R, in] and scaled B [R, out] of all adapters below each other, and the rank that each of them has here (0: leaves this layer alone)."""


class Switch:
    """Which adapter each row has; a class because layers ask it in every step while rows come and go."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._rows: tuple[int, ...] = ()
        self._parts: dict[tuple[int, ...], tuple[int, int, Any]] = {}

    def set(self, adapter_B: Sequence[str | None]) -> None:
        """Let the rows of the next step have these adapters; None: the base alone."""
        rows = tuple(-1 if name is None else self.names.index(name) for name in adapter_B)
        if rows != self._rows:
            self._rows = rows
            self._parts.clear()

    def part(self, ranks: tuple[int, ...], like: torch.Tensor) -> tuple[int, int, torch.Tensor | None]:
        """Return which of the stacked ranks the rows need, from and to, and what each row sees of them: [B, R], None where all see all."""
        found = self._parts.get(ranks)
        if found is None:
            found = self._parts[ranks] = self._made(ranks, like)
        return found

    def _made(self, ranks: tuple[int, ...], like: torch.Tensor) -> tuple[int, int, torch.Tensor | None]:
        import torch

        starts = [sum(ranks[:number]) for number in range(len(ranks) + 1)]
        used = sorted({row for row in self._rows if row >= 0 and ranks[row]})
        if not used:
            return 0, 0, None
        low, high = starts[used[0]], starts[used[-1] + 1]
        if len(used) == 1 and all(row == used[0] for row in self._rows):
            return low, high, None
        mask_BR = torch.zeros((len(self._rows), high - low), dtype=like.dtype, device=like.device)
        for place, row in enumerate(self._rows):
            if row >= 0:
                mask_BR[place, starts[row] - low : starts[row + 1] - low] = 1.0
        return low, high, mask_BR


def switched(below: Callable[[torch.Tensor], torch.Tensor], stack: Stack, switch: Switch) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what a linear layer computes for rows of several adapters, given what its base computes."""
    import torch

    down_RH, up_RH, ranks = stack

    def product(states_BH: torch.Tensor) -> torch.Tensor:
        low, high, mask_BR = switch.part(ranks, states_BH)
        if low == high:
            return below(states_BH)
        inner_BR = torch.nn.functional.linear(states_BH, down_RH[low:high])
        return torch.addmm(below(states_BH), inner_BR if mask_BR is None else inner_BR * mask_BR, up_RH[low:high])

    return product


def stacked(module: Any, names: Sequence[str], dtype: torch.dtype) -> Stack | None:
    """Return the adapters of a PEFT linear layer below each other, None where one of them is more than a low-rank update."""
    import torch
    from peft.tuners.lora.layer import Linear

    plain: Any = Linear
    if type(module) is not plain or module.merged:
        return None
    downs, ups, ranks = [], [], []
    for name in names:
        if name not in module.lora_A:
            ranks.append(0)
            continue
        if name in getattr(module, "lora_variant", {}) or module.lora_B[name].bias is not None:
            return None
        downs.append(module.lora_A[name].weight.detach().to(dtype))
        ups.append((module.scaling[name] * module.lora_B[name].weight.detach()).to(dtype).t())
        ranks.append(len(downs[-1]))
    if not downs:
        return None
    return torch.cat(downs), torch.cat(ups).contiguous(), tuple(ranks)


@contextmanager
def reading_as(network: Any, adapter: str | None) -> Iterator[None]:
    """Let a network with several adapters compute with one of them, or with none, inside the `with` block."""
    if adapter is None:
        with network.disable_adapter():
            yield
        return
    if network.active_adapter != adapter:
        network.set_adapter(adapter, inference_mode=True)
    yield
