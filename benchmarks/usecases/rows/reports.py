"""Rows of the use case domain-language: shift reports of a plant, running text in its trade's words.

The plant does not exist. A report is made of entries of the use case technical-diagnosis, with what was found and done, in the words of fitters; it is a group.
"""

from __future__ import annotations

import json
import random
from typing import Any

import diagnosis
from phrases import drawn, mixed

SHIFTS = ("Early shift", "Late shift", "Night shift", "Weekend crew", "Stand-by")
WHO = ("Ortiz", "Banerjee", "Lindholm", "Kaya", "Wozniak", "the apprentice", "both fitters", "the electrician")
FOUND = (
    "{who} looked at {check} and found it: {cause}.",
    "{who} checked {check}; {cause}, as feared.",
    "Found {cause} at {check}.",
    "It was {cause}, seen at {check}.",
    "{who} says {cause}. Looked at {check}.",
)
OPEN = (
    "Not opened yet, {check} to be checked on the next stop. {who} thinks {cause}.",
    "Left for the day crew: {check}. Probably {cause}.",
    "{who} will look at {check}, we think {cause}.",
)
UNKNOWN = ("Nobody could say more.", "To be watched.", "{who} asked around, no answer.")
DONE = (
    "Exchanged and run in.",
    "Running again since {hour}.",
    "Spare part ordered.",
    "Bled, topped up, run.",
    "Locked out and tagged.",
    "Set, marked, photo in the file.",
)
WHEN = {"hour": ("2:40", "four", "11:15", "half past six", "noon", "19:30")}
REPORTS = 330


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    entries = diagnosis.rows()["diagnosis.jsonl"]
    draw = random.Random("reports")
    made = [_report(draw.sample(entries, k=3), number, draw) for number in range(REPORTS)]
    return {"reports.jsonl": mixed(made, "report")}


def _report(entries: list[dict[str, Any]], number: int, draw: random.Random) -> dict[str, Any]:
    """Return a report on three entries."""
    said = [f"{draw.choice(SHIFTS)}, {draw.randint(1, 28)} {draw.choice(('March', 'June', 'October'))}."]
    for entry in entries:
        fields = json.loads(entry["diagnosis"])
        facts = {"who": draw.choice(WHO), "cause": fields["cause"], "check": f"the {fields['check']}"}
        text = entry["entry"] if entry["entry"].endswith((".", "!")) else f"{entry['entry']}."
        known = "not enough" not in fields["cause"]
        lines = (FOUND if draw.random() < 0.7 else OPEN) if known else UNKNOWN
        said += [text[:1].upper() + text[1:], _sentence(drawn(draw.choice(lines), draw, {}, facts))]
        said += [drawn(draw.choice(DONE), draw, WHEN)] if known and draw.random() < 0.6 else []
    kinds = {entry["kind"] for entry in entries}
    return {"text": " ".join(said), "kind": "with a rare cause" if "rare causes" in kinds else "usual", "group": str(number)}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
