"""The commands of the chat: what a line that starts with a slash does.

Enters: a `Conversation` and what follows the command. Leaves: the conversation changed, or a file written; each returns whether the chat
goes on. A command is a function and a line in COMMANDS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from burnish.chat_asking import compare
from burnish.chat_rating import rate
from burnish.chat_talk import NOTE, WRONG, Conversation
from burnish.errors import BurnishError, ConfigError


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
    talk.hidden, talk.said = 0, None
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
    talk.said = None
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


def _compare(talk: Conversation, rest: str) -> bool:
    compare(talk, rest)
    return True


def _rag(talk: Conversation, rest: str) -> bool:
    if rest == "off":
        talk.look = None
    elif rest and talk.open_documents is not None:
        try:
            talk.look = talk.open_documents(rest)
        except BurnishError as error:
            talk.note(f"{error} Nothing was changed.", WRONG)
            return True
    talk.note(
        "documents: each question is looked up"
        if talk.look is not None
        else "documents: none; /rag FILE or FOLDER looks questions up"
    )
    return True


def _rate(talk: Conversation, rest: str) -> bool:
    rate(talk, rest)
    return True


def _quit(talk: Conversation, rest: str) -> bool:
    return False


COMMANDS: dict[str, Command] = {
    "/help": Command(_help, "", "this list"),
    "/reset": Command(_reset, "", "forget what was said"),
    "/system": Command(_system, "TEXT", "set the system message (none: take it away; without TEXT: show it)"),
    "/temperature": Command(_temperature, "X", "0 takes the likeliest token each time; higher is more varied"),
    "/compare": Command(_compare, "QUESTION", "the base's answer beside the model's (without QUESTION: to the last one)"),
    "/rag": Command(_rag, "PLACE", "look each question up in a file or folder (off: no more; without PLACE: show it)"),
    "/rate": Command(_rate, "WORD", "judge the last answer: good or bad; after /compare: base, model, tie or bad (both)"),
    "/undo": Command(_undo, "", "take back the last question and its answer"),
    "/save": Command(_save, "FILE", "add the conversation to a JSONL file, as a row that can be tuned on"),
    "/quit": Command(_quit, "", "leave"),
}
