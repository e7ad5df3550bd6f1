"""Rows of the use case human-preferences: two replies to a customer, and which one the firm's raters prefer.

Northmoor Net and its raters do not exist. The raters' rule: a good reply names the trouble, says what happens next and by when, blames nobody and promises
nothing that the firm cannot keep. A rejected reply breaks the rule in one way; in the close calls both are friendly, and only what happens next is missing or
vague. A message with its way of breaking the rule is a group.
"""

from __future__ import annotations

import random
from typing import Any

from phrases import different, drawn, mixed

TROUBLES: dict[str, tuple[tuple[str, str], ...]] = {
    "the line": (
        ("My line has been down since {day}.", "A technician measures the line on {soon}"),
        ("No internet again, third time this {span}.", "We switch you to the spare line by {soon}"),
        ("The connection drops every {few} minutes.", "We restart your port and call you by {soon}"),
        ("still offline. what now?", "A technician is with you on {soon}"),
    ),
    "the bill": (
        ("My bill is {sum} too high.", "We correct the bill by {soon}"),
        ("You charged me twice in {month}.", "The second payment is back on your account by {soon}"),
        ("What is this fee of {sum}?", "We send you the list of all fees by {soon}"),
        ("I was promised {sum} a month, not more.", "The right price is in your contract by {soon}"),
    ),
    "the router": (
        ("The router blinks red.", "A new router is with you on {soon}"),
        ("The new router never came.", "A second parcel is with you on {soon}"),
        ("My router is hot and loud.", "We exchange it on {soon}"),
        ("wifi does not reach the kitchen", "We send a second station by {soon}"),
    ),
    "the move": (
        ("I am moving on {day}, nobody answers.", "Our planner calls you by {soon} with the date"),
        ("We moved and the line did not.", "The line moves on {soon}"),
        ("When is my move done?", "The last step is on {soon}"),
        ("the technician for our move did not come", "The technician comes on {soon}"),
    ),
    "the contract": (
        ("I want to end my contract.", "The end is confirmed by mail by {soon}"),
        ("You renewed my contract without asking.", "We take the renewal back by {soon}"),
        ("How do I change to the small plan?", "The small plan begins on {soon}"),
        ("My contract says {month}, yours says later.", "We send you the corrected date by {soon}"),
    ),
    "the appointment": (
        ("Nobody came on {day}.", "The technician comes again on {soon}"),
        ("I took a day off for nothing.", "You get {sum} for the lost day by {soon}"),
        ("Can the technician come after five?", "We give you an evening hour by {soon}"),
        ("your technician was at the wrong house", "We call you by {soon} with a fixed hour"),
    ),
    "the password": (
        ("I cannot log in.", "We unlock the portal by {soon}"),
        ("The code by text never arrives.", "A new code is in your mail by {soon}"),
        ("Your portal locked me out.", "We call you on {soon} and set it up together"),
        ("reset link is dead", "A new link is in your mail by {soon}"),
    ),
}
OPEN = ("", "", "Hi. ", "Hello, ", "Good evening. ", "Second message: ", "Please read this. ", "Urgent! ")
CLOSE = (
    "",
    " Customer {number}.",
    " Please help.",
    " Thanks, {name}",
    " Regards, {name}",
    " I am waiting.",
    " This is not funny any more.",
    " My number is {number}.",
)
SORRY = (
    "We are sorry about {x}.",
    "Sorry for the trouble with {x}.",
    "Thank you for telling us about {x}.",
    "You are right to complain about {x}.",
)
BAD = {
    "vague": ("We will look into it soon.", "Somebody will get back to you.", "It is being dealt with.", "We do our best."),
    "blame": (
        "You should have read the terms.",
        "Most people manage this by themselves.",
        "Did you even restart it?",
        "That is not our fault.",
    ),
    "promise": (
        "This will never happen again, guaranteed.",
        "We promise the fastest line in the country.",
        "You will be compensated for everything.",
    ),
    "rambling": (
        "At Northmoor Net the satisfaction of our customers has been close to our hearts for many years, and we value every message.",
        "As you know, networks are complex systems in which many parts work together, and sometimes they do not.",
    ),
    "no next step": ("We understand how annoying that is.", "Thank you for your patience.", "We wish you a pleasant day."),
}
SLOTS = {
    "day": ["Monday", "Tuesday", "Friday", "Sunday"],
    "soon": ["Tuesday noon", "Wednesday", "Thursday at ten", "Friday evening", "Monday at nine"],
    "span": ["week", "month"],
    "few": ["ten", "five", "twenty"],
    "sum": ["12 euros", "19 euros", "25 euros", "40 euros"],
    "name": ["Ines", "Mr Walsh", "Tom", "A. Sato", "Priya", "Mrs Keller"],
    "month": ["March", "May", "June", "October"],
}
PER_TROUBLE = 84


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found = []
    for trouble in TROUBLES:
        draw = random.Random(f"preference {trouble}")
        found += different(
            lambda t=trouble, d=draw: _row(t, d),
            PER_TROUBLE,
            key=lambda row: row["prompt"] + row["chosen"] + row["rejected"],
            tries=900,
        )
    return {"preferences.jsonl": mixed(found, "case")}


def _row(trouble: str, draw: random.Random) -> dict[str, Any]:
    """Return a message with a reply that keeps the rule and one that breaks it."""
    asked, then = draw.choice(TROUBLES[trouble])
    fault = draw.choice(list(BAD))
    good = f"{draw.choice(SORRY).format(x=trouble)} {drawn(then, draw, SLOTS)}."
    bad = [draw.choice(SORRY).format(x=trouble), draw.choice(BAD[fault])]
    if fault in ("blame", "promise") and draw.random() < 0.5:
        bad.append(drawn(then, draw, SLOTS) + ".")
    kind = "close call" if fault in ("vague", "no next step") else "plain"
    number = {"number": str(draw.randint(10000, 99999))}
    prompt = draw.choice(OPEN) + drawn(asked, draw, SLOTS) + drawn(f"x{draw.choice(CLOSE)}", draw, SLOTS, number)[1:]
    return {"prompt": prompt, "chosen": good, "rejected": " ".join(bad), "kind": kind, "group": f"{asked} {fault}"}
