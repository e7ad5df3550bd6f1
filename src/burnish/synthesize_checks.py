"""Which candidates become rows: what a model wrote on a passage in, the reason why it is dropped out, or nothing.

Called by `synthesize`. The checks need no model and compare words alone: they find what is certainly wrong (an answer that the passage
does not hold, a number that it does not have, a copy, a repetition), not what is subtly wrong. Rows are to be read before they are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any

from burnish.data.seen import words
from burnish.synthesize_kinds import Candidate

CUT = "cut off at the limit of tokens"
GARBAGE = "not in the form that was asked for"
NOT_FOUND = "answer not in the passage"
GIVEN_AWAY = "question holds its own answer"
COPY = "copy of the passage"
ELSEWHERE = "says something else than the passage"
NUMBER = "number that the passage does not have"
LENGTH = "much shorter or longer than the passage"
REPEATED = "repeats another row"

TOO_NEAR = 0.7
"""Share of a paraphrase's runs of four words that stand in the passage, from which on it is a copy."""
TOO_FAR = 0.2
"""Share of a paraphrase's longer words that the passage has too, below which it speaks of something else."""
ALIKE = 0.9
"""Share of words in common (Jaccard) from which on two rows of a passage are one."""
SHORTEST, LONGEST = 0.25, 3.0
"""Words of a paraphrase, as a share of those of the passage."""
ANSWER_WORDS = 40

_DIGITS = re.compile(r"\d+")


def fault(candidate: Candidate, passage: str) -> str | None:
    """Return why a candidate cannot be used with its passage, None where nothing speaks against it."""
    return _text_fault(candidate["text"], passage) if "text" in candidate else _answer_fault(candidate, passage)


def found_in(answer: str, passage: str) -> bool:
    """Return whether an answer stands in a passage as whole words, letter case, punctuation and white space aside."""
    inside = words(answer)
    return bool(inside) and f" {inside} " in f" {words(passage)} "


def repeats(candidate: Candidate, others: Iterable[Candidate]) -> bool:
    """Return whether a candidate says what another row of the same passage says: the same question, or nearly the same text."""
    mine = _key(candidate)
    return any(_alike(mine, _key(other)) for other in others)


def key_of(candidate: Candidate) -> str:
    """Return what two rows, of whichever passages, may not share."""
    return _key(candidate)


def _key(candidate: Candidate) -> str:
    return words(candidate["text"] if "text" in candidate else candidate["question"])


def _alike(first: str, second: str) -> bool:
    one, other = set(first.split()), set(second.split())
    return first == second or (bool(one | other) and len(one & other) / len(one | other) >= ALIKE)


def _answer_fault(candidate: Candidate, passage: str) -> str | None:
    question, answer = candidate["question"], candidate["answer"]
    if len(words(question).split()) < 3 or len(words(answer).split()) > ANSWER_WORDS:
        return GARBAGE
    if not found_in(answer, passage):
        return NOT_FOUND
    if found_in(answer, question):
        return GIVEN_AWAY
    return COPY if not question.rstrip(" \"'”’").endswith(("?", "？")) and found_in(question, passage) else None


def _text_fault(text: str, passage: str) -> str | None:
    mine, theirs = words(text).split(), words(passage).split()
    if not SHORTEST <= len(mine) / max(len(theirs), 1) <= LONGEST:
        return LENGTH
    if set(_DIGITS.findall(text)) - set(_DIGITS.findall(passage)):
        return NUMBER
    if _share(_runs(mine), _runs(theirs)) >= TOO_NEAR:
        return COPY
    if _share({word for word in mine if len(word) > 3}, set(theirs)) < TOO_FAR:
        return ELSEWHERE
    return None


def _runs(text: list[str]) -> set[tuple[str, ...]]:
    """Return all runs of four words, the whole text where it is shorter."""
    return {tuple(text[start : start + 4]) for start in range(max(1, len(text) - 3))}


def _share(part: AbstractSet[Any], whole: AbstractSet[Any]) -> float:
    """Return the share of a set that stands in another; 0 of an empty one."""
    return len(part & whole) / len(part) if part else 0.0
