"""Rows of the use case sentiment: reviews of skin care that are positive, negative or mixed, dealt from the wordings in sentiment.txt.

A review says one or two things. The wordings are dealt out to decks of two topics, and a review takes all that it says from one deck; a deck is a
group, so that no wording stands on two sides of the split.
"""

from __future__ import annotations

import random
from typing import Any

from phrases import Wording, different, drawn, mixed, slipped, wordings

SLOTS = {
    "area": ["chin", "forehead", "cheeks", "jawline", "T-zone", "neck", "temples"],
    "pack": ["tube", "jar", "bottle"],
    "over": ["sunscreen", "makeup", "foundation", "SPF"],
    "month": ["January", "March", "May", "September", "October"],
    "days": ["three", "four", "five", "six", "ten"],
    "price": ["28 euros", "34 pounds", "45 dollars", "60 quid", "52 euros"],
    "km": ["5", "10", "15"],
    "age": ["38", "44", "51", "57", "63"],
    "purge": ["three", "four", "five", "six"],
}
OPENINGS = [
    "Bought it in {month}.",
    "Second {pack}.",
    "Used it for {days} weeks.",
    "A gift from my sister.",
    "Got it at the airport.",
    "Morning and night for a month.",
    "Tried a sample first.",
    "Combination skin, {age}.",
]
SAME = ["", "", "Also: {}", "On top of that: {}", "And {}", "Plus, {}"]
OTHER = ["", "But {}", "But {}", "Then again: {}", "Only {}", "On the other hand: {}", "Still, {}"]
DEALS = {"positive": 5, "negative": 5, "mixed": 5}


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found = []
    for number, deck in enumerate(_decks(), 1):
        draw = random.Random(f"sentiment {number}")
        for label, count in DEALS.items():
            made = different(lambda d=deck, name=label, r=draw: _review(d, name, r), count, key=lambda row: row["review"])
            found += [{**row, "group": str(number)} for row in made]
    return {"sentiment.jsonl": mixed(found, "deck")}


def _decks() -> list[list[Wording]]:
    """Return decks of two topics, each with one good and one bad wording; every wording stands in one deck."""
    topics: dict[str, dict[str, list[Wording]]] = {}
    for one in wordings("sentiment.txt"):
        topics.setdefault(one.heading, {"+": [], "-": []})[one.line[0]].append(one)
    draw, decks = random.Random("decks"), []
    for place in range(6):
        names = list(topics)
        draw.shuffle(names)
        for first, second in zip(names[::2], names[1::2], strict=True):
            decks.append([topics[topic][sign][place] for topic in (first, second) for sign in "+-"])
    return decks


def _review(deck: list[Wording], label: str, draw: random.Random) -> dict[str, Any]:
    """Return a review of one deck that is good, bad or both."""
    good, bad = ([one for one in deck if one.line[0] == sign] for sign in "+-")
    if label == "mixed":
        said = [draw.choice(good), draw.choice(bad)]
        draw.shuffle(said)
    else:
        said = draw.sample(good if label == "positive" else bad, k=draw.choice((1, 1, 2)))
    texts = [drawn(one.line[2:], draw, SLOTS) for one in said]
    if len(texts) == 2:
        way = draw.choice(OTHER if label == "mixed" else SAME)
        small = texts[1] if texts[1].startswith(("I ", '"', "SPF", "Purging")) else texts[1][:1].lower() + texts[1][1:]
        texts[1] = way.format(small) if way else texts[1]
    if draw.random() < 0.3:
        texts.insert(0, drawn(draw.choice(OPENINGS), draw, SLOTS).rstrip("."))
    review = ". ".join(texts) + draw.choice((".", ".", ".", "!", ""))
    kind = "trade words" if any(one.slice for one in said) else "plain"
    return {"review": slipped(review, draw), "label": label, "kind": kind}
