"""The runs that burnish carries out in the benchmarks, as a user would write them.

Enters: the name of a set of rows (`work`). Leaves: the run as a mapping, which is what a run file holds. Nothing in it switches on what a
user would have to know of: all that makes burnish quick is what `burnish tune` chooses by itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from work import BATCH, WORK

RATE = 2e-4
STEPS = 1_000
"""More than are ever made: the driver stops when it has measured enough."""

PAIRS = 4
"""Pairs per step: eight answers."""

ATTEMPTED = 4
"""Prompts that are attempted per step, each as often as `samples` says."""

OPTIONS: dict[str, dict[str, Any]] = {"lora": {"rank": 16, "alpha": 32.0}, "selective": {"head": True}}
"""The options of a technique: adapters on all linear layers; a head alone."""

NEW_TOKENS = 64
"""Tokens of an answer that a model makes."""

FORMATS = {"pairs": "pairs", "labels": "labelled", "length": "text", "prompts": "prompt_completion"}
"""The format of a set, by the beginning of its name; any other holds prompts and completions."""


def run(name: str, *, output: Path, technique: str = "lora", steps: int = STEPS, **changes: Any) -> dict[str, Any]:
    """Return the run that learns the rows of a set; `changes` are dotted names with underscores doubled (`train__batch=1`)."""
    values: dict[str, Any] = {
        "model": str(WORK / "model"),
        "output": str(output),
        "seed": 0,
        "data": {
            "source": str(WORK / f"{name}.jsonl"),
            "format": FORMATS.get(name.split("_")[0], "prompt_completion"),
            "dev_share": 0.0,
            "test_share": 0.0,
        },
        "objective": {"name": objective(name)},
        "technique": {"name": technique, **OPTIONS.get(technique, {})},
        "train": {"steps": steps, "batch": batch_of(name), "learning_rate": RATE, "schedule": "constant", "warmup": 0.0},
        "save": {"every": STEPS},
        "log": {"every": 1, "tensorboard": False},
    }
    if objective(name) == "grpo":
        values["rollout"] = {"reward": ["reward:vowels"], "samples": 8, "max_tokens": NEW_TOKENS}
    for key, item in changes.items():
        place, (*tables, last) = values, key.split("__")
        for table in tables:
            place = place.setdefault(table, {})
        place[last] = item
    return values


def batch_of(name: str) -> int:
    """Return the rows of a set that stand in a step, on every side."""
    return {"pairs": PAIRS, "prompts": ATTEMPTED}.get(name.split("_")[0], BATCH)


def objective(name: str) -> str:
    """Return the objective that the rows of a set are for."""
    return {"pairs": "dpo", "labels": "classification", "prompts": "grpo"}.get(name.split("_")[0], "sft")
