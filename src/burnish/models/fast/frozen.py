"""A head alone, on a trunk that does not move: what the trunk says is computed once, and read in every epoch.

Enters: a model with a head, its trunk frozen, and the sequences that it learns from. Leaves: the same head on a table of hidden states,
and sequences that name rows of that table. The plain twin is the model as it stands; a test holds both to the same losses.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.types import Sequence

if TYPE_CHECKING:
    from burnish.models.load import Model

LARGEST = 2_000_000_000
"""Bytes of hidden states that are kept at most; above it the trunk runs in every epoch."""


def with_states_kept(
    model: Model, units: list[list[Sequence]], states: Callable[[Model, list[Sequence]], Many[Any]]
) -> tuple[Model, list[list[Sequence]]] | None:
    """Return the head on a table of hidden states, and the units with each read-out as a token of its own: its row in the table.

    `states(model, sequences)` gives the hidden states [N, H] at the read-outs of each sequence. The head's module is the model's own, so
    what it learns stays in the model. None where that cannot be: the head cannot be run apart, or the states would take too much memory.
    """
    import torch

    flat = [sequence for unit in units for sequence in unit]
    width = int(model.plain().config.get_text_config().hidden_size)
    if model.head != "separate" or 4 * width * sum(len(one.at_N) for one in flat) > LARGEST:
        return None
    table_RH = torch.cat([part.float() for part in states(model, flat)])
    network = _on_table(table_RH.to(model.device), model.plain())
    kept, row = [], 0
    for one in flat:
        rows = np.arange(row, row + len(one.at_N), dtype=np.int32)
        kept.append(replace(one, tokens_T=rows, at_N=np.arange(len(rows), dtype=np.int32)))
        row += len(rows)
    found = iter(kept)
    return replace(model, network=network, encoder=False, documents="positions"), [[next(found) for _ in unit] for unit in units]


def _on_table(table_RH: Any, network: Any) -> Any:
    """Return a network whose hidden states are rows of a table, with the modules of another network's head under their names."""
    import torch

    def rows(input_ids: Any, **_: Any) -> SimpleNamespace:
        """Return the rows of the table that the tokens name; where they stand makes no difference."""
        return SimpleNamespace(last_hidden_state=table_RH[input_ids.clamp(max=len(table_RH) - 1)])  # padding may name any row

    trunk, made = torch.nn.Module(), torch.nn.Module()
    trunk.forward = rows
    made.add_module("base_model", trunk)
    for name, module in network.named_children():
        if module is not network.base_model:
            made.add_module(name, module)
    return made
