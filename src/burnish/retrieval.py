"""Retrieval: documents as text in, the passages that a question needs out.

Enters: `Document` texts, read elsewhere (`data.sources`), and questions. Leaves: passages with the document, page and line they come from.
An index is made once, brought up to date with what changed, and kept in the run directory (`retrieval_store`). Used by `decide`, and open
to whatever answers questions over documents.

Three ways of looking: "bm25" by words (Robertson and Zaragoza 2009, as Lucene counts it), "dense" by the vectors of an embedding model,
"fused" by both, joined by reciprocal rank. Vectors are compared with all others: exact up to hundreds of thousands of passages.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from burnish.errors import ConfigError, DataError
from burnish.retrieval_pieces import pieces
from burnish.types import Origin

if TYPE_CHECKING:
    from bm25s import BM25

How = Literal["bm25", "dense", "fused"]
Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts to vectors [texts, features] of length 1."""

SIZE = 120
"""Words and signs of a passage."""
RANK_CONSTANT = 60
"""How much the first ranks count in the fusion: Cormack, Clarke and Büttcher 2009, "Reciprocal Rank Fusion"."""
DEPTH = 100
"""Passages of each list that are fused."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Document:
    """A text of a document: the whole, a section or a page. Texts of one document share its `name`, by which it is replaced or removed."""

    name: str
    text: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: characters `start` to `end` of its text number `part`, and where that text stands."""

    document: str
    text: str
    origin: Origin
    part: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Passages that can be looked through.

    `digests` are sha256 of each document by name; `words_W` the vocabulary, sorted; `tokens_T` the words of all passages, one after the other,
    as places in it, and `ends_P` where each passage ends there. `vectors_PF` are the embeddings, None without an embedding model,
    and `embedder` that model's name.
    """

    passages: tuple[Passage, ...]
    digests: Mapping[str, str]
    words_W: tuple[str, ...]
    tokens_T: np.ndarray
    ends_P: np.ndarray
    bm25: BM25
    size: int = SIZE
    vectors_PF: np.ndarray | None = None
    embedder: str | None = None

    def __len__(self) -> int:
        """Number of passages."""
        return len(self.passages)


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that was found, by its place in the index, and how well it fits; values of different ways of looking do not compare."""

    place: int
    passage: Passage
    value: float


# ------------------------------------------------------------------------------------------------------------ making, changing


def build(documents: Iterable[Document], *, size: int = SIZE, embed: Embed | None = None, embedder: str | None = None) -> Index:
    """Return the index of documents, in passages of about `size` words and signs.

    `embed` gives vectors for looking by meaning; without it only "bm25" can be asked for. Raises DataError where there is no text at all.
    """
    empty = np.zeros(0, dtype=np.int32)
    nothing = Index((), {}, (), empty, empty.astype(np.int64), _weighed(empty, empty.astype(np.int64), ()), size, None, embedder)
    return update(nothing, documents, embed=embed)


def update(index: Index, documents: Iterable[Document] = (), *, remove: Iterable[str] = (), embed: Embed | None = None) -> Index:
    """Return the index with documents added, or replaced where they changed, and those named in `remove` taken out.

    Only what changed is cut and embedded again; the weights of words, which depend on all passages, are counted anew. The result is that of
    `build` on the documents as they are now, whatever the history. Raises DataError for a name that is not there, or if nothing is left.
    """
    changed, gone = _changes(index, documents, remove)
    digests = {name: digest for name, digest in index.digests.items() if name not in gone}
    digests |= {name: _digest(texts) for name, texts in changed.items()}
    kept = [
        place for place, passage in enumerate(index.passages) if passage.document not in gone and passage.document not in changed
    ]
    fresh = [passage for texts in changed.values() for passage in _cut(texts, index.size)]
    if not kept and not fresh:
        raise DataError("No text is left in the documents, so there is nothing to look in. Give documents with running text.")
    passages = [index.passages[place] for place in kept] + fresh
    vectors = _vectors(index, kept, fresh, embed)
    order = sorted(range(len(passages)), key=lambda place: (passages[place].document, passages[place].part, passages[place].start))
    words_W, spoken = _spoken(index, kept, fresh)
    tokens_T = np.concatenate([spoken[place] for place in order])
    ends_P = np.cumsum([len(spoken[place]) for place in order], dtype=np.int64)
    return replace(
        index,
        passages=tuple(passages[place] for place in order),
        digests=dict(sorted(digests.items())),
        words_W=words_W,
        tokens_T=tokens_T,
        ends_P=ends_P,
        bm25=_weighed(tokens_T, ends_P, words_W),
        vectors_PF=None if vectors is None else vectors[order],
    )


