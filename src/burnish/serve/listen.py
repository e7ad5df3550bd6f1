"""Wait for what the engine says of a request, for as long as its client is there.

Enters: tickets and the request that they belong to. Leaves: events. When the client leaves, the tickets are cancelled: their rows are gone at
the engine's next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import Request

from burnish.sampling import Generated
from burnish.serve.engine import Done, Engine, Event, Failed, Ticket
from burnish.serve.problems import ApiError
from burnish.serve.prompts import Prepared

LEFT = 499
"""The status in the log of a request whose client left before there was an answer."""


class Listening:
    """The tickets of one request and the events that came; a class because they come while others are written."""

    def __init__(self, engine: Engine, prepared: Sequence[Prepared], *, streams: bool) -> None:
        self.engine = engine
        self.events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self.tickets = [
            Ticket(one.offer.flies_on, one.rows(engine), self._hear(number), streams=streams) for number, one in enumerate(prepared)
        ]

    def _hear(self, number: int) -> Any:
        return lambda event: self.events.put_nowait((number, event))

    def submit(self) -> None:
        """Let all tickets wait for their turn, or none: the ApiError of a full queue."""
        sent: list[Ticket] = []
        try:
            for ticket in self.tickets:
                self.engine.submit(ticket)
                sent.append(ticket)
        except ApiError:
            for ticket in sent:
                self.engine.cancel(ticket)
            raise

    def cancel(self) -> None:
        """Nobody waits any more."""
        for ticket in self.tickets:
            self.engine.cancel(ticket)

    def waiting(self) -> list[tuple[int, Event]]:
        """Return the events that are there already."""
        return [self.events.get_nowait() for _ in range(self.events.qsize())]

    async def next(self, request: Request) -> tuple[int, Event]:
        """Return the next event; the ApiError of a refusal, or of a client that left, everything cancelled."""
        if self.events.empty():
            came = asyncio.ensure_future(self.events.get())
            gone = asyncio.ensure_future(_until_gone(request))
            try:
                await asyncio.wait({came, gone}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                self.cancel()
                raise
            finally:
                gone.cancel()
                if not came.done():
                    came.cancel()
            if not came.done():
                self.cancel()
                self.engine.metrics.count("cancelled")
                raise ApiError(LEFT, "The client left.", code="cancelled")
            number, event = came.result()
        else:
            number, event = self.events.get_nowait()
        if isinstance(event, Failed):
            self.cancel()
            raise event.error
        return number, event

    async def answers(self, request: Request) -> list[list[Generated]]:
        """Return the answers to all tickets, each with its samples in order."""
        found: list[list[Any]] = [[None] * len(ticket.rows) for ticket in self.tickets]
        for _ in range(sum(map(len, found))):
            number, event = await self.next(request)
            assert isinstance(event, Done), "tokens for a request that does not stream"
            found[number][event.sample] = event.answer
        return found


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
