"""Whether a row is whole: nothing empty, roles in an order that can be learned from, offsets that hold what they say.

In: examples. Out: findings, all errors or warnings. Formats refuse most of this while reading, with the column's own name; here the
same holds for examples that were made in Python or by a user's own format.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from collections.abc import Sequence as ListOf
from itertools import pairwise

from burnish.data.fields import Field
from burnish.data.findings import SHOWN, Finding, Level, finding
from burnish.types import ROLES, Answerable, Dialog, Example, Labelled, Message, Pair, Rated, Tagged, Task, plain


def check_fields(examples: ListOf[Example], texts: ListOf[tuple[Field, ...]], *, shown: int = SHOWN) -> list[Finding | None]:
    """Return what is empty, wrongly ordered or out of place; `texts` are the `fields` of each example."""
    found = []
    for level, rule, look, what, fix in _RULES:
        details = (", ".join(look(example, parts)) for example, parts in zip(examples, texts, strict=True))
        hits = [(example.origin, detail) for example, detail in zip(examples, details, strict=True) if detail]
        found.append(finding(level, rule, what=what, hits=hits, shown=shown, fix=fix))
    return found


def _empty(example: Example, parts: tuple[Field, ...]) -> Iterator[str]:
    # A tool may return nothing, an empty system message switches off a template's own, and "say nothing" may be what a task expects.
    silent = ("system", "tool")
    yield from (
        f"{part.name} is empty"
        for part in parts
        if part.is_empty and part.role not in silent and not part.name.startswith("expected")
    )
    match example:
        case Dialog() | Rated() if not example.messages:
            yield "no messages"
        case Pair():
            sides = (("prompt", example.prompt), ("chosen", example.chosen), ("rejected", example.rejected))
            yield from (f"{name} has no messages" for name, messages in sides if not messages)
        case Task() if not example.messages and example.text is None:
            yield "no messages and no text"
        case Labelled() if not example.labels and example.number is None and not example.several:
            yield "no label and no number"
        case Labelled() if any(not label.strip() for label in example.labels):
            yield "a label is empty"
        case Tagged() if any(not span.label.strip() for span in example.spans):
            yield "a span has an empty label"


def _roles(example: Example, _: tuple[Field, ...]) -> Iterator[str]:
    match example:
        case Dialog():
            yield from _order(example.messages)
            if example.messages and not any(message.role == "assistant" for message in example.messages):
                yield "no assistant message, so nothing to learn"
            elif example.messages and example.messages[-1].role != "assistant":
                yield f"the last message is {example.messages[-1].role!r} and not the assistant's"
        case Rated():
            yield from _order(example.messages)
            if example.messages and example.messages[-1].role != "assistant":
                yield f"the rated message is {example.messages[-1].role!r} and not the assistant's"
        case Pair():
            yield from _order(example.prompt)
            for name, messages in (("chosen", example.chosen), ("rejected", example.rejected)):
                if messages and messages[-1].role != "assistant":
                    yield f"the {name} answer ends with {messages[-1].role!r} and not the assistant"
        case Task():
            yield from _order(example.messages)
            if example.messages and example.messages[-1].role not in ("user", "tool"):
                yield f"the task ends with {example.messages[-1].role!r}; expected a user or tool message to answer"


def _order(messages: ListOf[Message]) -> Iterator[str]:
    for number, message in enumerate(messages, 1):
        if message.role not in ROLES:
            yield f"message {number} has the role {message.role!r}; known are {', '.join(ROLES)}"
        elif message.role == "system" and number > 1:
            yield f"message {number} is a system message; only the first can be one"
        elif message.role == "tool" and not any(earlier.tool_calls for earlier in messages[: number - 1]):
            yield f"message {number} answers a tool that nothing called"


def _turns(example: Example, _: tuple[Field, ...]) -> Iterator[str]:
    if isinstance(example, Dialog | Rated | Task):
        turns = [message.role for message in example.messages if message.role != "system"]
        if turns and turns[0] == "assistant":
            yield "the assistant speaks first"
        repeated = [role for role, after in pairwise(turns) if role == after and role != "tool"]
        yield from (f"two {role} messages follow each other" for role in sorted(set(repeated)))


def _offsets(example: Example, _: tuple[Field, ...]) -> Iterator[str]:
    match example:
        case Answerable():
            for start, text in example.answers:
                there = example.context[start : start + len(text)] if start >= 0 else ""
                if there != text:
                    yield f"answer {_short(text)} is given at {start}, {_found(example.context, text)}"
        case Tagged():
            length = len(plain(example.content))
            for span in example.spans:
                if not 0 <= span.start < span.end <= length:
                    yield f"span {span.start}..{span.end} ({span.label}) in a text of {length} characters"


def _found(context: str, text: str) -> str:
    first = context.find(text) if text else -1
    if first < 0:
        return "but the context does not hold it"
    second = context.find(text, first + 1)
    return f"but stands at {first}" + (f", {second}{', …' if context.find(text, second + 1) >= 0 else ''}" if second >= 0 else "")


def _values(example: Example, _: tuple[Field, ...]) -> Iterator[str]:
    if isinstance(example, Rated) and not math.isfinite(example.rating):
        yield f"rating {example.rating}"
    if isinstance(example, Labelled) and example.number is not None and not math.isfinite(example.number):
        yield f"number {example.number}"
    if isinstance(example, Dialog):
        for number, message in enumerate(example.messages, 1):
            if message.weight is not None and not (math.isfinite(message.weight) and message.weight >= 0):
                yield f"weight {message.weight} of message {number}"


def _same(example: Example, _: tuple[Field, ...]) -> Iterator[str]:
    if isinstance(example, Pair) and example.chosen:
        chosen, rejected = (
            [(turn.role, turn.content, turn.tool_calls) for turn in turns] for turns in (example.chosen, example.rejected)
        )
        if chosen == rejected:
            yield "word for word"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


_Look = Callable[[Example, tuple[Field, ...]], Iterator[str]]
_RULES: tuple[tuple[Level, str, _Look, str, str], ...] = (
    ("error", "empty_field", _empty, "with an empty field", "Fill them or take the rows out."),
    (
        "error",
        "wrong_role",
        _roles,
        "with roles that cannot be learned from",
        "Expected: a system message at most once and first, then user and assistant in turn, the assistant last.",
    ),
    (
        "warning",
        "turn_order",
        _turns,
        "in which turns do not alternate",
        "Some chat templates refuse them. Join messages of the same role that follow each other.",
    ),
    (
        "error",
        "wrong_offset",
        _offsets,
        "with offsets that do not hold their text",
        "Correct the offsets; data.repair = true moves those whose text occurs exactly once.",
    ),
    ("error", "wrong_value", _values, "with a value that is no usable number", "Give a finite number, and a weight of 0 or more."),
    ("error", "equal_pair", _same, "in which chosen and rejected are the same", "Nothing can be preferred in them; take them out."),
)
"""Level, name, what finds it in a row, what rows are (completes "3 rows ..."), what to do."""
