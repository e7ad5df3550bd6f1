"""Use case: the same facts in several voices, within a brand book. Bundled rows: a made-up maker of outdoor things."""

from __future__ import annotations

from burnish.usecases.definition import USUAL, Guide, UseCase

EDIT = """\
Each line of `voice.jsonl` holds notes and the text that the brand makes of them in one voice:

    {"voice": "Voice: friendly", "notes": "Lark tent; weight 1.9 kg; back 3 May", "text": "Meet the Lark tent! It is only 1.9 kg to carry. …"}

1. Write the brand book first: voices, words to use, words to avoid and what stands in their place, how long a text may be.
2. Let two people write the same notes in each voice. Where they differ, the book is not finished.
3. Put banned words into the notes on purpose: a model that has never seen one there copies it.
4. Sentences that a person must sign off (health, price, guarantee) stay out: put them in by a template afterwards.
"""

GUIDE = Guide(
    when="""\
Choose it where the same facts go out in several voices, every day, and the brand book is stable. Choose a prompt with the book in it where you
have a large model, few texts a day, or a book that changes with each campaign.
""",
    rows="""\
Notes, a voice and a text. Fifty texts a voice show its tone, two hundred its rules. The bundled rows are made up: 504 texts on fourteen products
in four voices, a fifth of them from notes with a word that the book bans.
""",
    method="""\
`sft` with the voice in the system prompt: one model, four voices. All weights move (`full`), which suits a model this small; take `lora` for one
with billions. Where people have picked the better of two texts, `dpo` on those pairs goes on from there.
""",
    measure="""\
`exact_match(strict=true)`: the text as the book would have it, fair where the book leaves no choice. `facts_kept`: every figure and name of the
notes, and none that nobody gave. `chrf`: how near the wording is. The slice *a banned word in the notes* by itself.
""",
    wrong="""\
A joke in the formal voice. A figure that got lost for the rhythm. A banned word that comes back because the notes held it. Texts that all sound
alike: a rule kept to the letter is no wit.
""",
)


def brand_voice() -> UseCase:
    """Return the run that learns to say facts in four voices within a brand book."""
    return UseCase(
        name="brand-voice",
        summary="Say the same facts in four voices within a brand book (a maker of outdoor things).",
        samples=("voice.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["exact_match(strict=true)", "facts_kept", "chrf"],
            "data": {
                "source": "voice.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.25,
                "columns": {"prompt": "notes", "completion": "text", "system": "voice", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 5, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 96},
        },
        notes={
            **USUAL,
            "score": "the text to the letter; names and figures kept; how near its wording is",
            "data.columns.system": "which voice",
        },
        unset=(("evaluate.patience", 3, "stop when three evaluations in a row are no better"),),
        prompt="Kite tarp; back: 7 April; is bombproof",
        edit=EDIT,
        guide=GUIDE,
    )
