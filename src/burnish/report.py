"""The report of a run: what was measured, for programs (report.json), for people (report.html) and for the terminal.

Enters: the report dict that `finish` or `evaluate` made, and what lies in the run directory beside it (metrics, data report, resolved
run file, environment). Leaves: two files, a table, and a verdict that claims no more than the intervals carry. All text of models
and data is hostile: the page holds no script at all, its policy forbids every request, and every text is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from burnish import report_plot, runs
from burnish.errors import RunError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

ARMS = ("base", "tuned", "baseline", "model")
"""The arms that a table shows, in this order, where a score has them."""
ENOUGH_GROUPS = 15
"""From about here on a bootstrap over groups holds its level (`scores.intervals`)."""
ALL_OR_NOTHING = frozenset({"accuracy", "exact_match", "macro_f1"})
"""Scores by which an answer that is not the expected one is wrong, and not just worded otherwise."""
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]")


# ------------------------------------------------------------------------------------------------------------------------ verdict


def verdict(scores: Mapping[str, Mapping[str, Any]], headline: str | None) -> str:
    """Return in plain words whether tuning made the headline score better, with the figures behind it.

    "Better" and "worse" are said only where the interval of the difference excludes zero on that side; everything else is no proof.
    A linear baseline that is as good or better is named, and so are groups too few for the interval to be relied on.
    """
    if headline is None or headline not in scores:
        return "Nothing was measured."
    row = scores[headline]
    counted = f"{_plural(row.get('n'), 'held-out row')} in {_plural(row.get('groups'), 'group')}"
    if "difference" not in row:
        return _alone(row, headline, counted)
    found, change = outcome(row), _change(row, headline)
    opening = {"better": "Better", "worse": "Worse", "unproven": "No proof that it got better"}[found]
    low, high = number(row["difference"].get("low")), number(row["difference"].get("high"))
    if low is None or high is None:
        interval = "no interval can be given" + (f": {row['note']}" if row.get("note") else "")
    else:
        interval = f"95 % interval {figure(low, signed=True)} to {figure(high, signed=True)}"
        interval += ", which includes zero" if found == "unproven" else ""
    parts = [f"{opening}: {headline} {change} ({figure(row['difference'].get('mean'), signed=True)}; {interval}), on {counted}."]
    groups = row.get("groups")
    if isinstance(groups, int) and groups < ENOUGH_GROUPS and low is not None:
        parts.append("So few groups make the interval itself uncertain.")
    return " ".join([*parts, *_against_baseline(row)])


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
    return f"Measured alone, with no base to compare: {headline} {figure(arm.get('mean'))} ({_interval(arm)}), on {counted}."


def _against_baseline(row: Mapping[str, Any]) -> list[str]:
    """Return a sentence on the linear baseline: better, as good within the intervals, or behind; none where there is no baseline."""
    baseline, tuned = row.get("baseline"), row.get("tuned", {})
    theirs, ours = number((baseline or {}).get("mean")), number(tuned.get("mean"))
    if baseline is None or theirs is None or ours is None:
        return []
    sign = 1 if row.get("higher_is_better", True) else -1
    said = f"{figure(theirs)} ({_interval(baseline)})"
    if sign * theirs > sign * ours:
        return [f"A linear baseline does better than the tuned model: {said}."]
    if theirs == ours:
        return [f"A linear baseline does as well: {said}."]
    near, far = ("high", "low") if sign > 0 else ("low", "high")
    reach, edge = number(baseline.get(near)), number(tuned.get(far))
    if reach is None or edge is None or sign * reach >= sign * edge:
        return [f"A linear baseline is not clearly behind: {said}; the intervals overlap."]
    return [f"A linear baseline is behind: {said}."]


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
    if size and round(size, digits) == 0:
        return f"{found:{'+' if signed else ''}.1g}"
    return f"{found:{'+' if signed else ''},.{digits}f}"


def _interval(estimate: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    low, high = number((estimate or {}).get("low")), number((estimate or {}).get("high"))
    return "–" if low is None or high is None else f"{figure(low, signed=signed)} to {figure(high, signed=signed)}"


def _plural(count: Any, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}" if isinstance(count, int) else f"an unknown number of {noun}s"


def _duration(seconds: Any) -> str:
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
    ordered = _headline_first(scores, report.get("headline"))
    if ordered:
        arms = [arm for arm in ARMS if any(arm in row for _, row in ordered)]
        counts = {(row.get("n"), row.get("groups")) for _, row in ordered}
        differs = any("difference" in row for _, row in ordered)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("score", overflow="fold")
        places = arms[:2] + ["difference"] * differs + arms[2:] if "tuned" in arms else arms + ["difference"] * differs
        for column in places:
            table.add_column(column, justify="right")
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
    console.print(_plain(f"\n{report.get('verdict') or verdict(scores, report.get('headline'))}"), style="bold")


def _headline_first(scores: Mapping[str, Mapping[str, Any]], headline: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(scores.items(), key=lambda item: item[0] != headline)


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(visible(text))


def _cell(estimate: Mapping[str, Any] | None) -> Text:
    from rich.text import Text

    return Text("–") if not estimate else Text(figure(estimate.get("mean"))).append(f"\n{_interval(estimate)}", style="dim")


def _difference_cell(row: Mapping[str, Any]) -> Text:
    from rich.text import Text

    if not (difference := row.get("difference")):
        return Text("–")
    found = outcome(row)
    colour = {"better": "bold green", "worse": "bold red", "unproven": "yellow"}[found]
    shown = Text(f"{figure(difference.get('mean'), signed=True)} {found}", style=colour)
    return shown.append(f"\n{_interval(difference, signed=True)}", style="not bold")


# ------------------------------------------------------------------------------------------------------------------------ the page


def write_report(run: runs.Run, report: Mapping[str, Any]) -> None:
    """Write report.json and report.html into a run directory, each complete or not at all, access tokens blanked out.

    The page is one file that needs nothing else. What is missing beside it is left out; what cannot be read is said on it.
    """
    runs.write_json(run.report_json, report)
    runs.write_text(run.report_html, page(run, report))


def page(run: runs.Run, report: Mapping[str, Any]) -> str:
    """Return the page of a report as HTML text."""
    import jinja2

    problems: list[str] = []
    metrics = _metrics(run, problems)
    view = {
        "report": report,
        "facts": report.get("run") or {},
        "scores": _score_rows(report),
        "state": outcome((report.get("scores") or {}).get(report.get("headline"), {})) if report.get("headline") else "unproven",
        "plots": _plots(metrics, report),
        "data": _json_file(run.data_json, problems),
        "environment": _json_file(run.environment_json, problems),
        "run_toml": _text_file(run.run_toml, problems),
        "examples": _examples(report),
        "notes": [*(report.get("notes") or []), *problems],
    }
    view["histogram"] = _histogram(view["data"])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("burnish", "templates"),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "figure": figure, "interval": _interval, "duration": _duration, "digest": _digest}
    environment.filters["pretty"] = lambda value: visible(json.dumps(value, indent=2, ensure_ascii=False))
    environment.filters["count"] = lambda value: "–" if number(value) is None else f"{value:,.0f}"
    environment.filters["percent"] = lambda value: "–" if number(value) is None else f"{100 * value:.1f} %"
    text = environment.get_template("report.html.j2").render(view)
    return text.encode(errors="backslashreplace").decode()


def _digest(style: str) -> str:
    """Return what the page's policy names its style sheet by, so that no other style, from data or model, applies."""
    return base64.b64encode(hashlib.sha256(str(style).encode()).digest()).decode()


