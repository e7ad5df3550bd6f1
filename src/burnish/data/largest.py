"""The largest micro-batch that rows can make, whatever their order: what memory has to hold.

Enters: the sequences of each example and how steps are cut. Leaves: the examples that make it, and its positions. Computed from lengths
alone, once, in the time of sorting them.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np

from burnish.types import Sequence


def largest(examples: Many[Many[Sequence]], *, batch: int, tokens: int, packing: bool) -> tuple[list[int], int]:
    """Return the numbers of at most `batch` examples that make the largest micro-batch, and the most positions it may have.

    Sorted by their longest sequence, a padded micro-batch whose longest one is of length l has as many rows as `tokens` and the rows from
    there on allow, so the largest begins at one of these places. A packed one is filled with the longest examples. A group above the
    budget is a micro-batch by itself.
    """
    made = [_units(example) for example in examples]
    number_U = np.repeat(np.arange(len(made)), [len(one) for one in made])
    rows_U, longest_U, total_U = np.array([unit for one in made for unit in one]).T
    alone_U = total_U if packing else rows_U * longest_U
    order_U = np.argsort(-(total_U if packing else longest_U), kind="stable")
    if packing:
        most = min(tokens, _greatest(total_U, number_U, batch))
        place = 0
    else:
        left_U = np.cumsum(rows_U[order_U][::-1])[::-1]
        fitting_U = np.minimum(left_U, _greatest(rows_U, number_U, batch))
        filled_U = np.minimum(fitting_U, np.maximum(tokens // longest_U[order_U], 1)) * longest_U[order_U]
        place = int(filled_U.argmax())
        most = int(filled_U[place])
    if alone_U.max() > most:
        return [int(number_U[alone_U.argmax()])], int(alone_U.max())
    return list(dict.fromkeys(number_U[order_U[place:]].tolist()))[:batch], most


def _greatest(value_U: np.ndarray, number_U: np.ndarray, batch: int) -> int:
    """Return the sum of values that the `batch` examples with the most of them have."""
    sums = np.bincount(number_U, weights=value_U)
    return int(np.sort(sums)[::-1][:batch].sum())


def _units(example: Many[Sequence]) -> list[tuple[int, int, int]]:
    """Return rows, longest length and total length of what may not be divided: each group of an example, each other sequence alone."""
    groups: dict[int, list[int]] = {}
    alone: list[list[int]] = []
    for sequence in example:
        place = groups.setdefault(sequence.group, []) if sequence.group else []
        place.append(sequence.length)
        alone += [] if sequence.group else [place]
    return [(len(one), max(one), sum(one)) for one in [*groups.values(), *alone]]
