"""Run a network in evaluation mode for a while, and whether that makes a difference.

Enters: a network in whatever mode. Leaves: the same network, every module of it in the mode it had.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def evaluating(network: Any) -> Iterator[None]:
    """Switch dropout and its like off inside the `with` block, and restore each module's own mode after it, also on an error."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def drops_out(network: Any) -> bool:
    """Return whether anything in a network is dropped out in training mode."""
    import torch

    kinds = (torch.nn.Dropout, torch.nn.AlphaDropout)
    return any(
        (isinstance(module, kinds) and module.p > 0) or bool(getattr(module, "attention_dropout", 0.0))
        for module in network.modules()
    )
