"""Use case: what people prefer, learned as a reward, for DPO or PPO afterwards. Bundled rows: two replies of a firm, and the better one."""

from __future__ import annotations

from burnish.usecases.definition import Guide, UseCase

EDIT = """\
Each line of `preferences.jsonl` is a message, the reply that raters preferred, and the one they did not:

    {"prompt": "The router blinks red.", "chosen": "We are sorry about the router. A new router is with you on Wednesday.", "rejected": "…"}

1. `burnish rate` lets people judge answers blind and writes such rows; [two raters should agree](https://en.wikipedia.org/wiki/Inter-rater_reliability)
   before a model is asked to agree with them.
2. Write the rule down that raters follow. Where there is none, the model learns the length of the answers.
3. With the reward model at hand, `objective = "ppo"` or `"grpo"` with it as the reward, or `objective = "dpo"` on the same pairs without it.
4. Public pairs: `data.source = "public:instruct_rasbt:preference"` and `public:hh_rlhf_harmless_test`; `burnish ls data` names them.
"""

GUIDE = Guide(
    when="""\
Choose it where people can say which of two answers is better but nobody can write the best one, and answers are already decent. Choose `sft` on
good answers first where they are not: preferences sharpen what is there.
""",
    rows="""\
A prompt with a better and a worse answer. Some hundreds of pairs for one rule, thousands for taste. The bundled rows are made up: 588 pairs on
seven troubles of a firm's customers, each rejected reply breaking the raters' rule in one of five ways.
""",
    method="""\
`reward`: a head tells how good an answer is, so that any answer can be judged, also one that nobody has seen. All weights move (`full`), which
suits a model this small; take `lora` for one with billions. The alternative on the same pairs is `dpo`, which makes the model itself prefer the
better answers and needs no second model.
""",
    measure="""\
`preference_accuracy` on pairs that were held out, `calibration_error` of its certainty. The slice *close call* by itself: both replies are
friendly there. What a policy gains from it is measured by people, blind, with `burnish rate`.
""",
    wrong="""\
Length is taken for quality. The reward is high for answers that say the right words and nothing else, and a policy trained on it finds them:
look at its answers, not at its reward. Raters who disagree set the ceiling.
""",
)


def human_preferences() -> UseCase:
    """Return the run that learns which of two answers people prefer."""
    return UseCase(
        name="human-preferences",
        summary="Learn which of two replies raters prefer: a reward model for PPO, or pairs for DPO (a firm's replies).",
        samples=("preferences.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["preference_accuracy", "calibration_error"],
            "objective": {"name": "reward"},
            "data": {
                "source": "preferences.jsonl",
                "format": "pairs",
                "dev_share": 0.1,
                "test_share": 0.25,
                "columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 2, "batch": 16, "learning_rate": 2e-4},
            "evaluate": {"baseline": True},
        },
        notes={
            "model": "the bundled model; a hub id or a folder works as well",
            "score": "share of pairs told right; how far its certainty can be believed",
            "objective.name": "a reward model; dpo takes the same rows",
            "data.columns.slice": "a part of the rows that is scored by itself as well",
            "technique.name": "all weights move, right for a small model; take lora for one with billions",
        },
        unset=(("evaluate.patience", 3, "stop when three evaluations in a row are no better"),),
        prompt="The router blinks red.",
        edit=EDIT,
        guide=GUIDE,
    )
