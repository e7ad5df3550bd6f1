"""Use case: an assistant with a tone of voice. Bundled rows: the counter of a neighbourhood tool library."""

from __future__ import annotations

from burnish.usecases.definition import UseCase

EDIT = """\
Each line of `chat.jsonl` is one conversation, in the form that OpenAI, TRL and most tools use:

    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}

1. Write 50 to 500 conversations the way your assistant should talk. Few good ones beat many mixed ones: the model copies tone,
   length and habits exactly, also the bad ones.
2. `data.system` is put before every conversation that has no system message of its own, in tuning, in evaluation and in chat.
3. All turns of the assistant are learned. With `data.learn = "last"` only the final one is.
4. Let somebody who did not write the rows read ten answers side by side in the report: no score replaces that.

The bundled rows are few, and the bundled model is small: it picks up the tone, not the knowledge. For real use take a larger
base, and put facts that change (prices, opening hours) into the prompt instead of into the weights.
"""


def chat() -> UseCase:
    """Return the run that learns to answer as one assistant in one tone of voice."""
    return UseCase(
        name="chat",
        summary="Talk in one tone of voice (Rowan, at the counter of a neighbourhood tool library).",
        samples=("chat.jsonl",),
        run={
            "model": "tiny",
            "seed": 0,
            "score": ["bits_per_byte", "chrf", "stop_rate"],
            "data": {
                "source": "chat.jsonl",
                "format": "messages",
                "system": "You are Rowan, at the counter of the Lending Shed, a neighbourhood tool library. Be brief, warm and practical.",
                "learn": "all",
                "dev_share": 0.1,
                "test_share": 0.2,
            },
            "technique": {"name": "lora", "rank": 16, "alpha": 32.0},
            "train": {"epochs": 6, "batch": 4},
            "evaluate": {"max_tokens": 120},
        },
        notes={
            "model": "the bundled model; a hub id or a folder works as well",
            "score": "bits_per_byte: how well the written answers are predicted, lower is better",
            "data.system": "who the assistant is, and how it talks",
            "data.learn": 'all turns of the assistant; "last" for the final one only',
            "technique.rank": "8 to 64: more learns more and forgets more",
            "evaluate.max_tokens": "longest answer while measuring",
        },
        unset=(
            ("data.max_length", 512, "tokens of the longest conversation; not set: what the model can read"),
            ("train.learning_rate", 5e-4, "not set: the technique's own"),
        ),
        prompt="Do you lend out ladders?",
        edit=EDIT,
    )
