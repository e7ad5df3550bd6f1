"""Use case: two tasks in one model, house-style summaries and translations that keep the glossary. Bundled rows: notices to tenants."""

from __future__ import annotations

from burnish.usecases.definition import USUAL, Guide, UseCase

EDIT = """\
Each line of `notices.jsonl` is a notice, the task, and what the house makes of it:

    {"task": "Translate into German", "notice": "The lift in house B …", "text": "Der Aufzug in Haus B ist ab 2. Mai …", "kind": "translate"}

1. Write the glossary first, and let nobody translate by feeling what stands in it.
2. Take summaries that somebody has used: what they leave out is half of what is to be learned.
3. Two tasks share one model here, told apart by the system prompt. With tasks of unequal size, give each a `[[task]]` of its own with a `share`.
4. For longer texts: `public:mts_dialog` and `public:legal_plain_summaries`.
"""

GUIDE = Guide(
    when="""\
Choose it where texts of one kind are shortened, or put into another language, all day, by a glossary that a general translator does not keep. It
does not fit free text of every kind: for that a large translator with the glossary in its prompt is better.
""",
    rows="""\
A text, the task, and the text that came of it. Each term of the glossary some twenty times, in several sentences. The bundled rows are made up:
540 rows on 270 notices with a glossary of 20 terms.
""",
    method="""\
`sft` on both tasks together: they share what must be read, and differ in what is written. All weights move (`full`), which suits a model this
small; take `lora` for one with billions.
""",
    measure="""\
`exact_match(strict=true)`: to the letter, fair where the style leaves no choice. `chrf`: how near the wording is, in both languages.
`facts_kept`: dates and houses. The slices *summarise*, *translate* and *no end given* by themselves.
""",
    wrong="""\
A date is changed: check dates by a program. A term is translated by its sound. The reason is left out where the notice puts it last. A notice
without an end gets one.
""",
)


def summarise_translate() -> UseCase:
    """Return the run that learns to summarise notices in a house's style and to translate them by its glossary."""
    return UseCase(
        name="summarise-translate",
        summary="Summarise notices in the house's style, or put them into German by its glossary (house management).",
        samples=("notices.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["exact_match(strict=true)", "chrf", "facts_kept"],
            "data": {
                "source": "notices.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.2,
                "columns": {"prompt": "notice", "completion": "text", "system": "task", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 5, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 96},
        },
        notes={
            **USUAL,
            "score": "to the letter; how near the wording is; dates and houses kept",
            "data.columns.system": "which of the two tasks",
        },
        unset=(("evaluate.patience", 3, "stop when three evaluations in a row are no better"),),
        prompt="House 12: no lift between 2 May and 9 May. The reason is that a cable is damaged.",
        edit=EDIT,
        guide=GUIDE,
    )
