"""Use case: a fault report into cause, next check and priority. Bundled rows: the log of a food factory's maintenance."""

from __future__ import annotations

from burnish.usecases.definition import USUAL, Guide, UseCase

EDIT = """\
Each line of `diagnosis.jsonl` is an entry of the log and what the planner made of it, as JSON text:

    {"entry": "P-101: crackling at the suction side … Line is down.", "diagnosis": "{\\"cause\\": \\"pump cavitating\\", …}", "kind": "usual"}

1. Take closed work orders, where the cause was found in the end, and not the guesses of the first report.
2. Settle the list of causes and checks first, and the rule for the priority. Here: 1 somebody could be hurt, 2 the line stands, 3 it runs with a
   loss, 4 it can wait. What your rows do not agree on, no model learns.
3. Keep entries that say too little, with an answer of their own: a model that has never seen one invents a cause.
4. `group` keeps entries that are worded alike on one side of the split; take the asset, or the work order.
5. To find the names of parts and assets in entries instead: `objective = "ner"` with `data.source = "public:maintie"`.
"""

GUIDE = Guide(
    when="""\
Choose it where people report faults in their own words and a planner needs three fields: the likely cause, what to look at next, how urgent it
is. It fits a fixed list of causes, up to a few hundred. It does not fit faults that were never seen: for these look the entry up in old work
orders (retrieval), or ask a person.
""",
    rows="""\
An entry and its three fields. Ten to thirty entries a cause are enough where they are worded differently; five hundred copies of one template
are worth one row. The bundled rows are made up: 900 entries drawn from 180 wordings of 29 causes, four of them rare, and a kind of entry that
says too little.
""",
    method="""\
`sft` on JSON: one answer holds all three fields, in an order that never changes, and reads well without the tool. All weights move (`full`),
which suits a model this small; take `lora` for one with billions. A head for each field (`classification`, three tasks) is the alternative where
a probability is wanted beside each field.
""",
    measure="""\
`json_field_f1`: right fields, each by itself. `json_valid`: answers that are JSON at all. `exact_match`: all three fields right at once. The
slices *rare causes* and *too little said* by themselves.
""",
    wrong="""\
A confident cause for an entry that tells nothing. A priority learned from the kind of machine instead of from what is at stake: look at what
happens when the same fault stops the line and when it does not. A list of causes that changes after tuning: the model goes on writing the old
names.
""",
)


def technical_diagnosis() -> UseCase:
    """Return the run that learns to write cause, next check and priority of a reported fault."""
    return UseCase(
        name="technical-diagnosis",
        summary="Turn a fault report into cause, next check and priority (maintenance log of a food factory).",
        samples=("diagnosis.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["json_field_f1", "json_valid", "exact_match"],
            "data": {
                "source": "diagnosis.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.2,
                "columns": {"prompt": "entry", "completion": "diagnosis", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 5, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 64},
        },
        notes={
            **USUAL,
            "score": "the first one decides which checkpoint is kept",
            "evaluate.max_tokens": "room for the longest answer",
        },
        unset=(
            (
                "data.system",
                "Write cause, check and priority (1 danger, 2 line stands, 3 loss, 4 can wait) of this entry as JSON.",
                "helps a base that follows instructions",
            ),
        ),
        prompt="P-204: crackling at the suction side, flow down by half. Line is down.",
        edit=EDIT,
        guide=GUIDE,
    )
