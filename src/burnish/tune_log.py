"""What a run writes into its directory and shows while it goes on: facts, a record per step, and how it ended.

Enters: a run under way. Leaves: lines of metrics.jsonl and TensorBoard, run.toml, environment.json, data.json and the status.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish import atomic, config, locks, runs
from burnish.config import Resolved
from burnish.devices import Device
from burnish.errors import BurnishError, Stopped
from burnish.prepare_pictures import contact_sheet
from burnish.report import CONTACT_SHEET
from burnish.train import Step
from burnish.tune_rollouts import told
from burnish.tune_state import Running


def lengthened(resolved: Resolved, output: Path) -> bool:
    """Return whether a finished run is asked for more steps than it made."""
    steps = resolved.config.train.steps
    return steps is not None and steps > (runs.read_status(output)["steps"] or 0)


def record_end(run: runs.Run, error: Exception) -> None:
    """Record how a run ended, as far as the disk still allows."""
    state: runs.State = "stopped" if isinstance(error, Stopped) else "failed"
    message = str(error) if isinstance(error, BurnishError) else f"{type(error).__name__}: {error}"
    with suppress(BurnishError):  # the disk is what failed: the error under way says so
        status = runs.read_status(run.path)
        runs.write_status(run, state, step=status["step"], steps=status["steps"], message=message)


def leave_nothing(run: runs.Run) -> None:
    """Take back the folder of a run that could not start for a mistake of its user, so that the corrected one can use it."""
    with suppress(OSError):
        for file in (
            run.status_json,
            run.run_toml,
            run.environment_json,
            run.data_json,
            run.path / CONTACT_SHEET,
            run.path / locks.LOCK,
        ):
            file.unlink(missing_ok=True)
        run.path.rmdir()  # what else may lie there is not ours, and stays


def write_facts(running: Running, device: Device) -> None:
    """Write the resolved run file, the environment and the data report into the run directory."""
    plan, run = running.plan, running.run
    runs.write_text(run.run_toml, config.dump(plan.resolved, folder=run.path))
    runs.write_json(run.environment_json, {**runs.environment(), "numbers": asdict(device)})
    runs.write_json(run.data_json, plan.report)
    if (page := contact_sheet(plan.first)) is not None:
        atomic.write_file(run.path / CONTACT_SHEET, page)


def log(running: Running, step: Step) -> None:
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
