"""Fine-tuning as against the hosted service, by its unmodified client: upload, job, events, checkpoints, and a server that is killed.

Pain: people who tune at a hosted service that closes have programs; they run here with another base_url.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from burnish import runs
from burnish.learning_rate import rate
from burnish.objectives import OBJECTIVES
from burnish.serve import jobs_check, jobs_desk, jobs_plan, jobs_process, jobs_told
from burnish.serve.jobs_store import Store
from burnish.techniques import TECHNIQUES
from cli_runs import Started, cli, digests, metrics, start, write_rows
from jobs_server import client_of, serving, until
from stub import make_stub

STEPS = 120
QUICK = {"evaluate.forgetting": False, "evaluate.baseline": False, "evaluate.max_tokens": 4, "dtype": "float32", "threads": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    make_stub(folder / "stub")
    write_rows(folder / "rows.jsonl", 40)
    write_rows(folder / "held.jsonl", 8, first=100)
    return folder


@pytest.mark.timeout(900)  # processes that import everything, on a machine that may do other work
def test_the_whole_flow_of_the_hosted_service(place: Path) -> None:
    """Upload, job, events, checkpoints, results, and a chat with what came out, without a restart of the server."""
    with serving(place, ("stub", place / "stub")) as client:
        training = client.files.create(file=place / "rows.jsonl", purpose="fine-tune")
        held = client.files.create(file=place / "held.jsonl", purpose="fine-tune")
        job = client.fine_tuning.jobs.create(
            model="stub",
            training_file=training.id,
            validation_file=held.id,
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 0.5}}},
            suffix="colours",
            seed=3,
            extra_body={"burnish": QUICK},
        )
        assert job.status == "validating_files" and job.fine_tuned_model is None
        done = until(client, job.id, "succeeded")
        assert done.error is None and done.finished_at >= done.created_at and done.trained_tokens > 0
        assert re.fullmatch(r"ft:stub:local:colours:[0-9a-f]{8}", done.fine_tuned_model)
        given = done.method.supervised.hyperparameters
        assert (given.n_epochs, given.batch_size, given.learning_rate_multiplier) == (2, 16, 0.5), (
            "auto is replaced by what was chosen"
        )
        events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))[::-1]
        said = [event.message for event in events]
        assert said[0].startswith("Created") and said[-1] == "The job has successfully completed"
        losses = [event.data["train_loss"] for event in events if event.type == "metrics" and "train_loss" in event.data]
        run = place / "runs" / job.id
        report = json.loads((run / "report.json").read_text())
        assert len(losses) == runs.read_status(run)["steps"] and losses[-1] < losses[0] and "perplexity" in report["scores"]
        usual = rate(TECHNIQUES["lora"], 64, OBJECTIVES["sft"])
        assert f"learning_rate = {usual / 2}" in (run / "run.toml").read_text(), "half of what the technique has by itself"
        checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
        assert checkpoints and checkpoints[0].step_number == len(losses) and checkpoints[0].metrics.train_loss == losses[-1]
        assert all((run / "checkpoints" / f"checkpoint-{one.step_number}").is_dir() for one in checkpoints)
        table = list(csv.DictReader(io.StringIO(client.files.content(done.result_files[0]).text)))
        assert [float(row["train_loss"]) for row in table if row["train_loss"]] == losses
        assert (
            any(row["valid_loss"] for row in table) and client.files.retrieve(done.result_files[0]).purpose == "fine-tune-results"
        )
        chat_with(client, done.fine_tuned_model)
        assert done.fine_tuned_model in [model.id for model in client.models.list()]
    with serving(place, ("stub", place / "stub")) as later:
        assert later.fine_tuning.jobs.retrieve(job.id) == done, "another server knows of it"
        assert done.fine_tuned_model in [model.id for model in later.models.list()]


def chat_with(client: openai.OpenAI, model: str) -> str:
    """Return what a model says, through the client."""
    messages: Any = [{"role": "user", "content": "colour 1 of the hill?"}]
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0)
    assert answer.model == model and answer.choices[0].message.role == "assistant"
    return answer.choices[0].message.content or ""


# ------------------------------------------------------------------------------------------------- killed, paused, resumed


class Server:
    """`burnish serve` as a process of its own, which may be killed."""

    def __init__(self, place: Path) -> None:
        self.process: Started = start("serve", "stub=./stub", "--port", 0, "--runs", "runs", "--jobs", 2, folder=place)
        self.process.wait_until(lambda: "/v1" in self.process.said())
        found = re.search(r"http://[^/]+/v1", self.process.said())
        assert found is not None
        self.client = client_of(found[0])

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.client.close()
        self.process.kill(number)
        self.process.wait()


def wait_for(there: Callable[[], Any], what: str, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, what
        time.sleep(0.03)


def step_of(run: Path) -> int:
    return max((line["step"] for line in metrics(run)), default=-1) if (run / "metrics.jsonl").exists() else -1


@pytest.mark.slow  # five processes that import everything; the same with processes of milliseconds: test_jobs_run
@pytest.mark.timeout(900)
def test_pain_20_killed_paused_and_resumed_a_job_ends_as_if_nothing_had_been(place: Path, tmp_path: Path) -> None:
    """Promise R14, pain 20: the server is killed, the job goes on; it is paused and resumed; the model is that of a quiet run."""
    shutil.copytree(place / "stub", tmp_path / "stub")
    server = Server(tmp_path)
    file = server.client.files.create(file=place / "rows.jsonl", purpose="fine-tune")
    extra = {**QUICK, "train.steps": STEPS, "save.every": 10, "evaluate.every": 60}
    job = server.client.fine_tuning.jobs.create(model="stub", training_file=file.id, seed=5, extra_body={"burnish": extra})
    run, folder = tmp_path / "runs" / job.id, tmp_path / "runs" / ".jobs" / "jobs" / job.id
    try:
        wait_for(lambda: step_of(run) >= 10, "the job runs")
        trainer = jobs_process.living(folder) or 0
        server.kill()
        at = step_of(run)
        wait_for(lambda: step_of(run) > at, "the job goes on without a server")
        os.kill(trainer, signal.SIGSTOP)  # so that it is not done before the next server is there
        server = Server(tmp_path)
        jobs = server.client.fine_tuning.jobs
        wait_for(lambda: f"Step {at}/" in jobs.list_events(job.id, limit=100).to_json(), "the new server tells of it")
        assert jobs.retrieve(job.id).status == "running" and jobs_process.living(folder) == trainer
        assert jobs.pause(job.id).status == "paused"
        wait_for(lambda: any("being paused" in event.message for event in jobs.list_events(job.id)), "it is told")
        os.kill(trainer, signal.SIGCONT)
        wait_for(lambda: any(event.message.startswith("Paused after") for event in jobs.list_events(job.id)), "the process ends")
        paused = step_of(run)
        assert runs.read_status(run)["state"] == "stopped" and paused < STEPS and jobs.retrieve(job.id).status == "paused"
        assert jobs.resume(job.id).status in ("queued", "running")
        done = until(server.client, job.id, "succeeded")
        messages = [event.message for event in jobs.list_events(job.id, limit=1000)]
        steps = [int(message.split()[1].split("/")[0]) for message in messages if "train loss" in message]
        assert steps == list(range(STEPS, 0, -1)), "each step is told once"
        chat_with(server.client, done.fine_tuned_model)
        chat_with(server.client, jobs.checkpoints.list(job.id).data[-1].fine_tuned_model_checkpoint)
        further = jobs.create(model=done.fine_tuned_model, training_file=file.id, suffix="more")
        assert str(run) in (folder.parent / further.id / "run.toml").read_text(), "a model is tuned further under its name"
        assert jobs.cancel(further.id).status == "cancelled"
        wait_for(lambda: jobs_process.living(folder.parent / further.id) is None, "a cancelled job leaves no process")
    finally:
        server.kill(signal.SIGTERM)
    quiet = cli("tune", "run.toml", "output=quiet", folder=folder)
    assert quiet.code == 0, quiet.err
    assert digests(run / "model") == digests(folder / "quiet" / "model") and metrics(run) == metrics(folder / "quiet")


# ------------------------------------------------------------------------------------------------------------------ every method

ASKED = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "colour of the hill?"}]
GRADER = {"type": "string_check", "name": "g", "operation": "eq", "input": "{{sample.output_text}}", "reference": "{{item.answer}}"}
METHODS: dict[str, tuple[dict[str, Any], Callable[[int], dict[str, Any]], tuple[str, ...]]] = {
    "supervised": (
        {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 8}}},
        lambda n: {
            "messages": [
                {"role": "user", "content": f"first {n}?"},
                {"role": "assistant", "content": "never learned", "weight": 0},
                {"role": "user", "content": f"colour {n}?"},
                {"role": "assistant", "content": f"green {n}", "weight": 1},
            ],
            "parallel_tool_calls": False,
        },
        ("perplexity",),
    ),
    "dpo": (
        {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "beta": 0.2, "learning_rate_multiplier": 2}}},
        lambda n: {
            "input": {
                "messages": [*ASKED[:1], {"role": "user", "content": f"colour {n}?"}],
                "tools": [],
                "parallel_tool_calls": True,
            },
            "preferred_output": [{"role": "assistant", "content": f"green {n}"}],
            "non_preferred_output": [{"role": "assistant", "content": f"no idea {n}"}],
        },
        ("preference_accuracy",),
    ),
    "reinforcement": (
        {
            "type": "reinforcement",
            "reinforcement": {"grader": GRADER, "hyperparameters": {"n_epochs": 1, "compute_multiplier": 0.25}},
        },
        lambda n: {"messages": [*ASKED[:1], {"role": "user", "content": f"{n} and {n}?"}], "answer": 2 * n, "level": "easy"},
        ("exact_match(strict=true)",),
    ),
}


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_is_carried_out_from_files_of_the_hosted_form(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What the processes of a job do, one after the other, in this process."""
    monkeypatch.setattr(jobs_desk.Runner, "begin", lambda self: None)
    method, row, scores = METHODS[kind]
    rows = "".join(json.dumps(row(number)) + "\n" for number in [*range(40), 0])
    with serving(tmp_path, ("stub", place / "stub")) as client:
        file = client.files.create(file=("rows.jsonl", rows.encode()), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(
            model="stub",
            training_file=file.id,
            seed=1,
            method=method,
            extra_body={"burnish": {**QUICK, "data.near_duplicates": False}},
        )
    store = Store(tmp_path / "runs" / ".jobs")
    entered = store.job(job.id)
    assert entered is not None
    folder = store.jobs / job.id
    found = jobs_check.check(folder)
    assert found["error"] is None, found["error"]
    assert found["train"] + found["dev"] + found["test"] == 41 and found["dev"] and found["test"]
    assert any(one["level"] == "warn" and "training.jsonl:41" in one["message"] for one in found["findings"]), found["findings"]
    hyperparameters = jobs_plan.spelled_out(entered, found)[kind]["hyperparameters"]
    assert {"n_epochs", "batch_size", "learning_rate_multiplier"} <= set(hyperparameters) and "auto" not in hyperparameters.values()
    multiplier = method[kind]["hyperparameters"].get("learning_rate_multiplier")
    jobs_plan.write(folder, jobs_plan.with_found(json.loads((folder / "values.json").read_text()), found, multiplier))
    done = cli("tune", "run.toml", "--resume", "--json", folder=folder)
    assert done.code == 0, done.err
    run = runs.Run(tmp_path / "runs" / job.id)
    assert set(scores) <= set(json.loads(run.report_json.read_text())["scores"])
    records = runs.read_metrics(run)
    assert jobs_told.trained_tokens(records) > 0
    figures = jobs_told.table(records).decode().splitlines()[0].split(",")
    assert figures[:2] == ["step", "train_loss"] and any(name.startswith("valid_") for name in figures)
    used = float(next(line for line in run.run_toml.read_text().splitlines() if line.startswith("learning_rate")).split()[2])
    assert used == pytest.approx(found["learning_rate"] * (multiplier or 1))


# ------------------------------------------------------------------------------------------------------- files that cannot be used

BAD = """{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
{"messages": [{"role": "usr", "content": "a"}, {"role": "assistant", "content": "b"}]}

{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 2}]}
{"prompt": "a", "completion": "b"}
"""


def test_what_is_wrong_with_a_file_is_the_jobs_error_with_its_lines(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check runs in this process; that what it found becomes the job's error is held in test_jobs_run."""
    monkeypatch.setattr(jobs_desk.Runner, "begin", lambda self: None)
    with serving(tmp_path, ("stub", place / "stub")) as client:
        bad = client.files.create(file=("mine.jsonl", BAD.encode()), purpose="fine-tune").id
        good = client.files.create(file=place / "rows.jsonl", purpose="fine-tune").id
        pair = {"type": "dpo"}
        for training, held, param, method in (
            (bad, None, "training_file", None),
            (good, bad, "validation_file", None),
            (good, None, "training_file", pair),
        ):
            given = {"validation_file": held, **({} if method is None else {"method": method})}
            job = client.fine_tuning.jobs.create(model="stub", training_file=training, **given)  # type: ignore[arg-type]
            folder = tmp_path / "runs" / ".jobs" / "jobs" / job.id
            error = jobs_check.check(folder)["error"]
            assert error["code"] == f"invalid_{param}" and error["param"] == param, error
            assert str(tmp_path) not in error["message"]
            name = {"training_file": "training", "validation_file": "validation"}[param]
            if method is not None:
                assert "chosen and rejected" in error["message"]
                continue
            for line, says in ((2, "JSON"), (3, "role 'usr'"), (5, "weight is 2"), (6, "messages")):
                assert re.search(rf"{name}\.jsonl:{line}: .*{re.escape(says)}", error["message"]), error["message"]
