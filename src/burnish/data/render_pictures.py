"""Render rows with pictures for a model that reads pictures and nothing else: one sequence, as many positions as the model makes of it.

Enters: a row's content, and the model's eye. Leaves: the picture, or an error that says what the model would have ignored. Called by the
head's renderer, before any weights are read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from burnish.errors import DataError
from burnish.types import Content, ImagePart, Origin, pictures_in, plain


def only_picture(parts: Content, origin: Origin) -> ImagePart:
    """Return the picture of a row; DataError where there are several, none, or a text beside it, which nothing would read."""
    seen, text = pictures_in(parts), plain(parts).strip()
    if len(seen) != 1:
        fix = "Choose a model of texts for such rows." if not seen else "Give each picture a row of its own."
        raise DataError(f"{origin}: this row holds {len(seen)} pictures, and the model reads one and nothing else. {fix}")
    if text:
        raise DataError(
            f"{origin}: a text stands beside the picture ({text[:40]!r}), which this model would ignore: it reads pictures alone. Leave the "
            f"column out, or choose a model that reads both."
        )
    return seen[0]


def positions_of(eye: Any) -> np.ndarray:
    """Return what stands in the place of tokens: a 0 for each position that the model makes of a picture."""
    return np.zeros(eye.positions, dtype=np.int32)
