"""An upload read as it comes in: the file straight to where it will lie, the other parts as short texts.

Enters: the body of a request (multipart/form-data). Leaves: an `Upload`, whose file is on the disk; nothing passes through memory or the
folder for temporary files, which may be small. An upload that breaks off, or does not keep to the form, leaves nothing.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from fastapi.concurrency import run_in_threadpool
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from burnish.disk import explained
from burnish.serve.problems import ApiError, wrong

MOST_PARTS = 8
LONGEST_FIELD = 1024
FORM = "multipart/form-data"


@dataclass(slots=True)
class Upload:
    """What came in: the short parts by name, and of the file its name and size (None: no file came)."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    size: int = 0


async def receive(content_type: str, body: AsyncIterator[bytes], place: Path) -> Upload:
    """Write the part called `file` to `place`, and return what came; the ApiError (400) of a body that is no such form.

    `place` is gone again where anything fails.
    """
    kind, options = parse_options_header(content_type)
    if kind.decode("latin-1") != FORM or not options.get(b"boundary"):
        raise wrong(f"Expected an upload: {FORM} with the parts file and purpose.", param="file")
    with explained(place):
        target = place.open("xb")
        try:
            with target:
                reading = _Reading(target)
                await _read(reading, options[b"boundary"], body)
                await run_in_threadpool(_synced, target)
        except BaseException:
            place.unlink(missing_ok=True)
            raise
    return reading.upload


async def _read(reading: _Reading, boundary: bytes, body: AsyncIterator[bytes]) -> None:
    try:
        parser = MultipartParser(boundary, reading.callbacks())  # type: ignore[arg-type]
        async for piece in body:
            parser.write(piece)
    except FormParserError:
        raise wrong(f"The upload does not keep to {FORM}.", param="file") from None
    if not reading.complete:
        raise wrong("The upload broke off before its end.", param="file")


def _synced(target: BinaryIO) -> None:
    target.flush()
    os.fsync(target.fileno())


class _Reading:
    """The state of a form that is being read; a class because the parser calls back."""

    def __init__(self, target: BinaryIO) -> None:
        self.upload, self.complete = Upload(), False
        self._target = target
        self._parts = 0
        self._header, self._value, self._headers = b"", b"", {}
        self._name, self._is_file, self._text = "", False, b""

    def callbacks(self) -> dict[str, Any]:
        """Return what the parser calls, by its names."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._field,
            "on_header_value": self._more,
            "on_header_end": self._header_end,
            "on_headers_finished": self._described,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._over,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise wrong(f"The upload has more than {MOST_PARTS} parts.", param="file")
        self._headers, self._text = {}, b""

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _more(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _described(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == "file" and b"filename" in options
        if self._name in self.upload.fields or (self._is_file and self.upload.filename is not None):
            raise wrong(f"{self._name[:64]}: stands more than once in the upload.", param=self._name[:64])
        if self._is_file:
            self.upload.filename = options[b"filename"].decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.upload.size += self._target.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > LONGEST_FIELD:
            raise ApiError(
                400, f"{self._name[:64]}: is longer than {LONGEST_FIELD} bytes.", param=self._name[:64], code="invalid_value"
            )

    def _end(self) -> None:
        if not self._is_file:
            self.upload.fields[self._name] = self._text.decode("utf-8", "replace")

    def _over(self) -> None:
        self.complete = True
