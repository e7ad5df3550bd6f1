"""The report in words: a verdict that claims no more than the intervals carry, figures as people read them, the table in a terminal.

Enters: the score table of a report. Leaves: sentences, figures, and a table for the terminal. `report` makes the page of the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

ARMS = ("base", "tuned", "zero_shot", "baseline", "blanked", "swapped", "model")
"""The arms that a table shows, in this order, where a score has them."""

BESIDE = {
    "baseline": "A classical baseline",
    "zero_shot": "The base, asked to write the answer (zero-shot),",
    "blanked": "The tuned model with blanked pictures",
    "swapped": "The tuned model with other rows' pictures",
}
"""How the arms are called that stand beside base and tuned model."""

ENOUGH_GROUPS = 15
"""From about here on a bootstrap over groups holds its level (`scores.intervals`)."""

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]")
"""Not the joiners U+200C and U+200D, which Persian, Hindi and many emoji are written with."""


# ------------------------------------------------------------------------------------------------------------------------ verdict


def verdict(scores: Mapping[str, Mapping[str, Any]], headline: str | None) -> str:
    """Return in plain words whether tuning made the headline score better, with the figures behind it.

    "Better" and "worse" are said only where the interval of the difference excludes zero on that side; everything else is no proof.
    It begins with where the tuned model loses to a classical baseline, or to the base that merely writes the answer, by any score: whoever
    reads one sentence reads that. Groups too few for the interval to be relied on are named.
    """
    if headline is None or headline not in scores:
        return "Nothing was measured."
    row = scores[headline]
    counted = f"{_plural(row.get('n'), 'row')} in {_plural(row.get('groups'), 'group')}"
    if "difference" not in row:
        return _alone(row, headline, counted)
    found, change = outcome(row), _change(row, headline)
    opening = {"better": "Better", "worse": "Worse", "unproven": "No proof that it got better"}[found]
    low, high = number(row["difference"].get("low")), number(row["difference"].get("high"))
    if low is None or high is None:
        told = "no interval can be given" + (f": {row['note']}" if row.get("note") else "")
    else:
        told = f"95 % interval {figure(low, signed=True)} to {figure(high, signed=True)}"
        told += ", which includes zero" if found == "unproven" else ""
    parts = [f"{opening}: {headline} {change} ({figure(row['difference'].get('mean'), signed=True)}; {told}), on {counted}."]
    groups = row.get("groups")
    if isinstance(groups, int) and groups < ENOUGH_GROUPS and low is not None:
        parts.append("So few groups make the interval itself uncertain.")
    return " ".join([*_lost(scores, headline), *parts, *(said for arm in BESIDE for said in _beside(row, arm))])


def outcome(row: Mapping[str, Any]) -> str:
    """Return "better", "worse" or "unproven" for a row of scores: whether the interval of the difference excludes zero, and where."""
    difference = row.get("difference") or {}
    low, high = number(difference.get("low")), number(difference.get("high"))
    if low is None or high is None or low <= 0 <= high:
        return "unproven"
    return "better" if (low > 0) == bool(row.get("higher_is_better", True)) else "worse"


def _change(row: Mapping[str, Any], headline: str) -> str:
    """Return "rose from 0.2 to 0.6", or what else it did."""
    before, after = number(row.get("base", {}).get("mean")), number(row.get("tuned", {}).get("mean"))
    if before is None or after is None:
        return f"is {figure(after)} beside {figure(before)} of the base"
    if before == after:
        return f"stayed at {figure(after)}"
    hint = "" if row.get("higher_is_better", True) else " (lower is better)"
    return f"{'rose' if after > before else 'fell'} from {figure(before)} to {figure(after)}{hint}"


def _alone(row: Mapping[str, Any], headline: str, counted: str) -> str:
    arm = next((row[name] for name in ARMS if name in row), {})
    return f"Measured alone, with no base to compare: {headline} {figure(arm.get('mean'))} ({interval(arm)}), on {counted}."


def losses(scores: Mapping[str, Mapping[str, Any]], headline: str | None, arm: str) -> list[tuple[str, float, float]]:
    """Return (score, the arm's value, the tuned model's) wherever an arm that stands beside does better, the headline first."""
    found = []
    for name, row in headline_first(scores, headline):
        theirs, ours = number((row.get(arm) or {}).get("mean")), number((row.get("tuned") or {}).get("mean"))
        sign = 1 if row.get("higher_is_better", True) else -1
        if theirs is not None and ours is not None and sign * theirs > sign * ours:
            found.append((name, theirs, ours))
    return found


def _lost(scores: Mapping[str, Mapping[str, Any]], headline: str) -> list[str]:
    """Return a sentence for each arm beside that does better than the tuned model, with the scores by which it does."""
    told = []
    for arm, name in BESIDE.items():
        parts = [
            f"{score} {figure(theirs)} ({interval(scores[score][arm])}), tuned {figure(ours)}"
            for score, theirs, ours in losses(scores, headline, arm)
        ]
        if parts:
            told.append(f"{name} does better: {'; '.join(parts)}.")
    return told


def _beside(row: Mapping[str, Any], arm: str) -> list[str]:
    """Return a sentence on an arm that does not do better: as good, or behind, within the intervals or beyond; none where there is none."""
    estimate, tuned = row.get(arm), row.get("tuned", {})
    theirs, ours = number((estimate or {}).get("mean")), number(tuned.get("mean"))
    if estimate is None or theirs is None or ours is None:
        return []
    sign = 1 if row.get("higher_is_better", True) else -1
    said = f"{figure(theirs)} ({interval(estimate)})"
    if sign * theirs > sign * ours:
        return []
    if theirs == ours:
        return [f"{BESIDE[arm]} does as well: {said}."]
    near, far = ("high", "low") if sign > 0 else ("low", "high")
    reach, edge = number(estimate.get(near)), number(tuned.get(far))
    if reach is None or edge is None or sign * reach >= sign * edge:
        return [f"{BESIDE[arm]} is not clearly behind: {said}; the intervals overlap."]
    return [f"{BESIDE[arm]} is behind: {said}."]


# ------------------------------------------------------------------------------------------------------------------------ numbers


def number(value: Any) -> float | None:
    """Return a value as a finite number, None for anything else: None, "nan" as JSON holds it, text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def figure(value: Any, *, signed: bool = False) -> str:
    """Return a figure with about three significant digits, never rounded to a zero that it is not; "–" where there is none."""
    found = number(value)
    if found is None:
        return "–"
    size = abs(found)
    digits = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    if 0 < size < 0.001:  # thousandths would show 0.0005 as its double, and less as nothing
        return f"{found:{'+' if signed else ''}.1g}"
    return f"{found:{'+' if signed else ''},.{digits}f}"


