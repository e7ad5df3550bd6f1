"""From a job to a run: what the fields of the OpenAI interface mean in a run file.

Enters: a checked request, and later what the check of the files found. Leaves: the values of a run file, "auto" left to what burnish
chooses. Refused here, as a ConfigError: what has no counterpart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish import atomic, config
from burnish.config import Resolved
from burnish.errors import ConfigError, suggestion
from burnish.prepare import registries
from burnish.serve.jobs_graders import Graded, graded
from burnish.serve.jobs_request import Method
from burnish.serve.jobs_rows import Job
from burnish.techniques import TECHNIQUES
from burnish.usecases.run_text import run_text

TRAINING, VALIDATION = "training.jsonl", "validation.jsonl"
"""What a job's copies of its files are called, also in messages about a line."""
RUN_FILE = "run.toml"
SAMPLES = 8
"""Answers to each prompt of a reinforcement job whose compute_multiplier is 1."""
OBJECTIVES = {"supervised": "sft", "dpo": "dpo", "reinforcement": "grpo"}
VALID_LOSS = "perplexity"
"""The score whose logarithm is what a hosted service calls the validation loss."""
FORMATS = {"supervised": "messages", "dpo": "pairs", "reinforcement": "prompt_completion"}
EXTRA = (
    *("technique", "technique.rank", "technique.alpha", "technique.dropout", "technique.last_layers", "technique.positions"),
    *("data.dev_share", "data.test_share", "data.max_length", "data.long_rows", "data.learn", "data.limit", "data.near_duplicates"),
    *("train.steps", "train.tokens", "train.schedule", "train.warmup", "train.weight_decay", "train.packing", "train.average"),
    *("evaluate.every", "evaluate.limit", "evaluate.patience", "evaluate.best", "evaluate.max_tokens"),
    *("evaluate.baseline", "evaluate.forgetting", "save.every", "save.keep", "dtype", "threads"),
    *("rollout.samples", "rollout.temperature", "rollout.max_tokens", "rollout.kl", "rollout.inner", "objective.sft_weight"),
)
"""Fields of a run file that a request may set under "burnish": none that names a path, a model, or code."""


def run_values(
    method: Mapping[str, Any], *, base: str, output: str, seed: int, validated: bool, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values of the run file of a job, as nested tables.

    `method` is that of the request; `validated` says whether there is a validation file. Raises ConfigError with the field that cannot be
    carried out.
    """
    kind = str(method["type"])
    given = {
        name: value
        for name, value in dict((method.get(kind) or {}).get("hyperparameters") or {}).items()
        if value not in ("auto", None)
    }
    values: dict[str, Any] = {
        "model": base,
        "output": output,
        "seed": seed,
        "data": {"source": TRAINING, "format": FORMATS[kind]},
        "objective": {"name": OBJECTIVES[kind]},
        "train": {},
        "evaluate": {},
        "save": {"keep": 3},
        "log": {"every": 1, "tensorboard": False},
    }
    if validated:
        values["data"]["dev"] = VALIDATION
    for name, place in (("n_epochs", "epochs"), ("batch_size", "batch")):
        if name in given:
            values["train"][place] = given[name]
    if "beta" in given:
        values["objective"]["beta"] = given["beta"]
    if kind == "reinforcement":
        _reinforced(values, given, graded(method[kind]["grader"], "method.reinforcement.grader"))
    for name, value in extra.items():
        _set(values, name, value)
    return {name: value for name, value in values.items() if value != {}}


def _reinforced(values: dict[str, Any], given: Mapping[str, Any], found: Graded) -> None:
    """Fill in what a reinforcement job has beyond others: what an answer is worth, and how often the model tries."""
    values["score"] = list(found.rewards)
    columns = {"prompt": "messages"}
    if found.reference is None:
        raise ConfigError(
            "method.reinforcement.grader: names no reference, and without one there is nothing to compare an answer with."
        )
    values["data"]["columns"] = columns | {"completion": found.reference}
    samples = max(2, round(SAMPLES * given.get("compute_multiplier", 1.0)))
    values["rollout"] = {
        "samples": samples,
        "reward": [{"score": score, "weight": weight} for score, weight in found.rewards.items()],
    }
    for name, place in (("eval_interval", "every"), ("eval_samples", "limit")):
        if name in given:
            values["evaluate"][place] = given[name]


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    """Put a field of "burnish" into the run; ConfigError for one that a request may not set."""
    if name not in EXTRA:
        raise ConfigError(f"burnish: {name!r} cannot be set by a request.{suggestion(name, EXTRA)} Expected: {', '.join(EXTRA)}.")
    if not isinstance(value, str | int | float | bool):
        raise ConfigError(f"burnish: {name}: expected a single value, found {type(value).__name__}.")
    if name == "technique" and value not in TECHNIQUES:
        raise ConfigError(f"burnish: technique: expected one of {', '.join(TECHNIQUES)}.{suggestion(str(value), TECHNIQUES)}")
    if name == "technique":
        name = "technique.name"
    table, _, key = name.rpartition(".")
    place = values.setdefault(table, {}) if table else values
    if (key, table) == ("steps", "train"):
        place.pop("epochs", None)
    if (key, table) == ("dev_share", "data") and "dev" in place:
        raise ConfigError("burnish: data.dev_share: a validation_file is given, so no share of the training file is needed for it.")
    place[key] = value


def write(folder: Path, values: Mapping[str, Any]) -> None:
    """Write the run file of a job into its folder."""
    atomic.write_file(folder / RUN_FILE, run_text(values, head=["Made from a fine-tuning job."]))


def resolved(values: Mapping[str, Any]) -> Resolved:
    """Return the run that values describe; ConfigError with everything that is wrong with them. Nothing is read."""
    return config.load(None, registries=registries(), values=dict(values))


def with_found(values: dict[str, Any], found: Mapping[str, Any], multiplier: Any) -> dict[str, Any]:
    """Return the values with what the check found: the learning rate times its multiplier, and the scores that suit the rows."""
    filled = json.loads(json.dumps(values))
    if multiplier not in (None, "auto"):
        filled.setdefault("train", {})["learning_rate"] = float(found["learning_rate"]) * float(multiplier)
    if found["objective"] == "sft" and found["dev"] and "score" not in filled:
        filled["score"] = [VALID_LOSS, *(score for score in found["scores"] if score != VALID_LOSS)]
    return filled


def spelled_out(job: Job, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job's method with "auto", and what was left out, replaced by what was chosen."""
    kind = str(job.method["type"])
    given = dict((job.method.get(kind) or {}).get("hyperparameters") or {})
    chosen = {"n_epochs": found["epochs"], "batch_size": found["batch"], "learning_rate_multiplier": 1.0}
    if kind == "dpo":
        chosen["beta"] = found["beta"]
    filled = chosen | {name: value for name, value in given.items() if value not in ("auto", None)}
    if filled["n_epochs"] is None:
        del filled["n_epochs"]  # the run counts steps
    return {**job.method, kind: {**(job.method.get(kind) or {}), "hyperparameters": filled}}


def method_of(asked: Method) -> dict[str, Any]:
    """Return the method of a request as it is kept and shown: its type and its own settings."""
    part = getattr(asked, asked.type)
    kept = part.model_dump(exclude_none=True) if part is not None else {}
    kept["hyperparameters"] = asked.hyperparameters
    return {"type": asked.type, asked.type: kept}
