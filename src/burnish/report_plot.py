"""Plots of the report, as SVG text that stands inside a page: curves over steps, intervals side by side, bars.

In: numbers and names, the names hostile like all text of a report (they are escaped here). Out: SVG without scripts, styles or
links; colours come from the page's classes, so that one drawing serves light, dark and paper. Every drawing says in words what it
shows (`role="img"` and a label), and points carry their values as tooltips.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

WIDTH = 400.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 16.0, 16.0, 40.0
MOST_POINTS = 600
"""Longer curves are thinned to about this many points, which is more than a screen can tell apart."""
MOST_DOTS = 120


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot: its name, its class in the page's style sheet, and points (step, value)."""

    name: str
    style: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """One row of an interval plot: a value, and its interval where there is one."""

    name: str
    style: str
    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """How values lie on a stretch of the drawing, evenly or by their logarithm, with the ticks to write beside it."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies, held inside the stretch."""
        low, high, place = (math.log(x) if self.logarithmic else x for x in (self.low, self.high, max(value, self.low)))
        return self.start + (self.end - self.start) * min(max((place - low) / (high - low), 0.0), 1.0)


# ------------------------------------------------------------------------------------------------------------ ticks and scales


def nice_ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return about `count` round numbers from at most `low` to at least `high`, in steps of 1, 2 or 5 times a power of ten.

    Source: P. Heckbert, "Nice numbers for graph labels", Graphics Gems (1990).
    """
    largest = max(abs(low), abs(high))
    if not high - low > 1e-6 * largest + 1e-290:  # closer than labels can tell apart
        middle, half = (low + high) / 2, (largest if largest > 1e-290 else 1.0) / 2
        low, high = middle - half, middle + half
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough * 0.999), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers from at most `low` to at least `high`, for a logarithmic axis: 1, 2 and 5 in each decade where few decades
    are to be shown, else every (or every second, third ...) power of ten.
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    if last - first > 2:
        return [10.0**power for power in range(first, last + 1, -(-(last - first) // 6))] + (
            [] if (last - first) % -(-(last - first) // 6) == 0 else [10.0**last]
        )
    found = [factor * 10.0**power for power in range(first, last) for factor in (1, 2, 5)] + [10.0**last]
    inside_low = max((tick for tick in found if tick <= low * (1 + 1e-9)), default=found[0])
    inside_high = min((tick for tick in found if tick >= high * (1 - 1e-9)), default=found[-1])
    inside = [tick for tick in found if inside_low <= tick <= inside_high]
    return inside if len(inside) > 1 else [10.0**first, 10.0**last]


def scale(values: Iterable[float], start: float, end: float, *, logarithmic: bool = False, count: int = 5) -> Scale:
    """Return a scale with round ticks that holds all finite values; without any it runs from 0 to 1."""
    finite = [value for value in values if drawable(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    ticks = log_ticks(low, high) if logarithmic else nice_ticks(low, high, count=count)
    return Scale(ticks[0], ticks[-1], start, end, tuple(ticks), logarithmic)


def spans_decades(values: Iterable[float]) -> bool:
    """Return whether values are all above zero and so far apart that a logarithmic axis shows them better."""
    finite = [value for value in values if drawable(value)]
    return bool(finite) and min(finite) > 1e-290 and max(finite) / min(finite) > 50


def drawable(value: float) -> bool:
    """Return whether a value has a place on an axis: a number, and none so large that a difference of two is none."""
    return abs(value) < 1e290


def label(value: float) -> str:
    """Return a number as people write it beside an axis: 0.25, 1,500, 20k, 3e-05."""
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e9):
        mantissa, _, power = f"{value:.4g}".partition("e")
        return f"{mantissa}e{int(power)}" if power else mantissa
    for least, factor, letter in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= least:
            return f"{value / factor:.6g}{letter}"
    return f"{value:,.6g}"


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return at most about `most` points that draw the same curve: of each stretch its lowest and highest point, so that no spike is
    lost, and every point that is not a number.
    """
    if len(points) <= most:
        return list(points)
    width = -(-2 * len(points) // most)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), width):
        part = points[start : start + width]
        finite = [point for point in part if drawable(point[1])]
        ends = {min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])} if finite else set()
        kept += [point for point in part if point in ends or not drawable(point[1])]
    return kept


# ---------------------------------------------------------------------------------------------------------------------- drawings


def curves(
    drawn: Sequence[Curve],
    *,
    title: str,
    width: float = WIDTH,
    height: float = 230.0,
    mark: tuple[float, str] | None = None,
) -> str:
    """Return a plot of curves over steps with axes, ticks, tooltips and, if given, one marked step; empty where there is no point.

    The vertical axis is logarithmic, and says so, where the values span decades. Values that are no numbers break the line and
    stand as crosses at the top.
    """
    drawn = [curve for curve in drawn if curve.points]
    if not drawn:
        return ""
    values = [value for curve in drawn for _, value in curve.points]
    logarithmic = spans_decades(values)
    across = scale((step for curve in drawn for step, _ in curve.points), LEFT, width - RIGHT, count=round(width / 75))
    # An axis of steps ends at the last step: a round number behind it would leave room for steps that were never made.
    last = max(step for curve in drawn for step, _ in curve.points)
    if last > across.low:
        ticks = tuple(tick for tick in across.ticks if tick <= last)
        across = Scale(across.low, last, across.start, across.end, ticks)
    up = scale(values, height - BOTTOM, TOP, logarithmic=logarithmic)
    parts = [*_axes(across, up, height, "step", "(log scale)" if logarithmic else "")]
    if mark is not None and across.low <= mark[0] <= across.high:
        parts.append(_marked(across.at(mark[0]), mark[1], height, width))
    for curve in drawn:
        parts += _curve(curve, across, up)
    ends = "; ".join(_in_words(curve) for curve in drawn)
    return _svg(f"{title}: {ends}", height, parts, width=width)


