"""The pieces that make burnish quick, and how each is taken away: its plain twin is put in its place, for the rows of levers alone.

Enters: the name of a piece. Leaves: this process with the plain way instead. `LEVERS` holds the pieces that this version has: a piece whose
place is not there is no line of the table.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent.parent / "src"


@dataclass(frozen=True, slots=True)
class Lever:
    """A piece: the names, as `module:name`, that are replaced, and what makes the plain twin of each."""

    places: tuple[str, ...]
    plain: Callable[[], Any]

    def there(self) -> bool:
        """Return whether this version has all its places, read from the source: nothing is imported."""
        return all(_defines(*place.split(":")) for place in self.places)


def _defines(module: str, name: str) -> bool:
    """Return whether a module of the package defines or imports a name at its top."""
    path = PACKAGE / (module.replace(".", "/") + ".py")
    if not path.is_file():
        return False
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            found |= {one.asname or one.name for one in node.names}
    return name in found


def _tiled_head() -> Any:
    """Return log-probabilities by autograd, tile by tile."""
    forward = import_module("burnish.models.forward")
    return lambda model, head, hidden_NH, target_N, entropy: forward._tiled(head, hidden_NH, target_N, entropy)


def _nothing() -> Any:
    """Return what does nothing, and finds nothing."""
    return lambda *_, **__: None


def _no() -> Any:
    """Return what says no."""
    return lambda *_, **__: False


def _one_micro_batch() -> Any:
    """Return the rows of a step as one micro-batch, padded to the longest."""
    return lambda units, tokens: [[one for unit in units for one in unit]]


PIECES: Mapping[str, Lever] = {
    "the head in tiles": Lever(("burnish.models.forward:_through_head",), _tiled_head),
    "length buckets": Lever(("burnish.data.batching:cut_padded",), _one_micro_batch),
    "attention by shape": Lever(("burnish.models.load:attend_short_rows",), _nothing),
    "all quick modules": Lever(("burnish.models.load:quicken", "burnish.models.load:quicken_adapters"), _nothing),
    "quick attention with its adapters": Lever(("burnish.models.fast.blocks:_attention",), _nothing),
    "quick gates with their adapters": Lever(("burnish.models.fast.blocks:_gated",), _nothing),
    "quick norms": Lever(("burnish.models.fast.blocks:_norm",), _nothing),
    "compiled loops": Lever(("burnish.tune_saving:can_compile",), lambda: lambda: "taken away"),
    "memory kept by the allocator": Lever(("burnish.models.fast.process:keep_memory",), _nothing),
}
"""The pieces of supervised fine-tuning, by the name under which the page shows them."""

SHARED = Lever(("burnish.tune_saving:wants_sharing",), _no)
"""Prompts that both answers of a pair share are computed once."""

LEVERS: tuple[str, ...] = tuple(name for name, lever in PIECES.items() if lever.there())
"""Those that this version has."""


def take_away(name: str) -> None:
    """Put the plain twin of a piece in its place."""
    lever = SHARED if name == "the shared prompt" else PIECES[name]
    for place in lever.places:
        module, attribute = place.split(":")
        setattr(import_module(module), attribute, lever.plain())
