"""The engine: one thread that makes every answer, the rows of all requests on a base in one flight of the project's own sampler.

Enters: tickets, each with rows to be answered on a line, from any thread. Leaves: events for the tickets, handed over once per step: the
tokens of those who stream, answers as they finish, and refusals. Rows join and leave between steps; what nobody waits for any more leaves at
the next step. Reading by a head and changes of a model are calls that run between two steps.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from burnish.errors import BurnishError
from burnish.models import Model
from burnish.sampling import Generated, Options
from burnish.sampling.flight import Flight, Row
from burnish.sampling.mode import evaluating
from burnish.serve.metrics import Metrics
from burnish.serve.problems import ApiError, fault
from burnish.serve.settings import Settings

READ_AT_ONCE = 2048
"""Tokens of prompts that join in one step, so that those under way do not wait long for their next token."""
LOOK_SECONDS = 0.2
"""How often time-outs are looked at."""
PACKED_STEPS = 1 << 20
"""A server makes many steps: weights are laid out for them."""


@dataclass(frozen=True, slots=True)
class Token:
    """The newest token of a sample whose ticket streams, with its log-probability and the likeliest ones where those were asked for."""

    sample: int
    token: int
    logprob: float
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The answer of a sample."""

    sample: int
    answer: Generated


@dataclass(frozen=True, slots=True)
class Failed:
    """The ticket cannot be answered; nothing follows."""

    error: ApiError


Event = Token | Done | Failed


@dataclass(slots=True, eq=False)
class Line:
    """What is answered by one network in memory: its flight, and the rows that wait for a place in it."""

    model: Model
    flight: Flight | None = None
    waiting: deque[Row] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class Ticket:
    """A request under way: its rows, one per sample, on a line. `hear` is called with each event by `deliver`'s caller."""

    line: Line
    rows: tuple[Row, ...]
    hear: Callable[[Event], None]
    streams: bool = False
    began: float = field(default_factory=time.monotonic)
    admitted: float = 0.0
    first: float = 0.0
    gone: bool = False


Deliver = Callable[[list[tuple[Ticket, Event]]], None]


