"""Judging in the terminal: a prompt, its answers without names and in random order, one key each.

Enters: items, their answers, and a `Console` (keys in, text out). Leaves: rows, each handed to `save` the moment its key is pressed.
Through a pipe the same keys are read as lines, so that a session can be scripted.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from burnish.rate import LETTERS, Candidate, Item, judgement, order

UNSEEN = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters, which are not shown: a model must not be able to steer the terminal."""
LEFT_ARROW, RIGHT_ARROW = "\x1b[D", "\x1b[C"

KEYS_OF_TWO: Mapping[str, str] = {
    "1": "left", LEFT_ARROW: "left", "2": "right", RIGHT_ARROW: "right", "t": "tie", "=": "tie", "x": "both_bad",
    "e": "edit", "s": "skip", "u": "back", "q": "quit", "?": "help",
}  # fmt: skip
KEYS_OF_ONE: Mapping[str, str] = {
    "+": "up", "y": "up", "-": "down", "n": "down", "e": "edit", "s": "skip", "u": "back", "q": "quit", "?": "help",
}  # fmt: skip
HELP_OF_TWO = (
    "1 or ←  the left answer is better      2 or →  the right one      t  a tie      x  both are bad\n"
    "e  write a better answer, from the one that comes nearer          s  skip      u  back to the one before      q  leave"
)
HELP_OF_ONE = (
    "+ or y  good      - or n  bad      e  write a better answer      s  skip      u  back to the one before      q  leave"
)


