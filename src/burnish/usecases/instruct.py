"""Use case: follow short instructions. Bundled rows: small office tasks with the language of texts."""

from __future__ import annotations

from burnish.usecases.definition import UseCase

EDIT = """\
Each line of `instruct.jsonl` has the three columns of the Alpaca form; `input` may be empty:

    {"instruction": "Correct the spelling.", "input": "The libary is closed on Wensday.", "output": "The library is ..."}

1. Write down the ten things that your users really ask for, then 20 to 50 rows for each, as different as you can.
2. Answer exactly as you would like to be answered: length, punctuation and form are learned before anything else.
3. Rows with the same instruction are not duplicates, rows with the same instruction and input are; the check tells you.
4. Hold one kind of instruction out altogether (`data.test = "other.jsonl"`) to see whether the model has learned to follow
   instructions, or only these.

The bundled model is small: expect it to learn the form of the answers. The same file with a larger base gives useful answers.
"""


def instruct() -> UseCase:
    """Return the run that learns to follow short written instructions."""
    return UseCase(
        name="instruct",
        summary="Follow short instructions (rewrite, correct, sort, summarise).",
        samples=("instruct.jsonl",),
        run={
            "model": "tiny",
            "seed": 0,
            "score": ["bits_per_byte", "rouge_l", "exact_match", "stop_rate"],
            "data": {"source": "instruct.jsonl", "format": "alpaca", "dev_share": 0.1, "test_share": 0.2},
            "technique": {"name": "lora", "rank": 16, "alpha": 32.0},
            "train": {"epochs": 6, "batch": 4},
            "evaluate": {"max_tokens": 60},
        },
        notes={
            "model": "the bundled model; a hub id or a folder works as well",
            "score": "bits_per_byte: how well the written answers are predicted, lower is better",
            "technique.rank": "8 to 64: more learns more and forgets more",
            "evaluate.max_tokens": "longest answer while measuring",
        },
        unset=(
            ("data.test", "other.jsonl", "rows of their own for the final table, instead of a share"),
            ("train.learning_rate", 5e-4, "not set: the technique's own"),
        ),
        prompt="Correct the spelling.\n\nThe wether was beautifull.",
        edit=EDIT,
    )
