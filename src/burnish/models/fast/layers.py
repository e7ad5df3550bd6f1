"""Compile the layers of a network one by one, for training.

Enters: a network. Leaves: the same network, whose layers run compiled where gradients are wanted and as before where they are not
(generation has other shapes at every step). One layer's code serves all of them, so that compiling takes seconds, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def compile_layers(trunk: Any) -> int:
    """Compile each layer of a trunk in place and return how many there are; 0 where the trunk has no list of layers.

    Names and weights of the modules stay as they are, so checkpoints do not know of it.
    """
    import torch

    layers = getattr(trunk, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        return 0
    for layer in layers:
        layer.forward = _either(layer.forward)
    return len(layers)


def _either(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs compiled where gradients are computed, and as it stands elsewhere."""
    import torch

    compiled = torch.compile(plain, dynamic=True)

    def forward(*inputs: Any, **options: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else plain)(*inputs, **options)

    return forward
