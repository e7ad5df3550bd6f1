"""The terminal of a chat: the greeting, lines from standard input, and where answers, asides and colour go.

Enters: a conversation, or standard streams. Leaves: functions that read and show. Where output is no terminal it holds the answers alone, and
all else goes to standard error.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

from burnish.chat_talk import NOTE, Conversation, Read, Say


def greet(talk: Conversation) -> None:
    """Say what one is talking to, and in which form it is asked."""
    lines = [f"Talking to {talk.model.found.name}. /help lists the commands, Ctrl-C stops an answer.", *talk.model.notes]
    if talk.system:
        lines.append(f"System message: {talk.system}")
    if talk.renderer.frame.prompt is not None:
        lines.append(f"Each message is put into the prompt of the run: {talk.renderer.frame.prompt}")
    for line in lines:
        talk.say(f"{line}\n", NOTE)


def standard_input() -> Read:
    """Return a reader of standard input in which a byte that is not UTF-8 spoils its own line only, not all that was read with it."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    return input


def sayer(write: Callable[[str], None] | None) -> Say:
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
