"""What a row means as a dialog to imitate, and as a task to attempt.

Enters: an example of any type, and the run's `Frame` (system prompt, prompt template, known labels). Leaves: a `Dialog` or `Text` to
learn from, and a `Task` with what is expected, so that tuning and evaluation ask the same question.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from dataclasses import dataclass, replace

from burnish.errors import ConfigError, DataError
from burnish.types import (
    Answerable,
    Dialog,
    Example,
    Expected,
    Labelled,
    Message,
    Pair,
    Rated,
    Tagged,
    Task,
    Text,
    content,
    pictures_in,
    plain,
)

NOT_STATED = "not stated"
"""The answer to a question that its context does not answer."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How a row's content is put to the model. `prompt` may hold {text}, and {question} and {context}; `choices` are all labels."""

    system: str | None = None
    prompt: str | None = None
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            parsed = [part[1:] for part in string.Formatter().parse(self.prompt or "") if part[1] is not None]
        except ValueError as error:
            raise ConfigError(
                f"data.prompt = {self.prompt!r}: {error}. Write braces that are no field twice: {{{{ and }}}}."
            ) from error
        # A field with a conversion or a format ({text:>9}) would fail later, on some rows only.
        fields = {f"{name}{'!' + how if how else ''}{':' + form if form else ''}" for name, form, how in parsed}
        unknown = fields - {"text", "question", "context", "labels"}
        if unknown or (self.prompt is not None and not fields - {"labels"}):
            raise ConfigError(
                f"data.prompt = {self.prompt!r}: expected a text with {{text}} (or {{question}} and {{context}}), and {{labels}} if wanted; "
                f"double other braces. " + (f"Unknown: {', '.join(sorted(unknown))}." if unknown else "It holds no field.")
            )

    def ask(self, text: str, *, question: str = "", context: str = "") -> str:
        """Return the user's turn for a row's content."""
        if self.prompt is None:
            return text
        return self.prompt.format(text=text, question=question or text, context=context, labels=", ".join(self.choices))


def as_dialog(example: Example, frame: Frame) -> Dialog | Text:
    """Return what is imitated: the example itself, or its content as a question and what it is marked with as the answer.

    Raises DataError for a type that holds no answer to imitate.
    """
    if isinstance(example, Text):
        return example
    if isinstance(example, Dialog):
        return Dialog(
            messages=_with_system(example.messages, frame), tools=example.tools, origin=example.origin, group=example.group
        )
    if isinstance(example, Pair):
        messages = _with_system((*example.prompt, *example.chosen), frame)
        return Dialog(messages=messages, tools=example.tools, origin=example.origin, group=example.group)
    if isinstance(example, Rated):
        raise DataError(
            f"{example.origin}: rated answers are not imitated, because some of them are bad. Use data.format = 'messages' on the good ones."
        )
    task = as_task(example, frame)
    if task.text is not None:
        return Text(text=task.text, origin=example.origin, group=example.group)
    return Dialog(messages=(*task.messages, expected_answer(task)), tools=task.tools, origin=example.origin, group=example.group)


def expected_answer(task: Task) -> Message:
    """Return the first accepted answer as the assistant's turn, calls of tools with it; DataError where nothing is expected."""
    expected = task.expected
    if not expected.texts and not expected.tool_calls:
        raise DataError(f"{task.origin}: there is no expected answer to imitate or to measure the likelihood of.")
    return Message(
        role="assistant", content=content(expected.texts[0] if expected.texts else ""), tool_calls=expected.tool_calls or ()
    )


def as_task(example: Example, frame: Frame) -> Task:
    """Return the prompt that is put to the model, and what is expected: of a dialog, its last assistant turn."""
    task = _as_task(example, frame)
    return task if example.slice is None else replace(task, slice=example.slice)


def _as_task(example: Example, frame: Frame) -> Task:
    if isinstance(example, Task):
        return example
    if isinstance(example, Text):
        return Task(
            messages=(), expected=Expected(texts=(example.text,)), text=example.text, origin=example.origin, group=example.group
        )
    if isinstance(example, Dialog):
        return _dialog_task(example, frame)
    if isinstance(example, Pair):
        better = (*example.prompt, *example.chosen)
        task = _dialog_task(Dialog(messages=better, tools=example.tools, origin=example.origin, group=example.group), frame)
        return replace(task, expected=replace(task.expected, pair=example))
    if isinstance(example, Rated):
        said = Dialog(messages=example.messages, tools=example.tools, origin=example.origin, group=example.group)
        task = _dialog_task(said, frame)
        # An answer that was found bad is nothing to come close to.
        return task if example.rating > 0 else replace(task, expected=Expected())
    question, expected = _question(example, frame)
    shown = () if isinstance(example, Answerable) else pictures_in(example.content)
    asked = (*shown, *(content(question) if question or not shown else ()))
    messages = _with_system((Message(role="user", content=asked),), frame)
    return Task(messages=messages, expected=expected, origin=example.origin, group=example.group)


def _dialog_task(dialog: Dialog, frame: Frame) -> Task:
    """Return a dialog up to its last assistant turn as the prompt, that turn as what is expected."""
    turns = [number for number, message in enumerate(dialog.messages) if message.role == "assistant"]
    if not turns:
        raise DataError(f"{dialog.origin}: there is no assistant turn to compare an answer with.")
    last = dialog.messages[turns[-1]]
    expected = Expected(texts=(plain(last.content),), tool_calls=last.tool_calls or None)
    prompt = _with_system(dialog.messages[: turns[-1]], frame)
    return Task(messages=prompt, expected=expected, tools=dialog.tools, origin=dialog.origin, group=dialog.group)


def _question(example: Labelled | Tagged | Answerable, frame: Frame) -> tuple[str, Expected]:
    """Return the user's turn and what is expected for a row that holds no dialog."""
    if isinstance(example, Answerable):
        asked = frame.ask(f"{example.context}\n\n{example.question}", question=example.question, context=example.context)
        return asked, Expected(texts=tuple(text for _, text in example.answers) or (NOT_STATED,), asked=example)
    text = plain(example.content)
    if isinstance(example, Tagged):
        spans = [{"text": text[span.start : span.end], "label": span.label} for span in sorted(example.spans)]
        return frame.ask(text), Expected(texts=(json.dumps(spans, ensure_ascii=False),), spans=example.spans, source=text)
    if example.number is not None:
        return frame.ask(text), Expected(texts=(f"{example.number:g}",), number=example.number)
    return frame.ask(text), Expected(texts=(", ".join(example.labels) or "none",), labels=example.labels, choices=frame.choices)


def _with_system(messages: tuple[Message, ...], frame: Frame) -> tuple[Message, ...]:
    """Return the messages with the run's system prompt in front, unless they bring their own."""
    if frame.system is None or (messages and messages[0].role == "system"):
        return messages
    return (Message(role="system", content=content(frame.system)), *messages)


def known_labels(examples: Iterable[Example]) -> tuple[str, ...]:
    """Return all labels of labelled examples, sorted."""
    return tuple(sorted({label for example in examples if isinstance(example, Labelled) for label in example.labels}))
