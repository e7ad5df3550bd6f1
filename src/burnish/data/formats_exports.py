"""The formats of labelling tools: exports of Label Studio and of Argilla, in the tools' own JSON.

A row's values under their standard names in; out what the export says: a preference becomes pairs, a rating of an answer `Rated`, labels
and numbers of a text `Labelled`, marked spans `Tagged`. What several people marked is settled in `formats_votes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from burnish.data.formats_dialog import raise_all
from burnish.data.formats_feedback import Noted, Survey
from burnish.data.formats_messages import decoded, shown
from burnish.data.formats_votes import UNMARKED, Votes, Where, example_of, span_of
from burnish.errors import suggestion
from burnish.types import Origin, Span

Values = Mapping[str, Any]
KINDS = {"labels": "labels", "number": "a number", "spans": "spans", "order": "a preference"}
"""The kinds of votes, in words."""
SIDES = (("left", "right"), ("Left", "Right"), ("a", "b"), ("A", "B"))
STEMS = ("answer", "response", "completion", "output", "reply", "generation", "text", "summary")
ENDS = (("1", "2"), ("_1", "_2"), ("-1", "-2"), ("_a", "_b"), ("_A", "_B"), ("A", "B"), ("0", "1"), ("_0", "_1"))


class Mark(NamedTuple):
    """What one person said to one question."""

    question: str
    kind: str
    value: Any


class Reading(NamedTuple):
    """A row of an export: its fields, the marks of each person, and the kinds of marks that are not read."""

    fields: Mapping[str, Any]
    people: list[list[Mark]]
    unread: set[str]


# ------------------------------------------------------------------------------------------------------------------ Label Studio


def label_studio(
    values: Values,
    origin: Origin,
    *,
    question: str | None = None,
    text: str | None = None,
    prompt: str | None = None,
    answer: str | None = None,
    left: str | None = None,
    right: str | None = None,
    several: bool | None = None,
) -> Noted:
    """A task of a Label Studio export (JSON): its data, and annotations of type choices, labels, rating, number or pairwise.

    `question` is the name of the control that is read (`from_name`), where there are several; `text`, `prompt`, `answer`, `left` and
    `right` name fields of `data` that have no usual name. `several` says whether a text may have several labels; not set: whether one
    has. What several people marked is settled by majority, numbers by their median; disagreements are counted.
    """
    problems: list[str] = []
    reading = _label_studio(values, (left, right), problems)
    raise_all(problems)
    return _example(reading, question, Where(text, prompt, answer), bool(several), origin)


def _label_studio(values: Values, sides: tuple[str | None, str | None], problems: list[str]) -> Reading:
    """Return a task's data, and the marks of each annotation that was not cancelled."""
    fields = _object(values.get("data"), "data", problems)
    given = values.get("annotations")
    if isinstance(given, str) and given.strip():
        given = decoded(given, "annotations", problems)
    if not isinstance(given, list | tuple):
        problems.append(f"annotations: expected a list of annotations, found {shown(given)}; export as JSON, not as JSON-MIN")
        return Reading(fields, [], set())
    people, unread = [], set()
    for number, annotation in enumerate(given, 1):
        results = annotation.get("result") if isinstance(annotation, Mapping) else None
        if not isinstance(results, list) or not all(isinstance(one, Mapping) for one in results):
            problems.append(f"annotations[{number}]: expected an object with a list 'result', found {shown(annotation)}")
            continue
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            continue
        marks: dict[str, Mark] = {}
        for place, result in enumerate(results, 1):
            kind = result.get("type")
            if kind not in RESULTS:
                unread.add(str(kind))
                continue
            where = f"annotations[{number}].result[{place}]"
            value = result.get("value")
            if not isinstance(value, Mapping):
                problems.append(f"{where}: expected an object 'value', found {shown(value)}")
                continue
            mark = RESULTS[kind](result, value, fields, sides, where, problems)
            if mark is not None:
                earlier = marks.get(mark.question)
                joined = earlier.value | mark.value if earlier and earlier.kind == mark.kind == "spans" else mark.value
                marks[mark.question] = mark._replace(value=joined)
        people.append(list(marks.values()))
    return Reading(fields, people, unread)


Result = Mapping[str, Any]
Sides = tuple[str | None, str | None]


def _choices(result: Result, value: Result, fields: Values, sides: Sides, where: str, problems: list[str]) -> Mark | None:
    """Return the labels of a result of type choices."""
    labels = value.get("choices")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) and label.strip() for label in labels):
        problems.append(f"{where}: expected 'choices', a list of texts, found {shown(labels)}")
        return None
    return Mark(str(result.get("from_name")), "labels", tuple(dict.fromkeys(label.strip() for label in labels)))


