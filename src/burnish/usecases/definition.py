"""What a use case is: a complete run, its sample rows, and the words that go with them.

Enters: nothing. Leaves: `UseCase`, which each file of this folder returns from one function and `folder.write` turns into files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """What somebody must know before taking a use case, in Markdown: when to choose it, what rows it needs and how many, which objective and
    technique it takes and why, what to measure, what can go wrong. The same words stand in the folder's README and on the use case's page.
    """

    when: str
    rows: str
    method: str
    measure: str
    wrong: str

    def sections(self) -> tuple[tuple[str, str], ...]:
        """Return the parts with their headings, in order."""
        return (
            ("When to choose it", self.when),
            ("What data, and how much", self.rows),
            ("Which objective and technique, and why", self.method),
            ("What to measure", self.measure),
            ("What can go wrong", self.wrong),
        )


USUAL = {
    "model": "the bundled model; a hub id or a folder works as well",
    "data.columns.slice": "a part of the rows that is scored by itself as well",
    "technique.name": "all weights move, right for a small model; take lora for one with billions",
    "train.learning_rate": "for the bundled model; with lora leave it out and the technique's own is used",
}
"""What most use cases say of the same fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCase:
    """A job that a model is adapted to.

    `run` holds the values of the run file as nested tables; `notes` explains some of them, by dotted name. `unset` are values that
    the run leaves alone but a user may want: (dotted name, value, sentence), written as comments. `samples` are names under the
    bundled samples, files or folders, copied beside the run file. `prompt` is something to try on the result. `edit` says what to
    change to make the job one's own, in Markdown. `guide` is there where the use case has a page with figures, docs/usecases/NAME.md.
    """

    name: str
    summary: str
    samples: tuple[str, ...]
    run: Mapping[str, Any]
    prompt: str
    edit: str
    notes: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[tuple[str, Any, str], ...] = ()
    guide: Guide | None = None
