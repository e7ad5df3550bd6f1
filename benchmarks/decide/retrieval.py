"""How long indexing, updating and looking take, on real passages: medquad's answers (CC BY 4.0, U.S. National Institutes of Health).

    burnish data get medquad
    python benchmarks/decide/retrieval.py [--write]

Enters: the public set by name. Leaves: figures on standard output, with --write also benchmarks/decide/retrieval.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from burnish import retrieval_store
from burnish.data.sources import read
from burnish.environment import environment
from burnish.retrieval import SIZE, Document, build, search, update
from burnish.retrieval_pieces import pieces

PASSAGES, QUESTIONS = 10_000, 500


def seconds(call) -> tuple[float, object]:
    started = time.perf_counter()
    made = call()
    return time.perf_counter() - started, made


def measure() -> dict[str, object]:
    """Return the figures: seconds of each stage, milliseconds per question."""
    rows = [row for row in read("public:medquad").rows if row.values["answer"]]
    documents = [
        Document(f"{row.values['file']}:{number}", str(row.values["answer"]), row.origin) for number, row in enumerate(rows)
    ]
    sizes = np.cumsum([len(pieces(one.text, SIZE)) for one in documents])
    count = int(np.searchsorted(sizes, PASSAGES)) + 1
    building, index = seconds(lambda: build(documents[:count]))
    changed = [Document(one.name, f"{one.text} Changed.", one.origin) for one in documents[:10]]
    updating, _ = seconds(lambda: update(index, changed))
    folder = Path(tempfile.mkdtemp()) / "index"
    writing, _ = seconds(lambda: retrieval_store.write(index, folder))
    reading, index = seconds(lambda: retrieval_store.read(folder))
    questions = [str(row.values["question"]) for row in rows[: QUESTIONS * 7 : 7]]
    search(index, questions[0])
    taken = np.array([seconds(lambda one=one: search(index, one))[0] for one in questions]) * 1000
    assert all(search(index, one) for one in questions), "each question shares words with some passage"
    return {
        "documents": count,
        "passages": len(index),
        "index_seconds": round(building, 2),
        "update_ten_documents_seconds": round(updating, 2),
        "write_seconds": round(writing, 2),
        "read_seconds": round(reading, 2),
        "megabytes": round(sum(file.stat().st_size for file in folder.iterdir()) / 1e6, 1),
        "questions": len(questions),
        "query_p50_ms": round(float(np.quantile(taken, 0.5)), 2),
        "query_p95_ms": round(float(np.quantile(taken, 0.95)), 2),
        "query_max_ms": round(float(taken.max()), 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    found = measure()
    print(json.dumps(found, indent=2))
    if parser.parse_args().write:
        told = {"command": "python benchmarks/decide/retrieval.py --write", **found, "machine": environment().get("cpu")}
        Path(__file__).with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
