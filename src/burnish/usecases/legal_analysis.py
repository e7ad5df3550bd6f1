"""Use case: a clause of a contract into plain words, with the section that says so. Bundled rows: made-up clauses of twelve kinds."""

from __future__ import annotations

from burnish.usecases.definition import USUAL, Guide, UseCase

EDIT = """\
Each line of `clauses.jsonl` is a clause and what it says:

    {"clause": "11.9 Absent written objection at least fourteen (14) days …", "plain": "11.9: The contract renews each year unless …", "kind": "plain"}

1. Let a lawyer write the plain words. Agree on one form for each kind of clause, and on the order: section first, then who must do what by when.
2. Collect clauses with exceptions and with the usual roles turned round on purpose: these are what readers get wrong.
3. Clauses of one contract, or of one template, belong into one `group`.
4. For published plain summaries of terms of service: `data.source = "public:legal_plain_summaries"`. These are few and free in their wording.
"""

GUIDE = Guide(
    when="""\
Choose it where many contracts of known kinds must be read for the same points, and a reader wants the section beside each point. It is a reading
aid and no legal advice: whoever signs reads the clause. It does not fit rare kinds of clauses, nor questions that need two clauses at once.
""",
    rows="""\
A clause and its plain words. Twenty of each kind, in several wordings, with other parties and figures each time. The bundled rows are made up:
576 clauses of twelve kinds in three wordings each; a sixth carries an exception.
""",
    method="""\
`sft`: the plain words are imitated, the section copied first, so that each answer can be checked. All weights move (`full`), which suits a model
this small; take `lora` for one with billions. Where only the kind of a clause is wanted, `classification` is cheaper.
""",
    measure="""\
`exact_match(strict=true)`: section, parties, figures and words all right. `facts_kept`: section and figures as in the clause. `rouge_l`: how
near the wording is. The slice *with an exception* by itself.
""",
    wrong="""\
Parties are swapped: the sentence reads well and says the opposite. The exception is dropped. "Not less than" becomes "at most". A section that
the clause does not have: check it by a program.
""",
)


def legal_analysis() -> UseCase:
    """Return the run that learns to say in plain words what a clause says, with its section."""
    return UseCase(
        name="legal-analysis",
        summary="Say what a clause means in plain words and cite its section (contracts, twelve kinds of clauses).",
        samples=("clauses.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["exact_match(strict=true)", "facts_kept", "rouge_l"],
            "data": {
                "source": "clauses.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.25,
                "columns": {"prompt": "clause", "completion": "plain", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 4, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 64},
        },
        notes={
            **USUAL,
            "score": "all to the letter; section and figures kept; how near the wording is",
        },
        unset=(
            (
                "data.system",
                "Say in plain words what this clause means. Begin with its section.",
                "helps a base that follows instructions",
            ),
        ),
        prompt="7.2 In no circumstances shall the Agency be liable for losses in excess of 50,000 euros in the aggregate.",
        edit=EDIT,
        guide=GUIDE,
    )
