"""The rules by which a format is guessed: what the columns of a table are like in, candidate formats out, the best first.

Called by `guess`. To add a rule, write a function (looked) -> candidates and put it into RULES where it belongs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from burnish.data.formats import FORMATS, resolved
from burnish.data.guess_columns import Column
from burnish.errors import DataError

ASKED_WORDS = """prompt input instruction instructions question query ticket email mail request dialogue dialog conversation transcript
    complaint problem original document article customer user message source paragraph passage contract clause sentence text"""
ANSWER_WORDS = """completion output response reply answer solution summary highlights translation target simplified result assistant
    agent code"""
LABEL_WORDS = "label labels category class intent sentiment topic genre polarity stars priority severity department"
TEXT_WORDS = "text content body document article markdown passage about page raw_text"
ASIDE_WORDS = """id ids index idx key uid uuid guid url urls link path file filename source split date created updated timestamp time year
    lang language title name page section line module book slug author version number no row"""
ASKED, ANSWERS, LABELS = tuple(ASKED_WORDS.split()), tuple(ANSWER_WORDS.split()), tuple(LABEL_WORDS.split())
TEXTS, ASIDE = tuple(TEXT_WORDS.split()), frozenset(ASIDE_WORDS.split())


@dataclass(frozen=True)
class Candidate:
    """A possible format with its columns, and why it is possible."""

    format: str
    columns: dict[str, str]
    why: str


# --------------------------------------------------------------------------------------------------------- rules, best first

Looked = Mapping[str, Column]


def _by_tool(looked: Looked) -> list[Candidate]:
    """Formats of human feedback and of labelling tools, which have columns that nothing else has together."""
    kinds = {name: one.kind for name, one in looked.items()}
    nested = ("object", "objects", "list", "texts", "empty")
    found = []
    judged = kinds.keys() & {"choice", "thumb", "edit"} and kinds.keys() & {"prompt", "messages"}
    if judged and kinds.get("answers") in ("objects", "texts"):
        found.append(("feedback", "there are answers, and what a person said of them"))
    if kinds.get("data") == "object" and any(kinds.get(name) in nested for name in ("annotations", "completions")):
        found.append(("label_studio", "there are the data and the annotations of a Label Studio export"))
    if kinds.get("fields") == "object" and kinds.get("responses") in nested:
        found.append(("argilla", "there are the fields and the responses of an Argilla export"))
    return [Candidate(name, _with(name, tuple(looked), {}), why) for name, why in found]


def _pictures(looked: Looked) -> list[Candidate]:
    """A column of pictures, and one that says what is on them."""
    image = next((name for name, one in looked.items() if one.pictures and one.filled > 0.9), None)
    if image is None:
        return []
    rest = {name: one for name, one in looked.items() if name not in (image, "split")}
    named = [name for word in (*LABELS, "diagnosis", "defect", "answer") for name in rest if word in _tokens(name)]
    label = next((name for name in named if rest[name].short or rest[name].kind in ("list", "texts")), None)
    if label is None:
        few = [name for name, one in rest.items() if one.few and one.short and name.lower() not in ASIDE]
        label = few[0] if len(few) == 1 else None
    number = next(
        (one.name for one in rest.values() if one.name.lower() in ("number", "score", "value", "cost") and one.kind == "number"),
        None,
    )
    if label is None and number is None:
        return []
    what = {"label": label} if label is not None else {"number": number or ""}
    said = f"{image!r} holds pictures, and {next(iter(what.values()))!r} says what is on them"
    return [Candidate("pictures", {"image": image, **what}, said)]


def _by_structure(looked: Looked) -> list[Candidate]:
    """Formats that are told by lists of messages, pairs of answers, tokens or offsets."""
    found = []
    available = tuple(looked)
    kinds = {name: one.kind for name, one in looked.items()}
    for name, why in (
        ("pairs", "there are a chosen and a rejected answer"),
        ("spans", "there are tokens with tags, or labelled spans"),
        ("squad", "the answers are pieces of the context"),
    ):
        with contextlib.suppress(DataError):
            columns = resolved(FORMATS[name], available, {}, name=name)
            if _structure_holds(name, columns, looked):
                found.append(Candidate(name, columns, why))
    for column in [name for name, kind in kinds.items() if kind in ("messages", "turns")]:
        if found and found[0].format == "pairs":
            break
        rating = next((name for name in ("label", "rating") if kinds.get(name) in ("truth", "number")), None)
        if column in ("prompt", "completion"):
            continue
        if kinds[column] == "turns":
            found.append(
                Candidate("sharegpt", _with("sharegpt", available, {"conversations": column}), "turns have 'from' and 'value'")
            )
        elif rating is not None:
            found.append(Candidate("rated", {"messages": column, rating: rating}, "messages stand beside a rating"))
        else:
            found.append(
                Candidate("messages", _with("messages", available, {"messages": column}), "messages have a role and content")
            )
    return found


def _with(name: str, available: tuple[str, ...], mapped: dict[str, str]) -> dict[str, str]:
    """Return the columns of a format with those that are recognised beside the given ones."""
    return resolved(FORMATS[name], available, mapped, name=name)


def _structure_holds(name: str, columns: Mapping[str, str], looked: Looked) -> bool:
    """Say whether the values are of the kind that a structured format needs."""
    kind = {standard: looked[column].kind for standard, column in columns.items()}
    if name == "spans":
        return ("tokens" in kind and kind["tokens"] in ("texts", "list")) or kind.get("spans") in ("objects", "list")
    if name == "squad":
        return "answers" in kind or kind.get("answer_start") == "number"
    return True


def _by_name(looked: Looked) -> list[Candidate]:
    """Formats that are told by the usual names of their columns."""
    found = []
    available = tuple(looked)
    for name in ("rated", "prompt_completion", "alpaca", "question_answer"):
        with contextlib.suppress(DataError):
            columns = resolved(FORMATS[name], available, {}, name=name)
            if name == "rated" and looked[columns.get("label", columns.get("rating", ""))].kind not in ("truth", "number"):
                continue
            if name == "question_answer" and "context" not in columns and looked.get("text", EMPTY).sentences:
                columns["context"] = "text"
            found.append(Candidate(name, columns, "the columns have the usual names"))
    if not found:
        question, answer = _best(looked, ("question", "query"), texts=True), _best(looked, ("answer",), texts=True)
        if question and answer and question != answer:
            context = next((name for name in looked if _tokens(name) & {"context", "contexts"}), None)
            columns = {"question": question, "answer": answer, **({"context": context} if context else {})}
            found.append(Candidate("question_answer", columns, "the names speak of question and answer"))
    return found


def _labels(looked: Looked) -> list[Candidate]:
    """A text and a column of few different short values that is called like a label or an answer."""
    label = next(
        (name for word in (*LABELS, "answer") for name in looked if word in _tokens(name) and _is_label(looked[name])), None
    )
    if label is None:
        return []
    texts = [one for one in _content(looked) if one.name != label and not one.short]
    exact = [one for one in texts if one.name.lower() in FORMATS["labelled"].columns["text"] or one.name.lower() == "text"]
    if "answer" in _tokens(label) and (_best(looked, ("question",), texts=True) or not texts):
        return []
    longest = max(texts, key=lambda one: one.letters, default=None)
    if longest is None:
        return []
    if exact or len(texts) == 1 or all(one is longest or one.letters * 10 < longest.letters for one in texts):
        source = (exact or [longest])[0].name
    else:
        source = "\n\n".join(f"{one.name}: {{{one.name}}}" for one in texts)
    return [Candidate("labelled", {"text": source, "label": label}, f"{label!r} has {looked[label].distinct} different values")]


def _is_label(one: Column) -> bool:
    """Say whether the values could be classes; single letters are, also in very few rows."""
    return one.short and (one.few or (one.kind == "text" and one.letters <= 2) or (one.kind == "texts"))


def _numbers(looked: Looked) -> list[Candidate]:
    """A text and a column of numbers that is called so, or like a mark that was given; numbers of rows are none."""
    called = [one for word in ("number", "score", "grade", "value") for one in looked.values() if one.name.lower() == word]
    # A mark of few different values may be a class as well, unless its name says that it is a number.
    fitting = [one for one in called if one.kind == "number" and one.filled > 0.9 and not one.counts]
    number = next((one for one in fitting if one.name.lower() == "number" or not one.few), None)
    texts = [one for one in _content(looked) if one.kind == "text"]
    long = [one for one in texts if not one.short]
    exact = [one for one in texts if one.name.lower() == "text"] or (long if len(long) == 1 else [])
    if number is None or not exact:
        return []
    columns = {"text": exact[0].name, "number": number.name}
    return [Candidate("labelled", columns, f"{number.name!r} holds {number.distinct} different numbers")]


def _by_meaning(looked: Looked) -> list[Candidate]:
    """Two columns of which one is called like something asked or given, and one like an answer to it."""
    answer = _best(looked, ANSWERS, texts=True)
    rest = {name: one for name, one in looked.items() if name != answer}
    asked = _best(rest, ASKED, texts=True)
    if asked and not answer:
        left = [one for one in _content(looked) if one.name != asked and one.sentences]
        answer = left[0].name if len(left) == 1 and asked.lower() not in TEXTS else None
    if not asked or not answer:
        return []
    return [
        Candidate("prompt_completion", {"prompt": asked, "completion": answer}, "the names speak of something given and an answer")
    ]


def _by_values(looked: Looked) -> list[Candidate]:
    """Two columns with content: a text and few different short values, or two texts."""
    both = list(looked.values()) if len(looked) == 2 else _content(looked)
    both = [one for one in both if one.name != "split"]
    if len(both) != 2 or any(one.kind not in ("text", "truth", "number") for one in both):
        return []
    for text, label in (both, both[::-1]):
        if text.kind == "text" and not text.few and label.few and label.short and label.letters < max(text.letters, 1):
            why = f"{label.name!r} has {label.distinct} different short values"
            return [Candidate("labelled", {"text": text.name, "label": label.name}, why)]
    first, second = both
    several_words = max(first.words, second.words) >= 2  # two columns of single words are names of things, not something to learn
    if first.kind == second.kind == "text" and several_words and first.name.lower() not in TEXTS[1:]:
        return [Candidate("prompt_completion", {"prompt": first.name, "completion": second.name}, "two texts, in this order")]
    return []


def _running_text(looked: Looked) -> list[Candidate]:
    """A column that is called like a text, or the only one with running text."""
    named = [name for word in TEXTS for name in looked if name.lower() == word and looked[name].kind == "text"]
    only = [one.name for one in _content(looked) if one.sentences]
    chosen = named[0] if named else (only[0] if len(only) == 1 else None)
    return [Candidate("text", {"text": chosen}, "running text and nothing to answer")] if chosen else []


def _text_with_aside(looked: Looked) -> list[Candidate]:
    """A column called like a text beside columns that only describe it (book, path, title)."""
    beside = [one for one in _content(looked) if one.name.lower() not in TEXTS]
    return _running_text(looked) if not any(one.sentences or one.few for one in beside) else []


RULES: tuple[Callable[[Looked], list[Candidate]], ...] = (
    _by_tool,
    _pictures,
    _by_structure,
    _by_name,
    _labels,
    _numbers,
    _by_meaning,
    _text_with_aside,
    _by_values,
    _running_text,
)
EMPTY = Column("", "empty", 0.0, 0, 0, 0.0, 0.0, None)


def _tokens(name: str) -> set[str]:
    """Return the words of a column name, lower-case."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def _content(looked: Looked) -> list[Column]:
    """Return the columns that hold more than an identifier or a description of the row.

    References (`case-294`) are identifiers, unless they are few and nothing else could be a class, as fault codes are."""
    content = [
        one for name, one in looked.items() if name.lower() not in ASIDE and one.kind in ("text", "truth") and one.filled > 0.5
    ]
    classes = any(one.few and one.short and not one.coded for one in content)
    return [one for one in content if not one.coded or (one.few and not classes)]


def _best(looked: Looked, words: tuple[str, ...], *, texts: bool) -> str | None:
    """Return the column whose name is, else holds, the first of some words; mostly filled ones only, longer texts first."""
    usable = [one for one in looked.values() if one.filled > 0.9 and not one.coded and (one.kind == "text" or not texts)]
    usable.sort(key=lambda one: -one.letters)
    for word in words:
        for one in usable:
            if one.name.lower() == word:
                return one.name
    for word in words:
        for one in usable:
            if word in _tokens(one.name):
                return one.name
    return None