class Engine:
    """The thread and what it works on; everything public may be called from any thread."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.lines: list[Line] = []
        self.tickets: dict[Row, Ticket] = {}
        self.numbers = itertools.count()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._new: deque[Ticket] = deque()
        self._gone: set[Ticket] = set()
        self._waiting = 0
        self._changed = threading.Condition()
        self._closing = False
        self._deliver: Deliver = hand_over
        self._thread: threading.Thread | None = None
        self._looked = 0.0

    # ---------------------------------------------------------------------------------------------------- for any thread

    def start(self, deliver: Deliver) -> None:
        """Begin to work; `deliver` is called from the engine's thread with the events of each step."""
        self._deliver = deliver
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the step under way; whatever still waits is refused."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def line(self, model: Model) -> Line:
        """Return a new line for a model."""
        line = Line(model)
        self.lines = [*self.lines, line]
        return line

    def submit(self, ticket: Ticket) -> None:
        """Let a ticket wait for its turn; the ApiError of a full queue (429), or of a server that stops (503)."""
        with self._changed:
            if self._closing:
                raise stopping()
            if self._waiting + len(ticket.rows) > self.settings.queue:
                self.metrics.count("refused", reason="queue_full")
                raise ApiError(
                    429, "Too many answers wait already. Ask again in a moment.", code="queue_full", headers={"retry-after": "1"}
                )
            self._waiting += len(ticket.rows)
            self._new.append(ticket)
            self._changed.notify()

    def cancel(self, ticket: Ticket) -> None:
        """Let a ticket's rows leave at the next step; nothing is heard of it any more."""
        with self._changed:
            if not ticket.gone:
                ticket.gone = True
                self._gone.add(ticket)
                self._changed.notify()

    def call(self, work: Callable[[], Any]) -> Future[Any]:
        """Let the engine's thread do something between two steps, and return its result to come."""
        future: Future[Any] = Future()
        with self._changed:
            if self._closing:
                raise stopping()
            self._calls.append((work, future))
            self._changed.notify()
        return future

    @property
    def rows_now(self) -> tuple[int, int]:
        """Return how many answers are made now, and how many wait."""
        flying = sum(len(line.flight) for line in self.lines if line.flight is not None)
        return flying, self._waiting

    # ---------------------------------------------------------------------------------------------------- in its own thread

    def _work(self) -> None:
        """Step until closed."""
        while True:
            with self._changed:
                while not (self._closing or self._new or self._calls or self._gone or self._busy()):
                    self._changed.wait()
                if self._closing:
                    break
                new, gone, calls = list(self._new), set(self._gone), list(self._calls)
                self._new.clear()
                self._gone.clear()
                self._calls.clear()
            for work, future in calls:
                _answer_call(work, future)
            self._take(new)
            events = self._let_go(gone) + self._late()
            for line in self.lines:
                events += self._step(line)
            if events:
                self._deliver(events)
        self._deliver([(ticket, Failed(stopping())) for ticket in [*dict.fromkeys(self.tickets.values()), *self._new]])
        for _, future in self._calls:
            future.set_exception(stopping())

    def _busy(self) -> bool:
        return any(line.waiting or (line.flight is not None and len(line.flight)) for line in self.lines)

    def _take(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            ticket.line.waiting.extend(ticket.rows)
            self.tickets |= dict.fromkeys(ticket.rows, ticket)

    def _let_go(self, tickets: set[Ticket]) -> list[tuple[Ticket, Event]]:
        """Take the rows of tickets out of flights and queues."""
        for line in {ticket.line for ticket in tickets}:
            rows = {row for ticket in tickets if ticket.line is line for row in ticket.rows}
            if line.flight is not None:
                line.flight.drop(rows)
            before = len(line.waiting)
            line.waiting = deque(row for row in line.waiting if row not in rows)
            self._left_queue(before - len(line.waiting))
            for row in rows:
                self.tickets.pop(row, None)
        return []

    def _late(self) -> list[tuple[Ticket, Event]]:
        """Refuse tickets that waited or worked for too long."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return []
        self._looked = now
        late: list[tuple[Ticket, Event]] = []
        for ticket in dict.fromkeys(self.tickets.values()):
            if not ticket.admitted and now - ticket.began > self.settings.queue_seconds:
                late.append((ticket, Failed(_timed_out("waited", self.settings.queue_seconds, 503))))
            elif now - ticket.began > self.settings.queue_seconds + self.settings.answer_seconds:
                late.append((ticket, Failed(_timed_out("worked", self.settings.answer_seconds, 504))))
        for ticket, _ in late:
            ticket.gone = True
        self.metrics.count("refused", len(late), reason="timeout")
        self._let_go({ticket for ticket, _ in late})
        return late

    def _step(self, line: Line) -> list[tuple[Ticket, Event]]:
        """Let rows join a line's flight and make a token for each; on an error its tickets fail and the flight begins anew."""
        if not line.waiting and (line.flight is None or not len(line.flight)):
            return []
        began = time.perf_counter()
        try:
            if line.flight is None:
                line.flight = self._new_flight(line)
            with evaluating(line.model.network):
                self._admit(line, line.flight)
                done = line.flight.advance()
        except Exception as error:
            return self._failed(line, error)
        self.metrics.observe("step_seconds", time.perf_counter() - began)
        return self._events(line.flight, done)

    def _new_flight(self, line: Line) -> Flight:
        return Flight(
            line.model, Options(max_tokens=1), rows=self.settings.rows, steps=PACKED_STEPS, prefix_bytes=self.settings.prefix_bytes
        )

    def _admit(self, line: Line, flight: Flight) -> None:
        """Let waiting rows join while there is room; rows of one ticket join together where they can, so that their prompt is read once."""
        joining: list[Row] = []
        tokens = 0
        while line.waiting and len(joining) < flight.room:
            row = line.waiting[0]
            size = 0 if joining and joining[-1].prompt == row.prompt else len(row.tokens)
            if tokens and tokens + size > READ_AT_ONCE:
                break
            tokens += size
            joining.append(line.waiting.popleft())
        if joining:
            self._left_queue(len(joining))
            now = time.monotonic()
            for ticket in {self.tickets[row] for row in joining}:
                ticket.admitted = ticket.admitted or now
            self.metrics.count("prompt_tokens", tokens)
            flight.admit(joining)

    def _events(self, flight: Flight, done: list[tuple[Row, Generated]]) -> list[tuple[Ticket, Event]]:
        """Return what a step has to say."""
        now, events = time.monotonic(), []
        streaming = [(place, row) for place, row in enumerate(flight.rows) if self.tickets[row].streams]
        newest = flight.newest_all() if streaming else []
        for place, row in streaming:
            token, logprob = newest[place]
            best = flight.noted[row][-1] if row.likeliest else ()
            events.append((self.tickets[row], Token(row.sample, token, logprob, best)))
        for row, answer in done:
            ticket = self.tickets.pop(row)
            events.append((ticket, Done(row.sample, answer)))
            self.metrics.count("answer_tokens", len(answer.tokens) + (answer.end_id is not None))
        for ticket in {ticket for ticket, _ in events} | {self.tickets[row] for row in flight.rows}:
            if not ticket.first:
                ticket.first = now
                self.metrics.observe("first_token_seconds", now - ticket.began)
        return events

    def _failed(self, line: Line, error: Exception) -> list[tuple[Ticket, Event]]:
        """Fail the tickets of a flight that broke, and forget the flight; those that wait are not concerned."""
        flying = [row for row in self.tickets if self.tickets[row].line is line and row not in line.waiting]
        tickets = dict.fromkeys(self.tickets[row] for row in flying)
        line.flight = None
        self._let_go(set(tickets))
        for ticket in tickets:
            ticket.gone = True
        said = ApiError(500, str(error), code="model_error") if isinstance(error, BurnishError) else _broken(error)
        return [(ticket, Failed(said)) for ticket in tickets]

    def _left_queue(self, count: int) -> None:
        with self._changed:
            self._waiting -= count


def hand_over(events: list[tuple[Ticket, Event]]) -> None:
    """Give each event to its ticket; those of tickets that are gone are for nobody, but for the reason why."""
    for ticket, event in events:
        if not ticket.gone or isinstance(event, Failed):
            ticket.hear(event)


def stopping() -> ApiError:
    """Return the error of a server that stops."""
    return ApiError(503, "The server stops.", code="stopping", headers={"retry-after": "5"})


def _timed_out(what: str, seconds: float, status: int) -> ApiError:
    said = {"waited": "waited for a place", "worked": "was under way"}[what]
    return ApiError(
        status, f"The request {said} for {seconds:g} s. Ask again when less is asked for, or for fewer tokens.", code="timeout"
    )


def _broken(error: Exception) -> ApiError:
    if type(error).__name__ == "OutOfMemoryError":
        return ApiError(
            503, "Memory does not suffice for what is asked for now.", code="out_of_memory", headers={"retry-after": "5"}
        )
    return ApiError(500, fault(error)["error"]["message"], code="internal_error")


def _answer_call(work: Callable[[], Any], future: Future[Any]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
