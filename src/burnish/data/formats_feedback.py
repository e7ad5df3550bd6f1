"""The format of human feedback, as `burnish rate` writes it: a prompt, its answers, and what a person said of them.

A row's values under their standard names in, pairs, rated answers or dialogs out, as the option `as_` says. What a judgement does not
give (a tie gives no pair) is left out with a note; `formats` counts the notes and tells them as warnings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from burnish.data.formats_choice import DOWN, UP
from burnish.data.formats_dialog import optional_text, prompt_messages, raise_all
from burnish.data.formats_messages import check_order, decoded, shown
from burnish.errors import suggestion
from burnish.types import Dialog, Example, Message, Origin, Pair, Rated, content

Values = Mapping[str, Any]
Messages = tuple[Message, ...]

OUTCOMES = ("tie", "both_bad", "skip")
"""What `choice` may say beside the letter of an answer: a for the first, b for the second, and so on."""
KINDS = ("pairs", "rated", "messages")


@dataclass(frozen=True)
class Noted:
    """What a row gives, with remarks that are counted over all rows and told as warnings."""

    examples: tuple[Example, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What was learned from all rows before the first is read: which of them count, options that follow from them, warnings."""

    counts: Sequence[bool]
    options: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """A row as understood: `choice` is the place of the better answer or one of OUTCOMES, `edit` the better text that was written."""

    prompt: Messages
    texts: tuple[str, ...]
    choice: int | str | None
    edit: str
    thumb: bool | None
    origin: Origin


def feedback(values: Values, origin: Origin, *, as_: Literal["pairs", "rated", "messages"] = "pairs") -> Noted:
    """A prompt, one or several answers, and what a person said: which is better, a thumb, or a text that is better still.

    `as_` says what is made of it. "pairs": the better answer over each other one, an edited text over all of them. "rated": 1 for
    the better answer, the edited text and a thumb up, 0 for the others. "messages": the better answer, or the edited text, as a
    dialog to imitate. Where a rater judged the same prompt again, only the last judgement counts.
    """
    problems: list[str] = []
    if as_ not in KINDS:
        problems.append(f"as_: expected one of {', '.join(KINDS)}, found {shown(as_)}.{suggestion(str(as_), KINDS)}")
    judged = _judged(values, origin, problems)
    raise_all(problems)
    if judged.choice == "skip":
        return Noted((), ("skipped by the rater; left out",))
    if not all(text.strip() for text in judged.texts):
        return Noted((), ("an answer is empty, so that it cannot be learned from; left out",))
    return {"pairs": _pairs, "rated": _rated, "messages": _dialogs}[as_](judged)


def last_judgements(rows: Sequence[Values], options: Mapping[str, Any]) -> Survey:
    """Return which rows count: of the judgements of one rater on one `id` the last one that is no skip."""
    last: dict[tuple[str, str], int] = {}
    counts = [True] * len(rows)
    replaced = 0
    for place, row in enumerate(rows):
        if not isinstance(row.get("id"), str | int) or row["id"] == "":
            continue
        key = (str(row["id"]), str(row.get("rater")))
        if key in last:
            counts[place if row.get("choice") == "skip" else last[key]] = False
            replaced += 1
        if key not in last or row.get("choice") != "skip":
            last[key] = place
    said = f"{replaced} judgement{'s were' if replaced != 1 else ' was'} given anew by the same rater; only the last one counts"
    return Survey(counts, options, (said,) if replaced else ())


# ------------------------------------------------------------------------------------------------------------- what a row says


def _judged(values: Values, origin: Origin, problems: list[str]) -> Judged:
    """Return a row as understood; what is wrong with it is added to `problems`."""
    name = "messages" if values.get("messages") is not None or "prompt" not in values else "prompt"
    value = values.get(name)
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        value = decoded(value, name, problems)
    if name == "messages" and not isinstance(value, list | tuple):
        problems.append(f"messages: expected a list of messages, found {shown(value)}")
        prompt: Messages = ()
    else:
        prompt = prompt_messages(value, name, problems)
        if not problems and not prompt:
            problems.append(f"{name}: is empty; expected what was asked")
    texts = read_answers(values.get("answers"), problems)
    choice = _choice(values.get("choice"), len(texts), problems)
    thumb = _thumb(values.get("thumb"), problems)
    edit = optional_text(values, "edit", problems)
    if thumb is not None and len(texts) > 1:
        problems.append(f"thumb: stands beside {len(texts)} answers; expected one, or a choice between them")
    if choice is None and thumb is None and not edit and not problems:
        problems.append(_nothing_said(values, len(texts)))
    if not problems:
        check_order((*prompt, Message("assistant", content("x"))), name, problems)
    return Judged(prompt, texts, choice, edit, thumb, origin)


