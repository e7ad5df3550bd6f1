"""Checkpoints of a run: written on the way, taken up again on resume, refused where the run is no longer the one that began.

Enters: a run under way, or a plan and the folder of one that stopped. Leaves: a checkpoint, or a run that stands where it stood. How
files get onto the disk is `checkpoint`'s business.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from burnish import checkpoint, config, runs
from burnish.config import Resolved
from burnish.devices import Device, Ranks, apply_device, choose_device, machine_memory, missing_compiler
from burnish.errors import ConfigError, UsageError
from burnish.models import Found, can_compile, find_model, fingerprint, restore_weights, save_model, set_up
from burnish.prepare import Plan, registries
from burnish.tune_layout import wants_sharing
from burnish.tune_rollouts import load_state, state_of
from burnish.tune_state import Progress, Running

if TYPE_CHECKING:
    import torch

STEPS = "the number of steps"
"""The origin of values that follow from train.steps, which may grow on resume."""

FREE: Any = {"output": True, "save": True, "log": True, "train": {"steps"}, "task": {"__all__": {"single"}}}
"""What may change on resume without being known from the digest of a run."""

NONE = checkpoint.Found(None)
"""Where a run begins anew."""


# ------------------------------------------------------------------------------------------------------------------------- saving


def save(running: Running) -> None:
    """Write a checkpoint of this very step, unless it is there already."""
    settings, progress = running.plan.resolved.config, running.progress
    if running.saved == progress.step:
        return
    progress.positions = running.room.positions
    if running.ranks.rank == 0:
        names = running.names
        rng_tensors, rng_state = checkpoint.capture_rng()
        optimizer_tensors, groups = checkpoint.optimizer_tensors(running.optimizer, names)
        tensors: dict[str, torch.Tensor] = {f"optimizer/{key}": item for key, item in optimizer_tensors.items()}
        tensors |= {f"rng/{key}": item for key, item in rng_tensors.items()}
        facts, arrays = state_of(running.batches)
        tensors |= {f"batches/{key}": item for key, item in arrays.items()}
        runs.sync_metrics(running.run)
        checkpoint.save(
            running.run.checkpoints,
            step=progress.step,
            fill_model=lambda folder: save_model(running.model, folder, settings=running.plan.settings()),
            tensors=tensors,
            state={"progress": asdict(progress), "groups": groups, "rng": rng_state, "batches": facts},
            facts={
                "data": running.plan.fingerprint,
                "model": model_digest(running.plan.found),
                "judges": judges(running.plan.resolved),
                "config": config_digest(running.plan.resolved),
                "ranks": running.ranks.size,
            },
            keep=settings.save.keep,
            protected=(progress.best_step,) if settings.evaluate.best and progress.best is not None else (),
        )
    running.saved = progress.step
    running.ranks.barrier()


def prove_saving(running: Running) -> None:
    """Save before step 0 and read it back: a save that cannot work fails now, and not after hours (there, or for want of space)."""
    save(running)
    if running.ranks.rank == 0:
        folder = running.run.checkpoints / f"checkpoint-{running.progress.step}"
        checkpoint.load(folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        # AdamW's two moments of what moves come on top of a checkpoint before step 0; the best one and the result are kept too.
        moments = sum(8 * parameter.numel() for parameter in running.names.values())
        runs.check_space(running.run.path, (size + moments) * (running.plan.resolved.config.save.keep + 2))


def config_digest(resolved: Resolved) -> str:
    """Return a sha256 of all values of a run that may not change on resume."""
    text = resolved.config.model_dump_json(exclude=FREE)
    return hashlib.sha256(text.encode()).hexdigest()


def model_digest(found: Found) -> str | None:
    """Return a sha256 that tells the model a run begins with from another one; None for a name on the hub."""
    if not found.local:
        return None
    parts = [fingerprint(found)]
    if found.adapter is not None:
        parts.append(fingerprint(Found(found.name, str(found.adapter))))
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


def judges(resolved: Resolved) -> dict[str, str | None]:
    """Return what tells the content of the teacher ("teacher") and of each reward model ("rollout.reward.0") from that of another."""
    named = {"teacher": resolved.config.teacher}
    named |= {f"rollout.reward.{place}": one.model for place, one in enumerate(resolved.config.rollout.reward)}
    return {
        where: model_digest(find_model(config.named_model(resolved, name))) for where, name in named.items() if name is not None
    }


# ----------------------------------------------------------------------------------------------------------------------- resuming


def find(run: runs.Run, ranks: Ranks) -> checkpoint.Found:
    """Return the checkpoint to go on from; all ranks take the one that rank 0 finds."""
    found = checkpoint.find(run.checkpoints) if ranks.rank == 0 else checkpoint.Found(None)
    if ranks.size == 1:
        return found
    step = int(ranks.share(-1.0 if found.step is None else float(found.step)))
    return checkpoint.Found(None if step < 0 else run.checkpoints / f"checkpoint-{step}", found.skipped)


def continued(plan: Plan, run: runs.Run, found: checkpoint.Found) -> Plan:
    """Return the plan of a run that is taken up again, with the values that followed from its first number of steps as they were.

    Raises UsageError where the run file, the data or the model is not the one that the run began with, naming each change.
    """
    if found.path is None:
        return plan
    facts, changes = checkpoint.facts(found.path), []
    same_data = facts.get("data") == plan.fingerprint
    same_model = facts.get("model") == model_digest(plan.found)
    if run.run_toml.is_file():
        before = config.load(run.run_toml, registries=registries())
        if plan.resolved.origins.get("evaluate.every") == STEPS:
            kept = config.with_value(plan.resolved, "evaluate.every", before.config.evaluate.every, origin="the run as it began")
            plan = replace(plan, resolved=kept)
        changes = config.difference(before, plan.resolved)
        if same_data and _unplaced(before) == _unplaced(plan.resolved):
            # The same rows from another place: their folder, or that of the run, was moved.
            changes = [change for change in changes if not re.match(r"(task\..+\.)?data\.(source|dev|test):", change)]
        if same_model and facts.get("model") is not None:
            changes = [change for change in changes if not change.startswith(("model:", "model.name:"))]
    elif facts.get("config") != config_digest(plan.resolved):
        changes.append(f"the run file: its values are not those the run began with ({run.run_toml.name} is gone from its folder)")
    if not same_data:
        changes.append("the data: its content is not what the run began with")
    if not same_model and not any(change.startswith(("model:", "model.")) for change in changes):
        changes.append("the model: its weights are not those the run began with")
    changes = _with_judges(changes, facts.get("judges"), judges(plan.resolved))
    if changes:
        listed = "\n".join(f"  - {change}" for change in changes)
        raise UsageError(
            f"{run.path} cannot be resumed with these changes:\n{listed}\nUndo them, or start a new run with output=DIR. "
            f"Free to change: output, save.*, log.*, task.*.single, and train.steps under a constant schedule."
        )
    return plan


def _with_judges(changes: list[str], before: Mapping[str, str | None] | None, now: Mapping[str, str | None]) -> list[str]:
    """Return the changes with those of what a teacher or reward model holds, and without that of a teacher's place alone."""
    if before is None:
        return changes  # a checkpoint that does not say; the names are compared anyway
    found = list(changes)
    if before.get("teacher") is not None and before.get("teacher") == now.get("teacher"):
        found = [change for change in found if not change.startswith("teacher:")]
    for where in sorted(before.keys() & now.keys()):
        field = where if where == "teacher" else "rollout.reward"
        if before[where] != now[where] and not any(change.startswith(f"{field}:") for change in changes):
            found.append(f"{where}: its weights are not those the run began with")
    return found


