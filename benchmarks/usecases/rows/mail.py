"""Rows of the use case mail-drafting: a brief of a few facts, and the mail that one of three houses makes of it.

A law office (formal), a bicycle shop (friendly) and an engineering office (terse) do not exist. What a mail says is made of the matter's sentence and the
house's rules: address, opening, the facts, the closing. A matter of one receiver is a group.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from phrases import drawn, mixed

HOUSES = ("law office", "bike shop", "engineers")
SIGNED = {"law office": ("A. Ferrant", "H. Osei"), "bike shop": ("Juno", "Pete"), "engineers": ("MK", "TS", "RB")}
FIRST = (
    "Ines",
    "Tom",
    "Amara",
    "Lukas",
    "Priya",
    "Oscar",
    "Mina",
    "Ben",
    "Sofia",
    "Yusuf",
    "Clara",
    "Emeka",
    "Hana",
    "Leo",
    "Ruth",
    "Viktor",
)
LAST = (
    "Okafor",
    "Lindqvist",
    "Barros",
    "Mehta",
    "Sato",
    "Keller",
    "Novak",
    "Amadi",
    "Ferreira",
    "Walsh",
    "Haddad",
    "Dubois",
    "Moreau",
    "Ito",
)
TITLES = {"f": "Ms", "m": "Mr"}
OF: dict[str, str] = dict(zip(FIRST, "fmfmfmfmfmfmfmfm", strict=True))

FACTS = {
    "day": ["3 May", "12 May", "20 May", "7 June", "18 June", "2 July", "15 July", "28 August"],
    "later": ["9 May", "26 May", "1 June", "14 June", "30 June", "11 July", "22 July", "4 September"],
    "time": ["9:00", "10:30", "13:15", "14:00", "16:45"],
    "sum": ["85 euros", "120 euros", "240 euros", "310 euros", "1,450 euros", "36 euros"],
    "ref": [],
    "place": ["room 3", "the Norwick office", "gate B", "the workshop", "level 2"],
    "item": ["the contract", "the invoice", "the drawing", "the offer", "the report", "the key"],
}


@dataclass(frozen=True, slots=True)
class Matter:
    """What a mail is about: the brief, what each house makes of it, and what the receiver is to do."""

    name: str
    brief: str
    law: str
    shop: str
    engineers: str


MATTERS = (
    Matter(
        "appointment moved",
        "moved {day} -> {later}, {time}",
        "We have to move our appointment of {day} to {later} at {time}.",
        "we need to move you from {day} to {later}, {time}.",
        "Appointment {day} moved to {later}, {time}.",
    ),
    Matter(
        "appointment confirmed",
        "confirm {day} {time}, {place}",
        "We confirm your appointment on {day} at {time}, {place}.",
        "see you on {day} at {time}, {place}.",
        "Confirmed: {day}, {time}, {place}.",
    ),
    Matter(
        "invoice overdue",
        "invoice {ref} {sum} unpaid since {day}",
        "Invoice {ref} for {sum} has been due since {day}.",
        "a small reminder: {ref} over {sum} is open since {day}.",
        "Open: {ref}, {sum}, due {day}.",
    ),
    Matter(
        "payment received",
        "got {sum} for {ref}",
        "We have received your payment of {sum} for {ref}.",
        "your {sum} for {ref} arrived, thank you.",
        "Received: {sum}, {ref}.",
    ),
    Matter(
        "document missing",
        "need {item} for {ref} by {day}",
        "For matter {ref} we still need {item} by {day}.",
        "could you send us {item} for {ref} by {day}?",
        "Missing for {ref}: {item}. Needed by {day}.",
    ),
    Matter(
        "document sent",
        "{item} for {ref} attached",
        "Please find attached {item} for {ref}.",
        "here comes {item} for {ref}.",
        "Attached: {item}, {ref}.",
    ),
    Matter(
        "delay",
        "{ref} late, new date {later}",
        "Matter {ref} is delayed. The new date is {later}.",
        "sorry, {ref} takes longer. The new date is {later}.",
        "{ref} late. New date: {later}.",
    ),
    Matter(
        "ready",
        "{ref} ready, pick up at {place} until {time}",
        "{ref} is ready and can be collected at {place} until {time}.",
        "{ref} is ready! Come by at {place} until {time}.",
        "{ref} ready. Pick up: {place}, until {time}.",
    ),
    Matter(
        "price changed",
        "{ref} now {sum} from {day}",
        "From {day} the price of {ref} is {sum}.",
        "from {day} on {ref} costs {sum}.",
        "{ref}: {sum} from {day}.",
    ),
    Matter(
        "cancelled",
        "{ref} cancelled, refund {sum}",
        "{ref} has been cancelled. You will be refunded {sum}.",
        "{ref} is cancelled and {sum} are on their way back to you.",
        "{ref} cancelled. Refund: {sum}.",
    ),
)
PER_MATTER = 26
MOODS = ("", "", "", "apologise", "thank")


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found = []
    for matter in MATTERS:
        draw = random.Random(f"mail {matter.name}")
        for number in range(PER_MATTER):
            facts = _facts(draw)
            two = draw.choice([one for one in MATTERS if one is not matter]) if draw.random() < 0.12 else None
            for house in draw.sample(HOUSES, k=2):
                found.append({**_row((matter, two), house, facts, draw), "group": f"{matter.name} {number}"})
    return {"mail.jsonl": mixed(found, "mail")}


def _facts(draw: random.Random) -> dict[str, str]:
    """Return who is written to and what about; a later day is later."""
    place = draw.randrange(len(FACTS["day"]))
    facts = {name: draw.choice(words) for name, words in FACTS.items() if words} | {"day": FACTS["day"][place]}
    later = draw.choice(FACTS["later"][place:])
    return facts | {"later": later, "ref": f"R-{draw.randint(1800, 2399)}", "first": draw.choice(FIRST), "last": draw.choice(LAST)}


def _row(matters: tuple[Matter, Matter | None], house: str, facts: dict[str, str], draw: random.Random) -> dict[str, Any]:
    """Return a brief as somebody jots it down, and the mail by the house's rules."""
    signed, mood, known = draw.choice(SIGNED[house]), draw.choice(MOODS), draw.random() > 0.12
    title = TITLES[OF[facts["first"]]]
    name = f"{title} {facts['first']} {facts['last']}" if known else f"{title} {facts['last']}"
    told = [drawn(matter.brief, draw, FACTS, facts) for matter in matters if matter is not None]
    to = [f"to {name}", *told] if draw.random() < 0.3 else [name, *told]
    brief = draw.choice(("; ", " / ", ", ")).join([*to, *([mood] if mood else []), f"from {signed}"])
    said = [drawn(_words(matter, house), draw, FACTS, facts) for matter in matters if matter is not None]
    said[1:] = [one[:1].upper() + one[1:] for one in said[1:]]
    opening = {"law office": f"Dear {title} {facts['last']},", "engineers": f"{facts['last']}:"}.get(house)
    opening = opening or (f"Hi {facts['first']}," if known else f"Hi {title} {facts['last']},")
    mail = [opening, " ".join([*said, *([EXTRA[mood][house]] if mood else [])]), CLOSING[house], signed]
    kind = "two matters" if len(told) == 2 else "no first name" if not known else "with a mood" if mood else "plain"
    return {"house": f"House: {house}", "brief": brief, "mail": "\n".join(mail), "kind": kind}


def _words(matter: Matter, house: str) -> str:
    return {"law office": matter.law, "bike shop": matter.shop, "engineers": matter.engineers}[house]


CLOSING = {"law office": "Yours sincerely,", "bike shop": "Ride safe,", "engineers": "Regards,"}
EXTRA = {
    "apologise": {"law office": "Please accept our apologies.", "bike shop": "So sorry about that!", "engineers": "Apologies."},
    "thank": {"law office": "We thank you for your patience.", "bike shop": "You are a star!", "engineers": "Thanks."},
}
