"""Rows of the use case summarise-translate: notices to tenants, each summarised in the house's style or put into German with the house's glossary.

The houses do not exist. What a notice says (what, where, from when to when, why) stands in both forms; greetings, thanks and advice stand in neither. The
German words of the glossary are the house's, also where a dictionary has others. A notice's facts are a group.
"""

from __future__ import annotations

import random
from typing import Any

from phrases import drawn, mixed

GLOSSARY = {
    "lift": ("Der Aufzug", "Lift"),
    "heating": ("Die Heizung", "Heating"),
    "hot water": ("Das Warmwasser", "Hot water"),
    "garage door": ("Das Garagentor", "Garage door"),
    "laundry room": ("Die Waschküche", "Laundry"),
    "intercom": ("Die Sprechanlage", "Intercom"),
    "stairway light": ("Das Treppenlicht", "Stair light"),
    "bin room": ("Der Müllraum", "Bin room"),
    "cable TV": ("Das Kabelfernsehen", "TV"),
    "bicycle cellar": ("Der Fahrradkeller", "Bike cellar"),
    "roof terrace": ("Die Dachterrasse", "Terrace"),
    "car charger": ("Die Ladesäule", "Charger"),
}
WHY = {
    "a pump is replaced": ("eine Pumpe wird ersetzt", "pump"),
    "the yearly check is due": ("die Jahresprüfung steht an", "check"),
    "a cable is damaged": ("ein Kabel ist beschädigt", "cable"),
    "the walls are painted": ("die Wände werden gestrichen", "paint"),
    "a pipe leaks": ("ein Rohr ist undicht", "leak"),
    "the lock is changed": ("das Schloss wird getauscht", "lock"),
    "the floor is renewed": ("der Boden wird erneuert", "floor"),
    "parts are missing": ("Teile fehlen", "parts"),
}
DAYS = (
    "2 May",
    "9 May",
    "17 May",
    "4 June",
    "11 June",
    "23 June",
    "6 July",
    "15 July",
    "28 July",
    "3 August",
    "19 August",
    "30 August",
)
MONTHS = {"May": "Mai", "June": "Juni", "July": "Juli", "August": "August"}
HOUSES = ("A", "B", "C", "D", "12", "14", "16")
LINES = (
    "The {thing} in house {house} will be out of order from {first} to {last}, because {why}.",
    "From {first} to {last} you cannot use the {thing} in house {house}: {why}.",
    "We have to close the {thing} of house {house} from {first} until {last}, since {why}.",
    "House {house}: no {thing} between {first} and {last}. The reason is that {why}.",
    "As {why}, the {thing} in house {house} is not available from {first} to {last}.",
)
OPEN_END = (
    "The {thing} in house {house} is out of order from {first} until further notice, because {why}.",
    "From {first} you cannot use the {thing} in house {house}, we do not know yet how long: {why}.",
)
BEFORE = ("", "", "Dear tenants, ", "Dear neighbours, ", "Good morning. ", "Notice of the house management. ")
AFTER = (
    "",
    "",
    " We apologise for the trouble.",
    " Thank you for your patience.",
    " Please ask your neighbours for help.",
    " The caretaker can be reached as usual.",
)
TASKS = ("Summarise", "Translate into German")
COUNT = 270


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found, draw = [], random.Random("notices")
    for number in range(COUNT):
        place = draw.randrange(len(DAYS) - 1)
        facts = {
            "thing": draw.choice(list(GLOSSARY)), "house": draw.choice(HOUSES), "first": DAYS[place], "last": draw.choice(DAYS[place + 1 : place + 4]),
            "why": draw.choice(list(WHY)),
        }  # fmt: skip
        open_end = draw.random() < 0.15
        for task in TASKS:
            line = drawn(draw.choice(OPEN_END if open_end else LINES), draw, {}, facts)
            before = draw.choice(BEFORE)
            line = line[:1].lower() + line[1:] if before.endswith(", ") and not line.startswith("House") else line
            notice = before + line + draw.choice(AFTER)
            text = _summary(facts, open_end) if task == "Summarise" else _german(facts, open_end)
            kind = "no end given" if open_end else task.split()[0].lower()
            found.append({"task": task, "notice": notice, "text": text, "kind": kind, "group": str(number)})
    return {"notices.jsonl": mixed(found, "notice")}


def _summary(facts: dict[str, str], open_end: bool) -> str:
    """Return a notice in the house's style: what, where, when, why in a word."""
    until = "open end" if open_end else facts["last"]
    return f"{GLOSSARY[facts['thing']][1]} {facts['house']}: {facts['first']} - {until} ({WHY[facts['why']][1]})"


def _german(facts: dict[str, str], open_end: bool) -> str:
    """Return what a notice says in German, the reason behind a colon."""
    until = "bis auf Weiteres" if open_end else f"bis {_day(facts['last'])}"
    reason = WHY[facts["why"]][0]
    return f"{GLOSSARY[facts['thing']][0]} in Haus {facts['house']} ist ab {_day(facts['first'])} {until} außer Betrieb: {reason[:1].upper()}{reason[1:]}."


def _day(day: str) -> str:
    number, month = day.split()
    return f"{number}. {MONTHS[month]}"
