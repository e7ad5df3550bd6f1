"""Use case: continue pretraining on documents. Bundled documents: the handbook of a chain ferry that does not exist."""

from __future__ import annotations

from burnish.usecases.definition import UseCase

EDIT = """\
`handbook/` holds Markdown files; every section is one row. Text, PDF, DOCX and HTML are read as well, and folders of them.

1. Put your own documents into the folder, or point `data.source` at another one. Take out tables of contents, page headers and
   boilerplate: what is repeated most is learned first.
2. Documents, not sections, are held out, so that the test text is really new.
3. `bits_per_byte` on held-out documents must fall. It says that the language of the field is learned. It does not say that facts
   are: for facts that must be right, look them up and give them to the model in the prompt.
4. Continued pretraining makes a model forget how to chat. Mix in conversations (several sources, each with a `weight`), or tune
   on instructions afterwards, with `model` naming this run.
"""


def domain() -> UseCase:
    """Return the run that learns the language of a set of documents."""
    return UseCase(
        name="domain",
        summary="Learn the language of your documents (handbook of a chain ferry).",
        samples=("handbook",),
        run={
            "model": "tiny",
            "seed": 3,
            "score": ["bits_per_byte", "perplexity"],
            "data": {
                "source": "handbook",
                "format": "text",
                "dev_share": 0.1,
                "test_share": 0.25,
                "long_rows": "cut",
                "columns": {"text": "text", "group": "file"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 4, "batch": 4, "learning_rate": 5e-4},
        },
        notes={
            "model": "the bundled model; a hub id or a folder works as well",
            "seed": "every random choice follows from it; with this one four of the twelve files are held out for the final scores",
            "score": "lower is better for both; bits_per_byte compares models with different tokenizers",
            "data.source": "a file or a folder, read with all that is below it",
            "data.test_share": "about a quarter of the files: an interval needs several",
            "data.long_rows": "a section that is too long is cut, not left out",
            "data.columns.group": "sections of one file stay on one side of the split",
            "technique.name": "all weights move, right for a small model; take lora for one with billions",
            "train.learning_rate": "for the tiny model; with lora leave it out and the technique's own is used",
        },
        unset=(("train.packing", True, "several short sections in one row, isolated from each other: faster, same result"),),
        prompt="The chain hand listens to the",
        edit=EDIT,
    )
