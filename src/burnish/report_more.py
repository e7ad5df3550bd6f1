"""What was measured beside the scores, in a terminal: a comparison of several models, slices, worst rows, and whatever else was asked for.

Enters: a report of `evaluate` or `compare`, or its part "more". Leaves: tables and sentences on a console, each figure with its interval
and n. All text of rows and models is shown with what cannot be seen written out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from burnish.report_words import figure, interval, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def print_comparison(report: Mapping[str, Any], console: Console) -> None:
    """Print every model's scores under each other, and by how much each differs from the first."""
    names, first = list(report["models"]), report["first"]
    for score, row in report["scores"].items():
        cells = []
        for name in names:
            apart = (row.get("differences") or {name: row.get("difference")}).get(name) if name != first else None
            cells.append([name, _estimate(row.get(name)), "–" if name == first else _estimate(apart, signed=True)])
        _table(console, [score, "value", f"less {first}"], cells)
        console.print(_text(f"{row['n']:,} rows in {row['groups']:,} groups; 95 % intervals\n"), style="dim")


def print_more(report: Mapping[str, Any], console: Console) -> None:
    """Print what was measured beside the scores."""
    for name, slices in (report.get("slices") or {}).items():
        arms = _arms(slices)
        rows = [[one["value"], str(one["n"]), *(_estimate(one.get(arm)) for arm in arms)] for one in slices]
        _table(console, [name, "rows", *arms], rows)
        console.print(_text(f"{len(slices)} slices: a difference that shows in one of many may be luck.\n"), style="dim")
    _measures(report, console)
    for name, row in (report.get("harness") or {}).items():
        _table(console, [name, "value"], [[arm, _estimate(row[arm])] for arm in _arms([row])])
    if judge := report.get("judge"):
        _judge(judge, console)
    for row in report.get("worst") or []:
        console.print(_text(f"\n{row['origin']}: {shorten(row['prompt'], 300, placeholder=' …')}"), style="bold")
        console.print(_text(f"  expected: {shorten(row['expected'], 200, placeholder=' …')}"))
        for arm, said in row["answers"].items():
            console.print(_text(f"  {arm} ({figure(row['values'][arm])}): {shorten(said, 200, placeholder=' …')}"))


def _measures(report: Mapping[str, Any], console: Console) -> None:
    """Print consistency, abstention, calibration and forgetting: a line for each figure and arm."""
    shown = {
        "consistency": (
            ("samples", "samples agree"),
            ("paraphrases.agreement", "wordings agree"),
            ("paraphrases.all_right", "all wordings right"),
        ),
        "abstention": (("unanswerable", "“don’t know” where it is not told"), ("answerable", "“don’t know” where it is told")),
        "calibration": (("brier", "Brier score"), ("error", "certainty off by"), ("accuracy_at_80", "right among the surest 80 %")),
    }
    for measure, figures in shown.items():
        rows = []
        for arm, found in (report.get(measure) or {}).items():
            if not found["applicable"]:
                console.print(_text(f"{measure} of {arm} was not measured: {found['why']}"))
                continue
            for path, told in figures:
                value = found
                for part in path.split("."):
                    value = (value or {}).get(part)
                if value is not None:
                    rows.append([told, arm, _estimate(value), str(value["n"])])
        if rows:
            _table(console, [measure, "", "value", "n"], rows)
    for arm, found in (report.get("forgetting") or {}).items():
        console.print(_text(f"{arm}: {found['verdict']}"))


def _judge(judge: Mapping[str, Any], console: Console) -> None:
    for arm, found in judge["against"].items():
        style = "" if found["relied_on"] else "dim"
        console.print(
            _text(
                f"Judge {judge['judge']} against {arm}: better in {_estimate(found['better'])} of {found['better']['n']} rows, ties as halves "
                f"({found['wins']} better, {found['ties']} alike, {found['losses']} worse); among answers of about the same length "
                f"{_estimate(found['better_alike_in_length'])}. The order decided {_estimate(found['turned'])}."
            ),
            style=style,
        )
        people = found["people"]
        console.print(
            _text(
                f"{found['told']} It decided {_estimate(people['agreement'])} of {people['n']} pairs as people did, kappa {_estimate(people['kappa'])}."
            ),
            style=style,
        )


def _arms(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the arms in score rows."""
    return [key for key, value in rows[0].items() if isinstance(value, Mapping) and "mean" in value and key != "difference"]


def _estimate(found: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    """Return "0.600 (0.512 to 0.681)", "–" where there is none."""
    if not found or found.get("mean") is None:
        return "–"
    return f"{figure(found['mean'], signed=signed)} ({interval(found, signed=signed)})"


def _table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(_text(column), justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_text(cell) for cell in row))
    console.print(table)


def _text(value: str) -> Text:
    from rich.text import Text

    return Text(visible(value))
