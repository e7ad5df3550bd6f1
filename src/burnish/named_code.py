"""Code of the user's own, named `module:function` in a run file, imported by that name: scores, formats, objectives, techniques.

Enters: the name, and where else than in the current folder its module may lie. Leaves: what it names. Importing runs the module's code.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.errors import ConfigError, suggestion

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def imported(name: str, *, called: str = "", folders: Sequence[Path] = ()) -> Any:
    """Return what `module:function` names: a function, or an entry that holds one, as a registry has it.

    The module is found in `folders` (that of the run file), in the current folder or installed. `called` stands before the name in
    messages. Raises ConfigError where the form is another one, the module cannot be imported, or it holds no such function.
    """
    said = f"{called}{name!r}"
    if not _FORM.fullmatch(name):
        raise ConfigError(f"{said} is not of the form module:function, such as my_scores:politeness")
    module_name, attribute = name.split(":")
    places = [str(folder.resolve()) for folder in (*folders, Path.cwd())]
    sys.path[:0] = places  # an installed command does not look in the current folder by itself
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{said}: no module named {error.name!r} beside the run file, in this folder or installed") from None
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{said}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    finally:
        for place in places:
            if place in sys.path:
                sys.path.remove(place)
    found = getattr(module, attribute, None)
    if not callable(function_in(found)):
        known = [key for key, item in vars(module).items() if callable(function_in(item)) and not key.startswith("_")]
        what = "has no function" if found is None else "holds something that cannot be called under"
        raise ConfigError(f"{said}: {module_name} {what} {attribute!r}.{suggestion(attribute, known)}")
    return found


def function_in(entry: Any) -> Any:
    """Return the function that an entry of a registry holds (an objective's, a technique's, a score's), or what is one itself."""
    return getattr(entry, "function", getattr(entry, "statistics", entry))