def _unplaced(resolved: Resolved) -> Any:
    """Return the sources of a run without where they lie."""
    found = []
    for name in resolved.config.task_names:
        data = resolved.config.of_task(name).data
        found.append(([source.model_dump(exclude={"source"}) for source in data.sources], data.dev is None, data.test is None))
    return found


def chosen_device(plan: Plan, run: runs.Run, *, resumed: bool) -> Device:
    """Return the device and number formats: those the run began with when resumed, since they change numbers."""
    settings = plan.resolved.config
    moves_base = plan.technique.saves == "model"
    chosen = choose_device(settings.dtype, moves_base=moves_base, threads=settings.threads)
    chosen = replace(chosen, compiled=_compiled(plan, chosen), quick=_quick(plan, chosen))
    chosen = replace(chosen, shared=wants_sharing(plan), kept=_kept(plan))
    if resumed and run.environment_json.is_file():
        before = Device(**json.loads(run.environment_json.read_text(encoding="utf-8"))["numbers"])
        if before.name != chosen.name:
            raise UsageError(
                f"{run.path} was started on {before.name}, and this machine offers {chosen.name}: the result would differ. "
                f"Resume it there, or start anew with output=DIR."
            )
        if before.quick == "loops" and chosen.quick != "loops":
            raise UsageError(
                f"{run.path} was started with loops that cannot be compiled here. {can_compile()} Or start anew with output=DIR."
            )
        apply_device(before)
        chosen = before
    set_up(chosen)
    return chosen


