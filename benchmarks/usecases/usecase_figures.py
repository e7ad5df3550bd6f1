"""Every figure of a use case's page, from its finished run: the tuned model beside the best prompt, the base and a classical row.

Enters: the folder that `burnish init` made, with its runs. Leaves: a dict of plain values, as it is kept in figures/NAME.json. The prompted arms
are those of `burnish decide`: the same base, the same rows, their settings tried on dev rows alone.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usecase_cases import Case
from usecase_pairs import chosen, compared, is_pairs, of_tuned, told
from usecase_texts import continuations, is_texts, text_arms

from burnish import api, config, prepare
from burnish.data.fields import normalised
from burnish.decide.arms import ARMS
from burnish.decide.bench import Bench, Setting, ask, questions_of
from burnish.decide.carry_out import Effort, Result, attempt
from burnish.decide.protocol import Item, Rows, read_documents
from burnish.devices import choose_device
from burnish.evaluate import answer, compare, each_slice, fitting_scores, resolve_scores
from burnish.finish_answers import asking_for, rows_of
from burnish.models import Model, load_model
from burnish.prepare import Plan, registries
from burnish.retrieval import build
from burnish.tune import Watch
from burnish.types import Answer, Score, Task, plain

PROMPTED = ("zero_shot", "few_shot_fixed", "few_shot_nearest", "optimised_prompt")
TRIALS, DEV_ROWS, TIMED = 4, 32, 12
PROMPTING = ("decide.examples=[2,4]", "data.max_length=512")
"""How prompts are made: few examples, within the length that the bundled models were trained on."""
FACTS = (
    "device",
    "finished",
    "model",
    "objective",
    "parameters",
    "peak_memory_gb",
    "seconds",
    "steps",
    "technique",
    "tokens",
    "trainable",
)
NOT_CLASSICAL = ("stop_rate", "perplexity")
"""Scores that mean nothing for a classical row: it always stops, and its tokens are bytes."""
Answers = Mapping[str, Sequence[Answer]]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A use case's run as it lies on the disk: its plan, the run directory, and what it held out."""

    plan: Plan
    run: Path
    tasks: list[Task]

    @property
    def scores(self) -> dict[str, Score]:
        """The scores of the run, the first one decides."""
        return resolve_scores(self.plan.first.config.score)


def opened(folder: Path, name: str, overrides: Sequence[str] = ()) -> Job:
    """Return the job in a folder that `burnish init` wrote and `burnish tune` finished in runs/NAME."""
    resolved = config.load(folder / "run.toml", overrides, registries=registries())
    run = folder / "runs" / name
    plan = prepare.prepare(config.with_value(resolved, "output", str(run), origin="the benchmark"))
    return Job(plan, run, rows_of(plan.first, "test"))


def figures(folder: Path, name: str, *, commands: Sequence[str], case: Case) -> dict[str, Any]:
    """Return everything that the page of a use case shows, without the alternative.

    What the case says of prompting is kept to: its instruction is tried, its documents are looked into, its model is prompted.
    """
    job = opened(folder, name)
    report = _json(job.run / "report.json")
    asked = [*PROMPTING, f"decide.instructions={json.dumps([case.instruction])}"]
    asked += [f"model={case.prompted_model}"] if case.prompted_model else []
    said, settings, seconds = prompted(opened(folder, name, asked), folder / "prompted", [folder / one for one in case.documents])
    arms: dict[str, Sequence[Answer]] = {**said, "tuned": _tuned(job), "classical": classical(job)}
    best = best_prompt(job, said)
    table = beside(job, arms, best)
    return {
        "commands": list(commands),
        "run": {key: report["run"].get(key) for key in FACTS},
        "cpu": {key: _json(job.run / "environment.json")["cpu"][key] for key in ("model", "cores")},
        "rows": {side: len(rows) for side, rows in job.plan.first.gathered.examples.items()},
        "best_prompt": best,
        "prompted_model": case.prompted_model or report["run"]["model"],
        "prompts": settings,
        "classical": report.get("baseline", {}).get("name", ""),
        "headline": job.plan.first.config.score[0],
        "scores": table,
        "slices": each_slice(job.tasks, lambda places: _of_places(job, arms, best, places)),
        "forgetting": {score: _short(row) for score, row in (report.get("forgetting", {}).get("scores") or {}).items()},
        "forgetting_told": report.get("forgetting", {}).get("verdict", ""),
        "alternative": None,
        "milliseconds": {**seconds, "tuned": _single_answers(job)},
        "examples": examples(job, arms, best),
    }


