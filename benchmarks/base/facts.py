"""Invented texts put together from single facts on one or several people, shops, towns or things of the same sort.

In: `frames/facts.txt`: per sort, one fact a line: statements | apart ?? questions | apart => answer. Out: `Invented` texts. Facts on a
second person of the same sort make sure that a name has to be looked up; facts left out give the questions without an answer.
Used by `make.py`.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

import words
from invented import SLOT, Invented, polished, with_article
from lists import FRAMES_FOLDER


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that can be said: its statements and questions with {slots}, and the answer."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    answer: str


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """Somebody or something a text speaks of: its full and short name, and its pronouns."""

    name: str
    short: str
    pronouns: tuple[str, str, str]


def read_facts(path: Path) -> dict[str, tuple[Fact, ...]]:
    """Read the facts of every sort."""
    found: dict[str, tuple[Fact, ...]] = {}
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip()):
        head, *lines = block.splitlines()
        facts = []
        for line in lines:
            statements, rest = line.split(" ?? ")
            questions, answer = rest.split(" => ")
            facts.append(Fact(statements=tuple(statements.split(" | ")), questions=tuple(questions.split(" | ")), answer=answer))
        found[head.removeprefix("# ")] = tuple(facts)
    return found


FACTS = read_facts(FRAMES_FOLDER / "facts.txt")
KEPT_BACK = ("ship", "course")
"""Sorts that are for tests only."""
IT = ("it", "it", "its")
SHE, HE = ("she", "her", "her"), ("he", "him", "his")
OPENINGS = {
    "shop": "{N} is a [small |busy |new |]shop[ in {town}|].", "town": "{N} is a [small |quiet |large |]town.", "machine": "The {N} is a machine.",
    "book": "{N} is a [novel|book].", "house": "{N} is an old house[ in {town}|].", "firm": "{N} is a firm.", "star": "{N} is a [bright |faint |]star.",
    "ship": "The {N} is a ship.", "course": "{N} is a course[ in {town}|].", "medicine": "{N} is a medicine.",
}  # fmt: skip


def speaker(sort: str, draw: random.Random) -> Speaker:
    """Draw a name for one of a sort."""
    if sort in {"person", "traveller"}:
        woman = draw.random() < 0.5
        first = draw.choice(words.WOMEN if woman else words.MEN)
        family = words.last(draw)
        return Speaker(
            name=f"{first} {family}",
            short=draw.choice([first, f"{'Ms' if woman else 'Mr'} {family}"]),
            pronouns=SHE if woman else HE,
        )
    made = words.syllables(draw).capitalize()
    if sort == "animal":
        return Speaker(name=made, short=made, pronouns=draw.choice([SHE, HE]))
    if sort == "machine":
        name = f"{made} {words.code(draw)}"
    elif sort == "book":
        name = f"“The {draw.choice(words.LISTS['colour']).title()} {draw.choice(words.LISTS['thing']).title()}”"
    elif sort == "house":
        name = f"{made} {draw.choice(['House', 'Hall', 'Lodge', 'Cottage'])}"
    elif sort == "shop":
        name = draw.choice(
            [
                f"{made}'s",
                f"{words.last(draw)} and Sons",
                f"The {draw.choice(words.LISTS['colour']).title()} {draw.choice(words.LISTS['animal']).title()}",
            ]
        )
    elif sort == "course":
        name = f"{draw.choice(words.LISTS['courses'])} {draw.choice(words.LISTS['course levels'])}"
    else:
        name = words.town(draw) if sort == "town" else made
    return Speaker(name=name, short=name, pronouns=IT)


def filled_fact(template: str, who: Speaker, subject: str, values: dict[str, str], draw: random.Random, used: set[str]) -> str:
    """Fill one template: {S} the subject, {P} "her", {O} "she" as an object, {N} the name, everything else a value."""
    reference = {
        "S": subject,
        "S_": who.pronouns[0],
        "O": who.pronouns[1],
        "P": who.pronouns[2],
        "P_": who.pronouns[2],
        "N": who.name,
        "N_": who.name,
    }

    def value(match: re.Match[str]) -> str:
        key = match.group(1)
        if key in reference:
            return reference[key]
        key = {"W": "weather"}.get(key, key.rstrip("_"))
        if key not in values:
            values[key] = next(drawn for _ in range(200) if (drawn := words.draw_value(key, draw)) not in used)
            used.add(values[key])
        return values[key]

    return re.sub(r"\{([A-Za-z]+_?)\}", value, template)


def facts_text(draw: random.Random, *, unseen: bool = False) -> Invented:
    """Make a text of facts on one to three of a sort, with its questions and those it leaves open."""
    sort = draw.choice([name for name in FACTS if (name in KEPT_BACK) is unseen])
    count = draw.choice([1, 1, 2, 2, 3])
    chosen = draw.sample(
        FACTS[sort], min(len(FACTS[sort]) - 1, {1: draw.randint(3, 6), 2: draw.randint(2, 4), 3: draw.randint(1, 3)}[count])
    )
    left_out = [fact for fact in FACTS[sort] if fact not in chosen]
    used: set[str] = set()
    people: list[Speaker] = []
    while len(people) < count:
        one = speaker(sort, draw)
        if not any(one.name == other.name or one.name.split()[0] == other.name.split()[0] != "“The" for other in people):
            people.append(one)
    parts: list[str] = []
    pairs: list[tuple[str, str]] = []
    absent: list[str] = []
    for who in people:
        values: dict[str, str] = {}
        own = draw.sample(chosen, len(chosen)) if draw.random() < 0.7 or count == 1 else list(chosen)
        opening = OPENINGS.get(sort) if draw.random() < 0.8 or sort in {"machine", "ship"} else None
        sentences = [polished(filled_fact(opening, who, who.name, values, draw, used), draw)] if opening else []
        for fact in own:
            statement = draw.choice(
                [one for one in fact.statements if sentences or "{S}" in one or "{N_}" in one] or ["{N}: " + fact.statements[0]]
            )
            subject = who.name if not sentences else draw.choice([who.pronouns[0], who.pronouns[0], who.short])
            subject = subject if sort not in {"machine", "ship"} or subject in who.pronouns else f"the {subject}"
            sentences.append(polished(filled_fact(statement, who, subject, values, draw, used), draw))
            question = filled_fact(draw.choice(fact.questions), who, who.name, values, draw, used)
            pairs.append((polished(question, draw), with_article(filled_fact(fact.answer, who, who.name, values, draw, used))))
        parts.append(" ".join(sentences))
        for fact in left_out:
            questions = [
                one for one in fact.questions if set(SLOT.findall(one)) <= {("N", "")} or re.findall(r"\{([a-z]+)\}", one) == []
            ]
            absent += [filled_fact(question, who, who.name, values, draw, used) for question in questions[:1]]
    return Invented(text=draw.choice([" ", " ", "\n"]).join(parts), pairs=tuple(pairs), absent=tuple(absent), frame=f"facts {sort}")
