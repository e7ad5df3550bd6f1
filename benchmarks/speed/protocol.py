"""How a row is measured: one process at a time, sides in turn, the matrix peak between them.

Enters: a row (`rows`). Leaves: for each side its runs, each the lines of a driver with what the machine did meanwhile. A side with choices has
the quickest of them found first. What is measured is decided by `measures`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
from rows import Arm, Peer, Row
from work import BATCH, CONTEXT, ROOT, SMOKE, WORK

from run_files import RATE

HERE = Path(__file__).parent
VENVS = ROOT / ".bench" / "venvs"
GATE, KEPT = ROOT / ".bench" / "gate", ROOT / ".bench" / "kept"
LONGEST = 1500
"""Seconds after which a driver is given up."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One process of one side: its lines, and what the machine did in its time. `problem`: what it said when it failed."""

    arm: str
    repeat: int
    task: dict[str, Any]
    events: list[Event]
    seconds: float
    peak_flops: float
    stolen: float
    others: float
    """Processors that other processes kept busy, on average; far from 0, the figures are noisy."""
    problem: str | None = None

    def of(self, event: str) -> list[Event]:
        """Return the lines of one kind."""
        return [line for line in self.events if line["event"] == event]


def python_of(peer: Peer) -> Path:
    """Return the interpreter of a side's environment."""
    return Path(sys.executable) if peer == "burnish" else VENVS / peer / "bin" / "python"


def missing(row: Row) -> list[str]:
    """Return the environments that a row needs and that are not there."""
    return sorted({arm.peer for arm in row.arms if not python_of(arm.peer).exists()})


def task_of(arm: Arm, choice: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return the task that a driver is handed, complete."""
    known = {"work": str(WORK), "threads": threads(), "rate": RATE, "context": CONTEXT, "batch": BATCH, "steps": arm.steps}
    return {**known, **arm.task, **(choice or {}), **more}


def threads() -> int:
    """Return the threads that every side gets: one for each processor."""
    return 1 if SMOKE else len(os.sched_getaffinity(0))


def matrix_peak() -> float:
    """Return the matrix peak of this moment; a smoke test takes one number for it."""
    return 1e12 if SMOKE else machine.matrix_peak(threads=threads())


# ------------------------------------------------------------------------------------------------------------------- one process


def carry_out(arm: Arm, task: dict[str, Any], *, repeat: int = 0, peak: float = 0.0, longest: float = LONGEST) -> Run:
    """Start a driver, wait for it, and return what it told; a driver that fails is a run with a problem."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"OMP_NUM_THREADS": str(task["threads"]), **arm.environment}
    if arm.peer != "burnish":
        del environment["PYTHONPATH"]
    # What one process has kept for others, the reference of pairs say, is not there for the next: each begins as the first one does.
    environment["BURNISH_CACHE"] = str(ROOT / ".bench" / "cache" / str(time.time_ns()))
    command = [str(python_of(arm.peer)), str(HERE / arm.driver), json.dumps(task)]
    log = ROOT / ".bench" / "last.log"
    stolen, busy, began = machine.stolen_seconds(), machine.busy_seconds(), time.time()
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment | {"BENCH_STARTED": str(began)}, cwd=HERE
        )
        try:
            told, _ = process.communicate(timeout=longest)
        except subprocess.TimeoutExpired:
            process.kill()
            told, _ = process.communicate()
    seconds = time.time() - began
    shutil.rmtree(environment["BURNISH_CACHE"], ignore_errors=True)
    events = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    own = events[-1]["processor"] if events else 0.0
    problem = None
    if process.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        problem = f"exit status {process.returncode} after {seconds:.0f} s: {' / '.join(tail)[-400:]}"
    return Run(
        arm=arm.name,
        repeat=repeat,
        task=task,
        events=events,
        seconds=seconds,
        peak_flops=peak,
        stolen=machine.stolen_seconds() - stolen,
        others=max(0.0, (machine.busy_seconds() - busy - own) / seconds),
        problem=problem,
    )


# --------------------------------------------------------------------------------------------------------------------- one row