# ------------------------------------------------------------------------------------------------------------------ prompted arms


def prompted(
    job: Job, kept: Path, documents: Sequence[Path] = ()
) -> tuple[dict[str, Sequence[Answer]], dict[str, str], dict[str, float]]:
    """Return by prompted arm its answers, what it chose on the dev rows, and milliseconds of a single answer."""
    part = job.plan.first
    if is_texts(job.tasks):
        return text_arms(job.plan, _base(job), job.tasks)
    dev = part.tasks("dev")
    step = max(1, len(dev) // DEV_ROWS)
    rows = Rows([_item(task) for task in part.tasks("train")], [_item(task) for task in dev[::step][:DEV_ROWS]], [], [], [], [])
    rows = Rows(rows.train, rows.dev, [_item(task) for task in job.tasks], [], [], [])
    model = _base(job)
    found = [one for file in documents for one in read_documents(str(file), file.parent)[0]]
    index = build(found, size=job.plan.resolved.config.decide.passage_size) if found else None
    bench = Bench(job.plan, rows, kept, model, index, questions_of(rows.train), rows.train)
    if is_pairs(job.tasks):
        return _prompted_pairs(bench)
    names = (*PROMPTED, *(["retrieval_bm25"] if found else []))
    done, failed = attempt(bench, {name: ARMS[name] for name in names}, Effort(TRIALS, False, Watch(say=print)))
    assert not failed, failed
    timed = rows.test[: TIMED + 1]
    return (
        {name: result.said.answers for name, result in done.items()},
        {name: result.setting.told() for name, result in done.items()},
        {name: _milliseconds(bench, result, timed) for name, result in done.items()},
    )


def _base(job: Job) -> Model:
    """Return the base that is prompted."""
    return load_model(job.plan.found.name, choose_device(moves_base=False, threads=job.plan.resolved.config.threads))


def _prompted_pairs(bench: Bench) -> tuple[dict[str, Sequence[Answer]], dict[str, str], dict[str, float]]:
    """Return the same where answers are compared: a searched prompt is one for writing, so the other arms remain."""
    answers: dict[str, Sequence[Answer]] = {}
    settings, times = {}, {}
    for name in PROMPTED[:3]:
        setting, answers[name] = chosen(bench, ARMS[name], TRIALS)
        settings[name], taken = setting.told(), []
        for item in bench.rows.test[: TIMED + 1]:
            started = time.perf_counter()
            compared(bench, ARMS[name], setting, [item])
            taken.append(1000 * (time.perf_counter() - started))
        times[name] = round(statistics.median(taken[1:] or taken), 1)
    return answers, settings, times


def _item(task: Task) -> Item:
    return Item(task, plain(task.messages[-1].content))


def _milliseconds(bench: Bench, result: Result, items: Sequence[Item]) -> float:
    """Return the middle of the milliseconds that one answer takes; the first warms up and is not counted."""
    taken = []
    for item in items:
        started = time.perf_counter()
        ask(
            bench,
            result.arm,
            Setting() if result.arm.examples == "none" else result.setting,
            [item],
            bench.model,
            asking=bench.asking(batch=1),
        )
        taken.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(taken[1:] or taken), 1)


def _single_answers(job: Job) -> float:
    """Return the same of the tuned model, asked as it was taught."""
    loaded = api.load(job.run)
    asking = asking_for(job.plan)
    taken = []
    for task in job.tasks[: TIMED + 1]:
        started = time.perf_counter()
        answer(loaded.model, loaded.renderer, [task], job.scores, asking)
        taken.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(taken[1:] or taken), 1)


def best_prompt(job: Job, said: Answers) -> str:
    """Return the prompted arm with the best headline on the held-out rows themselves: a choice in favour of prompting."""
    name, score = next(iter(job.scores.items()))
    table = compare(said, job.tasks, {name: score})[name]
    return max(said, key=lambda arm: (1 if score.higher_is_better else -1) * table[arm]["mean"])


# ------------------------------------------------------------------------------------------------------------------- finished runs


