"""The pieces that make burnish quick, and how each is taken away: its plain twin is put in its place, for the row `levers` alone.

Enters: the name of a piece. Leaves: this process with the plain way instead. A piece that is not there (any more) is an error.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def _put(place: str, plain: Any) -> None:
    """Put a plain twin where `module:name` stands; AttributeError where there is none."""
    module, name = place.split(":")
    found = importlib.import_module(module)
    getattr(found, name)
    setattr(found, name, plain)


def _head() -> None:
    """Log-probabilities by autograd, tile by tile, instead of one differentiable step."""
    forward = importlib.import_module("burnish.models.forward")
    _put(
        "burnish.models.forward:_through_head",
        lambda model, head, hidden_NH, target_N, entropy: forward._tiled(head, hidden_NH, target_N, entropy),
    )


def _attention() -> None:
    """PyTorch's own attention for all lengths."""
    _put("burnish.models.load:attend_short_rows", lambda *_, **__: None)


def _buckets() -> None:
    """Rows of a step in one micro-batch, padded to the longest."""
    _put("burnish.data.batching:cut_padded", lambda units, tokens: [[one for unit in units for one in unit]])


LEVERS: Mapping[str, Callable[[], None]] = {
    "the tiled head": _head,
    "attention chosen by shape": _attention,
    "length buckets": _buckets,
}
"""Each piece by the name under which the page shows it."""


def take_away(name: str) -> None:
    """Put the plain twin of a piece in its place."""
    LEVERS[name]()
