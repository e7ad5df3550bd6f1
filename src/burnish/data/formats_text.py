"""The formats of texts and their labels: running text, one or several labels per text, labelled spans, answers inside a context.

A row's values under their standard names in, `Text`, `Labelled`, `Tagged` or `Answerable` out. Offsets count characters from 0, the
end excluded. A wrong offset is never corrected unasked: with `repair` it is, where the text occurs exactly once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeGuard

from burnish.data.formats_choice import number
from burnish.data.formats_dialog import optional_text, raise_all, required_text
from burnish.data.formats_messages import decoded, shown
from burnish.types import Answerable, Labelled, Origin, Span, Tagged, Text, content

Values = Mapping[str, Any]
START = ("start", "start_offset", "begin", "answer_start")
END = ("end", "end_offset", "stop")
LABEL = ("label", "type", "tag", "entity", "entity_group", "class")
PARAGRAPH = re.compile(r"(?:[^\S\n]*\S[^\n]*(?:\n|\Z))+")
"""Lines that follow each other and are not blank."""


def text(values: Values, origin: Origin, *, passage: Literal["document", "paragraph"] = "document") -> Text | tuple[Text, ...]:
    """A text to continue: every token of it is learned.

    `passage` says what one example is: the whole text of the row (or file, section, page), or each paragraph, that is what stands
    between blank lines. All passages of a file are one group, so that no file is divided between training and test.
    """
    problems: list[str] = []
    if passage not in ("document", "paragraph"):
        problems.append(f"passage: expected 'document' or 'paragraph', found {shown(passage)}")
    whole = required_text(values, "text", problems)
    raise_all(problems)
    from_file = values.get("file") == origin.file
    group = origin.file if from_file else None
    if passage == "document":
        return Text(text=whole, origin=origin, group=group)
    made = []
    for piece in PARAGRAPH.finditer(whole):
        line = origin.line
        if from_file and line is not None:
            line += whole.count("\n", 0, piece.start())
        made.append(Text(text=piece[0].strip(), origin=dataclasses.replace(origin, line=line), group=group))
    return tuple(made)


def labelled(values: Values, origin: Origin, *, separator: str | None = None) -> Labelled:
    """A text with one label, several labels (a list), or a number in the column `number`.

    `separator` divides a cell with several labels, such as 'brakes;noise'. A whole number or true/false as label is its name.
    """
    problems: list[str] = []
    words = required_text(values, "text", problems)
    label = values.get("label")
    if label is None and values.get("number") is not None:
        value = number(values["number"], "number", problems)
        raise_all(problems)
        return Labelled(content=content(words), number=value, origin=origin)
    if isinstance(label, str) and separator:
        label = [part.strip() for part in label.split(separator) if part.strip()]
    several = isinstance(label, list | tuple)
    labels = tuple(_label(one, problems) for one in (label if several else [label]))  # type: ignore[union-attr]
    if len(set(labels)) != len(labels):
        problems.append(f"label: the same label stands twice in {shown(label)}")
    raise_all(problems)
    return Labelled(content=content(words), labels=labels, several=several, origin=origin)


def _label(value: Any, problems: list[str]) -> str:
    """Return the name of one label."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, float) and value == value:  # NaN is an empty cell of a data frame, and is reported as missing
        problems.append(f"label: {value} is a number, not a class; map it as columns.number")
    return required_text({"label": value}, "label", problems).strip()


# --------------------------------------------------------------------------------------------------------------------- spans


def spans(values: Values, origin: Origin, *, repair: bool = False) -> Tagged:
    """A text with labelled spans: of characters, or as tokens with IOB tags, or as tokens with entities counted in tokens.

    Spans of characters are objects with start, end, label (and text, which is checked) or lists [start, end, label]. Tokens are
    joined by single spaces. A span whose text is elsewhere is an error that names both offsets; `repair` moves it where its text
    occurs exactly once.
    """
    problems: list[str] = []
    if values.get("tokens") is not None or "text" not in values:
        words, found = _of_tokens(values, problems)
    else:
        words = required_text(values, "text", problems)
        given = _listed(values.get("spans"), "spans", problems)
        found = [span for n, one in enumerate(given, 1) if (span := _span(one, f"spans[{n}]", words, problems, repair=repair))]
    raise_all(problems)
    return Tagged(content=content(words), spans=tuple(sorted(found)), origin=origin)