def _tuned(job: Job) -> list[Answer]:
    """Return the tuned model's answers, or its margins and likelihoods where nothing is written."""
    written = not is_pairs(job.tasks) and not is_texts(job.tasks)
    return _told(job.run, "tuned") if written else of_tuned(job.plan, str(job.run), job.tasks)


def _told(run: Path, arm: str) -> list[Answer]:
    """Return an arm's answers to the held-out rows, as a finished run wrote them down."""
    rows = [json.loads(line) for line in (run / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Answer(text=row[arm]["text"], stopped=row[arm]["stopped"]) for row in rows]


def classical(job: Job) -> list[Answer]:
    """Return what needs no language model answers: the same as in the run's own report."""
    from burnish.baseline import linear_baseline

    found = linear_baseline(rows_of(job.plan.first, "train"), job.tasks, seed=job.plan.resolved.config.seed)
    assert found is not None, "no classical row for these rows"
    return list(found.answers)


def beside(
    job: Job, arms: Answers, best: str, scores: Mapping[str, Score] | None = None, tasks: Sequence[Task] | None = None
) -> dict[str, Any]:
    """Return each score of each arm with intervals, and the paired difference of the tuned model from the best prompt ("difference")."""
    found = {}
    for name, score in (scores or job.scores).items():
        # `compare` takes differences from what is called base.
        told = {arm: given for arm, given in arms.items() if arm != "classical" or name not in NOT_CLASSICAL} | {"base": arms[best]}
        found[name] = _short(
            compare(told, tasks or job.tasks, {name: score}, seed=job.plan.resolved.config.seed)[name], drop=("base",)
        )
    return found


def _of_places(job: Job, arms: Answers, best: str, places: list[int]) -> dict[str, Any]:
    tasks = [job.tasks[place] for place in places]
    return beside(
        job,
        {arm: [given[place] for place in places] for arm, given in arms.items()},
        best,
        fitting_scores(job.scores, tasks),
        tasks,
    )


def alternative(folder: Path, name: str, overrides: str) -> dict[str, Any]:
    """Return what another way of tuning reached on the same rows, and its difference from the one that was taken."""
    job = opened(folder, name)
    other = opened(folder, "alternative", overrides.split())
    assert [str(task.origin) for task in other.tasks] == [str(task.origin) for task in job.tasks], "not the same held-out rows"
    report = _json(other.run / "report.json")
    table = compare(
        {"base": _tuned(job), "tuned": _tuned(other)},
        job.tasks,
        job.scores,
        seed=job.plan.resolved.config.seed,
    )
    run = {key: report["run"].get(key) for key in FACTS}
    return {"overrides": overrides, "run": run, "scores": {score: _short(row, drop=("base",)) for score, row in table.items()}}


def examples(job: Job, arms: Answers, best: str, count: int = 3) -> list[dict[str, str]]:
    """Return a few held-out rows with what the best prompt and the tuned model say: the first of each slice, then others, unlike each other."""
    order = sorted(
        range(len(job.tasks)), key=lambda place: (sum(job.tasks[place].slice == other.slice for other in job.tasks[:place]), place)
    )
    shown: list[int] = []
    for place in order:
        texts = job.tasks[place].expected.texts
        if len(shown) < count and normalised(texts[0]) not in {normalised(job.tasks[one].expected.texts[0]) for one in shown}:
            shown.append(place)
    if is_texts(job.tasks):
        return continuations(job.plan, _base(job), str(job.run), [job.tasks[place] for place in shown])
    arms = {arm: told(given) for arm, given in arms.items()} if is_pairs(job.tasks) else arms
    return [
        {
            "slice": job.tasks[place].slice or "",
            "prompt": plain(job.tasks[place].messages[-1].content),
            "expected": job.tasks[place].expected.texts[0],
            "before": arms[best][place].text,
            "after": arms["tuned"][place].text,
        }
        for place in shown
    ]


def _short(row: Mapping[str, Any], drop: Sequence[str] = ()) -> dict[str, Any]:
    """Return a row of scores with what a page shows of it, rounded."""
    kept: dict[str, Any] = {}
    for key, value in row.items():
        if key in drop or key == "differences":
            continue
        if isinstance(value, Mapping):
            kept[key] = {name: None if value[name] is None else round(value[name], 4) for name in ("mean", "low", "high")}
        else:
            kept[key] = value
    return kept


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))
