"""Answers made while a person reads: one thread that stays ahead, so that nobody waits for a model.

Enters: a function that makes the answers of some items, and the order in which they will be needed. Leaves: the answers of one item at a
time, as soon as they are there. An error of the thread is raised where its answers are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Condition, Thread

from burnish.rate import Candidate

Answers = tuple[Candidate, ...]
Make = Callable[[Sequence[int]], list[Answers]]

AT_ONCE = 4
"""Items per call of the model after the first, which is made alone: a person should soon have something to read."""


class Ahead:
    """Answers by place, some still to come. `made` holds those there are; `start` begins with the rest."""

    def __init__(self, make: Make, wanted: Sequence[int], made: dict[int, Answers] | None = None) -> None:
        self._make = make
        self._made = dict(made or {})
        self._wanted = [place for place in wanted if place not in self._made]
        self._change = Condition()
        self._error: BaseException | None = None
        self._stop = False
        self._thread = Thread(target=self._run, name="answers", daemon=True)

    def start(self) -> None:
        """Begin to make answers, in the order wanted."""
        self._thread.start()

    def ready(self, place: int) -> bool:
        """Return whether the answers of an item are there."""
        with self._change:
            return place in self._made

    def get(self, place: int) -> Answers:
        """Return the answers of an item, waiting for them; raises what went wrong while they were made."""
        with self._change:
            # A wait without an end would not notice Ctrl-C on every system.
            while place not in self._made and self._error is None:
                self._change.wait(0.2)
            if place in self._made:
                return self._made[place]
            assert self._error is not None
            raise self._error

    def stop(self) -> None:
        """Make no more answers, and wait until those under way are done: a thread in the model must not outlive the program."""
        self._stop = True
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        start, size = 0, 1
        while start < len(self._wanted) and not self._stop:
            places = self._wanted[start : start + size]
            try:
                answers = self._make(places)
            except BaseException as error:
                with self._change:
                    self._error = error
                    self._change.notify_all()
                return
            with self._change:
                self._made.update(zip(places, answers, strict=True))
                self._change.notify_all()
            start, size = start + len(places), AT_ONCE