def _axes(across: Scale, up: Scale, height: float, x_name: str, y_name: str) -> Iterable[str]:
    bottom = height - BOTTOM
    for tick in up.ticks:
        y = up.at(tick)
        yield f'<line class="grid" x1="{LEFT:g}" x2="{across.end:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{escape(label(tick))}</text>'
    for tick in across.ticks:
        x = across.at(tick)
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:g}" y2="{bottom + 4:g}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{bottom + 17:g}" text-anchor="middle">{escape(label(tick))}</text>'
    yield f'<line class="axis" x1="{LEFT:g}" x2="{across.end:g}" y1="{bottom:g}" y2="{bottom:g}"/>'
    yield f'<text class="tick" x="{(across.start + across.end) / 2:g}" y="{height - 6:g}" text-anchor="middle">{escape(x_name)}</text>'
    if y_name.strip():
        yield f'<text class="tick" x="{LEFT + 4:g}" y="{TOP - 4:g}">{escape(y_name.strip())}</text>'


def _marked(x: float, words: str, height: float, width: float) -> str:
    right = x > width * 0.6
    place, anchor = (x - 5, "end") if right else (x + 5, "start")
    return (
        f'<line class="mark-line" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP:g}" y2="{height - BOTTOM:g}"/>'
        f'<text class="tick strong" x="{place:.1f}" y="{height - BOTTOM - 7:g}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def _curve(curve: Curve, across: Scale, up: Scale) -> Iterable[str]:
    points = thinned(curve.points)
    style = escape(curve.style)
    for finite, stretch in groupby(points, key=lambda point: drawable(point[1])):
        if finite:
            places = " ".join(f"{across.at(step):.1f},{up.at(value):.1f}" for step, value in stretch)
            yield f'<polyline class="line {style}" points="{places}"/>'
        else:
            for step, value in stretch:
                tip = escape(f"step {step:,.0f}: {curve.name} is {value}")
                yield f'<text class="broken" x="{across.at(step):.1f}" y="{TOP + 10:g}" text-anchor="middle">×<title>{tip}</title></text>'
    shown = [point for point in points if drawable(point[1])]
    few = len(shown) <= 30
    for step, value in shown if len(shown) <= MOST_DOTS else []:
        tip = escape(f"step {step:,.0f}: {curve.name} {value:.4g}")
        kind = "dot" if few else "dot faint"
        yield f'<circle class="{kind} {style}" cx="{across.at(step):.1f}" cy="{up.at(value):.1f}" r="{3.2 if few else 4:g}"><title>{tip}</title></circle>'


def _in_words(curve: Curve) -> str:
    finite = [point for point in curve.points if drawable(point[1])]
    if not finite:
        return f"{curve.name} has no value that is a number"
    (first, start), (last, end) = finite[0], finite[-1]
    return f"{curve.name} goes from {start:.4g} at step {first:,.0f} to {end:.4g} at step {last:,.0f}"


def intervals(rows: Sequence[Interval], *, title: str, width: float = 240.0) -> str:
    """Return one line per row with its value as a dot and its interval as a bar, all on one axis; empty without rows."""
    if not rows:
        return ""
    line, left = 17.0, 10.0
    height = line * len(rows) + 26
    values = [value for row in rows for value in (row.mean, row.low, row.high) if value is not None]
    across = scale(values, left, width - left - 4, count=3)
    bottom = height - 20
    parts = []
    for tick in across.ticks:
        x = across.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{bottom:g}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 5:g}" text-anchor="middle">{escape(label(tick))}</text>')
    for number, row in enumerate(rows):
        y, style = 4 + line * (number + 0.5), escape(row.style)
        tip = f"{row.name}: {row.mean:.4g}"
        if row.low is not None and row.high is not None:
            tip += f", 95 % interval {row.low:.4g} to {row.high:.4g}"
            low, high = across.at(row.low), across.at(row.high)
            parts.append(
                f'<line class="bar {style}" x1="{low:.1f}" x2="{high:.1f}" y1="{y:g}" y2="{y:g}"><title>{escape(tip)}</title></line>'
            )
        place = f'cx="{across.at(row.mean):.1f}" cy="{y:g}" r="4.5"'
        parts.append(f'<circle class="dot {style}" {place}><title>{escape(tip)}</title></circle>')
    words = "; ".join(f"{row.name} {row.mean:.4g}" for row in rows)
    return _svg(f"{title}: {words}", height, parts, width=width)


def bars(rows: Sequence[tuple[str, float]], *, title: str, width: float = WIDTH) -> str:
    """Return a horizontal bar for each (name, count), the longest filling the width; empty where nothing is counted."""
    most = max((count for _, count in rows), default=0)
    if not most:
        return ""
    line, left, right = 20.0, 84.0, 62.0
    parts = []
    for number, (name, count) in enumerate(rows):
        y, length = number * line, (width - left - right) * count / most
        parts.append(f'<text class="tick" x="{left - 8:g}" y="{y + 14:g}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="fill" x="{left:g}" y="{y + 3:g}" width="{length:.1f}" height="{line - 6:g}" rx="2"/>')
        parts.append(f'<text class="tick" x="{left + length + 6:.1f}" y="{y + 14:g}">{count:,.0f}</text>')
    words = "; ".join(f"{name}: {count:,.0f}" for name, count in rows)
    return _svg(f"{title}: {words}", line * len(rows), parts, width=width)


def _svg(words: str, height: float, parts: Iterable[str], *, width: float) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(words)}">{inside}</svg>'
