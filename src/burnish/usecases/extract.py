"""Use case: free text into JSON fields. Bundled rows: the maintenance log of a factory."""

from __future__ import annotations

from burnish.usecases.definition import UseCase

EDIT = """\
Each line of `extract.jsonl` holds an entry of the log and the record that it should become, as JSON text:

    {"line": "Fan F-3 belt snapped ... 1.5h", "fields": "{\\"asset\\": \\"F-3\\", \\"part\\": \\"belt\\", ...}"}

1. Decide on the keys first and keep their order the same in every row: a fixed order is learned with half the examples.
2. Write down what happens when a value is not in the text (`null`, or the key left out), and do it the same way everywhere.
3. Normalise while you label: hours as a number, one word per fault. The model learns your conventions from the rows alone.
4. Name your columns in `[data.columns]`: `prompt` is what is read, `completion` what is written.

`json_field_f1` counts right fields, `json_valid` answers that are JSON at all. Both are needed: a model may write perfect JSON
with wrong values. With these 80 rows and the bundled model expect form rather than content; more rows and a larger base give both.
"""


def extract() -> UseCase:
    """Return the run that learns to turn a line of a log into a JSON record."""
    return UseCase(
        name="extract",
        summary="Turn free text into JSON fields (maintenance log of a factory).",
        samples=("extract.jsonl",),
        run={
            "model": "tiny",
            "seed": 0,
            "score": ["json_field_f1", "json_valid", "exact_match", "stop_rate"],
            "data": {
                "source": "extract.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.2,
                "columns": {"prompt": "line", "completion": "fields"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 12, "batch": 4, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 120},
        },
        notes={
            "model": "the bundled model; a hub id or a folder works as well",
            "score": "the first one decides which checkpoint is kept",
            "data.columns.prompt": "the column that is read",
            "data.columns.completion": "the column that is written",
            "technique.name": "all weights move, right for a small model; take lora for one with billions",
            "train.learning_rate": "for the tiny model; with lora leave it out and the technique's own is used",
            "evaluate.max_tokens": "room for the longest record",
        },
        unset=(
            (
                "data.system",
                "Write asset, part, fault, action and hours of this entry as JSON.",
                "helps a base that follows instructions",
            ),
        ),
        prompt="Pump P-310 shaft seal leaking, fitted new seal, 2 h",
        edit=EDIT,
    )
