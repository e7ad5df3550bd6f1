"""Very short stories whose questions need two or more sentences: who is where in the end, who has it now, who is the oldest, who comes next.

In: nothing but chance. Out: `Invented` texts. Used by `make.py`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import words
from invented import Invented, polished

MOVED = ("{who} went to the {room}.", "{who} walked to the {room}.", "Then {who} moved to the {room}.", "{who} is now in the {room}.",
         "After that, {who} ran to the {room}.", "{who} left for the {room}.")  # fmt: skip
GIVEN = ("{giver} gave the {thing} to {taker}.", "{giver} handed {taker} the {thing}.", "{taker} got the {thing} from {giver}.",
         "{giver} passed the {thing} on to {taker}.", "{giver} lent the {thing} to {taker}.")  # fmt: skip
MORE = {
    "older": ("oldest", "youngest"), "taller": ("tallest", "shortest"), "faster": ("fastest", "slowest"), "stronger": ("strongest", "weakest"),
    "richer": ("richest", "poorest"), "heavier": ("heaviest", "lightest"),
}  # fmt: skip
PLACES_IN_LINE = ("first", "second", "third", "fourth", "fifth")


def names(draw: random.Random, count: int) -> list[str]:
    """Return first names, all different."""
    return draw.sample(words.FIRST, count)


def moves(draw: random.Random) -> Invented:
    """People go from room to room; the question is where they are in the end and where they were before."""
    people, rooms = names(draw, draw.randint(2, 3)), draw.sample(words.LISTS["room"], 6)
    where: dict[str, list[str]] = {}
    sentences: list[str] = []
    for _ in range(draw.randint(3, 6)):
        who = draw.choice(people)
        room = draw.choice([room for room in rooms if room not in where.get(who, [])] or rooms)
        sentences.append(draw.choice(MOVED).format(who=who, room=room))
        where.setdefault(who, []).append(room)
    pairs: list[tuple[str, str]] = []
    for who, stops in where.items():
        pairs.append(
            (
                draw.choice([f"Where is {who} now?", f"In which room is {who} in the end?", f"Where did {who} end up?"]),
                f"the {stops[-1]}",
            )
        )
        if len(stops) > 1:
            pairs.append((f"Where was {who} before the {stops[-1]}?", f"the {stops[-2]}"))
    gone = [who for who in people if who not in where] or [name for name in names(draw, 5) if name not in people]
    return Invented(
        text=polished(" ".join(sentences), draw), pairs=tuple(pairs), absent=(f"Where is {gone[0]} now?",), frame="story moves"
    )


def gifts(draw: random.Random) -> Invented:
    """Things change hands; the question is who has them in the end, who gave them and to whom."""
    people, things = names(draw, 4), draw.sample(words.LISTS["thing"], 2)
    holder = dict(zip(things, people, strict=False))
    sentences = [
        draw.choice([f"{who} had a {thing}.", f"At first the {thing} belonged to {who}."]) for thing, who in holder.items()
    ]
    first = dict(holder)
    pairs: list[tuple[str, str]] = []
    for _ in range(draw.randint(2, 4)):
        thing = draw.choice(things)
        giver, taker = holder[thing], draw.choice([person for person in people if person != holder[thing]])
        sentences.append(draw.choice(GIVEN).format(giver=giver, taker=taker, thing=thing))
        holder[thing] = taker
    for thing in things:
        pairs.append(
            (
                draw.choice([f"Who has the {thing} now?", f"Who had the {thing} in the end?", f"With whom is the {thing} now?"]),
                holder[thing],
            )
        )
        pairs.append((draw.choice([f"Who had the {thing} at first?", f"To whom did the {thing} belong at first?"]), first[thing]))
    missing = draw.choice([thing for thing in words.LISTS["thing"] if thing not in things])
    return Invented(
        text=polished(" ".join(sentences), draw), pairs=tuple(pairs), absent=(f"Who has the {missing}?",), frame="story gifts"
    )


def comparison(draw: random.Random) -> Invented:
    """Three or four people compared two by two, in any order."""
    people, word = names(draw, draw.randint(3, 4)), draw.choice(sorted(MORE))
    most, least = MORE[word]
    sentences = [f"{one} is {word} than {other}." for one, other in itertools.pairwise(people)]
    draw.shuffle(sentences)
    place = draw.randrange(len(people) - 1)
    pairs = (
        (draw.choice([f"Who is the {most}?", f"Which of them is the {most}?"]), people[0]),
        (draw.choice([f"Who is the {least}?", f"Which of them is the {least}?"]), people[-1]),
        (f"Who is {word}, {people[place + 1]} or {people[place]}?", people[place]),
    )
    absent = f"Who is the {draw.choice([ends[0] for name, ends in MORE.items() if name != word])}?"
    return Invented(text=" ".join(sentences), pairs=pairs, absent=(absent,), frame="story comparison")


def queue(draw: random.Random) -> Invented:
    """People in a line: who is in which place, who stands before and behind whom."""
    people, place = names(draw, draw.randint(3, 5)), draw.choice(words.LISTS["place"])
    starts = [
        f"{people[0]} is the first in the line at {place}.",
        f"In the line at {place}, {people[0]} stands at the front.",
        f"{people[0]} came first to {place}.",
    ]
    sentences = [draw.choice(starts)]
    for before, behind in itertools.pairwise(people):
        sentences.append(
            draw.choice(
                [f"Behind {before} stands {behind}.", f"{behind} is next after {before}.", f"After {before} comes {behind}."]
            )
        )
    spot = draw.randrange(len(people) - 1)
    pairs = (
        (f"Who is {PLACES_IN_LINE[spot + 1]} in the line?", people[spot + 1]),
        (draw.choice([f"Who comes right after {people[spot]}?", f"Who is behind {people[spot]}?"]), people[spot + 1]),
        (draw.choice([f"Who comes right before {people[spot + 1]}?", f"After whom does {people[spot + 1]} come?"]), people[spot]),
        ("Who is the last in the line?", people[-1]),
        ("Where is the line?", place),
    )
    return Invented(text=" ".join(sentences), pairs=pairs, absent=(f"What colour is {people[0]}'s coat?",), frame="story queue")


STORIES: tuple[Callable[[random.Random], Invented], ...] = (moves, gifts, comparison, queue)


def story(draw: random.Random) -> Invented:
    """Make a story of one of the sorts."""
    return draw.choice(STORIES)(draw)
