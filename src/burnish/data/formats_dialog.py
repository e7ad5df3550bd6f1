"""The formats that hold dialogs: messages, ShareGPT, Alpaca, prompt with completion, question with answer.

A row's values under their standard names in, a `Dialog` out. Column names are those of TRL, OpenAI, ShareGPT and Alpaca. Each
function raises `DataError` with all problems of its row; `formats` adds file and line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.data.formats_messages import check_order, decoded, read_messages, read_tools, shown
from burnish.errors import DataError
from burnish.types import Dialog, Message, Origin, content

Values = Mapping[str, Any]


def messages(values: Values, origin: Origin) -> Dialog:
    """A list of messages with role and content, as OpenAI and TRL write them; tools, tool calls and weights are kept."""
    problems: list[str] = []
    made = read_messages(values.get("messages"), "messages", problems)
    return dialog(made, origin, problems, "messages", tools=read_tools(values.get("tools"), problems))


def sharegpt(values: Values, origin: Origin) -> Dialog:
    """A list of turns with from (human, gpt, …) and value, and an optional system text and tools."""
    problems: list[str] = []
    made = read_messages(values.get("conversations"), "conversations", problems, sharegpt=True)
    tools = read_tools(values.get("tools"), problems)
    return dialog((*_system(values, problems), *made), origin, problems, "conversations", tools=tools)


def alpaca(values: Values, origin: Origin) -> Dialog | tuple[Dialog, ...]:
    """An instruction, an optional input it works on, and the output (response); optional system text and history of pairs.

    The user's turn is the instruction, and the input below it. Seed tasks hold `instances` of input and output: a dialog each.
    """
    problems: list[str] = []
    instruction = required_text(values, "instruction", problems)
    if "instances" in values and values.get("output") is None:
        instances = values["instances"]
        if not isinstance(instances, list | tuple) or not instances or not all(isinstance(one, Mapping) for one in instances):
            raise_all([*problems, f"instances: expected a list of objects with input and output, found {shown(instances)}"])
        return tuple(_alpaca(values, instruction, one, origin, list(problems)) for one in instances)
    return _alpaca(values, instruction, values, origin, problems)


def _alpaca(values: Values, instruction: str, one: Values, origin: Origin, problems: list[str]) -> Dialog:
    """Return the dialog of one instruction with its input and output."""
    made = [*_system(values, problems), *_history(values.get("history"), problems)]
    made.append(Message("user", content(with_input(instruction, optional_text(one, "input", problems)))))
    made.append(Message("assistant", content(required_text(one, "output", problems))))
    return dialog(tuple(made), origin, problems, "messages")


def with_input(instruction: str, given: str) -> str:
    """Return an instruction with the input that it works on below it."""
    return f"{instruction}\n\n{given}" if given.strip() else instruction


def _history(value: Any, problems: list[str]) -> list[Message]:
    """Return earlier turns: a list of [question, answer] pairs, or JSON text of it."""
    if isinstance(value, str):
        value = decoded(value, "history", problems) if value.strip() else None
    if value is not None and not isinstance(value, list | tuple):
        problems.append(f"history: expected a list of [question, answer], found {shown(value)}")
        return []
    made: list[Message] = []
    for number, turn in enumerate(value or [], 1):
        if isinstance(turn, list | tuple) and len(turn) == 2 and all(isinstance(part, str) and part.strip() for part in turn):
            made += [Message("user", content(turn[0])), Message("assistant", content(turn[1]))]
        else:
            problems.append(f"history[{number}]: expected [question, answer], found {shown(turn)}")
    return made


def prompt_completion(values: Values, origin: Origin) -> Dialog:
    """A prompt and the completion that is learned: two texts, or two lists of messages (TRL's prompt-completion)."""
    problems: list[str] = []
    tools = read_tools(values.get("tools"), problems)
    asked = prompt_messages(values.get("prompt"), "prompt", problems)
    answered = answer_messages(values.get("completion"), "completion", problems)
    return dialog((*_system(values, problems), *asked, *answered), origin, problems, "completion", tools=tools)


def question_answer(values: Values, origin: Origin) -> Dialog:
    """A question and its answer in free words; an optional context (a text or a list of texts) stands before the question."""
    problems: list[str] = []
    question = required_text(values, "question", problems)
    given = values.get("context")
    if isinstance(given, list | tuple) and all(isinstance(part, str) for part in given):
        given = "\n\n".join(given)
    context = optional_text({"context": given}, "context", problems)
    asked = f"{context}\n\n{question}" if context.strip() else question
    answer = required_text(values, "answer", problems)
    made = (*_system(values, problems), Message("user", content(asked)), Message("assistant", content(answer)))
    return dialog(made, origin, problems, "messages")


# ------------------------------------------------------------------------------------------------------------- shared parts


def dialog(
    made: tuple[Message, ...], origin: Origin, problems: list[str], where: str, *, tools: tuple[Mapping[str, Any], ...] = ()
) -> Dialog:
    """Return a dialog to imitate, or raise DataError with all problems of its row."""
    if not problems:
        check_order(made, where, problems)
    raise_all(problems)
    return Dialog(messages=made, tools=tools, origin=origin)


def prompt_messages(value: Any, where: str, problems: list[str]) -> tuple[Message, ...]:
    """Return the messages of a prompt: a list of messages, or a text as the user's turn."""
    if isinstance(value, list | tuple):
        made = read_messages(value, where, problems)
        if made and made[-1].role not in ("user", "tool"):
            problems.append(f"{where}: the last message is the {made[-1].role}'s; expected the user's (or a tool's)")
        return made
    return (Message("user", content(required_text({where: value}, where, problems))),)


def answer_messages(value: Any, where: str, problems: list[str]) -> tuple[Message, ...]:
    """Return the messages of a completion: a list of messages that ends with the assistant's, a single one, or a text."""
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, list | tuple):
        made = read_messages(value, where, problems)
        if made and made[-1].role != "assistant":
            problems.append(f"{where}: the last message is the {made[-1].role}'s; expected the assistant's")
        return made
    return (Message("assistant", content(required_text({where: value}, where, problems))),)


def required_text(values: Values, name: str, problems: list[str]) -> str:
    """Return a text that must be there and not blank; numbers and truth values are written out."""
    value = values.get(name)
    if isinstance(value, float) and value != value:
        value = None  # data frames write NaN into empty cells
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, str):
        if not value.strip():
            problems.append(f"{name}: is empty; expected text")
        return value
    problems.append(f"{name}: is missing; expected text" if value is None else f"{name}: expected text, found {shown(value)}")
    return ""


def optional_text(values: Values, name: str, problems: list[str]) -> str:
    """Return a text, '' where it is not there or blank."""
    value = values.get(name)
    empty = value is None or (isinstance(value, float) and value != value)
    return "" if empty or (isinstance(value, str) and not value.strip()) else required_text(values, name, problems)


def _system(values: Values, problems: list[str]) -> tuple[Message, ...]:
    """Return the system message of a row that has a system text."""
    text = optional_text(values, "system", problems)
    return (Message("system", content(text)),) if text.strip() else ()


def raise_all(problems: list[str]) -> None:
    """Raise DataError with the problems of a row, one per line; nothing where there are none."""
    if problems:
        raise DataError("\n".join(problems))
