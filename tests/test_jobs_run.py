"""Jobs whatever dies: the server, the processes, both, at any moment; limits, order, and a table that several threads and a crash survive.

The processes are real and played by fake_jobs, which takes milliseconds; real runs stand in test_jobs.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from burnish import runs
from burnish.errors import UsageError
from burnish.serve import jobs_process, jobs_run, jobs_told
from burnish.serve.jobs_desk import Desk, _sweep
from burnish.serve.jobs_rows import File, Job, Said, new_id
from burnish.serve.jobs_run import Runner
from burnish.serve.jobs_store import Store
from burnish.serve.settings import Settings

TESTS = Path(__file__).parent


class World:
    """A table of jobs, and servers that come and go."""

    def __init__(self, folder: Path) -> None:
        self.runs = folder / "runs"
        self.store = Store(self.runs / ".jobs")
        self.scenarios: dict[str, str] = {}
        self.started: list[str] = []
        self.runner = self.server()

    def server(self, at_once: int = 1) -> Runner:
        """Return what a server that was just started has: nothing but the table and the folders."""
        self.runner = Runner(self.store, self.runs, at_once=at_once, start=self.start)
        return self.runner

    def start(self, arguments: list[str], folder: Path, *, name: str) -> Any:
        self.started.append(f"{name} {folder.name}")
        scenario = self.scenarios.get(folder.name, "")
        output = [] if name == "check" else [str(self.runs / folder.name)]
        return jobs_process.start(["fake_jobs", name, scenario, *output], folder, name=name)

    def job(self, scenario: str = "", **values: Any) -> str:
        id = new_id("ftjob-")
        self.scenarios[id] = scenario
        method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "auto"}}}
        given = {"model": "stub", "base": "stub", "training_file": "file-1", "seed": 1, "extra": {}, "status": "validating_files"}
        self.store.add_job(Job(**{"id": id, "created_at": int(time.time()), "method": method, **given, **values}), Said("Created"))
        folder = self.store.jobs / id
        folder.mkdir()
        (folder / "values.json").write_text(json.dumps({"model": "stub", "data": {"source": "training.jsonl"}}))
        return id

    def get(self, id: str) -> Job:
        found = self.store.job(id)
        assert found is not None
        return found

    def until(self, there: Callable[[], Any], seconds: float = 30.0) -> None:
        """Look again and again until something holds."""
        end = time.monotonic() + seconds
        while not there():
            assert time.monotonic() < end, [(job.id, job.status, job.error) for job in self.all()]
            self.runner.look()
            time.sleep(0.01)

    def until_status(self, id: str, *states: str) -> Job:
        self.until(lambda: self.get(id).status in states)
        return self.get(id)

    def until_step(self, id: str, step: int) -> None:
        self.until(lambda: self.get(id).step >= step)

    def all(self) -> list[Job]:
        return self.store.jobs_in("validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled")

    def pid(self, id: str) -> int | None:
        return jobs_process.living(self.store.jobs / id)

    def steer(self, id: str, status: str) -> None:
        assert self.store.change(id, status=status)

    def events(self, id: str) -> list[dict[str, Any]]:
        page = self.store.page("events", {"job": id}, after=None, limit=1000, newest_first=False)
        assert page is not None
        return page[0]


def gone(living: Callable[[], int | None]) -> None:
    """Wait, without a server, until a process has ended."""
    end = time.monotonic() + 20
    while living() is not None:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    made = World(tmp_path)
    yield made
    for job in made.all():
        if pid := made.pid(job.id):
            jobs_process.end_at_once(pid)
    while any(made.pid(job.id) is not None for job in made.all()):
        time.sleep(0.01)
    jobs_process.reap()


# ------------------------------------------------------------------------------------------------------------------ the whole way


def test_a_job_is_checked_queued_run_and_ends_with_a_model_and_results(world: World) -> None:
    id = world.job("", suffix="mine", model="owner/stub")
    done = world.until_status(id, "succeeded", "failed")
    assert done.status == "succeeded" and done.error is None
    assert done.fine_tuned_model == f"ft:stub:local:mine:{id.removeprefix('ftjob-')[:8]}"
    assert done.trained_tokens == 60 and done.step == 6 and done.estimated_finish is None and done.finished_at
    assert done.method == {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 16, "learning_rate_multiplier": 1.0}},
    }
    (file,) = done.result_files
    lines = (world.store.files / file).read_text().splitlines()
    assert lines[0].startswith("step,train_loss") and len(lines) == 7 and lines[1].startswith("1,2.0")
    said = [event["message"] for event in world.events(id)]
    assert said[0] == "Created" and said[-1] == "The job has successfully completed"
    assert [event["level"] for event in world.events(id) if event["message"] == "2 rows are alike"] == ["warn"]
    assert world.started == [f"check {id}", f"tune {id}"]
    steps = [event["data"]["step"] for event in world.events(id) if event["type"] == "metrics"]
    assert steps == [1, 2, 3, 4, 5, 6], "each step is told once, in order"
    before = len(world.events(id))
    world.server().look()
    assert len(world.events(id)) == before, "another look, by another server, tells nothing twice"


@pytest.mark.parametrize(
    ("scenario", "code", "param", "says"),
    [
        ("bad rows", "invalid_training_file", "training_file", "training.jsonl:3"),
        ("refused", "invalid_request", None, "1 problem"),
        ("no space", "no_space", None, "no space"),
        ("dies at once", "job_failed", None, "died 4 times"),
        ("check dies", "job_failed", None, "died 4 times"),
    ],
)
def test_a_job_that_cannot_be_done_fails_with_the_reason(
    world: World, scenario: str, code: str, param: str | None, says: str
) -> None:
    id = world.job(scenario)
    failed = world.until_status(id, "succeeded", "failed")
    assert failed.status == "failed" and failed.error is not None and failed.finished_at
    assert failed.error["code"] == code and failed.error["param"] == param and says in failed.error["message"]
    assert world.events(id)[-1]["level"] == "error"
    assert failed.fine_tuned_model is None and not failed.result_files


def test_a_process_that_dies_on_the_way_goes_on_as_long_as_it_gets_further(world: World) -> None:
    id = world.job("dies on the way")
    done = world.until_status(id, "succeeded", "failed")
    assert done.status == "succeeded" and world.started.count(f"tune {id}") == 4  # 2 of 6 steps each time, then the end
    assert sum("goes on from its last checkpoint" in event["message"] for event in world.events(id)) == 3


def test_a_job_whose_folder_was_damaged_fails_and_holds_up_no_other(world: World) -> None:
    first, second = world.job(""), world.job("")
    (world.store.jobs / first / "values.json").write_text("{")
    assert world.until_status(second, "succeeded", "failed").status == "succeeded"
    failed = world.get(first)
    assert failed.status == "failed" and failed.error is not None and "fault in burnish" in failed.error["message"]


# -------------------------------------------------------------------------------------------------------------- the server is gone


def test_pain_20_a_server_that_comes_later_finds_the_running_process_again(world: World) -> None:
    """Pain 20, promise R14: killing the server loses no job, and the next one starts no second process beside the first."""
    id = world.job("waits")
    world.until_step(id, 3)
    pid = world.pid(id)
    world.server()
    for _ in range(5):
        world.runner.look()
    assert world.get(id).status == "running" and world.pid(id) == pid and world.started.count(f"tune {id}") == 1
    (world.store.jobs / id / "go").touch()
    assert world.until_status(id, "succeeded", "failed").status == "succeeded"


def test_pain_20_a_server_that_is_killed_and_started_again_ends_the_job(world: World) -> None:
    """Real processes, killed by SIGKILL: the first server, and later a process of the job while no server is there."""
    id = world.job("waits")

    def server() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "fake_jobs", "serve", str(world.runs), "waits"], env=os.environ)

    def wait(there: Callable[[], Any]) -> None:
        end = time.monotonic() + 60
        while not there():
            assert time.monotonic() < end, (world.get(id), world.events(id))
            time.sleep(0.01)

    first = server()
    wait(lambda: world.get(id).step == 3)
    pid = world.pid(id)
    first.kill()
    first.wait()
    assert pid and world.pid(id) == pid, "the process of the job lives on"
    second = server()
    wait(lambda: world.get(id).step == 3)
    assert world.pid(id) == pid
    second.kill()
    second.wait()
    os.kill(pid, signal.SIGKILL)
    gone(lambda: world.pid(id))
    third = server()
    wait(lambda: world.get(id).status not in ("running", "queued"))
    third.kill()
    third.wait()
    assert world.get(id).status == "succeeded" and runs.is_finished(world.runs / id)
    assert [event["data"]["step"] for event in world.events(id) if event["type"] == "metrics"] == [1, 2, 3, 4, 5, 6]


def test_a_process_that_ended_while_no_server_was_there_is_taken_up(world: World) -> None:
    id = world.job("waits")
    world.until_step(id, 3)
    (world.store.jobs / id / "go").touch()
    gone(lambda: world.pid(id))
    assert world.get(id).status == "running", "nobody was there to see it end"
    world.server()
    assert world.until_status(id, "succeeded", "failed").status == "succeeded"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_died_with_the_server_is_resumed(world: World, number: int) -> None:
    """A machine that restarts kills, or asks to stop, both."""
    id = world.job("waits")
    world.until_step(id, 3)
    os.kill(world.pid(id) or 0, number)
    gone(lambda: world.pid(id))
    world.server()
    done = world.until_status(id, "succeeded", "failed")
    assert done.status == "succeeded" and world.started.count(f"tune {id}") == 2


def test_a_server_killed_between_its_own_lines_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change of a job, and every start, is a moment at which the server may die; the next one ends the job all the same."""
    for moment in range(30):
        id = world.job("")
        left = [moment]

        def dying(function: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                return function(*arguments, **named)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(world.store, "change", dying(world.store.change))
            patch.setattr(world.runner, "_start", dying(world.runner._start))
            with suppress(KeyboardInterrupt):
                world.until_status(id, "succeeded", "failed")
        if left[0] >= 0:
            assert moment > 5, "there are at least as many moments as steps on the way of a job"
            return
        world.server()
        done = world.until_status(id, "succeeded", "failed")
        assert done.status == "succeeded", (moment, done.error)
        assert [event["message"] for event in world.events(id)].count("The job has successfully completed") == 1
    pytest.fail("the job came to no end by itself")


def test_what_was_uploaded_only_in_part_is_swept_away_by_the_next_server(world: World) -> None:
    kept = world.job("")
    world.store.add_file(File(id="file-1", created_at=1, filename="a", bytes=1, purpose="fine-tune"))
    for name in ("file-1", "file-2"):
        (world.store.files / name).write_bytes(b"x")
    (world.store.jobs / "ftjob-half").mkdir()
    _sweep(world.store)
    assert [entry.name for entry in world.store.files.iterdir()] == ["file-1"]
    assert [entry.name for entry in world.store.jobs.iterdir()] == [kept]


def test_beside_a_table_that_was_moved_away_nothing_is_swept(tmp_path: Path) -> None:
    """Uploads and run files are worth more than a tidy folder."""
    desk = Desk(Settings(runs=tmp_path), str)
    (desk.folder / "files").mkdir(parents=True)
    (desk.folder / "files" / "file-1").write_bytes(b"rows")
    desk.store()
    desk.end()
    assert (desk.folder / "files" / "file-1").exists()
    desk.store()
    desk.end()
    assert not (desk.folder / "files" / "file-1").exists(), "beside its own table it is half an upload"


# ------------------------------------------------------------------------------------------------------- pause, resume, cancel, limits


def test_a_paused_job_saves_and_waits_and_goes_on_when_it_is_resumed(world: World) -> None:
    id = world.job("waits")
    world.until_step(id, 3)
    world.steer(id, "paused")
    world.until(lambda: world.pid(id) is None)
    world.until(lambda: any("Paused after step 3" in event["message"] for event in world.events(id)))
    for _ in range(3):
        world.server().look()
    assert world.get(id).status == "paused" and world.started.count(f"tune {id}") == 1
    world.steer(id, "queued")
    assert world.until_status(id, "succeeded", "failed").status == "succeeded"
    assert world.started.count(f"tune {id}") == 2


def test_resumed_before_its_process_has_ended_a_job_waits_for_that(world: World) -> None:
    """Two processes never write one run: the second begins when the first is gone."""
    id = world.job("waits")
    world.until_step(id, 3)
    world.steer(id, "paused")
    world.runner.look()  # asks it to stop
    world.steer(id, "queued")
    assert world.until_status(id, "succeeded", "failed").status == "succeeded"
    assert not (world.store.jobs / id / "tune.err").read_text()


def test_a_job_that_ended_while_it_was_being_paused_has_succeeded(world: World) -> None:
    id = world.job("")
    world.until_status(id, "running")
    gone(lambda: world.pid(id))
    world.steer(id, "paused")
    assert world.until_status(id, "succeeded").status == "succeeded"


def test_a_paused_job_lets_the_next_one_run(world: World) -> None:
    first, second = world.job("waits"), world.job("")
    world.until_step(first, 3)
    assert world.get(second).status in ("validating_files", "queued")
    world.steer(first, "paused")
    assert world.until_status(second, "succeeded", "failed").status == "succeeded"
    assert world.get(first).status == "paused"


@pytest.mark.parametrize("scenario", ["waits", "deaf"])
def test_a_cancelled_job_leaves_no_process(world: World, scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that does not listen."""
    monkeypatch.setattr(jobs_run, "GRACE", 0.2)
    id = world.job(scenario)
    world.until_step(id, 1)
    world.steer(id, "cancelled")
    world.until(lambda: world.pid(id) is None)
    world.runner.look()
    assert world.get(id).status == "cancelled" and world.get(id).fine_tuned_model is None


def test_a_job_cancelled_while_it_is_checked_is_never_run(world: World) -> None:
    id = world.job("check hangs")
    world.until(lambda: world.pid(id))
    world.steer(id, "cancelled")
    world.until(lambda: world.pid(id) is None)
    world.runner.look()
    assert world.get(id).status == "cancelled" and world.started == [f"check {id}"]


@pytest.mark.parametrize("at_once", [1, 2])
def test_as_many_jobs_run_at_once_as_allowed_and_the_oldest_first(world: World, at_once: int) -> None:
    world.server(at_once)
    ids = [world.job("waits") for _ in range(3)]
    for id in ids[:at_once]:
        world.until_step(id, 3)
    world.until(lambda: all(world.get(id).status != "validating_files" for id in ids))
    for _ in range(3):
        world.runner.look()
    assert [world.get(id).status for id in ids] == ["running"] * at_once + ["queued"] * (3 - at_once)
    assert world.until_step(ids[0], 3) is None
    for id in ids:
        (world.store.jobs / id / "go").touch()
    for id in ids:
        assert world.until_status(id, "succeeded", "failed").status == "succeeded"


# ---------------------------------------------------------------------------------------------------------------- the process itself


def test_the_lock_is_held_from_the_first_moment_to_the_last(world: World) -> None:
    folder = world.store.jobs
    child = jobs_process.start(["fake_jobs", "check", "check hangs"], folder, name="x")
    assert child is not None and jobs_process.living(folder) == child
    assert jobs_process.start(["fake_jobs", "check", ""], folder, name="x") is None, "no second process beside a living one"
    jobs_process.end_at_once(child)
    gone(lambda: jobs_process.living(folder))


def test_secrets_of_the_server_do_not_reach_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BURNISH_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("HF_TOKEN", "needed to fetch a gated model")
    given = jobs_process.environment()
    assert "canary" not in given.values() and given["HF_TOKEN"] and "PATH" in given


def test_metrics_are_read_on_and_not_again(tmp_path: Path) -> None:
    """However a file grows: whole lines are read once, a torn one when it is whole, and a run that was resumed from its beginning."""
    run = runs.create(tmp_path / "run", resume=False)
    read = jobs_told.read_on(run, jobs_told.Read())
    assert read.records == []
    for number in range(1, 4):
        runs.log_metrics(run, {"step": number, "loss": float("nan")})
    read = jobs_told.read_on(run, read)
    assert [record["step"] for record in read.records] == [1, 2, 3] and read.records[0]["loss"] != read.records[0]["loss"]
    with run.metrics_jsonl.open("a") as file:
        file.write('{"step": 4')
    assert jobs_told.read_on(run, read).records == read.records
    with run.metrics_jsonl.open("a") as file:
        file.write("}\n")
    read = jobs_told.read_on(run, read)
    assert [record["step"] for record in read.records] == [1, 2, 3, 4] == [one["step"] for one in runs.read_metrics(run)]
    assert runs.rewind_metrics(run, 2) == 2
    runs.log_metrics(run, {"step": 3, "loss": 1.0})
    assert [record["step"] for record in jobs_told.read_on(run, read).records] == [1, 2, 3]
    runs.release(run)


# -------------------------------------------------------------------------------------------------------------------------- the table


def test_the_table_survives_many_threads(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs")
    job = Job(
        id="ftjob-1",
        created_at=1,
        status="queued",
        model="m",
        base="m",
        method={"type": "dpo", "dpo": {}},
        training_file="f",
        seed=0,
        extra={},
    )
    store.add_job(job)
    won: list[bool] = []

    def work() -> None:
        for number in range(20):
            store.tell("ftjob-1", Said("once", key=f"key:{number}"))
        won.append(store.change("ftjob-1", expect=["queued"], status="running"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert won.count(True) == 1, "a change of state happens once"
    page = store.page("events", {"job": "ftjob-1"}, after=None, limit=1000)
    assert page is not None and len(page[0]) == 20
    assert sqlite3.connect(store.path).execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_pages_give_everything_once_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs")
    for number in range(7):
        store.add_file(File(id=f"file-{number}", created_at=5, filename="x", bytes=1, purpose="fine-tune"))
    for newest_first in (True, False):
        seen: list[str] = []
        after, more = None, True
        while more:
            page = store.page("files", {}, after=after, limit=3, newest_first=newest_first)
            assert page is not None
            rows, more = page
            seen += [row["id"] for row in rows]
            after = rows[-1]["id"]
        expected = [f"file-{number}" for number in range(7)]
        assert seen == (expected[::-1] if newest_first else expected)
    assert store.page("files", {}, after="file-99", limit=3) is None


def test_a_table_of_another_kind_or_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "jobs.sqlite").write_bytes(b"no table at all, but long enough to be looked at" * 50)
    with pytest.raises(UsageError, match="cannot be read as a table of jobs"):
        Store(tmp_path / "a")
    store = Store(tmp_path / "b")
    tables = sqlite3.connect(store.path)
    tables.execute("PRAGMA user_version = 99")
    tables.commit()
    tables.close()
    with pytest.raises(UsageError, match="newer burnish"):
        Store(tmp_path / "b")
