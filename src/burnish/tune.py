"""Tune: everything that stands around the loop. One run, from a resolved run file to a run directory with model and report.

Enters: a `Resolved` run. Leaves: its run directory. The order of effects is the order of the lines here: prepare, lock the folder,
load, adapt, resume, then for each step log, evaluate, save; at the end keep the best, save the model, measure it beside its base.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish import config, locks, runs, tune_saving
from burnish.averaging import average_with_base
from burnish.config import Resolved
from burnish.devices import Device, Ranks, join_ranks, leave_ranks, peak_memory
from burnish.errors import BurnishError, Stopped, UsageError
from burnish.evaluate import Asking, Measure, answer, joint, resolve_scores
from burnish.finish import asking_of, conclude, preferred
from burnish.finish_single import singles
from burnish.models import adapt, add_value_head, compile_layers, load_model, restore_weights
from burnish.models.fast import let_go
from burnish.optim import Schedule, make_optimizer
from burnish.prepare import Plan, prepare
from burnish.sampling import Options
from burnish.signals import Stop
from burnish.train import Step, TaskLoss, train
from burnish.tune_batches import make_batches
from burnish.tune_rollouts import told, warned, worth_of
from burnish.tune_state import Progress, Running, Watch
from burnish.types import Answer

__all__ = ["Watch", "tune"]


def tune(resolved: Resolved, *, resume: bool = False, watch: Watch | None = None) -> Path:
    """Carry out a run and return its directory. With `resume`, go on from its last complete checkpoint.

    Raises UsageError before anything is written where the run cannot start, RunError where it fails, Stopped after a clean stop.
    """
    watch = watch or Watch()
    ranks = join_ranks()
    try:
        return _tune(resolved, resume=resume, watch=watch if ranks.rank == 0 else Watch(), ranks=ranks)
    finally:
        leave_ranks()


def _tune(resolved: Resolved, *, resume: bool, watch: Watch, ranks: Ranks) -> Path:
    output = Path(resolved.config.output)
    done = resume and runs.is_finished(output) and not _lengthened(resolved, output)
    if not resume:
        runs.check_usable(output)
    ranks.barrier()  # each rank has looked at the folder before the first one writes into it
    if done:
        watch.say(f"{output} is finished already; nothing to resume.")
        return output
    watch.say("Reading and checking the data")
    plan = prepare(resolved)
    singles(plan)  # what cannot be compared at the end is told now
    fresh = not runs.Run(output).status_json.exists()
    run = runs.create(output, resume=resume) if ranks.rank == 0 else runs.Run(output)
    running = None
    try:
        with Stop() as stop:
            running = _start(plan, run, resume=resume, watch=watch, ranks=ranks, stop=stop)
            _loop(running)
            _finish(running)
    except Exception as error:
        if ranks.rank == 0 and (running is not None or not isinstance(error, UsageError)):
            _record_end(run, error)
        elif ranks.rank == 0 and fresh:
            _leave_nothing(run)
        raise
    finally:
        runs.release(run)
    return output


def _lengthened(resolved: Resolved, output: Path) -> bool:
    """Return whether a finished run is asked for more steps than it made."""
    steps = resolved.config.train.steps
    return steps is not None and steps > (runs.read_status(output)["steps"] or 0)


def _record_end(run: runs.Run, error: Exception) -> None:
    """Record how a run ended, as far as the disk still allows."""
    state: runs.State = "stopped" if isinstance(error, Stopped) else "failed"
    message = str(error) if isinstance(error, BurnishError) else f"{type(error).__name__}: {error}"
    with suppress(BurnishError):  # the disk is what failed: the error under way says so
        status = runs.read_status(run.path)
        runs.write_status(run, state, step=status["step"], steps=status["steps"], message=message)


def _leave_nothing(run: runs.Run) -> None:
    """Take back the folder of a run that could not start for a mistake of its user, so that the corrected one can use it."""
    with suppress(OSError):
        for file in (run.status_json, run.run_toml, run.environment_json, run.data_json, run.path / locks.LOCK):
            file.unlink(missing_ok=True)
        run.path.rmdir()  # what else may lie there is not ours, and stays


def _start(plan: Plan, run: runs.Run, *, resume: bool, watch: Watch, ranks: Ranks, stop: Stop) -> Running:
    """Load the model, apply the technique, and take up the last checkpoint where there is one."""
    found = tune_saving.find(run, ranks) if resume else tune_saving.NONE
    plan = tune_saving.continued(plan, run, found)
    settings = plan.resolved.config
    device = tune_saving.chosen_device(plan, run, resumed=found.path is not None)
    watch.say(f"Loading {settings.model}")
    _seed(settings.seed)
    model = load_model(plan.found.name, device, head=plan.head, heads=plan.heads, terms=settings.model.add_terms)
    adapt(model, plan.technique, settings.technique.options)
    if any("values" in part.objective.needs for part in plan.parts.values()):
        add_value_head(model)
    if device.compiled:
        compile_layers(model.trunk())
    assert settings.train.steps is not None and settings.train.learning_rate is not None
    progress = Progress(warmup=round(settings.train.warmup * settings.train.steps))
    schedule = Schedule(settings.train.learning_rate, settings.train.steps, progress.warmup, settings.train.schedule)
    optimizer = make_optimizer(
        {name: parameter for name, parameter in model.network.named_parameters() if parameter.requires_grad},
        name=settings.train.optimizer,
        weight_decay=settings.train.weight_decay,
        beta2=settings.train.beta2,
    )
    dev = {name: part.tasks("dev")[: settings.evaluate.limit] for name, part in plan.parts.items()}
    running = Running(plan, run, model, optimizer, schedule, ranks, stop, watch, dev, progress)
    if ranks.rank == 0:
        _write_facts(running, device)
    running.before = _before(running)
    running.batches = make_batches(running, between=_between(running))
    for reason in found.skipped:
        watch.say(f"Passed over {reason}")
    if found.path is not None:
        tune_saving.resume(running, found.path)
        watch.say(f"Resuming after step {running.progress.step} from {found.path.name}")
    else:
        if resume:
            watch.say("There is no complete checkpoint to resume from; starting from the beginning.")
            if ranks.rank == 0:
                runs.rewind_metrics(run, -1)
        tune_saving.prove_saving(running)
    if settings.log.tensorboard and ranks.rank == 0:
        running.events = runs.EventWriter(run, first_step=running.progress.step + 1)
    total, moving = model.parameters()
    watch.say(f"{total:,} parameters, {moving:,} of them trained ({settings.technique.name}), on {device.name} in {device.dtype}")
    return running


def _seed(seed: int) -> None:
    """Begin all global generators anew; ours are keyed by seed and step, but private code and dropout draw from these."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _write_facts(running: Running, device: Device) -> None:
    """Write the resolved run file, the environment and the data report into the run directory."""
    plan, run = running.plan, running.run
    runs.write_text(run.run_toml, config.dump(plan.resolved, folder=run.path))
    runs.write_json(run.environment_json, {**runs.environment(), "numbers": asdict(device)})
    runs.write_json(run.data_json, plan.report)


