"""What a use case is: a complete run, its sample rows, and the words that go with them.

Enters: nothing. Leaves: `UseCase`, which each file of this folder returns from one function and `folder.write` turns into files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCase:
    """A job that a model is adapted to.

    `run` holds the values of the run file as nested tables; `notes` explains some of them, by dotted name. `unset` are values that
    the run leaves alone but a user may want: (dotted name, value, sentence), written as comments. `samples` are names under the
    bundled samples, files or folders, copied beside the run file. `prompt` is something to try on the result. `edit` says what to
    change to make the job one's own, in Markdown.
    """

    name: str
    summary: str
    samples: tuple[str, ...]
    run: Mapping[str, Any]
    prompt: str
    edit: str
    notes: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[tuple[str, Any, str], ...] = ()
