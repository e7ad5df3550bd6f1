"""Rows of the use case programming-tutor: small programs of learners with one planted bug, and a hint for the learner's level that names the line.

A hint says where to look and what to ask oneself; it never holds the repaired line. For a beginner it uses everyday words, for an advanced learner the terms.
A program without a bug gets told so. A kind of bug with its names is a group.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from phrases import different, mixed


@dataclass(frozen=True, slots=True)
class Bug:
    """A kind of bug: the program with {x}, {y}, {n} to fill, the line at fault, and the hint for each level."""

    name: str
    program: str
    line: int
    beginner: str
    advanced: str


BUGS = (
    Bug("range too short", "{x} = 0\nfor i in range({n}):\n    {x} = {x} + i\nprint({x})  # 1 to {n}", 2,
        "which numbers does i really take? Write them down.", "check both ends of the half-open range."),
    Bug("assignment for comparison", "{x} = {n}\nif {x} = {m}:\n    print(\"{w}\")", 2,
        "one sign gives a value, another one asks. Which do you need?", "assignment is no expression here; which operator compares?"),
    Bug("missing colon", "{x} = {n}\nwhile {x} > 0\n    print({x})\n    {x} -= 1", 2,
        "what must stand at the end of a line that opens a block?", "the compound statement lacks a token before its suite."),
    Bug("no return", "def {f}({x}):\n    {y} = {x} * {n}\n\nprint({f}({m}))", 2,
        "the function works something out. Does it hand it back?", "the function falls off its end, so what is its value?"),
    Bug("text and number", "{x} = input()\n{y} = {x} + {n}\nprint({y})", 2,
        "what kind of thing does input give you?", "mind the operand types: str and int."),
    Bug("endless loop", "{x} = {n}\nwhile {x} > 0:\n    print(\"{w}\")", 3,
        "does anything change from one round to the next?", "the loop's condition never changes in its body."),
    Bug("misspelled name", "{x} = {n}\nfor i in range({m}):\n    {x} = {x} + 1\nprint({z})", 4,
        "read the name aloud, letter by letter. Did you make it before?", "this name is not bound; compare it with line 1."),
    Bug("index too far", "{x} = [{n}, {m}, 4]\nfor i in range(4):\n    print({x}[i])", 2,
        "how many things are in the list, and what is the last place called?", "the loop runs past the last valid index."),
    Bug("wrong indent", "def {f}({x}):\n    {y} = {x} + {n}\n      return {y}\nprint({f}({m}))", 3,
        "put a ruler to the left edge. Do lines of one block begin together?", "the block's indentation is inconsistent."),
    Bug("value thrown away", "{x} = [{m}, {n}, 1]\nsorted({x})\nprint({x})", 2,
        "the sorted list is made. Where does it go?", "this call returns a new object; is it bound to anything?"),
    Bug("division by nothing", "{x} = []\n{y} = sum({x}) / len({x})\nprint({y})", 2,
        "how many things are in the list? Can you share among so many?", "consider the empty case of the denominator."),
    Bug("counter reset", "for i in range({n}):\n    {x} = 0\n    {x} = {x} + i\nprint({x})", 2,
        "how often is this line carried out? Should it be?", "the accumulator is initialised inside the loop."),
)  # fmt: skip
CLEAN = (
    "{x} = 0\nfor i in range(1, {n}):\n    {x} = {x} + i\nprint({x})",
    "def {f}({x}):\n    return {x} * {n}\n\nprint({f}({m}))",
    "{x} = {n}\nwhile {x} > 0:\n    print(\"{w}\")\n    {x} -= 1",
    "{x} = [{n}, {m}, 4]\nfor i in range(3):\n    print({x}[i])",
)  # fmt: skip
NAMES = ("total", "count", "price", "age", "points", "steps", "speed", "lives", "score", "coins", "hours", "weight")
OTHERS = ("result", "value", "answer", "double", "mean", "rest")
FUNCTIONS = ("grow", "change", "work", "bonus", "next_one", "fee")
WORDS = ("hello", "go", "done", "tick", "ready")
LEVELS = ("beginner", "advanced")
FINE = {
    "beginner": "No bug here. Run it with other numbers and guess the result first.",
    "advanced": "No bug here. Which input would break it?",
}
PER_BUG, PER_CLEAN = 40, 12


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found = []
    for bug in BUGS:
        draw = random.Random(f"tutor {bug.name}")
        found += different(lambda b=bug, d=draw: _row(b, d), PER_BUG, key=lambda row: row["level"] + row["program"], tries=600)
    for number, program in enumerate(CLEAN):
        draw = random.Random(f"tutor clean {number}")
        found += different(
            lambda p=program, d=draw: _clean(p, d), PER_CLEAN, key=lambda row: row["level"] + row["program"], tries=600
        )
    return {"tutor.jsonl": mixed(found, "program")}


def _names(draw: random.Random) -> dict[str, str]:
    x = draw.choice(NAMES)
    at = draw.randrange(1, len(x) - 1)
    return {
        "x": x, "z": x[:at] + x[at + 1] + x[at] + x[at + 2 :] if x[at] != x[at + 1] else x + "s", "y": draw.choice(OTHERS), "f": draw.choice(FUNCTIONS),
        "w": draw.choice(WORDS), "n": str(draw.randint(3, 12)), "m": str(draw.randint(2, 9)),
    }  # fmt: skip


def _row(bug: Bug, draw: random.Random) -> dict[str, Any]:
    """Return a program with its bug, perhaps behind a remark that moves the line, and the hint."""
    names, level = _names(draw), draw.choice(LEVELS)
    program, line, kind = bug.program.format(**names), bug.line, "usual"
    if draw.random() < 0.2:
        program, line, kind = (
            f"# {draw.choice(('exercise', 'homework', 'my program', 'try'))} {draw.randint(1, 9)}\n{program}",
            line + 1,
            "line moved",
        )
    hint = f"Line {line}: {bug.beginner if level == 'beginner' else bug.advanced}"
    return {
        "level": f"Learner: {level}",
        "program": program,
        "hint": hint,
        "kind": kind,
        "group": f"{bug.name} {names['x']} {names['n']}",
    }


def _clean(program: str, draw: random.Random) -> dict[str, Any]:
    names, level = _names(draw), draw.choice(LEVELS)
    group = f"clean {program} {names['x']} {names['n']}"
    return {"level": f"Learner: {level}", "program": program.format(**names), "hint": FINE[level], "kind": "no bug", "group": group}
