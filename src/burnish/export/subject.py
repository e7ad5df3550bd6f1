"""What is exported: a tuned model with the form in which it was taught, and rows that it has not seen.

Enters: a loaded `Model`, its renderer, tasks of held-out rows, and what its run told. Leaves: a `Subject`, `Choices` of the user, and the
rows as tokens. Every target of this room takes both, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.data.template import render_prompt
from burnish.errors import DataError
from burnish.models import Model, virtual
from burnish.types import Message, Task, Text, content, plain
from burnish.types import Sequence as Row

Bits = Literal["F16", "Q8_0", "Q4_0"]

LONGEST = 512
"""Tokens of a row that are compared at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A tuned model (in float32 on the CPU), its renderer, held-out rows with where they come from, and what its run told of it.

    `report` and `data` are what report.json and data.json hold, empty for a model that is no run.
    """

    name: str
    model: Model
    renderer: Renderer | HeadRenderer
    tasks: tuple[Task, ...]
    rows_from: str
    run: Path | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The form in which the model was taught."""
        return self.model.found.settings

    @property
    def base(self) -> str:
        """The base by the name that a reader can look up: a hub's or a bundled one as it is, of a local folder its last part."""
        found = self.model.found
        told = None if self.is_adapter else (self.report.get("run") or {}).get("model")
        name = str(self.settings.get("base") or told or found.base)
        place = Path(name).expanduser()
        return place.name if place.is_absolute() or place.exists() else name

    @property
    def has_head(self) -> bool:
        """Whether it reads by a head, or is an encoder, and writes no text."""
        return isinstance(self.renderer, HeadRenderer) or self.model.spec is not None

    @property
    def is_adapter(self) -> bool:
        """Whether its weights are an adapter on a base."""
        return self.model.found.adapter is not None

    @property
    def has_virtual(self) -> bool:
        """Whether a prompt method put positions before every prompt."""
        return virtual.count(self.model.network) > 0

    @property
    def called(self) -> str:
        """A short name for the result."""
        name = Path(self.name).resolve().name if Path(self.name).exists() else self.name.split("/")[-1]
        return name or "model"


@dataclass(frozen=True, slots=True)
class Choices:
    """What a user may choose of an export; each target says in `takes` which of them mean something to it."""

    output: Path
    bits: Bits = "F16"
    dtype: str = "auto"
    tolerance: float | None = None
    repo: str | None = None
    public: bool = False
    licence: str | None = None
    force: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A row as tokens, and the places whose predictions are compared."""

    tokens_T: np.ndarray
    places_P: np.ndarray
    row: Row | None = None


def probes(subject: Subject, *, numbers: int = 1 << 27) -> list[Probe]:
    """Return the held-out rows as tokens with their accepted answer, as many places of each as `numbers` logits hold in all.

    Places are spread evenly over a row, its last one always among them: there the answer begins, goes on, or ends.
    """
    rows = [row for task in subject.tasks for row in _rows(subject, task)]
    width = _width(subject.model)
    each = max(2, numbers // max(1, width * len(rows)))
    found = []
    for row in rows:
        tokens_T = np.asarray(row.tokens_T if subject.has_head else row.tokens_T[:LONGEST])
        count = min(each, len(tokens_T))
        places_P = np.unique(np.linspace(0, len(tokens_T) - 1, count).round().astype(np.int64))
        found.append(Probe(tokens_T.astype(np.int64), places_P, row))
    return found


def _rows(subject: Subject, task: Task) -> list[Row]:
    """Return a task as sequences: for a head what it reads, else the prompt with the accepted answer where there is one."""
    renderer = subject.renderer
    if isinstance(renderer, HeadRenderer):
        text = task.text if task.text is not None else plain(task.messages[-1].content) if task.messages else ""
        row = Text(text=text, origin=task.origin) if renderer.spec.restores else task.expected.asked or task
        windows = renderer.windows(row, learn=False)
        return renderer.within([window.sequence for window in windows], "cut")
    try:
        return [row for row in renderer.likelihood(task) if row.length > 1]
    except DataError:  # nothing is expected: the prompt alone is compared
        tokens_T = renderer.prompt(task)
        nothing = np.zeros(0, dtype=np.int32)
        return [Row(tokens_T, nothing, nothing, nothing.astype(np.float32), task.origin)]


def _width(model: Model) -> int:
    """Return how many numbers the model says at a place."""
    if model.spec is not None and not model.spec.restores:
        return max(1, len(model.spec.labels))
    table: Any = model.plain().get_input_embeddings()
    return int(table.weight.shape[0])


# ---------------------------------------------------------------------------------------------------------- texts that are compared


def dialogs(subject: Subject) -> list[tuple[Message, ...]]:
    """Return dialogs that end with a question: shapes that occur in use, and the held-out rows' own."""
    assert isinstance(subject.renderer, Renderer)
    system = subject.renderer.frame.system or "Be brief."
    own = [task.messages for task in subject.tasks if task.text is None and task.messages and not task.tools]
    return [*shapes(system), *(messages for messages in own if not any(message.tool_calls for message in messages))]


def shapes(system: str) -> list[tuple[Message, ...]]:
    """Return dialogs of one, three and five messages, with a system message and without, and with text that is easily broken."""
    ask, say = _message("user", "Where is it?"), _message("assistant", "On the table.")
    odd = _message("user", 'A "quoted" {{ brace }} <tag> & ünï 漢字\n\nsecond paragraph, 3 < 4, 100%')
    rule = _message("system", system)
    return [(ask,), (rule, ask), (ask, say, ask), (rule, ask, say, odd), (odd, say, ask, say, ask), (rule, odd)]


def _message(role: Any, text: str) -> Message:
    return Message(role=role, content=content(text))


def rendered(subject: Subject, messages: Sequence[Message]) -> str:
    """Return a dialog as the tuned model's own template writes it, up to where the model answers."""
    return render_prompt(subject.model.tokenizer, messages)


def texts(subject: Subject) -> list[str]:
    """Return texts on which tokenizers are compared: the rendered dialogs, the rows, and pieces on which tokenizers disagree."""
    # A term that was added is found in text as a word of its own.
    added = subject.model.tokenizer.get_added_vocab()
    found = [*ODD, *(f"the {term} there" for term in list(added)[:64])]
    if not subject.has_head and subject.settings.get("form") != "text":
        found += [rendered(subject, messages) for messages in dialogs(subject)]
    found += [task.text if task.text is not None else plain(task.messages[-1].content) for task in subject.tasks if _text(task)]
    return [text for text in found if text]


def _text(task: Task) -> bool:
    return task.text is not None or bool(task.messages)


ODD = (
    "Hello, world! It's 3 o'clock; they'll've left by 12:45.",
    "  two spaces,\ttab,\n\nblank line,\r\nend   ",
    "1234567890 3.14159 -42 1,000,000 x2 v1.2.3",
    "naïve café ÄÖÜ ß € — “quotes” … ½",
    "漢字とかな、한국어, русский, العربية, עברית, हिन्दी",
    "🙂🚲👩‍👩‍👧 e\u0301 ﬁ",
    "def f(x):\n    return {'a': x**2}  # comment\n\n\n",
    "CamelCase snake_case kebab-case UPPER a/b\\c user@example.org https://example.org/?q=1&r=2",
    "DON'T I'M We'LL you'D",
    " ",
    "\n\n\n",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
)
"""Apostrophes, white space, digits, accents, scripts, emoji, code: where pre-tokenizers differ from each other."""