def _listed(value: Any, name: str, problems: list[str]) -> list[Any]:
    """Return a list, also from JSON text in a cell."""
    if isinstance(value, str) and value.strip():
        value = decoded(value, name, problems)
    if isinstance(value, list | tuple):
        return list(value)
    problems.append(f"{name}: expected a list, found {shown(value)}")
    return []


def _parts(one: Any, place: str, problems: list[str]) -> tuple[int, int, str, str | None] | None:
    """Return start, end, label and text (None: not given) of a span; a problem where it has another form."""
    if isinstance(one, Mapping):
        start, end, label = (next((one[name] for name in names if name in one), None) for names in (START, END, LABEL))
        inside = one.get("text", one.get("word"))
    elif isinstance(one, list | tuple) and len(one) == 3:
        (start, end, label), inside = one, None
    else:
        problems.append(f"{place}: expected {{'start', 'end', 'label'}} or [start, end, label], found {shown(one)}")
        return None
    if isinstance(inside, str) and isinstance(start, int) and end is None:
        end = start + len(inside)
    if not _offset(start) or not _offset(end) or not isinstance(label, str | int) or str(label).strip() == "":
        problems.append(f"{place}: expected whole numbers start and end and a label, found {shown(one)}")
        return None
    return start, end, str(label), inside if isinstance(inside, str) else None


def _offset(value: Any) -> TypeGuard[int]:
    """Say whether a value is a whole number, and not true or false, which Python counts among them."""
    return isinstance(value, int) and not isinstance(value, bool)


def _span(one: Any, place: str, words: str, problems: list[str], *, repair: bool) -> Span | None:
    """Return one span of characters, checked against the text and against its own text where it has one."""
    parts = _parts(one, place, problems)
    if parts is None:
        return None
    start, end, label, inside = parts
    if inside is not None and words[max(start, 0) : max(end, 0)] != inside:
        at = locate(words, inside, start, place, problems, repair=repair)
        return None if at is None else Span(at, at + len(inside), label)
    if not 0 <= start < end <= len(words):
        problems.append(f"{place}: {start} to {end} is not inside the text (0 to {len(words)})")
        return None
    return Span(start, end, label)


def locate(words: str, inside: str, start: int | None, place: str, problems: list[str], *, repair: bool) -> int | None:
    """Return the offset at which a text truly occurs, or None with a problem that names the given and the true offset."""
    found = [match.start() for match in re.finditer(f"(?={re.escape(inside)})", words)] if inside else []
    if len(found) == 1 and (repair or start is None):
        return found[0]
    what = f"{place}: {shown(inside)} is not at offset {start}" if start is not None else f"{place}: {shown(inside)} has no offset"
    if len(found) == 1:
        problems.append(f"{what} but at {found[0]}; correct it, or set data.repair = true to apply unique matches")
    elif found:
        problems.append(f"{what} and occurs {len(found)} times ({', '.join(map(str, found[:4]))} …); give the right offset")
    else:
        problems.append(f"{what} and occurs nowhere in the text; correct the text or the answer")
    return None


def _of_tokens(values: Values, problems: list[str]) -> tuple[str, list[Span]]:
    """Return the text of tokens, joined by single spaces, and its spans from IOB tags or from entities counted in tokens."""
    tokens = _listed(values.get("tokens"), "tokens", problems)
    bad = [token for token in tokens if not isinstance(token, str) or not token.strip()]
    if bad or not tokens:
        problems.append(f"tokens: expected texts, found {shown(bad[0]) if bad else 'none'}")
        return "", []
    starts, at = [], 0
    for token in tokens:
        starts.append(at)
        at += len(token) + 1
    if values.get("tags") is not None or "spans" not in values:
        ranges = _iob(_listed(values.get("tags"), "tags", problems), len(tokens), problems)
    else:
        ranges = []
        for position, one in enumerate(_listed(values.get("spans"), "spans", problems), 1):
            parts = _parts(one, f"spans[{position}]", problems)
            if parts is not None and not 0 <= parts[0] < parts[1] <= len(tokens):
                problems.append(f"spans[{position}]: {parts[0]} to {parts[1]} is not inside the {len(tokens)} tokens")
            elif parts is not None:
                ranges.append((parts[0], parts[1], parts[2]))
    return " ".join(tokens), [Span(starts[first], starts[last - 1] + len(tokens[last - 1]), label) for first, last, label in ranges]