def chosen(name: str, arm: Arm, speed: Callable[[Run], float], say: Callable[[str], None]) -> tuple[dict[str, Any], list[Event]]:
    """Return the quickest choice of a side and what each one reached; remembered, since it costs minutes."""
    if len(arm.choices) <= 1:
        return dict(arm.choices[0]) if arm.choices else {}, []
    memory = WORK.parent / f"chosen-{WORK.name}.json"
    known = json.loads(memory.read_text(encoding="utf-8")) if memory.is_file() else {}
    key = json.dumps([name, arm.name, dict(arm.task), [dict(choice) for choice in arm.choices]], sort_keys=True)
    if key not in known:
        tried: list[Event] = []
        for choice in arm.choices:
            say(f"  {arm.name}: trying {json.dumps(choice)}")
            run = carry_out(arm, task_of(arm, choice), longest=300)
            tried.append({"choice": dict(choice), "speed": 0.0 if run.problem else speed(run), "problem": run.problem})
            say(f"    {tried[-1]['problem'] or round(tried[-1]['speed'], 2)}")
        known[key] = tried
        memory.write_text(json.dumps(known), encoding="utf-8")
    tried = known[key]
    return max(tried, key=lambda one: one["speed"])["choice"], tried


def measure(row: Row, choices: Mapping[str, Mapping[str, Any]], *, repeats: int, say: Callable[[str], None]) -> list[Run]:
    """Return all runs of a row: in every repeat each side once, in turn, a matrix peak before and after each."""
    runs: list[Run] = []
    peak = matrix_peak()
    for repeat in range(repeats):
        for arm in row.arms:
            if repeat >= min(repeats, arm.repeats or repeats):
                continue
            kept = {"keep": str(KEPT / arm.name)} if row.dev else {}
            run = carry_out(arm, task_of(arm, choices.get(arm.name), **kept), repeat=repeat)
            before, peak = peak, matrix_peak()
            runs.append(Run(**{**_fields(run), "peak_flops": (before + peak) / 2}))
            say(f"  {arm.name}, repeat {repeat + 1}: {run.problem or f'{run.seconds:.0f} s'}")
            if run.problem and not any(other.arm == arm.name and not other.problem for other in runs):
                row_without = tuple(one for one in row.arms if one.name != arm.name)
                row = Row(**{**_fields(row), "arms": row_without})
    return runs


def _fields(record: Any) -> dict[str, Any]:
    """Return the fields of a frozen record by name, as they are."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def dev_losses(row: Row) -> dict[str, float]:
    """Return the loss on rows held out of each side after its last step, and of the start, by the plain twin."""
    plain = Arm("plain", "trl", "drive_plain.py", {"verb": "dev", "rows": row.arms[0].task["rows"]})
    run = carry_out(plain, task_of(plain, sides={path.name: str(path) for path in sorted(KEPT.iterdir())}))
    shutil.rmtree(KEPT, ignore_errors=True)
    return {line["side"]: line["loss"] for line in run.of("dev")} | ({"problem": run.problem} if run.problem else {})


# ---------------------------------------------------------------------------------------------------------------------- the gate


def gradients(row: Row, choices: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]) -> list[Event]:
    """Return, for each side, how alike its losses and its gradient are to those of the plain twin (`drive_plain`)."""
    shutil.rmtree(GATE, ignore_errors=True)
    sides, found = {}, {}
    for arm in row.arms:
        choice = {**choices.get(arm.name, {}), "grouped": False}
        if choice.pop("packing", False):
            choice |= {"batch": BATCH}  # packed, a step holds other rows: what is compared is the same side without packing
        run = carry_out(arm, task_of(arm, choice, steps=3, gate=str(GATE / arm.name)))
        losses = [line["loss"] for line in run.events if "loss" in line][:2]
        found[arm.name] = {"arm": arm.name, "told": losses, "problem": run.problem}
        if not run.problem:
            sides[arm.name] = str(GATE / arm.name)
    first = row.arms[0]
    known = {name: first.task[name] for name in ("rows", "batch", "technique") if name in first.task}
    plain = Arm("plain", "trl", "drive_plain.py", known)
    run = carry_out(plain, task_of(plain, sides=sides))
    for line in run.of("gate"):
        found[line["side"]] |= {
            key: item for key, item in line.items() if key not in ("event", "at", "side", "processor", "peak_bytes")
        }
    for one in found.values():
        one.setdefault("problem", None)
        if run.problem and not one["problem"]:
            one["problem"] = f"the plain twin: {run.problem}"
        alike = f"cosine {one.get('cosine', 0):.6f}, losses {one['told']} and {one.get('losses')}"
        say(f"  gate, {one['arm']}: {one['problem'] or alike}")
    shutil.rmtree(GATE, ignore_errors=True)
    return list(found.values())