def _metrics(run: runs.Run, problems: list[str]) -> list[dict[str, Any]]:
    try:
        return runs.read_metrics(run)
    except RunError as error:
        problems.append(f"Curves are missing: {error}")
        return []


def _text_file(path: Any, problems: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} could not be read and is left out here: {error}")
        return ""


def _json_file(path: Any, problems: list[str]) -> dict[str, Any]:
    if not (text := _text_file(path, problems)):
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        problems.append(f"{path.name} is no JSON and is left out here: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _score_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    from markupsafe import Markup

    rows = []
    for name, row in _headline_first(report.get("scores") or {}, report.get("headline")):
        arms = {arm: row[arm] for arm in ARMS if isinstance(row.get(arm), Mapping)}
        drawn = [
            report_plot.Interval(arm, arm, mean, number(found.get("low")), number(found.get("high")))
            for arm, found in arms.items()
            if (mean := number(found.get("mean"))) is not None
        ]
        plot = Markup(report_plot.intervals(drawn, title=name))
        rows.append({**row, "name": name, "arms": arms, "outcome": outcome(row) if "difference" in row else "", "plot": plot})
    return rows


def _points(metrics: Sequence[Mapping[str, Any]], key: str) -> tuple[tuple[float, float], ...]:
    return tuple((record["step"], record[key]) for record in metrics if isinstance(record.get(key), int | float))


def _plots(metrics: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the curves of a run that have points, each with its heading: loss, dev scores, learning rate, gradient norm."""
    from markupsafe import Markup

    best = report.get("best_step")
    mark = (best, f"kept: step {best}") if isinstance(best, int) else None
    dev = [{"step": record["step"], **record["dev"]} for record in metrics if isinstance(record.get("dev"), Mapping)]
    names = list(dict.fromkeys(name for record in dev for name in record if name != "step"))
    plots = [("Loss on training rows", [report_plot.Curve("loss", "tuned", _points(metrics, "loss"))], None, False)]
    plots += [(f"Dev rows: {name}", [report_plot.Curve(name, "dev", _points(dev, name))], mark, False) for name in names]
    for title, key in (
        ("Learning rate", "learning_rate"),
        ("Gradient norm", "gradient_norm"),
        ("Tokens per second", "tokens_per_second"),
    ):
        plots.append((title, [report_plot.Curve(title.lower(), "quiet", _points(metrics, key))], None, True))
    drawn = []
    for title, lines, marked, small in plots:
        svg = report_plot.curves(lines, title=title, height=170 if small else 250, mark=marked)
        if svg:
            drawn.append({"title": title, "svg": Markup(svg), "small": small})
    return drawn


def _histogram(data: Mapping[str, Any]) -> Any:
    """Return how many rows have how many learned tokens, as bars."""
    from markupsafe import Markup

    bins = ((data.get("sides") or {}).get("train") or {}).get("trained_histogram") or []
    rows = [
        (f"{entry['from']:,}" if entry["from"] == entry["to"] else f"{entry['from']:,}–{entry['to']:,}", entry["rows"])
        for entry in bins
        if entry["rows"] or entry["from"]
    ]
    return Markup(report_plot.bars(rows, title="Learned tokens per training row"))


def _examples(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the examples, each answer with "right" or "wrong" where the scores know only these two, else with "same" or nothing."""
    strict = bool(ALL_OR_NOTHING & set(report.get("scores") or {}))
    told = []
    for example in report.get("examples") or []:
        expected = " ".join(str(example.get("expected") or "").split()).casefold()
        answers = []
        for arm in ("base", "tuned", "baseline", "model"):
            if arm in example:
                same = bool(expected) and " ".join(str(example[arm]).split()).casefold() == expected
                answers.append(
                    {"arm": arm, "text": example[arm], "mark": "right" if same else "wrong" if strict and expected else ""}
                )
        told.append({**example, "answers": answers})
    return told
