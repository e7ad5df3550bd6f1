"""The check of a job's files, in a process of its own: a file that takes all memory, or hours, costs the server nothing.

Enters: the folder of a job as the current folder, with its run file and rows. Leaves: `checked.json`, which holds either the error that the
client is told, with file and line of every problem, or what the run would choose: learning rate, scores, rows on each side.

    python -m burnish.serve.jobs_check
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish import atomic, config
from burnish.errors import BurnishError, ConfigError, DataError, ModelError, UsageError
from burnish.prepare import default_rate, prepare, registries
from burnish.runs import redact
from burnish.serve.jobs_plan import RUN_FILE, VALIDATION

RESULT = "checked.json"
MOST_FINDINGS = 20


def check(folder: Path) -> dict[str, Any]:
    """Return what the check of a job's folder finds: {"error": …} or what the run would choose."""
    try:
        plan = prepare(config.load(folder / RUN_FILE, registries=registries()))
    except UsageError as error:
        return {"error": as_error(error)}
    run, part = plan.resolved.config, plan.first
    rows = {side: len(part.gathered.examples[side]) for side in ("train", "dev", "test")}
    return {
        "error": None,
        "learning_rate": default_rate(plan)[0],
        "scores": list(run.score),
        "objective": run.objective.name,
        "epochs": None if "train.steps" in _chosen(plan.resolved) else run.train.epochs,
        "batch": run.train.batch,
        "beta": run.objective.options.get("beta"),
        "steps": run.train.steps,
        **rows,
        "findings": [_noted(finding) for finding in plan.report["findings"][:MOST_FINDINGS]],
    }


def _noted(finding: Mapping[str, Any]) -> dict[str, str]:
    """Return a finding on the rows as an event tells it, with the places of the first rows."""
    places = f" ({', '.join(finding['origins'][:3])})" if finding["origins"] else ""
    return {"level": "info" if finding["level"] == "note" else "warn", "message": redact(finding["message"] + places)}


def _chosen(resolved: config.Resolved) -> set[str]:
    """Return the fields that the job itself set."""
    return {name for name, origin in resolved.origins.items() if origin.startswith("you")}


def as_error(error: BurnishError, kind: str | None = None) -> dict[str, Any]:
    """Return an error of a job as clients read it: a code that programs can look at, words, and the parameter that was invalid."""
    return told(kind or type(error).__name__, str(error))


def told(kind: str, text: str) -> dict[str, Any]:
    """Return the error of a job from the kind of error and its words."""
    if kind == DataError.__name__:
        param = "validation_file" if _is_about(text, VALIDATION) else "training_file"
        return {"code": f"invalid_{param}", "message": redact(text), "param": param}
    code = {ModelError.__name__: "invalid_model", ConfigError.__name__: "invalid_request", "SpaceError": "no_space"}
    param = {ModelError.__name__: "model"}.get(kind)
    return {"code": code.get(kind, "job_failed"), "message": redact(text), "param": param}


def _is_about(text: str, name: str) -> bool:
    """Return whether the problems that a message lists are those of one file."""
    lines = [line for line in text.splitlines() if ".jsonl" in line]
    return bool(lines) and all(name in line for line in lines)


def main() -> None:
    """Check the job in the current folder."""
    result = check(Path.cwd())
    atomic.write_file(Path.cwd() / RESULT, json.dumps(result, indent=1))


if __name__ == "__main__":
    sys.exit(main())
