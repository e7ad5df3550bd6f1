"""Export for Ollama: a GGUF file with the Modelfile that makes it answer as it was taught.

Enters: a `Subject` that writes text. Leaves: the GGUF file and a Modelfile with the template in Go's language, the run's system message, the
prompt that it put around each question, the ends of a turn as stops, and the context. The template must write what the model's own writes,
byte for byte, on sample dialogs and held-out rows, or the export is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from burnish.data.render import Renderer
from burnish.data.template import render_messages, template_message
from burnish.errors import DataError, ModelError
from burnish.export import gguf
from burnish.export.bundle import Made
from burnish.export.ollama_template import Render, differing, go_template, shape_of
from burnish.export.parity import Check
from burnish.export.subject import Choices, Subject, dialogs, rendered
from burnish.types import Message, content, plain

TEXT = "⟦text⟧"


def refuse(subject: Subject, choices: Choices) -> None:
    """Raise ModelError for a model that GGUF cannot hold, one that continues plain text, and a template that Go cannot write."""
    gguf.refuse(subject, choices)
    if subject.settings.get("form") == "text":
        raise ModelError(
            f"{subject.name} was taught to continue plain text, and Ollama's models answer messages. Use --to gguf, and llama-cli or llama.cpp."
        )
    if any(task.tools for task in subject.tasks):
        raise ModelError(
            f"{subject.name} was taught calls of tools, which the Ollama template that is made here cannot write. Use --to gguf: "
            f"llama-server --jinja takes the model's own template."
        )
    try:
        template_of(subject)
    except ModelError as error:
        raise ModelError(
            f"{subject.name} cannot be exported for Ollama: {error}. Its template must be written in Go's language there, and a wrong one makes "
            f"a model answer badly. Use --to gguf: llama-server --jinja takes the model's own template."
        ) from error


def template_of(subject: Subject) -> str:
    """Return the Go template of a subject. Raises ModelError where none writes what the model's own template writes."""
    start = _start(subject)
    template = go_template(shape_of(_render(subject)), start=start, frame=_frame(subject))
    if '"""' in template:
        raise ModelError("its chat template holds three quotes in a row, which a Modelfile cannot")
    asked, wanted = samples(subject)
    if wrong := differing(template, asked, wanted, start=start):
        raise ModelError(
            f"the template that was made for Ollama writes {len(wrong)} of {len(asked)} dialogs otherwise than the model's own"
        )
    return template


def _start(subject: Subject) -> str:
    """Return the start token where the model's text begins with it, and the runtime puts it there."""
    return str(subject.model.tokenizer.bos_token) if gguf.starts(subject) else ""


def _render(subject: Subject) -> Render:
    """Return what renders (role, content) messages by the model's own template."""

    def render(messages: Sequence[tuple[str, str]], answers: bool) -> str:
        shown = [template_message(Message(role=role, content=content(text))) for role, text in messages]  # pyright: ignore[reportArgumentType]
        return render_messages(subject.model.tokenizer, shown, None, open_turn=answers)[0]

    return render


def _frame(subject: Subject) -> tuple[str, str]:
    """Return what the run put before and after each question."""
    assert isinstance(subject.renderer, Renderer)
    before, mark, after = subject.renderer.frame.ask(TEXT).partition(TEXT)
    if not mark or TEXT in after:
        raise ModelError("its prompt (data.prompt) does not hold the question once")
    return before, after


def samples(subject: Subject) -> tuple[list[list[tuple[str, str]]], list[str]]:
    """Return dialogs as a user of Ollama would send them, and the text that the model was taught for each.

    A question is sent bare, and taught in the run's prompt; dialogs that the model's own template refuses are left out.
    """
    before, after = _frame(subject)
    asked, wanted = [], []
    for messages in dialogs(subject):
        bare = [(one.role, plain(one.content)) for one in messages]
        framed = all(text.startswith(before) and text.endswith(after) for role, text in bare if role == "user")
        if framed and (before or after):
            bare = [(role, text[len(before) : len(text) - len(after)] if role == "user" else text) for role, text in bare]
        else:
            messages = tuple(
                replace(one, content=content(before + text + after)) if one.role == "user" else one
                for one, (_, text) in zip(messages, bare, strict=True)
            )
        try:
            text = rendered(subject, messages)
        except DataError:
            continue
        asked.append(bare)
        wanted.append(text)
    return asked, wanted


def fill(subject: Subject, folder: Path, choices: Choices) -> Made:
    """Write file and Modelfile into `folder` and compare both with the tuned model."""
    made = gguf.fill(subject, folder, choices)
    template, start = template_of(subject), _start(subject)
    modelfile = _modelfile(subject, template, made.facts["file"])
    (folder / "Modelfile").write_text(modelfile, encoding="utf-8")
    # What is compared is what the file says, read again.
    read = (folder / "Modelfile").read_text(encoding="utf-8").split('TEMPLATE """', 1)[1].split('"""', 1)[0]
    asked, wanted = samples(subject)
    wrong = differing(read, asked, wanted, start=start)
    check = Check("Ollama template", "dialogs whose text differs by a byte:", float(len(wrong)), 0.0, len(asked), "dialogs")
    use = f"ollama create {subject.called} -f {choices.output / 'Modelfile'} && ollama run {subject.called}"
    notes = [*made.notes, "Ollama was not started: its template was carried out by a reading of Go's template language of our own."]
    return Made([*made.checks, check], made.stored, use, {**made.facts, "stops": stops(subject)}, notes)


def stops(subject: Subject) -> list[str]:
    """Return the texts that end an answer: the tokens at which the tuned model stops."""
    tokenizer = subject.model.tokenizer
    return [str(tokenizer.convert_ids_to_tokens(number)) for number in subject.renderer.end_ids]


def _modelfile(subject: Subject, template: str, file: str) -> str:
    lines = [
        f"# {subject.called}: tuned from {subject.base} with burnish. The template is the model's own chat template in Go's language.",
        f"FROM ./{file}",
        f'TEMPLATE """{template}"""',
    ]
    if system := subject.settings.get("system"):
        if '"""' in system:
            raise ModelError("the run's system message holds three quotes in a row, which a Modelfile cannot.")
        lines.append(f'SYSTEM """{system}"""')
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops(subject)]
    lines += ["PARAMETER temperature 0", f"PARAMETER num_ctx {subject.renderer.max_length}"]
    if longest := subject.settings.get("max_tokens"):
        lines.append(f"PARAMETER num_predict {int(longest)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