def interval(estimate: Mapping[str, Any] | None, *, signed: bool = False, between: str = " to ") -> str:
    """Return "0.582 to 0.722" for an estimate with an interval, "–" for one without; a minus sign is never beside another dash."""
    low, high = number((estimate or {}).get("low")), number((estimate or {}).get("high"))
    if low is None or high is None:
        return "–"
    return f"{figure(low, signed=signed)}{' to ' if signed or low < 0 else between}{figure(high, signed=signed)}"


def _plural(count: Any, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}" if isinstance(count, int) else f"an unknown number of {noun}s"


def duration(seconds: Any) -> str:
    """Return seconds as people say them: 8.2 s, 3 min 20 s, 2 h 5 min; "–" for what is no number."""
    found = number(seconds)
    if found is None:
        return "–"
    if found < 60:
        return f"{found:.1f} s"
    minutes, rest = divmod(round(found), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def visible(text: Any) -> str:
    """Return a text with characters that are not seen, or turn the direction of what follows, written out, such as \\u202e."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), str(text))


# -------------------------------------------------------------------------------------------------------------------- the terminal


def print_scores(report: Mapping[str, Any], console: Console) -> None:
    """Print the score table of a report, the headline first, each figure over its interval, and the verdict below."""
    from rich import box
    from rich.table import Table

    scores: Mapping[str, Mapping[str, Any]] = report.get("scores") or {}
    ordered = headline_first(scores, report.get("headline"))
    if ordered:
        arms = [arm for arm in ARMS if any(arm in row for _, row in ordered)]
        counts = {(row.get("n"), row.get("groups")) for _, row in ordered}
        differs = any("difference" in row for _, row in ordered)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("score", overflow="fold")
        places = arms[:2] + ["difference"] * differs + arms[2:] if "tuned" in arms else arms + ["difference"] * differs
        for column in places:
            table.add_column(column.replace("_", "-"), justify="right")
        if len(counts) > 1:
            table.add_column("rows\ngroups", justify="right")
        for name, row in ordered:
            cells = [_difference_cell(row) if place == "difference" else _cell(row.get(place)) for place in places]
            extra = [f"{row.get('n', '–')}\n{row.get('groups', '–')}"] if len(counts) > 1 else []
            table.add_row(_plain(name + ("" if row.get("higher_is_better", True) else "\n(lower is better)")), *cells, *extra)
        console.print(table)
        first = ordered[0][1]
        if len(counts) == 1:
            console.print(
                _plain(f"{_plural(first.get('n'), 'row')} in {_plural(first.get('groups'), 'group')}; 95 % intervals"), style="dim"
            )
        for note in dict.fromkeys(str(row["note"]) for _, row in ordered if row.get("note")):
            console.print(_plain(f"note: {note}"), style="dim")
    _print_slices(report, console)
    console.print(_plain(f"\n{report.get('verdict') or verdict(scores, report.get('headline'))}"), style="bold")
    for one in (report.get("single") or {}).values():
        console.print(_plain(one["told"]))
    if told := (report.get("forgetting") or {}).get("verdict"):
        console.print(_plain(told))


def slice_rows(report: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return (slice, score, row) of the score that decides, in each slice; of a run with several tasks, of each task's first score."""
    found = []
    for name, one in (report.get("by_slice") or {}).items():
        scores = one.get("scores") or {}
        first = report.get("headline") if report.get("headline") in scores else next(iter(scores), None)
        found += [(name, first, scores[first])] if first is not None else []
    return found


def _print_slices(report: Mapping[str, Any], console: Console) -> None:
    """Print how each slice does by the score that decides, nothing where rows name no slice."""
    from rich import box
    from rich.table import Table

    rows = slice_rows(report)
    if not rows:
        return
    arms = [arm for arm in ARMS if any(arm in row for _, _, row in rows)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("slice", overflow="fold")
    for column in [*arms[:2], "difference", *arms[2:]] if "tuned" in arms else arms:
        table.add_column(column.replace("_", "-"), justify="right", overflow="fold")
    table.add_column("rows\ngroups", justify="right")
    for name, score, row in rows:
        cells = [
            _difference_cell(row) if at.header == "difference" else _cell(row.get(str(at.header).replace("-", "_")))
            for at in table.columns[1:-1]
        ]
        table.add_row(_plain(f"{name}\n{score}"), *cells, f"{row.get('n', '–')}\n{row.get('groups', '–')}")
    console.print(table)


def headline_first(scores: Mapping[str, Mapping[str, Any]], headline: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the scores as (name, row), the headline first, the others in their order."""
    return sorted(scores.items(), key=lambda item: item[0] != headline)


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(visible(text))


def _cell(estimate: Mapping[str, Any] | None) -> Text:
    from rich.text import Text

    return (
        Text("–")
        if not estimate
        else Text(figure(estimate.get("mean"))).append(f"\n{interval(estimate, between='–')}", style="dim")
    )


def _difference_cell(row: Mapping[str, Any]) -> Text:
    from rich.text import Text

    if not (difference := row.get("difference")):
        return Text("–")
    found = outcome(row)
    colour = {"better": "bold green", "worse": "bold red", "unproven": "yellow"}[found]
    shown = Text(f"{figure(difference.get('mean'), signed=True)} {found}", style=colour)
    return shown.append(f"\n{interval(difference, signed=True)}", style="not bold")
