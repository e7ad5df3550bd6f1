"""Retrieval: the same index whatever its history, kept without loss, exact rankings, passages that say where they stand."""

from __future__ import annotations

import json
from collections import Counter
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish import retrieval_store
from burnish.errors import ConfigError, DataError, RunError
from burnish.retrieval import Document, Index, build, fitted, fused, search, update, words_of
from burnish.types import Origin
from run_files import UNHURRIED

WORDS = ["lamp", "parcel", "river", "gate", "bakery", "harbour", "hill", "mill", "square", "north", "old", "blue", "green"]


def document(name: str, text: str, line: int = 1, section: str | None = None) -> Document:
    return Document(name, text, Origin(name, line, section))


def some_documents(count: int = 30, seed: int = 0) -> list[Document]:
    draw = np.random.default_rng(seed)
    sentences = [" ".join(draw.choice(WORDS, size=8)).capitalize() + "." for _ in range(count * 12)]
    return [document(f"doc{number}.md", " ".join(sentences[number * 12 : (number + 1) * 12])) for number in range(count)]


def bag(texts: list[str]) -> np.ndarray:
    """Embed texts as their counts of the known words: enough to tell whether vectors follow their passages."""
    counts = np.array([[words_of(text).count(word) for word in WORDS] for text in texts], dtype=np.float32).reshape(-1, len(WORDS))
    return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def same(one: Index, other: Index) -> None:
    assert one.passages == other.passages and one.digests == other.digests and one.words_W == other.words_W
    assert np.array_equal(one.tokens_T, other.tokens_T) and np.array_equal(one.ends_P, other.ends_P)
    for name in ("data", "indices", "indptr"):
        assert np.array_equal(one.bm25.scores[name], other.bm25.scores[name]), name
    assert (one.vectors_PF is None) == (other.vectors_PF is None)
    if one.vectors_PF is not None and other.vectors_PF is not None:
        assert np.array_equal(one.vectors_PF, other.vectors_PF)


def lucene(index: Index, question: str, k1: float = 1.5, b: float = 0.75) -> np.ndarray:
    """Return BM25 written down from its formula, one passage at a time."""
    words = [words_of(passage.text) for passage in index.passages]
    mean = sum(map(len, words)) / len(words)
    values = np.zeros(len(words))
    for asked in words_of(question):
        holding = sum(asked in one for one in words)
        weight = log(1 + (len(words) - holding + 0.5) / (holding + 0.5))
        for place, one in enumerate(words):
            often = Counter(one)[asked]
            values[place] += weight * often / (often + k1 * (1 - b + b * len(one) / mean)) if often else 0.0
    return values


def test_bm25_is_the_formula() -> None:
    index = build(some_documents(8), size=20)
    for question in ("old mill lamp", "Where is the blue parcel, the PARCEL?"):
        expected = lucene(index, question)
        found = search(index, question, limit=len(index))
        assert [hit.value for hit in found] == pytest.approx([expected[hit.place] for hit in found], rel=1e-5)
        assert [hit.value for hit in found] == sorted((hit.value for hit in found), reverse=True)


@UNHURRIED
@given(st.data())
def test_an_index_does_not_depend_on_its_history(data: st.DataObject) -> None:
    """Added, changed and removed in any order: the index is that of the documents as they are now, vectors too."""
    pool = some_documents(6)
    first = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=6, unique_by=lambda one: one.name))
    index = build(first, size=20, embed=bag)
    now = {one.name: one for one in first}
    for _ in range(data.draw(st.integers(1, 3))):
        added = data.draw(st.lists(st.sampled_from(pool), max_size=3, unique_by=lambda one: one.name))
        added = [document(one.name, one.text + data.draw(st.sampled_from(["", " Also the old river."]))) for one in added]
        removable = sorted(now.keys() - {one.name for one in added})
        removed = (
            data.draw(st.lists(st.sampled_from(removable), max_size=len(removable) - (not added), unique=True)) if removable else []
        )
        index = update(index, added, remove=removed, embed=bag)
        now = {name: one for name, one in now.items() if name not in removed} | {one.name: one for one in added}
    same(index, build(now.values(), size=20, embed=bag))


