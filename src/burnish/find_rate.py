"""Find a learning rate by trials: the first steps of the run at each of several rates, judged by the loss on the same dev rows.

Enters: a resolved run. Leaves: a `Search`, and `NAME.learning_rate.json` beside the run directory, which is not touched. One model is loaded;
each trial puts back what moves and makes the run's own first steps, in its order and with its warm-up, by the same loop. Judged is the
objective's own loss on dev rows, which is quick and smooth: nothing is sampled.

After the range test of Smith 2015, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186. That raises the rate from step
to step in one run; in a few dozen steps on a model that knows much already, what such a curve shows at a rate is mostly the work of the
rates before it. So each rate gets a trial of its own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish import atomic, checkpoint, runs
from burnish.config import Resolved
from burnish.devices import Ranks
from burnish.errors import ConfigError, DataError, RunError, Stopped, UsageError
from burnish.find_rate_choice import FACTOR, Trial, choose, described, finished, lowest
from burnish.learning_rate import rounded
from burnish.models import forward
from burnish.optim import Optimizer, Schedule, make_optimizer
from burnish.prepare import Plan, default_rate, prepare
from burnish.prepare_model import before_step_0
from burnish.prepare_task import TaskPlan
from burnish.signals import Stop
from burnish.train import Step, TaskLoss, train
from burnish.tune_batches import Source, make_batches
from burnish.tune_memory import recompute_where_needed
from burnish.tune_saving import chosen_device
from burnish.tune_state import Progress, Running, Watch
from burnish.types import Text

if TYPE_CHECKING:
    import torch

PLACES = (-2, -1, 0, 1, 2)
"""Rates that are tried: so many times FACTOR above or below the one that a run would have by itself."""
MOST_TRIALS = 7
"""Where the best rate is the first or the last of them, trials go on beyond it, up to so many in all."""
FEWEST_STEPS, MOST_STEPS = 20, 100
"""A trial is a tenth of the run, within these: less shows too little, more costs what is to be saved."""
DEV_ROWS = 256
PARTS = 8
"""Parts of the dev rows whose losses are told apart: how much two rates differ from part to part says what is noise."""
RECENT = 5
"""Steps over which the training loss is averaged before a trial is given up."""


@dataclass(frozen=True, slots=True)
class Search:
    """What was tried and found. `before` is the dev loss of the untuned model, `usual` the rate of a run that names none, and why.

    `chosen` is None where no trial was better than the untuned model by more than noise. `rows` are dev rows, or windows of texts.
    """

    chosen: float | None
    usual: float
    why_usual: str
    before: float
    steps: int
    rows: int
    trials: tuple[Trial, ...]
    file: str


@dataclass(frozen=True, slots=True, eq=False)
class _Bench:
    """The model on which trials are made one after the other, what is put back between them, and the dev rows of each task."""

    running: Running
    tasks: Mapping[str, TaskLoss]
    steps: int
    dev: Mapping[str, Source]
    parts: int
    weights: Mapping[str, torch.Tensor]
    random_state: tuple[Any, Any]


def find_learning_rate(resolved: Resolved, *, watch: Watch | None = None) -> Search:
    """Return the rate at which the run's first steps bring the dev loss lowest; the run itself is not started.

    Raises ConfigError where the model attempts the rows by itself, DataError where a task has no dev rows, RunError where no trial comes to
    its end, Stopped on a signal; nothing is written then.
    """
    watch = watch or Watch()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "Learning rates are tried in one process, and what is found holds for several too. Start it without torchrun."
        )
    watch.say("Reading and checking the data")
    plan = prepare(resolved)
    _refuse(plan)
    usual, why = default_rate(plan)
    with Stop() as stop, tempfile.TemporaryDirectory(prefix="burnish-") as folder:
        dev = {name: _on_dev_rows(part) for name, part in plan.parts.items()}
        bench = _bench(plan, dev, Path(folder), watch, stop)
        before_K = _dev_losses(bench)
        if not np.isfinite(before_K).all():
            raise RunError(
                "The dev loss of the untuned model is not a finite number, so no rate can be judged by it. Look at the dev rows."
            )
        rows = sum(len(part.sequences) for part in dev.values())
        watch.say(
            f"Untuned: dev loss {before_K.mean():.4g} on {rows} rows; each trial is {bench.steps} of {plan_steps(plan)} steps"
        )
        trials = _trials(bench, usual, before_K)
    if not finished(trials):
        raise RunError(f"No trial came to its end. The smallest rate, {trials[0].rate:g}: {trials[0].note}.")
    output = Path(plan.resolved.config.output)
    file = output.with_name(f"{output.name}.learning_rate.json")
    chosen = choose(trials, before_K)
    found = Search(chosen, usual, why, float(before_K.mean()), bench.steps, rows, described(trials, chosen), str(file))
    atomic.make_directory(file.parent)
    runs.write_json(file, asdict(found))
    return found


def plan_steps(plan: Plan) -> int:
    """Return the number of steps of the whole run."""
    steps = plan.resolved.config.train.steps
    assert steps is not None, "prepare fills it"
    return steps


def _refuse(plan: Plan) -> None:
    """Raise where trials would say nothing: no fixed rows to learn from, or none to judge by."""
    for name, part in plan.parts.items():
        where = f"task {name!r}: " if len(plan.parts) > 1 else ""
        if not part.rows.learned:
            raise ConfigError(
                f"{where}with objective {part.config.objective.name!r} the model learns from its own attempts, which differ from trial to trial; "
                f"their loss is no measure of how good they are. Try train.learning_rate in short runs, and compare the rewards."
            )
        if not part.gathered.examples["dev"]:
            raise DataError(
                f"{where}learning rates are judged on dev rows, and there are none. Set data.dev_share = 0.1, or name data.dev."
            )


# ------------------------------------------------------------------------------------------------------------------------- dev rows


def _on_dev_rows(part: TaskPlan) -> TaskPlan:
    """Return the task with dev rows in place of its training rows, DEV_ROWS at most, drawn by the seed and cut to the length limit.

    A row that the training rows give no means to read (a label that they do not have) is left out. Raises DataError where none is left.
    """
    examples = part.gathered.examples["dev"]
    drawn = np.random.Generator(np.random.Philox(key=part.config.seed)).permutation(len(examples))
    limit = min(DEV_ROWS, part.config.evaluate.limit or DEV_ROWS)
    units, kept = [], []
    for row in map(int, drawn):
        try:
            found = part.rows.finished(examples[row], part.rows.within(part.rows.sequences(examples[row], row), "cut"))
        except DataError:
            continue
        split = [[window] for window in found] if isinstance(examples[row], Text) else [found]
        new = [unit for unit in split if any(sequence.weight_N.any() for sequence in unit)][: limit - len(units)]
        units, kept = units + new, kept + [row] * len(new)
        if len(units) == limit:
            break
    if not units:
        raise DataError(
            f"None of the {len(examples)} dev rows of task {part.name!r} can be learned from, so no rate can be judged by them."
        )
    gathered = replace(
        part.gathered, examples={**part.gathered.examples, "train": examples}, source_of=[0] * len(examples), weights=[1.0]
    )
    return replace(part, gathered=gathered, sequences=units, kept=kept)


def _with_batch(part: TaskPlan, size: int) -> TaskPlan:
    """Return the task with so many rows in a step."""
    train_config = part.config.train.model_copy(update={"batch": size})
    return replace(part, config=part.config.model_copy(update={"train": train_config}))


def _dev_losses(bench: _Bench) -> np.ndarray:
    """Return the loss of each part of the dev rows, float64 [K]: terms as means over the part, tasks by their weights; inf if not finite."""
    import torch

    model, found = bench.running.model, []
    model.network.eval()
    with torch.no_grad():
        for number in range(bench.parts):
            _stop_if_asked(bench.running)
            total = 0.0
            for name, source in bench.dev.items():
                task, batches = bench.tasks[name], source(number)
                losses = [
                    task.objective.function(forward(model, batch, task.objective.needs), batch, **task.options) for batch in batches
                ]
                counts = [task.counts(batch) for batch in batches]
                for term in task.objective.terms:
                    count = sum(float(one[term]) for one in counts)
                    total += task.weight * sum(float(one.terms[term]) for one in losses) / count if count > 0 else 0.0
            found.append(total if np.isfinite(total) else np.inf)
    return np.asarray(found)


# --------------------------------------------------------------------------------------------------------------------------- trials


def _bench(plan: Plan, dev: Mapping[str, TaskPlan], folder: Path, watch: Watch, stop: Stop) -> _Bench:
    """Load the model as the run would, and read from it what must be known before step 0; `folder` holds that meanwhile."""

    settings = plan.resolved.config
    # Compiling, or reading all rows once, takes longer than the trials, and changes a loss in its last digits only.
    device = replace(chosen_device(plan, runs.Run(folder), resumed=False), compiled=False, kept=0)
    watch.say(f"Loading {settings.model}")
    model = before_step_0(plan, device)
    recompute_where_needed(plan, model, ranks=Ranks())
    progress = Progress(warmup=round(settings.train.warmup * plan_steps(plan)))
    schedule = Schedule(1.0, plan_steps(plan), progress.warmup, settings.train.schedule)
    names = {name: parameter for name, parameter in model.network.named_parameters() if parameter.requires_grad}
    running = Running(plan, runs.Run(folder), model, _optimizer(plan, names), schedule, Ranks(), stop, watch, {}, progress)
    running.batches = make_batches(running, between=lambda: _stop_if_asked(running))
    parts = min(PARTS, *(len(part.sequences) for part in dev.values()))
    sources: dict[str, Source] = {}
    for name, part in dev.items():
        alone = replace(plan, parts={name: _with_batch(part, len(part.sequences) // parts)})
        judged = replace(running, plan=alone, run=runs.Run(folder / "dev"))
        sources[name] = make_batches(judged, between=lambda: _stop_if_asked(running))
    return _Bench(
        running=running,
        tasks={name: TaskLoss(part.objective, part.config.objective.options, part.weight) for name, part in plan.parts.items()},
        steps=min(plan_steps(plan), max(FEWEST_STEPS, min(MOST_STEPS, plan_steps(plan) // 10))),
        dev=sources,
        parts=parts,
        weights={name: parameter.detach().clone() for name, parameter in names.items()},
        random_state=checkpoint.capture_rng(),
    )


def _optimizer(plan: Plan, names: Mapping[str, torch.nn.Parameter]) -> Optimizer:
    settings = plan.resolved.config.train
    return make_optimizer(names, name=settings.optimizer, weight_decay=settings.weight_decay, beta2=settings.beta2)


def _trials(bench: _Bench, usual: float, before_K: np.ndarray) -> list[Trial]:
    """Return a trial of each rate, the smallest first; above one that was given up none is made."""
    trials: list[Trial] = []

    def attempt(place: int, at: int) -> Trial:
        trial = _trial(bench, rounded(usual * FACTOR**place), before_K)
        trials.insert(at, trial)
        bench.running.watch.say(f"rate {trial.rate:g}: " + (trial.note if trial.loss is None else f"dev loss {trial.loss:.4g}"))
        return trial

    for place in PLACES:
        if attempt(place, len(trials)).loss is None:
            break
    first, last = PLACES[0], PLACES[0] + len(trials) - 1
    while len(trials) < MOST_TRIALS and lowest(trials) in (None, trials[0]):
        first -= 1
        attempt(first, 0)
    while len(trials) < MOST_TRIALS and lowest(trials) is trials[-1]:
        last += 1
        attempt(last, len(trials))
    return trials


def _trial(bench: _Bench, rate: float, before_K: np.ndarray) -> Trial:
    """Make the run's first steps at a rate, from where the run begins; given up where the loss is not finite or far above the start."""
    running = bench.running
    _put_back(bench)
    running.model.network.train()
    high = max(3 * before_K.mean(), before_K.mean() + 1.0)
    recent: list[float] = []
    steps = train(
        running.model,
        running.batches,
        tasks=bench.tasks,
        optimizer=_optimizer(running.plan, running.names),
        schedule=replace(running.schedule, peak=rate),
        clip=running.plan.resolved.config.train.clip,
    )
    number = 0
    try:
        for step in steps:
            _stop_if_asked(running)
            number = step.number + 1
            recent = [*recent, _total(bench, step)][-RECENT:]
            if len(recent) == RECENT and sum(recent) / RECENT > high:
                return Trial(rate, None, (), number, f"diverged by step {number}")
            if number == bench.steps:
                break
    except RunError as error:
        if number == 0:  # at the first step no rate has had a part in it
            raise
        return Trial(rate, None, (), number, "diverged: " + str(error).split(". ")[0])
    losses_K = _dev_losses(bench)
    if not np.isfinite(losses_K).all():
        return Trial(rate, None, (), number, f"diverged by step {number}")
    return Trial(rate, float(losses_K.mean()), tuple(map(float, losses_K)), number)


def _put_back(bench: _Bench) -> None:
    """Put what moves, and all random numbers, back to where the run begins."""
    import torch

    names = bench.running.names
    with torch.no_grad():
        for name, weight in bench.weights.items():
            names[name].copy_(weight)
    checkpoint.restore_rng(*bench.random_state)


def _total(bench: _Bench, step: Step) -> float:
    """Return the training loss of a step, tasks by their weights."""
    several = len(bench.tasks) > 1
    only = next(iter(bench.tasks.values()))
    return sum((bench.tasks[name.rpartition("/")[0]] if several else only).weight * loss for name, loss in step.losses.items())


def _stop_if_asked(running: Running) -> None:
    if running.stop.signal_number is not None:
        raise Stopped("Stopped while learning rates were tried; nothing was written.", signal_number=running.stop.signal_number)
