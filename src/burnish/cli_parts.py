"""What the verbs of the command line share: arguments that mean the same everywhere, and how results are shown.

Enters: values and reports. Leaves: text on standard output. Imported by the other files of this room, before anything heavy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.errors import UsageError

RunFile = Annotated[Path, typer.Argument(metavar="RUN.toml")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[a.b=c]…")]
Resume = Annotated[bool, typer.Option("--resume", help="go on from the last complete checkpoint")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON value on standard output, nothing else")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="at most this many rows")]
Format = Annotated[str, typer.Option("--format", help="format of the rows; auto guesses it")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="standard name = your column, such as text=message; repeatable")
]


def as_text(value: Any) -> str:
    """Return a value as text for a table."""
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def as_columns(given: list[str] | None) -> dict[str, str]:
    """Return --column NAME=COLUMN options as a mapping."""
    wrong = [item for item in given or [] if "=" not in item]
    if wrong:
        raise UsageError(f"--column {wrong[0]}: expected NAME=COLUMN, such as --column text=message")
    return dict(item.split("=", 1) for item in given or [])


def show_report(folder: Path, *, as_json: bool) -> None:
    """Print the report of a finished run."""
    import json

    if os.environ.get("RANK", "0") != "0":
        return
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if as_json:
        from burnish.terminal import print_json

        print_json({"output": str(folder), **report})
    else:
        show_scores(report)


def show_scores(report: dict[str, Any]) -> None:
    """Print the score table of a report, of one model or of several, and what was measured beside it."""
    from rich.console import Console

    from burnish.report import print_scores
    from burnish.report_more import print_comparison, print_more

    console = Console(highlight=False)
    if "models" in report:
        print_comparison(report, console)
    else:
        print_scores(report, console)
    print_more(report.get("more") or {}, console)
