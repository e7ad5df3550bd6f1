"""The data report in a terminal.

In: the dict of `report.data_report` and a rich console. Out: tables, and the example with what is learned marked: by colour, and by
brackets where there is none. Texts of the data are shown as they are stored: control and direction characters are written out, so
that a row cannot steer the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

LABELS_SHOWN = 12
BAR = 24
_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]")
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def print_data_report(report: Mapping[str, Any], console: Console) -> None:
    """Print sources, sides, labels, trained tokens, findings, the marked example and the estimate of a data report.

    Of a run with several tasks, one after the other.
    """
    if "tasks" in report:
        for name, task in report["tasks"].items():
            console.print()
            share = f"{100 * task['share']:.0f} % of every step's rows"
            console.print(_plain(f"Task {name}: {share}, weight {task['weight']:g}"), style="bold underline")
            _print_task(task, console)
    else:
        _print_task(report, console)
    for note in report["notes"]:
        console.print(_plain(f"note: {note}"), style="dim")
    if estimate := report["estimate"]:
        _show(console, "Estimate", _estimate(estimate))
        console.print(_plain("assuming: " + "; ".join(estimate["assumes"]) + "."), style="dim")


def _print_task(report: Mapping[str, Any], console: Console) -> None:
    _sources(report, console)
    _show(console, "Rows", _sides(report["sides"]))
    _over_limit(report["sides"], console)
    if seen := report.get("pictures"):
        console.print(_plain(f"\n{seen['told']}"))
    if labels := report["labels"]:
        heading = f"Labels: {labels['count']:,}, the largest with {100 * labels['largest_share']:.0f} % of the rows"
        _show(console, heading, _labels(labels, list(report["sides"])))
    if histogram := report["sides"].get("train", {}).get("trained_histogram"):
        _show(console, "Learned tokens per training row", _histogram(histogram))
    _findings(report["findings"], console)
    if report["example"]:
        console.print(marked_example(report["example"], brackets=console.no_color or console.color_system is None))


def printable(text: str) -> str:
    """Return a text with characters that steer a terminal or are not seen written out, such as \\x1b; line breaks stay."""
    return _UNSEEN.sub(
        lambda found: "    " if found[0] == "\t" else found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text
    )


def marked_example(example: Mapping[str, Any], *, brackets: bool) -> Text:
    """Return the rendered example as styled text: trained pieces bold green, or within [[ ]] where `brackets`."""
    from rich.text import Text

    shown = Text(f"\nExample {printable(example['origin'])}: {example['trained_tokens']} of {example['tokens']} tokens learned")
    shown.append(" (within [[ ]])\n" if brackets else " (green)\n")
    for piece in example["pieces"]:
        text = printable(piece["text"])
        if piece["trained"] and brackets:
            shown.append(f"[[{text}]]")
        else:
            shown.append(text, style="bold green" if piece["trained"] else "dim")
    if example["left_out_tokens"]:
        shown.append(f"\n... {example['left_out_tokens']:,} more tokens")
    return shown


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(printable(text))


def _show(console: Console, heading: str, table: Table) -> None:
    # Not the table's own title, which would be folded to the table's width.
    console.print()
    console.print(_plain(heading), style="bold")
    console.print(table)


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table


def _sources(report: Mapping[str, Any], console: Console) -> None:
    for source in report["sources"]:
        facts = ", ".join(
            f"{key} {str(value)[:12] if key == 'sha256' else value}"
            for key, value in source.items()
            if key != "name" and isinstance(value, str | int | float) and value != ""
        )
        console.print(_plain(f"{source.get('name', 'source')}: {facts}"))


def _sides(sides: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("side", "rows", "groups", "tokens", "learned", "median", "p95", "longest")
    for column in table.columns:
        column.no_wrap = True
    for name, side in sides.items():
        cells = [name, f"{side['rows']:,}", _number(side["groups"])]
        if side["tokens"] is not None:
            spread = side["length"]
            lengths = [f"{spread[key]:,}" for key in ("median", "p95", "max")] if spread else ["-"] * 3
            cells += [f"{side['tokens']:,}", f"{100 * side['trained_share']:.0f} %", *lengths]
        table.add_row(*cells, *["-"] * (8 - len(cells)))
    return table


def _over_limit(sides: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Say how many rows are over the length limit and what becomes of them, where there are any."""
    for name, side in sides.items():
        if side["tokens"] is not None and side["over_limit"]:
            fate = ", ".join(f"{side[key]:,} {key}" for key in ("dropped", "cut") if side[key])
            console.print(_plain(f"{name}: {side['over_limit']:,} rows over the length limit" + (f": {fate}" if fate else "")))


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _labels(labels: Mapping[str, Any], sides: list[str]) -> Table:
    table = _table("label", *sides)
    rows = list(labels["rows"].items())
    for label, counts in rows[:LABELS_SHOWN]:
        table.add_row(_plain(label), *(f"{counts[side]:,}" for side in sides))
    if labels["count"] > LABELS_SHOWN:
        table.add_row(f"and {labels['count'] - LABELS_SHOWN:,} more", *("" for _ in sides))
    return table


def _histogram(bins: list[Mapping[str, int]]) -> Table:
    table = _table("tokens", "rows", "")
    table.columns[2].justify = "left"
    most = max(entry["rows"] for entry in bins) or 1
    for entry in bins:
        width = -(-BAR * entry["rows"] // most)
        reach = str(entry["from"]) if entry["from"] == entry["to"] else f"{entry['from']}-{entry['to']}"
        # No row with nothing to learn is the good case, not worth a line.
        if entry["rows"] or entry["from"]:
            table.add_row(reach, f"{entry['rows']:,}", "#" * width)
    return table


def _findings(findings: list[Mapping[str, Any]], console: Console) -> None:
    from rich.text import Text

    if not findings:
        console.print("Nothing found wrong with the data.")
    for found in findings:
        line = Text(f"{found['level']} ", style=_STYLES[found["level"]])
        line.append(f"{found['rule']}: ", style="bold")
        line.append(printable(found["message"]), style="default")
        console.print(line)


def _estimate(estimate: Mapping[str, Any]) -> Table:
    table = _table("what", "expected", "range")
    memory, seconds = estimate["memory"], estimate["time"]
    table.add_row("memory", _bytes(memory["expected"]), f"{_bytes(memory['low'])} to {_bytes(memory['high'])}")
    for part, size in sorted(memory["parts"].items(), key=lambda item: -item[1]):
        if size:
            table.add_row(f"  {part}", _bytes(size), "")
    if free := memory.get("free"):
        table.add_row(
            "memory free here", _bytes(free), "too little: micro-batches will be divided" if free < memory["expected"] else ""
        )
    table.add_row("steps", f"{estimate['steps']:,}", "")
    table.add_row("tokens", f"{estimate['tokens']:,.0f}", "")
    table.add_row("time", _duration(seconds["expected"]), f"{_duration(seconds['low'])} to {_duration(seconds['high'])}")
    return table


def _bytes(size: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} B"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
