"""From what a schema complains about to sentences a user can act on.

Enters: a pydantic ValidationError and the layers the values came from. Leaves: problems, one per place, that say what was given,
what is allowed and, for unknown keys, which one is probably meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from burnish.config_layers import COMMAND_LINE, Key, Merged, Problem, holds, lookup
from burnish.config_options import signature, validate
from burnish.config_schema import RunConfig, SourceConfig, descriptions
from burnish.errors import suggestion

ELSEWHERE = {
    "lr": "train.learning_rate",
    "batch_size": "train.batch",
    "micro_batch_size": "train.tokens",
    "per_device_train_batch_size": "train.batch",
    "gradient_accumulation_steps": "train.batch",
    "accumulate": "train.batch",
    "num_train_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "max_steps": "train.steps",
    "output_dir": "output",
    "max_seq_length": "data.max_length",
    "max_seq_len": "data.max_length",
    "sequence_len": "data.max_length",
    "cutoff_len": "data.max_length",
    "sample_packing": "train.packing",
    "lr_scheduler_type": "train.schedule",
    "warmup_ratio": "train.warmup",
    "warmup_steps": "train.warmup",
    "max_grad_norm": "train.clip",
    "save_steps": "save.every",
    "save_total_limit": "save.keep",
    "eval_steps": "evaluate.every",
    "early_stopping_patience": "evaluate.patience",
    "max_new_tokens": "evaluate.max_tokens",
    "logging_steps": "log.every",
    "torch_dtype": "dtype",
    "base_model": "model.name",
    "model_name_or_path": "model.name",
    "hidden_size": "model.hidden",
    "n_embd": "model.hidden",
    "num_hidden_layers": "model.layers",
    "n_layer": "model.layers",
    "num_attention_heads": "model.heads",
    "num_key_value_heads": "model.key_heads",
    "intermediate_size": "model.feed_forward",
    "max_position_embeddings": "model.context",
    "block_size": "model.context",
    "rope_theta": "model.rope_base",
    "vocab_size": "model.vocabulary",
    "dataset": "data.source",
    "val_set_size": "data.dev_share",
    "loss": "objective.name",
    "metrics": "score",
}
"""What other tools of the field call our fields, for users who come from there."""

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "dict": "a table",
    "list": "a list",
    "tuple": "a list",
    "finite_number": "a finite number",
}

_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("of at most", "le"),
}


def shown(value: object) -> str:
    """Return a value as a user would write it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def trimmed(location: Iterable[int | str], tree: Any) -> Key:
    """Return the part of a pydantic location that is a path in the tree, without its names of union members."""
    key: Key = ()
    parts = list(location)
    for place, part in enumerate(parts):
        if holds(tree, part):
            tree = tree[part]
        elif isinstance(tree, dict) and place == len(parts) - 1 and isinstance(part, str):
            return (*key, part)
        else:
            continue
        key = (*key, part)
    return key


def problems(error: ValidationError, merged: Merged, *, above: Key = (), siblings: Iterable[str] | None = None) -> list[Problem]:
    """Return one problem per place that the schema complains about.

    `above` is the path of the table that was validated; `siblings` its keys where they do not come from the schema of a run.
    """
    tree = merged.tree if not above else lookup(merged.tree, above)
    wanted: dict[Key, list[str]] = {}
    unknown: dict[Key, None] = {}
    for item in error.errors(include_url=False, include_context=True):
        key = (*above, *trimmed(item["loc"], tree))
        if item["type"] == "extra_forbidden":
            unknown[key] = None
        else:
            wanted.setdefault(key, []).append(_expected(item))
    found = [Problem(merged.place(key), key, _unknown(key, merged, siblings)) for key in unknown]
    return found + [_mismatch(key, kinds, merged) for key, kinds in wanted.items() if key not in unknown]


def _expected(item: Mapping[str, Any]) -> str:
    """Return what one complaint of the schema expects, as a noun phrase."""
    kind, context = item["type"], item.get("ctx", {})
    if kind == "missing":
        return ""
    if kind == "literal_error":
        return "one of " + str(context["expected"]).replace("'", '"').replace(" or ", ", ")
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"a number {words} {context[bound]:g}"
    if kind == "string_too_short":
        return "text that is not empty"
    if kind in ("model_type", "model_attributes_type", "dataclass_type"):
        return "a table"
    if kind == "int_from_float":
        return _KINDS["int"]
    base = kind.removesuffix("_type").removesuffix("_parsing")
    return _KINDS.get(base, str(item["msg"]).removeprefix("Input should be ").removeprefix("Value error, "))