def _iob(tags: list[Any], count: int, problems: list[str]) -> list[tuple[int, int, str]]:
    """Return (first token, token behind, label) of IOB, IOB2, IOBES or BILOU tags.

    I- (and E-, L-) without a beginning of the same label begins a span, as in the evaluation script of CoNLL-2000.
    """
    if len(tags) != count:
        problems.append(f"tags: {len(tags)} tags for {count} tokens; expected one each")
        return []
    ranges: list[tuple[int, int, str]] = []
    running: str | None = None
    for place, tag in enumerate(tags):
        kind, _, label = tag.partition("-") if isinstance(tag, str) else ("", "", "")
        if tag != "O" and (kind not in ("B", "I", "E", "S", "L", "U", "M") or not label):
            hint = "; give the names of the classes instead of numbers" if isinstance(tag, int) else ""
            problems.append(f"tags[{place + 1}]: {shown(tag)} is not O, B-LABEL or I-LABEL{hint}")
            return []
        if tag == "O":
            running = None
        elif kind in ("I", "E", "L", "M") and running == label:
            ranges[-1] = (ranges[-1][0], place + 1, label)
        else:
            ranges.append((place, place + 1, label))
        if tag != "O":
            running = None if kind in ("E", "L", "S", "U") else label
    return ranges


# --------------------------------------------------------------------------------------------------------------------- SQuAD


def squad(values: Values, origin: Origin, *, repair: bool = False) -> Answerable:
    """A question on a context, with answers that are pieces of it, or none where the context does not say (SQuAD 1.1 and 2.0).

    `answers` is {'text': […], 'answer_start': […]} or a list of {'text', 'answer_start'}; or the columns `answer` and
    `answer_start` hold the only one. An answer that is elsewhere is an error that names both offsets; `repair` applies the true one
    where the answer occurs exactly once. Questions of one document (else one context) are one group.
    """
    problems: list[str] = []
    question = required_text(values, "question", problems)
    context = required_text(values, "context", problems)
    answers = []
    for n, (inside, start) in enumerate(_answers(values, problems), 1):
        if not isinstance(inside, str) or not inside.strip() or not (start is None or isinstance(start, int)):
            problems.append(f"answers[{n}]: expected a text and its offset, found {shown((inside, start))}")
        elif start is not None and start >= 0 and context[start : start + len(inside)] == inside:
            answers.append((start, inside))
        elif (at := locate(context, inside, start, f"answers[{n}]", problems, repair=repair)) is not None:
            answers.append((at, inside))
    raise_all(problems)
    document = optional_text(values, "document", problems)
    group = document.strip() or hashlib.sha256(context.encode()).hexdigest()[:16]
    return Answerable(question=question, context=context, answers=tuple(dict.fromkeys(answers)), origin=origin, group=group)


def _answers(values: Values, problems: list[str]) -> list[tuple[Any, Any]]:
    """Return (text, offset) of each answer; none where the question has no answer."""
    given = values.get("answers")
    if isinstance(given, str) and given.strip():
        given = decoded(given, "answers", problems)
    if given is None and values.get("answer") is not None:
        start = values.get("answer_start")
        start = int(start) if isinstance(start, str) and start.strip().isdigit() else start
        return [(values["answer"], None if start == "" else start)] if values["answer"] != "" else []
    if isinstance(given, Mapping):
        texts, starts = given.get("text"), given.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            return list(zip(texts, starts, strict=True))
    elif isinstance(given, list) and all(isinstance(one, Mapping) for one in given):
        return [(one.get("text"), one.get("answer_start")) for one in given]
    elif isinstance(given, list) and all(isinstance(one, str) for one in given):
        return [(one, None) for one in given]
    problems.append(f"answers: expected {{'text': […], 'answer_start': […]}} (empty lists: no answer), found {shown(given)}")
    return []
