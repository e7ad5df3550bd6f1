"""What several fields of a run mean together, and values that follow from others.

Enters: the merged tree of a run and the keys that are wrong by themselves already. Leaves: problems between fields that are right by
themselves, and a tree in which every value that follows from others is filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from burnish import config_tasks
from burnish.config_layers import EXCLUSIVE, Key, Merged, Place, Problem, lookup
from burnish.config_named import parted
from burnish.config_options import Registries, Registry, check_name, function_of
from burnish.config_problems import shown, wrong_options
from burnish.config_schema import DEFAULT_EPOCHS, DEFAULT_MODEL, DEFAULT_VOCABULARY, ModelConfig, RunConfig
from burnish.errors import ConfigError

_SIZES = tuple(name for name in ModelConfig.model_fields if name not in ("name", "init", "add_terms"))
_NEEDS_DEV = ("evaluate.every", "evaluate.limit", "evaluate.patience", "evaluate.best")

Values = Mapping[str, Any]
"""Values by dotted name, with defaults filled in."""


def key_of(name: str) -> Key:
    """Return the key of a field's dotted name."""
    return tuple(name.split("."))


def default_of(name: str) -> Any:
    """Return the default of a field by its dotted name."""
    value: Any = RunConfig()
    for part in name.split("."):
        value = getattr(value, part)
    return value


def fill(merged: Merged, *, path: Path | None) -> None:
    """Fill in values that follow from others, in place: output folder, names of functions, 3 epochs, no share or best without rows.

    A part with rows of its own takes no share of the others; without dev rows there is no best checkpoint to choose. All of a fresh
    model is to be learned, and a classical baseline says nothing of it.
    """

    if config_tasks.names(merged):
        # What concerns all tasks first, then each of them as if it were the run.
        config_tasks.distribute(merged)
        dev = any(_has_dev(_values(view)) for _, view in config_tasks.views(merged))
        _put_free(merged, [*_of_run(merged, path), ("technique.name", default_of("technique.name"), "default")])
        config_tasks.each(merged, lambda view: _put_free(view, _of_task(view)))
    else:
        dev = _has_dev(_values(merged))
        _put_free(merged, [*_of_run(merged, path), *_of_task(merged)])
        _put_free(merged, [("technique.name", default_of("technique.name"), "default")])
    if not dev:
        _put_free(merged, [("evaluate.best", False, "the data")])


def _put_free(merged: Merged, values: Iterable[tuple[str, Any, str]]) -> None:
    """Put values by dotted name, with where they come from, wherever nobody has set one."""
    for name, value, origin in values:
        key = key_of(name)
        above = lookup(merged.tree, key[:-1])
        if lookup(merged.tree, key) is not None or not (above is None or isinstance(above, dict)):
            continue
        table: Any = merged.tree
        for part in key[:-1]:
            table = table.setdefault(part, {})
        table[key[-1]] = value
        merged.places[key] = Place(origin, origin)


def _of_run(merged: Merged, path: Path | None) -> list[tuple[str, Any, str]]:
    """Return what follows for the whole run: names, values and where they come from."""
    found = [("output", default_output(path), "default"), *_of_model(merged.tree)]
    if lookup(merged.tree, ("train", "epochs")) is None and lookup(merged.tree, ("train", "steps")) is None:
        found.append(("train.epochs", DEFAULT_EPOCHS, "default"))
    return found


def _of_task(merged: Merged) -> list[tuple[str, Any, str]]:
    """Return what follows for a task: options may be given without the name of the function that is the default."""
    found: list[tuple[str, Any, str]] = [("objective.name", default_of("objective.name"), "default")]
    for part in ("dev", "test"):
        if lookup(merged.tree, ("data", part)) is not None:
            found.append((f"data.{part}_share", 0.0, f"data.{part}"))
    return found


def _of_model(tree: Any) -> list[tuple[str, Any, str]]:
    """Return what follows from the model being fresh, or from there being none: names, values and where they come from."""
    if lookup(tree, ("model", "init")) is None:
        return [("model.name", DEFAULT_MODEL, "default")]
    if lookup(tree, ("model", "init")) == "vit":
        return [("technique.name", "full", "model.init")]
    found: list[tuple[str, Any, str]] = [("technique.name", "full", "model.init"), ("evaluate.baseline", False, "model.init")]
    learned = lookup(tree, ("model", "tokenizer")) is None
    return [*found, ("model.vocabulary", DEFAULT_VOCABULARY, "default")] if learned else found


def default_output(path: Path | None) -> str:
    """Return where a run writes if nobody says: runs/ and the file's name, or its folder's where the file is called run.toml."""
    if path is None:
        return "runs/run"
    full = path.resolve()
    name = full.parent.name if full.stem == "run" and full.parent.name else full.stem
    return f"runs/{name}"


