"""Use case: a hint for a learner's program that names the line and does not give the answer away. Bundled rows: planted bugs, two levels."""

from __future__ import annotations

from burnish.usecases.definition import USUAL, Guide, UseCase

EDIT = """\
Each line of `tutor.jsonl` is a program, the learner's level, and a hint:

    {"level": "Learner: beginner", "program": "total = 0\\nfor i in range(5): …", "hint": "Line 2: which numbers does i really take? …", "kind": "usual"}

1. Take programs that learners handed in, and hints that teachers gave; plant bugs only where none are to be had.
2. A hint that holds the repaired line is no hint. Read them all once with that eye.
3. Keep programs without a bug: a tutor that always finds one teaches distrust.
4. Ratings of hints by learners ("helped", "gave it away") are rows for `kto` afterwards.
"""

GUIDE = Guide(
    when="""\
Choose it where many learners make the same few dozen mistakes, a teacher's way of hinting is worth keeping, and an answer that gives the
solution away does harm. It does not fit free projects, where the mistake may be anything: there a large model with a strict prompt, or a
teacher.
""",
    rows="""\
A program, a level, a hint. Thirty programs a mistake and level, with other names and numbers. The bundled rows are made up: 528 programs, twelve
kinds of planted bugs, each with a hint for beginners and one for advanced learners, and programs without a bug.
""",
    method="""\
`sft` on the hint, the level in the system prompt. All weights move (`full`), which suits a model this small; take `lora` for one with billions.
`kto` on rated hints goes on from there; ratings are quicker to collect than better hints are to write.
""",
    measure="""\
`exact_match(strict=true)`: the right line and the right hint for the level. `chrf`: how near the wording is. `stop_rate`: a tutor that does not
stop gives it away. The slices *line moved* and *no bug* by themselves.
""",
    wrong="""\
The right hint on the wrong line. A bug is found in a program that has none. The hint for the other level. Give-aways: search answers for a line
of the repaired program before they are shown.
""",
)


def programming_tutor() -> UseCase:
    """Return the run that learns to hint at a bug for a learner's level."""
    return UseCase(
        name="programming-tutor",
        summary="Hint at the bug in a learner's program: the line, for the learner's level, without the answer.",
        samples=("tutor.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["exact_match(strict=true)", "chrf", "stop_rate"],
            "data": {
                "source": "tutor.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.2,
                "columns": {"prompt": "program", "completion": "hint", "system": "level", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 4, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 48},
        },
        notes={
            **USUAL,
            "score": "the right line and hint; how near the wording is; whether it ends",
            "data.columns.system": "the learner's level",
        },
        unset=(("evaluate.patience", 3, "stop when three evaluations in a row are no better"),),
        prompt="coins = 3\nwhile coins > 0\n    print(coins)\n    coins -= 1",
        edit=EDIT,
        guide=GUIDE,
    )
