"""The frozen part of a model below all that moves, and how a forward pass begins behind it.

Enters: a `Prefix`, whose end `prefix_find` found out, and a layout. Leaves: the same model, whose lowest modules give hidden states that are
at hand instead of computing them, where the layout names such (`begun`). Names, weights and every other pass stay as they are.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from burnish.types import Layout

if TYPE_CHECKING:
    import torch


@dataclass(slots=True, eq=False)
class Prefix:
    """The frozen part of a model that is passed over where its hidden states are at hand; a class because they persist."""

    modules: list[Any]
    """The layers from the first one on, or the trunk alone where no part of it moves and its head is run apart."""
    layers: tuple[int, int]
    """How many layers are passed over, of how many."""
    reads: Literal["all", "places", "first"]
    """Of which tokens hidden states are needed: of all, of those with a read-out, or of the first one."""
    width: int
    dtype: torch.dtype
    first_rows: list[int] = field(default_factory=list)
    tables: list[torch.Tensor] = field(default_factory=list)
    now: Any = None
    """Hidden states [B, T, H] at which the forward pass under way begins; None where it begins at the tokens."""
    noted: Any = None
    """What the last module said, where it is asked for: then nothing above it is run."""
    noting: bool = False

    @property
    def rows(self) -> int:
        """How many hidden states are kept."""
        return self.first_rows[-1] + len(self.tables[-1]) if self.tables else 0

    @property
    def size(self) -> int:
        """How many bytes they take."""
        return self.rows * self.row_size

    @property
    def row_size(self) -> int:
        """Bytes of one hidden state."""
        return self.width * self.dtype.itemsize

    def at(self, kept_BT: torch.Tensor) -> torch.Tensor:
        """Return hidden states [B, T, H] by their rows, which are all of one table."""
        number = bisect.bisect_right(self.first_rows, int(kept_BT[0, 0])) - 1
        return self.tables[number][kept_BT - self.first_rows[number]]


class Enough(Exception):
    """The last module of a prefix has said what was asked for."""


@contextmanager
def begun(prefix: Prefix | None, layout: Layout) -> Iterator[None]:
    """Let the forward pass inside the `with` block begin where a layout's kept hidden states end; at its tokens where it has none."""
    if prefix is None or layout.kept_BT is None:
        yield
        return
    prefix.now = prefix.at(layout.kept_BT).to(layout.input_ids_BT.device)
    try:
        yield
    finally:
        prefix.now = None


def pass_over(prefix: Prefix) -> None:
    """Let the modules of a prefix give what is kept where a forward pass begins behind them; names and weights stay as they are."""
    last = prefix.modules[-1]
    if "_burnish_prefix" in vars(last):
        return
    trunk = len(prefix.modules) == 1 and prefix.reads == "places"
    for module in prefix.modules:
        module.forward = _either(prefix, module.forward, last=module is last, trunk=trunk)
    vars(last)["_burnish_prefix"] = True


def _either(prefix: Prefix, plain: Callable[..., Any], *, last: bool, trunk: bool) -> Callable[..., Any]:
    """Return a module's forward pass that gives what is kept, or its input where another one will, and else runs as it stands."""
    as_tuple = False

    def forward(*inputs: Any, **options: Any) -> Any:
        nonlocal as_tuple
        if prefix.now is None:
            output = plain(*inputs, **options)
            as_tuple = isinstance(output, tuple)
            if last and prefix.noting:
                prefix.noted = states_in(output)
                raise Enough
            return output
        states_BTH = prefix.now if last else inputs[0] if inputs else options["hidden_states"]
        if trunk:
            return SimpleNamespace(last_hidden_state=states_BTH)
        return (states_BTH,) if as_tuple else states_BTH

    return forward


def states_in(output: Any) -> torch.Tensor:
    """Return the hidden states in what a layer or a trunk gives."""
    return output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0] if isinstance(output, tuple) else output


@contextmanager
def in_mode(network: Any, *, training: bool) -> Iterator[None]:
    """Run a network in training or in use inside the `with` block; afterwards every module has its own mode again."""
    modes = [(module, module.training) for module in network.modules()]
    network.train(training)
    try:
        yield
    finally:
        for module, before in modes:
            module.training = before
