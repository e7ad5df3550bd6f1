"""What the run directory of a bundled model tells about its training: data, sizes, settings, machine, and the curve.

In: a run directory as `burnish pretrain` or `burnish tune` leaves it. Out: a `Training`, and its facts as lines of Markdown. Used by
`base_page.py` and `cards.py`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import DataError

POINTS = 20
"""Rows of the table of a curve."""

KNOWN_SOURCES = {
    "books.jsonl": "the text of the books above (`benchmarks/base/text.py`), CC BY 4.0",
    "reading.jsonl": "generated dialogs about passages of the books and about invented texts (`benchmarks/base/reading.py` and "
    "`invented.py`): the passages CC BY 4.0, the questions written by rules for this project",
    "questions.jsonl": "exercises with solutions of the books, CC BY 4.0, and arithmetic problems of gsm8k, MIT",
    "public:gsm8k": "arithmetic problems in words (gsm8k), MIT",
    "public:instruct_rasbt": "short instructions with answers (instruct_rasbt), Apache-2.0",
    "instruct_rasbt": "short instructions with answers (instruct_rasbt), Apache-2.0",
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a run directory says: its run file, its report, its data, its machine, and its curve of (tokens, bits per byte)."""

    run_file: Mapping[str, Any]
    report: Mapping[str, Any]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    curve: tuple[tuple[int, float], ...]


def read_training(folder: Path) -> Training:
    """Return what a finished run directory says; DataError where it is not there or not finished."""
    try:
        report, data, environment = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in ("report.json", "data.json", "environment.json")
        )
        run_file = tomllib.loads((folder / "run.toml").read_text(encoding="utf-8"))
        metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} is not the directory of a finished run ({error}). Carry out the run first.") from error
    return Training(run_file=run_file, report=report, data=data, environment=environment, curve=curve_of(metrics))


# --------------------------------------------------------------------------------------------------------------------- the curve


def curve_of(metrics: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, float], ...]:
    """Return (tokens so far, bits per byte on the dev rows) from the records of a run, in their order."""
    tokens = 0
    points = []
    for record in metrics:
        tokens = int(record.get("tokens", tokens))
        value = record.get("dev", {}).get("bits_per_byte")
        if value is not None:
            points.append((tokens, float(value)))
    return tuple(points)


def curve_table(points: Sequence[tuple[int, float]]) -> list[str]:
    """Return a curve as a table, thinned to some 20 rows, the first and the last kept."""
    if not points:
        return []
    step = max(1, -(-(len(points) - 1) // POINTS))
    kept = [*points[:-1][::step], points[-1]]
    rows = [f"| {tokens / 1e6:.1f} | {value:.3f} |" for tokens, value in kept]
    return ["| tokens (millions) | bits per byte |", "|---|---|", *rows, ""]


# --------------------------------------------------------------------------------------------------------------------- the facts


def sources(training: Training) -> list[str]:
    """Return a line for each source: what it is, its rows, and how often a row is taken."""
    given = training.run_file["data"]["source"]
    weights = [
        source.get("weight", 1.0) if isinstance(source, Mapping) else 1.0
        for source in (given if isinstance(given, list) else [given])
    ]
    lines = []
    for number, source in enumerate(training.data["sources"]):
        name = source["name"] if source["name"].startswith("public:") else Path(source["name"]).name
        if number >= len(weights):  # dev and test rows, which are not learned, come after the sources
            break
        often = "" if weights[number] == 1 else f", weight {weights[number]:g}"
        lines.append(f"- `{name}`, {source['rows']:,} rows{often}: {KNOWN_SOURCES.get(name, 'see the run file')}")
    return lines


def how(training: Training, *, parameters: int) -> list[str]:
    """Return lines on optimizer, schedule, tokens and compute."""
    run, train = training.report["run"], training.run_file["train"]
    cpu = training.environment["cpu"]
    operations = 6 * parameters * run["tokens"]
    return [
        f"- {run['steps']:,} steps of {train['batch']} rows or windows, {run['tokens']:,} tokens in all, windows of at most "
        f"{training.run_file['data'].get('max_length', 'the longest')} tokens; technique `{run['technique']}`, objective `{run['objective']}`",
        f"- optimizer {train.get('optimizer', 'adamw')}, peak learning rate {train['learning_rate']:g}, schedule {train['schedule']}, "
        f"warm-up {train['warmup']:g}, weight decay {train['weight_decay']:g}, beta2 {train['beta2']:g}, gradients clipped at {train['clip']:g}",
        f"- {run['seconds'] / 3600:.1f} h on {run['device']} ({cpu['model']}, {cpu['cores']} cores), {run['tokens_per_second']:,.0f} tokens/s: "
        f"about {operations:.1e} operations (6 per parameter and token)",
    ]
