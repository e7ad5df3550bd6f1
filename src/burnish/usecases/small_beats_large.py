"""Use case: a model of a million parameters for one job, beside a ten times larger one that is prompted. Bundled rows: a help desk's."""

from __future__ import annotations

from burnish.usecases.definition import Guide, UseCase

EDIT = """\
Each line of `small.jsonl` is a message of the help desk (the rows of the use case `support`), with what makes it hard:

    {"text": "The app won't find my Heron.", "category": "app", "group": "case-170", "kind": "few words"}

1. Replace the file by your own messages, and name your columns in `[data.columns]`.
2. `[model]` are the sizes of a fresh network with a tokenizer of its own. Halve them until the score falls.
3. For real models (not measured here): the same file with `model = "owner/small-model"` and `technique = "lora"`, beside `burnish decide` with a
   large one.
4. Count what counts for you: answers a second on your machine, and what a wrong one costs.
"""

GUIDE = Guide(
    when="""\
Choose it where one narrow job is done very often, on small machines or with short delays, and a thousand labelled rows are there. A prompted
large model is right before there are rows, where jobs change weekly, and where few answers are needed.
""",
    rows="""\
A text and its label; some thousand rows for a dozen labels, since a fresh model knows no language but what they teach. The bundled rows are
1,000 of the made-up messages of the use case `support`.
""",
    method="""\
`sft` from random weights: a network of about a million parameters and a tokenizer learned from the rows write the label. There is nothing to
adapt, so all weights move. With more text of the kind at hand, `burnish pretrain` on it first is the better beginning.
""",
    measure="""\
`accuracy` and `macro_f1`, beside what the ten times larger chat model does when it is prompted; milliseconds and cost of an answer. The slices
*few words* and *in a hurry* by themselves.
""",
    wrong="""\
A new kind of message gets one of the old labels: a small model knows nothing else. Spelling that the rows do not hold. And where a linear
classifier does as well, it is smaller still.
""",
)


def small_beats_large() -> UseCase:
    """Return the run that trains a model of a million parameters for one job."""
    return UseCase(
        name="small-beats-large",
        summary="Train a model of a million parameters for one job, beside a larger one that is prompted (help desk).",
        samples=("small.jsonl",),
        run={
            "seed": 0,
            "score": ["accuracy", "macro_f1", "label_parse_rate"],
            "model": {
                "init": "llama",
                "hidden": 128,
                "layers": 4,
                "heads": 4,
                "key_heads": 2,
                "feed_forward": 352,
                "context": 256,
                "vocabulary": 2048,
            },
            "data": {
                "source": "small.jsonl",
                "format": "labelled",
                "dev_share": 0.1,
                "test_share": 0.2,
                "columns": {"text": "text", "label": "category", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 10, "batch": 16, "learning_rate": 2e-3},
            "evaluate": {"max_tokens": 12, "forgetting": False},
        },
        notes={
            "model.init": "random weights; the other lines are the sizes, about a million parameters in all",
            "model.vocabulary": "tokens of a tokenizer learned from the training rows",
            "score": "the first one decides which checkpoint is kept",
            "data.columns.slice": "a part of the rows that is scored by itself as well",
            "train.epochs": "a fresh model reads its rows more often",
            "evaluate.forgetting": "random weights have nothing to forget",
        },
        unset=(("evaluate.patience", 3, "stop when three evaluations in a row are no better"),),
        prompt="The brake lever goes right to the handlebar and the bike hardly slows down.",
        edit=EDIT,
        guide=GUIDE,
    )
