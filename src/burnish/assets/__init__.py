"""What comes with the package: the bundled models and sample rows, as files whose sha256 is checked when they are opened.

Beside the weights of a model may lie `seen.npy`, the hashes of the rows that it was trained on, and beside all of them `reserved.npy`,
those of rows of public sets that none was trained on. `data.seen` reads both.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from burnish.errors import ModelError

FOLDER = Path(__file__).parent
BUNDLED: tuple[str, ...] = ("tiny", "tiny-chat")
SEEN = "seen.npy"
"""The file of a model's folder that holds the hashes of the rows it was trained on."""


@cache
def bundled_model(name: str) -> Path:
    """Return the folder of a bundled model after checking each file against `SHA256.json`; ModelError names a damaged file."""
    return _checked(FOLDER / name, f"model {name!r}")


PROBE = ("text", "reading", "choice", "instructions", "unanswerable", "unsafe")


def probe(name: str) -> list[dict[str, Any]]:
    """Return the rows of a part of the general probe, which no model may be trained on: one of `PROBE`; files checked likewise."""
    assert name in PROBE, f"the probe has no part {name!r}"
    path = _checked_probe() / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@cache
def _checked_probe() -> Path:
    return _checked(FOLDER / "probe", "probe")


def _checked(folder: Path, what: str) -> Path:
    """Return a folder after checking each of its files against `SHA256.json`."""
    try:
        expected: dict[str, str] = json.loads((folder / "SHA256.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"The bundled {what} is missing from this installation ({folder}). Install burnish again.") from error
    for file, digest in expected.items():
        path = folder / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ModelError(f"The file {path} of the bundled {what} is missing or damaged. Install burnish again.")
    return folder


def sample(name: str) -> Path:
    """Return the path of a bundled sample file."""
    return FOLDER / "samples" / name


def reserved() -> Path | None:
    """Return the file with the hashes of rows that every run holds out, None where the package has none."""
    path = FOLDER / "reserved.npy"
    return path if path.is_file() else None
