"""Rows of the use case brand-voice: the same facts about a product in four voices, by the brand book of a maker of outdoor things.

Moss & Mile does not exist. A text opens and closes as its voice does, says each fact in the voice's words, and never uses a word that the book bans, also
where the notes do: there stands what the book wants instead. Two facts of one product are a group.
"""

from __future__ import annotations

import random
from typing import Any

from phrases import mixed

VOICES = ("formal", "friendly", "funny", "brand")
PRODUCTS = (
    "Lark tent", "Tern tent", "Finch stove", "Plover pack", "Heron jacket", "Wren bottle", "Swift lamp", "Robin mat", "Rook boots", "Dunlin hat",
    "Kite tarp", "Siskin socks", "Teal filter", "Merlin poles",
)  # fmt: skip
FACTS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "weight": (
        ("640 g", "1.2 kg", "1.9 kg", "85 g", "310 g", "2.4 kg"),
        {
            "formal": "It weighs {v}.",
            "friendly": "It is only {v} to carry.",
            "funny": "At {v} it weighs less than your excuses.",
            "brand": "{v}. Your back says thanks.",
        },
    ),
    "price": (
        ("39 euros", "78 euros", "145 euros", "240 euros", "19 euros", "330 euros"),
        {
            "formal": "The price is {v}.",
            "friendly": "You get it for {v}.",
            "funny": "{v}, and no, we do not take pine cones.",
            "brand": "{v}. Made once, made well.",
        },
    ),
    "stock": (
        ("3 May", "12 June", "1 March", "20 August", "7 April", "30 October"),
        {
            "formal": "It is available again from {v}.",
            "friendly": "It is back on {v}, hooray.",
            "funny": "It returns on {v}, like the mosquitoes.",
            "brand": "Back on {v}. Good things walk.",
        },
    ),
    "colours": (
        ("moss", "slate", "rust", "sand", "ink", "fern"),
        {
            "formal": "The new colour is {v}.",
            "friendly": "Now in {v}, we love it.",
            "funny": "Now in {v}, so you can hide from your boss.",
            "brand": "New: {v}. Found outside.",
        },
    ),
    "warranty": (
        ("2 years", "3 years", "5 years", "10 years"),
        {
            "formal": "The warranty is {v}.",
            "friendly": "And you have {v} of warranty.",
            "funny": "We fix it for {v}, even if a goat was involved.",
            "brand": "{v} of warranty. We mend.",
        },
    ),
    "repair": (
        ("4 days", "6 days", "8 days", "14 days"),
        {
            "formal": "Repairs take {v}.",
            "friendly": "If it breaks, we mend it in {v}.",
            "funny": "Broken? {v} in our hospital.",
            "brand": "Mended in {v}. Not replaced.",
        },
    ),
    "rain": (
        ("5,000 mm", "10,000 mm", "20,000 mm", "3,000 mm"),
        {
            "formal": "The cloth withstands a water column of {v}.",
            "friendly": "It keeps you dry up to {v}.",
            "funny": "{v} of water column: even the ducks are jealous.",
            "brand": "{v}. Let it rain.",
        },
    ),
    "holds": (
        ("one person", "two people", "three people", "four people"),
        {
            "formal": "It is designed for {v}.",
            "friendly": "There is room for {v}.",
            "funny": "Fits {v}, or one with opinions.",
            "brand": "Room for {v}. And the view.",
        },
    ),
}
ONLY = {"holds": ("tent", "tarp"), "rain": ("tent", "tarp", "jacket", "pack", "boots", "hat")}
"""Facts that only some kinds of products have."""

OPEN = {
    "formal": "We are pleased to present the {p}.",
    "friendly": "Meet the {p}!",
    "funny": "The {p} walked into a bar.",
    "brand": "{p}.",
}
CLOSE = {
    "formal": "Our staff will gladly advise you.",
    "friendly": "See you out there!",
    "funny": "Bring snacks.",
    "brand": "Go the mile.",
}
BANNED = {
    "cheap": "good value",
    "guys": "everyone",
    "man-made": "made by hand",
    "crazy light": "very light",
    "bombproof": "sturdy",
    "not for wimps": "for every pace",
    "chick colours": "soft colours",
    "conquer the mountain": "enjoy the mountain",
}
ADDED = {
    "formal": "It is considered {w}.",
    "friendly": "People call it {w}.",
    "funny": "Even our accountant says: {w}.",
    "brand": "{w}, we think.",
}
NOTES = {
    "weight": "weight",
    "price": "price",
    "stock": "back",
    "colours": "new colour",
    "warranty": "warranty",
    "repair": "repair",
    "rain": "rain",
    "holds": "for",
}
PER_PRODUCT = 12


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found = []
    for product in PRODUCTS:
        draw = random.Random(f"voice {product}")
        for number in range(PER_PRODUCT):
            kinds = draw.sample(
                [kind for kind in FACTS if product.split()[1] in ONLY.get(kind, product)], k=draw.choice((1, 2, 2, 2))
            )
            facts = [(kind, draw.choice(FACTS[kind][0])) for kind in kinds]
            banned = draw.choice(list(BANNED)) if draw.random() < 0.2 else ""
            for voice in draw.sample(VOICES, k=3):
                found.append({**_row(product, voice, facts, banned, draw), "group": f"{product} {number}"})
    return {"voice.jsonl": mixed(found, "copy")}


def _row(product: str, voice: str, facts: list[tuple[str, str]], banned: str, draw: random.Random) -> dict[str, Any]:
    """Return notes as marketing jots them down, and the text in one voice."""
    told = [f"{NOTES[kind]} {value}" if draw.random() < 0.6 else f"{NOTES[kind]}: {value}" for kind, value in facts]
    told += [f"is {banned}" if draw.random() < 0.5 else banned] if banned else []
    notes = draw.choice(("; ", ", ", " / ")).join([product, *told])
    said = [OPEN[voice].format(p=product), *(FACTS[kind][1][voice].format(v=value) for kind, value in facts)]
    if banned:
        wanted = ADDED[voice].format(w=BANNED[banned])
        said.append(wanted[:1].upper() + wanted[1:])
    said = [one[:1].upper() + one[1:] for one in said]
    kind = "a banned word in the notes" if banned else "plain"
    return {"voice": f"Voice: {voice}", "notes": notes, "text": " ".join([*said, CLOSE[voice]]), "kind": kind}
