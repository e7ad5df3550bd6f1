"""Pictures in arrays: the `.npz` files in which MedMNIST and others ship them, whole data sets in one file.

Enters: the path of such a file. Leaves: which pictures and labels it holds, by part (train, val, test), and single pictures. Arrays are read
by NumPy's own format functions from a zip whose sizes are known first; nothing that needs pickle is read.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from burnish.errors import DataError
from burnish.types import ImagePart

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 4_000_000_000
"""Bytes of one array at most."""

PAIRS = (
    (re.compile(r"(?P<part>\w+)_images"), "{part}_labels"),
    (re.compile(r"x_(?P<part>\w+)"), "y_{part}"),
    (re.compile(r"images(?P<part>)"), "labels"),
    (re.compile(r"x(?P<part>)"), "y"),
)
"""Names of an array of pictures, and what that of their labels is called then."""


class Shelf(NamedTuple):
    """The pictures of one part of a file: the name of their array, and a label (or None) for each of them."""

    part: str
    array: str
    labels: list[Any]


def shelves(path: Path, name: str) -> list[Shelf]:
    """Return the pictures that a `.npz` file holds, part by part. Raises DataError, by `name`, where it holds none that can be read."""
    arrays = _names(path, name)
    found = []
    for array in arrays:
        for pattern, labels in PAIRS:
            if (match := pattern.fullmatch(array)) is not None:
                beside = labels.format(part=match["part"])
                images = _array(str(path), array)
                _refuse_shape(images, f"{name}: array {array!r}")
                given = _labels(path, beside, len(images), name) if beside in arrays else [None] * len(images)
                found.append(Shelf(match["part"], array, given))
                break
    if not found:
        raise DataError(
            f"{name}: holds the arrays {', '.join(arrays) or 'none'}; expected pictures and labels as NAME_images and NAME_labels, images and "
            f"labels, x_NAME and y_NAME, or x and y"
        )
    return found


def array_part(path: Path, array: str, number: int) -> ImagePart:
    """Return picture `number` of an array as a part of content, known by the sha256 of its shape and pixels."""
    pixels = np.ascontiguousarray(_array(str(path), array)[number])
    digest = hashlib.sha256(repr((pixels.shape, pixels.dtype.str)).encode() + pixels.tobytes()).hexdigest()
    return ImagePart(str(path), digest, f"{array}[{number}]")


def array_picture(part: ImagePart) -> Image:
    """Return the picture that a part of such a file names, 8 or 16 bits, grey or in colour. DataError where the file has changed."""
    import PIL.Image

    match = re.fullmatch(r"(\w+)\[(\d+)\]", part.member)
    assert match is not None, f"{part.member!r} names no picture of an array"
    array, number = match[1], int(match[2])
    if array_part(Path(part.path), array, number) != part:
        raise DataError(f"{part}: the file was changed after it was read first; begin again")
    pixels = _array(part.path, array)[number]
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return PIL.Image.fromarray(np.ascontiguousarray(pixels))


def _labels(path: Path, array: str, count: int, name: str) -> list[Any]:
    """Return the label of each picture as a plain value: a number or text, or the list of those that hold where there are columns of 0 and 1."""
    labels = _array(str(path), array)
    if len(labels) != count:
        raise DataError(f"{name}: array {array!r} has {len(labels)} labels for {count} pictures; expected one each")
    if labels.ndim == 2 and labels.shape[1] > 1 and set(np.unique(labels).tolist()) <= {0, 1}:
        return [np.flatnonzero(row).tolist() for row in labels]
    if labels.ndim > 2 or (labels.ndim == 2 and labels.shape[1] != 1):
        raise DataError(
            f"{name}: array {array!r} has the shape {labels.shape}; expected a label each, or a column of 0 and 1 for each label"
        )
    return labels.reshape(count).tolist()


def _refuse_shape(images: np.ndarray, name: str) -> None:
    grey, colour = images.ndim == 3, images.ndim == 4 and images.shape[-1] in (1, 3, 4)
    if (
        not (grey or colour)
        or images.dtype not in (np.uint8, np.uint16)
        or (images.dtype == np.uint16 and colour and images.shape[-1] > 1)
    ):
        raise DataError(
            f"{name} has the shape {images.shape} and type {images.dtype}; expected uint8 [pictures, height, width] or [..., 1, 3 or 4 channels], "
            f"or uint16 in grey"
        )


def _names(path: Path, name: str) -> list[str]:
    try:
        with zipfile.ZipFile(path) as file:
            return [entry.filename.removesuffix(".npy") for entry in file.infolist() if entry.filename.endswith(".npy")]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{name}: cannot be read as .npz ({error}); write the file again with numpy.savez") from error


def _array(path: str, array: str) -> np.ndarray:
    """Return an array of a file; the last few are kept, since each picture of it is asked for by itself."""
    stat = Path(path).stat()
    return _read(path, array, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read(path: str, array: str, changed: int, size: int) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as file:
            entry = file.getinfo(f"{array}.npy")
            if entry.file_size > MOST_BYTES:
                raise DataError(
                    f"{path}: array {array!r} takes {entry.file_size / 1e9:.1f} GB, at most {MOST_BYTES / 1e9:.0f} are read; write the pictures "
                    f"as files, a folder for each class"
                )
            with file.open(entry) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, KeyError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: array {array!r} cannot be read ({str(error)[:120]}); write the file again with numpy.savez"
        ) from error
