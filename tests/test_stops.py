"""Ends of a run that are not its last step: a signal while it is being measured, and an early stop.

Stops inside the loop are proved in invariants/test_resume.py and test_kill.py.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from burnish import api, finish_heads
from burnish.devices import Ranks
from burnish.errors import Stopped
from burnish.terminal import watch as in_terminal
from burnish.tune import Watch
from burnish.tune_stop import between_batches
from test_every_objective_runs import place, report_of, run_of

__all__ = ["place"]  # a fixture


@pytest.mark.parametrize("kept", [True, False])
def test_a_signal_while_the_bases_head_learns_stops_the_run_which_goes_on_later(
    kept: bool, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands beside the tuned model learns too, and may take as long as the run did; with hidden states kept and without."""
    run = run_of(place, "classification", tmp_path / "run", technique="lora")
    run["train"] = {**run["train"], "steps": 6}
    quiet = report_of({**run, "output": str(tmp_path / "quiet")})
    made, learn = [0], finish_heads.train

    def signalled(*arguments: Any, **more: Any) -> Iterator[Any]:
        for step in learn(*arguments, **more):
            made[0] += 1
            if made[0] == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield step

    monkeypatch.setattr(finish_heads, "train", signalled)
    if not kept:
        monkeypatch.setattr(finish_heads, "keep", lambda model, units, **_: (units, ""))
    with pytest.raises(Stopped, match="--resume"):
        api.tune(run)
    assert made[0] == 2 and json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "stopped"
    monkeypatch.undo()
    api.tune(run, resume=True)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["scores"] == quiet["scores"]


def test_a_signal_is_noticed_by_whoever_does_not_wait_for_others() -> None:
    """Of several processes only the first measures the result: the others have ended, and it may stop by itself there, but not before."""
    running: Any = SimpleNamespace(
        stop=SimpleNamespace(signal_number=15),
        ranks=Ranks(rank=0, size=2),
        progress=SimpleNamespace(step=3),
        schedule=SimpleNamespace(steps=3),
        run=SimpleNamespace(path="out", run_toml="out/run.toml"),
    )
    between_batches(running)()
    with pytest.raises(Stopped, match=r"burnish tune out/run\.toml --resume"):
        between_batches(running, alone=True)()


def test_a_run_that_stops_early_says_so_to_who_watches(place: Path, tmp_path: Path) -> None:
    run = run_of(place, "grpo", tmp_path / "run", technique="lora")
    run["train"] = {**run["train"], "steps": 8, "learning_rate": 1e-12}
    run["evaluate"] = {**run["evaluate"], "every": 1, "patience": 2}
    seen: list[Any] = []
    api.tune(run, watch=Watch(step=lambda record: seen.append(record["step"]), done=lambda: seen.append("done")))
    assert seen == [1, 2, 3, "done"]


def test_the_last_step_is_shown_whichever_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Of attempts, also what they were like at the beginning and are now."""
    watch = in_terminal()
    for step in (1, 2, 3):
        record = {"step": step, "steps": 10, "loss": 0.0, "tokens_per_second": 1.0, "time_left": 1.0}
        watch.step({**record, "rollout/reward": step / 10, "rollout/length": 4.0})
    said = capsys.readouterr().err
    assert "step 1/10" in said and "step 3/10" not in said, "the test would prove nothing"
    watch.done()
    told = capsys.readouterr().err
    assert "step 3/10" in told and "Attempts of step 1: reward 0.1" in told and "of step 3: reward 0.3" in told
    watch.done()
    assert "step 3/10" not in capsys.readouterr().err
