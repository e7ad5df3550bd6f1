"""Tune: everything that stands around the loop. One run, from a resolved run file to a run directory with model and report.

Enters: a `Resolved` run. Leaves: its run directory. The order of effects is the order of the lines here: prepare, lock the folder,
load, adapt, resume, then for each step log, evaluate, save; at the end keep the best, save the model, measure it beside its base.
"""

from __future__ import annotations

import gc
import time
from dataclasses import asdict
from pathlib import Path

from burnish import runs, tune_layout, tune_memory, tune_saving
from burnish.averaging import average_with_base
from burnish.config import Resolved
from burnish.devices import Ranks, join_ranks, leave_ranks, peak_memory
from burnish.errors import UsageError
from burnish.finish import conclude
from burnish.finish_single import singles
from burnish.models import add_value_head, compile_layers, plain_pieces, restore_weights
from burnish.models.fast import let_go
from burnish.optim import Schedule, make_optimizer
from burnish.prepare import Plan, prepare
from burnish.prepare_model import before_step_0
from burnish.signals import Stop
from burnish.train import train
from burnish.train_room import Room
from burnish.tune_batches import make_batches
from burnish.tune_dev import evaluate_dev, how_to_ask, preferred_before
from burnish.tune_log import leave_nothing, lengthened, log, record_end, write_facts
from burnish.tune_rollouts import worth_of
from burnish.tune_state import Progress, Running, Watch
from burnish.tune_stop import between_batches, saved_when_stopped, stop_if_asked

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
    done = resume and runs.is_finished(output) and not lengthened(resolved, output)
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
            record_end(run, error)
        elif ranks.rank == 0 and fresh:
            leave_nothing(run)
        raise
    finally:
        runs.release(run)
    return output


def _start(plan: Plan, run: runs.Run, *, resume: bool, watch: Watch, ranks: Ranks, stop: Stop) -> Running:
    """Load the model, apply the technique, and take up the last checkpoint where there is one."""
    found = tune_saving.find(run, ranks) if resume else tune_saving.NONE
    plan = tune_saving.continued(plan, run, found)
    settings = plan.resolved.config
    device = tune_saving.chosen_device(plan, run, resumed=found.path is not None)
    watch.say(f"Loading {settings.model}")
    model = before_step_0(plan, device)
    if any("values" in part.objective.needs for part in plan.parts.values()):
        add_value_head(model)
    if device.compiled:
        compile_layers(model.trunk())
    model.target = tune_layout.settled(model.target, model, plan)
    if told := tune_memory.recompute_where_needed(plan, model, ranks=ranks, resumed=found.path is not None):
        watch.say(told)
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
    running = Running(plan, run, model, optimizer, schedule, ranks, stop, watch, dev, progress, room=Room(say=watch.say))
    if ranks.rank == 0:
        write_facts(running, model.target)
    running.before = preferred_before(running)
    running.batches = make_batches(running, between=between_batches(running))
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
        tune_memory.rehearse(running)
        tune_saving.prove_saving(running)
    if settings.log.tensorboard and ranks.rank == 0:
        running.events = runs.EventWriter(run, first_step=running.progress.step + 1)
    total, moving = model.parameters()
    watch.say(f"{total:,} parameters, {moving:,} of them trained ({settings.technique.name}), on {device.name} in {device.dtype}")
    if device.quick != "no" and (plain := plain_pieces(model.trunk())):
        watch.say(f"Computed the plain way, more slowly: {', '.join(plain)}")
    return running


def _loop(running: Running) -> None:
    """Run the loop; after each step log, evaluate and save as the run says."""
    plan, settings, progress = running.plan, running.plan.resolved.config, running.progress
    if progress.stopped_early:
        return  # resumed after the last step, before the end
    evaluate_dev(running)
    running.model.network.train()
    steps = train(
        running.model,
        running.batches,
        tasks=tune_memory.tasks_of(plan),
        optimizer=running.optimizer,
        schedule=running.schedule,
        clip=settings.train.clip,
        first=progress.step,
        ranks=running.ranks,
        room=running.room,
    )
    for step in saved_when_stopped(running, steps):
        progress.step, progress.tokens, progress.seconds = (
            step.number + 1,
            progress.tokens + step.tokens,
            progress.seconds + step.seconds,
        )
        log(running, step)
        last = progress.step == running.schedule.steps
        improved = evaluate_dev(running)
        if progress.step % settings.save.every == 0 or improved or last or progress.stopped_early:
            tune_saving.save(running)
        if progress.stopped_early:
            running.watch.say(f"Stopped early at step {progress.step}: no better dev score than at step {progress.best_step}")
            break
        stop_if_asked(running)
    running.watch.done()


def _finish(running: Running) -> None:
    """Keep the best weights, save the model, measure it beside its base, and write the report."""
    settings, progress = running.plan.resolved.config, running.progress
    if running.ranks.rank > 0:
        return
    if settings.evaluate.best and progress.best is not None and progress.best_step != progress.step:
        restore_weights(running.model, running.run.checkpoints / f"checkpoint-{progress.best_step}")
        running.watch.say(f"Kept step {progress.best_step}, which has the best dev score")
    memory = max(running.peak, peak_memory(running.model.target))  # before other models are loaded to compare with
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
        asking=how_to_ask(running, alone=True),
        say=running.watch.say,
    )
    if running.events is not None:
        running.events.close()
    runs.write_status(running.run, "finished", step=progress.step, steps=running.schedule.steps)
    running.watch.say(
        f"Finished in {time.strftime('%M:%S', time.gmtime(progress.seconds))} of training; report: {running.run.report_html}"
    )
