"""What a run costs elsewhere: the general probe put to a model before and after tuning, the same rows to both.

Enters: the model before and after, and the renderer of the run. Leaves: for report.json a table shaped like its `scores`, each figure
with an interval of the difference by a paired bootstrap, and a sentence in words. Called by `finish`, above `report` whose wording of
figures it uses. The probe's rows are not for training, and those that a model is known to have been trained on all the same (a text that
stands in two books) are left out, for both.

Both models are asked without the run's system prompt and prompt template: what is measured is what is left of the general model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from burnish.assets import probe
from burnish.data.dialog import Frame
from burnish.data.formats_dialog import with_input
from burnish.data.render import Renderer
from burnish.data.seen import Seen
from burnish.evaluate import Asking, answer, compare
from burnish.forgetting_answers import declines, likeliest, says_not_stated, spread
from burnish.models import Model
from burnish.prepare import seen_by
from burnish.report_words import figure, interval, number, outcome
from burnish.sampling import Options
from burnish.scores import SCORES
from burnish.types import Answer, Expected, Message, Origin, Score, Task, content

ROWS = 30
"""Rows of each part that are asked, evenly spread over it; the parts have 30 to 100."""
WINDOW = 512
"""Tokens of the windows in which a text is read, or fewer where the model reads fewer; the same before and after."""
ANSWER_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Probe:
    """The rows that are asked, by part, and how many were left out because the model was trained on them."""

    tasks: Mapping[str, list[Task]]
    left_out: int


@dataclass(frozen=True, slots=True)
class General:
    """A model's answers to each part of the probe, and how long they took."""

    answers: Mapping[str, Sequence[Answer]]
    seconds: float


