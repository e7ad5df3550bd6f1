"""Pictures: opened safely from files and arrays, looked at, compared, and laid out as a sheet. Nothing here knows rows or models.

Enters: an `ImagePart`, or a path that a row of data names. Leaves: a picture as Pillow holds it, in 8-bit RGB and the right way up, or what
can be said of it without a model. Pillow is imported where a picture is opened: a run on texts never loads it.
"""

from __future__ import annotations

from burnish.pictures.alike import families
from burnish.pictures.files import BLANK, ENDINGS, READERS, Reader, as_part, decode, inside
from burnish.pictures.look import Look, look
from burnish.pictures.sheet import sheet

__all__ = ["BLANK", "ENDINGS", "READERS", "Look", "Reader", "as_part", "decode", "families", "inside", "look", "sheet"]
