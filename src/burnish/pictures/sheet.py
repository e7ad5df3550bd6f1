"""A contact sheet: many small pictures on one, each with its label, as a JPEG that people look at.

Enters: pictures and captions. Leaves: bytes. Used by the data report and for the rows that a model got wrong.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE, CAPTION, COLUMNS = 112, 16, 8
"""Pixels of a picture and of the line below it, and pictures in a row."""


def sheet(pictures: Sequence[Image], captions: Sequence[str]) -> bytes:
    """Return pictures in rows of eight, each fitted into a square without being stretched, its caption cut to the width; JPEG bytes."""
    import PIL.Image
    from PIL import ImageDraw
    from PIL.Image import Resampling

    assert len(pictures) == len(captions) and pictures, "a caption for each picture, and at least one"
    rows = -(-len(pictures) // COLUMNS)
    page = PIL.Image.new("RGB", (min(len(pictures), COLUMNS) * SIDE, rows * (SIDE + CAPTION)), (255, 255, 255))
    draw = ImageDraw.Draw(page)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = (number % COLUMNS) * SIDE, (number // COLUMNS) * (SIDE + CAPTION)
        scale = (SIDE - 4) / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        # A small picture is shown as the squares that it consists of, not smoothed into something better.
        fitted = picture.resize(size, Resampling.NEAREST if scale > 1 else Resampling.BOX)
        page.paste(fitted, (left + (SIDE - size[0]) // 2, top + (SIDE - size[1]) // 2))
        draw.text((left + 3, top + SIDE), caption.encode("latin-1", "replace").decode("latin-1")[:17], fill=(40, 40, 40))
    stream = io.BytesIO()
    page.save(stream, format="JPEG", quality=85)
    return stream.getvalue()
