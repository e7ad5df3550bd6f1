"""Short texts about people, shops and things that do not exist, with questions whose answers can only come from the text.

In: the frames in `frames/*.txt`. Out: a `Passage` filled with names and values by chance, and its questions. Used by `make.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import words
from lists import FRAMES_FOLDER
from wording import ABSENT_ANSWER

SLOT = re.compile(r"\{([a-z]+)(\d*)\}")
BEFORE_VALUE = re.compile(r"^(?:in|at|on|to|for|from) (?=\{|the )")
"""Prepositions that a bare answer does without."""
CHOICE = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A text with {slots} and [choices|of words], questions as (phrasings, answer) and questions it does not answer."""

    name: str
    text: str
    asks: tuple[tuple[tuple[str, ...], str], ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Invented:
    """An invented text, its (question, answer) pairs and questions that it leaves open."""

    text: str
    pairs: tuple[tuple[str, str], ...]
    absent: tuple[str, ...]
    frame: str


def parse(source: str) -> list[Frame]:
    """Read frames: blocks apart by blank lines; `# name`, lines of text ("> " starts a new line), `? phrasing | phrasing => answer`, `! unanswerable | ...`."""
    found: list[Frame] = []
    for block in re.split(r"\n\s*\n", source.strip()):
        name, body, asks, absent = "", [], [], []
        for line in map(str.strip, block.splitlines()):
            if line.startswith("# "):
                name = line[2:]
            elif line.startswith("? "):
                questions, answer = line[2:].split(" => ")
                asks.append((tuple(one.strip() for one in questions.split(" | ")), BEFORE_VALUE.sub("", answer.strip())))
            elif line.startswith("! "):
                absent.extend(one.strip() for one in line[2:].split(" | "))
            else:
                body.append("\n" + line[2:] if line.startswith("> ") else line)
        found.append(Frame(name=name, text=" ".join(body).replace(" \n", "\n").strip(), asks=tuple(asks), absent=tuple(absent)))
    return found


FRAMES: tuple[Frame, ...] = tuple(
    frame
    for name in ("places", "people", "things", "world")
    for frame in parse((FRAMES_FOLDER / f"{name}.txt").read_text(encoding="utf-8"))
)


def kept_back(frame: Frame) -> bool:
    """Return whether a frame is for tests only: every sixth one."""
    return FRAMES.index(frame) % 6 == 5


def frames(*, unseen: bool) -> list[Frame]:
    """Return the frames for training, or those for tests."""
    return [frame for frame in FRAMES if kept_back(frame) is unseen]


def filled(frame: Frame, draw: random.Random) -> Invented:
    """Fill a frame; a value stands in one slot only, so that every answer is the only one."""
    values: dict[str, str] = {}
    used: set[str] = set()

    def value(match: re.Match[str]) -> str:
        key = match.group(1) + match.group(2)
        if key not in values:
            drawn = (words.draw_value(match.group(1), draw) for _ in range(500))
            values[key] = next(one for one in drawn if one not in used)
            used.add(values[key])
        return values[key]

    def fill(template: str) -> str:
        return polished(SLOT.sub(value, chosen_words(template, draw)), draw)

    text = fill(frame.text)
    pairs = [(fill(draw.choice(questions)), fill_plain(answer, value)) for questions, answer in frame.asks]
    absent = [fill(question) for question in frame.absent]
    return Invented(text=text, pairs=tuple(pairs), absent=tuple(absent), frame=frame.name)


def chosen_words(template: str, draw: random.Random) -> str:
    """Choose one of each [choice|of words]."""
    while CHOICE.search(template):
        template = CHOICE.sub(lambda match: draw.choice(match.group(1).split("|")), template)
    return template


def polished(text: str, draw: random.Random) -> str:
    """Return a filled text with its choices made, "an" before vowels, large letters at starts and no doubled stops."""
    text = chosen_words(text, draw).replace(".m..", ".m.").replace("  ", " ")
    text = re.sub(r"\b([Aa]) (?=[aeiouAEIOU])(?!one|uni|use|eu|Uni|Eu)", r"\1n ", text)
    return re.sub(r"(^|(?<!\.m)[.!?] |\n)([a-z])", lambda match: match.group(1) + match.group(2).upper(), text)


def fill_plain(template: str, value: Callable[[re.Match[str]], str]) -> str:
    """Fill an answer as it stands, without a capital at the start."""
    return with_article(SLOT.sub(value, template))


def with_article(answer: str) -> str:
    """Return an answer with "an" before a vowel."""
    return re.sub(r"^([Aa]) (?=[aeiou])(?!one|uni|use|eu)", r"\1n ", answer)


def record(draw: random.Random) -> Invented:
    """Make a short record of keys and values, written in one of several ways, and look-up questions on it."""
    keys = draw.sample(sorted(words.RECORD_KEYS), draw.randint(3, 7))
    rows = [(key, words.draw_value(words.RECORD_KEYS[key], draw)) for key in keys]
    style = draw.randrange(4)
    if style == 0:
        text = "\n".join(f"{key}: {value}" for key, value in rows)
    elif style == 1:
        text = "; ".join(f"{key} = {value}" for key, value in rows)
    elif style == 2:
        text = "\n".join(f"- {key.capitalize()}: {value}" for key, value in rows)
    else:
        text = "{" + ", ".join(f'"{key}": "{value}"' for key, value in rows) + "}"
    asks = (
        "What is the {key}?",
        "Give the {key}.",
        "Which {key} is entered?",
        "{key}?",
        "What does the record say under {key}?",
        "Look up the {key}.",
    )
    pairs = tuple((capital(draw.choice(asks).format(key=key)), value) for key, value in rows)
    missing = [key for key in sorted(words.RECORD_KEYS) if key not in keys]
    absent = tuple(capital(draw.choice(asks).format(key=key)) for key in draw.sample(missing, 2))
    return Invented(text=text, pairs=pairs, absent=absent, frame="record")


def capital(text: str) -> str:
    """Return a text with a capital first letter."""
    return text[:1].upper() + text[1:]


def dialog_pairs(made: Invented, draw: random.Random, *, count: int) -> list[tuple[str, str]]:
    """Choose up to `count` questions; now and then one that the text leaves open."""
    pairs = list(made.pairs)
    draw.shuffle(pairs)
    chosen = pairs[:count]
    if made.absent and draw.random() < 0.5:
        chosen.insert(draw.randrange(len(chosen) + 1), (draw.choice(made.absent), ABSENT_ANSWER))
        chosen = chosen[: max(count, 2)]
    return chosen
