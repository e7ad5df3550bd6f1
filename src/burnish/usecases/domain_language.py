"""Use case: read and write a trade's own language, by continued pretraining. Bundled rows: shift reports of a made-up plant."""

from __future__ import annotations

from burnish.usecases.definition import Guide, UseCase

EDIT = """\
Each line of `reports.jsonl` is a text of the trade:

    {"text": "Night shift, 3 June. P-204: crackling at the suction side … Found pump cavitating …", "kind": "usual"}

1. Put your own texts there, or point `data.source` at a folder of documents (text, Markdown, PDF, DOCX, HTML).
2. Hold out documents, not paragraphs: `group` names what belongs together.
3. Terms that fall apart into many tokens can become tokens of their own: `model.add_terms`.
4. Afterwards the model continues texts, and has unlearned to chat: tune on questions next, with `model` naming this run. Where people prefer one wording
   of the trade over another, `dpo` on such pairs follows.
5. For other trades: `public:us_code_sample` (law), `public:openstax` (the nursing books are unknown to the bundled base).
"""

GUIDE = Guide(
    when="""\
Choose it where a base stumbles over your trade's words, and a lot of its text is there: as a first step before tuning on a task, to complete
texts, or to tell normal from odd ones. It teaches language and not facts: what must be right is looked up.
""",
    rows="""\
Running text, the more the better: a hundred thousand words move a large base a little, this small one a lot. The bundled rows are made up: 330
shift reports of a plant, some 29,000 words, in the language of fitters.
""",
    method="""\
`sft` on plain text, which is continued pretraining: every token is learned. All weights move (`full`): language is everywhere in a network.
Adapters of low rank learn less of it and forget less of everything else, which is the alternative measured.
""",
    measure="""\
`bits_per_byte` of reports that were held out, lower is better, comparable over tokenizers; the same for those *with a rare cause*. Beside it
what general text costs now: that is the price.
""",
    wrong="""\
What is repeated most is learned first: page headers, boilerplate, names. General language suffers: mix general text in (several sources, each
with a `weight`), or average with the base (`train.average`). A lower figure is taken for knowledge.
""",
)


def domain_language() -> UseCase:
    """Return the run that learns a trade's language from its texts."""
    return UseCase(
        name="domain-language",
        summary="Learn the language of a trade from its texts, before a task or to complete them (a plant's shift reports).",
        samples=("reports.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["bits_per_byte", "perplexity"],
            "data": {
                "source": "reports.jsonl",
                "format": "text",
                "dev_share": 0.1,
                "test_share": 0.2,
                "columns": {"text": "text", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 3, "batch": 8, "learning_rate": 5e-4},
        },
        notes={
            "model": "the bundled model; a hub id or a folder works as well",
            "score": "lower is better for both; bits_per_byte compares models with different tokenizers",
            "data.columns.slice": "a part of the rows that is scored by itself as well",
            "technique.name": "all weights move: language is everywhere in a network",
            "train.learning_rate": "for the bundled model; with lora leave it out and the technique's own is used",
        },
        unset=(("train.packing", True, "several short texts in one row, isolated from each other: faster, same result"),),
        prompt="Night shift, 3 June. P-204 rattles like",
        edit=EDIT,
        guide=GUIDE,
    )
