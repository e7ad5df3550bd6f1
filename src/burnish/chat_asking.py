"""A question and its answer in the terminal, and the same question put to the base.

Enters: a `Conversation` and what a person asked. Leaves: answers shown as they arise, and remembered; without an answer nothing is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from burnish.chat_talk import BASE, MODEL, NAME, WRONG, Conversation, Said
from burnish.errors import BurnishError
from burnish.models import Model
from burnish.retrieval import Passage
from burnish.sampling import Generated, Options, stream
from burnish.types import Expected, Message, Origin, Role, Task, content

UNSEEN = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters, which are not shown: a model must not be able to steer the terminal."""


def exchange(talk: Conversation, question: str) -> None:
    """Put a question to the model, show the answer as it arises, and remember both; without an answer nothing is remembered."""
    _guarded(talk, lambda: _exchange(talk, question, with_base=False))


def compare(talk: Conversation, question: str) -> None:
    """Put a question to the base and then to the model, the same prompt and the same draws; without one, the last question to the base.

    Only the model's answer is remembered in the conversation.
    """
    if talk.base is None:
        talk.note("There is no base to compare with: this model was not tuned from another one that is known here.", WRONG)
    elif question:
        _guarded(talk, lambda: _exchange(talk, question, with_base=True))
    elif not talk.turns or talk.said is None:
        talk.note("Nothing was asked yet. /compare QUESTION asks both.", WRONG)
    else:
        _guarded(talk, lambda: _base_again(talk))


def _guarded(talk: Conversation, act: Callable[[], None]) -> None:
    """Act, and tell what kept the model from answering."""
    from jinja2 import TemplateError

    try:
        act()
    except BurnishError as error:
        talk.note(f"{error} Your message was taken back.", WRONG)
    except TemplateError as error:
        talk.note(f"The model's chat template refuses these messages: {error}. Your message was taken back.", WRONG)


def _exchange(talk: Conversation, question: str, *, with_base: bool) -> None:
    found = _prompt(talk, question)
    if found is None:
        return
    task, prompt_T, shown = found
    # Each question draws anew, so that asking again after /undo may give something else; base and model draw alike.
    options = replace(talk.options, samples=1, step=talk.asked)
    talk.asked += 1
    other = _of_base(talk, prompt_T, options) if with_base else None
    answer = _answer(talk, talk.model, prompt_T, options, MODEL)
    if not answer:
        talk.note("no answer; your message was taken back")
        return
    talk.turns.append((question, answer))
    talk.said = Said(task.messages, answer, other)
    if talk.look is not None:
        places = "; ".join(dict.fromkeys(str(passage.origin) for passage in shown))
        talk.note(f"from {places}" if shown else "nothing was found in the documents")
    if with_base:
        _judge(talk)


def _base_again(talk: Conversation) -> None:
    """Put the last question to the base as it was put to the model, with the same draws."""
    assert talk.said is not None
    task = Task(messages=talk.said.messages, expected=Expected(), origin=Origin("chat"))
    options = replace(talk.options, samples=1, step=talk.asked - 1)
    other = _of_base(talk, talk.renderer.prompt(task), options)
    talk.said = replace(talk.said, base=other)
    if talk.person:
        talk.say(MODEL, NAME)
        talk.say(f"{talk.said.text.translate(UNSEEN)}\n", "")
    _judge(talk)


def _of_base(talk: Conversation, prompt_T: np.ndarray, options: Options) -> str:
    assert talk.base is not None
    with talk.base.opened() as base:
        return _answer(talk, base, prompt_T, options, BASE)


def _judge(talk: Conversation) -> None:
    """Say whether the answers differ, and how to say which is better."""
    assert talk.said is not None
    if talk.said.text == talk.said.base:
        talk.note("both say the same")
    elif talk.feedback is not None:
        talk.note("/rate base, /rate model, /rate tie or /rate bad notes which is better")


def _prompt(talk: Conversation, question: str) -> tuple[Task, np.ndarray, Sequence[Passage]] | None:
    """Return the question as a task with as many passages, and then of the latest turns, as fit, its tokens, and those passages.

    None where the question alone is too long.
    """
    room, length = talk.model.max_length - talk.options.max_tokens, 0
    passages = talk.look(question) if talk.look is not None else ()
    for kept in range(len(passages), -1, -1):
        for hidden in range(len(talk.turns) + 1):
            task = _task(talk, question, hidden, passages[:kept])
            prompt_T = talk.renderer.prompt(task)
            length = len(prompt_T)
            if length <= room:
                if hidden > talk.hidden:
                    talk.note(f"the oldest {hidden} of {len(talk.turns)} turns no longer fit the model's context and are left out")
                talk.hidden = hidden
                return task, prompt_T, passages[:kept]
    talk.note(
        f"Your message makes a prompt of {length} tokens; with {talk.options.max_tokens} for the answer, {room} fit the model's "
        f"context. It was taken back: shorten it.",
        WRONG,
    )
    return None


def _task(talk: Conversation, question: str, hidden: int, passages: Sequence[Passage] = ()) -> Task:
    """Return the conversation up to a new question as a task, its oldest turns left out, passages above the question."""

    def message(role: Role, text: str) -> Message:
        return Message(role=role, content=content(text))

    messages = [message("system", talk.system)] if talk.system else []
    for asked, answered in talk.turns[hidden:]:
        messages += [message("user", talk.renderer.frame.ask(asked)), message("assistant", answered)]
    asked = "\n\n".join([*(passage.text for passage in passages), talk.renderer.frame.ask(question)])
    messages.append(message("user", asked))
    return Task(messages=tuple(messages), expected=Expected(), origin=Origin("chat"))


def _answer(talk: Conversation, model: Model, prompt_T: np.ndarray, options: Options, name: str) -> str:
    """Show an answer piece by piece and return it; Ctrl-C stops it and keeps what was shown."""
    shown = ""
    if talk.person:
        talk.say(name, NAME)
    result: Generated | None = None
    stopped = False
    try:
        with closing(stream(model, prompt_T, options)) as pieces:
            while result is None:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    result = end.value
                    break
                # The template itself puts the space between name and answer.
                piece = piece if shown else piece.lstrip()
                shown += piece
                talk.say(piece.translate(UNSEEN), "")
    except KeyboardInterrupt:
        stopped = True
    finally:
        talk.say("\n", "")
    if stopped:
        talk.note("stopped")
    elif result is not None and result.stop_reason == "length":
        talk.note(f"cut at max_tokens = {options.max_tokens}")
    return shown.rstrip()
