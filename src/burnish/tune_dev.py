"""Dev rows during a run: what is measured on them, when, and whether the newest step is the best so far.

Enters: a run under way. Leaves: its progress with the dev scores, and whether this step is to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from burnish import runs, tune_saving
from burnish.errors import Stopped
from burnish.evaluate import Asking, Measure, answer, joint
from burnish.finish import preferred
from burnish.finish_answers import asking_for, asking_of, preferences
from burnish.tune_rollouts import warned
from burnish.tune_state import Running
from burnish.tune_stop import between_batches
from burnish.types import Answer


def evaluate_dev(running: Running) -> bool:
    """Measure the dev score when it is due, and return whether it is the best so far.

    Before step 0 it is only recorded, as the start of the curve: the untuned model is not a candidate.
    """
    settings, progress = running.plan.resolved.config, running.progress
    every = settings.evaluate.every
    due = every > 0 and any(running.dev.values()) and (progress.step % every == 0 or progress.step == running.schedule.steps)
    if not due or progress.evaluated >= progress.step:
        return False
    measures = _measures(running)
    reached = 0.0
    if running.ranks.rank == 0:
        try:
            values = {one.label: one.value(_dev_answers(running, one)) for one in measures}
        except Stopped:
            tune_saving.save(running)
            raise
        reached = joint(measures, values)
        runs.log_metrics(running.run, {"step": progress.step, "dev": values})
        if running.events is not None:
            running.events.add(progress.step, {f"dev/{label}": found for label, found in values.items()})
        told = ", ".join(f"{one.label} {values[one.label]:.4g} on {len(one.tasks)} rows" for one in measures)
        running.watch.say(f"step {progress.step}: dev {told}")
    reached = running.ranks.share(reached)
    higher = len(measures) > 1 or measures[0].score.higher_is_better
    progress.dev.append((progress.step, reached if higher else -reached))
    for warning in warned(running.batches, progress.dev):
        running.watch.say(f"Warning: {warning}")
    progress.evaluated = progress.step
    running.model.network.train()
    if progress.step == 0:
        return False
    better = progress.best is None or (reached > progress.best if higher else reached < progress.best)
    if better:
        progress.best, progress.best_step, progress.worse = reached, progress.step, 0
    else:
        progress.worse += 1
    progress.stopped_early = 0 < settings.evaluate.patience <= progress.worse
    return better and settings.evaluate.best


def _measures(running: Running) -> list[Measure]:
    """Return what is measured on dev rows: the first score of each task that has any."""
    parts = running.plan.parts
    return [
        Measure(name, part.config.score[0], part.asker, running.dev[name], several=len(parts) > 1)
        for name, part in parts.items()
        if running.dev[name]
    ]


def _dev_answers(running: Running, measure: Measure) -> Sequence[Answer]:
    """Return the model's answers to the dev rows of a task, margins as its objective reads them."""
    part = running.plan.parts[measure.task]
    asking = asking_of(part, how_to_ask(running))
    given = answer(running.model, measure.renderer, measure.tasks, {measure.name: measure.score}, asking)
    return preferred(part, given, running.before["dev"].get(measure.task, given))


def preferred_before(running: Running) -> dict[str, dict[str, list[Answer]]]:
    """Return what the model prefers before it is tuned, on dev and test rows of the tasks whose objective compares with that."""
    plan = running.plan
    if running.ranks.rank > 0:
        return {"dev": {}, "test": {}}
    test = {name: part.tasks("test") for name, part in plan.parts.items()}
    sides = {"dev": running.dev, "test": test}
    return {side: preferences(plan, running.model, rows, how_to_ask(running)) for side, rows in sides.items()}


def how_to_ask(running: Running, *, alone: bool = False) -> Asking:
    """Return how dev and test rows are put to the model, with a look at the stop signal between batches; `alone` as in `between_batches`."""
    return replace(asking_for(running.plan), between=between_batches(running, alone=alone))