def test_only_what_changed_is_embedded_again() -> None:
    seen: list[str] = []

    def embed(texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return bag(texts)

    documents = some_documents(5)
    index = build(documents, embed=embed)
    seen.clear()
    changed = document("doc3.md", "The lighthouse is white.")
    index = update(index, [*documents[:3], changed], embed=embed)
    assert seen == [changed.text]
    assert search(index, "a white lighthouse", limit=1)[0].passage.text == changed.text


def test_a_kept_index_opens_as_it_was(tmp_path: Path) -> None:
    index = build([*some_documents(5), document("odd.md", "half \ud800 a pair, 漢字.")], embed=bag, embedder="bag")
    retrieval_store.write(index, tmp_path / "index")
    again = retrieval_store.read(tmp_path / "index")
    same(index, again)
    assert again.embedder == "bag"
    assert [hit.place for hit in search(again, "old mill", how="fused", embed=bag)] == [
        hit.place for hit in search(index, "old mill", how="fused", embed=bag)
    ]
    assert sorted(file.suffix for file in (tmp_path / "index").iterdir()) == [".json", ".json", ".jsonl", ".safetensors"]
    with (tmp_path / "index" / "passages.jsonl").open("a") as file:
        file.write(json.dumps({}) + "\n")
    with pytest.raises(RunError, match="damaged"):
        retrieval_store.read(tmp_path / "index")


def test_passages_say_where_they_stand() -> None:
    text = "The lamp is blue. " * 30 + "\n\nThe harbour is north."
    parts = [document("a.pdf", text, section="page 1"), document("a.pdf", "A page of its own.", section="page 2")]
    index = build(parts, size=30)
    for passage in index.passages:
        assert parts[passage.part].text[passage.start : passage.end] == passage.text
        assert passage.origin == parts[passage.part].origin
    assert {passage.origin.section for passage in index.passages} == {"page 1", "page 2"}


def test_repeated_passages_are_given_once() -> None:
    texts = ["The old lamp.", "The OLD lamp!", "The old river lamp."]
    index = build([document(f"{number}.md", text) for number, text in enumerate(texts)])
    assert [hit.passage.text for hit in search(index, "old lamp")] == [texts[0], texts[2]]


def test_fusion_is_reciprocal_rank() -> None:
    joined = fused([[(7, 9.0), (3, 1.0)], [(3, 0.2), (5, 0.1)]])
    assert joined == [(3, pytest.approx(1 / 62 + 1 / 61)), (7, pytest.approx(1 / 61)), (5, pytest.approx(1 / 62))]


def test_what_cannot_be_asked_is_said() -> None:
    index = build(some_documents(2))
    with pytest.raises(ConfigError, match="embedding model"):
        search(index, "lamp", how="fused")
    with pytest.raises(DataError, match=r"nothere\.md"):
        update(index, remove=["nothere.md"])
    with pytest.raises(DataError, match="No text"):
        build([])
    with pytest.raises(DataError, match="No text"):
        update(index, remove=["doc0.md", "doc1.md"])
    assert search(index, "") == [] and search(index, "zzz ???") == []


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join), max_size=6), st.integers(0, 60))
def test_passages_are_cut_to_fit(texts: list[str], room: int) -> None:
    def fits(chosen: list[str]) -> bool:
        return sum(len(text.split()) for text in chosen) <= room

    taken = fitted(texts, fits=fits)
    assert fits(taken) and all(text.startswith(one) for one, text in zip(taken, texts, strict=False))
    assert taken[:-1] == texts[: max(len(taken) - 1, 0)]
    if taken and taken[-1] != texts[len(taken) - 1]:  # the most that fits: one word more would not
        cut, whole = taken[-1].split(), texts[len(taken) - 1].split()
        assert not fits([*taken[:-1], " ".join(whole[: len(cut) + 1])])
