"""What a person sees while a verb runs: progress and sentences on standard error, results on standard output.

Enters: records and reports. Leaves: text. With --json, standard output holds one JSON value and nothing else.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

from burnish.tune_state import Watch

SECONDS_BETWEEN_LINES = 5.0
"""Where there is no terminal to redraw, a line of progress this often."""


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output; numbers that JSON has not become the texts "nan" and "inf"."""
    print(json.dumps(_plain(value), ensure_ascii=False, indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def say(text: str) -> None:
    """Tell the user a sentence, on standard error."""
    print(text, file=sys.stderr, flush=True)


def watch(*, quiet: bool = False) -> Watch:
    """Return a `Watch` that shows a run in this terminal: one line that is redrawn, or a line now and then where it cannot be."""
    if quiet:
        return Watch()
    live = sys.stderr.isatty()
    shown = {"time": 0.0, "open": False, "step": 0}
    begun: dict[str, Any] = {}
    newest: dict[str, Any] = {}

    def sentence(text: str) -> None:
        if shown["open"]:
            print(file=sys.stderr)
            shown["open"] = False
        say(text)

    def step(record: dict[str, Any]) -> None:
        newest.update(record)
        now, last = time.monotonic(), record["step"] == record["steps"]
        if REWARD in record and not begun:
            begun.update(record)
        if last or record["step"] == 1 or now - shown["time"] >= (0.1 if live else SECONDS_BETWEEN_LINES):
            shown["time"] = now
            show(record)

    def show(record: dict[str, Any]) -> None:
        shown["step"] = record["step"]
        line = step_line(record)
        if live:
            print("\r\x1b[K" + line, end="", file=sys.stderr, flush=True)
            shown["open"] = True
        else:
            say(line)

    def done() -> None:
        # A run that stopped early ends at a step whose line was perhaps left out.
        if newest and shown["step"] != newest["step"]:
            show(newest)
        if begun and newest["step"] > begun["step"]:
            sentence(f"Attempts of step {begun['step']}: {attempts(begun)}; of step {newest['step']}: {attempts(newest)}")

    return Watch(sentence, step, done)


def step_line(record: dict[str, Any]) -> str:
    """Return a step as one line: how far, loss or what the model's attempts are worth, speed, time left."""
    share = record["step"] / record["steps"]
    bar = "#" * round(20 * share)
    speed = f"{record['tokens_per_second']:,.0f} tokens/s"
    told = attempts(record) if REWARD in record else f"loss {record['loss']:.4f}"
    return f"[{bar:<20}] step {record['step']}/{record['steps']}  {told}  {speed}  {duration(record['time_left'])} left"


REWARD = "rollout/reward"


def attempts(record: dict[str, Any]) -> str:
    """Return what the newest attempts were like: their reward, length in tokens, and distance from the reference in nats per answer."""
    kl = f"  kl {record['rollout/kl']:.3g}" if "rollout/kl" in record else ""
    return f"reward {record[REWARD]:.4g}  length {record['rollout/length']:.1f}{kl}"


def duration(seconds: float) -> str:
    """Return seconds as people say them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def print_rows(rows: list[dict[str, Any]], columns: dict[str, Callable[[dict[str, Any]], str]]) -> None:
    """Print a plain table on standard output that reads well at 80 columns."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(get(row) for get in columns.values()))
    Console(highlight=False, markup=False).print(table)


def print_entries(rows: list[dict[str, Any]]) -> None:
    """Print each row with everything that is known of it, under its name: for what has too much to say for a table."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    for row in rows:
        console.print(Text(str(row["name"]), style="bold"))
        for key, value in row.items():
            said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            if key != "name" and said:
                console.print(Padding(said if key == "about" else f"{key.replace('_', ' ')}: {said}", (0, 0, 0, 4)))
