"""Use case: a line of a test log into a finding with the figure it rests on. Bundled rows: made-up rigs and flight logs."""

from __future__ import annotations

from burnish.usecases.definition import USUAL, Guide, UseCase

EDIT = """\
Each line of `rig.jsonl` is a line of a log and the finding, as JSON text:

    {"line": "Rig 4: oil temp 110 C, max 105 C", "finding": "{… \\"finding\\": \\"broken, close\\", \\"rests_on\\": \\"110 C\\"}"}

1. Let every finding name the figure that it rests on: an answer that can be checked in a second is worth more than one that sounds sure.
2. Keep lines from which nothing follows (no limit, another unit), with that as their answer.
3. A model compares numbers by what it has seen and not by arithmetic: have readings all over the range, and many near the limits.
4. For papers: `data.source = "public:pubmedqa"` asks research questions with an abstract, answered yes, no or maybe.
"""

GUIDE = Guide(
    when="""\
Choose it where lines of logs are written in many forms and must become the same fields, with a finding that names its figure. Where the lines
have one form, parse them and compare by a program: that is exact. A good use is the one between: let the model read, and let a program compare.
""",
    rows="""\
A line and its finding. Each quantity in each form some twenty times, readings on both sides of the limits and close to them. The bundled rows
are made up: 720 lines on nine quantities of test rigs and flights.
""",
    method="""\
`sft` on JSON, quantity first and the figure last. All weights move (`full`), which suits a model this small; take `lora` for one with billions.
With papers instead of lines, put the abstract into the prompt (`data.prompt`) and tune on that form.
""",
    measure="""\
`json_field_f1`: quantity, finding and figure, each by itself. `exact_match`: all three. The slices *close to the limit* and *nothing to find* by
themselves.
""",
    wrong="""\
Numbers are compared by their looks: 98 against 100 is harder than 20 against 100. "At least" is read as "at most". A finding without a limit.
Figures that stand in no line: `rests_on` makes them easy to catch.
""",
)


def science_assistant() -> UseCase:
    """Return the run that learns to write findings of log lines with the figure behind each."""
    return UseCase(
        name="science-assistant",
        summary="Tell whether a reading holds its limit, with the figure that decides (test rigs and flight logs).",
        samples=("rig.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["json_field_f1", "exact_match", "json_valid"],
            "data": {
                "source": "rig.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.2,
                "columns": {"prompt": "line", "completion": "finding", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 4, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 64},
        },
        notes={
            **USUAL,
            "score": "right fields; all fields at once; JSON at all",
        },
        unset=(
            (
                "data.system",
                "Does the reading hold its limit? Write quantity, finding and rests_on as JSON.",
                "helps a base that follows instructions",
            ),
        ),
        prompt="Rig 2: oil temperature 125 C, not above 120 C",
        edit=EDIT,
        guide=GUIDE,
    )
