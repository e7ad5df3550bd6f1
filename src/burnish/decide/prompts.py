"""The one builder of prompts: what every arm, and every row that a tuned arm learns from, is put to the model as.

Enters: a row and what is to stand beside its question: an instruction, worked examples, passages. Leaves: a task. Without help the task is the
row's own, so an arm with retrieval differs from one without by the passages and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from burnish.data.dialog import expected_answer
from burnish.decide.protocol import Item
from burnish.retrieval import fitted
from burnish.types import Message, Task, content, plain

Layout = Literal["turns", "inline"]


@dataclass(frozen=True, slots=True)
class Help:
    """What stands beside a question: an instruction before it, worked examples (the last one nearest to it), passages above it."""

    instruction: str = ""
    examples: tuple[Item, ...] = ()
    passages: tuple[str, ...] = ()
    layout: Layout = "turns"


def put(item: Item, given: Help) -> Task:
    """Return a row as it is put to the model with this help.

    "turns" shows examples as earlier turns of the dialog, "inline" as text above the question in one turn.
    """
    *before, last = item.task.messages
    asked = _asked(plain(last.content), given.instruction, given.passages)
    if given.layout == "inline" and given.examples:
        shown = "\n\n".join(f"{_question(one)}\n{one.answer}" for one in given.examples)
        head = f"{given.instruction}\n\n" if given.instruction else ""
        asked = f"{head}{shown}\n\n{_asked(plain(last.content), '', given.passages)}\n"
        turns: list[Message] = []
    else:
        turns = [turn for one in given.examples for turn in _turns(one, given.instruction)]
    system = [message for message in before if message.role == "system"]
    rest = [message for message in before if message.role != "system"]
    return replace(item.task, messages=(*system, *turns, *rest, replace(last, content=content(asked))))


def _asked(question: str, instruction: str, passages: Sequence[str]) -> str:
    return "\n\n".join(part for part in (instruction, *passages, question) if part)


def _question(item: Item) -> str:
    return plain(item.task.messages[-1].content)


def _turns(item: Item, instruction: str) -> list[Message]:
    """Return a worked example as the turns that it would have been."""
    own = [message for message in item.task.messages if message.role != "system"]
    asked = replace(own[-1], content=content(_asked(plain(own[-1].content), instruction, ())))
    return [*own[:-1], asked, expected_answer(item.task)]


def fit(item: Item, given: Help, *, tokens: Callable[[Task], int], room: int) -> Help:
    """Return as much of the help as leaves the prompt within `room` tokens: passages by rank, the last one cut; then the nearest examples."""
    bare = replace(given, examples=(), passages=())
    if tokens(put(item, bare)) > room:
        return replace(bare, instruction="")
    passages = tuple(fitted(given.passages, fits=lambda texts: tokens(put(item, replace(bare, passages=tuple(texts)))) <= room))
    kept = replace(bare, passages=passages)
    for one in reversed(given.examples):
        more = replace(kept, examples=(one, *kept.examples))
        if tokens(put(item, more)) > room:
            break
        kept = more
    return kept
