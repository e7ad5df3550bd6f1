"""`burnish decide` from run file to report on the stub: every arm, what is refused, what is reused, what a failing arm leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runs import cli
from stub import make_stub

TOWNS = ("Alder", "Birch", "Cedar", "Dorn", "Elm", "Fern", "Gorse", "Hazel", "Iris", "Juniper", "Kelp", "Lime")
THINGS = ("bridge", "tower", "mill", "gate", "square")
COLOURS = ("blue", "green", "red", "grey", "black", "yellow", "brown", "white", "pink", "violet", "orange", "silver")


def squad(path: Path) -> Path:
    """Write questions on documents of their own: what colour something in a town is."""
    documents = []
    for place, town in enumerate(TOWNS):
        text, rows = f"{town} is a town by the sea.", []
        for number, thing in enumerate(THINGS):
            colour = COLOURS[(place * 5 + number * 7) % len(COLOURS)]
            sentence = f" The {thing} of {town} is {colour}."
            rows.append(
                {
                    "id": f"{town}{thing}",
                    "question": f"What colour is the {thing} of {town}?",
                    "answers": [{"text": colour, "answer_start": len(text) + sentence.index(colour)}],
                }
            )
            text += sentence + " People like it and often talk about it when they meet."
        documents.append({"paragraphs": [{"context": text, "qas": rows, "document_id": place}]})
    path.write_text(json.dumps({"data": documents}), encoding="utf-8")
    return path


RUN = """
model = "{model}"
output = "{output}"
score = ["exact_match", "token_f1"]
threads = 1
data = {{source = "{rows}", dev_share = 0.15, test_share = 0.25, near_duplicates = false}}
train = {{epochs = 1, batch = 8, learning_rate = 1e-3}}
evaluate = {{max_tokens = 4, baseline = false, forgetting = false}}
log = {{tensorboard = false}}

[decide]
trials = 2
examples = [1, 2]
passages = [1, 2]
passage_size = 20
probe_rows = 4
facts = 2
"""


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A decision with every arm that needs no embedding model, made once."""
    folder = tmp_path_factory.mktemp("decide")
    model, rows = make_stub(folder / "stub"), squad(folder / "rows.json")
    run = folder / "run.toml"
    run.write_text(RUN.format(model=model, output=folder / "out", rows=rows), encoding="utf-8")
    done = cli("decide", run, folder=folder)
    assert done.code == 0, done.err
    yield {"folder": folder, "run": run, "done": done, "decision": json.loads((folder / "out/decision.json").read_text())}


def test_every_arm_is_carried_out_or_says_why_not(decided: dict[str, Any]) -> None:
    decision = decided["decision"]
    assert not decision["failed"]
    assert set(decision["left_out"]) == {"retrieval_dense", "retrieval_fused", "whole_corpus"}
