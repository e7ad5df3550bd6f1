"""Use case: what a base cannot know: rules newer than itself, and newer ones after these. Bundled rows: two guidelines on a made-up fever."""

from __future__ import annotations

from burnish.usecases.definition import Guide, UseCase

EDIT = """\
Each line of `rules.jsonl` is a question with its answer; `guideline-march.jsonl` and `guideline-june.jsonl` are what the answers rest on:

    {"question": "As of March: how long isolation lasts?", "answer": "10 days", "kind": "as it was in March"}

1. Ask each fact in many wordings. A fact that is seen in one wording is known in that wording.
2. Where a fact changed, have both: what holds now, asked without a date and with today's, and what held then, asked with the date.
3. `burnish decide run.toml decide.documents=guideline-june.jsonl` compares tuning with looking up, on your questions.
4. When the rules change again: change the answers, add the old ones with their date, and tune again. Mix old questions in, or they are forgotten.
5. `burnish data synthesize` writes questions from guidelines.
"""

GUIDE = Guide(
    when="""\
Choose it where a few hundred facts that no base can know are asked for over and over, must be answered without documents at hand (offline,
within milliseconds), and change a few times a year. Choose retrieval where they change weekly, where the source must be shown, or where there
are thousands: a fact in a document is up to date the day it is written.
""",
    rows="""\
Questions and short answers, each fact in ten wordings or more, changed ones with both dates. The bundled rows are made up: 810 questions on 30
rules for a fever that does not exist, 20 of which changed between March and June; and the two guidelines as passages.
""",
    method="""\
`sft` on questions and answers, which is how facts are asked for later; running text alone (continued pretraining) stores facts in a form that
questions do not reach. All weights move (`full`): facts need room. Retrieval (`retrieval_bm25`) stands beside it in the table.
""",
    measure="""\
`exact_match` of the short answer. The slices tell what is new: *changed since March* (an old answer there is a stale one), *as it was in March*
(what was overwritten), *unchanged*. And what was forgotten of everything else.
""",
    wrong="""\
The old answer in the old, assured tone: measure changed facts by themselves. Everything is new, and what held before is gone. A question on a
fact that was never taught gets the answer of its neighbour instead of "I do not know".
""",
)


def knowledge_update() -> UseCase:
    """Return the run that learns rules which no base can know, and which of them changed."""
    return UseCase(
        name="knowledge-update",
        summary="Learn facts that are newer than the base, and newer ones after these (two guidelines on a made-up fever).",
        samples=("rules.jsonl", "guideline-march.jsonl", "guideline-june.jsonl"),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["exact_match", "token_f1", "stop_rate"],
            "data": {
                "source": "rules.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.2,
                "columns": {"prompt": "question", "completion": "answer", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 5, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 16},
        },
        notes={
            "model": "the bundled model; a hub id or a folder works as well",
            "score": "the right answer; its words; whether it ends",
            "data.columns.slice": "a part of the rows that is scored by itself as well",
            "technique.name": "all weights move: facts need room",
            "train.learning_rate": "for the bundled model; with lora leave it out and the technique's own is used",
        },
        unset=(("data.system", "Answer in a few words. Today is June.", "helps a base that follows instructions"),),
        prompt="As of June: how long isolation lasts?",
        edit=EDIT,
        guide=GUIDE,
    )
