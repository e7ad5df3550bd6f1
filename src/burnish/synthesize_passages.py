"""Documents as passages: a source of data in, pieces of about 200 tokens at sentence bounds out, each with where it stands.

The first stage of `synthesize`. A passage never reaches over the border of a section, page or row. Tokens are counted as words and
signs, whichever model writes afterwards, so that the same documents always give the same passages, with the same hashes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from burnish.data.fields import normalised
from burnish.data.formats import examples
from burnish.data.sources import read
from burnish.errors import ConfigError, DataError, combined
from burnish.retrieval_pieces import count_tokens, pieces
from burnish.types import Origin, Text

SIZE = 200
SHORTEST = 12
"""Tokens below which a piece tells too little to write anything from: a lone heading, a page number."""

_LINED = frozenset({".txt", ".text", ".md", ".markdown"})
"""Endings of files whose text is read as it stands, so that a line can be counted on from the first one."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: its text, where it begins, and the first 16 hex digits of the sha256 of its normalised text."""

    text: str
    origin: Origin
    sha256: str

    @property
    def group(self) -> str:
        """What this passage and all rows made from it share, so that no split divides them."""
        return f"passage:{self.sha256}"


@dataclass(frozen=True, slots=True)
class Passages:
    """The passages of a source in reading order, each text once, and how many pieces were left out as too short or repeated."""

    passages: tuple[Passage, ...]
    short: int
    repeated: int
    warnings: tuple[str, ...]


def read_passages(source: str, *, size: int = SIZE, base: Path | None = None) -> Passages:
    """Return the passages of a file or folder of documents (or of rows that the format `text` reads), of about `size` tokens.

    Raises ConfigError for a size below 20, DataError with everything that cannot be read, or where nothing is left to write from.
    """
    if size < 20:
        raise ConfigError(f"A passage of {size} tokens says too little to write from; expected at least 20, and 200 is usual.")
    table = read(source, base=base)
    found = examples(table, format="text")
    if found.problems:
        raise combined(DataError, f"{source} cannot be read as it is", found.problems)
    passages: dict[str, Passage] = {}
    short = repeated = 0
    for text in (one for one in found.examples if isinstance(one, Text)):
        for start, end in pieces(text.text, size):
            piece = text.text[start:end]
            digest = hashlib.sha256(normalised(piece).encode("utf-8", "surrogatepass")).hexdigest()[:16]
            if count_tokens(piece) < SHORTEST:
                short += 1
            elif digest in passages:
                repeated += 1
            else:
                passages[digest] = Passage(piece, _place(text, start), digest)
    if not passages:
        raise DataError(f"{source}: no passage of {SHORTEST} words or more was found; give documents with running text")
    return Passages(tuple(passages.values()), short, repeated, tuple(found.warnings))


def _place(text: Text, start: int) -> Origin:
    """Return where a piece begins: in files of lines the line itself, else what the whole text says of itself."""
    origin = text.origin
    endings = [ending for ending in Path(origin.file).suffixes if ending.lower() not in (".gz", ".xz")]
    lined = text.group == origin.file and bool(endings) and endings[-1].lower() in _LINED
    if origin.line is None or not lined:
        return origin
    return replace(origin, line=origin.line + text.text.count("\n", 0, start))