def _region(result: Result, value: Result, fields: Values, sides: Sides, where: str, problems: list[str]) -> Mark | None:
    """Return the spans of a result of type labels, checked against the text that stands beside it."""
    labels = value.get("labels")
    words = fields.get(str(result.get("to_name")))
    texts = [text for text in fields.values() if isinstance(text, str)]
    candidates = [words] if isinstance(words, str) else texts
    found: set[Span] = set()
    for label in labels if isinstance(labels, list) else [None]:
        spans = [span_of(value.get("start"), value.get("end"), label, value.get("text"), text) for text in candidates]
        if not any(spans):
            problems.append(
                f"{where}: expected start, end, labels, and a text that stands there in the data, found {shown(dict(value))}"
            )
            return None
        found.add(next(span for span in spans if span))
    return Mark(str(result.get("from_name")), "spans", frozenset(found))


def _rating(result: Result, value: Result, fields: Values, sides: Sides, where: str, problems: list[str]) -> Mark | None:
    """Return the number of a result of type rating or number."""
    number = value.get("rating", value.get("number"))
    if not _is_number(number):
        problems.append(f"{where}: expected a number, found {shown(number)}")
        return None
    return Mark(str(result.get("from_name")), "number", number)


def _pairwise(result: Result, value: Result, fields: Values, sides: Sides, where: str, problems: list[str]) -> Mark | None:
    """Return the order of the two fields that were compared: as named, as the control names them, or by their usual names."""
    selected = value.get("selected")
    if selected not in ("left", "right"):
        problems.append(f"{where}: expected 'selected', left or right, found {shown(selected)}")
        return None
    shown_names = tuple(name.strip() for name in str(result.get("to_name")).split(","))
    usual = [*SIDES, *((stem + one, stem + other) for stem in STEMS for one, other in ENDS)]
    given = [(sides[0], sides[1])] if None not in sides else [shown_names, *usual]
    pair = next((both for both in given if len(both) == 2 and all(name in fields for name in both)), None)
    if pair is None:
        problems.append(
            f"{where}: cannot tell which fields were compared, the data has {', '.join(map(str, fields)) or 'none'}; "
            "name them with the options left and right"
        )
        return None
    return Mark(str(result.get("from_name")), "order", {pair[0]: 1 + (selected == "right"), pair[1]: 1 + (selected == "left")})


RESULTS: dict[Any, Callable[..., Mark | None]] = {
    "choices": _choices,
    "labels": _region,
    "rating": _rating,
    "number": _rating,
    "pairwise": _pairwise,
}


# ----------------------------------------------------------------------------------------------------------------------- Argilla


def argilla(
    values: Values,
    origin: Origin,
    *,
    question: str | None = None,
    text: str | None = None,
    prompt: str | None = None,
    answer: str | None = None,
    several: bool | None = None,
    suggestions: bool = False,
) -> Noted:
    """A record of an Argilla export (JSON or JSON Lines): its fields, and responses to label, rating, ranking and span questions.

    `question` names the question that is read, where there are several; `text`, `prompt` and `answer` name fields that have no usual
    name. `several` says whether a text may have several labels; not set: whether one has. `suggestions` takes a record's suggestion
    where nobody responded. Drafts and discarded responses do not count; several people are settled by majority.
    """
    problems: list[str] = []
    reading = _argilla(values, suggestions, problems)
    raise_all(problems)
    return _example(reading, question, Where(text, prompt, answer), bool(several), origin)


def _argilla(values: Values, suggestions: bool, problems: list[str]) -> Reading:
    """Return a record's fields, and the marks of each person who responded."""
    fields = _object(values.get("fields"), "fields", problems)
    given = values.get("responses")
    if isinstance(given, str) and given.strip():
        given = decoded(given, "responses", problems)
    answers = list(_responses(given, problems))
    if not answers and suggestions and values.get("suggestions"):
        proposed = values["suggestions"]
        listed = (
            proposed.items() if isinstance(proposed, Mapping) else [(one.get("question_name"), one) for one in _objects(proposed)]
        )
        answers = [("suggestion", str(name), one.get("value")) for name, one in listed if isinstance(one, Mapping)]
    people: dict[str, list[Mark]] = {}
    for person, name, value in answers:
        mark = _argilla_mark(name, value, fields, problems)
        if mark is not None:
            people.setdefault(person, []).append(mark)
    return Reading(fields, list(people.values()), set())


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a list, none of what is no list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


def _responses(given: Any, problems: list[str]) -> list[tuple[str, str, Any]]:
    """Return (person, question, value) of what was submitted, from {question: [response]} or [{user_id, values}]."""
    if isinstance(given, Mapping):
        listed = [(name, one) for name, each in given.items() for one in (each if isinstance(each, list) else [each])]
        wrong = [(name, one) for name, one in listed if not isinstance(one, Mapping) or "value" not in one]
        for name, one in wrong[:1]:
            problems.append(f"responses.{name}: expected objects with value and user_id, found {shown(one)}")
        kept = [(name, one, one["value"]) for name, one in listed if (name, one) not in wrong]
    elif isinstance(given, list | tuple) and all(
        isinstance(one, Mapping) and isinstance(one.get("values"), Mapping) for one in given
    ):
        kept = [
            (name, one, value.get("value") if isinstance(value, Mapping) else value)
            for one in given
            for name, value in one["values"].items()
        ]
    else:
        problems.append(
            f"responses: expected the responses to each question, found {shown(given)}; export with dataset.records.to_json"
        )
        return []
    submitted = [(name, one, value) for name, one, value in kept if one.get("status", "submitted") in ("submitted", None)]
    return [(str(one.get("user_id", place)), str(name), value) for place, (name, one, value) in enumerate(submitted)]


