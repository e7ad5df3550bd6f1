"""Formats that are not in the registry: a user's own function, named `module:function` in a run file.

In: the name. Out: a function (values, origin, **options) -> example like any other, whose failures name the row and not our code.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from burnish.errors import ConfigError, DataError, suggestion
from burnish.types import Example, Origin


def private_function(name: str) -> Callable[..., Example | tuple[Example, ...]]:
    """Return the function that `module:function` names; an error inside it becomes a DataError of its row.

    Importing runs the module's code. Raises ConfigError where the module cannot be imported or holds no such function.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)  # an installed command does not look in the current folder by itself
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"data.format = {name!r}: {error}; run from the folder that holds the module, or put that folder on PYTHONPATH"
        ) from error
    except Exception as error:
        raise ConfigError(f"data.format = {name!r}: importing it failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    function: Any = getattr(module, attribute, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise ConfigError(f"data.format = {name!r}: {module_name} has no function {attribute!r}.{suggestion(attribute, known)}")

    @functools.wraps(function)
    def guarded(values: Mapping[str, Any], origin: Origin, **options: Any) -> Any:
        try:
            return function(values, origin, **options)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{name} failed on this row: {type(error).__name__}: {error}") from error

    return guarded