def _mismatch(key: Key, wanted: list[str], merged: Merged) -> Problem:
    place = merged.place(key)
    if "" in wanted:
        return Problem(place, key, "is missing and has no default")
    given = lookup(merged.tree, key)
    expected = " or ".join(dict.fromkeys(wanted))
    text = f"{expected} expected, got {shown(given)}{_hint(given, expected)}"
    why = descriptions().get(".".join(str(part) for part in key), "")
    return Problem(place, key, f"{text} ({why})" if why else text)


def _hint(given: object, expected: str) -> str:
    """Return a short hint for the common slips of type, with its leading punctuation."""
    if "one of" in expected and isinstance(given, str):
        near = suggestion(given, [word.strip('" ') for word in expected.removeprefix("one of ").split(",")])
        return f".{near}" if near else ""
    if isinstance(given, str) and "number" in expected:
        try:
            float(given)
        except ValueError:
            return ""
        return f"; write {given} without quotes"
    if isinstance(given, float) and given.is_integer() and "whole" in expected:
        return f"; write {int(given)}"
    if isinstance(given, str) and given.lower() in ("true", "false") and "true" in expected:
        return f"; write {given.lower()} without quotes"
    if isinstance(given, int | float | bool) and expected == "text":
        return f'; write "{shown(given)}" in quotes'
    return ""


def _unknown(key: Key, merged: Merged, siblings: Iterable[str] | None) -> str:
    table = f"{key[0]}." if len(key) == 2 and merged.place(key) == COMMAND_LINE else ""
    return unknown_key(key, siblings=siblings, table=table)


def unknown_key(key: Key, *, siblings: Iterable[str] | None = None, table: str = "") -> str:
    """Return what to say of an unknown key: the same name in another table, the nearest of its own, or all that are allowed.

    `table` is put before names of the same table, for the command line, where they are written in full.
    """
    name, full = str(key[-1]), ".".join(str(part) for part in key)
    known = sorted(_siblings(key) if siblings is None else siblings)
    names = descriptions()
    elsewhere = [other for other in (*names, *RunConfig.model_fields) if other.split(".")[-1] == name and other != full]
    if elsewhere:
        return "unknown key. Did you mean " + " or ".join(repr(other) for other in dict.fromkeys(elsewhere)) + "?"
    near = suggestion(name, known).replace(" Did you mean '", f" Did you mean '{table}")
    if not near and name in ELSEWHERE:
        other = ELSEWHERE[name]
        return f"unknown key. Did you mean {other!r}? ({names[other]})"
    if not near:
        # The right name in the wrong table, with a slip in it: compared without the tables, named with them.
        leaves = {other.split(".")[-1]: other for other in names}
        leaf = suggestion(name, leaves).removeprefix(" Did you mean '").removesuffix("'?")
        near = f" Did you mean {leaves[leaf]!r}?" if leaf else ""
    return f"unknown key.{near}" if near else "unknown key." + _allowed(known)


def _allowed(known: list[str]) -> str:
    return f" Allowed here: {', '.join(known)}." if known else " No other keys are allowed here."


def _siblings(key: Key) -> list[str]:
    """Return the keys of the table that a key stands in."""
    if len(key) < 2:
        return list(RunConfig.model_fields)
    if key[:2] == ("data", "source") and len(key) > 2:
        return list(SourceConfig.model_fields)
    table = f"{key[0]}."
    return [full.removeprefix(table) for full in descriptions() if full.startswith(table)]


def wrong_options(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the options of a function, by its keyword parameters; ConfigError for a function that cannot say."""
    if not options:
        return []
    known = signature(function)
    _, error = validate(known, options)
    problems = []
    for item in error.errors(include_url=False, include_context=True) if error is not None else ():
        option = str(item["loc"][0])
        if item["type"] == "extra_forbidden":
            has = suggestion(option, known.names) or f" It has {', '.join(known.names) or 'none'}."
            problems.append(f"{name!r} has no option {option!r}.{has}")
        elif item["type"] == "missing":
            problems.append(f"{name!r} lacks its option {option!r}, which has no default.")
        else:
            problems.append(f"option {option!r} of {name!r}: {_expected(item)} expected, got {shown(options.get(option))}.")
    return list(dict.fromkeys(problems))
