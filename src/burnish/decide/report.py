"""The report of a decision: decision.json for programs, decision.html for people, a table for the terminal.

Enters: what `decision` found. Leaves: two files. All text of models, rows and documents is hostile: the page holds no script, its policy forbids every
request, and every text is escaped, as on the report of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish import runs
from burnish.decide import plots
from burnish.decide.words import asked, name_of
from burnish.report import templates
from burnish.report_words import figure, interval

if TYPE_CHECKING:
    from rich.console import Console

PLOTS = (
    ("Quality against cost", plots.quality_against_cost),
    ("Cost against questions", plots.cost_against_queries),
    ("After an update", plots.after_update),
    ("Learning against forgetting", plots.learning_against_forgetting),
    ("Where errors come from", plots.where_errors_come_from),
)


def write_report(folder: Path, decision: Mapping[str, Any]) -> None:
    """Write decision.json and decision.html, each complete or not at all."""
    runs.write_json(folder / "decision.json", decision)
    runs.write_text(folder / "decision.html", page(decision))


def page(decision: Mapping[str, Any]) -> str:
    """Return the page of a decision as HTML text: one file that needs nothing else."""
    from markupsafe import Markup

    columns, rows = asked(decision)
    view = {
        "decision": decision,
        "columns": columns,
        "asked": rows,
        "arms": [(name, name_of(name), plots.family(name), arm) for name, arm in decision["arms"].items()],
        "plots": [{"title": title, "svg": Markup(svg)} for title, draw in PLOTS if (svg := draw(decision))],
        "errors": plots.ERRORS,
        "name_of": name_of,
    }
    text = templates().get_template("decision.html.j2").render(view)
    return text.encode(errors="backslashreplace").decode()


def print_decision(decision: Mapping[str, Any], console: Console) -> None:
    """Print the advice and the table of arms, so that both read well at 80 columns."""
    from rich.table import Table
    from rich.text import Text

    score, found = decision["score"], decision["recommendation"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, how in (
        ("arm", "left"),
        (score, "right"),
        ("to the chosen", "right"),
        ("p50/p95 ms", "right"),
        ("fixed", "right"),
        ("per 1k", "right"),
    ):
        table.add_column(name, justify="left" if how == "left" else "right")
    for name, arm in decision["arms"].items():
        value, cost, timed = arm["scores"][score], arm.get("cost"), arm.get("latency")
        against = arm.get("against_chosen")
        chosen = found is not None and name == found["arm"]
        cells = [
            Text(f"{'→ ' if chosen else '  '}{name_of(name)}", style="bold" if chosen else "" if arm["offered"] else "dim"),
            Text(f"{figure(value['mean'])}\n{interval(value, between='–')}"),
            Text(
                "chosen"
                if chosen
                else "–"
                if against is None
                else f"{figure(against['mean'], signed=True)}\n{interval(against, signed=True)}"
            ),
            Text("–" if timed is None else f"{timed['p50']:.0f}/{timed['p95']:.0f}"),
            Text("–" if cost is None else f"{cost['fixed']:,.4g}"),
            Text("–" if cost is None else f"{1000 * cost['per_query']:,.4g}"),
        ]
        table.add_row(*cells)
    console.print(table)
    rows = decision["rows"]
    console.print(
        f"{rows['test']:,} held-out rows in {rows['groups']:,} groups; 95 % intervals; costs in {decision['unit']}; dim: diagnostics",
        style="dim",
    )
    for kind in ("failed", "left_out"):
        for name, reason in decision[kind].items():
            console.print(f"{name_of(name)}: {'failed' if kind == 'failed' else 'not carried out'}, {reason}", style="dim")
    console.print()
    for sentence in decision["sentences"]:
        console.print(sentence)
