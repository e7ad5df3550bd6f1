"""A resolved run written down again, and two of them compared.

Enters: resolved runs. Leaves: TOML in which every value says where it came from, and what differs between two runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from burnish import config_layers
from burnish.config_layers import Key
from burnish.config_schema import ModelConfig, RunConfig
from burnish.config_values import Resolved, leaves
from burnish.run_file_write import comment, dotted, value_literal

FREE_ON_RESUME: Mapping[str, str | None] = {
    "output": None,
    "save.*": None,
    "log.*": None,
    "task.*.single": None,
    "decide.*": None,
    "train.steps": "constant",
}
"""What may change between a run and its resumption, and the schedule under which alone it may."""


def dump(resolved: Resolved, *, folder: Path | None = None) -> str:
    """Return the run as TOML with a comment on where each value comes from; loading it gives the same run.

    With `folder`, where the text will lie, paths relative to the run file are rewritten so that they still lead to the same files.
    """
    config = resolved.config
    if folder is not None:
        config = _with_paths(resolved, lambda text: os.path.relpath(resolved.base / text, folder.resolve()))
    lines = ["# Every value of this run, with where it comes from. Tuning this file again repeats the run."]
    table: Key = ()
    for key, value in leaves(config):
        if value is None:
            continue
        above = key[: 2 if key[0] == "task" else 1]
        if len(key) > 1 and above != table:
            table = above
            lines += ["", f"[{dotted(table)}]"]
        name = dotted(key if len(key) == 1 else key[len(above) :])
        lines.append(f"{name} = {value_literal(_short(value), wide=True)}  {comment('from: ' + _origin(resolved, key))}")
    return "\n".join(lines) + "\n"


def _origin(resolved: Resolved, key: Key) -> str:
    tries = (dotted(key), dotted(key[:-1]), dotted(key[:2]))
    return next((resolved.origins[name] for name in tries if name in resolved.origins), "default")


def _with_paths(resolved: Resolved, change: Callable[[str], str]) -> RunConfig:
    named = {"model", "data", "task", "teacher", "rollout", "decide"}
    tree = config_layers.map_paths(resolved.config.model_dump(mode="json", include=named), change)
    data = resolved.config.data.model_validate_json(json.dumps(tree["data"]))
    tasks = {name: task.model_validate_json(json.dumps(tree["task"][name])) for name, task in resolved.config.task.items()}
    rollout = resolved.config.rollout.model_validate_json(json.dumps(tree["rollout"]))
    decide = resolved.config.decide.model_copy(update={"documents": tree["decide"]["documents"]})
    changed = {
        "decide": decide,
        "model": ModelConfig(**tree["model"]),
        "data": data,
        "task": tasks,
        "teacher": tree["teacher"],
        "rollout": rollout,
    }
    return resolved.config.model_copy(update=changed)


def _short(value: Any) -> Any:
    """Return the shortest form of a list of sources; any other value unchanged."""
    if not (isinstance(value, list) and value and all(isinstance(item, dict) and "source" in item for item in value)):
        return value
    kept = [{key: item for key, item in one.items() if item is not None and (key, item) != ("weight", 1.0)} for one in value]
    short = [one["source"] if set(one) == {"source"} else one for one in kept]
    return short[0] if len(short) == 1 and isinstance(short[0], str) else short


def difference(before: Resolved, after: Resolved, *, free: Mapping[str, str | None] = FREE_ON_RESUME) -> list[str]:
    """Return what changed between two runs, as `train.batch: 16 -> 8`, leaving out what is free to change on a resume.

    Paths are compared by where they lead, not by how they are written. `free={}` compares everything.
    """
    first, second = ({dotted(key): item for key, item in leaves(_with_paths(run, _absolute(run.base)))} for run in (before, after))
    schedules = {before.config.train.schedule, after.config.train.schedule}
    return [
        f"{name}: {_said(first.get(name))} -> {_said(second.get(name))}"
        for name in dict.fromkeys((*first, *second))
        if first.get(name) != second.get(name) and not _is_free(name, free, schedules)
    ]


def _is_free(name: str, free: Mapping[str, str | None], schedules: set[str]) -> bool:
    return any(fnmatchcase(name, pattern) and (only is None or schedules == {only}) for pattern, only in free.items())


def _absolute(base: Path) -> Callable[[str], str]:
    return lambda text: os.path.normpath(base / text)


def _said(value: Any) -> str:
    return "not set" if value is None else value_literal(_short(value))
