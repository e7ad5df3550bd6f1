"""Set up the bench: the base loaded, the documents indexed, and the index of the time before brought up to date.

Enters: the plan of a run, its rows, and the run directory. Leaves: a `Bench`, and the seconds that indexing took.
"""

from __future__ import annotations

import time
from pathlib import Path

from burnish import retrieval_store
from burnish.decide.bench import Bench, questions_of
from burnish.decide.protocol import Rows
from burnish.devices import choose_device
from burnish.errors import RunError
from burnish.models import load_model
from burnish.prepare import Plan
from burnish.retrieval import Embed, Index, build, update

FOLDER = "decide"
"""Below the run directory: everything that is kept of a decision."""


def open_bench(plan: Plan, rows: Rows, output: Path) -> tuple[Bench, float]:
    """Return the bench, and the seconds that the index of the documents took; one that is there already is brought up to date."""
    config = plan.resolved.config
    target = choose_device(config.dtype, moves_base=False, threads=config.threads)
    embed: Embed | None = None
    if config.decide.embedder is not None:
        from burnish.retrieval_dense import open_embedder

        embed = open_embedder(config.decide.embedder, device=target.name)
    started = time.perf_counter()
    index = _index(rows, output / FOLDER / "index", plan, embed) if rows.documents else None
    seconds = time.perf_counter() - started
    model = load_model(plan.found.name, target)
    bench = Bench(plan, rows, output / FOLDER, model, index, questions_of(rows.train), rows.train, embed, rows.wordings)
    return bench, seconds


def _index(rows: Rows, folder: Path, plan: Plan, embed: Embed | None) -> Index:
    """Return the index of the documents, kept in the folder."""
    settings = plan.resolved.config.decide
    try:
        before = retrieval_store.read(folder)
    except RunError:
        before = None
    if before is not None and (before.size, before.embedder) == (settings.passage_size, settings.embedder):
        names = {document.name for document in rows.documents}
        index = update(before, rows.documents, remove=[name for name in before.digests if name not in names], embed=embed)
    else:
        index = build(rows.documents, size=settings.passage_size, embed=embed, embedder=settings.embedder)
    retrieval_store.write(index, folder)
    return index


def corpus_fits(bench: Bench) -> bool:
    """Whether all documents fit beside a question."""
    if bench.index is None:
        return False
    tokens = 0
    for document in bench.rows.documents:
        tokens += len(bench.model.tokenizer(document.text, add_special_tokens=False)["input_ids"])
        if tokens > bench.room:
            return False
    return tokens + max(bench.tokens(item.task) for item in bench.rows.test) + 8 * len(bench.rows.documents) <= bench.room