@dataclass(frozen=True, slots=True)
class Console:
    """What a person sits at: `key()` gives one key and raises EOFError at the end; `edit(text)` gives the changed text, None: dropped."""

    key: Callable[[], str]
    write: Callable[[str], None]
    edit: Callable[[str], str | None]
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Sitting:
    """How a session went: judgements given, skipped, prompts with the same answer twice, prompts left; whether the person left early."""

    judged: int = 0
    skipped: int = 0
    same: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person said of one item; `action` is back or quit, or save with what is to be written, or stay."""

    action: str
    choice: str | None = None
    edit: str | None = None
    thumb: bool | None = None


def sit(
    items: Sequence[Item],
    answers: Callable[[int], tuple[Candidate, ...]],
    console: Console,
    *,
    rater: str,
    save: Callable[[dict[str, Any]], None],
    done: Mapping[str, Mapping[str, Any]],
    ready: Callable[[int], bool] = lambda place: True,
) -> Sitting:
    """Put the items to a person, one after the other, until all are judged or the person leaves; return how it went.

    `answers(place)` gives the answers of an item and may wait, `done` the judgements of this rater by id from earlier sessions. Each row
    is given to `save` before the next item is shown. Going back shows an earlier item again; a new judgement is a new row.
    """
    given: dict[str, Mapping[str, Any]] = dict(done)
    same: set[int] = set()
    total, place, backwards = Sitting(), _next(items, given, same, -1), False
    while place is not None:
        if not ready(place):
            console.write("(making the answers)\n")
        try:
            candidates = answers(place)
            if len(candidates) == 2 and candidates[0].text.strip() == candidates[1].text.strip():
                same.add(place)
                place = _before(same, place) if backwards and _before(same, place) is not None else _next(items, given, same, place)
                continue
            verdict, seconds = _ask(items, place, candidates, console, rater, given.get(items[place].id))
        except (EOFError, KeyboardInterrupt):
            console.write("\n")
            break
        if verdict.action == "quit":
            break
        backwards = verdict.action == "back"
        if backwards:
            before = _before(same, place)
            if before is None:
                console.write("(this is the first one)\n")
            place = place if before is None else before
            continue
        if verdict.choice != "skip" or items[place].id not in given:
            sides = order(items[place].id, rater, answers=len(candidates))
            row = judgement(
                items[place],
                candidates,
                rater=rater,
                sides=sides,
                choice=verdict.choice,
                edit=verdict.edit,
                thumb=verdict.thumb,
                seconds=seconds,
            )
            save(row)
            given[items[place].id] = row
            skipped = verdict.choice == "skip"
            total = replace(total, judged=total.judged + (not skipped), skipped=total.skipped + skipped)
        place = _next(items, given, same, place)
    unseen = sum(one.id not in given for number, one in enumerate(items) if number not in same)
    return replace(total, same=len(same), left=unseen)


def _next(items: Sequence[Item], given: Mapping[str, Any], same: set[int], place: int) -> int | None:
    """Return the next place that is still to be judged, those left behind last; None where there is none."""
    open_places = [number for number, one in enumerate(items) if one.id not in given and number not in same]
    return next((number for number in open_places if number > place), open_places[0] if open_places else None)


def _before(same: set[int], place: int) -> int | None:
    """Return the place before, None at the beginning."""
    return next((number for number in range(place - 1, -1, -1) if number not in same), None)


# ------------------------------------------------------------------------------------------------------------------------ one item


def _ask(
    items: Sequence[Item],
    place: int,
    candidates: Sequence[Candidate],
    console: Console,
    rater: str,
    earlier: Mapping[str, Any] | None,
) -> tuple[Verdict, float]:
    """Show an item and return what the person says of it, with the seconds from showing to saying."""
    sides = order(items[place].id, rater, answers=len(candidates))
    keys, help_text = (KEYS_OF_TWO, HELP_OF_TWO) if len(candidates) == 2 else (KEYS_OF_ONE, HELP_OF_ONE)
    console.write(_page(items[place], [candidates[side].text for side in sides], place, len(items)))
    if earlier is not None:
        console.write(f"(you said: {_in_words(earlier, sides)}; a new key replaces it, s leaves it)\n")
    begin = console.clock()
    while True:
        console.write("> ")
        key = console.key()
        action = keys.get(key if key in keys else key.lower())
        console.write(f"{action or ''}\n")
        if action is None:
            console.write(f"({_seen(key)!r} means nothing here; ? lists the keys)\n")
        elif action == "help":
            console.write(f"{help_text}\n")
        else:
            verdict = _verdict(action, candidates, sides, console)
            if verdict.action != "stay":
                return verdict, console.clock() - begin


def _verdict(action: str, candidates: Sequence[Candidate], sides: Sequence[int], console: Console) -> Verdict:
    """Return what an action means for the answers as they stand from left to right."""
    if action in ("back", "quit"):
        return Verdict(action)
    if action in ("up", "down"):
        return Verdict("save", thumb=action == "up")
    if action in ("left", "right"):
        return Verdict("save", choice=LETTERS[sides[action == "right"]])
    if action == "edit":
        return _edited(candidates, sides, console)
    return Verdict("save", choice=action)


def _edited(candidates: Sequence[Candidate], sides: Sequence[int], console: Console) -> Verdict:
    """Let the person write a better answer from one that is there; unchanged or empty, nothing is judged."""
    side = 0
    if len(candidates) == 2:
        console.write("Which one comes nearer? 1 left, 2 right, another key: neither > ")
        nearer = KEYS_OF_TWO.get(console.key())
        console.write("\n")
        if nearer not in ("left", "right"):
            return Verdict("stay")
        side = int(nearer == "right")
    before = candidates[sides[side]].text
    text = console.edit(before)
    if text is None or not text.strip() or text.strip() == before.strip():
        console.write("(nothing was changed, so nothing is judged yet)\n")
        return Verdict("stay")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        console.write("(that is not valid UTF-8 and was not taken; write it again)\n")
        return Verdict("stay")
    return Verdict("save", choice=LETTERS[sides[side]] if len(candidates) == 2 else None, edit=text.strip())


def _page(item: Item, texts: Sequence[str], place: int, total: int) -> str:
    """Return an item as a person reads it: the prompt, and each answer under the side it stands on."""
    lines = [f"\n{f' {place + 1} of {total} ':═^72}"]
    several = len(item.messages) > 1
    lines += [(f"[{message['role']}] " if several else "") + message["content"].translate(UNSEEN) for message in item.messages]
    names = ("1, left", "2, right") if len(texts) == 2 else ("answer",)
    for name, text in zip(names, texts, strict=True):
        lines += [f"{f' {name} ':─^72}", text.translate(UNSEEN) if text.strip() else "(no text)"]
    keys = "1 left · 2 right · t tie · x both bad" if len(texts) == 2 else "+ good · - bad"
    return "\n".join([*lines, "─" * 72, f"{keys} · e edit · s skip · u back · q leave · ? help\n"])


def _in_words(row: Mapping[str, Any], sides: Sequence[int]) -> str:
    """Return an earlier judgement in the words of the keys."""
    if row.get("edit"):
        return "a better text of your own"
    if row.get("thumb") is not None:
        return "good" if row["thumb"] else "bad"
    choice = str(row.get("choice"))
    if choice in LETTERS and len(sides) == 2:
        return ("left", "right")[list(sides).index(LETTERS.index(choice))] + " is better"
    return {"tie": "a tie", "both_bad": "both are bad", "skip": "skip"}.get(choice, choice)


def _seen(key: str) -> str:
    """Return a key without control characters."""
    return key.translate(UNSEEN)[:20]


# -------------------------------------------------------------------------------------------------------------------- the terminal


def terminal(output: TextIO) -> Console:
    """Return the console of this process: single keys where standard input is a terminal, else a line for each key."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a byte that is not UTF-8 spoils its own line only

    def write(text: str) -> None:
        output.write(text)
        output.flush()

    person = sys.stdin.isatty()

    def edit(text: str) -> str | None:
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        if person and editor:
            return _with_editor(editor, text, write)
        write("Your better answer, on one line (empty: none) > ")
        return _line()

    return Console(_key if person else lambda: _line().strip(), write, edit)


def _line() -> str:
    """Return a line of standard input without its end; EOFError where there is none."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _key() -> str:
    """Return one key of a terminal, an arrow as the three characters it sends."""
    import select
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSADRAIN)  # what was typed ahead is kept
        data = os.read(descriptor, 1)
        while data and (data == b"\x1b" or (data[0] >= 0xC0 and len(data) < 4) or data == b"\x1b["):
            if not select.select([descriptor], [], [], 0.05)[0]:
                break
            data += os.read(descriptor, 1)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
    # An end of input that was typed between two keys arrives as a zero byte: the terminal had taken it for the end of a line.
    if data in (b"", b"\x04", b"\x00"):
        raise EOFError
    return data.decode("utf-8", errors="replace")


def _with_editor(editor: str, text: str, write: Callable[[str], None]) -> str | None:
    """Let the person change a text in their editor; None where it cannot be run or ends with an error."""
    with tempfile.TemporaryDirectory(prefix="burnish-") as folder:
        file = Path(folder) / "answer.txt"
        file.write_text(f"{text}\n", encoding="utf-8")
        try:
            code = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
            changed = file.read_text(encoding="utf-8", errors="surrogateescape")
        except (OSError, ValueError) as error:
            write(f"(the editor {editor!r} cannot be run: {error}; set EDITOR to another one)\n")
            return None
    if code:
        write(f"(the editor ended with code {code}; its text was not taken)\n")
        return None
    return changed
