"""The largest micro-batch that rows can make, whatever their order: what memory has to hold.

Enters: the sequences of each example and how steps are cut. Leaves: the examples that make it, and its positions. Computed from lengths
alone, once, in the time of sorting them.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np

from burnish.types import Sequence


def largest(examples: Many[Many[Sequence]], *, batch: int, tokens: int, packing: bool) -> tuple[list[int], int]:
    """Return the numbers of at most `batch` examples whose step holds the largest micro-batch, and the most positions it may have.

    With the examples sorted by their longest sequence, a padded micro-batch whose longest one is of length l has as many rows as `tokens`
    and the examples from there on allow, so the largest begins at one of these places. A packed one is filled with the longest examples.
    A group above the budget is a micro-batch by itself.
    """
    units = [_units(example) for example in examples]
    longest_E = np.array([max(longest for _, longest, _ in one) for one in units])
    order_E = np.argsort(-longest_E, kind="stable")
    rows_E = np.array([sum(rows for rows, _, _ in units[number]) for number in order_E])
    totals_E = np.array([sum(total for _, _, total in units[number]) for number in order_E])
    alone_E = np.array([max(total if packing else rows * longest for rows, longest, total in one) for one in units])
    if packing:
        filled_E = np.minimum(_windows(totals_E, batch), tokens)
    else:
        length_E = longest_E[order_E]
        fitting_E = np.maximum(tokens // length_E, 1)
        filled_E = np.minimum(_windows(rows_E, batch), fitting_E) * length_E
    place = int(filled_E.argmax())
    if alone_E.max() > filled_E[place]:
        return [int(alone_E.argmax())], int(alone_E.max())
    return order_E[place : place + batch].tolist(), int(filled_E[place])


def _units(example: Many[Sequence]) -> list[tuple[int, int, int]]:
    """Return rows, longest length and total length of what may not be divided: each group of an example, each other sequence alone."""
    groups: dict[int, list[int]] = {}
    alone: list[list[int]] = []
    for sequence in example:
        place = groups.setdefault(sequence.group, []) if sequence.group else []
        place.append(sequence.length)
        alone += [] if sequence.group else [place]
    return [(len(one), max(one), sum(one)) for one in [*groups.values(), *alone]]


def _windows(values_E: np.ndarray, width: int) -> np.ndarray:
    """Return the sum of each value and the `width - 1` after it, as far as there are so many."""
    sums = np.concatenate([[0], np.cumsum(values_E)])
    ends = np.minimum(np.arange(len(values_E)) + width, len(values_E))
    return sums[ends] - sums[:-1]
