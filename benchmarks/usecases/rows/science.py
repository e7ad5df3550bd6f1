"""Rows of the use case science-assistant: lines of test rigs and flight logs with units and limits, and what follows, with the figure it rests on.

Made up for burnish. A line names a quantity, a reading and a limit; the finding is whether the limit holds, whether it is close by the lab's rule, and the
reading that decides. Where the reading has another unit than the limit, or there is no limit, nothing can be found. A quantity with its reading and
limit is a group.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from phrases import different, mixed


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is measured: its names, unit, the readings (low, high, step) and the limits that it has."""

    name: str
    said: tuple[str, ...]
    unit: str
    low: int
    high: int
    step: int
    limits: tuple[int, ...]
    other: str


QUANTITIES = (
    Quantity("inlet pressure", ("inlet pressure", "p_in", "pressure at inlet"), "kPa", 110, 290, 10, (150, 200, 250), "C"),
    Quantity("oil temperature", ("oil temp", "oil temperature", "T_oil"), "C", 60, 140, 5, (90, 105, 120), "kPa"),
    Quantity("shaft speed", ("shaft speed", "n_shaft", "rotor speed"), "rpm", 1200, 4800, 200, (2000, 3000, 4000), "mm"),
    Quantity("vibration", ("vibration", "vib RMS", "v_rms"), "mm/s", 1, 14, 1, (4, 7, 11), "rpm"),
    Quantity("cell voltage", ("cell voltage", "U_cell", "cell V"), "mV", 2800, 4300, 100, (3000, 3600, 4200), "A"),
    Quantity("leak rate", ("leak rate", "leakage", "q_leak"), "ml/min", 5, 95, 5, (20, 40, 80), "mV"),
    Quantity("bank angle", ("bank angle", "bank", "roll"), "deg", 5, 75, 5, (30, 45, 60), "kt"),
    Quantity("descent rate", ("descent rate", "sink rate", "v_z"), "ft/min", 300, 1900, 100, (800, 1000, 1500), "deg"),
    Quantity("airspeed", ("airspeed", "IAS", "indicated airspeed"), "kt", 60, 240, 10, (90, 140, 200), "ft/min"),
)
WORDS = {"max": ("max", "limit", "not above", "<=", "upper limit"), "min": ("min", "at least", "not below", ">=", "lower limit")}
RIGS = ("Rig 2", "Rig 4", "Test 17", "Run 33", "Cycle 41", "Bench 3")
FLIGHTS = ("Flight 8", "Flight 23", "Sortie 12", "Leg 2", "Approach 4")
FLOWN = ("bank angle", "descent rate", "airspeed")
FORMS = (
    "{place}: {said} {value} {unit}, {word} {limit} {lunit}",
    "{place} | {said} | {value} {unit} | {word} {limit} {lunit}",
    "{said} read {value} {unit} on {place} ({word} {limit} {lunit})",
    "{place}, t={t} s: {said} = {value} {unit}; {word} {limit} {lunit}",
)
CLOSE = 0.1
"""Within this share of the limit a reading is close to it."""
PER_QUANTITY = 80


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found = []
    for quantity in QUANTITIES:
        draw = random.Random(f"science {quantity.name}")
        found += different(lambda q=quantity, d=draw: _row(q, d), PER_QUANTITY, key=lambda row: row["line"], tries=2000)
    return {"rig.jsonl": mixed(found, "line")}


def _row(quantity: Quantity, draw: random.Random) -> dict[str, Any]:
    """Return a line of a log with the finding."""
    value, limit = draw.randrange(quantity.low, quantity.high + 1, quantity.step), draw.choice(quantity.limits)
    side, case = draw.choice(("max", "max", "min")), draw.choice(("plain",) * 8 + ("no limit", "other unit"))
    shown = f"{value:,}" if value > 999 and draw.random() < 0.2 else str(value)
    words = {
        "place": draw.choice(FLIGHTS if quantity.name in FLOWN else RIGS), "said": draw.choice(quantity.said), "value": shown,
        "unit": quantity.other if case == "other unit" else quantity.unit, "word": draw.choice(WORDS[side]), "limit": str(limit), "lunit": quantity.unit,
        "t": str(draw.randint(3, 180)),
    }  # fmt: skip
    line = draw.choice(FORMS).format(**words)
    if case == "no limit":
        line = f"{words['place']}: {words['said']} {words['value']} {words['unit']}"
    fields = {"quantity": quantity.name, "finding": _finding(value, limit, side), "rests_on": f"{words['value']} {words['unit']}"}
    if case != "plain":
        fields["finding"] = "cannot tell"
    kind = (
        "nothing to find"
        if case != "plain"
        else "close to the limit"
        if "close" in fields["finding"] or value == limit
        else "plain"
    )
    return {"line": line, "finding": json.dumps(fields), "kind": kind, "group": f"{quantity.name} {value} {limit} {side} {case}"}


def _finding(value: int, limit: int, side: str) -> str:
    """Return the finding by the lab's rule: a reading on the limit holds it."""
    over = value > limit if side == "max" else value < limit
    near = abs(value - limit) <= CLOSE * limit
    return ("broken" if over else "held") + (", close" if near else "")
