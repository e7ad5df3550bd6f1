"""The five pictures of a decision, as SVG that stands inside the page: quality against cost, cost against questions, update, forgetting, errors.

Enters: what decision.json holds. Leaves: SVG text. Scales and labels are those of `report_plot`; colours come from the page's classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from burnish.decide.words import PROMPTED, RETRIEVAL, name_of
from burnish.report_plot import Scale, label, scale, spans_decades

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420.0, 280.0, 54.0, 14.0, 28.0, 42.0
ERRORS = ("right", "form", "evidence read wrong", "retrieval missed", "not in the documents", "closed book wrong")
"""What answers are counted as, in the order of a bar."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a plot, with an interval upwards where there is one, and the arm that it stands for."""

    arm: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def family(arm: str) -> str:
    """Return the class that colours an arm."""
    if arm in PROMPTED:
        return "prompting"
    return "retrieval" if arm in RETRIEVAL else "tuning" if arm == "tuned" else "both" if arm.startswith("tuned") else "other"


def scatter(points: Sequence[Point], *, title: str, across: str, up: str) -> str:
    """Return a plot of points with their intervals and names; empty without points. The axis across is logarithmic where values span decades."""
    if not points:
        return ""
    xs = scale([p.x for p in points], LEFT, WIDTH - RIGHT, logarithmic=spans_decades(p.x for p in points))
    ys = scale([v for p in points for v in (p.y, p.low, p.high) if v is not None], HEIGHT - BOTTOM, TOP)
    parts = _axes(xs, ys, across, up)
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda one: -one.y):
        x, y, style = xs.at(point.x), ys.at(point.y), family(point.arm)
        said = f"{name_of(point.arm)}{f', {point.note}' if point.note else ''}: {label(round(point.y, 4))} at {label(float(f'{point.x:.3g}'))}"
        if point.low is not None and point.high is not None:
            said += f", 95 % interval {point.low:.3f} to {point.high:.3f}"
            parts.append(
                f'<line class="bar {style}" x1="{x:.1f}" x2="{x:.1f}" y1="{ys.at(point.low):.1f}" y2="{ys.at(point.high):.1f}"/>'
            )
        parts.append(f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{escape(said)}</title></circle>')
        place = y + 4
        while any(abs(place - other) < 11 and abs(x - where) < 110 for where, other in taken):
            place += 11
        taken.append((x, place))
        right = x > WIDTH * 0.6
        anchor = f'x="{x - 8 if right else x + 8:.1f}" text-anchor="{"end" if right else "start"}"'
        parts.append(f'<text class="tick" {anchor} y="{place:.1f}">{escape(name_of(point.arm))}</text>')
    words = "; ".join(f"{name_of(p.arm)} {p.y:.3g} at {p.x:.3g}" for p in points)
    return _svg(f"{title}: {words}", parts)


def _axes(xs: Scale, ys: Scale, across: str, up: str) -> list[str]:
    parts, bottom = [], HEIGHT - BOTTOM
    for tick in ys.ticks:
        parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{ys.at(tick):.1f}" y2="{ys.at(tick):.1f}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6:g}" y="{ys.at(tick) + 4:.1f}" text-anchor="end">{escape(label(tick))}</text>'
        )
    for tick in xs.ticks:
        parts.append(f'<line class="axis" x1="{xs.at(tick):.1f}" x2="{xs.at(tick):.1f}" y1="{bottom:g}" y2="{bottom + 4:g}"/>')
        parts.append(
            f'<text class="tick" x="{xs.at(tick):.1f}" y="{bottom + 17:g}" text-anchor="middle">{escape(label(tick))}</text>'
        )
    parts.append(f'<line class="axis" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{bottom:g}" y2="{bottom:g}"/>')
    log = " (log scale)" if xs.logarithmic else ""
    parts.append(f'<text class="tick" x="{WIDTH / 2:g}" y="{HEIGHT - 8:g}" text-anchor="middle">{escape(across + log)}</text>')
    parts.append(f'<text class="tick" x="4" y="{TOP - 16:g}">{escape(up)}</text>')
    return parts


def _svg(words: str, parts: Sequence[str], *, height: float = HEIGHT) -> str:
    return f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(words)}">{"".join(parts)}</svg>'


# ------------------------------------------------------------------------------------------------------------------ the five plots


def quality_against_cost(decision: Mapping[str, Any]) -> str:
    """Return the deciding score of each arm against what a thousand questions cost."""
    score, unit = decision["score"], decision["unit"]
    points = [
        Point(name, 1000 * arm["cost"]["per_query"], value["mean"], value["low"], value["high"])
        for name, arm in decision["arms"].items()
        if "cost" in arm and (value := arm["scores"][score])["mean"] is not None
    ]
    return scatter(points, title="Quality against cost", across=f"{unit} per 1,000 questions", up=score)


