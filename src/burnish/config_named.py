"""Scores and formats with options: `{name = "rouge_l", stem = false}` in a run file, `rouge_l(stem=false)` wherever a name stands.

Enters: a name, options. Leaves: the one text for both, which reports show and every place that takes a name accepts; or that text taken
apart again. What is wrong with options is told by `config_problems`. Between the brackets stands what TOML has between the braces of a table.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from burnish.errors import ConfigError
from burnish.run_file_write import key_literal, value_literal

_WITH_OPTIONS = re.compile(r"([^()]+)\((.*)\)", re.DOTALL)


def named(name: str, options: Mapping[str, Any]) -> str:
    """Return a name with its options as one text, the same for the same options; the name alone where there are none."""
    said = ", ".join(f"{key_literal(str(key))}={value_literal(options[key])}" for key in sorted(options))
    return f"{name}({said})" if said else name


def parted(text: str) -> tuple[str, dict[str, Any]]:
    """Return a name and its options; ConfigError where what stands in brackets is no list of options."""
    found = _WITH_OPTIONS.fullmatch(text.strip())
    if found is None:
        return text, {}
    try:
        options = tomllib.loads("options = {" + found[2] + "}")["options"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise ConfigError(f'{text!r}: options are written as in rouge_l(stem=false) or bleu(tokenize="char"): {error}.') from None
    return found[1].strip(), options


def as_named(value: object) -> object:
    """Return the text that a table with a name and options stands for, in its one spelling; anything else unchanged."""
    if isinstance(value, Mapping):
        name = value.get("name")
        options = {str(key): item for key, item in value.items() if key != "name" and item is not None}
    elif isinstance(value, str):
        try:
            name, options = parted(value)
        except ConfigError:
            return value  # told where names are checked, with its place
    else:
        return value
    return named(name, options) if isinstance(name, str) and name else value