def _has_dev(values: Values) -> bool:
    return values["data.dev"] is not None or values["data.dev_share"] != 0


def _values(merged: Merged) -> dict[str, Any]:
    sizes = (f"model.{name}" for name in _SIZES)
    names = (*(name for pair in EXCLUSIVE for name in pair), *sizes, "model.add_terms", *_NEEDS_DEV, "data.source", "score")
    found = {}
    for name in names:
        given = lookup(merged.tree, key_of(name))
        # A model's name is filled in where it has one; a fresh model has none.
        found[name] = default_of(name) if given is None and name != "model.name" else given
    return found


def between_fields(merged: Merged, wrong: Collection[Key]) -> list[Problem]:
    """Return the problems between fields, leaving out those in which one field is wrong by itself."""
    values = _values(merged)
    wrong = [key for key in wrong if key]
    checks: tuple[tuple[tuple[str, ...], Callable[[Values], tuple[str, str] | None]], ...] = (
        (("data.source",), _no_data),
        *((pair, _both(pair)) for pair in EXCLUSIVE),
        (("data.dev_share", "data.test_share"), _shares),
        *(((f"model.{name}", "model.name"), _needs_init(merged, f"model.{name}")) for name in _SIZES),
        (("model.add_terms", "model.name"), _terms_of_fresh),
        (("model.hidden", "model.heads"), _head_size),
        (("model.heads", "model.key_heads"), _shared_keys),
        (("model.feed_forward",), _feed_forward),
        (("model.image", "model.patch"), _whole_patches),
        *(((name, "data.dev", "data.dev_share"), _needs_dev(name)) for name in _NEEDS_DEV),
        (("score",), _twice),
    )
    found = []
    for names, check in checks:
        if any(
            known[: len(key)] == key or key[: len(known)] == known for name in names for key in [key_of(name)] for known in wrong
        ):
            continue
        said = check(values)
        if said is not None:
            key = key_of(said[0])
            found.append(Problem(merged.place(key), key, said[1]))
    return found


def of_each_task(merged: Merged, check: Callable[[Merged, Key], list[Problem]]) -> list[Problem]:
    """Return what a check of one task finds in each, told under the task's own name."""
    return [
        Problem(one.place, config_tasks.prefixed(prefix, one.key), one.text)
        for prefix, view in config_tasks.views(merged)
        for one in check(view, prefix)
    ]


def shares(merged: Merged) -> list[Problem]:
    """Return the problem of tasks of which some name a share and others do not."""
    tasks = config_tasks.names(merged)
    given = [name for name in tasks if lookup(merged.tree, ("task", name, "share")) is not None]
    if not given or len(given) == len(tasks):
        return []
    without = ", ".join(name for name in tasks if name not in given)
    key: Key = ("task", given[0], "share")
    return [Problem(merged.place(key), key, f"is set here and not for {without}; set it for every task, or for none")]


def _no_data(values: Values) -> tuple[str, str] | None:
    if values["data.source"]:
        return None
    return "data.source", 'nothing to learn from. Name a file, a folder or a public set: data = "rows.jsonl"'


def _both(pair: tuple[str, str]) -> Callable[[Values], tuple[str, str] | None]:
    first, second = pair

    def check(values: Values) -> tuple[str, str] | None:
        given = values[first], values[second]
        if second.endswith("_share"):
            # A share that nobody set was put to zero by `fill`.
            both = given[0] is not None and given[1] != 0
        else:
            both = None not in given
        if not both:
            return None
        return second, f"{first} = {shown(given[0])} and {second} = {shown(given[1])} exclude each other; keep one of the two"

    return check


def _shares(values: Values) -> tuple[str, str] | None:
    dev, test = values["data.dev_share"], values["data.test_share"]
    if dev + test < 1:
        return None
    return (
        "data.test_share",
        f"data.dev_share {dev:g} and data.test_share {test:g} leave no rows to train on; their sum must be below 1",
    )


def _needs_init(merged: Merged, name: str) -> Callable[[Values], tuple[str, str] | None]:
    def check(values: Values) -> tuple[str, str] | None:
        init = values["model.init"]
        if not isinstance(init, str | None):
            return None  # said by the schema
        other = {"vit": _OF_TEXTS, "llama": _OF_PICTURES}.get(init or "", ())
        if (init is not None and name not in other) or lookup(merged.tree, key_of(name)) is None:
            return None
        if init is not None:
            # A run that was written down names every size; only what differs from the default was meant.
            if lookup(merged.tree, key_of(name)) == default_of(name):
                return None
            return name, f"a fresh {init} network has no such size: leave it out"
        fitting = "vit" if name in _OF_PICTURES else "llama"
        return name, f'belongs to a fresh model. Set model.init = "{fitting}" to begin with random weights, or leave this out'

    return check


