"""A run as a user describes it: loaded, checked, completed, written down again and compared.

Enters: a run file (TOML), overrides of the command line, values from Python or a use case, and the registries of names. Leaves: a
`Resolved` run in which every value is valid and says where it came from, or one ConfigError that lists every problem with file and
line. Nothing is downloaded or loaded here; `api` hands the result on to the rooms.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from burnish import config_checks, config_layers, config_options, config_problems, config_tasks, run_file
from burnish.config_layers import Key, Merged, Problem, lookup
from burnish.config_options import Registries
from burnish.config_schema import Choice, RunConfig
from burnish.config_values import Resolved, model_reference, named_model, origins_of, single_references, with_value
from burnish.config_written import FREE_ON_RESUME, difference, dump
from burnish.errors import ConfigError, combined

__all__ = [
    "FREE_ON_RESUME",
    "Registries",
    "Resolved",
    "RunConfig",
    "difference",
    "dump",
    "load",
    "model_reference",
    "named_model",
    "schema",
    "single_references",
    "with_value",
]


# ------------------------------------------------------------------------------------------------------------------------- loading


def load(
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    registries: Registries,
    defaults: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Resolved:
    """Return the run of a file with everything above and below it, checked against the schema and the registries.

    Layers, each over the one before: `defaults` (the use case), the file at `path`, `values` (arguments in Python), `overrides`
    (`a.b=value`). Raises one ConfigError with all problems, in the order of the file.
    """
    path = None if path is None else Path(path)
    file = None if path is None else run_file.read(path)
    base = Path.cwd() if path is None else path.resolve().parent
    # Who types a path, or writes it in Python, means it from the current folder.
    here = None if base == Path.cwd() else Path.cwd()
    parsed, problems = _parse(overrides)
    command, clashes = config_layers.command_layer(parsed, folder=here)
    layers = [config_layers.use_case_layer(defaults)] if defaults else []
    layers += [config_layers.file_layer(file)] if file is not None else []
    layers += [config_layers.python_layer(values, folder=here)] if values else []
    named = [config_tasks.by_name(layer) for layer in (*layers, command)]
    merged = config_layers.merge([layer for layer, _ in named])
    merged.problems += [*problems, *clashes, *(problem for _, unnamed in named for problem in unnamed)]
    config_checks.fill(merged, path=path)
    config = _checked(merged, registries, base)
    if config is None or merged.problems:
        ordered = sorted(merged.problems, key=lambda problem: problem.place.order)
        heading = str(path) if path is not None else "the run"
        raise combined(ConfigError, heading, list(dict.fromkeys(str(problem) for problem in ordered)))
    return Resolved(config, origins_of(config, merged), base, path, tuple(merged.notes))


def _parse(overrides: Sequence[str]) -> tuple[list[run_file.Override], list[Problem]]:
    parsed, problems = [], []
    for text in overrides:
        try:
            parsed.append(run_file.parse_override(text))
        except ConfigError as error:
            said = str(error).removeprefix("command line: ")
            problems.append(Problem(config_layers.COMMAND_LINE, (), said))
    return parsed, problems


def _checked(merged: Merged, registries: Registries, base: Path) -> RunConfig | None:
    """Return the valid run, or None after adding what is wrong to the problems."""
    options = _checked_options(merged, registries, base)
    config, found = _validated(merged)
    found += config_checks.of_each_task(merged, lambda view, _: config_checks.names(view, registries, base=base))
    wrong = {problem.key for problem in (*merged.problems, *found)}
    merged.problems += found + config_checks.shares(merged)
    merged.problems += config_checks.of_each_task(
        merged, lambda view, prefix: config_checks.between_fields(view, [config_tasks.inside(prefix, key) for key in wrong])
    )
    if config is None:
        return None
    for key, chosen in options.items():
        config = _with_options(config, key, chosen)
    return config


def _with_options(config: RunConfig, key: Key, options: Mapping[str, Any]) -> RunConfig:
    """Return the run with the options of one function of its own, or of one of its tasks."""
    if key[0] == "task":
        task = config.task[str(key[1])]
        task = task.model_copy(update={"objective": Choice(name=task.objective.name, **options)})
        return config.model_copy(update={"task": {**config.task, str(key[1]): task}})
    return config.model_copy(update={str(key[0]): Choice(name=getattr(config, str(key[0])).name, **options)})


def _validated(merged: Merged) -> tuple[RunConfig | None, list[Problem]]:
    error = None
    for _ in range(2):
        try:
            return RunConfig.model_validate_json(json.dumps(merged.tree)), []
        except ValidationError as raised:
            error = raised
            if not _as_typed(merged, raised):
                break
    assert error is not None
    return None, config_problems.problems(error, merged)


def _as_typed(merged: Merged, error: ValidationError, *, above: Key = ()) -> bool:
    """Put back what was typed where text is expected and an override looked like a number: the shell took the quotes away."""
    changed = False
    for item in error.errors(include_url=False, include_input=False):
        key = (*above, *config_problems.trimmed(item["loc"], lookup(merged.tree, above)))
        if item["type"] == "string_type" and key in merged.raw and not isinstance(lookup(merged.tree, key), list | dict):
            lookup(merged.tree, key[:-1])[key[-1]] = merged.raw.pop(key)
            changed = True
    return changed


def _checked_options(merged: Merged, registries: Registries, base: Path) -> dict[Key, dict[str, Any]]:
    """Return the options of technique and objectives with defaults filled in; what is wrong is added to the problems."""
    tasks: list[Key] = [("task", name, "objective") for name in config_tasks.names(merged)]
    complete: dict[Key, dict[str, Any]] = {}
    for key in [("technique",), *(tasks or [("objective",)])]:
        kind, table = str(key[-1]), lookup(merged.tree, key)
        name = table.get("name") if isinstance(table, dict) else None
        if not isinstance(table, dict) or not isinstance(name, str) or not name:
            continue
        try:
            known = _signature(kind, name, registry=registries[kind], base=base)
        except ConfigError as refused:
            merged.problems.append(Problem(merged.place((*key, "name")), (*key, "name"), str(refused)))
            continue
        values, error = config_options.validate(known, _options(table))
        if error is not None and _as_typed(merged, error, above=key):
            values, error = config_options.validate(known, _options(table))
        if error is not None:
            merged.problems += config_problems.problems(error, merged, above=key, siblings=known.names)
        complete[key] = values
    return complete


def _options(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "name"}


def _signature(kind: str, name: str, *, registry: config_options.Registry, base: Path) -> config_options.Signature:
    wrong = config_options.check_name(kind, name, registry=registry, base=base)
    if wrong:
        raise ConfigError(wrong)
    return config_options.signature(config_options.function_of(name, registry=registry, base=base))


def schema() -> dict[str, Any]:
    """Return the JSON schema of a run file, for editors and forms; options of named functions are not in it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunConfig.model_json_schema(mode="validation")}
