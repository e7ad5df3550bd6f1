"""Use case: questions to a parts desk into the fields that answer them. Bundled rows: a made-up catalogue with rules of fitment."""

from __future__ import annotations

from burnish.usecases.definition import Guide, UseCase

EDIT = """\
Each line of `parts.jsonl` is a question and the fields that answer it, as JSON text:

    {"question": "Need front pads for a 2016 Tessel 1.2", "answer": "{\\"part\\": \\"BP-34B\\", \\"years\\": \\"2016-2021\\"}", "kind": "year of the facelift"}

1. Take questions as they come in, by mail and telephone, with what the desk answered in the end. `catalogue.jsonl` holds what the answers rest on.
2. Answer what the catalogue does not hold with `{"part": "unknown"}`, always the same way, and have such rows.
3. `group` keeps all questions on one part of one car and phase together, so that held-out answers are numbers that were never seen as a whole.
4. A catalogue that changes, or one with more than some thousand numbers, is looked up and not learned: `burnish decide` with
   `decide.documents = "catalogue.jsonl"` compares the two on your rows.
"""

GUIDE = Guide(
    when="""\
Choose it where short questions in the trade's jargon must become exact fields: part, years, oil, system of a fault code. It fits catalogues with
rules, where a number is built from part, platform and phase. It does not fit a large catalogue without rules, nor one that changes monthly: look
numbers up instead.
""",
    rows="""\
A question and its fields. Each car and each kind of part must be seen in several combinations; not every combination must be. The bundled rows
are made up: 840 questions on 8 cars, 10 kinds of parts in two phases each, and 26 fault codes (those are the public ones of SAE J2012, in short
words).
""",
    method="""\
`sft` on JSON. All weights move (`full`): facts must be stored, for which adapters of low rank are a poor place in a model this small. With
billions of parameters take `lora` with a high rank.
""",
    measure="""\
`json_field_f1`: exact fields. `exact_match`: the whole answer. By slices: the year of the facelift, where the rule turns, and what is not in the
catalogue, where the only right answer is *unknown*.
""",
    wrong="""\
A number that looks right and does not exist: check every number against the catalogue before it is ordered. The year of the facelift goes to the
old part. An unknown car gets the number of a known one.
""",
)


def automotive_parts() -> UseCase:
    """Return the run that learns to answer a parts desk's questions with exact fields."""
    return UseCase(
        name="automotive-parts",
        summary="Answer a parts desk with exact fields: part numbers by car and year, fitment, oil, fault codes.",
        samples=("parts.jsonl", "catalogue.jsonl"),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["json_field_f1", "exact_match", "json_valid"],
            "data": {
                "source": "parts.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.2,
                "columns": {"prompt": "question", "completion": "answer", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 6, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 48},
        },
        notes={
            "model": "the bundled model; a hub id or a folder works as well",
            "score": "the first one decides which checkpoint is kept",
            "data.columns.slice": "a part of the rows that is scored by itself as well",
            "technique.name": "all weights move: facts have to be stored",
            "train.learning_rate": "for the bundled model; with lora leave it out and the technique's own is used",
        },
        unset=(
            (
                "data.system",
                "Answer as JSON from the catalogue; what it does not hold is unknown.",
                "helps a base that follows instructions",
            ),
        ),
        prompt="Need front pads for a 2017 Tessel 1.2",
        edit=EDIT,
        guide=GUIDE,
    )