def _changes(index: Index, documents: Iterable[Document], remove: Iterable[str]) -> tuple[dict[str, list[Document]], set[str]]:
    """Return the texts of documents that are new or changed, by name, and the names to take out."""
    texts: dict[str, list[Document]] = {}
    for document in documents:
        texts.setdefault(document.name, []).append(document)
    gone = set(remove)
    if unknown := sorted(gone - index.digests.keys()):
        raise DataError(f"No document in the index is called {unknown[0]!r}, so it cannot be removed ({len(unknown)} such names).")
    return {name: parts for name, parts in texts.items() if index.digests.get(name) != _digest(parts)}, gone - texts.keys()


def _digest(texts: Sequence[Document]) -> str:
    """Return a sha256 of the texts of one document and where they stand."""
    told = "\x1e".join(f"{text.origin}\x1f{text.text}" for text in texts)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def _cut(texts: Sequence[Document], size: int) -> list[Passage]:
    """Return the passages of one document; none reaches over the border of a section or page."""
    return [
        Passage(text.name, text.text[start:end], text.origin, part, start, end)
        for part, text in enumerate(texts)
        for start, end in pieces(text.text, size)
    ]


def _vectors(index: Index, kept: Sequence[int], fresh: Sequence[Passage], embed: Embed | None) -> np.ndarray | None:
    """Return the vectors of kept and fresh passages, only the latter embedded; None where there is no embedding model."""
    if embed is None and index.vectors_PF is None:
        return None
    if embed is None:
        raise ConfigError(f"This index has vectors of {index.embedder}; it can only be changed with that embedding model at hand.")
    if kept and index.vectors_PF is None:
        raise ConfigError(
            "This index was made without an embedding model, so passages in it have no vectors. Build it again with one."
        )
    made = embed([passage.text for passage in fresh]) if fresh else None
    parts = [
        part for part in (index.vectors_PF[list(kept)] if kept and index.vectors_PF is not None else None, made) if part is not None
    ]
    return np.concatenate(parts).astype(np.float32)


