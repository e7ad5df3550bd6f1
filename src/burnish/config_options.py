"""Options of functions that are chosen by name: what a function's signature allows is what a run file may say.

Enters: a registry (name -> function, or an entry with `.function`), a name from the user and the options given. Leaves: the options
with the function's own defaults filled in, or the problems found. `module:function` names code of the user's own.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model

from burnish.errors import ConfigError, suggestion
from burnish.named_code import function_in, imported

Registry = Mapping[str, Any] | Collection[str]
Registries = Mapping[str, Registry]
"""Names that a user may choose from, mapped to functions or to entries that hold one; of a plain list only the names are known."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The keyword parameters of a function as a schema; `names` maps each option to its field, `free` accepts any other."""

    schema: type[BaseModel]
    names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    free: bool = False


def is_private(name: str) -> bool:
    """Tell whether a name is `module:function` rather than one of a registry."""
    return ":" in name


def private_function(name: str, base: Path) -> Any:
    """Return what `module:function` names, its module beside the run file, in the current folder or installed; ConfigError where it is not."""
    return imported(name, folders=(base,))


def check_name(kind: str, name: str, *, registry: Registry, base: Path) -> str:
    """Return what is wrong with a name of a registry, or an empty text."""
    if name in registry:
        return ""
    if is_private(name):
        try:
            private_function(name, base)
        except ConfigError as error:
            return str(error)
        return ""
    return f"no {kind} is called {name!r}.{suggestion(name, registry) or ' There are: ' + ', '.join(sorted(registry)) + '.'}"


def function_of(name: str, *, registry: Registry, base: Path) -> Callable[..., Any]:
    """Return the function behind a name that `check_name` accepts."""
    entry = registry[name] if isinstance(registry, Mapping) and name in registry else private_function(name, base)
    return function_in(entry)


def signature(function: Callable[..., Any]) -> Signature:
    """Return the options of a function: its keyword-only parameters, and positional ones that have a default.

    Raises ConfigError where an annotation is not understood.
    """
    parameters = inspect.signature(function).parameters.values()
    chosen = [
        item
        for item in parameters
        if item.kind is item.KEYWORD_ONLY or (item.kind is item.POSITIONAL_OR_KEYWORD and item.default is not item.empty)
    ]
    free = any(item.kind is item.VAR_KEYWORD for item in parameters)
    types = _annotations(function, chosen)
    fields: dict[str, Any] = {}
    for index, item in enumerate(chosen):
        # The option's name is an alias, so that names such as `copy` or `schema` do not hide methods of the schema.
        fields[f"option_{index}"] = (types[item.name], Field(alias=item.name, **_default(item)))
    config = ConfigDict(extra="allow" if free else "forbid", strict=True, allow_inf_nan=False)
    try:
        schema = create_model("Options", __config__=config, **fields)
    except PydanticUserError as error:
        name = getattr(function, "__name__", repr(function))
        raise ConfigError(f"a parameter of {name} has a type that a run file cannot express: {error.message}") from None
    names = {item.name: f"option_{index}" for index, item in enumerate(chosen)}
    return Signature(schema, names, _defaults(function, chosen), free)


def _default(item: inspect.Parameter) -> dict[str, Any]:
    return {} if item.default is item.empty else {"default": item.default}


def _defaults(function: Callable[..., Any], chosen: list[inspect.Parameter]) -> dict[str, Any]:
    """Return the defaults that a run file can say. None is said by leaving the option out."""
    defaults = {item.name: item.default for item in chosen if item.default not in (item.empty, None)}
    try:
        return json.loads(json.dumps(defaults, allow_nan=False))
    except (TypeError, ValueError) as error:
        name = getattr(function, "__name__", repr(function))
        raise ConfigError(f"a default of {name} cannot be written to a run file: {error}") from None


def _annotations(function: Callable[..., Any], chosen: list[inspect.Parameter]) -> dict[str, Any]:
    """Return the types of the options alone: other parameters may name types that exist only for the type checker."""

    def probe() -> None: ...

    probe.__annotations__ = {item.name: item.annotation for item in chosen if item.annotation is not item.empty}
    inner = inspect.unwrap(function)
    try:
        types = typing.get_type_hints(probe, globalns=getattr(inner, "__globals__", {}), include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        name = getattr(function, "__name__", repr(function))
        raise ConfigError(f"the types of the parameters of {name} cannot be read: {error}") from None
    for item in chosen:
        guessed = Any if item.default in (item.empty, None) else type(item.default)
        types.setdefault(item.name, guessed)
    return types


def validate(known: Signature, options: Mapping[str, Any]) -> tuple[dict[str, Any], ValidationError | None]:
    """Return all options with defaults filled in (None left out, which is how TOML says it), or the schema's complaints."""
    try:
        # Defaults pass through the schema too, so that a value is the same whether it was left out or written down.
        checked = known.schema.model_validate_json(json.dumps({**known.defaults, **options}))
    except ValidationError as error:
        return {}, error
    values = {name: getattr(checked, inner) for name, inner in known.names.items()}
    values.update(checked.model_extra or {})
    return {name: value for name, value in values.items() if value is not None}, None