def _argilla_mark(name: str, value: Any, fields: Values, problems: list[str]) -> Mark | None:
    """Return a response as a mark; its kind is told by its value, since an export does not name the type of a question."""
    if isinstance(value, str) and value.strip():
        return Mark(name, "labels", (value.strip(),))
    if _is_number(value):
        return Mark(name, "number", value)
    if value == []:
        return Mark(name, "empty", ())
    if isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value):
        ranking = len(value) > 1 and all(one in fields for one in value)
        return (
            Mark(name, "order", {one: place for place, one in enumerate(value)}) if ranking else Mark(name, "labels", tuple(value))
        )
    if isinstance(value, list) and all(
        isinstance(one, Mapping) and isinstance(one.get("value"), str) and _is_number(one.get("rank")) for one in value
    ):
        return Mark(name, "order", {one["value"]: one["rank"] for one in value})
    if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
        spans = [span_of(one.get("start"), one.get("end"), one.get("label"), None, "") for one in value]
        if all(spans):
            return Mark(name, "spans", frozenset(span for span in spans if span))
    problems.append(f"responses.{name}: expected a label, a list of labels, a number, a ranking or spans, found {shown(value)}")
    return None


# ------------------------------------------------------------------------------------------------------------------- shared parts


def _example(reading: Reading, question: str | None, where: Where, several: bool, origin: Origin) -> Noted:
    """Return what the marks on the one question that is read come to."""
    marked = {mark.question: mark.kind for marks in reading.people for mark in marks if mark.kind != "empty"}
    empty = {mark.question for marks in reading.people for mark in marks if mark.kind == "empty"}
    if question is None and len(marked) > 1:
        named = ", ".join(f"{name!r} ({KINDS[kind]})" for name, kind in marked.items())
        raise_all([f"question: several questions were answered: {named}; name the one to read with the option question"])
    question = next(iter(marked or empty), None) if question is None else question
    notes = tuple(f"marks of type {kind} are not read" for kind in sorted(reading.unread))
    kind = marked.get(question or "")
    if question is not None and kind is None and question not in empty and marked:
        near = suggestion(question, marked)
        return Noted((), (f"nothing is marked for the question {question!r}, only for {', '.join(marked)}{near}; left out", *notes))
    if kind is None:
        return Noted((), (UNMARKED, *notes))
    given = []
    for marks in reading.people:
        own = next((mark for mark in marks if mark.question == question), None)
        if own is not None and own.kind in (kind, "empty"):
            given.append(own.value if own.kind == kind else frozenset() if kind == "spans" else ())
        elif own is not None:
            raise_all([f"{question}: holds {KINDS[kind]} and {KINDS[own.kind]}; expected one kind"])
        elif kind == "spans":
            given.append(frozenset())  # somebody who looked and marked nothing
    made = example_of(Votes(kind, tuple(given)), reading.fields, origin, where=where, several=several)
    return Noted(made.examples, (*made.notes, *notes))


def survey_label_studio(rows: Sequence[Values], options: Mapping[str, Any]) -> Survey:
    """Return the options, `several` filled in by whether any text has several labels."""
    return _with_several(rows, options, lambda row: _label_studio(row, (None, None), []))


def survey_argilla(rows: Sequence[Values], options: Mapping[str, Any]) -> Survey:
    """Return the options, `several` filled in by whether any text has several labels."""
    return _with_several(rows, options, lambda row: _argilla(row, bool(options.get("suggestions")), []))


def _with_several(rows: Sequence[Values], options: Mapping[str, Any], read: Callable[[Values], Reading]) -> Survey:
    """Return the options with `several` where the user has not set it, and a warning where it follows from the rows."""
    counts = [True] * len(rows)
    if options.get("several") is not None:
        return Survey(counts, options)
    asked = options.get("question")
    several = any(
        mark.kind == "labels" and len(mark.value) > 1 and asked in (None, mark.question)
        for row in rows
        for marks in read(row).people
        for mark in marks
    )
    said = ("some texts have several labels, so all are read as having several",) if several else ()
    return Survey(counts, {**options, "several": several}, said)


def _object(value: Any, name: str, problems: list[str]) -> Mapping[str, Any]:
    """Return an object, also from JSON text in a cell."""
    if isinstance(value, str) and value.strip():
        value = decoded(value, name, problems)
    if isinstance(value, Mapping) and value:
        return value
    problems.append(f"{name}: expected an object with the fields of the example, found {shown(value)}")
    return {}


def _is_number(value: Any) -> bool:
    """Say whether a value is a finite number and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