def cost_against_queries(decision: Mapping[str, Any]) -> str:
    """Return what each arm costs in total by number of questions, updates as given, with the band of its measured cost per question."""
    arms = {name: arm["cost"] for name, arm in decision["arms"].items() if "cost" in arm and arm["offered"]}
    if not arms:
        return ""
    most = max(10 * decision["queries"], 1000.0)
    counts = np.geomspace(1.0, most, 60)

    def total(cost: Mapping[str, Any], queries: float, per_query: float) -> float:
        return max(cost["fixed"] + decision["updates"] * cost["per_update"] + queries * per_query, 1e-6)

    ends = [total(cost, at, cost["per_query"]) for cost in arms.values() for at in (1.0, most)]
    xs, ys = scale([1.0, most], LEFT, WIDTH - RIGHT, logarithmic=True), scale(ends, HEIGHT - BOTTOM, TOP, logarithmic=True)
    parts = _axes(xs, ys, "questions", f"total {decision['unit']}")
    for name, cost in arms.items():
        style = family(name)
        low, high = cost["band"]
        upper = [(xs.at(at), ys.at(total(cost, at, high))) for at in counts]
        lower = [(xs.at(at), ys.at(total(cost, at, low))) for at in reversed(counts)]
        parts.append(f'<polygon class="band {style}" points="{_places([*upper, *lower])}"/>')
        line = [(xs.at(at), ys.at(total(cost, at, cost["per_query"]))) for at in counts]
        parts.append(f'<polyline class="line {style}" points="{_places(line)}"><title>{escape(name_of(name))}</title></polyline>')
    x = xs.at(max(decision["queries"], 1.0))
    parts.append(f'<line class="mark-line" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP:g}" y2="{HEIGHT - BOTTOM:g}"/>')
    words = "; ".join(f"{name_of(name)} {total(cost, decision['queries'], cost['per_query']):.3g}" for name, cost in arms.items())
    return _svg(f"Total cost at {decision['queries']:,.0f} questions: {words}", parts)


def _places(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def after_update(decision: Mapping[str, Any]) -> str:
    """Return how many changed facts each way of updating answers rightly, against the seconds that it took."""
    ways = (decision.get("update") or {}).get("ways", [])
    points = [
        Point(
            way["arm"], max(way["seconds"], 0.001), way["direct"]["mean"], way["direct"]["low"], way["direct"]["high"], way["way"]
        )
        for way in ways
        if "failed" not in way and way["direct"]["mean"] is not None
    ]
    return scatter(points, title="After an update", across="seconds of the update", up="changed facts answered rightly")


def learning_against_forgetting(decision: Mapping[str, Any]) -> str:
    """Return the deciding score of each arm with weights of its own against how much harder general text became to read."""
    points = []
    for name, arm in decision["arms"].items():
        value = arm["scores"][decision["score"]]
        lost = ((arm.get("forgetting") or {}).get("scores") or {}).get("bits_per_byte", {}).get("difference", {}).get("mean")
        if value["mean"] is not None and arm["offered"] and (lost is not None or name == "zero_shot"):
            points.append(Point(name, lost or 0.0, value["mean"], value["low"], value["high"]))
    return scatter(points, title="Learning against forgetting", across="bits per byte lost on general text", up=decision["score"])


def where_errors_come_from(decision: Mapping[str, Any]) -> str:
    """Return a bar per arm, divided by whether its answers are right and where the others come from."""
    rows = [(name, arm["errors"]) for name, arm in decision["arms"].items() if arm["errors"]]
    if not rows:
        return ""
    line, left = 20.0, 150.0
    parts = []
    for number, (name, counted) in enumerate(rows):
        y, x, total = number * line, left, sum(counted.values())
        parts.append(f'<text class="tick" x="{left - 8:g}" y="{y + 14:g}" text-anchor="end">{escape(name_of(name))}</text>')
        for kind in ERRORS:
            if count := counted.get(kind, 0):
                width = (WIDTH - left - 6) * count / total
                style = f"error-{ERRORS.index(kind)}"
                tip = f"<title>{escape(f'{name_of(name)}: {kind}, {count} of {total}')}</title>"
                parts.append(
                    f'<rect class="{style}" x="{x:.1f}" y="{y + 3:g}" width="{width:.1f}" height="{line - 6:g}">{tip}</rect>'
                )
                x += width
    words = "; ".join(
        f"{name_of(name)}: {', '.join(f'{kind} {count}' for kind, count in counted.items())}" for name, counted in rows
    )
    return _svg(f"Where errors come from: {words}", parts, height=line * len(rows) + 4)
