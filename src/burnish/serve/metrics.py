"""Figures of a server in Prometheus' text format.

Enters: counts and times, from any thread. Leaves: the page `/metrics`. Names of models, paths and keys are not part of it; routes stand by
the names that the server gave them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
HELP = {
    "requests": "Requests answered, by route and status.",
    "refused": "Requests refused before they were answered, by reason.",
    "prompt_tokens": "Tokens of prompts that joined the batch.",
    "answer_tokens": "Tokens written, ends of answers included.",
    "cancelled": "Requests whose client left.",
    "request_seconds": "Time of a request from its first byte to the last of its answer.",
    "first_token_seconds": "Time from a request's arrival in the queue to its first token.",
    "step_seconds": "Time of a step of the engine, prompts that joined in it included.",
}


@dataclass(slots=True)
class Histogram:
    """How often a time lay below each bound, and the sum."""

    below: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0


class Metrics:
    """Counters and histograms; a class because they persist."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self._times: defaultdict[str, Histogram] = defaultdict(Histogram)
        self._lock = threading.Lock()

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name, tuple(sorted(labels.items()))] += value  # pyright: ignore[reportArgumentType]  (tokens are whole)

    def observe(self, name: str, seconds: float) -> None:
        """Note a time."""
        with self._lock:
            found = self._times[name]
            found.below[bisect_left(BOUNDS, seconds)] += 1
            found.total += seconds

    def value(self, name: str, **labels: str) -> float:
        """Return a counter."""
        return self._counts[name, tuple(sorted(labels.items()))]

    def text(self, gauges: Mapping[str, tuple[float, str]]) -> str:
        """Return everything as text, with gauges: their value and what they mean."""
        with self._lock:
            lines = [
                line
                for name in dict.fromkeys(name for name, _ in self._counts)
                for line in (
                    f"# HELP burnish_{name}_total {HELP[name]}",
                    f"# TYPE burnish_{name}_total counter",
                    *(
                        f"burnish_{name}_total{_labels(dict(labels))} {value:g}"
                        for (other, labels), value in self._counts.items()
                        if other == name
                    ),
                )
            ]
            for name, found in self._times.items():
                lines += [f"# HELP burnish_{name} {HELP[name]}", f"# TYPE burnish_{name} histogram"]
                running = 0
                for bound, number in zip((*BOUNDS, float("inf")), found.below, strict=True):
                    running += number
                    edge = "+Inf" if bound == float("inf") else f"{bound:g}"
                    lines.append(f'burnish_{name}_bucket{{le="{edge}"}} {running}')
                lines += [f"burnish_{name}_sum {found.total:.6f}", f"burnish_{name}_count {running}"]
        for name, (value, said) in gauges.items():
            lines += [f"# HELP burnish_{name} {said}", f"# TYPE burnish_{name} gauge", f"burnish_{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
