"""Writes the rows of the use case `support` from authored wordings: `python benchmarks/make_samples.py [--check]`.

In: samples/support_*.txt, one authored wording family a line under the heading of its category. Out: the bundled file
src/burnish/assets/samples/support.jsonl, which is committed; with --check nothing is written and a difference is an error.
A pure function of those texts and SEED.

How a line is read: `(a|b|)` is a choice, `{slot}` one of SLOTS (the same value throughout a row), ` & ` stands between sentences,
and a sentence that starts with `?` may be left out. A line that starts with a small letter is casual: nothing is capitalised.
Lines that start with `#` are subjects, as people write them above a message; `#a` serves only the lines that start with `a: `.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parent / "src/burnish/assets/samples/support.jsonl"
SEED = 20
ROWS_PER_GROUP = (4, 5, 5)
CANDIDATES = 240
# Two rows of a group share at most this part of their words, so that a group holds different rows, not one row with another day.
MOST_SHARED = 0.8

SLOTS = {
    "bike": ["Heron", "Plover", "Wren", "Drover", "Heron 2", "Plover step-through", "e-bike", "electric bike", "bike", "bike"],
    "model": ["Heron", "Plover", "Wren", "Drover"],
    "charger": ["Hearth", "Hearth 7", "Hearth 11", "Hearth wall box", "wall box", "home charger", "wall charger"],
    "few": ["three", "four", "five", "six"],
    "day": ["Monday", "Tuesday", "Wednesday"],
    "day2": ["Thursday", "Friday", "Saturday"],
    "month": ["January", "March", "April", "June"],
    "month2": ["August", "September", "October", "November"],
    "week": ["17", "22", "31", "38"],
    "minutes": ["10", "15", "20", "25", "40"],
    "nth": ["third", "fourth", "fifth", "sixth"],
    "months": ["five", "seven", "nine", "14", "18", "20"],
    "km": ["80", "90", "100", "110"],
    "shortkm": ["12", "18", "25", "30", "35"],
    "bigkm": ["1,200", "2,500", "4,000", "6,800", "9,000"],
    "pct": ["20", "30", "35", "40", "45", "60"],
    "euro": ["39 euros", "54 euros", "85 euros", "120 euros"],
    "leg": ["78", "82", "86"],
    "town": ["Norwick", "Eastmere", "Calder Bridge", "Stonewell", "Brindle", "Oakhaven"],
}
GREETINGS = ["Hi.", "Hello!", "Hi there.", "Good evening.", "Hello team."]
WITH_SUBJECT = 0.65
CLOSINGS = ["Thanks.", "Thank you!", "Many thanks.", "Cheers", "Regards, Ines", "Best, Tom", "Thanks, Marta", "Please reply soon."]
SLIPS = {
    "the": "teh",
    "received": "recieved",
    "charger": "chager",
    "battery": "batery",
    "brake": "break",
    "does not": "doesnt",
    "cannot": "cant",
    "will not": "wont",
    "delivery": "delivry",
    "delivered": "deliverd",
    "because": "becuase",
    "please": "pls",
    "Please": "Pls",
    "warranty": "waranty",
    "invoice": "invoce",
    "installation": "instalation",
    "you": "u",
    "and": "nad",
    "kilometres": "kms",
    "address": "adress",
    "noise": "nosie",
    "which": "wich",
    "weeks": "wks",
    "with": "wiht",
}
# Only a sentence that stands on its own may come first; one with "it" or "that" would point at nothing.
STANDS_ALONE = re.compile(
    r"(?!The (one|old one|rest|leaflet|invoice|receipt|log|manual)\b)(I|We|My|Our|The|Your|You|There|According|Order)\b(?!.* (it|that|this)\b)"
)
INNERMOST = re.compile(r"\(([^()]*\|[^()]*)\)")


@dataclass(frozen=True, slots=True)
class Family:
    """One authored wording of one category, and the subjects that fit it."""

    category: str
    pattern: str
    subjects: tuple[str, ...]


def families(text: str) -> list[Family]:
    """Return the authored wordings of one text."""
    category, found = "", []
    subjects: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("## "):
            category, subjects = line[3:], {}
        elif line.startswith("#"):
            kind, _, subject = line[1:].partition(" ")
            subjects.setdefault(kind, []).append(subject)
        else:
            kind, pattern = (line[0], line[3:]) if line[1:3] == ": " else ("", line)
            found.append(Family(category, pattern, tuple(subjects[kind])))
    return found


def chosen(pattern: str, draw: random.Random) -> str:
    """Return the pattern with each choice made, from the innermost outwards."""
    while match := INNERMOST.search(pattern):
        pattern = pattern[: match.start()] + draw.choice(match[1].split("|")) + pattern[match.end() :]
    return pattern


def filled(text: str, draw: random.Random) -> str:
    """Return the text with each slot filled, the same slot with the same value."""
    values = {name: draw.choice(options) for name, options in SLOTS.items()} | {"order": f"LM-{draw.randrange(30000, 60000)}"}
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], text)


def sentences(pattern: str, draw: random.Random) -> list[str]:
    """Return the sentences of one drawn row in their order."""
    parts = []
    for part in pattern.split(" & "):
        optional = part.startswith("?")
        if not optional or draw.random() < 0.6:
            text = re.sub(r"\s+([,.!?;:])", r"\1", " ".join(chosen(part.removeprefix("?"), draw).split()))
            parts.append(text)
    movable = [index for index, part in enumerate(parts) if index and STANDS_ALONE.match(part)]
    if movable and draw.random() < 0.3:
        parts.insert(0, parts.pop(draw.choice(movable)))
    return parts


def with_subject(text: str, subjects: tuple[str, ...], draw: random.Random) -> str:
    """Return the text under one of the subjects, on the same line as a web form joins them."""
    subject = " ".join(chosen(draw.choice(subjects), draw).split())
    return subject + ("" if subject.endswith("?") else draw.choice([".", ".", ":", " -"])) + " " + text


def with_manners(text: str, draw: random.Random) -> str:
    """Return the text with a greeting or a closing now and then, where it has neither."""
    if draw.random() < 0.07 and not re.match(r"(Hi|Hello|Dear|Good|Hey|FYI)\b", text):
        text = f"{draw.choice(GREETINGS)} {text}"
    elif draw.random() < 0.1 and text[-1] in ".?!":
        text = f"{text} {draw.choice(CLOSINGS)}"
    return text


def with_slips(text: str, draw: random.Random) -> str:
    """Return the text as some people type it: a slip of the keyboard, or no capitals and no full stop at the end."""
    kind = draw.random()
    if kind < 0.06:
        present = [word for word in SLIPS if re.search(rf"\b{word}\b", text)]
        if present:
            word = draw.choice(present)
            text = re.sub(rf"\b{word}\b", SLIPS[word], text, count=1)
    elif kind < 0.1:
        text = text.lower().rstrip(".")
    return text


def is_casual(pattern: str) -> bool:
    """Return whether the line was authored without capitals."""
    return pattern.lstrip("(")[0].islower()


def body(pattern: str, draw: random.Random) -> str:
    """Return one message drawn from an authored line."""
    parts = sentences(pattern, draw)
    if not is_casual(pattern):
        parts = [part[0].upper() + part[1:] for part in parts]
    return filled(" ".join(parts), draw)


def finished(text: str, family: Family, draw: random.Random) -> str:
    """Return the message as it was sent: with its subject, manners and slips."""
    if not is_casual(family.pattern):
        text = with_manners(text, draw)
    if draw.random() < WITH_SUBJECT:
        text = with_subject(text, family.subjects, draw)
    if is_casual(family.pattern):
        return text.lower()
    return with_slips(text, draw)


def words(text: str) -> set[str]:
    """Return the different words of a text, small."""
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def shared(one: set[str], other: set[str]) -> float:
    """Return the Jaccard similarity of two sets of words."""
    return len(one & other) / len(one | other)


def group_rows(pattern: str, count: int, draw: random.Random) -> list[str]:
    """Return up to `count` rows of a family that differ most from one another (greedy farthest-point choice)."""
    candidates = list(dict.fromkeys(body(pattern, draw) for _ in range(CANDIDATES)))
    bags = [words(text) for text in candidates]
    picked = [0]
    nearest = [shared(bag, bags[0]) for bag in bags]
    while len(picked) < count:
        best = min(range(len(bags)), key=lambda index: (nearest[index], index))
        if nearest[best] > MOST_SHARED:
            break
        picked.append(best)
        nearest = [max(near, shared(bag, bags[best])) for near, bag in zip(nearest, bags, strict=True)]
    return [candidates[index] for index in picked]


def rows() -> list[dict[str, str]]:
    """Return all rows, in an order that mixes the categories; the number of a group says nothing of its category."""
    authored = [family for path in sorted((HERE / "samples").glob("support_*.txt")) for family in families(path.read_text("utf-8"))]
    numbers = list(range(1, len(authored) + 1))
    random.Random(SEED).shuffle(numbers)
    found = []
    for number, family in zip(numbers, authored, strict=True):
        # Keyed by the line itself: editing one line leaves the rows of the others as they are.
        draw = random.Random(f"{SEED} {family.pattern}")
        for text in group_rows(family.pattern, draw.choice(ROWS_PER_GROUP), draw):
            found.append({"text": finished(text, family, draw), "category": family.category, "group": f"case-{number:03d}"})
    random.Random(SEED + 1).shuffle(found)
    return found


def main() -> int:
    """Write the file, or with --check compare it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the committed file differs")
    arguments = parser.parse_args()
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows())
    if arguments.check:
        same = TARGET.read_text("utf-8") == text
        print("same" if same else f"{TARGET} differs from what the texts give; run without --check", file=sys.stderr)
        return 0 if same else 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding="utf-8", newline="\n")
    print(f"{len(text.splitlines())} rows, {len(text.encode())} bytes: {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
