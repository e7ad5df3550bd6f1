"""Put rows to the bundled models and turn what comes back into figures with intervals: what every part of `measure.py` shares.

In: models by name, rows of JSON files. Out: `Subject`s that are ready to be asked, tasks, answers, and rows of figures
{"set", "arm", "mean", "low", "high", "n", "groups"} of plain values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from burnish.api import Loaded, load
from burnish.assets import probe
from burnish.errors import DataError, ModelError
from burnish.evaluate import Asking, answer, resolve_scores
from burnish.forgetting_answers import spread
from burnish.sampling import Options
from burnish.scores import SCORES, groups_of, intervals
from burnish.types import Answer, Expected, Message, Origin, Score, Task, content

BATCH = 64
TRAINED_LENGTH = 512
"""Tokens of the windows that the models were trained on."""

Row = dict[str, Any]
Figure = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that is measured: what the pages call it, and the name or folder that was given for it."""

    name: str
    given: str

    @cached_property
    def loaded(self) -> Loaded:
        """The model itself, loaded when it is first asked."""
        return load(self.given)

    def facts(self) -> dict[str, Any]:
        """Return what the pages say of the model's size and form."""
        model = self.loaded.model
        config = model.plain().config
        names = (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "intermediate_size",
            "vocab_size",
        )
        folder = model.found.folder
        return {
            "given": self.given,
            "parameters": model.parameters()[0],
            "context": model.max_length,
            "stored": sorted({path.name: path.stat().st_size for path in folder.glob("*.safetensors")}.items()) if folder else [],
            "numbers": f"{model.target.name}, weights {model.target.dtype}, products {model.target.products}",
            **{name: int(getattr(config, name)) for name in names},
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """What is measured on what: the models, the folder that `make.py` wrote, and how many rows of each set (None: all)."""

    tiny: Subject
    chat: Subject
    folder: Path
    limit: int | None = None

    @property
    def subjects(self) -> tuple[Subject, Subject]:
        """Both models, the base first."""
        return self.tiny, self.chat

    def rows(self, name: str) -> list[Row]:
        """Return the rows of a file that `make.py` wrote."""
        return read_lines(self.folder / name)[: self.limit]

    def probe(self, name: str) -> list[Row]:
        """Return the rows of a part of the general probe."""
        return probe(name)[: self.limit]


def read_lines(path: Path) -> list[Row]:
    """Return the rows of a JSON lines file; DataError where it is missing."""
    if not path.is_file():
        raise DataError(f"{path} is missing. Write it first: python benchmarks/base/make.py {path.parent}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ----------------------------------------------------------------------------------------------------------------------- asking


def asked(turns: str | Sequence[Mapping[str, str]], answers: Sequence[str], *, group: str, choices: Sequence[str] = ()) -> Task:
    """Return a task of a user's question, or of the turns of a dialog, with the answers that count as right."""
    given = [{"role": "user", "content": turns}] if isinstance(turns, str) else turns
    messages = tuple(Message(role=one["role"], content=content(one["content"])) for one in given)  # type: ignore[arg-type]
    expected = Expected(texts=tuple(answers), choices=tuple(choices))
    return Task(messages=messages, expected=expected, origin=Origin(group), group=group)


def answers(subject: Subject, tasks: Sequence[Task], *, max_tokens: int) -> list[Answer]:
    """Return the greedy answers of a model to tasks, in the form in which it was taught."""
    asking = Asking(Options(max_tokens=max_tokens, batch=BATCH, long_prompts="cut"))
    model = subject.loaded.model
    return answer(model, subject.loaded.renderer, _framed(subject, tasks), resolve_scores(["exact_match"]), asking)


def _framed(subject: Subject, tasks: Sequence[Task]) -> list[Task]:
    """Return tasks with the system prompt that a model was taught with, if it was."""
    system = subject.loaded.renderer.frame.system
    if system is None:
        return list(tasks)
    first = Message(role="system", content=content(system))
    return [task if task.text is not None else replace(task, messages=(first, *task.messages)) for task in tasks]


def likelihoods(subject: Subject, tasks: Sequence[Task], *, window: int | None = None) -> list[Answer]:
    """Return how likely a model finds the expected text of each task, plain texts cut into windows of `window` tokens.

    Raises ModelError where a prompt with its answer does not fit the model's context.
    """
    model = subject.loaded.model
    renderer = replace(subject.loaded.renderer, max_length=window or model.max_length)
    given = answer(model, renderer, _framed(subject, tasks), resolve_scores(["bits_per_byte"]), Asking(Options(max_tokens=1)))
    for task, one in zip(tasks, given, strict=True):
        if not one.nll_tokens:
            raise ModelError(
                f"{task.origin}: prompt and answer do not fit the {model.max_length} tokens that {subject.given!r} reads."
            )
    return given


def choice_likelihoods(subject: Subject, tasks: Sequence[Task]) -> list[Answer]:
    """Return the likelihood of every choice of every task, one after the other."""
    return likelihoods(subject, spread(tasks))


# ---------------------------------------------------------------------------------------------------------------------- figures


def shares(values: Sequence[bool | float]) -> np.ndarray:
    """Return the statistics of a mean [rows, 2], of which all rows count."""
    return np.array([(float(value), 1.0) for value in values], dtype=np.float64).reshape(-1, 2)


MEAN = SCORES["exact_match"]
"""A score whose statistics are those of `shares`."""


def figures(
    name: str,
    arms: Mapping[str, np.ndarray],
    groups: Sequence[str],
    *,
    score: Score = MEAN,
    pairs: Sequence[tuple[str, str]] = (),
) -> list[Figure]:
    """Return the figures of one set: a row for each arm, and one for each of `pairs`, what the first arm has more than the second.

    Intervals are 95 %, by a bootstrap over groups, the same draw for all arms.
    """
    table = intervals(score, arms, groups, difference_from="none")
    rows = [(arm, table[arm]) for arm in arms]
    for arm, other in pairs:
        two = intervals(score, {other: arms[other], arm: arms[arm]}, groups, difference_from=other)
        rows.append((f"{arm} minus {other}", two["difference"]))
    return [{"set": name, "arm": arm, **value, "n": table["n"], "groups": table["groups"]} for arm, value in rows]


def groups(tasks: Sequence[Task]) -> list[str]:
    """Return the group of each task, over which intervals are drawn."""
    return groups_of(list(tasks))


def plain_value(name: str, arm: str, value: float, *, n: int) -> Figure:
    """Return a figure that has no interval, such as the length of one compressed stream."""
    assert math.isfinite(value), "a figure that can be written"
    return {"set": name, "arm": arm, "mean": value, "low": None, "high": None, "n": n, "groups": n}
