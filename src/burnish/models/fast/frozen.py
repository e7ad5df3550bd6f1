"""Frozen prefixes: below the lowest parameter that moves a model says the same of a row in every epoch, so that is computed once.

Enters: a model whose parameters are marked, and the sequences that it learns from. Leaves: the same sequences, which name rows of a table
of hidden states, and a model whose forward pass begins at these rows where a batch names them (`begun`). The plain twin is the model as
it stands; every other batch still takes it. Where the layers end is found by running them: the first one whose output wants a gradient.

What a row costs is its hidden states in the format in which they were computed, those of all its tokens; of a trunk that is frozen
wholly only those that its head reads. Source of the idea: Liu et al. 2021, "AutoFreeze", arXiv 2102.01386.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from burnish.data.batching import cut_padded
from burnish.models.fast.prefix import Enough, Prefix, in_mode, pass_over
from burnish.models.fast.prefix_find import batch_of, find
from burnish.types import Kept, Sequence

if TYPE_CHECKING:
    import torch

    from burnish.models.load import Model

Units = list[list[Sequence]]


def keep(
    model: Model,
    units: Units,
    *,
    limit: int,
    tokens: int,
    undropped: bool = False,
    all_or_none: bool = False,
    needs: tuple[str, ...] = (),
    between: Callable[[str], None] = lambda line: None,
) -> tuple[Units, str]:
    """Return the units with their frozen prefixes kept, as many as `limit` bytes hold, and what was done or why not in a sentence.

    With `undropped` the layers below drop nothing out from now on, where they would; else nothing is kept of such. `all_or_none` keeps
    nothing where not all fit. A few sequences are then read in both ways: of what the objective `needs` both must say the same.
    `between` is told how far it is, between batches of at most `tokens` positions, and may raise to stop. The sentence is empty
    where no layer is frozen below one that moves.
    """
    flat = [sequence for unit in units for sequence in unit]
    found = model.prefix or find(model, min(flat, key=lambda one: one.length), undropped=undropped)
    if not isinstance(found, Prefix):
        return units, found
    placed, distinct, rows = _placed(found, units, limit=limit - found.size)
    several = sum(one.kept is not None for unit in placed for one in unit)
    if not several or (all_or_none and several < len(flat)):
        needed = found.row_size * sum(len(_read(found, one)) for one in flat)
        return (
            units,
            f"Not kept: what {_named(found)} say would take {needed / 1e9:.2g} GB, and there are {limit / 1e9:.2g} GB for it.",
        )
    pass_over(found)
    model.prefix = found
    _fill(model, found, distinct, rows, tokens=tokens, between=between)
    if not _agrees(model, units, placed, needs):
        found.tables.pop()
        found.first_rows.pop()
        return units, f"Not kept: this architecture gives other numbers where it begins behind {_named(found)}."
    return placed, f"What {_named(found)} say is kept of {several:,} of {len(flat):,} sequences: {found.size / 1e9:.2g} GB"


def _named(prefix: Prefix) -> str:
    """Return which layers a prefix is, in words."""
    number, total = prefix.layers
    return f"all {total} frozen layers" if number == total else f"the {number} lowest of {total} layers"


# --------------------------------------------------------------------------------------------------------------------- what is kept


def _placed(prefix: Prefix, units: Units, *, limit: int) -> tuple[Units, list[Sequence], list[np.ndarray]]:
    """Return the units, those that fit with the rows of their sequences; each distinct sequence, and the places of it that are kept.

    Sequences of the same tokens share their rows; of places that are not read, the tokens are left out of what is returned.
    """
    rows_of: dict[bytes, int] = {}
    distinct: list[Sequence] = []
    places: list[np.ndarray] = []
    placed: Units = []
    used = 0
    for unit in units:
        wanted = {}
        for one in unit:
            at = _read(prefix, one)
            wanted[_key(prefix, one, at)] = (one, at)
        new = {key: value for key, value in wanted.items() if key not in rows_of}
        more = sum(len(at) for _, at in new.values())
        if (used + more) * prefix.row_size > limit:
            placed.append(unit)
            continue
        for key, (one, at) in new.items():
            rows_of[key] = prefix.rows + used
            used += len(at)
            distinct.append(one)
            places.append(at)
        placed.append([_shrunk(prefix, one, rows_of) for one in unit])
    return placed, distinct, places


def _read(prefix: Prefix, sequence: Sequence) -> np.ndarray:
    """Return the places of a sequence whose hidden states are needed."""
    if prefix.reads == "places":
        return np.unique(sequence.at_N) if len(sequence.at_N) else np.zeros(1, dtype=np.int64)
    return np.arange(1 if prefix.reads == "first" else sequence.length)


def _key(prefix: Prefix, one: Sequence, at: np.ndarray) -> bytes:
    """Return what a sequence's kept hidden states follow from: its tokens and pictures, and the places where not all are kept."""
    seen = "".join(f"|{part.sha256}" for part in one.images).encode()
    return one.tokens_T.tobytes() + seen + (b"|" + at.tobytes() if prefix.reads == "places" else b"")


