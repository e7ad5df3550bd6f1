"""Stopping cleanly on a signal: the first SIGINT or SIGTERM asks, the second one ends the process at once.

Enters: signals. Leaves: `Stop.signal_number`, which the run looks at between steps, where everything can be saved.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Stop:
    """A context in which signals are noted instead of obeyed; a class because the note must persist between steps."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal_number = number
