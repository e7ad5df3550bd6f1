"""The score of answers that must carry facts over: figures, dates, names and codes of the request that the reference takes up.

In: answers and tasks with a reference text. Out: statistics [rows, 2] that add up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from burnish.scores.parts import means, text_of
from burnish.types import Answer, Task, plain

_WORD = re.compile(r"[^\W_]+(?:[-.,:'’/][^\W_]+)*")
_SENTENCE = re.compile(r"(?:^|[.!?:;\n]\s*)$")


def facts_of(text: str) -> list[str]:
    """Return the words of a text that are facts by their form: with a digit, or with a capital letter inside a sentence."""
    found = []
    for match in _WORD.finditer(text):
        word = match[0]
        starts = _SENTENCE.search(text[: match.start()]) is not None
        if any(sign.isdigit() for sign in word) or (word[:1].isupper() and not starts):
            found.append(word)
    return list(dict.fromkeys(found))


def required(task: Task) -> list[str]:
    """Return the facts of a task's canonical answer that stand in what was asked: what an answer must not lose or change."""
    if not task.expected.texts:
        return []
    asked = {word for message in task.messages for word in _WORD.findall(plain(message.content))}
    return [word for word in facts_of(task.expected.texts[0]) if word in asked]


def has_facts(task: Task) -> bool:
    """Whether there is a fact to carry over."""
    return bool(required(task))


def facts_kept(answers: Sequence[Answer], tasks: Sequence[Task], *, invented: bool = True) -> np.ndarray:
    """Facts of the request that the reference takes up and the answer holds too, as a share per answer, averaged over answers.

    Statistics [rows, 2]. A fact is a word with a digit, or with a capital letter inside a sentence, letter by letter as in the request. With
    `invented`, an answer that holds a figure which stands neither in the request nor in the reference is worth nothing, whatever else it keeps.
    """

    def share(answer: Answer, task: Task) -> float | None:
        wanted = required(task)
        if not wanted:
            return None
        given = _WORD.findall(text_of(answer))
        if invented and _invents(given, task):
            return 0.0
        return sum(word in given for word in wanted) / len(wanted)

    return means(share(answer, task) for answer, task in zip(answers, tasks, strict=True))


def _invents(given: Sequence[str], task: Task) -> bool:
    """Return whether there is a word with a digit among those given that nobody gave."""
    told = {word for message in task.messages for word in _WORD.findall(plain(message.content))}
    told |= {word for text in task.expected.texts for word in _WORD.findall(text)}
    return any(word not in told and any(sign.isdigit() for sign in word) for word in given)