def _terms_of_fresh(values: Values) -> tuple[str, str] | None:
    if values["model.init"] is None or not values["model.add_terms"]:
        return None
    return "model.add_terms", "a fresh model learns its tokenizer from your texts, their terms included; leave this out"


_OF_TEXTS = ("model.key_heads", "model.context", "model.rope_base", "model.vocabulary", "model.tokenizer")
_OF_PICTURES = ("model.image", "model.patch")
"""Sizes that only one kind of fresh network has."""


def _whole_patches(values: Values) -> tuple[str, str] | None:
    image, patch = values["model.image"], values["model.patch"]
    if values["model.init"] != "vit" or image % patch == 0:
        return None
    return (
        "model.patch",
        f"{image} pixels (model.image) are no multiple of {patch}; write {max(d for d in range(1, patch + 1) if image % d == 0)}",
    )


BLOCK = 32
"""Widths are multiples of it: what processors and quantised formats divide rows into."""


def _head_size(values: Values) -> tuple[str, str] | None:
    hidden, heads = values["model.hidden"], values["model.heads"]
    if values["model.init"] is None or (hidden % heads == 0 and (hidden // heads) % BLOCK == 0):
        return None
    near = max(BLOCK, round(hidden / heads / BLOCK) * BLOCK) * heads
    return (
        "model.hidden",
        f"{hidden} features divided by {heads} heads (model.heads) must be a multiple of {BLOCK}; write {near}, or change the heads",
    )


def _shared_keys(values: Values) -> tuple[str, str] | None:
    heads, key_heads = values["model.heads"], values["model.key_heads"]
    if values["model.init"] in (None, "vit") or heads % key_heads == 0:
        return None
    fitting = ", ".join(str(number) for number in range(1, heads + 1) if heads % number == 0)
    return "model.key_heads", f"{heads} heads (model.heads) cannot share {key_heads} evenly; write one of {fitting}"


def _feed_forward(values: Values) -> tuple[str, str] | None:
    width = values["model.feed_forward"]
    if values["model.init"] is None or width % BLOCK == 0:
        return None
    return "model.feed_forward", f"{width} is no multiple of {BLOCK}; write {max(BLOCK, round(width / BLOCK) * BLOCK)}"


def _needs_dev(name: str) -> Callable[[Values], tuple[str, str] | None]:
    def check(values: Values) -> tuple[str, str] | None:
        if not values[name] or _has_dev(values):
            return None
        return (
            name,
            f"{shown(values[name])} needs dev rows: set data.dev_share above 0 or name a file in data.dev, or leave this out",
        )

    return check


def _twice(values: Values) -> tuple[str, str] | None:
    names = list(values["score"])
    again = sorted({name for name in names if names.count(name) > 1})
    return ("score", f"{', '.join(again)} is named more than once") if again else None


def names(merged: Merged, registries: Registries, *, base: Path) -> list[Problem]:
    """Return the problems with formats and scores and their options; objectives and techniques are checked elsewhere."""
    found = []
    candidates: list[tuple[str, Key]] = [("format", ("data", "format"))]
    sources = lookup(merged.tree, ("data", "source"))
    candidates += [
        ("format", ("data", "source", index, "format")) for index in range(len(sources) if isinstance(sources, list) else 0)
    ]
    scores = lookup(merged.tree, ("score",))
    candidates += [("score", ("score", index)) for index in range(len(scores) if isinstance(scores, list) else 0)]
    rewards = lookup(merged.tree, ("rollout", "reward"))
    candidates += [
        ("score", ("rollout", "reward", index, "score")) for index in range(len(rewards) if isinstance(rewards, list) else 0)
    ]
    for kind, key in candidates:
        name = lookup(merged.tree, key)
        if not isinstance(name, str) or not name or (kind == "format" and name == "auto"):
            continue
        found += [Problem(merged.place(key), key, wrong) for wrong in _wrong_choice(kind, name, registries[kind], base)]
    return found


def _wrong_choice(kind: str, text: str, registry: Registry, base: Path) -> list[str]:
    """Return what is wrong with a score or format as it is named, perhaps with options."""
    try:
        name, options = parted(text)
        if kind == "format" and name == "auto":
            return ["auto takes no options: name the format that they belong to"]
        wrong = check_name(kind, name, registry=registry, base=base)
        if wrong or not options or not isinstance(registry, Mapping):
            return [wrong] if wrong else []
        return wrong_options(name, function_of(name, registry=registry, base=base), options)
    except ConfigError as refused:
        return [str(refused)]
