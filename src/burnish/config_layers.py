"""Who said what: the layers of a run (use case, run file, Python, command line) laid over each other.

Enters: trees of plain values, each with a way to name the place of a value. Leaves: one tree, the place of every value in it, and
notes on values that a higher layer made meaningless. Nothing is checked against the schema here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish import config_schema, run_file
from burnish.config_rollout import as_rewards
from burnish.run_file_write import dotted, value_literal

Tree = dict[str, Any]
Key = tuple[str | int, ...]

EXCLUSIVE = (
    ("train.steps", "train.epochs"),
    ("data.dev", "data.dev_share"),
    ("data.test", "data.test_share"),
    ("model.name", "model.init"),
    ("model.vocabulary", "model.tokenizer"),
)
"""Pairs that say the same thing in two ways: a higher layer that sets one replaces the other of a lower layer."""

CHOICES = ("objective", "technique")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value comes from: `origin` for the resolved run, `where` for an error message, `order` for sorting these."""

    origin: str
    where: str
    order: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to repair: the place, the dotted name and what is wrong."""

    place: Place
    key: Key
    text: str

    def __str__(self) -> str:
        name = f"{dotted(self.key)}: " if self.key else ""
        return f"{self.place.where}: {name}{self.text}"


@dataclass(frozen=True, slots=True)
class Layer:
    """Values from one place.

    `raw` holds what was typed for values of the command line. `folder` is what relative paths in this layer are meant from, None
    for the folder of the run file.
    """

    tree: Tree
    place: Callable[[Key], Place]
    raw: Mapping[Key, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(slots=True)
class Merged:
    """All layers as one tree; `places` has every key, table and list element in it."""

    tree: Tree = field(default_factory=dict)
    places: dict[Key, Place] = field(default_factory=dict)
    raw: dict[Key, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def place(self, key: Key) -> Place:
        """Return the place of a key, or of the nearest table around it."""
        for depth in range(len(key), 0, -1):
            if key[:depth] in self.places:
                return self.places[key[:depth]]
        return Place("default", "the run")


def use_case_layer(tree: Mapping[str, Any]) -> Layer:
    """Return the layer of what a use case or caller proposes."""
    return Layer(dict(tree), lambda key: Place("the use case", "the use case"))


def file_layer(file: run_file.RunFile) -> Layer:
    """Return the layer of a run file."""

    def place(key: Key) -> Place:
        line = file.line(key)
        suffix = "" if line is None else f":{line}"
        return Place(f"you ({file.path.name}{suffix})", f"{file.path}{suffix}", (1, line or 0))

    return Layer(file.tree, place)


def python_layer(tree: Mapping[str, Any], *, folder: Path | None) -> Layer:
    """Return the layer of arguments given in Python."""
    return Layer(dict(tree), lambda key: Place("you (Python)", "Python", (2, 0)), folder=folder)


COMMAND_LINE = Place("you (command line)", "command line", (3, 0))


def command_layer(overrides: Sequence[run_file.Override], *, folder: Path | None) -> tuple[Layer, list[Problem]]:
    """Return the layer of the command line, where a later override of the same key wins, and what cannot be put into one tree."""
    tree: Tree = {}
    raw: dict[Key, str] = {}
    problems = []
    for given in overrides:
        item = _long_form(given)
        node = tree
        for part in item.path[:-1]:
            deeper = node.setdefault(part, {})
            if not isinstance(deeper, dict):
                problems.append(Problem(COMMAND_LINE, item.path, f"another override makes {part!r} a value, not a table"))
                break
            node = deeper
        else:
            if isinstance(node.get(item.path[-1]), dict) and not isinstance(item.value, dict):
                problems.append(Problem(COMMAND_LINE, item.path, "another override sets a key inside it; give one of the two"))
                continue
            node[item.path[-1]] = item.value
            raw[item.path] = item.raw
    return Layer(tree, lambda key: COMMAND_LINE, raw, folder), problems


def _long_form(item: run_file.Override) -> run_file.Override:
    """Return `data=rows.jsonl` as `data.source=rows.jsonl`, so that it stands beside `data.limit=100`; others unchanged."""
    short = {"data": "source", **dict.fromkeys(("model", *CHOICES), "name")}
    inner = item.path[2:] if item.path[0] == "task" else item.path
    if len(inner) != 1 or inner[0] not in short or isinstance(item.value, dict):
        return item
    return replace(item, path=(*item.path, short[inner[0]]))


# ------------------------------------------------------------------------------------------------------------ plain and canonical


def plain(layer: Layer) -> tuple[Layer, list[Problem]]:
    """Return the layer with JSON values only, and a problem for each value that is none. None means: not given."""
    problems: list[Problem] = []

    def walk(value: Any, key: Key) -> Any:
        if isinstance(value, Mapping):
            return {str(name): walk(item, (*key, str(name))) for name, item in value.items() if item is not None}
        if isinstance(value, list | tuple):
            return [walk(item, (*key, index)) for index, item in enumerate(value)]
        if isinstance(value, Path):
            return str(value)
        wrong = _not_plain(value)
        if wrong:
            problems.append(Problem(layer.place(key), key, wrong))
            return None
        return value

    # A refused value leaves its key out, so that the schema does not report it a second time.
    return replace(layer, tree=_without_none(walk(layer.tree, ()))), problems


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value if item is not None] if isinstance(value, list) else value


def _not_plain(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"a finite number is expected, got {value}"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{value!r} holds bytes that are not valid UTF-8"
        return ""
    if value is None or isinstance(value, bool | int | float):
        return ""
    if hasattr(value, "isoformat"):
        return f"dates and times have no place in a run; quote it if it is text: {str(value)!r}"
    return f"a {type(value).__name__} cannot be written to a run file; give text, a number, true or false, a list or a table"


def canonical(layer: Layer) -> Layer:
    """Return the layer with every short form written out and its paths settled, so that layers can be merged key by key."""
    tree = _long_forms(layer.tree)
    if isinstance(tree.get("task"), dict):
        tree["task"] = {name: _long_forms(task) if isinstance(task, dict) else task for name, task in tree["task"].items()}
    folder = layer.folder
    return replace(layer, tree=tree if folder is None else map_paths(tree, lambda text: str(folder / text)))


def _long_forms(given: Tree) -> Tree:
    """Return a run, or a task of it, with every short form written out."""
    tree = dict(given)
    if "model" in tree:
        tree["model"] = config_schema.as_model(tree["model"])
    if "data" in tree:
        tree["data"] = config_schema.as_data(tree["data"])
        if isinstance(tree["data"], dict) and "source" in tree["data"]:
            tree["data"] = {**tree["data"], "source": config_schema.as_sources(tree["data"]["source"])}
    for name in CHOICES:
        if name in tree:
            tree[name] = config_schema.as_choice(tree[name])
    if isinstance(tree.get("rollout"), dict) and "reward" in tree["rollout"]:
        rewards = as_rewards(tree["rollout"]["reward"])
        tree["rollout"] = {**tree["rollout"], "reward": list(rewards) if isinstance(rewards, tuple) else rewards}
    if "score" in tree:
        tree["score"] = config_schema.as_names(tree["score"])
    return tree


def map_paths(tree: Tree, change: Callable[[str], str]) -> Tree:
    """Return a canonical tree with each path that is relative to the run file changed.

    These are the sources and own parts of the data, and a model, tokenizer, teacher, reward model or single run given as a run file or with a
    leading `./` or `../`; a model like `runs/base` is an earlier output and, as every output, relative to the current folder.
    """
    tree = _copy(tree)
    tasks = tree.get("task")
    holders: list[tuple[Any, str]] = []
    for part in (tree, *(tasks.values() if isinstance(tasks, dict) else ())):
        data = part.get("data") if isinstance(part, dict) else None
        if not isinstance(data, dict):
            continue
        sources = data.get("source")
        holders += [(data, "dev"), (data, "test"), (part.get("decide"), "documents")]
        holders += [(item, "source") for item in (sources if isinstance(sources, list) else [])]
    for holder, name in holders:
        if isinstance(holder, dict) and isinstance(holder.get(name), str) and _is_relative(holder[name]):
            holder[name] = change(holder[name])
    for holder, name in _models_in(tree):
        given = holder.get(name) if isinstance(holder, dict) else None
        if isinstance(given, str) and is_model_file(given) and _is_relative(given):
            changed = change(given)
            # Without its leading point the changed path could read as the name of a model on the hub.
            holder[name] = changed if is_model_file(changed) or Path(changed).is_absolute() else f"./{changed}"
    return tree


def _models_in(tree: Tree) -> list[tuple[Any, str]]:
    """Return where a run names models: the table and the key of each."""
    rollout = tree.get("rollout")
    rewards = rollout.get("reward") if isinstance(rollout, dict) else None
    judges = [(reward, "model") for reward in (rewards if isinstance(rewards, list) else [])]
    return [(tree.get("model"), "name"), (tree.get("model"), "tokenizer"), (tree, "teacher"), *judges]


def is_model_file(model: str) -> bool:
    """Tell whether a model is named by a path that belongs to the run file rather than by an id or an earlier output."""
    return model.endswith(".toml") or model in (".", "..") or model.startswith(("./", "../", ".\\", "..\\"))


def _is_relative(text: str) -> bool:
    named = re.match(config_schema.NAME_WITH_SCHEME, text) is not None
    return bool(text) and not named and not text.startswith("~") and not Path(text).is_absolute()


# ------------------------------------------------------------------------------------------------------------------------ merging


def holds(tree: Any, part: str | int) -> bool:
    """Tell whether a table has this key, or a list this index."""
    return part in tree if isinstance(tree, dict) else isinstance(tree, list) and isinstance(part, int) and part < len(tree)


def lookup(tree: Any, key: Key) -> Any:
    """Return the value of a key, or None where there is none."""
    for part in key:
        if not holds(tree, part):
            return None
        tree = tree[part]
    return tree


def remove(merged: Merged, key: Key) -> None:
    """Remove a key and everything under it."""
    above = lookup(merged.tree, key[:-1])
    if isinstance(above, dict):
        above.pop(key[-1], None)
    for known in [known for known in merged.places if known[: len(key)] == key]:
        del merged.places[known]


def merge(layers: Sequence[Layer]) -> Merged:
    """Return the layers as one, a later layer over an earlier one: tables key by key, anything else as a whole."""
    merged = Merged()
    for given in layers:
        layer, problems = plain(given)
        layer = canonical(layer)
        merged.problems += problems
        _drop_replaced(merged, layer)
        _overlay(merged, merged.tree, layer.tree, (), layer)
        merged.raw.update(layer.raw)
    return merged


def _overlay(merged: Merged, tree: Tree, new: Tree, above: Key, layer: Layer) -> None:
    for name, value in new.items():
        key = (*above, name)
        if isinstance(value, dict) and isinstance(tree.get(name), dict):
            _overlay(merged, tree[name], value, key, layer)
            continue
        for known in [known for known in merged.places if known[: len(key)] == key]:
            del merged.places[known]
        merged.raw.pop(key, None)
        tree[name] = _copy(value)
        merged.places[key] = layer.place(key)
        merged.places.update({inner: layer.place(inner) for inner in _inner_keys(value, key)})


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _inner_keys(value: Any, above: Key) -> Iterator[Key]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, item in pairs:
        yield (*above, part)
        yield from _inner_keys(item, (*above, part))


def _drop_replaced(merged: Merged, layer: Layer) -> None:
    """Remove what the next layer makes meaningless.

    That is a fresh model where one is named, the other of an exclusive pair, and options of a function that is no longer chosen.
    """
    named, init = lookup(layer.tree, ("model", "name")), ("model", "init")
    if named is not None and lookup(merged.tree, init) is not None:
        merged.notes.append(
            f"the fresh model of {merged.place(init).origin} is left out: the run begins with {value_literal(named)}"
        )
        remove(merged, ("model",))
    tasks: list[Key] = [("task", name) for name in layer.tree.get("task", {})] if isinstance(layer.tree.get("task"), dict) else []
    for prefix in [(), *tasks]:
        for pair in EXCLUSIVE:
            for here, other in (pair, pair[::-1]):
                key, other_key = (*prefix, *here.split(".")), (*prefix, *other.split("."))
                # A share of 0 says only that nothing is taken from the rows; it does not speak against rows of their own.
                if lookup(layer.tree, key) not in (None, 0) and lookup(layer.tree, other_key) is None:
                    remove(merged, other_key)
        for kind in CHOICES:
            _drop_options(merged, layer, (*prefix, kind))


def _drop_options(merged: Merged, layer: Layer, key: Key) -> None:
    """Remove the options of a function that the next layer replaces by another one, with a note on each."""
    kind = str(key[-1])
    before, now = lookup(merged.tree, (*key, "name")), lookup(layer.tree, (*key, "name"))
    table = lookup(merged.tree, key)
    default = config_schema.RunConfig.model_fields[kind].default.name
    if now is None or now == (default if before is None else before) or not isinstance(table, dict):
        return
    for option in [name for name in table if name != "name"]:
        said = f"{dotted((*key, option))} = {value_literal(table[option])} ({merged.place((*key, option)).origin})"
        merged.notes.append(f"{said} is left out: it belongs to another {kind} than {now!r}")
        remove(merged, (*key, option))