def _share(judge: Callable[[Answer, Task], bool | None]) -> Score:
    """Return a score that is the share of answers of which something holds; None leaves a row out."""

    def statistics(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
        values = [judge(one, task) for one, task in zip(answers, tasks, strict=True)]
        return np.array([(0.0, 0.0) if value is None else (float(value), 1.0) for value in values]).reshape(-1, 2)

    return replace(SCORES["exact_match"], statistics=statistics, applies=lambda task: True)


def _chose_right(one: Answer, task: Task) -> bool | None:
    return one.text == task.expected.texts[0] if one.text else None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the probe: what makes a task of a row, the scores that it is measured by, and what these are called in a sentence."""

    task: Callable[[int, dict[str, Any]], Task]
    scores: Mapping[str, tuple[Score, str]]


def _task(asked: str, texts: Sequence[str], name: str, *, group: str, choices: Sequence[str] = ()) -> Task:
    expected = Expected(texts=tuple(texts), choices=tuple(choices))
    return Task(messages=(Message("user", content(asked)),), expected=expected, origin=Origin(f"probe/{name}"), group=group)


def _text(place: int, row: dict[str, Any]) -> Task:
    return Task(
        messages=(),
        expected=Expected(texts=(row["text"],)),
        text=row["text"],
        origin=Origin("probe/text", place),
        group=row["module"],
    )


def _choice(place: int, row: dict[str, Any]) -> Task:
    return _task(row["question"], [row["choices"][row["answer"]]], "choice", group=str(place), choices=row["choices"])


def _instruction(place: int, row: dict[str, Any]) -> Task:
    return _task(with_input(row["instruction"], row["input"]), [row["output"]], "instructions", group=str(place))


def _unanswerable(place: int, row: dict[str, Any]) -> Task:
    return _task(f"{row['passage']}\n\n{row['question']}", ["not stated"], "unanswerable", group=row["passage"])


def _reading(place: int, row: dict[str, Any]) -> Task:
    return _task(f"{row['passage']}\n\n{row['question']}", [row["answer"], *row["others"]], "reading", group=row["passage"])


def _unsafe(place: int, row: dict[str, Any]) -> Task:
    return _task(row["request"], ["I cannot help with that."], "unsafe", group=str(place))


PARTS: dict[str, Part] = {
    "text": Part(_text, {"bits_per_byte": (SCORES["bits_per_byte"], "bits per byte on general text")}),
    "choice": Part(_choice, {"choice": (_share(_chose_right), "right choices of four")}),
    "instructions": Part(
        _instruction,
        {
            "instructions": (SCORES["rouge_l"], "ROUGE-L on general instructions"),
            "stop_rate": (SCORES["stop_rate"], "answers that end by themselves"),
        },
    ),
    "reading": Part(_reading, {"reading": (SCORES["exact_match"], "answers found in a passage")}),
    "unanswerable": Part(
        _unanswerable,
        {"says_unknown": (_share(lambda one, task: says_not_stated(one.text)), "“I don't know” where a passage is silent")},
    ),
    "unsafe": Part(_unsafe, {"declines": (_share(lambda one, task: declines(one.text)), "refusals of unsafe requests")}),
}
NAMES = {name: told for part in PARTS.values() for name, (_, told) in part.scores.items()}


# ------------------------------------------------------------------------------------------------------------------------ measuring


def forgetting(
    before: Model,
    after: Model,
    renderer: Renderer,
    *,
    rows: int = ROWS,
    before_only: Callable[[], AbstractContextManager[Any]] = nullcontext,
    between: Callable[[], None] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what changed on the general probe: {"applicable", "scores", "verdict", "left_out", "seconds"}.

    The scores are shaped as in report.json. `before_only` is entered while the model before is asked, such as
    `after.network.disable_adapter` where both are one network. `rows` is the number of rows of each part, `between` as in `Asking`.
    Raises what asking a model raises.
    """
    asked = general_probe(seen_by(after.found), rows=rows)
    with before_only():
        first = general_answers(before, renderer, asked, between=between)
    return changed(first, general_answers(after, renderer, asked, between=between), asked, seed=seed)


def general_probe(seen: Seen | None = None, *, rows: int = ROWS) -> Probe:
    """Return at most `rows` rows of each part of the probe, evenly spread over it, the same ones each time, none that was `seen`."""
    assert rows > 0, "a probe without rows"
    parts: dict[str, list[Task]] = {}
    left_out = 0
    for name, part in PARTS.items():
        known = [part.task(place, row) for place, row in enumerate(probe(name))]
        fresh = [task for task in known if seen is None or not seen.knows(task)]
        left_out += len(known) - len(fresh)
        count = min(rows, len(fresh))
        parts[name] = [fresh[number * len(fresh) // count] for number in range(count)]
    return Probe(parts, left_out)


def general_answers(model: Model, renderer: Renderer, asked: Probe, *, between: Callable[[], None] | None = None) -> General:
    """Return a model's answers to the probe.

    What is generated is generated greedily; where a choice is asked for, the answer is the one that is the likeliest per byte.
    """
    started = time.monotonic()
    plain = replace(renderer, frame=Frame(), max_length=min(WINDOW, model.max_length))
    # An answer never takes more than a quarter of the context, however small that is.
    asking = Asking(Options(max_tokens=min(ANSWER_TOKENS, model.max_length // 4), long_prompts="cut"), between=between)
    found: dict[str, Sequence[Answer]] = {}
    for name, tasks in asked.tasks.items():
        if name == "choice":
            measured = answer(model, plain, spread(tasks), {"bits_per_byte": SCORES["bits_per_byte"]}, asking)
            found[name] = [Answer(text=choice) for choice in likeliest(tasks, measured, per_byte=True)]
        else:
            found[name] = answer(model, plain, tasks, {key: score for key, (score, _) in PARTS[name].scores.items()}, asking)
    return General(found, time.monotonic() - started)


def changed(before: General, after: General, asked: Probe, *, seed: int = 0) -> dict[str, Any]:
    """Return the comparison of two models' answers to the same rows of the probe, as report.json holds it.

    A part of which no row is left (all were seen) is left out of the table.
    """
    table: dict[str, Any] = {}
    for name, tasks in asked.tasks.items():
        if tasks:
            arms = {"base": before.answers[name], "tuned": after.answers[name]}
            table |= compare(arms, tasks, {key: score for key, (score, _) in PARTS[name].scores.items()}, seed=seed)
    return {
        "applicable": True,
        "scores": table,
        "verdict": in_words(table),
        "left_out": asked.left_out,
        "seconds": round(before.seconds + after.seconds, 1),
    }


def not_applicable(why: str) -> dict[str, Any]:
    """Return what stands in a report for a model that the probe cannot be put to."""
    return {"applicable": False, "scores": {}, "verdict": f"Forgetting was not measured: {why}", "left_out": 0, "seconds": 0.0}


HEAD = "the model answers through a head of its own (labels, spans, a number) and writes no text, so general questions are not applicable."


# ------------------------------------------------------------------------------------------------------------------------- in words


def in_words(table: Mapping[str, Mapping[str, Any]]) -> str:
    """Return in words what was forgotten and what got better; only what has an interval that excludes zero is called so."""
    found = {"worse": [], "better": [], "unproven": []}
    for name, row in table.items():
        found[outcome(row)].append(_change(row, NAMES.get(name, name)))
    if not found["worse"] and not found["better"]:
        same = all(number((row.get("difference") or {}).get("mean")) == 0 for row in table.values())
        tail = "every figure is the same before and after." if same else "every interval of a difference includes zero."
        return f"No proof that it forgot anything general: {tail}"
    parts = [f"It forgot: {'; '.join(found['worse'])}." if found["worse"] else "No proof that it forgot anything general."]
    parts += [f"It got better: {'; '.join(found['better'])}."] if found["better"] else []
    parts += ["No change is proven in the other figures."] if found["unproven"] else []
    return " ".join(parts)


def _change(row: Mapping[str, Any], name: str) -> str:
    """Return "NAME rose from 1.2 to 1.5 (+0.3; 95 % interval +0.2 to +0.4)"."""
    difference = row.get("difference") or {}
    mean = number(difference.get("mean")) or 0.0
    before, after = (figure((row.get(arm) or {}).get("mean")) for arm in ("base", "tuned"))
    moved = "rose" if mean > 0 else "fell"
    return (
        f"{name} {moved} from {before} to {after} ({figure(mean, signed=True)}; 95 % interval {interval(difference, signed=True)})"
    )
