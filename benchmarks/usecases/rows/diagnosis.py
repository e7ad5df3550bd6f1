"""Rows of the use case technical-diagnosis: log entries of a plant with the cause, what to check next and how urgent it is.

An entry names two signs of its cause. A pair of signs is a group, so that no pair stands on two sides of the split; single signs come back, as they do
in a plant's log.
Symptoms, causes and checks stand in diagnosis.txt. How urgent a case is follows from what the entry says of its consequences, by the plant's rule:
1 somebody could be hurt, 2 the line stands, 3 it runs with a loss, 4 it can wait for the next stop.
"""

from __future__ import annotations

import json
import random
from typing import Any

from phrases import Wording, different, drawn, mixed, slipped, wordings

SLOTS = {
    "pump": ["P-101", "P-204", "P-310", "P-7", "P-12B"],
    "motor": ["M-21", "M-33", "M-4", "M-118", "M-52"],
    "fan": ["F-3", "F-11", "exhaust fan 2", "F-6"],
    "conv": ["C-12", "C-4", "conveyor 7", "C-31", "conveyor 2"],
    "comp": ["K-1", "K-2", "compressor 3"],
    "press": ["press 5", "PR-2", "PR-9", "press 1"],
    "filler": ["filler 2", "FL-1", "FL-4", "filler 6"],
    "robot": ["robot R2", "R5", "palletiser 1"],
    "chill": ["chiller 1", "CH-2", "CH-3"],
    "sensor": ["B14", "B7", "B22", "S3", "S11"],
    "num": ["2", "3", "4", "5", "6", "8"],
    "low": ["1.5", "2", "3", "3.5"],
    "bar": ["4", "5", "6"],
    "amp": ["28", "31", "47"],
    "ampn": ["21", "25", "38"],
    "temp": ["-12", "-9", "-14"],
    "day": ["Monday", "Tuesday", "Friday"],
    "month": ["March", "May", "January", "August"],
}
ASSETS = ("pump", "motor", "fan", "conv", "comp", "press", "filler", "robot", "chill")
CONSEQUENCES = {
    "1": [
        "Guard is off and people walk past.",
        "Hot spray reaches the walkway.",
        "Operator got a shock from the frame.",
        "Smoke in the hall, we cleared it.",
        "Load hung over the aisle.",
        "Somebody nearly caught a hand.",
        "Emergency stop did not work.",
        "Oil on the stairs, one slipped.",
        "Sparks next to the solvent store.",
        "Burn on the forearm, first aid done.",
    ],
    "2": [
        "Line is down.",
        "Production stopped since {hour}.",
        "No standby, nothing runs.",
        "Whole shift sent home.",
        "We cannot run at all.",
        "Batch is stuck, order goes out tonight.",
        "Standing since the night shift.",
        "Stopped it, customer waits.",
        "Machine locked out, no output.",
        "Line {line} stands still.",
    ],
    "3": [
        "Running at half speed.",
        "Scrap up to 6 %.",
        "On the standby for now.",
        "We reset it every hour.",
        "One man extra to keep it going.",
        "Still running, loses about ten boxes a minute.",
        "Lane {line} closed, others run.",
        "Bucket under it, runs on.",
        "Slower than plan but going.",
        "Rework on every tray.",
    ],
    "4": [
        "No effect on output yet.",
        "Noticed on the round.",
        "Can wait for the stop in {month}.",
        "Runs fine otherwise.",
        "Only when cold, gone after a minute.",
        "For the list.",
        "Not urgent.",
        "Spare unit anyway, not in use.",
        "Please plan it in.",
        "Just so that you know.",
    ],
}
WHEN = {"hour": ["4:10", "six", "22:30", "noon", "2 am"], "line": ["1", "2", "3"], "month": ["April", "June", "October"]}
ROWS = {"": 30, "rare": 10, "edge": 4}
"""Rows of a usual cause and of a rare one; of an entry that says too little, of each wording."""


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    causes: dict[str, list[Wording]] = {}
    for one in wordings("diagnosis.txt"):
        causes.setdefault(one.heading, []).append(one)
    found = []
    for heading, said in causes.items():
        draw, count = random.Random(f"diagnosis {heading}"), ROWS[said[0].slice]
        if said[0].slice == "edge":
            for one in said:
                found += different(lambda one=one, draw=draw: _row(one, (one.line,), draw), count, key=lambda row: row["entry"])
            continue
        signs = [tuple(_signs(one.line)) for one in said]

        def make(said: list[Wording] = said, signs: list[tuple[str, ...]] = signs, draw: random.Random = draw) -> dict[str, Any]:
            while True:
                one, other = (draw.choice(signs[place]) for place in draw.sample(range(len(said)), k=2))
                if len({*_assets(one), *_assets(other)}) < 2:  # an entry is about one machine
                    return _row(said[0], (one, other), draw)

        found += different(make, count, key=lambda row: row["group"], tries=4000)
    return {"diagnosis.jsonl": mixed(found, "log")}


def _assets(sign: str) -> list[str]:
    """Return the kinds of machine that a sign names."""
    return [slot for slot in ASSETS if f"{{{slot}}}" in sign]


def _signs(line: str) -> list[str]:
    """Return the signs that a wording tells: its parts between commas where each says something by itself."""
    parts = line.split(", ", 1)
    return parts if all(len(part.split()) >= 3 for part in parts) else [line]


def _row(one: Wording, signs: tuple[str, ...], draw: random.Random) -> dict[str, Any]:
    """Return an entry with what is to be written for it: its signs, and a consequence before or behind them."""
    cause, check = (part.strip() for part in one.heading.split("|"))
    priority = draw.choice("1223334" if one.slice == "edge" else "1222333444")
    effect = drawn(draw.choice(CONSEQUENCES[priority]), draw, WHEN)
    names = {slot: draw.choice(words) for slot, words in SLOTS.items() if slot not in ("num", "low", "bar")}
    said = [drawn(sign, draw, SLOTS, names) for sign in signs]
    said[1:] = [sign.split(": ", 1)[-1] if _assets(signs[0]) else sign for sign in said[1:]]
    said[1:] = [
        sign if sign[:2].isupper() or not sign[:1].isupper() or sign[1:2] in "-0123456789" else sign[:1].lower() + sign[1:]
        for sign in said[1:]
    ]
    symptom = draw.choice((", ", ", ", "; ", ". Also ")).join(said)
    symptom = symptom[:1].upper() + symptom[1:]
    entry = f"{effect} {symptom}." if draw.random() < 0.3 else f"{symptom}. {effect}"
    answer = {"cause": cause, "check": check, "priority": int(priority)}
    kind = {"rare": "rare causes", "edge": "too little said"}.get(one.slice, "usual")
    group = f"{cause} {sorted(signs)}"
    return {"entry": slipped(entry, draw), "diagnosis": json.dumps(answer), "kind": kind, "group": group}
