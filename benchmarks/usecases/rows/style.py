"""Rows of the use case code-style: small Python functions as somebody left them, and as one of two teams wants them.

Both teams: names in snake case, type hints, a docstring that says what the name says, no needless brackets. Team Heron refuses an empty input by
raising ValueError, team Plover answers it with None. The system prompt names the team.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

from phrases import mixed


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of function does: verbs, what its argument may be called, its types, and the expression that it returns."""

    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    takes: str
    gives: str
    body: str
    guarded: bool = False
    says: str = "{Verb} the {noun}."


PRICES = (
    "prices",
    "fees",
    "weights",
    "hours",
    "open invoices",
    "monthly costs",
    "tax rates",
    "daily sales",
    "unit prices",
    "lap times",
    "bills",
    "scores",
)
NAMES = (
    "names",
    "words",
    "titles",
    "user names",
    "file names",
    "street lines",
    "city codes",
    "tags",
    "colours",
    "log lines",
    "team names",
    "keys",
)
TEXTS = (
    "title",
    "email",
    "user name",
    "city",
    "first line",
    "product code",
    "comment",
    "label",
    "street",
    "file name",
    "team name",
    "reply",
)
NUMBERS = (
    "age",
    "level",
    "size",
    "retry count",
    "page number",
    "room number",
    "score",
    "speed",
    "seat count",
    "floor",
    "port number",
    "line width",
)
KINDS = (
    Kind(("sum", "add", "total"), PRICES, "list[float]", "float", "sum({x})"),
    Kind(("average",), PRICES, "list[float]", "float", "sum({x}) / len({x})", guarded=True),
    Kind(("sort", "order"), PRICES, "list[float]", "list[float]", "sorted({x})"),
    Kind(("count",), NAMES, "list[str]", "int", "len({x})"),
    Kind(("join", "merge"), NAMES, "list[str]", "str", '", ".join({x})'),
    Kind(
        ("filter", "keep"),
        NAMES,
        "list[str]",
        "list[str]",
        "[item for item in {x} if item]",
        says="{Verb} the {noun} that are not empty.",
    ),
    Kind(("find", "pick"), NAMES, "list[str]", "str", "max({x}, key=len)", guarded=True, says="{Verb} the longest of the {noun}."),
    Kind(("take",), NAMES, "list[str]", "str", "{x}[0]", guarded=True, says="{Verb} the first of the {noun}."),
    Kind(("fetch",), PRICES, "list[float]", "float", "{x}[-1]", guarded=True, says="{Verb} the last of the {noun}."),
    Kind(("clean", "trim"), TEXTS, "str", "str", "{x}.strip()"),
    Kind(("format", "show"), TEXTS, "str", "str", "{x}.title()"),
    Kind(("split", "cut"), TEXTS, "str", "list[str]", '{x}.split(",")'),
    Kind(("validate", "check"), TEXTS, "str", "bool", "len({x}) > 3", says="{Verb} the length of the {noun}."),
    Kind(("test", "verify"), NUMBERS, "int", "bool", "{x} >= 18", says="{Verb} that the {noun} is 18 or more."),
    Kind(("limit", "cap"), NUMBERS, "int", "int", "min({x}, 99)", says="{Verb} the {noun} at 99."),
    Kind(("double", "raise"), NUMBERS, "int", "int", "{x} * 2"),
)
ACRONYMS = (
    "html page",
    "url list",
    "csv file",
    "json text",
    "xml tag",
    "pdf name",
    "http header",
    "sql text",
    "api key",
    "ip address",
    "dns entry",
    "usb port",
    "gps point",
    "css rule",
)
ACRONYM_KIND = Kind(("parse", "load", "read"), ACRONYMS, "str", "str", "{x}.strip()")
TEAMS = ("Heron", "Plover")


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found = [row for kind in KINDS for verb in kind.verbs for noun in kind.nouns for row in _pair(kind, verb, noun, "usual")]
    found += [row for verb in ACRONYM_KIND.verbs for noun in ACRONYMS for row in _pair(ACRONYM_KIND, verb, noun, "acronyms")]
    return {"style.jsonl": mixed(found, "function")}


def _pair(kind: Kind, verb: str, noun: str, slice_: str) -> list[dict[str, Any]]:
    """Return rows of one function: for one team or, of a function with a rule of the team's, for both."""
    draw = random.Random(f"style {verb} {noun}")
    made = []
    for team in TEAMS if kind.guarded else (draw.choice(TEAMS),):
        after = _after(kind, verb, noun, team)
        clean = slice_ == "usual" and draw.random() < 0.1
        before = after if clean else _before(kind, verb, noun, draw, acronym=slice_ == "acronyms")
        row = {"system": f"Team {team}", "before": before, "after": after, "kind": "already clean" if clean else slice_}
        made.append({**row, "group": f"{verb} {noun}"})
    return made


def _before(kind: Kind, verb: str, noun: str, draw: random.Random, *, acronym: bool) -> str:
    """Return the function as somebody left it: another way of writing names, brackets, spaces."""
    words = noun.split()
    joined = "".join((word.upper() if acronym and place == 0 else word.capitalize()) for place, word in enumerate(words))
    camel = words[0] + "".join(word.capitalize() for word in words[1:])
    name = draw.choice((verb + joined, verb + joined, verb.capitalize() + joined, f"{verb}_{joined}"))
    body = kind.body.replace("{x}", camel)
    space = draw.choice(("", "", " "))
    head = f"def {name}({space}{camel}{space}):"
    way = draw.choice(("plain", "brackets", "variable", "one line"))
    if way == "brackets":
        return f"{head}\n    return ({body})"
    if way == "variable":
        return f"{head}\n    Result = {body}\n    return Result"
    if way == "one line":
        return f"{head} return {body}"
    return f"{head}\n    return {body}"


def _after(kind: Kind, verb: str, noun: str, team: str) -> str:
    """Return the function as a team wants it."""
    name = re.sub(r"\s+", "_", noun)
    gives = f"{kind.gives} | None" if kind.guarded and team == "Plover" else kind.gives
    says = kind.says.format(Verb=verb.capitalize(), noun=noun)
    lines = [f"def {verb}_{name}({name}: {kind.takes}) -> {gives}:", f'    """{says}"""']
    if kind.guarded:
        refusal = "return None" if team == "Plover" else f'raise ValueError("no {noun}")'
        lines += [f"    if not {name}:", f"        {refusal}"]
    return "\n".join([*lines, f"    return {kind.body.replace('{x}', name)}"])
