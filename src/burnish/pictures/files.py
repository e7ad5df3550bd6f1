"""Open pictures: a file's bytes in, a decoded picture in 8-bit RGB out, refused before decoding where it would be too large.

Enters: paths as rows name them, and `ImagePart`s. Leaves: parts with the hash of their content, and pictures. The content of a file is
never trusted: only the format that its ending names is tried, its size is known before a pixel is decoded, and what Pillow raises becomes
one sentence. To add a file format, write a function (bytes) -> picture and one line in READERS.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from burnish.errors import DataError, suggestion
from burnish.pictures.arrays import array_picture
from burnish.types import ImagePart

if TYPE_CHECKING:
    from PIL.Image import Image

Reader = Callable[[bytes], "Image"]
"""Opens the bytes of one file; best without decoding them, so that the size is known first."""

MOST_PIXELS = 64_000_000
"""Width times height of a picture at most: 256 MB once decoded. Larger ones are refused unopened, as decompression bombs are."""

MOST_BYTES = 256_000_000
"""Size of a picture's file at most."""

BLANK = ImagePart(path="", sha256="blank")
"""No picture: grey all over. It stands in for others where it is measured how much they matter."""

BLANK_SIDE, BLANK_GREY = 64, 128


def pillow(kind: str) -> Reader:
    """Return a reader that tries one of Pillow's formats and no other."""

    def opened(data: bytes) -> Image:
        import PIL.Image

        return PIL.Image.open(io.BytesIO(data), formats=[kind])

    return opened


READERS: dict[str, Reader] = {
    ".png": pillow("PNG"),
    ".jpg": pillow("JPEG"),
    ".jpeg": pillow("JPEG"),
    ".webp": pillow("WEBP"),
    ".bmp": pillow("BMP"),
    ".gif": pillow("GIF"),
    ".tif": pillow("TIFF"),
    ".tiff": pillow("TIFF"),
    ".ppm": pillow("PPM"),
    ".pgm": pillow("PPM"),
}
ENDINGS = tuple(READERS)
"""Endings of the files that are pictures."""


class Opened(NamedTuple):
    """A decoded picture in 8-bit RGB, the right way up, and what was done to it on the way."""

    picture: Image
    turned: bool
    transparent: bool
    sixteen_bit: bool
    frames: int


def needed() -> None:
    """Raise DataError with the install command where Pillow is not there."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise DataError("Pictures need Pillow, which is not installed: pip install 'burnish[vision]'") from error


# -------------------------------------------------------------------------------------------------------------------- which file


def inside(given: Any, folder: Path) -> Path:
    """Return the path of a picture that a row names, relative to the folder of its data.

    Raises DataError for what is no path, an address, a path that leaves the folder (links too), a file that is not there, and an ending that
    is no picture's.
    """
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise DataError(f"expected the path of a picture, found {'nothing' if given in (None, '') else repr(given)[:60]}")
    if re.match(r"[a-z][a-z0-9+.-]+:", given, re.IGNORECASE):
        raise DataError(f"{given[:60]!r}: nothing is fetched from an address; put the picture beside the data and give its path")
    path, root = folder / given, folder.resolve()
    if not path.resolve().is_relative_to(root):
        raise DataError(f"{given!r} leaves the folder of the data ({folder}); copy the picture into it")
    if not path.is_file():
        there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{given!r}: there is no such picture (looked at {path}).{suggestion(path.name, there)}")
    if path.suffix.lower() not in READERS:
        raise DataError(f"{given!r}: files ending in {path.suffix!r} are not read as pictures; expected {' '.join(ENDINGS)}")
    return path


def as_part(path: Path) -> ImagePart:
    """Return a picture's file as a part of content, known by the sha256 of its bytes."""
    return ImagePart(str(path), hashlib.sha256(_bytes(path)).hexdigest())


def _bytes(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise DataError(f"{path}: {size / 1e6:,.0f} MB are too much for a picture; at most {MOST_BYTES / 1e6:.0f} are read")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


# ---------------------------------------------------------------------------------------------------------------------- decoding


def decode(part: ImagePart) -> Image:
    """Return a picture in 8-bit RGB, its orientation tag applied, what is transparent on white, 16 bits as 8, its first frame.

    Raises DataError where it cannot be decoded, is too large to be, or is no longer the picture that the part names.
    """
    return opened(part).picture


def opened(part: ImagePart) -> Opened:
    """Return what `decode` returns, and what was done to it on the way."""
    needed()
    import PIL.Image

    if part == BLANK:
        grey = PIL.Image.new("RGB", (BLANK_SIDE, BLANK_SIDE), (BLANK_GREY,) * 3)
        return Opened(grey, False, False, False, 1)
    if part.member:
        image = array_picture(part)
        return Opened(*_as_rgb(image, str(part)), frames=1)
    path = Path(part.path)
    data = _bytes(path)
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise DataError(f"{path}: the file was changed after it was read first; begin again")
    return _decoded(data, path)


def _decoded(data: bytes, path: Path) -> Opened:
    from PIL.Image import DecompressionBombError, DecompressionBombWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", DecompressionBombWarning)
            image = READERS[path.suffix.lower()](data)
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DecompressionBombError(f"{width:,} x {height:,}")
            frames = int(getattr(image, "n_frames", 1))
            image.load()
            return Opened(*_as_rgb(image, str(path)), frames=frames)
    except (DecompressionBombError, DecompressionBombWarning) as error:
        raise DataError(
            f"{path}: is gigantic ({error}); at most {MOST_PIXELS / 1e6:.0f} million pixels are decoded. Save it smaller"
        ) from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        TypeError,
        IndexError,
        KeyError,
        struct.error,
        zlib.error,
        MemoryError,
    ) as error:
        reason = re.sub(r"\s*<.*", "", str(error), flags=re.DOTALL)[:120] or type(error).__name__
        raise DataError(
            f"{path}: cannot be decoded as {path.suffix.lower()} ({reason}). The file is damaged, cut off or something else: replace it"
        ) from error


def _as_rgb(image: Any, name: str) -> tuple[Any, bool, bool, bool]:
    """Return a picture in 8-bit RGB, and whether it was turned, had something transparent, had 16 bits."""
    import numpy as np
    import PIL.Image
    from PIL import ImageOps

    turned = image.getexif().get(0x0112, 1) not in (0, 1)
    image = ImageOps.exif_transpose(image) if turned else image
    wide = image.mode.startswith("I")
    if wide:
        values_HW = np.asarray(image).astype(np.int64)
        if values_HW.min() < 0 or values_HW.max() > 65535:
            raise DataError(
                f"{name}: its pixels are numbers outside 0 to 65,535, whose black and white is not known; save it in 8 bits"
            )
        image = PIL.Image.fromarray(np.round(values_HW / 257).astype(np.uint8))
    if image.mode == "F":
        raise DataError(f"{name}: its pixels are fractions, whose black and white is not known; save it in 8 or 16 bits")
    transparent = image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info
    if transparent:
        image = image.convert("RGBA")
        transparent = image.getchannel("A").getextrema()[0] < 255
        ground = PIL.Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = PIL.Image.alpha_composite(ground, image)
    return image.convert("RGB"), turned, transparent, wide
