"""The same question in other words: made by rule, or given by the user, so that it shows whether a model answers the question or its wording.

Enters: tasks, and perhaps a file of questions with other wordings of each. Leaves: tasks that ask the same. Used by `evaluate` and `decide`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from burnish.data.fields import normalised
from burnish.data.sources import read
from burnish.errors import DataError, combined
from burnish.types import Task, content, plain

COLUMNS = ("question", "paraphrases")
_POLITE = "Could you tell me: "


@dataclass(frozen=True, slots=True)
class Wordings:
    """Other wordings by question, its spelling evened out; those of a question that is not among them are made by rule."""

    given: Mapping[str, tuple[str, ...]]

    def of(self, question: str) -> tuple[str, ...]:
        """Return the other wordings of a question."""
        return self.given.get(normalised(question)) or by_rule(question)

    def known(self, questions: Iterable[str]) -> int:
        """Return how many of these questions have wordings of the user's."""
        return sum(normalised(question) in self.given for question in questions)


RULES = Wordings({})
"""Nothing given: all by rule."""


def by_rule(question: str) -> tuple[str, ...]:
    """Return a question in other words by rule, the meaning kept: small letters, no mark at its end, a polite beginning."""
    return question.lower(), question.rstrip("?.! "), _POLITE + question[:1].lower() + question[1:]


def worded(task: Task, question: str, way: str) -> Task:
    """Return the task with its question in other words; what stands around the question stays, and what is expected of it."""
    *before, last = task.messages
    text = plain(last.content).replace(question, way)
    asked = task.expected.asked
    expected = task.expected if asked is None else replace(task.expected, asked=replace(asked, question=way))
    return replace(task, messages=(*before, replace(last, content=content(text))), expected=expected)


def read_wordings(source: str, base: Path) -> Wordings:
    """Return the wordings of a file with the columns question and paraphrases (a list, or one text).

    Raises DataError with every row that cannot be used, with its file and line.
    """
    table = read(source, base=base)
    found: dict[str, tuple[str, ...]] = {}
    problems = list(table.problems)
    for row in table.rows:
        question, given = (row.values.get(name) for name in COLUMNS)
        ways = [given] if isinstance(given, str) else given
        if not isinstance(question, str) or not question.strip():
            problems.append(f"{row.origin}: 'question' holds no text")
        elif not isinstance(ways, list | tuple) or not ways or not all(isinstance(one, str) and one.strip() for one in ways):
            problems.append(
                f"{row.origin}: 'paraphrases' is no list of texts: write the question in other words, several of them if you can"
            )
        elif any(normalised(one) == normalised(question) and one == question for one in ways):
            problems.append(f"{row.origin}: a paraphrase is the question itself")
        else:
            found[normalised(question)] = (*found.get(normalised(question), ()), *ways)
    if problems:
        raise combined(DataError, f"{source}: paraphrases that cannot be used", problems)
    if not found:
        raise DataError(f"{source}: no paraphrases in it. Expected rows with the columns {' and '.join(COLUMNS)}.")
    return Wordings(found)
