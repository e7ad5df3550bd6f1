"""The contact sheet: pictures that a run learns from, as the model will see them, spread over their labels.

Enters: a plan. Leaves: a JPEG, and what is said in the data report of how pictures are resized. Called before weights are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.data.check_labels import labels_of
from burnish.data.fields import shown
from burnish.models import Eye
from burnish.pictures import look, sheet
from burnish.prepare_task import TaskPlan
from burnish.types import Example, Labelled

SHOWN = 48
"""Pictures on a sheet at most."""


def eye_of(part: TaskPlan) -> Eye | None:
    """Return the eye of the model that a task is planned for, None where it reads texts."""
    tokenizer = part.renderer.tokenizer
    return tokenizer if isinstance(tokenizer, Eye) else None


def contact_sheet(part: TaskPlan) -> bytes | None:
    """Return training pictures as the model sees them, label by label in turn, drawn by the run's seed; None where there are none."""
    eye, rows = eye_of(part), [row for row in part.gathered.examples["train"] if shown(row)]
    if eye is None or not rows:
        return None
    chosen = _in_turn(rows, part.config.seed)[:SHOWN]
    return sheet([eye.shown(shown(row)[0]) for row in chosen], [_caption(row) for row in chosen])


def _caption(row: Example) -> str:
    if isinstance(row, Labelled) and row.number is not None:
        return f"{row.number:g}"
    return labels_of(row) or ""


def _in_turn(rows: Sequence[Example], seed: int) -> list[Example]:
    """Return the rows in random order, one of each label, then the next of each, so that rare labels are seen too."""
    order = np.random.default_rng(seed).permutation(len(rows))
    turns: dict[str, int] = {}
    ranked = []
    for number in order.tolist():
        label = labels_of(rows[number]) or ""
        turns[label] = turns.get(label, -1) + 1
        ranked.append((turns[label], label, number))
    return [rows[number] for _, _, number in sorted(ranked)]


def picture_facts(part: TaskPlan) -> dict[str, Any] | None:
    """Return how large the pictures are and how the model sees them, for the data report; None where there are none.

    `kept` is the share of the median picture's pixels, along a side, that are left after it is made smaller: finer details are gone.
    """
    eye = eye_of(part)
    looks = [look(one) for row in part.gathered.examples["train"] for one in shown(row)]
    if eye is None or not looks:
        return None
    sides = np.array([[one.width, one.height] for one in looks])
    smallest, median, largest = (
        np.percentile(sides, at, axis=0, method="inverted_cdf").astype(int).tolist() for at in (0, 50, 100)
    )
    kept = round(min(1.0, eye.width / median[0], eye.height / median[1]), 3)
    cut = bool(getattr(eye.processor, "do_center_crop", False))
    told = (
        f"{len(looks):,} pictures, from {_size(smallest)} to {_size(largest)} pixels, {_size(median)} in the middle. The model sees "
        f"{eye.width} x {eye.height}"
        + (f", {100 * kept:.0f} % of the middle one's pixels along a side: finer details are gone" if kept < 1 else "")
        + (", and of a picture that is no square the middle alone." if cut else ".")
    )
    return {
        "told": told,
        "count": len(looks),
        "smallest": smallest,
        "median": median,
        "largest": largest,
        "seen": [eye.width, eye.height],
        "kept": kept,
        "cut": cut,
        "positions": eye.positions,
    }


def _size(sides: list[int]) -> str:
    return f"{sides[0]:,} x {sides[1]:,}"
