"""What can be said of a picture without a model: its size, whether anything is on it, and a small grey copy to compare it by.

Enters: an `ImagePart`. Leaves: a `Look`, kept for the process, since checks, the split and the report all ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from burnish.errors import DataError
from burnish.pictures.files import Opened, opened
from burnish.types import ImagePart

SMALLEST = 4
"""Pixels of a side below which a picture shows nothing, and some models fail."""

THUMB = 32
"""Pixels of a side of the small copy."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A picture's width and height in pixels, the range of its grey levels, what was done to open it, and a grey copy [32, 32]."""

    width: int
    height: int
    darkest: int
    lightest: int
    turned: bool
    transparent: bool
    sixteen_bit: bool
    frames: int
    grey_HW: np.ndarray
    colour_HWC: np.ndarray
    """The picture in 8 x 8 colours."""

    @property
    def is_blank(self) -> bool:
        """Whether one grey level is all there is, give or take what compression adds."""
        return self.lightest - self.darkest <= 2


@lru_cache(maxsize=200_000)
def look(part: ImagePart) -> Look:
    """Return what can be seen of a picture; DataError where it cannot be opened, is gigantic, or is too small to show anything."""
    found = opened(part)
    width, height = found.picture.size
    if min(width, height) < SMALLEST:
        raise DataError(
            f"{part}: is tiny ({width} x {height} pixels); at least {SMALLEST} on each side are needed to show anything"
        )
    return _seen(found, width, height)


def _seen(found: Opened, width: int, height: int) -> Look:
    from PIL.Image import Resampling

    grey = found.picture.convert("L")
    darkest, lightest = grey.getextrema()
    return Look(
        width=width,
        height=height,
        darkest=int(darkest),  # pyright: ignore[reportArgumentType]  (one band has two numbers)
        lightest=int(lightest),  # pyright: ignore[reportArgumentType]
        turned=found.turned,
        transparent=found.transparent,
        sixteen_bit=found.sixteen_bit,
        frames=found.frames,
        colour_HWC=np.asarray(found.picture.resize((8, 8), Resampling.BOX)),
        grey_HW=np.asarray(grey.resize((THUMB, THUMB), Resampling.BOX)),
    )
