"""The run directory: one writer, true figures, nothing lost and nothing secret in it (promises R2, R4, R6, R14; user pains 2 and 21)."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish import atomic, locks, runs
from burnish.errors import RunError, SpaceError, UsageError
from test_atomic import SOURCE, every_death


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python process with burnish on its path and wait for its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


HOLD = """
import sys, time
from burnish import runs
run = runs.create(sys.argv[1], resume=False)
print("ready", flush=True)
time.sleep(60)
"""


# --------------------------------------------------------------------------------------------------- making, locking, preflight


def test_a_new_run_has_its_folder_its_status_and_its_lock(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "runs" / "demo", resume=False)
    assert {entry.name for entry in run.path.iterdir()} == {".lock", "status.json"}
    assert runs.read_status(run.path)["state"] == "running"
    assert runs.read_status(run.path)["pid"] == os.getpid()
    runs.release(run)
    runs.release(run)
    assert not locks.is_locked(run.path)


def test_every_name_in_a_run_directory_is_a_property() -> None:
    run = runs.Run(Path("r"))
    named = {str(getattr(run, name).relative_to("r")) for name in dir(runs.Run) if isinstance(getattr(runs.Run, name), property)}
    files = {"run.toml", "environment.json", "data.json", "metrics.jsonl", "report.json", "report.html", "status.json"}
    assert named == files | {"events", "checkpoints", "model"}


def test_a_used_output_is_refused_and_the_message_says_how_to_go_on(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "demo", resume=False)
    runs.write_status(run, "stopped", step=40, steps=100)
    runs.release(run)
    before = {entry: entry.stat().st_mtime_ns for entry in run.path.iterdir()}
    with pytest.raises(UsageError, match=r"already holds a run \(stopped at step 40\).*--resume.*output=DIR") as caught:
        runs.create(run.path, resume=False)
    assert caught.value.exit_code == 2
    assert {entry: entry.stat().st_mtime_ns for entry in run.path.iterdir()} == before


def test_resume_takes_a_run_up_as_it_is_and_begins_where_there_is_none(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "demo", resume=True)
    runs.write_status(run, "finished", step=9, steps=9)
    runs.release(run)
    again = runs.create(tmp_path / "demo", resume=True)
    assert runs.is_finished(again.path)
    assert not runs.is_finished(tmp_path)
    runs.release(again)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_other_things_in_it_is_never_written_into(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "thesis.docx").write_text("precious")
    for ask in (runs.create, runs.check_usable):
        with pytest.raises(UsageError, match=r"is not empty and holds no run \(thesis\.docx\)"):
            ask(tmp_path, resume=resume)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        runs.create(tmp_path / "out", resume=False)
    with pytest.raises(UsageError, match="in the way"):
        runs.create(tmp_path / "out" / "demo", resume=False)


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_a_read_only_output_folder_is_refused_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(path, *arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(UsageError, match=r"read-only.*output=DIR") as caught:
            runs.create(tmp_path / "demo", resume=False)
    assert caught.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="read-only"):
        runs.create(tmp_path / "demo", resume=False)


def test_two_processes_cannot_write_the_same_run_and_death_gives_the_lock_back(tmp_path: Path) -> None:
    holder = python(HOLD, str(tmp_path / "demo"))
    for resume in (False, True):
        with pytest.raises(UsageError, match=rf"written by another process \(pid {holder.pid}\)"):
            runs.create(tmp_path / "demo", resume=resume)
    assert runs.read_status(tmp_path / "demo")["state"] == "running"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert runs.read_status(tmp_path / "demo")["state"] == "killed"
    runs.release(runs.create(tmp_path / "demo", resume=True))


def test_the_same_process_cannot_write_a_run_twice(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "demo", resume=False)
    with pytest.raises(UsageError, match="another process"):
        runs.create(tmp_path / "demo", resume=True)
    assert locks.is_locked(run.path), "looking at a lock must not give it back"
    runs.release(run)


def test_a_forked_worker_that_outlives_the_run_does_not_keep_it_locked(tmp_path: Path) -> None:
    script = """
