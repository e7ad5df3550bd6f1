"""The rows of the benchmark: who does what work, and what the figures must reach.

Enters: nothing. Leaves: `ROWS`, literal. How runs are carried out is `protocol`'s business, what is made of their lines `measures`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from formulae import Target
from levers import LEVERS, SHARED
from work import BATCH, GROWTH

from run_files import ATTEMPTED, NEW_TOKENS, batch_of

Peer = Literal["burnish", "trl", "llamafactory", "litgpt"]
Task = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a row: whose driver does which task. With `choices` the quickest of them is found first, and measured."""

    name: str
    peer: Peer
    driver: str
    task: Task
    choices: tuple[Task, ...] = ()
    steps: int = 6
    warmup: int = 2
    repeats: int | None = None
    """Fewer than asked for, where a repeat takes minutes."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a row: a measure of one arm, or how many times that of another arm it is; `target` says what it must reach."""

    name: str
    measure: str
    arm: str
    over: str | None = None
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. `gate`: losses and gradients are compared with the plain twin before anything is measured."""

    title: str
    arms: tuple[Arm, ...]
    figures: tuple[Figure, ...]
    gate: Literal["gradients", "losses", "tokens", "moves", "none"] = "gradients"
    dev: bool = False
    """Whether the loss on rows held out is measured after the last step."""
    needs: str = ""
    """What this machine lacks, for a row that is not measured."""


# --------------------------------------------------------------------------------------------------------------------- the sides

BY_HAND = {"OMP_PROC_BIND": "close", "MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
"""What a careful user of a peer sets for the process: threads that stay on their processor, an allocator that keeps its pages."""

LEAN = {"dtype": "bfloat16", "checkpointing": False, "products": "medium"}
"""bfloat16 weights, no recomputation, float32 products in bfloat16."""

GROUPED = 6
"""Steps where rows are grouped by length: the sampler sorts 40 of our 160 rows at a time, longest first, so that five steps in a row hold all
lengths. One more warms up."""

SFT_CHOICES: tuple[Task, ...] = (
    {**LEAN, "grouped": True},
    {**LEAN, "grouped": True, "bf16": False},
    {**LEAN, "grouped": True, "compile": True},
    {**LEAN, "packing": True, "pack_to": 2240, "batch": 1},
)


def burnish(rows: str, *, steps: int = 8, warmup: int = 2, name: str = "burnish", repeats: int | None = 3, **task: Any) -> Arm:
    """Return burnish's side: `burnish tune` on a set of rows."""
    known = {"verb": "tune", "rows": rows, "batch": batch_of(rows), **task}
    return Arm(name, "burnish", "drive_burnish.py", known, steps=steps, warmup=warmup, repeats=repeats)


def trl(verb: str, rows: str, *, choices: tuple[Task, ...] = (), repeats: int | None = None, steps: int = 6, **task: Any) -> Arm:
    """Return TRL's side: as it comes, or tuned by hand to the best of some choices."""
    name, environment = ("TRL tuned", BY_HAND) if choices else ("TRL as it comes", {})
    return Arm(
        name,
        "trl",
        "drive_trl.py",
        {"verb": verb, "rows": rows, "batch": batch_of(rows), **task},
        choices=choices,
        steps=steps,
        warmup=1,
        repeats=repeats,
        environment=environment,
    )


def faster(measure: str, *, came: float | None = None, tuned: float | None = None) -> tuple[Figure, ...]:
    """Return the figures that compare burnish with TRL, as it comes and tuned."""
    figures = []
    if came is not None:
        figures.append(Figure(f"{measure} over TRL as it comes", measure, "burnish", "TRL as it comes", Target(came)))
    if tuned is not None:
        figures.append(Figure(f"{measure} over TRL tuned", measure, "burnish", "TRL tuned", Target(tuned)))
    return tuple(figures)


def pairs(rows: str) -> tuple[Arm, ...]:
    """Return the sides of preferences on a set of pairs."""
    choices: tuple[Task, ...] = (
        {**LEAN, "grouped": False},
        {**LEAN, "grouped": False, "reference_first": True},
        {**LEAN, "grouped": False, "bf16": False, "reference_first": True},
    )
    alone = (burnish(rows, name=APART, repeats=2, without="the shared prompt"),) if SHARED.there() else ()
    return (
        burnish(rows),
        *alone,
        trl("dpo", rows, steps=2, repeats=2),
        trl("dpo", rows, choices=choices, steps=4, repeats=3),
    )


APART = "burnish, prompts not shared"
SHARING = (Figure("pairs_per_second over prompts not shared", "pairs_per_second", "burnish", APART),) if SHARED.there() else ()
"""What sharing itself brings, beside what all the rest does."""

