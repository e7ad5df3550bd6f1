"""An index as files: passages as JSON lines, everything that is a number as safetensors, complete or absent.

Enters: an `Index` and a folder. Leaves: that folder, and the index again when it is opened. No pickle: what bm25s would write as `.npy` is
three plain arrays, which stand beside the others.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from burnish import atomic
from burnish.errors import RunError
from burnish.retrieval import Index, Passage, empty_bm25
from burnish.types import Origin

PASSAGES, NUMBERS, FACTS = "passages.jsonl", "index.safetensors", "index.json"


def write(index: Index, folder: Path) -> None:
    """Write an index into a folder; one that is there already is replaced as a whole."""

    def fill(place: Path) -> None:
        from safetensors.numpy import save_file

        lines = (json.dumps(asdict(passage), ensure_ascii=False) for passage in index.passages)
        text = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace").decode()
        (place / PASSAGES).write_text(text, encoding="utf-8")
        facts = {"size": index.size, "embedder": index.embedder, "documents": dict(index.digests), "words": list(index.words_W)}
        (place / FACTS).write_text(json.dumps(facts, ensure_ascii=True), encoding="utf-8")
        scores: dict[str, Any] = index.bm25.scores
        numbers = {"tokens": index.tokens_T, "ends": index.ends_P}
        numbers |= {name: np.ascontiguousarray(scores[name]) for name in ("data", "indices", "indptr")}
        if index.vectors_PF is not None:
            numbers["vectors"] = np.ascontiguousarray(index.vectors_PF)
        save_file(numbers, str(place / NUMBERS))

    atomic.write_directory(folder, fill, manifest={"passages": len(index), "documents": len(index.digests)})


def read(folder: Path) -> Index:
    """Return the index in a folder, every file checked against its manifest; RunError where it is damaged or was never completed."""
    from safetensors.numpy import load_file

    if problems := atomic.verify(folder):
        raise RunError(f"{folder}: the index is damaged ({problems[0]}). Delete the folder; it is made anew from the documents.")
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    with (folder / PASSAGES).open(encoding="utf-8") as file:
        passages = tuple(_passage(json.loads(line)) for line in file)
    numbers = load_file(str(folder / NUMBERS))
    weights = empty_bm25()
    weights.scores = {name: numbers[name] for name in ("data", "indices", "indptr")} | {"num_docs": len(passages)}
    weights.vocab_dict = {word: place for place, word in enumerate(facts["words"])}
    weights.nonoccurrence_array = None  # Lucene's variant gives nothing for words that are not there
    weights.unique_token_ids_set = set(weights.vocab_dict.values())
    return Index(
        passages=passages,
        digests=facts["documents"],
        words_W=tuple(facts["words"]),
        tokens_T=numbers["tokens"],
        ends_P=numbers["ends"],
        bm25=weights,
        size=facts["size"],
        vectors_PF=numbers.get("vectors"),
        embedder=facts["embedder"],
    )


def _passage(values: dict[str, Any]) -> Passage:
    return Passage(**{**values, "origin": Origin(**values["origin"])})