def _shrunk(prefix: Prefix, one: Sequence, rows_of: dict[bytes, int]) -> Sequence:
    """Return a sequence of the tokens whose hidden states are kept, with their rows."""
    at = _read(prefix, one)
    row = rows_of[_key(prefix, one, at)]
    kept = Kept(row, one.length)
    if prefix.reads == "all":
        return replace(one, kept=kept)
    at_N = np.searchsorted(at, one.at_N) if prefix.reads == "places" else np.zeros_like(one.at_N)
    return replace(one, tokens_T=one.tokens_T[at], at_N=at_N.astype(one.at_N.dtype), kept=kept)


def _fill(
    model: Model,
    prefix: Prefix,
    distinct: list[Sequence],
    places: list[np.ndarray],
    *,
    tokens: int,
    between: Callable[[str], None],
) -> None:
    """Run the prefix over the distinct sequences, in batches of like lengths that follow from them alone, and keep what it says."""
    import torch

    starts = np.cumsum([0, *(len(at) for at in places)])
    table_RH = torch.empty((int(starts[-1]), prefix.width), dtype=prefix.dtype)
    # The group carries each sequence's number through the batches, which are cut by length.
    units = [[replace(one, group=number + 1, task="main", streams={})] for number, one in enumerate(distinct)]
    micro_batches = cut_padded(units, tokens)
    tenth = max(1, len(micro_batches) // 10)
    for number, micro in enumerate(micro_batches, 1):
        states_BTH = _said_of(model, prefix, micro).cpu()
        for row, one in enumerate(micro):
            at, first = places[one.group - 1], int(starts[one.group - 1])
            table_RH[first : first + len(at)] = states_BTH[row, torch.from_numpy(at)]
        far = number % tenth == 0 and len(micro_batches) >= 20
        between(f"Reading what {_named(prefix)} say, once: {number} of {len(micro_batches)} batches" if far else "")
    prefix.first_rows.append(prefix.rows)
    prefix.tables.append(table_RH)


def _said_of(model: Model, prefix: Prefix, sequences: list[Sequence]) -> torch.Tensor:
    """Return what a prefix says of sequences, [B, T, H], computed as where gradients are; nothing above it is run."""
    import torch

    from burnish.models.forward import as_in_training, model_inputs

    prefix.noting = True
    try:
        with in_mode(model.network, training=False), torch.no_grad(), as_in_training(model):
            model.trunk()(**model_inputs(model, batch_of(model, sequences).layout))
    except Enough:
        return prefix.noted
    finally:
        prefix.noting, prefix.noted = False, None
    raise AssertionError("the prefix was not run")


def _agrees(model: Model, units: Units, placed: Units, needs: tuple[str, ...]) -> bool:
    """Return whether a few kept sequences give what they give as they stand."""
    import torch

    from burnish.models.forward import as_in_training, forward
    from burnish.models.probe import alike

    pairs = [
        pair for old, new in zip(units, placed, strict=True) for pair in zip(old, new, strict=True) if pair[1].kept is not None
    ]
    few = sorted(pairs, key=lambda pair: pair[0].length)[:4]
    with in_mode(model.network, training=False), torch.no_grad(), as_in_training(model):
        plain, begun = (
            forward(model, batch_of(model, [replace(pair[way], group=0, task=few[0][0].task) for pair in few]), needs)
            for way in (0, 1)
        )
    both = [(getattr(plain, name), getattr(begun, name)) for name in plain.__dataclass_fields__]
    assert model.prefix is not None, "what is compared begins behind it"
    kind = model.prefix.dtype  # which says how far rounding may go
    return all(alike(found.to(kind), expected.to(kind)) for expected, found in both if expected is not None)


def let_go(model: Model) -> None:
    """Free what is kept of a model's frozen layers, whose rows no batch names any more."""
    if model.prefix is not None:
        model.prefix.tables.clear()
        model.prefix.first_rows.clear()