def _loop(running: Running) -> None:
    """Run the loop; after each step log, evaluate and save as the run says."""
    plan, settings, progress = running.plan, running.plan.resolved.config, running.progress
    if progress.stopped_early:
        return  # resumed after the last step, before the end
    tasks = {name: TaskLoss(part.objective, part.config.objective.options, part.weight) for name, part in plan.parts.items()}
    _evaluate(running)
    running.model.network.train()
    steps = train(
        running.model,
        running.batches,
        tasks=tasks,
        optimizer=running.optimizer,
        schedule=running.schedule,
        clip=settings.train.clip,
        first=progress.step,
        ranks=running.ranks,
    )
    for step in _saved_when_stopped(running, steps):
        progress.step, progress.tokens, progress.seconds = (
            step.number + 1,
            progress.tokens + step.tokens,
            progress.seconds + step.seconds,
        )
        _log(running, step)
        last = progress.step == running.schedule.steps
        improved = _evaluate(running)
        if progress.step % settings.save.every == 0 or improved or last or progress.stopped_early:
            tune_saving.save(running)
        if progress.stopped_early:
            running.watch.say(f"Stopped early at step {progress.step}: no better dev score than at step {progress.best_step}")
            break
        _stop_if_asked(running)


def _saved_when_stopped(running: Running, steps: Iterator[Step]) -> Iterator[Step]:
    """Yield the steps; where a stop comes inside one, in the middle of the model's own attempts, save before it is passed on."""
    try:
        yield from steps
    except Stopped:
        tune_saving.save(running)
        raise


def _log(running: Running, step: Step) -> None:
    """Show a step, and write it to metrics.jsonl and TensorBoard when it is due."""
    if running.ranks.rank > 0:
        return
    record = _record(running, step)
    running.watch.step(record)
    number = running.progress.step
    if number % running.plan.resolved.config.log.every == 0 or number in (1, running.schedule.steps):
        runs.log_metrics(running.run, {key: item for key, item in record.items() if key not in {"steps", "time_left"}})
        runs.write_status(running.run, "running", step=number, steps=running.schedule.steps)
        if running.events is not None:
            running.events.add(number, record)


