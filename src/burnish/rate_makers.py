"""Who made an answer, and who judges it: the base of a run, the version of a model, the name of the user.

Enters: a run directory or a model that was found. Leaves: names that a feedback file keeps. Used by `burnish rate` and by the chat.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from burnish import config
from burnish.models import fingerprint
from burnish.models.find import Found
from burnish.prepare import registries


def base_of(model: str) -> str | None:
    """Return the model that a run directory began with; None for other models, and where a run began with random weights."""
    file = Path(model) / "run.toml"
    if not file.is_file():
        return None
    resolved = config.load(file, registries=registries())
    return None if resolved.config.model.is_fresh else config.model_reference(resolved)


def version_of(found: Found, *, adapter: bool = True) -> str | None:
    """Return what tells a model from a later one of the same name, None where nothing does (a hub name); `adapter=False`: of its base."""
    if adapter and found.adapter is not None:
        found = replace(found, base=str(found.adapter), local=True)
    return (fingerprint(found) or "")[:12] or None


def user_name() -> str:
    """Return the name of the user, or "rater" where the system knows none."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "rater"
