"""Real processes that are killed, stopped and starved of disk: at most one interval is lost, and the result is that of a quiet run.

Promises R2, R4 and R5; user pain 21 (the save fails at the end and the run is lost).
"""

from __future__ import annotations

import importlib
import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from burnish import checkpoint, runs
from cli_runs import cli, last_checkpoint, metrics, process, refused, result, start, write_rows, write_run
from stub import make_stub

STEPS, EVERY = 12, 2
RUN: dict[str, Any] = {
    "technique__name": "full",
    "train__steps": STEPS,
    "train__packing": True,
    "save__every": EVERY,
    "evaluate__every": 5,
    "evaluate__best": True,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    make_stub(folder / "stub")
    write_rows(folder / "rows.jsonl")
    write_run(folder, "./stub", **RUN)
    return folder


@cache
def quiet(place: Path) -> dict[str, Any]:
    """Return what a run left that nobody disturbed."""
    done = process("tune", "run.toml", "output=quiet", folder=place)
    assert done.code == 0, done.err
    return result(place / "quiet")


def step_of(output: Path) -> int:
    """Return the last step that a run under way has logged, -1 before the first."""
    file = output / "metrics.jsonl"
    text = file.read_text("utf-8") if file.exists() else ""
    return max((json.loads(line)["step"] for line in text.splitlines() if line.endswith("}")), default=-1)


def shows(folder: Path, pattern: str) -> Callable[[], bool]:
    """Return whether a folder holds something of this name, the sign of a write that is under way."""
    return lambda: folder.is_dir() and any(folder.glob(pattern))


def killed_and_resumed(place: Path, output: Path, moments: list[Callable[[Path], Callable[[], bool]]], waits: list[float]) -> None:
    """Kill a run at each moment plus a wait in seconds, look at what is left, and let a last process end it."""
    shutil.rmtree(output, ignore_errors=True)
    for number, (moment, wait) in enumerate(zip(moments, waits, strict=True)):
        running = start("tune", "run.toml", f"output={output}", *(["--resume"] if number else []), folder=place)
        running.wait_until(moment(output))
        time.sleep(wait)
        running.kill(signal.SIGKILL)
        done = running.wait()
        assert done.code in (-signal.SIGKILL, 0), done.err
        if done.code == 0:
            return
        logged, found = step_of(output), checkpoint.find(output / "checkpoints")
        if logged > 1:
            assert found.step is not None and found.step >= logged - EVERY, f"more than one interval lost: {found} of {logged}"
        if (output / "status.json").exists():
            assert runs.read_status(output)["state"] == "killed"
    done = process("tune", "run.toml", f"output={output}", "--resume", folder=place)
    assert done.code == 0, done.err


def after_step(step: int) -> Callable[[Path], Callable[[], bool]]:
    return lambda output: lambda: step_of(output) >= step


def during_save(output: Path) -> Callable[[], bool]:
    return shows(output / "checkpoints", ".tmp-checkpoint-*")


def during_replacement(output: Path) -> Callable[[], bool]:
    return shows(output, ".tmp-model-*")


# ------------------------------------------------------------------------------------------------------------------------- SIGKILL


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param([after_step(3), during_save], id="after a step, then in a save"),
        pytest.param([during_save, after_step(9)], id="in the first save, then after a step"),
        pytest.param([during_replacement], id="while the model is saved at the end"),
    ],
)
def test_killed_at_a_random_moment_and_resumed_is_the_quiet_run(place: Path, tmp_path: Path, moments: list[Any]) -> None:
    """R2: whatever was being written, resume goes on from the last complete checkpoint and ends with the same weights."""
    killed_and_resumed(place, tmp_path / "out", moments, [random.uniform(0, 0.02) for _ in moments])
    assert result(tmp_path / "out") == quiet(place)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_killed_at_many_random_moments_and_resumed_is_the_quiet_run(place: Path, tmp_path: Path, number: int) -> None:
    moments = [random.choice([after_step(random.randrange(-1, STEPS)), during_save]) for _ in range(3)]
    killed_and_resumed(place, tmp_path / "out", moments, [random.uniform(0, 0.1) for _ in moments])
    assert result(tmp_path / "out") == quiet(place)


