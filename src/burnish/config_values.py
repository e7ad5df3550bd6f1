"""A resolved run, and its values by their dotted names: each with where it came from, changed later, led to by path.

Enters: a valid run. Leaves: `Resolved`, its values one by one, the run with another value, and the places of the models that it names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from burnish import config_layers, config_tasks
from burnish.config_layers import CHOICES, EXCLUSIVE, Key, Merged
from burnish.config_schema import Choice, RunConfig, descriptions
from burnish.errors import ConfigError
from burnish.run_file_write import dotted


@dataclass(frozen=True, slots=True)
class Resolved:
    """A complete run.

    `origins` says of every value, by dotted name, where it came from. Paths of data are relative to `base`, the output to the
    current folder. `notes` are sentences for the user on values that another choice made meaningless.
    """

    config: RunConfig
    origins: Mapping[str, str]
    base: Path
    file: Path | None = None
    notes: tuple[str, ...] = ()


def leaves(config: RunConfig) -> Iterator[tuple[Key, Any]]:
    """Yield (name, value) of every value of a run; a source and a list are one value, column names are one each.

    A model that has a name is that name, without the sizes of a fresh one; a run of several tasks has no data of its own.
    """
    tree = config.model_dump(mode="json", by_alias=True)
    if not config.model.is_fresh:
        terms = {"name": config.model.name, "add_terms": tree["model"]["add_terms"]}
        tree["model"] = terms if terms["add_terms"] else config.model.name
    tasks = tree.pop("task")
    if tasks:
        tree = {name: value for name, value in tree.items() if name not in config_tasks.PARTS}
    for name, value in tree.items():
        if not isinstance(value, dict):
            yield (name,), value
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from (((name, *key), item) for key, item in _leaves_of(name, value))
    for name, task in tasks.items():
        for part, value in task.items():
            if isinstance(value, dict):
                yield from ((("task", name, part, *key), item) for key, item in _leaves_of(part, value))
            else:
                yield ("task", name, part), value


def _leaves_of(name: str, table: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:
    """Yield every value of a table, those of `data.columns` one by one."""
    for key, item in table.items():
        if (name, key) == ("data", "columns"):
            yield from (((key, column), theirs) for column, theirs in item.items())
        else:
            yield (key,), item


def origins_of(config: RunConfig, merged: Merged) -> dict[str, str]:
    """Return where every value of a run came from, by dotted name: the place that gave it, or "default"."""
    origins = {} if config.data.columns else {"data.columns": "default"}
    for key, _ in leaves(config):
        place = merged.places.get(("model", "name") if key == ("model",) else key)
        origins[dotted(key)] = "default" if place is None else place.origin
    return origins


def with_value(resolved: Resolved, name: str, value: Any, *, origin: str) -> Resolved:
    """Return the run with one value filled in later, by its dotted name, and where it came from ("the data", "the model").

    Setting train.steps replaces train.epochs, and the other exclusive pairs likewise. Raises ConfigError where the value does not
    fit the field. The name is the program's, not the user's: an unknown one is an assertion.
    """
    known = name in (*descriptions(), "model") or name.split(".")[0] in (*CHOICES, "task")
    assert known, f"no field is called {name}"
    changes = {name: value}
    for here, other in (order for pair in EXCLUSIVE for order in (pair, pair[::-1])):
        if here == name and value not in (None, 0):
            changes[other] = 0.0 if other.endswith("_share") else None
    config = resolved.config
    for changed, item in changes.items():
        try:
            config = _changed(config, changed, item)
        except (ValidationError, TypeError) as error:
            raise ConfigError(f"{changed}: {item!r}, from {origin}, does not fit: {error}") from None
    return replace(resolved, config=config, origins={**resolved.origins, **dict.fromkeys(changes, origin)})


def _changed(config: RunConfig, name: str, value: Any) -> RunConfig:
    table, _, key = name.partition(".")
    if table == "task":
        task, _, field = key.rpartition(".")
        before = config.task[task]
        after = type(before).model_validate_json(json.dumps({**before.model_dump(mode="json"), field: value}))
        return config.model_copy(update={"task": {**config.task, task: after}})
    if not key:
        if name == "model" and config.model.add_terms:  # another place of what the run begins with: its terms stay
            value = {"name": value, "add_terms": list(config.model.add_terms)}
        checked = RunConfig.model_validate_json(json.dumps({name: value}))
        return config.model_copy(update={name: getattr(checked, name)})
    before = getattr(config, table)
    if table in CHOICES:
        after = Choice(**{"name": before.name, **before.options, key: value})
    else:
        after = type(before).model_validate_json(json.dumps({**before.model_dump(mode="json"), key: value}))
    return config.model_copy(update={table: after})


def model_reference(resolved: Resolved) -> str:
    """Return the model's name, an absolute path where it is relative to the run file (a .toml, or with a leading ./ or ../).

    Of a fresh model, that of the tokenizer it takes over. A run whose model has neither is not to be asked.
    """
    model = resolved.config.model
    return named_model(resolved, model.tokenizer if model.is_fresh else model.name)


def named_model(resolved: Resolved, name: str | None) -> str:
    """Return the name of a model that the run names anywhere, its teacher perhaps, as an absolute path where `model_reference` gives one."""
    found = config_layers.map_paths({"teacher": name}, lambda text: str((resolved.base / text).resolve()))["teacher"]
    assert isinstance(found, str), "a fresh model has no name, and prepare refuses a run that lacks another"
    return found


def single_references(resolved: Resolved) -> dict[str, str]:
    """Return by task the run with that task alone which it is compared with, an absolute path where it is relative to the run file."""
    named = {name: task.single for name, task in resolved.config.task.items()}
    return {name: config_tasks.single_reference(single, resolved.base) for name, single in named.items() if single is not None}