import os, sys, time
from burnish import runs
run = runs.create(sys.argv[1], resume=False)
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(60)
print("ready", flush=True)
print(child, flush=True)
time.sleep(60)
"""
    holder = python(script, str(tmp_path / "demo"))
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        holder.kill()
        holder.communicate()
        deadline = time.monotonic() + 5
        while locks.is_locked(tmp_path / "demo") and time.monotonic() < deadline:  # the child may not have run yet
            time.sleep(0.01)
        os.kill(child, 0)
        assert not locks.is_locked(tmp_path / "demo")
    finally:
        os.kill(child, signal.SIGKILL)


def test_r2_death_while_a_run_is_made_never_blocks_the_next_start(tmp_path: Path) -> None:
    number = iter(range(1_000))

    def prepare() -> Path:
        folder = tmp_path / str(next(number))
        folder.mkdir()
        return folder

    def check(folder: Path, completed: bool) -> None:
        for lock in tuple(locks._held):  # what the end of the process does
            locks.release(lock)
        run = runs.create(folder / "demo", resume=True)
        assert runs.read_status(run.path)["step"] == 0
        assert {entry.name for entry in run.path.iterdir()} == {".lock", "status.json"}
        runs.release(run)

    assert every_death(prepare, lambda folder: runs.create(folder / "demo", resume=False), check) > 5


def test_leftovers_of_an_interrupted_save_go_at_the_next_start(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "demo", resume=False)
    runs.release(run)
    for leftover in (run.path / f".tmp-model-{'0' * 32}", run.checkpoints / f".tmp-checkpoint-3-{'1' * 32}"):
        leftover.mkdir(parents=True)
        (leftover / "half").write_text("x")
    runs.release(runs.create(run.path, resume=True))
    assert not list(run.path.rglob(".tmp-*"))


def test_pain_21_too_little_space_is_said_before_the_run_starts(tmp_path: Path) -> None:
    runs.check_space(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(SpaceError, match=r"needs about 1000000\.0 TB.*free there.*missing.*output=DIR") as caught:
        runs.check_space(tmp_path, 10**18)
    assert caught.value.exit_code == 3


# ------------------------------------------------------------------------------------------------------------- metrics and status


@pytest.fixture
def run(tmp_path: Path):
    run = runs.create(tmp_path / "demo", resume=False)
    yield run
    runs.release(run)


def test_pain_2_a_loss_that_is_not_finite_is_logged_as_what_it_is(run: runs.Run) -> None:
    record = {"step": 1, "loss": math.nan, "grad_norm": np.float32("inf"), "nested": [{"low": -math.inf}], "name": "x"}
    runs.log_metrics(run, record)
    line = json.loads(run.metrics_jsonl.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert line == {"step": 1, "loss": "nan", "grad_norm": "inf", "nested": [{"low": "-inf"}], "name": "x"}
    again = runs.read_metrics(run)[0]
    assert math.isnan(again["loss"])
    assert again["grad_norm"] == math.inf
    assert again["nested"] == [{"low": -math.inf}]


def test_numbers_of_numpy_and_torch_are_numbers(run: runs.Run) -> None:
    import torch

    runs.log_metrics(
        run, {"step": 1, "a": torch.tensor(0.5), "b": np.float64(0.1), "c": np.int64(3), "d": True, "e": None, "f": Path("x")}
    )
    assert runs.read_metrics(run) == [{"step": 1, "a": 0.5, "b": 0.1, "c": 3, "d": True, "e": None, "f": "x"}]


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.integers(0, 9), max_size=12), back=st.integers(-1, 10), loss=st.floats())
def test_r1_rewinding_drops_what_comes_after_a_step_and_keeps_the_bytes_of_the_rest(
    steps: list[int], back: int, loss: float
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run = runs.Run(Path(folder))
        for number, step in enumerate(steps):
            runs.log_metrics(run, {"step": step, "number": number, "loss": loss})
        lines = atomic.read_lines(run.metrics_jsonl)
        assert runs.rewind_metrics(run, back) == sum(step > back for step in steps)
        assert atomic.read_lines(run.metrics_jsonl) == [line for line, step in zip(lines, steps, strict=True) if step <= back]
        assert [record["number"] for record in runs.read_metrics(run)] == [n for n, step in enumerate(steps) if step <= back]


def test_a_torn_last_line_is_dropped_and_a_damaged_one_is_named(run: runs.Run) -> None:
    runs.log_metrics(run, {"step": 1})
    with run.metrics_jsonl.open("a") as stream:
        stream.write('{"step": 2, "lo')
    assert runs.read_metrics(run) == [{"step": 1}]
    runs.sync_metrics(run)
    for damage in ("junk", "[1]", '{"loss": 1}', '{"step": "nan"}'):
        run.metrics_jsonl.write_text(f'{{"step": 1}}\n{damage}\n')
        with pytest.raises(RunError, match=r"metrics\.jsonl:2: is not a record"):
            runs.read_metrics(run)
        with pytest.raises(RunError, match=r"metrics\.jsonl:2"):
            runs.rewind_metrics(run, 0)


def test_no_metrics_yet_are_no_records(run: runs.Run) -> None:
    assert runs.read_metrics(run) == []
    assert runs.rewind_metrics(run, 0) == 0
    runs.sync_metrics(run)


def test_a_record_without_its_step_is_a_mistake_of_ours(run: runs.Run) -> None:
    with pytest.raises(AssertionError, match="without its step"):
        runs.log_metrics(run, {"loss": 1.0})


def test_status_holds_state_steps_time_process_and_the_reason(run: runs.Run) -> None:
    runs.write_status(run, "failed", step=7, steps=20, message="loss is not finite")
    status = json.loads(run.status_json.read_text())
    assert status["time"].endswith("+00:00")
    assert {key: status[key] for key in ("state", "step", "steps", "pid", "message")} == {
        "state": "failed",
        "step": 7,
        "steps": 20,
        "pid": os.getpid(),
        "message": "loss is not finite",
    }


def test_what_is_no_run_and_what_is_damaged_have_their_own_messages(run: runs.Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        runs.read_status(tmp_path / "nothing")
    for junk in ("", "3", "[]", "{}", "\x00"):
        run.status_json.write_text(junk)
        with pytest.raises(RunError, match="cannot be read as the status"):
            runs.read_status(run.path)


def test_runs_are_listed_newest_first_with_what_became_of_them(tmp_path: Path) -> None:
    assert runs.list_runs(tmp_path / "missing") == []
    for name, state, time_ in (("a/old", "finished", "2026-01-01"), ("new", "running", "2026-02-01"), ("bad", None, None)):
        (tmp_path / name / "model").mkdir(parents=True)
        text = "junk" if state is None else json.dumps({"state": state, "step": 3, "steps": 9, "time": time_, "pid": 1})
        (tmp_path / name / "status.json").write_text(text)
    (tmp_path / "new" / "inner").mkdir()
    (tmp_path / "new" / "inner" / "status.json").write_text("{}")
    (tmp_path / "no run").mkdir()
    listed = runs.list_runs(tmp_path)
    assert [(run["name"], run["state"]) for run in listed] == [("new", "killed"), ("old", "finished"), ("bad", "unreadable")]
    assert listed[1]["path"] == str(tmp_path / "a" / "old")
    assert json.loads(json.dumps(listed)) == listed
    assert [run["name"] for run in runs.list_runs(tmp_path / "new")] == ["new"]


# --------------------------------------------------------------------------------------------------------- secrets, environment

SECRETS = ["hf_" + "aB3" * 11, "sk-proj-" + "x1_Y" * 8, "AKIA" + "ABCD1234" * 2, "ghp_" + "a1B2" * 9]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "token={}", '"{}",', "HF_TOKEN_{}", "Bearer {}.", "https://u:{}@host/"])
def test_access_tokens_are_blanked_out_wherever_they_stand(secret: str, around: str) -> None:
    text = runs.redact(around.format(secret))
    assert secret[5:] not in text
    assert "***" in text
    assert text.startswith(around[: around.index("{")])


@pytest.mark.parametrize(
    "text",
    ["hf_tokenizer", "risk-adjusted-performance-measure", "task-specific-fine-tuning", "AKIA", "sk-learn", "shelf_" + "a" * 30],
)
def test_words_that_only_look_alike_stay(text: str) -> None:
    assert runs.redact(text) == text


def test_no_planted_token_reaches_any_file_of_a_run(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in zip(("HF_TOKEN", "OPENAI_API_KEY", "AWS_ACCESS_KEY_ID", "CUDA_VISIBLE_DEVICES"), SECRETS, strict=True):
        monkeypatch.setenv(name, secret if name != "CUDA_VISIBLE_DEVICES" else "")
    for secret in SECRETS:
        runs.log_metrics(run, {"step": 1, "note": f"key {secret}"})
        runs.write_status(run, "failed", step=1, message=f"401 for {secret}")
        runs.write_text(run.run_toml, f'token = "{secret}"\n')
        runs.write_json(run.environment_json, {**runs.environment(), "note": secret})
        for file in run.path.iterdir():
            assert secret not in file.read_text()


def test_json_files_hold_any_text(run: runs.Run) -> None:
    value = {"letters": "ß 漢字", "half a pair": "\ud800", "loss": math.nan}
    runs.write_json(run.report_json, value)
    assert json.loads(run.report_json.read_text()) == {**value, "loss": "nan"}
    assert "漢字" in run.report_json.read_text()


def test_the_environment_is_what_numbers_depend_on_and_nobodys_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass
    import platform

    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    facts = runs.environment()
    assert facts["packages"]["torch"] == facts["torch"]["version"] == torch.__version__
    assert facts["threads"]["intra_op"] == torch.get_num_threads()
    assert facts["variables"]["OMP_NUM_THREADS"] == "1"
    assert facts["cpu"]["model"]
    assert facts["devices"]
    text = json.dumps(facts)
    assert set(facts) == {"burnish", "python", "platform", "packages", "torch", "devices", "cpu", "threads", "variables"}
    assert str(Path.home()) not in text
    assert f'"{platform.node()}"' not in text
    assert f'"{getpass.getuser()}"' not in text


# ------------------------------------------------------------------------------------------------------------------ TensorBoard


def curve(run: runs.Run, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run.events))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def test_a_resumed_curve_has_every_step_once(run: runs.Run, caplog: pytest.LogCaptureFixture) -> None:
    writer = runs.EventWriter(run, first_step=1)
    for step in (1, 2, 3, 4):
        writer.add(step, {"train/loss": float(step), "name": "no number", "flag": True})
    writer.close()
    time.sleep(1.05)  # names of event files count seconds
    writer = runs.EventWriter(run, first_step=3)
    for step in (3, 4, 5):
        writer.add(step, {"train/loss": step * 10.0})
    writer.close()
    assert not caplog.records
    assert curve(run, "train/loss") == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0)]


def test_r6_a_curve_shows_nan_as_nan(run: runs.Run, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> None:
    writer = runs.EventWriter(run, first_step=1)
    writer.add(1, {"loss": math.nan})
    writer.close()
    assert not caplog.records
    assert not recwarn.list
    assert math.isnan(curve(run, "loss")[0][1])


def test_importing_runs_and_checkpoint_does_not_import_torch() -> None:
    code = "import sys; import burnish.runs, burnish.checkpoint, burnish.atomic; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(SOURCE)})


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        with pytest.raises(UsageError, match="knows no file locks"):
            runs.create(tmp_path / "demo", resume=False)
    assert not locks._held
    runs.release(runs.create(tmp_path / "demo", resume=False))
