"""Talk to a model in the terminal, or through a pipe.

Enters: a model, the renderer that asks it in the form it was taught, and lines that a person types. Leaves: answers as they arise,
and at the end the conversation as messages. Commands start with a slash; all else is said to the model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from burnish.chat_asking import exchange
from burnish.chat_commands import COMMANDS
from burnish.chat_talk import WRONG, YOU, Base, Conversation, Feedback, Look, Read
from burnish.chat_terminal import greet, sayer, standard_input
from burnish.data.render import Renderer
from burnish.errors import ConfigError, suggestion
from burnish.models import Model
from burnish.sampling import Options

NOT_UTF8 = "That line is not valid UTF-8 and was not sent. Type it again."


def chat(
    model: Model,
    renderer: Renderer,
    *,
    options: Options,
    system: str | None = None,
    read: Read | None = None,
    write: Callable[[str], None] | None = None,
    look: Look | None = None,
    open_documents: Callable[[str], Look] | None = None,
    base: Base | None = None,
    feedback: Feedback | None = None,
) -> list[dict[str, str]]:
    """Converse until the person leaves, and return the messages.

    `system` None takes the run's own system message. `look` finds passages for each question, whose places stand below the answer;
    `open_documents` lets a person choose others, `base` is asked by `/compare`, `feedback` says where `/rate` writes.
    `read(prompt)` gives a line and raises EOFError at the end; `write` takes text
    as it arises. Left out, they are standard input and output. Greeting, prompts and names are for a person at a terminal only, and
    so is colour; where output is not a terminal, it holds the answers, and all else goes to standard error. Ctrl-C stops an answer,
    of which the part already given is kept; twice at the prompt, it ends the chat.

    Raises ConfigError where `max_tokens` leaves no room for a question in the model's context.
    """
    person = read is not None or sys.stdin.isatty()
    talk = Conversation(model, renderer, options, sayer(write), person, renderer.frame.system if system is None else system or None)
    talk.look, talk.open_documents, talk.base, talk.feedback = look, open_documents, base, feedback
    if options.max_tokens >= model.max_length:
        raise ConfigError(
            f"max_tokens = {options.max_tokens}: the model's context is {model.max_length} tokens, for question and answer together. "
            f"Ask for fewer."
        )
    if person:
        greet(talk)
    ask, interrupted = read or standard_input(), False
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
        exchange(talk, line[1:] if line.startswith("//") else line)
    else:
        name, _, rest = line.partition(" ")
        if name not in COMMANDS:
            near = suggestion(name, COMMANDS)
            talk.note(f"There is no command {name}.{near} /help lists them; a message that starts with a slash is typed //.", WRONG)
            return True
        return COMMANDS[name].run(talk, rest.strip())
    return True
