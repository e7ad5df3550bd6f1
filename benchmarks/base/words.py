"""Names and values for invented texts and records: lists, and syllables put together by chance.

In: the kind of a slot ("p" a person, "price", "town", ...). Out: one value. Used by `invented.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from lists import read_lists

LISTS = read_lists("words.txt")
WOMEN, MEN = LISTS["women"], LISTS["men"]
FIRST = WOMEN + MEN


def syllables(draw: random.Random, least: int = 2, most: int = 3) -> str:
    """Return a made-up word."""
    return "".join(draw.choice(LISTS["syllables"]) for _ in range(draw.randint(least, most))) + draw.choice(
        ["", "", "n", "l", "r", "s", "x", "k", "m"]
    )


def person(draw: random.Random) -> str:
    """Return a first and a last name."""
    return f"{draw.choice(FIRST)} {last(draw)}"


def last(draw: random.Random) -> str:
    """Return a family name."""
    return (
        draw.choice(LISTS["family starts"]) + draw.choice(LISTS["family ends"])
        if draw.random() < 0.6
        else syllables(draw).capitalize()
    )


def town(draw: random.Random) -> str:
    """Return the name of a town."""
    return (
        (syllables(draw, 1, 2) + draw.choice(LISTS["town ends"])).capitalize()
        if draw.random() < 0.6
        else syllables(draw, 2, 3).capitalize()
    )


def clock(draw: random.Random) -> str:
    """Return a time of day."""
    hour = draw.randint(1, 12)
    minutes = draw.choice(["", "", ":15", ":30", ":45", ":10", ":20", ":50"])
    return (
        f"{hour}{minutes or ''} {draw.choice(['a.m.', 'p.m.'])}"
        if draw.random() < 0.6
        else f"{draw.randint(5, 22)}{minutes or ':00'}"
    )


def price(draw: random.Random) -> str:
    """Return a price."""
    whole = draw.randint(2, 95)
    return draw.choice(
        [f"${whole}", f"${whole}.50", f"{whole} euros", f"${whole}.{draw.randint(10, 99)}", f"{whole} pounds", f"{whole} crowns"]
    )


def code(draw: random.Random) -> str:
    """Return a code of letters and digits."""
    letters = "".join(draw.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(draw.randint(1, 3)))
    return f"{letters}{draw.choice(['-', ''])}{draw.randint(10, 9999)}"


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "p": person,
    "f": lambda draw: draw.choice(FIRST),
    "w": lambda draw: draw.choice(WOMEN),
    "m": lambda draw: draw.choice(MEN),
    "last": last,
    "town": town,
    "name": lambda draw: syllables(draw).capitalize(),
    "word": lambda draw: syllables(draw, 2, 3),
    "t": clock,
    "price": price,
    "n": lambda draw: draw.choice(LISTS["numbers"]) if draw.random() < 0.4 else str(draw.randint(13, 99)),
    "big": lambda draw: f"{draw.randint(100, 9999):,}" if draw.random() < 0.5 else str(draw.randint(100, 950)),
    "year": lambda draw: str(draw.randint(1720, 2019)),
    "date": lambda draw: f"{draw.choice(LISTS['month'])} {draw.randint(1, 28)}",
    "code": code,
    "minutes": lambda draw: f"{draw.choice([5, 10, 12, 15, 18, 20, 25, 30, 35, 40, 45, 50, 55, 90])} minutes",
    "km": lambda draw: f"{draw.randint(2, 480)} {draw.choice(['kilometres', 'miles'])}",
    "kg": lambda draw: f"{draw.randint(2, 95)} {draw.choice(['kilograms', 'pounds', 'grams', 'tons'])}",
    "phone": lambda draw: f"{draw.randint(200, 999)}-{draw.randint(1000, 9999)}",
    "street": lambda draw: (
        f"{draw.randint(1, 120)} {syllables(draw, 1, 2).capitalize()} {draw.choice(['Street', 'Lane', 'Road', 'Avenue'])}"
    ),
    "degrees": lambda draw: f"{draw.randint(40, 250)} degrees",
}
RECORD_KEYS = {
    "name": "p", "town": "town", "colour": "colour", "price": "price", "order number": "code", "date": "date", "weight": "kg", "address": "street",
    "telephone": "phone", "job": "job", "birthday": "date", "year": "year", "model": "code", "quantity": "n", "material": "material", "room": "room",
    "language": "language", "pet": "animal", "sport": "sport", "arrival": "t", "departure": "t", "distance": "km", "favourite food": "food", "seat": "code",
    "owner": "p", "driver": "p", "city of birth": "town", "temperature": "degrees", "password": "word", "brand": "name",
}  # fmt: skip


def draw_value(kind: str, draw: random.Random) -> str:
    """Return a value for a slot of a kind."""
    return MAKERS[kind](draw) if kind in MAKERS else draw.choice(LISTS[kind])
