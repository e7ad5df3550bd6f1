"""What comes with the package: the bundled models and sample rows, as files whose sha256 is checked when they are opened."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from burnish.errors import ModelError

FOLDER = Path(__file__).parent
BUNDLED: tuple[str, ...] = ("tiny",)


@cache
def bundled_model(name: str) -> Path:
    """Return the folder of a bundled model after checking each file against `SHA256.json`; ModelError names a damaged file."""
    folder = FOLDER / name
    try:
        expected: dict[str, str] = json.loads((folder / "SHA256.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"The bundled model {name!r} is missing from this installation ({folder}). Install burnish again."
        ) from error
    for file, digest in expected.items():
        path = folder / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ModelError(f"The bundled model's file {path} is missing or damaged. Install burnish again.")
    return folder


def sample(name: str) -> Path:
    """Return the path of a bundled sample file."""
    return FOLDER / "samples" / name
