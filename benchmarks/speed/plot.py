"""The picture of docs/performance.md: for each row, how quick each side is beside burnish, as bars.

Enters: the results. Leaves: SVG without scripts or links, in colours that are read on light and dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT, BAR, GAP = 760, 250, 130, 14, 12
COLOURS = {"burnish": "#2f7d5b"}
OTHER = "#8a94a3"
MEASURES = ("tokens_per_second", "pairs_per_second", "steps_per_second", "examples_per_second")
UNITS = {
    "tokens_per_second": "tokens/s",
    "pairs_per_second": "pairs/s",
    "steps_per_second": "steps/s",
    "examples_per_second": "examples/s",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: the row it belongs to, the side, what it reached and in what unit."""

    row: str
    side: str
    value: float
    unit: str


def bars(results: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    """Return the bars of every row in which burnish stands beside another: by the measure of its first figure, where it is a rate."""
    found: list[Bar] = []
    for result in results.values():
        sides = {arm: side["measures"] for arm, side in result.get("sides", {}).items() if "measures" in side}
        named = [figure["measure"] for figure in result["figures"] if figure["measure"] in MEASURES]
        if len(sides) > 1 and "burnish" in sides and named and result["row"] != "levers":
            found += [
                Bar(result["title"], arm, side[named[0]]["median"], UNITS[named[0]])
                for arm, side in sides.items()
                if named[0] in side
            ]
    return found


def draw(drawn: Sequence[Bar]) -> str:
    """Return the bars as SVG, each row on a scale of its own."""
    parts, y, row = [], 10.0, ""
    for bar in drawn:
        if bar.row != row:
            row = bar.row
            y += GAP
            parts.append(f'<text x="10" y="{y + 10:.0f}" font-weight="bold">{escape(row)}</text>')
            y += 18
        greatest = max(other.value for other in drawn if other.row == row)
        width = max(1.0, (WIDTH - LEFT - RIGHT) * bar.value / greatest)
        colour = COLOURS.get(bar.side, OTHER)
        parts.append(f'<text x="{LEFT - 8}" y="{y + 11:.0f}" text-anchor="end">{escape(bar.side)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y:.0f}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + width + 6:.0f}" y="{y + 11:.0f}">{bar.value:,.3g} {bar.unit}</text>')
        y += BAR + 4
    label = "Real work a second: burnish beside its peers, each row on a scale of its own"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 10:.0f}" role="img" aria-label="{label}" '
        f'font-family="sans-serif" font-size="12" fill="#7a8290">\n' + "\n".join(parts) + "\n</svg>\n"
    )
