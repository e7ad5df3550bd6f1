"""Carries jobs out: each a process of its own that runs `burnish tune`, as many at once as allowed, none lost whatever dies.

Enters: the table of jobs, and run directories. Leaves: both in agreement. `Runner.look` is the whole of it: for each job that is not at its
end it looks whether a process lives and what the run directory says, and does what follows. It keeps nothing that the next look needs, so
a server that was killed goes on where it was: processes that still run are found again, those that died are resumed from their last
checkpoint.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish import atomic, runs
from burnish.errors import BurnishError
from burnish.serve import jobs_check, jobs_plan, jobs_told
from burnish.serve.jobs_process import ask_to_stop, end_at_once, living, reap, start
from burnish.serve.jobs_rows import OPEN, File, Job, Said, new_id
from burnish.serve.jobs_store import Store
from burnish.serve.problems import LOG

CHECK = ["burnish.serve.jobs_check"]
TUNE = ["burnish", "tune", jobs_plan.RUN_FILE, "--resume", "--json"]
CHECK_BEGAN = "check.err"
"""What is there from when the check of a job has begun."""
MOST_DEATHS = 3
"""Deaths of a process without a step in between, after which a job fails: what kills it will kill it again."""
GRACE = 20.0
"""Seconds that the process of a cancelled job has to end by itself."""
SECONDS = 0.5
"""Between two looks."""

Start = Callable[..., int | None]


class Runner:
    """What carries jobs out; a class because its thread is state."""

    def __init__(self, store: Store, runs_folder: Path, *, at_once: int = 1, start: Start = start) -> None:
        self.store, self.runs, self.at_once = store, runs_folder, at_once
        self._start = start
        self._asked: dict[str, float] = {}
        self._gone: set[str] = set()
        self._complained: dict[str, str] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._read: dict[str, jobs_told.Read] = {}
        self._told: dict[str, set[str]] = {}
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    # --------------------------------------------------------------------------------------------------------------- the thread

    def begin(self) -> None:
        """Begin to look again and again, in a thread of its own."""
        self._thread = threading.Thread(target=self._loop, name="burnish-jobs", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop looking. The processes of jobs go on: the next server finds them."""
        self._over.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def wake(self) -> None:
        """Look now, because something has changed."""
        self._wake.set()

    def _loop(self) -> None:
        while not self._over.is_set():
            self._wake.clear()
            try:
                self.look()
            except Exception as error:  # the thread must live: what failed is tried again at the next look
                LOG.error("jobs: %s: %s", type(error).__name__, error)
            self._wake.wait(SECONDS)

    # ----------------------------------------------------------------------------------------------------------------- the look

    def look(self) -> None:
        """Bring the table and the world into agreement, once."""
        reap()
        for state, do in (("running", self._running), ("paused", self._paused), ("cancelled", self._cancelled)):
            for job in self.store.jobs_in(state):
                if job.id not in self._gone:
                    self._tried(job, do)
        self._check()
        self._begin()

    def _tried(self, job: Job, do: Callable[[Job], None]) -> None:
        """Do something for a job; what the disk refuses is tried again, and a fault of ours ends this job and no other."""
        try:
            do(job)
        except (BurnishError, OSError, sqlite3.Error) as error:
            if self._complained.get(job.id) != str(error):
                LOG.error("jobs: %s: %s", job.id, error)
            self._complained[job.id] = str(error)
        except Exception as error:
            LOG.error("jobs: %s: a fault in burnish: %s: %s", job.id, type(error).__name__, error)
            if pid := living(self.folder_of(job)):
                end_at_once(pid)  # a job that has failed leaves no process
            self._fail(
                job, {"code": "job_failed", "message": f"A fault in burnish ({type(error).__name__}): see its log.", "param": None}
            )

    def run_of(self, job: Job) -> runs.Run:
        """Return the run directory of a job."""
        return runs.Run(self.runs / job.id)

    def folder_of(self, job: Job) -> Path:
        """Return the folder of a job: its run file and copies of its files."""
        return self.store.jobs / job.id

    def _check(self) -> None:
        """Take up what checks found, and begin the next one; one at a time."""
        for job in self.store.jobs_in("validating_files"):
            if living(self.folder_of(job)) is None:
                self._tried(job, self._checked)
        waiting = self.store.jobs_in("validating_files")
        if any(living(self.folder_of(job)) is not None for job in waiting):
            return
        # One that ended just now has begun, and is taken up at the next look.
        fresh = [job for job in waiting if not (self.folder_of(job) / CHECK_BEGAN).exists()]
        if fresh:
            self._tried(fresh[0], lambda job: self._launch(job, CHECK, "check"))

    def _checked(self, job: Job) -> None:
        """Take up what the check of a job found, where it has ended."""
        result = self.folder_of(job) / jobs_check.RESULT
        if not result.is_file():
            if (self.folder_of(job) / CHECK_BEGAN).exists():
                self._died(job, "check")
            return
        found = json.loads(result.read_text(encoding="utf-8"))
        if found["error"] is not None:
            self._fail(job, found["error"])
            return
        values = json.loads((self.folder_of(job) / "values.json").read_text(encoding="utf-8"))
        given = (job.method[job.method["type"]].get("hyperparameters") or {}).get("learning_rate_multiplier")
        jobs_plan.write(self.folder_of(job), jobs_plan.with_found(values, found, given))
        rows = f"{found['train']} rows to learn from, {found['dev']} and {found['test']} held out; {found['steps']} steps"
        said = [Said(f"Files validated, moving job to queued state: {rows}", key="validated")]
        said += [Said(one["message"], level=one["level"], key=f"finding:{number}") for number, one in enumerate(found["findings"])]
        method = jobs_plan.spelled_out(job, found)
        self.store.change(job.id, *said, expect=["validating_files"], status="queued", method=method, deaths=0)

    def _begin(self) -> None:
        """Begin queued jobs, the oldest first, as far as there is room."""
        under_way = [job for job in self.store.jobs_in("running", "paused", "cancelled") if job.id not in self._gone]
        busy = sum(living(self.folder_of(job)) is not None for job in under_way)
        for job in self.store.jobs_in("queued"):
            if busy >= self.at_once:
                return
            if living(self.folder_of(job)) is not None:  # paused and resumed before it had ended: it has to end first
                busy += 1
                continue
            self._tried(job, self._started)
            busy += 1

    def _started(self, job: Job) -> None:
        began = Said("Fine-tuning job started", key="started")
        if self.store.change(job.id, began, expect=["queued"], status="running", signalled=None):
            self._launch(job, TUNE, "tune")

    def _launch(self, job: Job, arguments: list[str], name: str) -> None:
        self._start(arguments, self.folder_of(job), name=name)

    # ----------------------------------------------------------------------------------------------------------- jobs under way

    def _running(self, job: Job) -> None:
        """Tell how far a running job is, or take up how it ended."""
        lives = living(self.folder_of(job)) is not None
        job = self._progress(job)
        if lives:
            return
        run = self.run_of(job)
        state = runs.read_status(run.path)["state"] if run.status_json.exists() else None
        error = self._error_of(job)
        if state == "finished":
            self._finish(job)
        elif error is not None and error["exit_code"] not in (130, 143):
            self._fail(job, jobs_check.told(error["kind"], error["message"]))
        elif state == "stopped" or error is not None:
            said = Said("The process was stopped by the system after saving; it goes on from there", level="warn")
            self.store.change(job.id, said, expect=["running"], status="queued")
        else:
            self._died(job, "tune")

    def _paused(self, job: Job) -> None:
        """Let the process of a paused job save and end; one that came to its end meanwhile has succeeded."""
        pid = living(self.folder_of(job))
        job = self._progress(job)
        if pid is None:
            if runs.is_finished(self.run_of(job).path):
                self._finish(job)
            elif job.signalled is not None:
                self.store.change(
                    job.id, Said(f"Paused after step {job.step}, everything saved"), expect=["paused"], signalled=None
                )
        elif pid and job.signalled != pid:  # asked once: a second signal would end it before it has saved
            ask_to_stop(pid)
            self.store.change(job.id, expect=["paused"], signalled=pid)

    def _cancelled(self, job: Job) -> None:
        """End the process of a cancelled job, in the end without asking."""
        pid = living(self.folder_of(job))
        if not pid:
            if pid is None:
                self._gone.add(job.id)
            return
        asked = self._asked.setdefault(job.id, time.monotonic())
        if job.signalled != pid:
            ask_to_stop(pid)
            self.store.change(job.id, signalled=pid)
        elif time.monotonic() - asked > GRACE:
            end_at_once(pid)

    def _progress(self, job: Job) -> Job:
        """Tell what the run directory says beyond what was told, and return the job with how far it is."""
        run = self.run_of(job)
        if not run.status_json.exists():
            return job
        mark = _mark(run)
        if self._seen.get(job.id) == mark:
            return job
        status = runs.read_status(run.path)
        self._read[job.id] = jobs_told.read_on(run, self._read.get(job.id, jobs_told.Read()))
        found = self._read[job.id].records
        if job.id not in self._told:
            self._told[job.id] = self.store.told(job.id)
        known = self._told[job.id]
        said = jobs_told.told(found, known, status["steps"])
        there = jobs_told.checkpoints(run, found)
        said += [
            Said(f"Checkpoint created at step {step} with name {jobs_told.checkpoint_name(job, step)}", key=f"checkpoint:{step}")
            for step in sorted(there)
            if f"checkpoint:{step}" not in known
        ]
        self.store.set_checkpoints(job.id, there)
        step = max(job.step, found[-1]["step"] if found else 0)
        values: dict[str, Any] = {"step": step, "trained_tokens": jobs_told.trained_tokens(found) or None}
        if job.status == "running":
            values["estimated_finish"] = jobs_told.estimated_finish(found, step, status["steps"])
        if step > job.step:
            values["deaths"] = 0
        self.store.change(job.id, *said, **values)
        known.update(one.key for one in said if one.key is not None)
        self._seen[job.id] = mark
        return replace(job, **values)

    # ------------------------------------------------------------------------------------------------------------------ endings

    def _finish(self, job: Job) -> None:
        """Enter what a finished run left: its model under a name, its metrics as a file."""
        run = self.run_of(job)
        content = jobs_told.table(runs.read_metrics(run))
        file = File(
            id=new_id("file-"),
            created_at=int(time.time()),
            filename="step_metrics.csv",
            bytes=len(content),
            purpose="fine-tune-results",
        )
        atomic.write_file(self.store.content(file), content)
        name = jobs_told.model_name(job)
        said = (
            Said(f"New fine-tuned model created: {name}", key="model"),
            Said("The job has successfully completed", key="completed"),
        )
        done = self.store.change(
            job.id,
            *said,
            expect=["running", "paused"],
            file=file,
            status="succeeded",
            fine_tuned_model=name,
            finished_at=jobs_told.ended_at(runs.read_status(run.path)),
            result_files=[file.id],
            estimated_finish=None,
        )
        for kept in (self._seen, self._read, self._told):
            kept.pop(job.id, None)
        if not done:
            self.store.content(file).unlink(missing_ok=True)

    def _fail(self, job: Job, error: Mapping[str, Any]) -> None:
        said = Said(f"The job failed: {error['message']}", level="error")
        self.store.change(
            job.id, said, expect=OPEN, status="failed", error=error, finished_at=int(time.time()), estimated_finish=None
        )

    def _died(self, job: Job, name: str) -> None:
        """Begin again a process that died without a word, unless it dies again and again."""
        deaths = job.deaths + 1
        if deaths > MOST_DEATHS:
            last = _last_lines(self.folder_of(job) / f"{name}.err")
            text = f"The process died {deaths} times without getting further (killed, or out of memory). It said last: {last}"
            self._fail(job, {"code": "job_failed", "message": runs.redact(text), "param": None})
            return
        if name == "check":
            (self.folder_of(job) / CHECK_BEGAN).unlink(missing_ok=True)
            self.store.change(job.id, expect=["validating_files"], deaths=deaths)
            return
        said = Said(f"The process died after step {job.step}; it goes on from its last checkpoint", level="warn")
        self.store.change(job.id, said, expect=["running"], status="queued", deaths=deaths)

    def _error_of(self, job: Job) -> dict[str, Any] | None:
        """Return the error that the process of a job ended with, None where it told of none."""
        try:
            said = json.loads((self.folder_of(job) / "tune.out").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        error = said.get("error") if isinstance(said, dict) else None
        return error if isinstance(error, dict) and {"kind", "message", "exit_code"} <= set(error) else None


def _mark(run: runs.Run) -> tuple[int, int]:
    """Return what changes when a run directory has something new to say."""
    total = 0
    newest = 0
    for path in (run.metrics_jsonl, run.status_json, run.checkpoints):
        try:
            found = path.stat()
        except OSError:
            continue
        total, newest = total + found.st_size, max(newest, found.st_mtime_ns)
    return total, newest


def _last_lines(file: Path) -> str:
    try:
        text = file.read_bytes()[-2000:].decode(errors="replace")
    except OSError:
        return "nothing"
    return " / ".join(line.strip() for line in text.splitlines()[-3:] if line.strip()) or "nothing"