HEAD_STEPS = 6
"""Steps of one epoch of the rows with labels."""

GROWING = tuple(
    burnish(f"length_{length}", name=f"length {length}", steps=3, warmup=1, repeats=2, changes={"train__batch": 8192 // length})
    for length in GROWTH
)

ROWS: dict[str, Row] = {
    "sft": Row(
        title="LoRA SFT, instruction mix",
        arms=(
            burnish("mix", repeats=None),
            trl("sft", "mix", steps=2, repeats=2),
            trl("sft", "mix", choices=SFT_CHOICES, steps=GROUPED),
        ),
        figures=(
            *faster("tokens_per_second", came=8.0, tuned=4.0),
            Figure("peak memory over TRL as it comes", "peak_gb", "burnish", "TRL as it comes", Target(1 / 3, "most")),
            Figure("peak memory over TRL tuned", "peak_gb", "burnish", "TRL tuned", Target(1 / 3, "most")),
        ),
    ),
    "peak": Row(
        title="LoRA SFT as a share of the bfloat16 matrix peak",
        arms=(burnish("mix", steps=14, repeats=None),),
        figures=(Figure("share of peak", "share_of_peak", "burnish", target=Target(0.40)),),
        gate="none",
    ),
    "packed": Row(
        title="LoRA SFT, full-length text, every token trained",
        arms=(
            burnish("length_512", steps=5, warmup=1),
            trl("sft", "length_512", choices=(LEAN, {**LEAN, "bf16": False}), steps=3, repeats=2),
        ),
        figures=(*faster("tokens_per_second", tuned=1.0), Figure("share of peak", "share_of_peak", "burnish")),
        gate="losses",
    ),
    "chat": Row(
        title="LoRA SFT, short chat",
        arms=(burnish("chat", steps=18), trl("sft", "chat", choices=SFT_CHOICES[:2], steps=9, repeats=3)),
        figures=faster("tokens_per_second", tuned=1.0),
        gate="losses",
    ),
    "full": Row(
        title="full fine-tuning, instruction mix",
        arms=(
            burnish("mix", technique="full", steps=7),
            trl(
                "sft",
                "mix",
                technique="full",
                choices=({**LEAN, "grouped": True}, {"checkpointing": False, "products": "medium", "grouped": True}),
                steps=GROUPED,
                repeats=3,
            ),
        ),
        figures=(*faster("tokens_per_second", tuned=3.0), Figure("share of peak", "share_of_peak", "burnish")),
    ),
    "dpo": Row(
        title="DPO, long prompts shared by both answers",
        arms=pairs("pairs_long"),
        figures=(*faster("pairs_per_second", came=10.0, tuned=4.0), *SHARING),
    ),
    "dpo_short": Row(
        title="DPO, short prompts and long answers",
        arms=tuple(arm for arm in pairs("pairs_short") if arm.name != "TRL as it comes"),
        figures=(*faster("pairs_per_second", tuned=1.0), *SHARING),
        gate="losses",
    ),
    "grpo": Row(
        title=f"GRPO, {ATTEMPTED} prompts × 8 samples × {NEW_TOKENS} tokens a step",
        arms=(
            burnish("prompts", steps=4, warmup=1),
            trl(
                "grpo",
                "prompts",
                choices=(LEAN,),  # one: a step takes more than a minute
                samples=8,
                new_tokens=NEW_TOKENS,
                steps=2,
                repeats=2,
            ),
        ),
        figures=faster("steps_per_second", tuned=3.0),
        gate="moves",
    ),
    "head": Row(
        title="classification with a head on a frozen base, second epoch on",
        arms=(
            burnish("labels", technique="selective", steps=HEAD_STEPS + 60, warmup=HEAD_STEPS),
            Arm(
                "transformers",
                "trl",
                "drive_transformers.py",
                {"verb": "head", "rows": "labels", "dtype": "bfloat16", "batch": BATCH},
                steps=2 * HEAD_STEPS,
                warmup=HEAD_STEPS,
                environment=BY_HAND,
            ),
        ),
        figures=(Figure("examples_per_second over transformers", "examples_per_second", "burnish", "transformers", Target(10.0)),),
        gate="losses",
    ),
    "generate": Row(
        title="generation, batch 16, 64 tokens each",
        arms=(
            Arm(
                "burnish",
                "burnish",
                "drive_burnish.py",
                {"verb": "generate", "rows": "prompts", "batch": 16, "new_tokens": NEW_TOKENS},
                steps=4,
                warmup=1,
            ),
            Arm(
                "transformers",
                "trl",
                "drive_transformers.py",
                {"verb": "generate", "rows": "prompts", "batch": 16, "new_tokens": NEW_TOKENS},
                choices=({"dtype": "bfloat16"}, {"dtype": "float32"}),
                steps=3,
                warmup=1,
                environment=BY_HAND,
            ),
        ),
        figures=(Figure("tokens_per_second over transformers", "tokens_per_second", "burnish", "transformers", Target(2.0)),),
        gate="tokens",
    ),
    "start": Row(
        title="from the start of the process to the first step, 1,000 rows of text",
        arms=(burnish("rows_1k", steps=1, warmup=0), trl("sft", "rows_1k", steps=1, text=True)),
        figures=(
            Figure("seconds until the first step begins, over TRL's", "ready", "burnish", "TRL as it comes", Target(0.5, "most")),
            Figure("seconds until the first step is made, over TRL's", "first_step", "burnish", "TRL as it comes"),
        ),
        gate="none",
    ),
    "loss": Row(
        title="seconds to a dev loss on real text, from the start of the process: both sides after the same steps",
        arms=(
            burnish("mix", steps=16, warmup=0, repeats=2, changes={"train__learning_rate": 1e-3}),
            trl("sft", "mix", choices=({**LEAN},), steps=16, repeats=1, rate=1e-3),
        ),
        figures=(Figure("seconds over TRL tuned", "seconds_to_last", "burnish", "TRL tuned", Target(1.0, "most")),),
        dev=True,
        gate="losses",
    ),
    "growth": Row(
        title="cost as sequences grow, full-length text, 8,192 tokens a step",
        arms=GROWING,
        figures=tuple(
            Figure(f"share of peak at {length} over that at 512", "share_of_peak", f"length {length}", "length 512", Target(0.8))
            for length in GROWTH[1:]
        ),
        gate="none",
    ),
    "rows": Row(
        title="cost as data grow: 100,000 short rows against 1,000",
        arms=tuple(
            burnish(rows, name=name, steps=24, warmup=4, repeats=2)
            for rows, name in (("rows_1k", "1,000 rows"), ("rows_100k", "100,000 rows"))
        ),
        figures=(
            Figure("tokens_per_second over 1,000 rows", "tokens_per_second", "100,000 rows", "1,000 rows", Target(0.9)),
            Figure("peak memory over 1,000 rows", "peak_gb", "100,000 rows", "1,000 rows", Target(1.1, "most")),
        ),
        gate="none",
    ),
    "peers": Row(
        title="other tools on a CPU, LoRA SFT, instruction mix",
        arms=(
            burnish("mix"),
            Arm(
                "LLaMA-Factory",
                "llamafactory",
                "drive_llamafactory.py",
                {"rows": "mix", "batch": BATCH},
                choices=({"bf16": True, "checkpointing": False}, {"bf16": False, "checkpointing": False, "products": "medium"}),
                steps=4,
                warmup=1,
                repeats=2,
                environment=BY_HAND,
            ),
            Arm(
                "LitGPT",
                "litgpt",
                "drive_litgpt.py",
                {"rows": "mix", "batch": BATCH},
                steps=4,
                warmup=1,
                repeats=2,
                environment=BY_HAND,
            ),
        ),
        figures=tuple(
            Figure(f"tokens_per_second over {name}", "tokens_per_second", "burnish", name, Target(1.0))
            for name in ("LLaMA-Factory", "LitGPT")
        ),
        gate="losses",
    ),
    "levers": Row(
        title="what each piece brings: LoRA SFT with it taken away",
        arms=(
            burnish("mix", steps=6),
            *(burnish("mix", steps=6, repeats=2, name=f"without {name}", without=name) for name in LEVERS),
        ),
        figures=tuple(Figure(f"with {name}, over without", "tokens_per_second", "burnish", f"without {name}") for name in LEVERS),
        gate="none",
    ),
    "gpu_lora": Row(
        title="one GPU, 7–8 B LoRA shape, 4k packed, bfloat16",
        arms=(),
        figures=(
            Figure("tokens/s", "tokens_per_second", "burnish", target=Target(17_000.0)),
            *faster("tokens_per_second", tuned=2.0),
            Figure("tokens_per_second over Unsloth", "tokens_per_second", "burnish", "Unsloth", Target(1.2)),
        ),
        needs="a GPU",
    ),
    "gpu_dpo": Row(title="one GPU, 0.5 B, DPO", arms=(), figures=faster("pairs_per_second", tuned=3.0), needs="a GPU"),
}
