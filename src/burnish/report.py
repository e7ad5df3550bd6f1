"""The report of a run: what was measured, for programs (report.json), for people (report.html) and for the terminal.

Enters: the report dict that `finish` made, and what lies in the run directory beside it (metrics, data report, resolved run file,
environment). Leaves: two files. All text of models and data is hostile: the page holds no script at all, its policy forbids every
request, and every text is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish import report_plot, runs
from burnish.errors import RunError
from burnish.report_words import (
    ARMS,
    BESIDE,
    duration,
    figure,
    headline_first,
    interval,
    losses,
    number,
    outcome,
    print_scores,
    slice_rows,
    verdict,
    visible,
)

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["page", "print_scores", "verdict", "write_report"]

ALL_OR_NOTHING = frozenset({"accuracy", "exact_match", "macro_f1"})
"""Scores by which an answer that is not the expected one is wrong, and not just worded otherwise."""

CONTACT_SHEET, MISTAKES = "contact-sheet.jpg", "mistakes.jpg"
"""Sheets of pictures in a run directory: what was learned from, and what the tuned model is most wrong about."""

_RECORDED = ("step", "steps", "loss", "learning_rate", "gradient_norm", "tokens", "tokens_per_second", "dev")
_SMALL = {"width": 300.0, "height": 160.0}
_SPACING = re.compile(r"[\s_]+|(?<=\w)-(?=\w)")


# ------------------------------------------------------------------------------------------------------------------------ the page


def write_report(run: runs.Run, report: Mapping[str, Any]) -> None:
    """Write report.json and report.html into a run directory, each complete or not at all, access tokens blanked out.

    The page is one file that needs nothing else. What is missing beside it is left out; what cannot be read is said on it.
    """
    runs.write_json(run.report_json, report)
    runs.write_text(run.report_html, page(run, report))


def page(run: runs.Run, report: Mapping[str, Any]) -> str:
    """Return the page of a report as HTML text."""
    problems: list[str] = []
    metrics = _metrics(run, problems)
    data = _json_file(run.data_json, problems)
    scores = _score_rows(report)
    view = {
        "report": report,
        "facts": report.get("run") or {},
        "scores": scores,
        "state": _state(report, scores),
        "slices": [{**_score_rows({"scores": {score: row}})[0], "slice": name} for name, score, row in slice_rows(report)],
        "general": _score_rows(report.get("forgetting") or {}),
        "plots": _plots(metrics, report),
        "data_reports": [{**one, "histogram": _histogram(one)} for one in (data.get("tasks") or {"": data}).values() if one],
        "environment": _json_file(run.environment_json, problems),
        "run_toml": _text_file(run.run_toml, problems),
        "examples": _examples(report),
        "classes": report.get("classes") or {},
        "sheets": _sheets(run),
        "notes": [*(report.get("notes") or []), *problems],
    }
    text = templates().get_template("report.html.j2").render(view)
    # Half a surrogate pair, which a row of data may hold, is not UTF-8.
    return text.encode(errors="backslashreplace").decode()


def templates() -> Environment:
    """Return the package's templates: everything put into them is escaped, and what a report lacks is nothing, at any depth."""
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("burnish", "templates"),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "visible": visible,
        "figure": figure,
        "interval": interval,
        "duration": duration,
        "digest": _digest,
        "pretty": lambda value: visible(json.dumps(value, indent=2, ensure_ascii=False)),
        "count": lambda value: "–" if number(value) is None else f"{value:,.0f}",
        "percent": lambda value: "–" if number(value) is None else f"{100 * value:.1f} %",
    }
    return templates


def _digest(style: str) -> str:
    """Return what the page's policy names its style sheet by, so that no other style, from data or model, applies."""
    return base64.b64encode(hashlib.sha256(str(style).encode()).digest()).decode()


# ------------------------------------------------------------------------------------------------- what lies in the run directory


def _metrics(run: runs.Run, problems: list[str]) -> list[dict[str, Any]]:
    try:
        return runs.read_metrics(run)
    except RunError as error:
        problems.append(f"There are no curves here, since the metrics cannot be read: {error}")
        return []


def _text_file(path: Path, problems: list[str]) -> str:
    """Return the text of a file, nothing where there is none; a file that cannot be read is added to the problems."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} could not be read and is left out here: {error}")
        return ""


def _json_file(path: Path, problems: list[str]) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one where there is none; a file that is something else is added to the problems."""
    if not (text := _text_file(path, problems)):
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name} is no JSON and is left out here: {error}")
        return {}
    if not isinstance(found, dict):
        problems.append(f"{path.name} holds no JSON object and is left out here")
        return {}
    return found


# ------------------------------------------------------------------------------------------------------------ parts of the page