def _quick(plan: Plan, device: Device) -> Literal["no", "torch", "loops"]:
    """Return whether the run takes the pieces of `models/fast`, and with whose loops: as it says, and as the machine can."""
    if not plan.resolved.config.train.fast:
        return "no"
    return "loops" if device.name == "cpu" and can_compile() is None else "torch"


KEPT_SHARE = 0.25
"""Part of the machine's memory that may hold what frozen layers say."""


def _compiled(plan: Plan, device: Device) -> bool:
    """Return whether the layers are compiled, which the run must ask for; ConfigError where it cannot be.

    On a CPU the quick pieces need a second to start and are as fast: a whole model of the shape of 135 million parameters reached 0.75 of
    the peak of matrix products by them and 0.66 compiled (4 of its 30 layers, one core with AVX512-BF16, interleaved).
    """
    wanted, lacking = plan.resolved.config.train.compile, missing_compiler(device.name)
    if wanted and lacking:
        raise ConfigError(f"train.compile = true: {lacking}")
    return wanted


def _kept(plan: Plan) -> int:
    """Return how many bytes of hidden states may be kept: a share of the machine's memory where rows come more than once.

    Raises ConfigError where the run asks for it and no row stays as it is.
    """
    train = plan.resolved.config.train
    same = {name: part for name, part in plan.parts.items() if part.rows.learned and part.rows.change is None}
    if train.reuse and not same:
        raise ConfigError("train.reuse = true: no row of this run says the same twice (masked texts, or the model's own attempts).")
    seen = train.batch * (train.steps or 1)
    shares = dict(zip(plan.parts, plan.shares(), strict=True))
    again = any(shares[name] * seen > len(part.sequences) for name, part in same.items())
    return int(KEPT_SHARE * machine_memory()) if train.reuse or (again and train.reuse is None) else 0


def resume(running: Running, path: Path) -> None:
    """Put weights, optimizer, random numbers, progress and metrics back to where the checkpoint was written."""
    tensors, state = checkpoint.load(path)
    restore_weights(running.model, path)

    def part(prefix: str) -> dict[str, Any]:
        return {key.removeprefix(prefix): item for key, item in tensors.items() if key.startswith(prefix)}

    checkpoint.load_optimizer(running.optimizer, part("optimizer/"), running.names, state["groups"])
    checkpoint.restore_rng(part("rng/"), state["rng"])
    load_state(running.batches, state.get("batches"), part("batches/"))
    running.progress = Progress(**state["progress"])
    running.saved = running.progress.step
    running.room.positions = running.progress.positions
    running.schedule = replace(running.schedule, warmup=running.progress.warmup)
    if running.ranks.rank == 0:
        runs.rewind_metrics(running.run, running.progress.step, evaluated=running.progress.evaluated)
