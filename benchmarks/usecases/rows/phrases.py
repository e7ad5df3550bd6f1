"""Turns authored wordings into rows: choices, slots, small slips of the hand. Pure functions of the texts and a name for the draw.

Enters: a file of wordings, one a line under headings. Leaves: lines with what stands above them, and texts drawn from a line. In a line
`(a|b|)` is a choice and `{slot}` a word of the caller's; `## label @slice` is a heading, `# …` a remark.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SAMPLES = HERE.parents[2] / "src/burnish/assets/samples"
_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Wording:
    """One authored line: its heading, the slice that the heading names (or none), its number among all, and the line."""

    heading: str
    slice: str
    number: int
    line: str


def wordings(name: str) -> Iterator[Wording]:
    """Yield the lines of a file of wordings in their order."""
    heading, part, number = "", "", 0
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading, _, part = (side.strip() for side in line[3:].partition("@"))
        elif line.strip() and not line.startswith("# "):
            number += 1
            yield Wording(heading, part, number, line.strip())


def drawn(line: str, draw: random.Random, slots: Mapping[str, Sequence[str]], fixed: Mapping[str, str] | None = None) -> str:
    """Return a text of a line: each choice and slot drawn, the same slot the same word throughout; `fixed` slots have their word."""
    while found := _CHOICE.search(line):
        line = line[: found.start()] + draw.choice(found[1].split("|")) + line[found.end() :]
    words = dict(fixed or {})

    def word(found: re.Match[str]) -> str:
        name = found[1]
        if name not in words:
            words[name] = draw.choice(slots[name]) if name in slots else found[0]
        return words[name]

    text = re.sub(r"\s+", " ", _SLOT.sub(word, line)).strip()
    text = re.sub(r" ([,.;?!])", r"\1", text)
    text = re.sub(r"((?:^|\s)a|^A) (?=[aeioAEIO][a-z])", r"\1n ", text)
    return re.sub(r"(?<=[.?!] )([a-z])", lambda found: found[1].upper(), text) if text[:1].isupper() else text


def different(make: Callable[[], Any], count: int, *, key: Callable[[Any], str] = str, tries: int = 60) -> list[Any]:
    """Return up to `count` things that `make` draws, no two with the same key."""
    found: dict[str, Any] = {}
    for _ in range(tries):
        one = make()
        found.setdefault(key(one).casefold(), one)
        if len(found) == count:
            break
    return list(found.values())


def slipped(text: str, draw: random.Random, *, share: float = 0.12) -> str:
    """Return a text as people type it in a hurry, now and then: small letters, a swapped pair of letters, no full stop at the end."""
    if draw.random() > share:
        return text
    kind = draw.choice(("small", "swap", "open"))
    if kind == "small":
        return text.lower()
    if kind == "open":
        return text.rstrip(".")
    places = [at for at in range(1, len(text) - 2) if text[at].isalpha() and text[at + 1].isalpha() and text[at - 1].isalpha()]
    if not places:
        return text
    at = draw.choice(places)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def mixed(rows: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return rows in an order of chance that is always the same, groups numbered in that order so that a number tells nothing."""
    rows = list(rows)
    random.Random(f"order {name}").shuffle(rows)
    numbers: dict[str, str] = {}
    for row in rows:
        if "group" in row:
            row["group"] = numbers.setdefault(row["group"], f"{name}-{len(numbers) + 1:03}")
    return rows


def lines_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
