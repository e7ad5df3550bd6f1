"""Rows that a model was trained on, known by their hashes: a score on them shows what it remembers and not what it can do.

In: examples, and the hashes that stand beside a model (`seen.npy`) or with the package (`reserved.npy`, rows that no bundled model is
trained on). Out: whether an example is among them, and a finding for rows of the user's own that are. `split` keeps such rows on the
training side; `prepare` and `evaluate` refuse to score on them.
"""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
from collections.abc import Iterable
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from burnish import atomic
from burnish.data.fields import input_text, normalised, pictures
from burnish.data.findings import SHOWN, Finding, finding, share
from burnish.errors import ModelError
from burnish.types import Example, Task, Text

PARAGRAPH = 80
"""Characters of the shortest paragraph that is hashed: a shorter one may stand in many texts (a heading, 'Answers will vary.')."""

KNOWN = 0.5
"""Share of an example's hashes from which on it counts as seen: a few paragraphs that books share do not make a new text an old one."""

STORED_BYTES = 5
"""Bytes of a hash that are kept: 150,000 of them are 0.75 MB, and a row that was not seen is taken for one once in seven million."""

_DROPPED_BITS = np.uint64(8 * (8 - STORED_BYTES))
_BLANK_LINES = re.compile(r"\n\s*\n")
_BETWEEN_WORDS = re.compile(r"[\W_]{2,}|[^\w ]|_")
"""What stands between words, unless it is one plain space."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Hashes of rows, ascending, each the first bytes of a longer one; `model` is what was trained on them, for messages."""

    hash_N: np.ndarray
    model: str = ""

    def share(self, example: Example) -> float:
        """Return the share of an example's hashes that are known; 0 where it has none."""
        own_N = _stored(row_hashes(example))
        if not own_N.size or not self.hash_N.size:
            return 0.0
        place_N = np.minimum(np.searchsorted(self.hash_N, own_N), self.hash_N.size - 1)
        return float(np.mean(self.hash_N[place_N] == own_N))

    def knows(self, example: Example) -> bool:
        """Return whether at least half of an example is known."""
        return self.share(example) >= KNOWN


def row_hashes(example: Example) -> tuple[int, ...]:
    """Return what an example is recognised by: 64-bit hashes that case, punctuation and white space do not change.

    A text has one for each of its paragraphs (divided by blank lines) of 80 characters and more. Any other row has one, of all that is
    put to the model, pictures included, and none where that is nothing: the same question with another answer is the same row.
    """
    text = example.text if isinstance(example, Text | Task) else None
    if text is not None:
        paragraphs = (words(part) for part in _BLANK_LINES.split(text))
        return tuple(_hash(part) for part in paragraphs if len(part) >= PARAGRAPH)
    asked = "\0".join((words(input_text(example)), *pictures(example)))
    return (_hash(asked),) if asked else ()


def words(text: str) -> str:
    """Return a text as it is compared here: case folded, with one space for whatever punctuation and white space stands between words.

    Punctuation between two digits stays, without the white space around it: 7 - 5 is not 7 / 5, and 1.5 is not 1, 5.
    """
    return _BETWEEN_WORDS.sub(_gap, normalised(text)).strip()


def _gap(found: re.Match[str]) -> str:
    run, text, start, end = found.group(), found.string, found.start(), found.end()
    if text[max(start - 1, 0) : start].isdigit() and text[end : end + 1].isdigit():
        return "".join(run.split()) or " "
    return _plain(run)


@lru_cache(maxsize=4096)
def _plain(run: str) -> str:
    """Return a run without word characters as spaces and what is no punctuation: signs such as + and =, and marks on letters."""
    return re.sub(" +", " ", "".join(" " if unicodedata.category(character)[0] in "PZC" else character for character in run))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _stored(hashes: Iterable[int]) -> np.ndarray:
    """Return hashes as numbers of the bytes that are kept."""
    return np.fromiter(hashes, dtype=np.uint64) >> _DROPPED_BITS


# ------------------------------------------------------------------------------------------------------------------------ the file


def seen_of(examples: Iterable[Example], *, model: str = "") -> Seen:
    """Return the hashes of examples, whatever their order."""
    return Seen(np.unique(_stored(value for example in examples for value in row_hashes(example))), model)


def save_seen(seen: Seen, path: Path) -> None:
    """Write hashes as a plain .npy file: uint8 [N, 5], the first five bytes of each, the rows ascending. Raises as `atomic.write_file`."""
    bytes_N8 = seen.hash_N.astype(">u8").view(np.uint8).reshape(-1, 8)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(bytes_N8[:, 8 - STORED_BYTES :]), allow_pickle=False)
    atomic.write_file(path, stream.getvalue())


def load_seen(path: Path, *, model: str = "") -> Seen:
    """Return the hashes that `save_seen` wrote; ModelError where the file is damaged or holds something else."""
    try:
        with path.open("rb") as stream:
            bytes_N5 = np.lib.format.read_array(stream, allow_pickle=False)
            rest = stream.read(1)
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"{path} cannot be read ({error}). {_REMEDY}") from error
    if bytes_N5.dtype != np.uint8 or bytes_N5.ndim != 2 or bytes_N5.shape[1] != STORED_BYTES or rest:
        raise ModelError(
            f"{path}: expected hashes as uint8 [N, {STORED_BYTES}], found {bytes_N5.dtype} {list(bytes_N5.shape)}. {_REMEDY}"
        )
    bytes_N8 = np.zeros((len(bytes_N5), 8), dtype=np.uint8)
    bytes_N8[:, 8 - STORED_BYTES :] = bytes_N5
    hash_N = bytes_N8.view(">u8").reshape(-1).astype(np.uint64)
    if not np.all(hash_N[:-1] < hash_N[1:]):
        raise ModelError(f"{path}: the hashes are not in ascending order. {_REMEDY}")
    return Seen(hash_N, model)


_REMEDY = "It says which rows the model was trained on: copy it again from where the model came from."


# ----------------------------------------------------------------------------------------------------------------------- the check


def check_seen(examples: ListOf[Example], seen: Seen | None, *, rows: str, shown: int = SHOWN) -> Finding | None:
    """Return an error that names the rows to score on which the model was trained on; `rows` says which these are ('data.test')."""
    known = [example for example in examples if seen is not None and seen.knows(example)]
    return finding(
        "error",
        "seen",
        what=f"of {len(examples):,} {rows} rows ({share(len(known), len(examples))}) that {seen.model!r} was trained on"
        if seen
        else "",
        hits=[(example.origin, "") for example in known],
        shown=shown,
        fix="A score on them shows what it remembers, not what it can do. Take them out, give rows written after it was made, or "
        "begin with another model (burnish ls models).",
    )
