"""Rows of the use case chatbot: what customers ask a shop for blinds, with the answer in the shop's words or the call of one of its two tools.

The shop, Loom & Ladder, does not exist. A question about the handbook gets the handbook's words; an order number gets the tool order_status; a complaint, a
wish for a person, what is none of the shop's business and what the handbook does not say are handed over, with the reason.
"""

from __future__ import annotations

import random
from typing import Any

from phrases import Wording, different, drawn, mixed, slipped, wordings

SLOTS = {
    "thing": ["roller blinds", "a roman blind", "the venetian blind", "two pleated blinds", "the roller blind", "vertical blinds"],
    "date": ["3rd", "12th", "20th", "28th"],
    "day": ["Monday", "Wednesday", "Friday", "Saturday"],
    "month": ["March", "April", "May", "June"],
    "sum": ["90", "110", "140", "200"],
    "long": ["140", "180", "210", "240"],
    "temp": ["30", "40", "60"],
    "years": ["two", "three", "four", "six"],
    "few": ["four", "six", "nine"],
    "town": ["Norwick", "Eastmere", "Stonewell", "Brindle"],
    "abroad": ["Norway", "Canada", "Portugal", "Chile"],
    "phone": ["0311 40 22", "0455 71 90"],
}
FORMS = ("LL-{}", "{}", "LL{}", "#{}")
GREETINGS = ("Hi, ", "Hello, ", "Good morning. ", "Dear team, ")
REASONS = {"complaint": "complaint", "person": "person wanted", "other": "not our business", "unknown": "not in the handbook"}
PER_WORDING = 4


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found = []
    for one in wordings("chatbot.txt"):
        draw = random.Random(f"chatbot {one.number}")
        made = different(lambda one=one, draw=draw: _row(one, draw), PER_WORDING, key=lambda row: row["messages"][0]["content"])
        found += [{**row, "group": str(one.number)} for row in made]
    return {"chatbot.jsonl": mixed(found, "case")}


def _row(one: Wording, draw: random.Random) -> dict[str, Any]:
    topic, _, reply = (part.strip() for part in one.heading.partition("|"))
    order = draw.choice(FORMS).format(draw.randint(20000, 79999))
    asked = drawn(one.line, draw, SLOTS, {"order": order})
    if asked[:1].isupper() and draw.random() < 0.2:
        asked = draw.choice(GREETINGS) + asked
    if reply:
        answer: dict[str, Any] = {"role": "assistant", "content": reply}
    elif topic == "order status":
        answer = _call("order_status", order="".join(sign for sign in order if sign.isdigit()))
    else:
        answer = _call("hand_over", reason=REASONS[topic.removeprefix("hand over ")])
    # An order number may not be changed by a slip of the hand.
    asked = asked if topic == "order status" else slipped(asked, draw)
    return {"messages": [{"role": "user", "content": asked}, answer], "kind": one.slice or "handbook"}


def _call(name: str, **arguments: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}],
    }