def _spoken(index: Index, kept: Sequence[int], fresh: Sequence[Passage]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Return the vocabulary of kept and fresh passages, sorted, and the words of each as places in it."""
    before = [index.tokens_T[slice(*_bounds(index, place))] for place in kept]
    used = np.unique(np.concatenate(before)) if before else np.zeros(0, dtype=np.int32)
    added = [words_of(passage.text) for passage in fresh]
    words_W = tuple(sorted({index.words_W[place] for place in used.tolist()}.union(*added)))
    place_of = {word: place for place, word in enumerate(words_W)}
    moved = np.zeros(len(index.words_W), dtype=np.int32)
    moved[used] = [place_of[index.words_W[place]] for place in used.tolist()]
    return words_W, [
        *(moved[ids] for ids in before),
        *(np.asarray([place_of[word] for word in words], dtype=np.int32) for words in added),
    ]


def words_of(text: str) -> list[str]:
    """Return the words of a text as they are compared: letters and digits, case aside."""
    return [word.casefold() for word in _WORD.findall(text)]


def _bounds(index: Index, place: int) -> tuple[int, int]:
    return int(index.ends_P[place - 1]) if place else 0, int(index.ends_P[place])


def _weighed(tokens_T: np.ndarray, ends_P: np.ndarray, words_W: Sequence[str]) -> BM25:
    """Return the weight of each word in each passage, as sparse columns."""
    weights = empty_bm25()
    if len(ends_P):
        starts = [0, *ends_P[:-1].tolist()]
        ids = [tokens_T[start:end].tolist() for start, end in zip(starts, ends_P.tolist(), strict=True)]
        weights.index((ids, {word: place for place, word in enumerate(words_W)}), show_progress=False)
    return weights


def empty_bm25() -> Any:
    """Return weights of no passage yet: Lucene's variant with its usual constants, in plain NumPy."""
    from bm25s import BM25

    return BM25(method="lucene", k1=1.5, b=0.75, backend="numpy")


# ---------------------------------------------------------------------------------------------------------------------- looking


def search(index: Index, question: str, *, limit: int = 5, how: How = "bm25", embed: Embed | None = None) -> list[Found]:
    """Return the `limit` passages that fit a question best, the best first; fewer where no more have anything in common with it.

    Of passages with the same words only the first is given. Raises ConfigError where vectors are asked for and there are none.
    """
    deep = max(limit, DEPTH)
    if how == "bm25":
        ranked = _by_words(index, question, deep)
    elif index.vectors_PF is None or embed is None:
        raise ConfigError(f"Looking {how!r} needs an embedding model, and this index was made without one. Use 'bm25'.")
    elif how == "dense":
        ranked = _by_meaning(index, question, deep, embed)
    else:
        ranked = fused([_by_words(index, question, deep), _by_meaning(index, question, deep, embed)])
    found: dict[tuple[int, ...], Found] = {}
    for place, value in ranked:
        words = tuple(index.tokens_T[slice(*_bounds(index, place))].tolist())
        if words not in found:
            found[words] = Found(place, index.passages[place], value)
        if len(found) == limit:
            break
    return list(found.values())


def _by_words(index: Index, question: str, limit: int) -> list[tuple[int, float]]:
    """Return (place, value) of the passages that share words with a question."""
    ids = index.bm25.get_tokens_ids(words_of(question))
    return _best(index.bm25.get_scores_from_ids(ids), limit, above=0.0) if ids else []


def _by_meaning(index: Index, question: str, limit: int, embed: Embed) -> list[tuple[int, float]]:
    """Return (place, cosine) of the passages whose vectors are nearest to that of a question."""
    assert index.vectors_PF is not None
    return _best(index.vectors_PF @ embed([question])[0].astype(np.float32), limit, above=-np.inf)


def _best(values_P: np.ndarray, limit: int, *, above: float) -> list[tuple[int, float]]:
    """Return (place, value) of the greatest values, ties in the order of places."""
    if len(values_P) > limit:
        least = np.partition(values_P, -limit)[-limit]
        places = np.flatnonzero(values_P >= least)
    else:
        places = np.arange(len(values_P))
    order = places[np.argsort(-values_P[places], kind="stable")][:limit]
    return [(int(place), float(values_P[place])) for place in order if values_P[place] > above]


def fused(lists: Sequence[Sequence[tuple[int, float]]]) -> list[tuple[int, float]]:
    """Return ranked lists joined by reciprocal rank: each list adds 1 / (60 + rank) to what stands in it."""
    values: dict[int, float] = {}
    for ranked in lists:
        for rank, (place, _) in enumerate(ranked, 1):
            values[place] = values.get(place, 0.0) + 1.0 / (RANK_CONSTANT + rank)
    return sorted(values.items(), key=lambda item: (-item[1], item[0]))


def fitted(texts: Sequence[str], *, fits: Callable[[Sequence[str]], bool]) -> list[str]:
    """Return as many of the texts, the first ones first, as fit; the last one is cut at a word's end where only its beginning does.

    `fits` says whether these texts together stay within a budget, such as the tokens that a prompt has room for.
    """
    taken: list[str] = []
    for text in texts:
        if fits([*taken, text]):
            taken.append(text)
            continue
        ends = [found.end() for found in _WORD.finditer(text)]
        low, high = 0, len(ends)  # the most words that still fit, by bisection
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits([*taken, text[: ends[middle - 1]]]) else (low, middle - 1)
        if low * 4 >= len(ends):  # a few words of a passage say nothing
            taken.append(text[: ends[low - 1]])
        break
    return taken
