"""Formats that are not in the registry: a user's own function, named `module:function` in a run file.

In: the name. Out: a function (values, origin, **options) -> example like any other, whose failures name the row and not our code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from burnish.errors import DataError
from burnish.named_code import imported
from burnish.types import Example, Origin


def private_function(name: str) -> Callable[..., Example | tuple[Example, ...]]:
    """Return the function that `module:function` names; an error inside it becomes a DataError of its row.

    Importing runs the module's code. Raises ConfigError where the module cannot be imported or holds no such function.
    """
    function: Any = imported(name, called="data.format = ")

    @functools.wraps(function)
    def guarded(values: Mapping[str, Any], origin: Origin, **options: Any) -> Any:
        try:
            return function(values, origin, **options)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{name} failed on this row: {type(error).__name__}: {error}") from error

    return guarded
