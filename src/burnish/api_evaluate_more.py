"""What `burnish evaluate` measures beside the scores when it is asked to: agreement with itself, "I don't know", certainty, forgetting, slices, the
worst rows, a judge, public benchmarks.

Enters: a `Subject` (rows, the answers of each arm, and how each arm's model is opened) and `More`, what is wanted. Leaves: parts of the report,
each figure with an interval and n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.dialog import as_task
from burnish.data.fields import normalised
from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.data.sources import read
from burnish.errors import ConfigError, DataError, UsageError, suggestion
from burnish.evaluate import Asking, answer
from burnish.evaluate_agreement import agreement, calibration, commonest, shares
from burnish.evaluate_certainty import has_labels, label_chances
from burnish.evaluate_harness import harness_rows, harness_table
from burnish.evaluate_judge import Ask, agreement_with_people, judged
from burnish.evaluate_slices import by_slice, slice_values, worst_rows
from burnish.evaluate_wordings import RULES, Wordings, read_wordings, worded
from burnish.forgetting import HEAD, General, Probe, changed, general_answers, general_probe, not_applicable
from burnish.forgetting_answers import says_not_stated
from burnish.gather import read_rows
from burnish.models import Model
from burnish.prepare import seen_by
from burnish.scores import groups_of
from burnish.types import Answer, Answerable, Example, Pair, Score, Task, plain

Asker = Renderer | HeadRenderer
Opened = AbstractContextManager[tuple[Model, Asker]]
MEASURES = ("consistency", "abstention", "calibration", "forgetting")
ROWS = 60
"""Rows of these measurements, spread over all: they ask a model many times."""
SAMPLES, TEMPERATURE = 5, 0.7
RIGHT = 0.5


@dataclass(frozen=True, slots=True)
class More:
    """What is measured beside the scores. `judge` is the name of a model here or the address of a server, `people` a file of pairs that people decided,
    by which the judge is measured first; `harness` names tasks of lm-evaluation-harness."""

    measures: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    worst: int = 0
    paraphrases: str | None = None
    judge: str | None = None
    judge_model: str | None = None
    people: str | None = None
    harness: tuple[str, ...] = ()
    harness_folder: str | None = None

    @property
    def wanted(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.measures or self.slices or self.worst or self.judge or self.harness)

    def refuse(self) -> None:
        """Raise UsageError for what cannot be meant, before any weights are read."""
        if unknown := [name for name in self.measures if name not in MEASURES]:
            raise UsageError(
                f"--measure {unknown[0]}: no such measurement.{suggestion(unknown[0], MEASURES)} There are {', '.join(MEASURES)}."
            )
        if self.judge is not None and self.people is None:
            raise UsageError(
                "--judge needs --people FILE: pairs of answers that people have decided (prompt, chosen, rejected; burnish rate collects them). "
                "A judge whose agreement with people is not known shows nothing."
            )
        if self.people is not None and self.judge is None:
            raise UsageError("--people FILE measures a judge, and none is named: --judge MODEL or --judge http://HOST:PORT/v1")
        if self.paraphrases is not None and "consistency" not in self.measures:
            raise UsageError("--paraphrases belongs to --measure consistency.")


NOTHING_MORE = More()


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """Rows and what models say of them: the answers by arm, and by arm how its model is opened; `main` is the arm that it is about.

    `examples` are the rows as they were read, in the order of `tasks`, and `columns` reads what else stood in them, by origin.
    """

    tasks: Sequence[Task]
    examples: Sequence[Example]
    arms: Mapping[str, Sequence[Answer]]
    main: str
    score: Score
    opened: Mapping[str, Callable[[], Opened]]
    asking: Asking
    columns: Callable[[], Mapping[str, Mapping[str, Any]]]


def deepened(subject: Subject, more: More, *, base: Path, say: Callable[[str], None], seed: int = 0) -> dict[str, Any]:
    """Return the parts of a report that `more` asks for. Raises UsageError, DataError or ConfigError for what cannot be measured."""
    found: dict[str, Any] = {}
    if more.slices:
        columns = subject.columns()
        values = {name: slice_values(subject.tasks, name, columns) for name in more.slices}
        found["slices"] = {
            name: by_slice(subject.arms, subject.tasks, subject.score, one, seed=seed) for name, one in values.items()
        }
    if more.worst:
        found["worst"] = worst_rows(subject.arms, subject.tasks, subject.score, count=more.worst, arm=subject.main)
    if more.judge is not None:
        found["judge"] = _judged(subject, more, base, say)
    if more.measures or more.harness:
        found |= _asked_again(subject, more, base, say)
    return found


def columns_of(sources: Sequence[str], base: Path) -> dict[str, Mapping[str, Any]]:
    """Return what stood in each row as it was read, by its origin."""
    return {str(row.origin): row.values for source in sources for row in read(source, base=base).rows}


# ---------------------------------------------------------------------------------------------------------- what asks the models again


def _asked_again(subject: Subject, more: More, base: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Return what takes the models themselves, one after the other."""
    step = max(1, len(subject.tasks) // ROWS)
    places = list(range(0, len(subject.tasks), step))[:ROWS]
    wordings = RULES if more.paraphrases is None else read_wordings(more.paraphrases, base)
    probe: Probe | None = None
    found: dict[str, dict[str, Any]] = {name: {} for name in more.measures}
    general, rows = {}, {}
    for arm, open_model in subject.opened.items():
        with open_model() as (model, asker):
            if more.measures:
                say(f"Measuring {', '.join(more.measures)} of {arm}")
            if "consistency" in found:
                found["consistency"][arm] = _consistency(subject, model, asker, places, wordings)
            if "calibration" in found:
                found["calibration"][arm] = _calibrated(subject, model, asker, places)
            if "abstention" in found:
                found["abstention"][arm] = _abstention(subject, model, asker, places)
            if "forgetting" in found and isinstance(asker, Renderer):
                probe = probe or general_probe(seen_by(model.found))  # the first model's, so that all are asked the same rows
                general[arm] = general_answers(model, asker, probe, between=subject.asking.between)
            if more.harness and not isinstance(asker, Renderer):
                raise UsageError(f"--harness asks a model to continue texts, and {arm} answers through a head of its own.")
            if more.harness:
                say(f"lm-evaluation-harness: {', '.join(more.harness)} of {arm}")
                folder = None if more.harness_folder is None else Path(more.harness_folder)
                rows[arm] = harness_rows(model, more.harness, folder=folder)
    if "forgetting" in found:
        found["forgetting"] = _forgotten(general, probe, subject.main)
    return {**found, **({"harness": harness_table(rows)} if rows else {})}


def _forgotten(general: Mapping[str, General], probe: Probe | None, main: str) -> dict[str, Any]:
    """Return what each arm lost on the general probe beside the first one, or why nothing can be said."""
    first, *others = general or [main]
    if not others or probe is None:
        return {main: not_applicable("there is nothing that it was tuned from to compare with." if general else HEAD)}
    return {arm: changed(general[first], general[arm], probe) for arm in others}


def _right(subject: Subject, answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Return which answers count as right by the deciding score."""
    with np.errstate(all="ignore"):
        values = np.asarray(subject.score.combine(np.asarray(subject.score.statistics(answers, tasks), dtype=np.float64)))
    return np.nan_to_num(values) >= RIGHT if subject.score.higher_is_better else np.zeros(len(tasks), dtype=bool)


def _samples(subject: Subject, model: Model, asker: Asker, tasks: Sequence[Task]) -> list[list[Answer]]:
    """Return several answers to each task, drawn at a temperature; a head draws none."""
    if isinstance(asker, HeadRenderer):
        return []
    options = replace(subject.asking.options, temperature=TEMPERATURE)
    drawn = [
        answer(model, asker, tasks, {"": subject.score}, replace(subject.asking, options=replace(options, step=number + 1)))
        for number in range(SAMPLES)
    ]
    return [[sample[place] for sample in drawn] for place in range(len(tasks))]


def _consistency(subject: Subject, model: Model, asker: Asker, places: Sequence[int], wordings: Wordings) -> dict[str, Any]:
    """Return how far a model agrees with itself over samples, and over wordings of the question, and is right in all of them."""
    tasks = [subject.tasks[place] for place in places if subject.tasks[place].messages]
    if not tasks or subject.score.needs != "text" or any(task.expected.spans is not None for task in tasks):
        return {"applicable": False, "why": "nothing is asked in these rows that could be put in other words, its answers compared"}
    questions = [_question(subject, task) for task in tasks]
    ways = [[task, *(worded(task, asked, way) for way in wordings.of(asked))] for task, asked in zip(tasks, questions, strict=True)]
    flat = iter(answer(model, asker, [one for some in ways for one in some], {"": subject.score}, subject.asking))
    answers = [[next(flat) for _ in some] for some in ways]
    right = [_right(subject, some, asked).all() for some, asked in zip(answers, ways, strict=True)]
    groups, sampled = groups_of(tasks), _samples(subject, model, asker, tasks)
    found = {
        "agreement": shares(agreement([[normalised(one.text) for one in some] for some in answers]), groups),
        "all_right": shares(np.array(right, dtype=float), groups),
        "given": wordings.known(questions),
    }
    drawn = None if not sampled else shares(agreement([[normalised(one.text) for one in some] for some in sampled]), groups)
    return {"applicable": True, "n": len(tasks), "samples": drawn, "paraphrases": found}


def _question(subject: Subject, task: Task) -> str:
    """Return the question of a task: of one on a context the question alone, else the whole of the last turn."""
    return task.expected.asked.question if task.expected.asked is not None else plain(task.messages[-1].content)


def _calibrated(subject: Subject, model: Model, asker: Asker, places: Sequence[int]) -> dict[str, Any]:
    """Return how far a model's certainty can be believed: by the chances of all labels where there are some, else by agreement among samples."""
    tasks = [subject.tasks[place] for place in places if subject.tasks[place].messages]
    if tasks and has_labels(tasks) and not (isinstance(asker, HeadRenderer) and asker.spec.problem != "single"):
        answers, certain_R = label_chances(model, asker, tasks, subject.asking)
        return {
            "applicable": True,
            "by": "chances of all labels",
            **calibration(certain_R, _right(subject, answers, tasks), groups_of(tasks)),
        }
    sampled = _samples(subject, model, asker, tasks) if subject.score.needs == "text" else []
    if not sampled:
        return {"applicable": False, "why": "there is no list of labels, and no answers are drawn"}
    chosen = [commonest([normalised(one.text) for one in some]) for some in sampled]
    answers = [some[place] for some, (place, _) in zip(sampled, chosen, strict=True)]
    certain_R = np.array([share for _, share in chosen])
    by = f"agreement among {SAMPLES} samples"
    return {"applicable": True, "by": by, **calibration(certain_R, _right(subject, answers, tasks), groups_of(tasks))}


def _abstention(subject: Subject, model: Model, asker: Asker, places: Sequence[int]) -> dict[str, Any]:
    """Return how often a model says that the context does not tell, where it does not and where it does.

    Where all rows can be answered, each is asked on the context of another row that does not hold its answer.
    """
    rows = [subject.examples[place] for place in places if isinstance(subject.examples[place], Answerable)]
    asked = [row for row in rows if isinstance(row, Answerable) and row.context]
    silent = [row for row in asked if not row.answers] or _on_other_contexts(asked)
    telling = [row for row in asked if row.answers]
    if not silent or not telling:
        return {"applicable": False, "why": "there are no questions on contexts of which some do not hold the answer"}
    told = {}
    for name, some in (("unanswerable", silent), ("answerable", telling)):
        tasks = [as_task(row, asker.frame) for row in some]
        said = answer(model, asker, tasks, {"": subject.score}, subject.asking)
        told[name] = shares(np.array([float(says_not_stated(one.text)) for one in said]), groups_of(tasks))
    return {"applicable": True, "made": all(row.answers for row in asked), **told}


def _on_other_contexts(rows: Sequence[Answerable]) -> list[Answerable]:
    """Return each question on the context of the next row that does not hold its answer."""
    made = []
    for place, row in enumerate(rows):
        texts = [normalised(text) for _, text in row.answers]
        others = (rows[(place + step) % len(rows)].context for step in range(1, len(rows)))
        other = next((one for one in others if not any(text in normalised(one) for text in texts)), None)
        if other is not None:
            made.append(replace(row, context=other, answers=()))
    return made


# ------------------------------------------------------------------------------------------------------------------------- the judge


def _judged(subject: Subject, more: More, base: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Return by other arm how often the main one's answers are better, by a judge that is first measured on pairs that people decided."""
    assert more.judge is not None and more.people is not None, "refused before"
    others = [arm for arm in subject.arms if arm != subject.main]
    if not others or subject.score.needs != "text":
        raise UsageError(
            "--judge compares written answers of two models, and here is only one. Give a run with its base, or several models."
        )
    pairs = [row for row in read_rows(more.people, base) if isinstance(row, Pair)]
    if not pairs:
        raise DataError(f"--people {more.people}: there are no pairs in it. Expected rows with prompt, chosen and rejected.")
    ask = judge_of(more.judge, more.judge_model)
    say(f"The judge on {len(pairs)} pairs that people decided")
    people = agreement_with_people(ask, pairs)
    places = [place for place, task in enumerate(subject.tasks) if task.messages]
    tasks = [subject.tasks[place] for place in places]
    found = {}
    for arm in others:
        say(f"The judge on {len(tasks)} answers of {subject.main} and {arm}")
        first, second = ([subject.arms[one][place] for place in places] for one in (subject.main, arm))
        found[arm] = judged(ask, tasks, first, second, people)
    return {"judge": more.judge, "against": found}


def judge_of(name: str, model: str | None = None) -> Ask:
    """Return what lets a judge answer: a server by its address (`model` names one of its models), else a model on this machine."""
    from burnish.synthesize import Asked
    from burnish.synthesize_local import local_writer
    from burnish.synthesize_server import model_of, open_server, server_writer

    if "://" in name:
        server = open_server(name)
        write = server_writer(server, model_of(server, model), temperature=0.0)
    elif model is not None:
        raise ConfigError("--judge-model names a model of a server, and --judge is no address of one.")
    else:
        write = local_writer(name, temperature=0.0)

    def ask(prompts: Sequence[str]) -> list[str]:
        replies = write([Asked(prompt, number, 4) for number, prompt in enumerate(prompts)])
        return ["" if one.problem else one.text for one in replies]

    return ask
