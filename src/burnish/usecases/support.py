"""Use case: sort customer messages into categories. Bundled rows: the help desk of a maker of e-bikes and home chargers."""

from __future__ import annotations

from burnish.usecases.definition import UseCase

EDIT = """\
Each line of `support.jsonl` is one message:

    {"text": "The app won't find my Heron. Bluetooth is on.", "category": "app", "group": "case-170"}

1. Replace the file by an export of your own help desk, or point `data.source` at it (CSV, JSON and Parquet are read too).
2. Name your columns in `[data.columns]`: which one holds the message, which one the category.
3. `group` keeps what belongs together on one side of the split: all messages of one customer, one thread or one template. Without
   it a model can look good because it has seen the neighbour of a test row. Leave the line out where rows are independent.
4. Collect the rare categories on purpose: what has only a handful of rows is not learned, and the check warns about it.

The table at the end compares the tuned model with the base and with a linear classifier. If the classifier is as good, take the
classifier: it is cheaper.
"""


def support() -> UseCase:
    """Return the run that learns to answer a message with its category."""
    return UseCase(
        name="support",
        summary="Sort customer messages into 14 categories (help desk of a maker of e-bikes and home chargers).",
        samples=("support.jsonl",),
        run={
            "model": "tiny",
            "seed": 0,
            "score": ["accuracy", "macro_f1", "label_parse_rate"],
            "data": {
                "source": "support.jsonl",
                "format": "labelled",
                "dev_share": 0.1,
                "test_share": 0.2,
                "columns": {"text": "text", "label": "category", "group": "group"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 3, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 12, "baseline": True},
        },
        notes={
            "model": "the bundled model; a hub id or a folder works as well",
            "score": "the first one decides which checkpoint is kept",
            "data.test_share": "a fifth of the groups is never trained on; the final table is measured there",
            "technique.name": "all weights move, right for a small model; take lora for one with billions",
            "train.learning_rate": "for the tiny model; with lora leave it out and the technique's own is used",
            "evaluate.max_tokens": "a category is short",
            "evaluate.baseline": "a linear classifier beside the model",
        },
        unset=(
            ("data.prompt", "Which of these fits: {labels}?\n\n{text}", "tells a larger model what it may choose from"),
            ("evaluate.patience", 3, "stop when three evaluations in a row are no better"),
        ),
        prompt="The brake lever goes right to the handlebar and the bike hardly slows down.",
        edit=EDIT,
    )
