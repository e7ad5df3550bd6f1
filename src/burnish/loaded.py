"""A model that is ready to answer: loaded, with the form in which it was taught.

Enters: the name of a model, and prompts or rows. Leaves: a `Loaded`, and tasks to put to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.data.dialog import Frame, as_task, known_labels
from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.data.split import group_keys
from burnish.devices import Device, choose_device
from burnish.errors import UsageError, suggestion
from burnish.models import Model, load_model, set_up_answering
from burnish.types import Example, Expected, Message, Origin, Task, content


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model that is ready to answer, in the form in which it was taught."""

    model: Model
    renderer: Renderer | HeadRenderer
    settings: Mapping[str, Any]

    @property
    def writer(self) -> Renderer:
        """What renders prompts for a model that writes, in the form of its first task that is written where it was loaded for a head.

        Raises UsageError for a model that only reads, by a head of its own.
        """
        if isinstance(self.renderer, HeadRenderer):
            written = [name for name in self.model.found.settings.get("tasks", {}) if name not in self.model.heads]
            if self.model.spec is None and written:
                found = _asked_by(self.model, written[0])[0]
                assert isinstance(found, Renderer), "this task has no head"
                return found
            if self.renderer.spec.kind == "picture":
                raise UsageError(
                    f"{self.model.found.name} tells what is on pictures ({', '.join(self.renderer.spec.labels[:5])}), and reads and writes no text. "
                    f"Ask it with: burnish generate {self.model.found.name} --data FOLDER"
                )
            raise UsageError(
                f"{self.model.found.name} has a head of its own ({', '.join(self.renderer.spec.labels[:5])}) and writes no text. Ask it with: "
                f"burnish generate {self.model.found.name} --prompt TEXT"
            )
        return self.renderer

    @property
    def continues_text(self) -> bool:
        """Whether it was taught plain text, so that a prompt is continued and not answered."""
        return self.settings.get("form") == "text"

    def task(self, prompt: str) -> Task:
        """Return a user's prompt as a task, framed by the run's own system prompt and prompt template."""
        origin = Origin("prompt")
        if self.continues_text:
            return Task(messages=(), expected=Expected(), text=prompt, origin=origin)
        frame = self.renderer.frame
        system = (Message(role="system", content=content(frame.system)),) if frame.system else ()
        return Task(
            messages=(*system, Message(role="user", content=content(frame.ask(prompt)))), expected=Expected(), origin=origin
        )


# ---------------------------------------------------------------------------------------------------------------- tune and check


def load(
    name: str | Path, *, dtype: str = "auto", adapter: bool = True, task: str | None = None, device: Device | None = None
) -> Loaded:
    """Return a model by run directory, folder, bundled name or hub id, ready to answer as it was taught.

    `device` is where and in which number formats; not given, it is chosen by `dtype`. Of a model that learned several tasks, `task` says
    in the form of which it is asked; the first if not given. Raises UsageError for a task that it did not learn.
    """
    if device is None:
        device = choose_device(dtype, moves_base=False)
        set_up_answering(device)
    model = load_model(str(name), device, adapter=adapter)
    known = model.found.settings.get("tasks", {})
    if task is not None and task not in known:
        said = f"Its tasks: {', '.join(known)}.{suggestion(task, known)}" if known else "It learned one task, which has no name."
        raise UsageError(f"{name} has no task {task!r}. {said}")
    return as_taught(model, task)


def as_taught(model: Model, task: str | None = None) -> Loaded:
    """Return a model that is in memory with the form in which it was taught; of several tasks that of `task`, or of the first one."""
    return Loaded(model, *_asked_by(model, task))


def _asked_by(model: Model, task: str | None) -> tuple[Renderer | HeadRenderer, Mapping[str, Any]]:
    """Return what puts prompts to a model in the form of a task that it learned (None: its first), and the settings of that form."""
    settings = model.found.settings if task is None else model.found.settings["tasks"][task]
    called = task or str(model.found.settings.get("task", "main"))
    frame = Frame(settings.get("system"), settings.get("prompt"), tuple(settings.get("choices", ())))
    limit = int(settings.get("max_length") or model.max_length)
    spec = model.reads(called)
    if spec is None:
        return Renderer(model.tokenizer, limit, model.end_ids(), frame, task=called), settings
    reader = HeadRenderer(model.tokenizer, limit, frame, spec, model.encoder, task=called, end_ids=model.end_ids())
    return reader, settings


def tasks_of(loaded: Loaded, examples: Sequence[Example]) -> list[Task]:
    """Return rows as tasks in the form that the model was taught, with groups."""
    frame = loaded.renderer.frame
    if not frame.choices:
        frame = replace(frame, choices=known_labels(examples))
    groups = group_keys(examples)
    return [replace(as_task(example, frame), group=group) for example, group in zip(examples, groups, strict=True)]
