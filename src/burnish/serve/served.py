"""The models on offer, by the names that clients ask for, and which of them share a base in memory.

Enters: names of models as everywhere in burnish (a run directory, a folder, a bundled or a hub name). Leaves: an `Offer` for each, and an
`ApiError` for a name that nobody offers. Adapters that can are put beside each other on one base, whose rows then fly together; whatever
cannot (a whole model, another technique, a head) has a line of its own.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from burnish.data.render_heads import HeadRenderer
from burnish.devices import choose_device
from burnish.errors import UsageError, suggestion
from burnish.loaded import Loaded, as_taught, load
from burnish.models import (
    MASKED,
    Found,
    add_adapter,
    find_model,
    is_encoder,
    load_model,
    open_tokenizer,
    refuse_foreign_code,
    why_not_shared,
)
from burnish.serve.engine import Engine, Line
from burnish.serve.metrics import Metrics
from burnish.serve.problems import ApiError
from burnish.serve.settings import Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,255}")


@dataclass(frozen=True, slots=True)
class Later:
    """Models that are opened when they are first asked for: `place(name)` is where one lies, `names()` gives (name, since) of all."""

    place: Callable[[str], Path | None]
    names: Callable[[], Iterable[tuple[str, int]]]


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """A model on offer: the name that clients use, the model with the form in which it was taught, and the line that answers for it.

    `adapter` is its name on a line that it shares with others; None: what the line's network says by itself. `notes` say why it shares
    none.
    """

    name: str
    loaded: Loaded
    line: Line | None = None
    adapter: str | None = None
    since: int = field(default_factory=lambda: int(time.time()))
    notes: tuple[str, ...] = ()

    @property
    def reads(self) -> bool:
        """Whether a head answers, and nothing is written."""
        return isinstance(self.loaded.renderer, HeadRenderer)

    @property
    def writes(self) -> bool:
        """Whether text is written, token by token."""
        return not self.reads and self.loaded.model.spec is None

    @property
    def flies_on(self) -> Line:
        """The line, which an offer has from when it is added."""
        assert self.line is not None, "not on offer yet"
        return self.line


class Served:
    """What a server offers; a class because models come while it runs. Routes read it, `open` may be called from any thread."""

    def __init__(self, offers: Iterable[Offer] = (), settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.metrics = Metrics()
        self.engine = Engine(self.settings, self.metrics)
        self.running = False
        self.later: Later | None = None
        self._offers: dict[str, Offer] = {}
        self._bases: dict[str, Offer] = {}
        self._lock = threading.RLock()
        for offer in offers:
            self.add(offer)

    def add(self, offer: Offer) -> Offer:
        """Offer one more model; UsageError for a name that is taken or cannot be one."""
        with self._lock:
            if not NAME.fullmatch(offer.name):
                raise UsageError(f"{offer.name!r} cannot be the name of a served model: letters, digits and . _ : / - only.")
            if offer.name in self._offers:
                raise UsageError(f"Two models would be served as {offer.name!r}. Give one another name: NAME=RUN_DIR.")
            if offer.line is None:
                offer = replace(offer, line=self.engine.line(offer.loaded.model))
            self._offers = {**self._offers, offer.name: offer}
            return offer

    def open(self, name: str, model: str) -> Offer:
        """Load a model, beside others on their base where it can be, and offer it; raises what loading raises.

        One that learned several tasks is asked in the form of the first; each of them is offered too, as NAME/TASK.
        """
        with self._lock:
            if name in self._offers:
                raise UsageError(f"Two models would be served as {name!r}. Give one another name: NAME=RUN_DIR.")
            found = find_model(model)
            if found.adapter is None:
                offer = self.add(Offer(name, self._whole(model, found)))
                if offer.writes:
                    self._bases.setdefault(_base(found), offer)
            else:
                offer = self.add(self._adapted(name, model, found))
            tasks = found.settings.get("tasks", {})
            for task in tasks if len(tasks) > 1 else ():
                self.add(replace(offer, name=f"{name}/{task}", loaded=as_taught(offer.loaded.model, task)))
            return offer

    def _adapted(self, name: str, model: str, found: Found) -> Offer:
        """Return the offer of an adapter, beside others on its base where it can be, else with a reason why not."""
        if found.settings.get("head") or found.settings.get("heads"):
            return Offer(name, load(model, dtype=self.settings.dtype), notes=("it has a head",))
        base = self._base_of(found)
        reason = why_not_shared(base.loaded.model, found)
        return (
            self._beside(base, name, found)
            if reason is None
            else Offer(name, load(model, dtype=self.settings.dtype), notes=(reason,))
        )

    def _base_of(self, found: Found) -> Offer:
        """Return the base of an adapter, on offer too: it is in memory anyway, and what tuned models are compared with."""
        offer = self._bases.get(_base(found))
        if offer is None:
            told = str(found.settings.get("base") or found.base)
            name = Path(told).name if Path(told).is_absolute() else told
            name = name if NAME.fullmatch(name) and name not in self._offers else f"base-{len(self._bases)}"
            model = load(told, dtype=self.settings.dtype).model
            offer = self._bases[_base(found)] = self.add(Offer(name, as_taught(model)))
        return offer

    def _whole(self, model: str, found: Found) -> Loaded:
        """Return a whole model; an encoder without a head of its own with the one over its vocabulary, which `embeddings` passes by."""
        from transformers import AutoConfig

        refuse_foreign_code(found)
        if not found.settings and found.local and is_encoder(AutoConfig.from_pretrained(found.base, trust_remote_code=False)):
            return as_taught(load_model(model, choose_device(self.settings.dtype, moves_base=False), head=MASKED))
        return load(model, dtype=self.settings.dtype)

    def _beside(self, base: Offer, name: str, found: Found) -> Offer:
        """Put an adapter beside the others of its base, between two steps where the engine runs, and return what it offers."""
        refuse_foreign_code(found)
        line = base.flies_on
        adapter = f"a{len(line.model.adapters)}"  # PEFT takes no dots in names

        def put() -> None:
            add_adapter(line.model, found, adapter)
            if line.flight is not None:
                line.flight.look()

        if self.running:
            self.engine.call(put).result()
        else:
            put()
        _, tokenizer, notes = open_tokenizer(found)
        seen = replace(line.model, found=found, tokenizer=tokenizer, notes=notes)
        return Offer(name, as_taught(seen), line, adapter)

    def all(self) -> list[Offer]:
        """Return everything on offer, in the order in which it came."""
        return list(self._offers.values())

    def names(self) -> list[tuple[str, int]]:
        """Return the name of everything that can be asked for, and since when."""
        open_now = [(offer.name, offer.since) for offer in self.all()]
        known = {name for name, _ in open_now}
        return open_now + [pair for pair in (self.later.names() if self.later is not None else ()) if pair[0] not in known]

    async def ready(self, name: str) -> Offer:
        """Return what is offered under a name, opened in a thread where it was not yet; the ApiError of an unknown one (404)."""
        offer = self._offers.get(name)
        return offer if offer is not None else await asyncio.to_thread(self._opened, name)

    def _opened(self, name: str) -> Offer:
        place = self.later.place(name) if self.later is not None else None
        with self._lock:  # two requests for a name that is not open yet open it once
            return self.open(name, str(place)) if place is not None and name not in self._offers else self.find(name)

    def find(self, name: str) -> Offer:
        """Return what is offered under a name and open; the ApiError of an unknown one (404)."""
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


def _base(found: Found) -> str:
    """Return what tells one base from another, however its folder was named."""
    return str(Path(found.base).resolve()) if found.local else found.base


def split_name(given: str) -> tuple[str, str]:
    """Return (name to be served under, model) of an argument such as `support=runs/one`, `runs/one` or `tiny`."""
    name, equals, model = given.partition("=")
    if equals and NAME.fullmatch(name) and model:
        return name, model
    folder = Path(given).expanduser()
    return (folder.resolve().name if folder.is_dir() else given), given
