"""A process that plays a tuning run in milliseconds, for test_jobs_run: it writes a run directory as `burnish tune` does, or misbehaves.

    python -m fake_jobs check SCENARIO
    python -m fake_jobs tune SCENARIO OUTPUT
    python -m fake_jobs serve RUNS SCENARIO        (what a server has of jobs, until it is killed)

It is no test of tuning: what a real run leaves behind is looked at in test_jobs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from burnish import runs

STEPS = 6


def step(run: runs.Run, number: int) -> None:
    runs.log_metrics(
        run, {"step": number, "loss": 4.0 / (1 + number), "learning_rate": 0.1, "tokens": 10 * number, "tokens_per_second": 50.0}
    )
    runs.write_status(run, "running", step=number, steps=STEPS)
    folder = run.checkpoints / f"checkpoint-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text("{}")


def told(kind: str, message: str, code: int) -> None:
    print(json.dumps({"error": {"kind": kind, "message": message, "exit_code": code}}), flush=True)
    sys.exit(code)


def check(scenario: str) -> None:
    if scenario == "check dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if scenario == "check hangs":
        time.sleep(60)
    found = {
        "error": None,
        "learning_rate": 0.02,
        "scores": ["exact_match"],
        "objective": "sft",
        "epochs": 3,
        "batch": 16,
        "beta": None,
    }
    found |= {"steps": STEPS, "train": 20, "dev": 2, "test": 2, "findings": [{"level": "warn", "message": "2 rows are alike"}]}
    if scenario == "bad rows":
        found = {
            "error": {"code": "invalid_training_file", "message": "training.jsonl:3: not valid JSON", "param": "training_file"}
        }
    Path("checked.json").write_text(json.dumps(found))


def tune(scenario: str, output: Path) -> None:
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    if scenario == "refused":
        told("ConfigError", "run.toml: 1 problem", 2)
    if scenario == "dies at once":
        os.kill(os.getpid(), signal.SIGKILL)
    run = runs.create(output, resume=True)
    if scenario == "no space":
        runs.write_status(run, "failed", step=0, message="full")
        told("SpaceError", "no space is left", 3)
    first = max((record["step"] for record in runs.read_metrics(run)), default=0) + 1
    for number in range(first, STEPS + 1):
        step(run, number)
        if scenario == "dies on the way" and number == first + 1:
            os.kill(os.getpid(), signal.SIGKILL)
        while scenario == "waits" and number == 3 and not stopping and not Path("go").exists():
            time.sleep(0.01)
        if stopping and scenario != "deaf":
            runs.write_status(run, "stopped", step=number, steps=STEPS, message="stopped")
            told("Stopped", "stopped after a step", 143)
        while scenario == "deaf":
            time.sleep(0.01)
    run.model.mkdir(exist_ok=True)
    runs.write_status(run, "finished", step=STEPS, steps=STEPS)


def serve(folder: Path, scenario: str) -> None:
    from burnish.serve import jobs_process
    from burnish.serve.jobs_run import Runner
    from burnish.serve.jobs_store import Store

    def start(_: list[str], job: Path, *, name: str) -> int | None:
        output = [] if name == "check" else [str(folder / job.name)]
        return jobs_process.start(["fake_jobs", name, scenario, *output], job, name=name)

    runner = Runner(Store(folder / ".jobs"), folder, start=start)
    while True:
        runner.look()
        time.sleep(0.01)


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "serve":
        serve(Path(rest[0]), rest[1])
    elif verb == "check":
        check(rest[0])
    else:
        tune(rest[0], Path(rest[1]))
