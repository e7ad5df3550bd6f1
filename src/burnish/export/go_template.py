"""The part of Go's text templates that chat templates need, carried out, so that an Ollama template can be checked without Ollama.

Enters: a template's text and values. Leaves: the text that Go's text/template would write, or a ModelError that says what is not known here.
Known: text, trimming marks, `if`/`else if`/`else`, `range` with variables, fields, variables, strings and whole numbers, parentheses, and the
functions eq, ne, and, or, not, len, index and slice. Source: the documentation of Go's package text/template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from burnish.errors import ModelError

Node = Any
_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_WORD = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*"|`[^`]*`)|(-?\d+)|(\$\w*(?:\.\w+)*)|((?:\.\w+)+|\.)|(:=|[(),|])|([A-Za-z]\w*))')


@dataclass(slots=True)
class Block:
    """What stands between a control word and its end: the word, its words, the nodes inside, and the nodes behind its else."""

    word: str
    words: list[str]
    inside: list[Node] = field(default_factory=list)
    otherwise: list[Node] = field(default_factory=list)


def execute(template: str, values: Mapping[str, Any]) -> str:
    """Return what a template writes for these values; ModelError for what is no template, or knows more than this does."""
    out: list[str] = []
    _write(_parse(template), values, {"$": values}, out)
    return "".join(out)


def ollama_prompt(template: str, messages: Sequence[tuple[str, str]]) -> str:
    """Return the prompt that Ollama makes of messages (role, content): neighbours of one role joined, system messages also by themselves."""
    joined: list[dict[str, str]] = []
    for role, text in messages:
        if joined and joined[-1]["Role"] == role and role != "tool":
            joined[-1]["Content"] += f"\n\n{text}"
        else:
            joined.append({"Role": role, "Content": text})
    system = "\n\n".join(text for role, text in messages if role == "system")
    return execute(template, {"Messages": joined, "System": system, "Tools": [], "Response": "", "Prompt": ""})


# ------------------------------------------------------------------------------------------------------------------------ reading


def _parse(template: str) -> list[Node]:
    root = Block("root", [])
    open_blocks, at_else, place, trim = [root], [False], 0, False
    for match in _ACTION.finditer(template):
        _text(template[place : match.start()], open_blocks[-1], at_else[-1], before=trim, after=bool(match[1]))
        place, trim = match.end(), bool(match[3])
        words = _words(match[2])
        if not words:
            continue
        if words[0] in ("if", "range"):
            block = Block(words[0], words[1:])
            _into(open_blocks[-1], at_else[-1]).append(block)
            open_blocks.append(block)
            at_else.append(False)
        elif words[0] == "else":
            at_else[-1] = True
            if words[1:2] == ["if"]:  # stands inside the else, and ends with it
                block = Block("else if", words[2:])
                open_blocks[-1].otherwise.append(block)
                open_blocks.append(block)
                at_else.append(False)
        elif words[0] == "end":
            while open_blocks[-1].word == "else if":
                open_blocks.pop()
                at_else.pop()
            if len(open_blocks) == 1:
                raise ModelError("the Go template has an end without a beginning.")
            open_blocks.pop()
            at_else.pop()
        else:
            _into(open_blocks[-1], at_else[-1]).append(words)
    if len(open_blocks) != 1:
        raise ModelError(f"the Go template has no end for its {open_blocks[-1].word}.")
    _text(template[place:], root, False, before=trim, after=False)
    return root.inside


def _into(block: Block, is_else: bool) -> list[Node]:
    return block.otherwise if is_else else block.inside


def _text(text: str, block: Block, is_else: bool, *, before: bool, after: bool) -> None:
    text = text.lstrip(" \t\r\n") if before else text
    text = text.rstrip(" \t\r\n") if after else text
    if text:
        _into(block, is_else).append(text)


def _words(action: str) -> list[str]:
    if action.strip().startswith("/*"):
        return []
    words, place = [], 0
    action = action.strip()
    while place < len(action):
        match = _WORD.match(action, place)
        if match is None:
            raise ModelError(f"the Go template has something that is not known here: {action[place : place + 40]!r}.")
        words.append(match[0].strip())
        place = match.end()
    return words


# --------------------------------------------------------------------------------------------------------------------- carrying out


def _write(nodes: Sequence[Node], dot: Any, names: dict[str, Any], out: list[str]) -> None:
    for node in nodes:
        if isinstance(node, str):
            out.append(node)
        elif isinstance(node, Block) and node.word == "range":
            _range(node, dot, names, out)
        elif isinstance(node, Block):
            inside = node.inside if _truth(_value(node.words, dot, names)) else node.otherwise
            _write(inside, dot, dict(names), out)
        elif node[1:2] == [":="]:
            names[node[0]] = _value(node[2:], dot, names)
        else:
            out.append(_shown(_value(node, dot, names)))


def _range(node: Block, dot: Any, names: dict[str, Any], out: list[str]) -> None:
    variables: list[str] = []
    words = node.words
    if ":=" in words:
        variables = [word for word in words[: words.index(":=")] if word != ","]
        words = words[words.index(":=") + 1 :]
    values = _value(words, dot, names)
    if not isinstance(values, list | tuple):
        raise ModelError(f"the Go template goes through something that is no list: {' '.join(words)}.")
    for number, value in enumerate(values):
        given = dict(zip(variables, (number, value) if len(variables) == 2 else (value,), strict=False))
        _write(node.inside, value, {**names, **given}, out)
    if not values:
        _write(node.otherwise, dot, dict(names), out)


def _value(words: Sequence[str], dot: Any, names: Mapping[str, Any]) -> Any:
    """Return what a row of words is worth: one operand, or a function of operands."""
    operands, place = [], 0
    function = words[0] if words and words[0][0].isalpha() else ""
    place = 1 if function else 0
    while place < len(words):
        if words[place] == "(":
            end = _closing(words, place)
            operands.append(_value(words[place + 1 : end], dot, names))
            place = end + 1
        else:
            operands.append(_operand(words[place], dot, names))
            place += 1
    if function in ("true", "false") and not operands:
        return function == "true"
    if function:
        return _call(function, operands)
    if len(operands) != 1:
        raise ModelError(f"the Go template has something that is not known here: {' '.join(words)!r}.")
    return operands[0]


def _closing(words: Sequence[str], place: int) -> int:
    depth = 0
    for number in range(place, len(words)):
        depth += {"(": 1, ")": -1}.get(words[number], 0)
        if depth == 0:
            return number
    raise ModelError("the Go template has a parenthesis that is not closed.")


def _operand(word: str, dot: Any, names: Mapping[str, Any]) -> Any:
    if word[0] == '"':
        return json.loads(word)
    if word[0] == "`":
        return word[1:-1]
    if word.lstrip("-").isdigit():
        return int(word)
    if word[0] not in ".$":
        raise ModelError(f"the Go template has something that is not known here: {word!r}.")
    first, *fields = word.split(".")
    if first and first not in names:
        raise ModelError(f"the Go template has a variable that was not set: {first!r}.")
    value = names[first] if first else dot
    for name in fields:
        value = value[name] if name else value
    return value


def _call(function: str, operands: Sequence[Any]) -> Any:
    if function in ("eq", "ne"):
        equal = any(operands[0] == other for other in operands[1:])
        return equal if function == "eq" else not equal
    if function == "and":
        return next((value for value in operands if not _truth(value)), operands[-1])
    if function == "or":
        return next((value for value in operands if _truth(value)), operands[-1])
    if function == "not":
        return not _truth(operands[0])
    if function == "len":
        return len(operands[0])
    if function == "index":
        return operands[0][operands[1]]
    if function == "slice":
        return operands[0][slice(*operands[1:])]
    raise ModelError(f"the Go template calls a function that is not known here: {function!r}.")


def _truth(value: Any) -> bool:
    return bool(value)


def _shown(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
