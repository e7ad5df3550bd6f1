"""The models on offer, by the names that clients ask for.

Enters: names of models as everywhere in burnish (a run directory, a folder, a bundled or a hub name). Leaves: an `Offer` for each, and an
`ApiError` for a name that nobody offers.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from burnish.errors import UsageError, suggestion
from burnish.loaded import Loaded
from burnish.serve.problems import ApiError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """A model on offer: the name that clients use, and the model with the form in which it was taught."""

    name: str
    loaded: Loaded
    since: int = field(default_factory=lambda: int(time.time()))


class Served:
    """What a server offers; a class because models come while it runs. Routes read it, `open` may be called from any thread."""

    def __init__(self, offers: Iterable[Offer] = ()) -> None:
        self._offers: dict[str, Offer] = {}
        self._lock = threading.Lock()
        for offer in offers:
            self.add(offer)

    def add(self, offer: Offer) -> None:
        """Offer one more model; UsageError for a name that is taken or cannot be one."""
        with self._lock:
            if not NAME.fullmatch(offer.name):
                raise UsageError(f"{offer.name!r} cannot be the name of a served model: letters, digits and . _ : / - only.")
            if offer.name in self._offers:
                raise UsageError(f"Two models would be served as {offer.name!r}. Give one another name: NAME=RUN_DIR.")
            self._offers[offer.name] = offer

    def all(self) -> list[Offer]:
        """Return everything on offer, in the order in which it came."""
        return list(self._offers.values())

    def find(self, name: str) -> Offer:
        """Return what is offered under a name; the ApiError of an unknown one (404)."""
        offer = self._offers.get(name)
        if offer is None:
            known = ", ".join(self._offers) or "none"
            raise ApiError(
                404,
                f"There is no model of that name here.{suggestion(name, self._offers)} On offer: {known}.",
                param="model",
                code="model_not_found",
            )
        return offer


def split_name(given: str) -> tuple[str, str]:
    """Return (name to be served under, model) of an argument such as `support=runs/one`, `runs/one` or `tiny`."""
    name, equals, model = given.partition("=")
    if equals and NAME.fullmatch(name) and model:
        return name, model
    folder = Path(given).expanduser()
    return (folder.resolve().name if folder.is_dir() else given), given