# ------------------------------------------------------------------------------------------------------------- SIGTERM and SIGINT


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends_with_its_code(place: Path, tmp_path: Path, number: int, code: int) -> None:
    """R5: the step under way is finished and saved; standard output still holds one JSON value."""
    output = tmp_path / "out"
    running = start("tune", "run.toml", f"output={output}", "--json", folder=place)
    running.wait_until(after_step(2)(output))
    running.kill(number)
    done = running.wait()
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    error = done.json["error"]
    assert error["kind"] == "Stopped" and error["exit_code"] == code and "--resume" in error["message"]
    assert checkpoint.find(output / "checkpoints").step == max(line["step"] for line in metrics(output))
    assert runs.read_status(output)["state"] == "stopped"
    assert process("tune", "run.toml", f"output={output}", "--resume", folder=place).code == 0
    assert result(output) == quiet(place)


def test_a_second_signal_ends_at_once(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    running = start("tune", "run.toml", f"output={output}", "train.steps=5000", "evaluate.every=5000", folder=place)
    running.wait_until(after_step(2)(output))
    running.kill(signal.SIGSTOP)  # both signals wait for it: the second one is there before the first is answered
    running.kill(signal.SIGINT)
    running.kill(signal.SIGTERM)
    running.kill(signal.SIGCONT)
    done = running.wait()
    assert done.code == -signal.SIGTERM, done.err
    assert runs.read_status(output)["state"] == "killed"


def test_an_interrupt_while_the_data_is_read_leaves_nothing(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the run has begun there is nothing to save, and no folder to be in the way of the next attempt."""

    def interrupted(_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(importlib.import_module("burnish.tune"), "prepare", interrupted)
    done = cli("tune", "run.toml", f"output={tmp_path / 'out'}", "--json", folder=place)
    assert done.code == 130 and done.json["error"]["exit_code"] == 130 and "Interrupted" in done.err
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------------------------------------------- full disk


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(place: Path, tmp_path: Path) -> None:
    """R4: weights alone fit under the limit, weights and moments do not; with room again, the run goes on as if nothing had been."""
    output = tmp_path / "out"
    room = (place / "stub" / "model.safetensors").stat().st_size + 100_000
    done = process("tune", "run.toml", f"output={output}", folder=place, file_bytes=room)
    refused(done, "cannot write .*checkpoint-", "What was saved before is intact", "--resume", code=3)
    assert last_checkpoint(output).name == "checkpoint-0" and checkpoint.find(output / "checkpoints").step == 0
    assert not list(output.rglob(".tmp-*")), "half a checkpoint was left behind"
    status = runs.read_status(output)
    assert status["state"] == "failed" and "cannot write" in status["message"]
    assert process("tune", "run.toml", f"output={output}", "--resume", folder=place).code == 0
    assert result(output) == quiet(place)


def test_a_disk_without_room_is_found_before_the_first_step(place: Path, tmp_path: Path) -> None:
    """Pain 21: a save that cannot work fails in the first minute, not after two days."""
    done = process("tune", "run.toml", f"output={tmp_path / 'out'}", folder=place, file_bytes=200_000)
    refused(done, "cannot write", "larger than", code=3)
    assert "step 1/" not in done.err
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


def test_two_processes_cannot_write_one_run(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    running = start("tune", "run.toml", f"output={output}", "train.steps=5000", "evaluate.every=5000", folder=place)
    running.wait_until(after_step(1)(output))
    try:
        refused(process("tune", "run.toml", f"output={output}", folder=place), "being written by another process", "output=DIR")
        refused(
            process("tune", "run.toml", f"output={output}", "--resume", "train.steps=5000", "evaluate.every=5000", folder=place),
            "being written by another process",
        )
    finally:
        running.kill(signal.SIGKILL)
        running.wait()