def read_answers(value: Any, problems: list[str]) -> tuple[str, ...]:
    """Return the texts of a list of answers: texts, or objects with `text`; also from JSON text in a cell."""
    if isinstance(value, str) and value.strip():
        value = decoded(value, "answers", problems)
    if not isinstance(value, list | tuple) or not value:
        problems.append(f"answers: expected a list of texts, or of objects with text and model, found {shown(value)}")
        return ()
    texts = [one.get("text") if isinstance(one, Mapping) else one for one in value]
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            problems.append(f"answers[{number}]: expected a text, or an object with text, found {shown(value[number - 1])}")
    return tuple(text if isinstance(text, str) else "" for text in texts)


def _choice(value: Any, number: int, problems: list[str]) -> int | str | None:
    """Return the place of the better answer, one of OUTCOMES, or None where the row has no choice."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in OUTCOMES:
        return word
    if len(word) == 1 and 0 <= ord(word) - ord("a") < number:
        if number == 1:
            problems.append("choice: there is only one answer, so nothing to choose; give a thumb (true or false) instead")
        return ord(word) - ord("a")
    problems.append(_expected_choice(value, number))
    return None


def _nothing_said(values: Values, number: int) -> str:
    """Return the problem of a row that holds no judgement, by the column that it has for one."""
    if "choice" in values:
        return _expected_choice(values["choice"], number)
    return "thumb: is missing; expected true or false" if "thumb" in values else "edit: is missing; expected a better text"


def _expected_choice(value: Any, number: int) -> str:
    """Return the problem of a choice that is none."""
    letters = [chr(ord("a") + place) for place in range(min(max(number, 2), 26))]
    what = "is missing" if value is None else "is empty" if value == "" else f"{shown(value)} is not known"
    return f"choice: {what}; expected one of {', '.join([*letters, *OUTCOMES])}{suggestion(str(value), OUTCOMES)}"


def _thumb(value: Any, problems: list[str]) -> bool | None:
    """Return True for a thumb up, False for one down, None where there is none."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    word = str(value).strip().lower().removesuffix(".0")
    if word not in UP | DOWN:
        problems.append(f"thumb: expected true or false, found {shown(value)}")
    return word in UP


# ------------------------------------------------------------------------------------------------------------ what is made of it


def _said(judged: Judged) -> str:
    """Return the words for a judgement that names no better answer."""
    if judged.choice == "tie":
        return "a tie"
    return "both answers bad" if judged.choice == "both_bad" else "a thumb on a single answer"


def _answer(text: str) -> Messages:
    """Return an answer's text as the assistant's turn."""
    return (Message("assistant", content(text)),)


def _best(judged: Judged) -> str | None:
    """Return the best text of a row: the edited one, the chosen one, or the only one with a thumb up."""
    if judged.edit:
        return judged.edit
    if isinstance(judged.choice, int):
        return judged.texts[judged.choice]
    return judged.texts[0] if judged.thumb else None


def _pairs(judged: Judged) -> Noted:
    """Return the best text over each other answer."""
    best = _best(judged) if judged.thumb is None or judged.edit else None
    if best is None:
        return Noted((), (f"{_said(judged)} gives no pair; left out",))
    worse = [text for text in dict.fromkeys(judged.texts) if text.strip() != best.strip()]
    pairs = tuple(Pair(prompt=judged.prompt, chosen=_answer(best), rejected=_answer(text), origin=judged.origin) for text in worse)
    return Noted(pairs, () if pairs else ("all answers are the same text, which gives no pair; left out",))


def _rated(judged: Judged) -> Noted:
    """Return each text with 1 or 0; nothing of a tie, which does not say whether the answers are good."""
    rating: dict[str, float] = {}
    if judged.thumb is not None:
        rating[judged.texts[0]] = float(judged.thumb)
    elif judged.choice != "tie":
        rating = dict.fromkeys(judged.texts, 0.0)
        if isinstance(judged.choice, int) and not judged.edit:
            rating[judged.texts[judged.choice]] = 1.0
    if judged.edit:
        rating[judged.edit] = 1.0
    made = tuple(
        Rated(messages=(*judged.prompt, *_answer(text)), rating=value, origin=judged.origin) for text, value in rating.items()
    )
    return Noted(made, () if made else (f"{_said(judged)} says not whether an answer is good; left out",))


def _dialogs(judged: Judged) -> Noted:
    """Return the best text as a dialog to imitate."""
    best = _best(judged)
    if best is None:
        said = "a thumb down" if judged.thumb is False else _said(judged)
        return Noted((), (f"{said} gives no answer to imitate; left out",))
    return Noted((Dialog(messages=(*judged.prompt, *_answer(best)), origin=judged.origin),))
