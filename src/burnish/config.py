"""A run as a user describes it: loaded, checked, completed, written down again and compared.

Enters: a run file (TOML), overrides of the command line, values from Python or a use case, and the registries of names. Leaves: a
`Resolved` run in which every value is valid and says where it came from, or one ConfigError that lists every problem with file and
line. Nothing is downloaded or loaded here; `api` hands the result on to the rooms.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from burnish import config_checks, config_layers, config_options, config_problems, config_tasks, run_file
from burnish.config_layers import CHOICES, EXCLUSIVE, Key, Merged, Problem, lookup
from burnish.config_options import Registries
from burnish.config_schema import Choice, ModelConfig, RunConfig, descriptions
from burnish.errors import ConfigError, combined
from burnish.run_file_write import comment, dotted, value_literal

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

FREE_ON_RESUME: Mapping[str, str | None] = {
    "output": None,
    "save.*": None,
    "log.*": None,
    "task.*.single": None,
    "decide.*": None,
    "train.steps": "constant",
}
"""What may change between a run and its resumption, and the schedule under which alone it may."""


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
    return Resolved(config, _origins(config, merged), base, path, tuple(merged.notes))


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


# ------------------------------------------------------------------------------------------------------- values by their dotted name


def _leaves(config: RunConfig) -> Iterator[tuple[Key, Any]]:
    """Yield every value of a run; a source and a list are one value, column names are one each.

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


def _origins(config: RunConfig, merged: Merged) -> dict[str, str]:
    origins = {} if config.data.columns else {"data.columns": "default"}
    for key, _ in _leaves(config):
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


# --------------------------------------------------------------------------------------------------------- writing and comparing


def dump(resolved: Resolved, *, folder: Path | None = None) -> str:
    """Return the run as TOML with a comment on where each value comes from; loading it gives the same run.

    With `folder`, where the text will lie, paths relative to the run file are rewritten so that they still lead to the same files.
    """
    config = resolved.config
    if folder is not None:
        config = _with_paths(resolved, lambda text: os.path.relpath(resolved.base / text, folder.resolve()))
    lines = ["# Every value of this run, with where it comes from. Tuning this file again repeats the run."]
    table: Key = ()
    for key, value in _leaves(config):
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
    first, second = ({dotted(key): item for key, item in _leaves(_with_paths(run, _absolute(run.base)))} for run in (before, after))
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


def schema() -> dict[str, Any]:
    """Return the JSON schema of a run file, for editors and forms; options of named functions are not in it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunConfig.model_json_schema(mode="validation")}
