"""The runs behind docs/results.md: what each is, the command that makes it, and the table in which it stands.

Enters: nothing. Leaves: `JOBS` by name and `TABLES`; `results` carries them out and writes the page.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD = """# Results

Every figure here was made by the command beside it; `make results` makes them all again. Values are means over held-out rows
that share no group with the training rows; in brackets 95 % intervals by a paired bootstrap over groups. "Base" is the model before
tuning, "tuned" the same model after it. "Classical" needs no language model: a linear model on TF-IDF features for labels and numbers,
the same on what sets two answers apart for pairs, a linear tagger over words and their neighbours for names, the passage nearest to a
question, or the answer of the nearest training row. What the bundled models can do by themselves stands in [base_model.md](base_model.md).

The bundled models are small (10.2 M parameters) and were trained for a few hours: read these tables as proof that the tool does and
measures what it says, not as what a large model would reach. Where the classical row is better, it is said first, and you should take it.
The runs had one thread each, beside other work of the machine: their seconds are upper bounds. Those on the Intel processor, and of the others
covid_qa, instruct_reward and instruct_ppo, were made before the quick pieces of training ([performance.md](performance.md)), which round differently.
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A run: what it is in a sentence, its run file in examples/, and what is said differently on the command line."""

    about: str
    file: str
    changes: str = ""
    alone: bool = False
    """Whether the page has a part for this run by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Runs beside each other. `scores`: which ones are shown (none named: all); `general`: figures of the general probe."""

    title: str
    about: str
    runs: tuple[str, ...]
    scores: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    general: tuple[str, ...] = ()


def command(name: str) -> str:
    """Return the command that makes a run."""
    job = JOBS[name]
    if not job.file:
        return "burnish demo"
    output = f" output=runs/{name}" if job.changes else ""
    return f"burnish tune examples/{job.file}.toml{' ' if job.changes else ''}{job.changes}{output}"


JOBS: dict[str, Job] = {
    "demo": Job("The demo: a help desk's messages, 14 categories (bundled sample rows).", "", alone=True),
    "banking77": Job(
        "Customer questions to a bank, 77 intents, answered by generating the intent's name.", "banking77", alone=True
    ),
    "instruct_rasbt": Job("Short instructions; likelihood and overlap with the reference answers.", "instruct_rasbt", alone=True),
    "us_code": Job("Continued pretraining on statutes; bits per byte of held-out sections.", "us_code", alone=True),
    "nursing": Job("Continued pretraining on nursing books, which the base has not seen.", "nursing", alone=True),
}

NOTES: dict[str, str] = {
    "sentiment_lora2": ("`sentiment_lora2` was made at LoRA's former default rate, 5e-3, which is too high for this job.\n"),
    "covid_qa": (
        "`covid_qa` is not learned: 843 questions on 70 articles teach a model of this size nothing that holds on other articles, and the nearest "
        "passage does better.\n"
    ),
    "instruct_ppo": ("The reward of held-out answers rose by 0.150 under PPO; its interval just includes zero.\n"),
    "sentiment_prompt": (
        "Where no peak memory is told, the run was finished by a second process, which did not train; training took place in the first.\n"
    ),
    "instruct_simpo": (
        "SimPO at the rate of the others made the answers worthless (ROUGE-L 0.04, none ends by itself) while it came to prefer the better ones; "
        "at a third of the rate (`instruct_simpo2`) the answers stayed, and nothing was learned. A reference, as DPO has one, prevents that.\n"
    ),
    "hh_reward": (
        "On `hh` hardly anything is proven: 1,248 pairs do not teach ten million parameters what offends, and a bag of words does as well.\n"
    ),
}
"""What a reader of a table must know of a run."""


# ---------------------------------------------------------------------------------------------------------------------------- heads

HEADS = {
    "banking77_head": "77 intents of a bank's customers, told by a head",
    "clinc150_head": "150 intents and what is outside them",
    "wnut17_ner": "names in noisy posts, strict span F1",
    "biomedical_ner": "chemicals and diseases in abstracts (BC5CDR), strict span F1",
    "covid_qa": "where in an article the answer stands",
}
JOBS |= {name: Job(about, name) for name, about in HEADS.items()}

# ---------------------------------------------------------------------------------------------------------------------- preferences

_LOWER = " train.learning_rate=1.5e-5"
JOBS |= {
    "instruct_dpo": Job("DPO on pairs", "instruct_pairs"),
    "instruct_ipo": Job("IPO on pairs", "instruct_pairs", "objective=ipo"),
    "instruct_simpo": Job("SimPO on pairs", "instruct_pairs", "objective=simpo"),
    "instruct_simpo2": Job("SimPO on pairs, slower", "instruct_pairs", f"objective=simpo{_LOWER}"),
    "instruct_orpo": Job("ORPO on pairs", "instruct_pairs", "objective=orpo train.learning_rate=1.5e-4"),
    "instruct_kto": Job("KTO on pairs", "instruct_pairs", "objective=kto"),
    "instruct_reward": Job("a reward model", "instruct_reward"),
    "hh_dpo": Job("DPO on pairs", "hh_pairs"),
    "hh_ipo": Job("IPO on pairs", "hh_pairs", "objective=ipo score=preference_accuracy"),
    "hh_simpo": Job("SimPO on pairs", "hh_pairs", f"objective=simpo score=preference_accuracy{_LOWER}"),
    "hh_orpo": Job("ORPO on pairs", "hh_pairs", "objective=orpo score=preference_accuracy"),
    "hh_kto": Job("KTO on pairs", "hh_pairs", "objective=kto score=preference_accuracy"),
    "hh_reward": Job("a reward model", "hh_reward"),
}

# ------------------------------------------------------------------------------------------------------------------- reinforcement

JOBS |= {
    "instruct_ppo": Job("PPO with the reward model of instruct_reward", "instruct_ppo"),
    "sentiment_sft": Job("60 steps of imitation", "sentiment_sft"),
    "sentiment_grpo": Job("GRPO, rewarded for the right label", "sentiment_grpo"),
    "sentiment_rloo": Job("RLOO, rewarded for the right label", "sentiment_grpo", "objective=rloo"),
}

# ------------------------------------------------------------------------------------------------------- techniques, and what is forgotten

TECHNIQUES = ("full", "selective", "lora", "dora", "pissa", "qlora", "ia3", "prompt", "prefix", "ptuning")
JOBS |= {
    f"sentiment_{name}": Job(f"technique {name}", "sentiment", "" if name == "full" else f"technique={name}") for name in TECHNIQUES
}
JOBS |= {
    "sentiment_selective": Job("the last two layers", "sentiment", "technique=selective technique.last_layers=2"),
    "sentiment_lora2": Job("LoRA of rank 2", "sentiment", "technique=lora technique.rank=2"),
    "sentiment_kl": Job("a price for leaving the base", "sentiment", "objective.kl=0.1"),
    "sentiment_average": Job("half of the way from the base", "sentiment", "train.average=0.5"),
    "sentiment_replay": Job("general rows beside those of the job", "sentiment_replay"),
}

TABLES: tuple[Table, ...] = (
    Table(
        title="Heads: labels, names, answers",
        about=(
            '"Base" of a head is the same head, trained as long on the same rows, on the network as it was; "zero-shot" is the base asked to '
            "write the answer."
        ),
        runs=tuple(HEADS),
        columns=("seconds",),
    ),
    Table(
        title="Preferences",
        about=(
            "The share of held-out pairs of which the better answer is preferred, as the objective reads it; then what became of the answers "
            "themselves. All begin with the bundled chat model; `reward` gives it a head."
        ),
        runs=tuple(
            name for name in JOBS if name.startswith(("instruct_", "hh_")) and name not in ("instruct_rasbt", "instruct_ppo")
        ),
        columns=("seconds",),
    ),
    Table(
        title="Reinforcement learning",
        about="Each run continues another one and is measured beside it: base is the model before the first attempt.",
        runs=("sentiment_sft", "sentiment_grpo", "sentiment_rloo", "instruct_ppo"),
        columns=("seconds",),
    ),
    Table(
        title="Techniques",
        about=(
            "Reviews, good or bad, two epochs of 2,090 rows, by each technique at the learning rate that it has by itself. Peak memory is that of "
            "the whole process, Python and libraries included."
        ),
        runs=tuple(f"sentiment_{name}" for name in TECHNIQUES),
        scores=("accuracy",),
        columns=("trainable", "seconds", "peak_memory_gb"),
    ),
    Table(
        title="What is forgotten, and what reduces it",
        about=(
            "The same job. The last columns are changes on the [general probe](forgetting.md), tuned less base: bits per byte of textbook prose "
            "(lower is better), multiple choice, ROUGE-L of general instructions, and answers found in a passage."
        ),
        runs=("sentiment_full", "sentiment_replay", "sentiment_kl", "sentiment_average", "sentiment_lora", "sentiment_lora2"),
        scores=("accuracy",),
        general=("bits_per_byte", "choice", "instructions", "reading"),
    ),
)