def _sheets(run: runs.Run) -> list[dict[str, str]]:
    """Return the sheets of pictures that lie in the run directory, as the page holds them: a title and the bytes in base64."""
    titles = {
        CONTACT_SHEET: "Learned from, as the model sees it",
        MISTAKES: "Held-out rows it is most wrong about: label, and how likely it found it",
    }
    found = [(title, run.path / name) for name, title in titles.items() if (run.path / name).is_file()]
    return [{"title": title, "jpeg": base64.b64encode(path.read_bytes()).decode()} for title, path in found]


def _score_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the scores in the order of the page, each with its arms, its outcome and its interval plot."""
    from markupsafe import Markup

    rows = []
    for name, row in headline_first(report.get("scores") or {}, report.get("headline")):
        arms = {arm: row[arm] for arm in ARMS if isinstance(row.get(arm), Mapping)}
        drawn = [
            report_plot.Interval(arm, arm, mean, number(found.get("low")), number(found.get("high")))
            for arm, found in arms.items()
            if (mean := number(found.get("mean"))) is not None
        ]
        plot = Markup(report_plot.intervals(drawn, title=visible(name)))
        rows.append({**row, "name": name, "arms": arms, "outcome": outcome(row) if "difference" in row else "", "plot": plot})
    return rows


def _state(report: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]) -> str:
    """Return the outcome that colours the verdict: never "better" where something far cheaper does better by the headline score."""
    if not scores:
        return ""
    headline = {scores[0]["name"]: (report.get("scores") or {})[scores[0]["name"]]}
    beaten = any(losses(headline, scores[0]["name"], arm) for arm in BESIDE)
    return "unproven" if beaten and scores[0]["outcome"] == "better" else scores[0]["outcome"]


def _points(metrics: Sequence[Mapping[str, Any]], key: str) -> tuple[tuple[float, float], ...]:
    """Return (step, value) where a record has a number of this name, NaN and infinities too."""
    return tuple(
        (record["step"], float(value))
        for record in metrics
        if isinstance(value := record.get(key), int | float) and not isinstance(value, bool)
    )


def _plots(metrics: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the curves that have points: loss and dev scores large, learning rate, gradient norm and everything else small."""
    from markupsafe import Markup

    kept, last = number(report.get("best_step")), max((record["step"] for record in metrics), default=0)
    mark = (kept, f"kept: step {kept:,.0f}") if kept is not None and kept < last else None
    dev = [{**record["dev"], "step": record["step"]} for record in metrics if isinstance(record.get("dev"), Mapping)]
    dev_names = list(dict.fromkeys(name for record in dev for name in record if name != "step"))
    others = dict.fromkeys(name for record in metrics for name in record if name not in _RECORDED)
    small = ["learning_rate", "gradient_norm", *others, "tokens_per_second"]
    plots = [("Loss on training rows", report_plot.Curve("loss", "tuned", _points(metrics, "loss")), None, False)]
    plots += [(f"Dev rows: {name}", report_plot.Curve(visible(name), "dev", _points(dev, name)), mark, False) for name in dev_names]
    for name in small:
        words = visible(name).replace("_", " ")
        plots.append((words[:1].upper() + words[1:], report_plot.Curve(words, "quiet", _points(metrics, name)), None, True))
    return [
        {"title": title, "small": is_small, "svg": Markup(svg)}
        for title, curve, marked, is_small in plots
        if (svg := report_plot.curves([curve], title=visible(title), **(_SMALL if is_small else {}), mark=marked))
    ]


def _histogram(data: Mapping[str, Any]) -> Markup:
    """Return how many training rows have how many learned tokens, as bars."""
    from markupsafe import Markup

    bins = ((data.get("sides") or {}).get("train") or {}).get("trained_histogram") or []
    first = next((place for place, entry in enumerate(bins) if entry["rows"]), 0)
    rows = [
        (f"{entry['from']:,}" if entry["from"] == entry["to"] else f"{entry['from']:,}–{entry['to']:,}", entry["rows"])
        for entry in bins[first:]
    ]
    return Markup(report_plot.bars(rows, title="Learned tokens per training row"))


def _examples(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the examples, each answer marked "right" or "wrong" where the headline knows nothing between, else "right" or nothing."""
    strict = report.get("headline") in ALL_OR_NOTHING
    told = []
    for example in report.get("examples") or []:
        expected = _compared(example.get("expected"))
        answers = []
        for arm in ARMS:
            if arm in example:
                right = bool(expected) and _compared(example[arm]) == expected
                answers.append(
                    {"arm": arm, "text": example[arm], "mark": "right" if right else "wrong" if strict and expected else ""}
                )
        told.append({**example, "answers": answers})
    return told


def _compared(text: Any) -> tuple[str, ...]:
    """Return a text as its parts between commas, in one order and spelling, so that "Late, refund" is as right as "refund, late"."""
    parts = (_SPACING.sub(" ", part).strip(" \"'`.!?").casefold() for part in re.split(r"[,;\n]", str(text or "")))
    return tuple(sorted(part for part in parts if part))
