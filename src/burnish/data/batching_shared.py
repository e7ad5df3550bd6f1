"""The shared layout: one row in which what the sequences of a group have in common at their beginning stands once.

Enters: sequences whose groups share a prompt (both answers of a preference, the samples of a task). Leaves: micro-batches cut by what
stands in the row, and their layout. Read-outs keep counting from the start of their own sequence; two of them may be read at one place,
as the last token of a prompt predicts the first of every answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many
from typing import Any

import numpy as np

from burnish.types import Layout, Sequence


def common_prefix(sequences: Many[Sequence]) -> int:
    """Return how many tokens all sequences of a group begin with; 0 for one that stands alone."""
    if len(sequences) < 2 or sequences[0].group == 0:
        return 0
    shortest = min(sequence.length for sequence in sequences)
    first_T = sequences[0].tokens_T[:shortest]
    alike_T = np.all([sequence.tokens_T[:shortest] == first_T for sequence in sequences[1:]], axis=0)
    return shortest if alike_T.all() else int(alike_T.argmin())


def positions_of(unit: Many[Sequence]) -> int:
    """Return how many positions a unit takes in a shared layout."""
    return sum(sequence.length for sequence in unit) - (len(unit) - 1) * common_prefix(unit)


def saved_share(units: Iterable[Many[Sequence]]) -> float:
    """Return the share of all tokens that need not be computed because another sequence of their group has them too."""
    tokens = positions = 0
    for unit in units:
        tokens += sum(sequence.length for sequence in unit)
        positions += positions_of(unit)
    return 1 - positions / tokens if tokens else 0.0


def shared_layout(sequences: Many[Sequence], device: Any) -> Layout:
    """Return all sequences in one row, group after group: the common prefix once, then what is left of each, positions going on from it."""
    import torch

    ids: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    pieces: list[tuple[int, int, int, int]] = []
    start_S, prefix_S, before_S = (np.zeros(len(sequences), dtype=np.int64) for _ in range(3))
    end = 0

    def add(tokens_T: np.ndarray, before: int, prefix: int) -> int:
        """Put a piece behind the row so far, continuing `prefix` tokens that stand at `before`, and return where it begins."""
        nonlocal end
        first, end = end, end + len(tokens_T)
        ids.append(tokens_T)
        positions.append(np.arange(prefix, prefix + len(tokens_T)))
        if len(tokens_T):
            pieces.append((first, end, before, before + prefix))
        return first

    for places in _groups(sequences):
        prefix = common_prefix([sequences[place] for place in places])
        before = add(sequences[places[0]].tokens_T[:prefix], 0, 0)
        for place in places:
            start_S[place] = add(sequences[place].tokens_T[prefix:], before, prefix)
            prefix_S[place], before_S[place] = prefix, before

    def whole(values: Any) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.long, device=device)

    return Layout(
        "shared",
        whole(np.concatenate(ids))[None],
        whole(np.concatenate(positions))[None],
        None,
        whole(np.zeros(len(sequences))),
        whole(start_S),
        prefix_S=whole(prefix_S),
        before_S=whole(before_S),
        pieces_PK=torch.as_tensor(pieces, dtype=torch.long).reshape(-1, 4),
    )


def _groups(sequences: Many[Sequence]) -> list[list[int]]:
    """Return the places of the sequences of each group, and of each that stands alone."""
    found: dict[tuple[int, int], list[int]] = {}
    for place, sequence in enumerate(sequences):
        found.setdefault((sequence.group, place if sequence.group == 0 else -1), []).append(place)
    return list(found.values())
