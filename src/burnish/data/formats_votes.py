"""From what several people marked to one example: the majority, and what was marked on which part of a row.

Used by the formats of labelling tools (`formats_exports`), which turn each tool's own form into `Votes`. Fields of a row and votes in,
`Pair`, `Rated`, `Labelled` or `Tagged` out, with notes where people disagree.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from burnish.data.formats_choice import DOWN, UP
from burnish.data.formats_dialog import answer_messages, prompt_messages, raise_all
from burnish.data.formats_feedback import Noted
from burnish.data.formats_messages import shown
from burnish.errors import suggestion
from burnish.types import Example, Labelled, Message, Origin, Pair, Rated, Span, Tagged, content

Fields = Mapping[str, Any]

PROMPTS = ("prompt", "instruction", "question", "query", "input", "messages", "conversation", "chat")
ANSWERS = ("answer", "response", "completion", "output", "reply", "generation")
TEXTS = ("text", "sentence", "content", "body", "document", "review", "utterance", "message", "comment")

UNMARKED = "not annotated; left out"
OUTVOTED = "annotators disagree; the majority counts"
UNDECIDED = "annotators disagree and none is in the majority; left out"


@dataclass(frozen=True)
class Where:
    """The fields that the user named for text, prompt and answer; None: found by their usual names."""

    text: str | None = None
    prompt: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class Votes:
    """What each person marked. By kind: "labels" tuples of labels, "number" numbers, "spans" sets of spans, "order" {field: rank}."""

    kind: str
    values: tuple[Any, ...]


def example_of(votes: Votes, fields: Fields, origin: Origin, *, where: Where, several: bool) -> Noted:
    """Return the example that the majority stands for, with a note where people disagree or nothing is decided.

    Raises DataError where the fields that the mark belongs to cannot be told.
    """
    if not votes.values:
        return Noted((), (UNMARKED,))
    problems: list[str] = []
    made, differs = _MAKE[votes.kind](votes.values, fields, origin, where, several, problems)
    raise_all(problems)
    if not made:
        return Noted((), (UNDECIDED if differs else "all answers have the same rank, which gives no pair; left out",))
    return Noted(made, (OUTVOTED,) if differs else ())


def _differs(values: tuple[Any, ...]) -> bool:
    """Say whether not all people marked the same."""
    return any(value != values[0] for value in values[1:])


# ------------------------------------------------------------------------------------------------------------------- one per kind

Made = tuple[tuple[Example, ...], bool]


def _labels(votes: Any, fields: Fields, origin: Origin, where: Where, several: bool, problems: list[str]) -> Made:
    """Return a labelled text; of several labels those that more than half marked, of single ones the most frequent."""
    counted = Counter(label for vote in votes for label in vote) if several else Counter(votes)
    if several:
        labels = tuple(label for label, count in counted.items() if 2 * count > len(votes))
    else:
        if any(len(vote) > 1 for vote in votes):
            problems.append(
                f"several labels ({', '.join(max(votes, key=len))}) where one was expected; set the option several = true"
            )
            return (), False
        (first, most), *rest = counted.most_common()
        if rest and rest[0][1] == most:
            return (), True
        labels = first
    rated = _rated_by_word(labels, fields, where, origin, problems)
    if rated is not None:
        return (rated,), _differs(votes)
    words = _text(fields, where.text, problems)
    sets = tuple(frozenset(vote) for vote in votes)
    return (Labelled(content=content(words), labels=labels, several=several, origin=origin),), _differs(sets)


def _rated_by_word(labels: tuple[str, ...], fields: Fields, where: Where, origin: Origin, problems: list[str]) -> Rated | None:
    """Return a thumb where the label is a word for good or bad and stands on an answer to a prompt, else None."""
    word = labels[0].strip().lower().replace(" ", "_") if len(labels) == 1 else ""
    if where.text is not None or word not in UP | DOWN or not _has_answer(fields, where):
        return None
    return Rated(messages=_exchange(fields, where, problems), rating=float(word in UP), origin=origin)


def _number(votes: Any, fields: Fields, origin: Origin, where: Where, several: bool, problems: list[str]) -> Made:
    """Return a rated answer where there are prompt and answer, else a text with a number: the median of what people gave."""
    value = float(statistics.median(votes))
    if where.text is None and _has_answer(fields, where):
        return (Rated(messages=_exchange(fields, where, problems), rating=value, origin=origin),), _differs(votes)
    words = _text(fields, where.text, problems)
    return (Labelled(content=content(words), number=value, origin=origin),), _differs(votes)


def _spans(votes: Any, fields: Fields, origin: Origin, where: Where, several: bool, problems: list[str]) -> Made:
    """Return a text with the spans that more than half marked, letter for letter."""
    words = _text(fields, where.text, problems)
    counted = Counter(span for vote in votes for span in vote)
    chosen = {span for span, count in counted.items() if 2 * count > len(votes)}
    for span in sorted(chosen):
        if not 0 <= span.start < span.end <= len(words) and not problems:
            problems.append(f"spans: {span.start} to {span.end} is not inside the text (0 to {len(words)})")
    return (Tagged(content=content(words), spans=tuple(sorted(chosen)), origin=origin),), _differs(votes)


def _order(votes: Any, fields: Fields, origin: Origin, where: Where, several: bool, problems: list[str]) -> Made:
    """Return a pair for each two answers of which more than half of the people put one first."""
    names = list(dict.fromkeys(name for vote in votes for name in vote))
    unknown = [name for name in names if name not in fields]
    if unknown:
        problems.append(
            f"{unknown[0]!r} is ranked, but no field of the row; its fields are {', '.join(map(str, fields)) or 'none'}"
        )
        return (), False
    prompt = _prompt(fields, where.prompt, problems)
    texts = {name: answer_messages(fields[name], name, problems) for name in names}
    better = [
        (one, other)
        for one, other in permutations(names, 2)
        if 2 * sum(one in vote and other in vote and vote[one] < vote[other] for vote in votes) > len(votes)
        and texts[one] != texts[other]
    ]
    pairs = tuple(Pair(prompt=prompt, chosen=texts[one], rejected=texts[other], origin=origin) for one, other in better)
    return pairs, _differs(votes)


_MAKE = {"labels": _labels, "number": _number, "spans": _spans, "order": _order}


# --------------------------------------------------------------------------------------------------------------- which field it is


def find_field(fields: Fields, given: str | None, names: tuple[str, ...], what: str, problems: list[str]) -> str | None:
    """Return the field that the user named, else the first with a usual name, letter case aside; None where there is none."""
    if given is not None:
        if given not in fields:
            problems.append(
                f"{what}: there is no field {given!r}; the row has {', '.join(map(str, fields))}.{suggestion(given, fields)}"
            )
            return None
        return given
    lowered = {str(name).lower(): name for name in reversed(list(fields))}
    return next((lowered[name] for name in names if name in lowered and fields[lowered[name]]), None)


def _has_answer(fields: Fields, where: Where) -> bool:
    """Say whether a row has both a prompt and one answer to it."""
    aside: list[str] = []
    return all(
        find_field(fields, given, names, "", aside) is not None
        for given, names in ((where.prompt, PROMPTS), (where.answer, ANSWERS))
    )


def _exchange(fields: Fields, where: Where, problems: list[str]) -> tuple[Message, ...]:
    """Return prompt and answer as messages."""
    prompt = _prompt(fields, where.prompt, problems)
    name = find_field(fields, where.answer, ANSWERS, "answer", problems)
    return prompt if name is None else (*prompt, *answer_messages(fields[name], name, problems))


def _prompt(fields: Fields, given: str | None, problems: list[str]) -> tuple[Message, ...]:
    """Return the messages of the prompt; a problem where no field is one."""
    name = find_field(fields, given, PROMPTS, "prompt", problems)
    if name is None:
        if given is None:
            problems.append(
                f"prompt: no field is called {', '.join(PROMPTS[:5])} or so, the row has {_names(fields)}; name it with the option prompt"
            )
        return ()
    return prompt_messages(fields[name], name, problems)


def _text(fields: Fields, given: str | None, problems: list[str]) -> str:
    """Return the text that was marked: the named field, one with a usual name, or the only text of the row."""
    name = find_field(fields, given, TEXTS, "text", problems)
    texts = [key for key, value in fields.items() if isinstance(value, str) and value.strip()]
    if name is None and given is None and len(texts) == 1:
        name = texts[0]
    if name is None:
        if given is None:
            problems.append(f"text: cannot tell which field was marked, the row has {_names(fields)}; name it with the option text")
        return ""
    value = fields[name]
    if not isinstance(value, str) or not value.strip():
        problems.append(f"{name}: expected text, found {shown(value)}")
        return ""
    return value


def _names(fields: Fields) -> str:
    """Return the names of the fields for a message."""
    return ", ".join(map(str, fields)) or "none"


def span_of(start: Any, end: Any, label: Any, inside: Any, words: str) -> Span | None:
    """Return a span of characters, or None where its numbers or its label are none.

    Browsers count UTF-16 units, of which a character beyond U+FFFF has two: where the text that stands beside the span says so, the
    offsets are counted anew.
    """
    numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in (start, end))
    if not numbers or not isinstance(label, str) or not label.strip():
        return None
    if isinstance(inside, str) and words[max(start, 0) : max(end, 0)] != inside:
        units = words.encode("utf-16-le", "surrogatepass")
        if units[2 * max(start, 0) : 2 * max(end, 0)] == inside.encode("utf-16-le", "surrogatepass"):
            start = len(units[: 2 * start].decode("utf-16-le", "surrogatepass"))
            return Span(start, start + len(inside), label)
        return None
    return Span(start, end, label)