def _record(running: Running, step: Step) -> dict[str, Any]:
    """Return what is known after a step: loss (the sum of its terms), speed, learning rate, gradient norm, time left in seconds."""
    progress = running.progress
    left = (running.schedule.steps - progress.step) * progress.seconds / progress.step
    return {
        "step": progress.step,
        "steps": running.schedule.steps,
        "loss": sum(step.losses.values()),
        **(step.losses if len(step.losses) > 1 else {}),
        **step.metrics,
        **told(running.batches, step.number),
        "learning_rate": step.learning_rate,
        "gradient_norm": step.gradient_norm,
        "tokens": progress.tokens,
        "tokens_per_second": round(step.tokens / step.seconds, 1),
        "time_left": round(left, 1),
    }


def _evaluate(running: Running) -> bool:
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
    asking = asking_of(part, _asking(running))
    given = answer(running.model, measure.renderer, measure.tasks, {measure.name: measure.score}, asking)
    return preferred(part, given, running.before["dev"].get(measure.task, given))


def _before(running: Running) -> dict[str, dict[str, list[Answer]]]:
    """Return what the model prefers before it is tuned, on dev and test rows of the tasks whose objective compares with that."""
    found: dict[str, dict[str, list[Answer]]] = {"dev": {}, "test": {}}
    for name, part in running.plan.parts.items() if running.ranks.rank == 0 else ():
        scores = {one: score for one, score in resolve_scores(part.config.score).items() if score.needs == "preference"}
        if scores and part.reads("reference"):
            for side, tasks in (("dev", running.dev[name]), ("test", part.tasks("test"))):
                found[side][name] = answer(running.model, part.asker, tasks, scores, asking_of(part, _asking(running)))
    return found


def _asking(running: Running) -> Asking:
    """Return how dev and test rows are put to the model, with a look at the stop signal between batches."""
    settings = running.plan.resolved.config

    options = Options(
        max_tokens=settings.evaluate.max_tokens or 64, batch=settings.evaluate.batch, seed=settings.seed, long_prompts="cut"
    )
    return Asking(options, tokens=settings.train.tokens, between=_between(running))


def _between(running: Running) -> Callable[[], None]:
    """Return a look at the stop signal between batches of answers."""

    def between() -> None:
        # Several ranks stop between steps, together; one alone may stop inside an evaluation or an attempt too.
        if running.stop.signal_number is not None and running.ranks.size == 1:
            raise Stopped(_stopped_message(running), signal_number=running.stop.signal_number)

    return between


def _stopped_message(running: Running) -> str:
    return (
        f"Stopped after step {running.progress.step} of {running.schedule.steps}; everything is saved in {running.run.path}. "
        f"Go on with: burnish tune {running.run.run_toml} --resume"
    )


def _stop_if_asked(running: Running) -> None:
    """After a signal, save and stop; all ranks together."""
    if running.ranks.agree(running.stop.signal_number is not None):
        tune_saving.save(running)
        raise Stopped(_stopped_message(running), signal_number=running.stop.signal_number or 15)


def _finish(running: Running) -> None:
    """Keep the best weights, save the model, measure it beside its base, and write the report."""
    settings, progress = running.plan.resolved.config, running.progress
    if running.ranks.rank > 0:
        return
    if settings.evaluate.best and progress.best is not None and progress.best_step != progress.step:
        restore_weights(running.model, running.run.checkpoints / f"checkpoint-{progress.best_step}")
        running.watch.say(f"Kept step {progress.best_step}, which has the best dev score")
    memory = peak_memory(running.model.target)  # before other models are loaded to compare with
    let_go(running.model)
    average_with_base(running.model, settings.train.average, terms=settings.model.add_terms)
    running.model.network.eval()
    running.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    conclude(
        running.plan,
        running.run,
        running.model,
        before=running.before["test"],
        worth=worth_of(running.batches),
        progress={**asdict(progress), "memory": memory},
        asking=_asking(running),
        say=running.watch.say,
    )
    if running.events is not None:
        running.events.close()
    runs.write_status(running.run, "finished", step=progress.step, steps=running.schedule.steps)
    running.watch.say(
        f"Finished in {time.strftime('%M:%S', time.gmtime(progress.seconds))} of training; report: {running.run.report_html}"
    )
