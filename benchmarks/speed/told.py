"""What a driver tells the process that started it: one JSON object a line on standard output.

Enters: events of a driver. Leaves: lines. Imports nothing heavy: the first line of a driver is told before it imports anything else, and
every environment has this file. Times count from when the process was started (`BENCH_STARTED`).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

STARTED = float(os.environ.get("BENCH_STARTED", time.time()))
_LINES = os.fdopen(os.dup(sys.stdout.fileno()), "w")
"""Standard output as it was: what libraries print meanwhile goes to standard error."""
os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def asked() -> dict[str, Any]:
    """Return what this driver was asked to do."""
    return json.loads(sys.argv[1])


def tell(event: str, **values: Any) -> None:
    """Write an event with the seconds since the start, the processor seconds and the most memory held so far."""
    known = {"event": event, "at": time.time() - STARTED, "processor": time.process_time(), "peak_bytes": peak_bytes()}
    print(json.dumps({**known, **values}), file=_LINES, flush=True)


def peak_bytes() -> int:
    """Return the most memory that this process has held, as the kernel counts it (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def read_tokens(work: str, name: str) -> list[Any]:
    """Return the rows of a set as token ids and labels, in the order of the steps."""
    return json.loads((Path(work) / f"{name}.tokens.json").read_text(encoding="utf-8"))


def read_rows(work: str, name: str) -> list[dict[str, Any]]:
    """Return the rows of a set as text."""
    lines = (Path(work) / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
