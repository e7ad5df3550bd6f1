"""From a model's chat template to the one that Ollama needs, or the reason why there is none.

Enters: what renders a dialog by the model's own (Jinja) template, and how a run framed its messages. Leaves: a Go template that writes the
same text. It is found by rendering marked dialogs and reading what stands around the marks, so that it works for any template of that
shape, and it is believed only after it wrote the same as the original, byte for byte, on all dialogs that it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from burnish.errors import DataError, ModelError
from burnish.export.go_template import ollama_prompt

Render = Callable[[Sequence[tuple[str, str]], bool], str]
"""From (role, content) messages, and whether the assistant is to answer, to text."""

SYSTEM, FIRST, SAID, SECOND = "⟦system⟧", "⟦first⟧", "⟦said⟧", "⟦second⟧"


@dataclass(frozen=True, slots=True)
class Shape:
    """What stands around messages: at the beginning, where no system message is given, around each role, and before the answer.

    `joined`: a system message stands inside the first turn of the user, which then has no beginning of its own. `system` is None where
    the template takes none.
    """

    begin: str
    default: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    answer: str
    joined: bool = False


def shape_of(render: Render) -> Shape:
    """Return what stands around messages in the texts that a template writes. Raises ModelError where they are not of this shape."""
    one = _around(render([("user", FIRST)], True), FIRST)
    three = _around(render([("user", FIRST), ("assistant", SAID), ("user", SECOND)], True), FIRST, SAID, SECOND)
    closed = _around(render([("user", FIRST)], False), FIRST)[1]
    said = _around(render([("user", FIRST), ("assistant", SAID)], False), FIRST, SAID)[2]
    head, tail = one
    if three[0] != head or three[3] != tail:
        raise ModelError("its chat template writes a first question otherwise once more was said")
    if not (tail.startswith(closed) and three[1].startswith(closed)):
        raise ModelError("its chat template writes a question otherwise where no answer is asked for")
    if not three[2].startswith(said):
        raise ModelError("its chat template writes an answer otherwise once more was said")
    before_user = three[2][len(said) :]
    if not head.endswith(before_user):
        raise ModelError("its chat template writes a later question otherwise than the first")
    begin = head[: len(head) - len(before_user)]
    shape = Shape(begin, "", None, (before_user, closed), (three[1][len(closed) :], said), tail[len(closed) :])
    return _with_system(shape, render)


def _with_system(shape: Shape, render: Render) -> Shape:
    """Return the shape with how a system message is written, unchanged where the template takes none."""
    try:
        head, between, tail = _around(render([("system", SYSTEM), ("user", FIRST)], True), SYSTEM, FIRST)
    except DataError:
        return shape
    if tail != shape.user[1] + shape.answer:
        raise ModelError("its chat template writes a question otherwise after a system message")
    common = next((n for n, (a, b) in enumerate(zip(head, shape.begin, strict=False)) if a != b), min(len(head), len(shape.begin)))
    begin, default, before = shape.begin[:common], shape.begin[common:], head[common:]
    if between.endswith(shape.user[0]) and shape.user[0]:
        system, joined = (before, between[: len(between) - len(shape.user[0])]), False
    else:
        system, joined = (before, between), True
    return Shape(begin, default, system, shape.user, shape.assistant, shape.answer, joined)


def _around(text: str, *marks: str) -> list[str]:
    """Return what stands before, between and after the marks; ModelError where one is missing, doubled or out of order."""
    parts = []
    for mark in marks:
        if text.count(mark) != 1:
            raise ModelError("its chat template leaves out, repeats or moves a message")
        before, _, text = text.partition(mark)
        parts.append(before)
    return [*parts, text]


def go_template(shape: Shape, *, start: str, frame: tuple[str, str]) -> str:
    """Return the Go template of a shape; `start` is the start token, which the runtime writes by itself, `frame` what a run put around questions.

    The template is one line of text and actions, with nothing trimmed: what stands in it is what is written.
    """
    begin = shape.begin.removeprefix(start) if start else shape.begin
    before, after = shape.user[0], shape.user[1]
    opening = _plain(before)
    if shape.joined and shape.system is not None:
        # The turn that a system message began is the first question's too.
        opening = f"{{{{ if not (and (eq $i 1) $.System) }}}}{_plain(before)}{{{{ end }}}}"
    parts = [_plain(begin)]
    if shape.default:
        parts.append(f"{{{{ if not .System }}}}{_plain(shape.default)}{{{{ end }}}}")
    parts.append("{{ range $i, $m := .Messages }}")
    parts.append(f'{{{{ if eq $m.Role "user" }}}}{opening}{_plain(frame[0])}{{{{ $m.Content }}}}{_plain(frame[1])}{_plain(after)}')
    parts.append(
        f'{{{{ else if eq $m.Role "assistant" }}}}{_plain(shape.assistant[0])}{{{{ $m.Content }}}}{_plain(shape.assistant[1])}'
    )
    if shape.system is not None:
        parts.append(f'{{{{ else if eq $m.Role "system" }}}}{_plain(shape.system[0])}{{{{ $m.Content }}}}{_plain(shape.system[1])}')
    parts.append("{{ end }}{{ end }}")
    parts.append(_plain(shape.answer))
    return "".join(parts)


def _plain(text: str) -> str:
    """Return text as a template writes it; what would begin an action is written by one."""
    return text.replace("{{", '{{ "{{" }}')


def differing(template: str, dialogs: Sequence[Sequence[tuple[str, str]]], wanted: Sequence[str], *, start: str) -> list[int]:
    """Return the numbers of the dialogs that the Go template writes otherwise; the start token is written by the runtime."""
    return [
        number
        for number, (dialog, text) in enumerate(zip(dialogs, wanted, strict=True))
        if (start + ollama_prompt(template, dialog)).encode() != text.encode()
    ]
