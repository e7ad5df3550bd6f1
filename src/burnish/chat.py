"""Talk to a model in the terminal, or through a pipe.

Enters: a model, the renderer that asks it in the form it was taught, and lines that a person types. Leaves: answers as they arise,
and at the end the conversation as messages. Commands start with a slash; all else is said to the model.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from burnish.data.render import Renderer
from burnish.errors import BurnishError, ConfigError, suggestion
from burnish.models import Model
from burnish.retrieval import Passage
from burnish.sampling import Generated, Options, stream
from burnish.types import Expected, Message, Origin, Role, Task, content

Read = Callable[[str], str]
Say = Callable[[str, str], None]
Look = Callable[[str], Sequence[Passage]]

YOU, MODEL = "You: ", "Model: "
NOTE, WRONG, NAME = "dim", "red", "bold cyan"
"""The styles of asides, of problems, and of who speaks."""
NOT_UTF8 = "That line is not valid UTF-8 and was not sent. Type it again."
UNSEEN = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters, which are not shown: a model must not be able to steer the terminal."""


@dataclass(slots=True, eq=False)
class Conversation:
    """What a chat must remember. `turns` are complete exchanges; the oldest `hidden` of them no longer fit the model's context.

    `look` gives the passages of documents for a question; they stand above it when it is asked, and are not remembered.
    """

    model: Model
    renderer: Renderer
    options: Options
    say: Say
    person: bool
    system: str | None = None
    turns: list[tuple[str, str]] = field(default_factory=list)
    hidden: int = 0
    asked: int = 0
    look: Look | None = None

    def note(self, text: str, style: str = NOTE) -> None:
        """Tell the person something that is no answer of the model."""
        self.say(f"({text})\n" if style == NOTE else f"{text}\n", style)

    def saved(self) -> list[dict[str, str]]:
        """Return the whole conversation as messages, hidden turns too."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for question, answer in self.turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return messages


def chat(
    model: Model,
    renderer: Renderer,
    *,
    options: Options,
    system: str | None = None,
    read: Read | None = None,
    write: Callable[[str], None] | None = None,
    look: Look | None = None,
) -> list[dict[str, str]]:
    """Converse until the person leaves, and return the messages.

    `system` None takes the run's own system message. `look` finds passages for each question, whose places stand below the answer.
    `read(prompt)` gives a line and raises EOFError at the end; `write` takes text
    as it arises. Left out, they are standard input and output. Greeting, prompts and names are for a person at a terminal only, and
    so is colour; where output is not a terminal, it holds the answers, and all else goes to standard error. Ctrl-C stops an answer,
    of which the part already given is kept; twice at the prompt, it ends the chat.

    Raises ConfigError where `max_tokens` leaves no room for a question in the model's context.
    """
    person = read is not None or sys.stdin.isatty()
    talk = Conversation(model, renderer, options, _say(write), person, renderer.frame.system if system is None else system or None)
    talk.look = look
    if options.max_tokens >= model.max_length:
        raise ConfigError(
            f"max_tokens = {options.max_tokens}: the model's context is {model.max_length} tokens, for question and answer together. "
            f"Ask for fewer."
        )
    if person:
        _greet(talk)
    ask, interrupted = read or _standard_input(), False
    while True:
        try:
            line = ask(YOU if person else "")
            interrupted = False
            if not _take(talk, line.strip()):
                break
        except EOFError:
            if person:
                talk.say("\n", "")
            break
        except KeyboardInterrupt:
            talk.say("\n", "")
            if interrupted:
                break
            interrupted = True
            talk.note("Ctrl-C again, or /quit, leaves")
    return talk.saved()


def _take(talk: Conversation, line: str) -> bool:
    """Do what one line asks for; return False where it ends the chat."""
    if not line:
        return True
    if any("\ud800" <= letter <= "\udfff" for letter in line):
        talk.note(NOT_UTF8, WRONG)
    elif not line.startswith("/") or line.startswith("//"):
        _exchange(talk, line[1:] if line.startswith("//") else line)
    else:
        name, _, rest = line.partition(" ")
        if name not in COMMANDS:
            near = suggestion(name, COMMANDS)
            talk.note(f"There is no command {name}.{near} /help lists them; a message that starts with a slash is typed //.", WRONG)
            return True
        return COMMANDS[name].run(talk, rest.strip())
    return True


# ------------------------------------------------------------------------------------------------------------- question and answer


def _exchange(talk: Conversation, question: str) -> None:
    """Put a question to the model, show the answer as it arises, and remember both; without an answer nothing is remembered."""
    from jinja2 import TemplateError

    try:
        prompt_T, shown = _prompt(talk, question)
        if prompt_T is None:
            return
        answer = _answer(talk, prompt_T)
    except BurnishError as error:
        talk.note(f"{error} Your message was taken back.", WRONG)
        return
    except TemplateError as error:
        talk.note(f"The model's chat template refuses these messages: {error}. Your message was taken back.", WRONG)
        return
    if answer:
        talk.turns.append((question, answer))
        if talk.look is not None:
            places = "; ".join(dict.fromkeys(str(passage.origin) for passage in shown))
            talk.note(f"from {places}" if shown else "nothing was found in the documents")
    else:
        talk.note("no answer; your message was taken back")


def _prompt(talk: Conversation, question: str) -> tuple[np.ndarray | None, Sequence[Passage]]:
    """Return the prompt's tokens with as many passages, and then of the latest turns, as fit, and those passages.

    None where the question alone is too long.
    """
    room, length = talk.model.max_length - talk.options.max_tokens, 0
    passages = talk.look(question) if talk.look is not None else ()
    for kept in range(len(passages), -1, -1):
        for hidden in range(len(talk.turns) + 1):
            prompt_T = talk.renderer.prompt(_task(talk, question, hidden, passages[:kept]))
            length = len(prompt_T)
            if length <= room:
                if hidden > talk.hidden:
                    talk.note(f"the oldest {hidden} of {len(talk.turns)} turns no longer fit the model's context and are left out")
                talk.hidden = hidden
                return prompt_T, passages[:kept]
    talk.note(
        f"Your message makes a prompt of {length} tokens; with {talk.options.max_tokens} for the answer, {room} fit the model's "
        f"context. It was taken back: shorten it.",
        WRONG,
    )
    return None, ()


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


def _answer(talk: Conversation, prompt_T: np.ndarray) -> str:
    """Show the answer piece by piece and return it; Ctrl-C stops it and keeps what was shown."""
    # Each question draws anew, so that asking again after /undo may give something else.
    options = replace(talk.options, samples=1, step=talk.asked)
    talk.asked += 1
    shown = ""
    if talk.person:
        talk.say(MODEL, NAME)
    result: Generated | None = None
    stopped = False
    try:
        with closing(stream(talk.model, prompt_T, options)) as pieces:
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


# ------------------------------------------------------------------------------------------------------------------------ commands


@dataclass(frozen=True, slots=True)
class Command:
    """A word with a slash: what it does (False: leave the chat), what follows it, and a few words for /help."""

    run: Callable[[Conversation, str], bool]
    argument: str
    says: str


def _help(talk: Conversation, rest: str) -> bool:
    width = max(len(f"{name} {command.argument}") for name, command in COMMANDS.items())
    talk.say("".join(f"  {f'{name} {one.argument}':<{width}}  {one.says}\n" for name, one in COMMANDS.items()), NOTE)
    return True


def _reset(talk: Conversation, rest: str) -> bool:
    talk.turns.clear()
    talk.hidden = 0
    talk.note("a new conversation; the system message stays")
    return True


def _system(talk: Conversation, rest: str) -> bool:
    if rest:
        talk.system = None if rest == "none" else rest
    talk.note(f"system message: {talk.system or 'none'}")
    return True


def _temperature(talk: Conversation, rest: str) -> bool:
    try:
        if rest:
            talk.options = replace(talk.options, temperature=float(rest))
    except ValueError:
        talk.note(f"/temperature {rest}: expected a number, such as 0.7; 0 takes the likeliest token each time.", WRONG)
        return True
    except ConfigError as error:
        talk.note(str(error), WRONG)
        return True
    talk.note(f"temperature: {talk.options.temperature:g}")
    return True


def _undo(talk: Conversation, rest: str) -> bool:
    if not talk.turns:
        talk.note("there is nothing to take back")
        return True
    question, _ = talk.turns.pop()
    talk.hidden = min(talk.hidden, len(talk.turns))
    talk.note(f"taken back: {question if len(question) <= 60 else question[:60] + '...'}")
    return True


def _save(talk: Conversation, rest: str) -> bool:
    if not rest or not talk.turns:
        talk.note("Nothing was said yet." if rest else "/save FILE: name a file, such as /save chat.jsonl", WRONG)
        return True
    path = Path(rest).expanduser()
    line = json.dumps({"messages": talk.saved()}, ensure_ascii=False) + "\n"
    try:
        before = path.read_bytes() if path.exists() else b""
        with path.open("ab") as file:
            # A last line without its line break must not swallow ours.
            file.write((b"\n" if before and not before.endswith(b"\n") else b"") + line.encode("utf-8"))
    except OSError as error:
        talk.note(f"{path} cannot be written: {error.strerror}. Nothing was saved; name another file.", WRONG)
        return True
    talk.note(f"{len(talk.saved())} messages {'added to' if before else 'saved in'} {path}, as a row of data")
    return True


def _quit(talk: Conversation, rest: str) -> bool:
    return False


COMMANDS: dict[str, Command] = {
    "/help": Command(_help, "", "this list"),
    "/reset": Command(_reset, "", "forget what was said"),
    "/system": Command(_system, "TEXT", "set the system message (none: take it away; without TEXT: show it)"),
    "/temperature": Command(_temperature, "X", "0 takes the likeliest token each time; higher is more varied"),
    "/undo": Command(_undo, "", "take back the last question and its answer"),
    "/save": Command(_save, "FILE", "add the conversation to a JSONL file, as a row that can be tuned on"),
    "/quit": Command(_quit, "", "leave"),
}


# ------------------------------------------------------------------------------------------------------------------- the terminal


def _greet(talk: Conversation) -> None:
    """Say what one is talking to, and in which form it is asked."""
    lines = [f"Talking to {talk.model.found.name}. /help lists the commands, Ctrl-C stops an answer.", *talk.model.notes]
    if talk.system:
        lines.append(f"System message: {talk.system}")
    if talk.renderer.frame.prompt is not None:
        lines.append(f"Each message is put into the prompt of the run: {talk.renderer.frame.prompt}")
    for line in lines:
        talk.say(f"{line}\n", NOTE)


def _standard_input() -> Read:
    """Return a reader of standard input in which a byte that is not UTF-8 spoils its own line only, not all that was read with it."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    return input


def _say(write: Callable[[str], None] | None) -> Say:
    """Return what shows text in a style: the caller's `write`, a terminal in colour, or standard output and error as they are."""
    if write is not None:
        return lambda text, style: write(text)
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        return lambda text, style: console.out(text, style=style or None, end="", highlight=False)
    output, asides = sys.stdout, sys.stderr

    def plain(text: str, style: str) -> None:
        target = asides if style else output
        target.write(text)
        target.flush()

    return plain
