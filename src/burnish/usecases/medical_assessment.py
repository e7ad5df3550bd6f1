"""Use case: a triage note into complaint, duration, red flag and urgency. Bundled rows: notes of a made-up nurse line. No medical device."""

from __future__ import annotations

from burnish.usecases.definition import USUAL, Guide, UseCase

EDIT = """\
Each line of `triage.jsonl` is a note and its fields, as JSON text:

    {"note": "F 44 low back pain for two days, lifted a crate, denies fever.", "fields": "{\\"complaint\\": \\"back pain\\", …}", "kind": "flag denied"}

1. This is a decision aid and no doctor. Whoever uses it needs a person who reads the note, and whoever sells it needs to know the law on medical devices.
2. Let clinicians write the list of red flags and how fast each must be seen. Then have two of them mark the same hundred notes.
3. Collect denied red flags ("no fever") on purpose, and several in one note: they are most of what is written, and most of what goes wrong.
4. Take names, dates and addresses out before anything becomes training data.
5. For dialogues and note sections: `data.source = "public:mts_dialog"`; for names of diseases and chemicals: `objective = "ner"` on `public:ner_biomedical`.
"""

GUIDE = Guide(
    when="""\
Choose it where short notes must be turned into the same few fields all day and a missed red flag is the error that matters. It is a decision
aid, not a doctor: it may sort a queue for a nurse, it may not send anybody home. It does not fit complaints that are not on the list.
""",
    rows="""\
A note and its fields. Fifty notes a complaint, every red flag some ten times, denied as often as present. The bundled rows are made up: 672
notes on eight complaints with three or four red flags each.
""",
    method="""\
`sft` on JSON. All weights move (`full`), which suits a model this small; take `lora` for one with billions. Where each field needs a probability
(to let a nurse look at what is unsure), heads by `classification`, a task for each field, are the alternative.
""",
    measure="""\
`json_field_f1` over the four fields, `exact_match` for all of them at once. Then the slices: *red flag* (misses), *flag denied* (false alarms),
*one flag there, one denied* (reading).
""",
    wrong="""\
A red flag is missed because it is worded in a new way. A denied flag counts as present, and the queue is full of alarms that nobody believes any
more. The model is trusted on complaints that it never saw.
""",
)


def medical_assessment() -> UseCase:
    """Return the run that learns to write the fields of triage notes."""
    return UseCase(
        name="medical-assessment",
        summary="Turn a triage note into complaint, duration, red flag and urgency (a decision aid, not a doctor).",
        samples=("triage.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["json_field_f1", "exact_match", "json_valid"],
            "data": {
                "source": "triage.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.25,
                "columns": {"prompt": "note", "completion": "fields", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 4, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 72},
        },
        notes={
            **USUAL,
            "score": "right fields; all fields at once; JSON at all",
        },
        unset=(
            (
                "data.system",
                "Write complaint, since, red_flag and see (now, today, routine, self care) as JSON.",
                "helps a base that follows instructions",
            ),
        ),
        prompt="F 61 chest pain since this morning, cold sweat, denies swollen calf.",
        edit=EDIT,
        guide=GUIDE,
    )
