"""What the run directories of a bundled model tell about its training: data, settings, machine, and the curve.

In: run directories as `burnish pretrain` or `burnish tune` leave them, one for each stretch of a training. Out: `Training`s, and their
facts as lines of Markdown. Used by `base_page.py` and `cards.py`.
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
    "reading_more.jsonl": "more dialogs of the same making",
    "reading_chat.jsonl": "more dialogs of the same making",
    "labelling.jsonl": "texts to label by example, the labels invented (`benchmarks/base/labels.py`): sentences of the books, CC BY 4.0",
    "copying.jsonl": "texts to repeat word for word (`benchmarks/base/copying.py`): sentences of the books, CC BY 4.0, and words in an order of chance",
    "questions.jsonl": "exercises with solutions of the books, CC BY 4.0, and arithmetic problems of gsm8k, MIT",
    "public:gsm8k": "arithmetic problems in words (gsm8k), MIT",
    "public:instruct_rasbt": "short instructions with answers (instruct_rasbt), Apache-2.0",
    "instruct_rasbt": "short instructions with answers (instruct_rasbt), Apache-2.0",
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a run directory says: its name, run file, report, data and machine, and its curve of (tokens, value of its first score)."""

    name: str
    run_file: Mapping[str, Any]
    report: Mapping[str, Any]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    curve: tuple[tuple[int, float], ...]

    @property
    def score(self) -> str:
        """The score that the curve is of."""
        return self.run_file["score"][0]

    @property
    def window(self) -> int:
        """The longest sequence in tokens that was learned from."""
        return self.data["sides"]["train"]["limit"]


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
    return Training(
        name=folder.name,
        run_file=run_file,
        report=report,
        data=data,
        environment=environment,
        curve=curve_of(metrics, run_file["score"][0]),
    )


# --------------------------------------------------------------------------------------------------------------------- the curve


def curve_of(metrics: Sequence[Mapping[str, Any]], score: str) -> tuple[tuple[int, float], ...]:
    """Return (tokens so far, score on the dev rows) from the records of a run, in their order."""
    tokens = 0
    points = []
    for record in metrics:
        tokens = int(record.get("tokens", tokens))
        value = record.get("dev", {}).get(score)
        if value is not None:
            points.append((tokens, float(value)))
    return tuple(points)


def curve_table(trainings: Sequence[Training]) -> list[str]:
    """Return the curve of stretches that follow each other as a table, thinned to some 20 rows, the first and the last kept."""
    before = 0
    points: list[tuple[int, float]] = []
    for training in trainings:
        points += [(before + tokens, value) for tokens, value in training.curve]
        before += training.report["run"]["tokens"]
    if not points:
        return []
    step = max(1, -(-(len(points) - 1) // POINTS))
    kept = [*points[:-1][::step], points[-1]]
    digits = 1 if kept[-1][0] >= 10e6 else 2
    rows = [f"| {tokens / 1e6:.{digits}f} | {value:.3f} |" for tokens, value in kept]
    return [f"| tokens (millions) | {trainings[-1].score} |", "|---|---|", *rows, ""]


# --------------------------------------------------------------------------------------------------------------------- the facts


def sources(trainings: Sequence[Training]) -> list[str]:
    """Return a line for each source of each stretch: what it is, its rows, and how often a row is taken."""
    lines = []
    for training in trainings:
        given = training.run_file["data"]["source"]
        listed = given if isinstance(given, list) else [given]
        weights = [source.get("weight", 1.0) if isinstance(source, Mapping) else 1.0 for source in listed]
        lines += [f"In `{training.name}`:", ""] if len(trainings) > 1 else []
        # Rows of dev and test, from which nothing is learned, come after the sources.
        for weight, source in zip(weights, training.data["sources"], strict=False):
            name = source["name"] if source["name"].startswith("public:") else Path(source["name"]).name
            often = "" if weight == 1 else f", weight {weight:g}"
            lines.append(f"- `{name}`, {source['rows']:,} rows{often}: {KNOWN_SOURCES.get(name, 'see the run file')}")
        lines.append("")
    return lines


def how(trainings: Sequence[Training], *, parameters: int) -> list[str]:
    """Return lines on optimizer, schedule, tokens and compute of each stretch."""
    lines = []
    for training in trainings:
        run, train = training.report["run"], training.run_file["train"]
        cpu = training.environment["cpu"]
        operations = f"{6 * parameters * run['tokens']:.1e}"
        lines += [f"`{training.name}`:", ""] if len(trainings) > 1 else []
        lines += [
            f"- {run['steps']:,} steps of {train['batch']} rows or windows, {run['tokens']:,} tokens in all, at most {training.window:,} "
            f"at once; technique `{run['technique']}`, objective `{run['objective']}`",
            f"- optimizer {train.get('optimizer', 'adamw')}, peak learning rate {train['learning_rate']:g}, schedule {train['schedule']}, "
            f"warm-up {train['warmup']:g}, weight decay {train['weight_decay']:g}, beta2 {train['beta2']:g}, gradients clipped at {train['clip']:g}",
            f"- {run['seconds'] / 3600:.1f} h on {run['device']} ({cpu['model']}, {cpu['cores']} cores), {run['tokens_per_second']:,.0f} "
            f"tokens/s: about {operations} operations (6 per parameter and token)",
            "",
        ]
    return lines
