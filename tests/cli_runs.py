"""Runs of the command line for tests: rows, run files, calls inside this process, and real processes that may be killed.

A process costs five seconds of imports. So one server imports everything once and forks: each fork is a process of its own, with its
own exit code, signals and limits, and costs a few milliseconds. Calls that need no process of their own use `cli`.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TIMES = {"tokens_per_second"}
"""The fields of a metrics line that a clock decides."""

PLACES = ("lake", "hill", "old mill", "harbour", "square", "north gate", "bakery", "river", "tower", "station", "bridge", "park")
COLOURS = ("blue", "green", "red and white", "grey", "black", "yellow as corn", "brown")


# -------------------------------------------------------------------------------------------------------------- rows and run files


def write_rows(path: Path, count: int = 24, *, first: int = 0) -> Path:
    """Write dialogs of unequal length, no two alike, as JSON lines."""
    lines = []
    for number in range(first, first + count):
        place, colour = PLACES[number % len(PLACES)], COLOURS[number % len(COLOURS)]
        question = f"colour {number} of the {place}? " * (1 + number % 3)
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": f"{colour} {number}"}]
        lines.append(json.dumps({"messages": turns}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_labelled(path: Path, count: int = 40) -> Path:
    """Write messages of two categories as JSON lines."""
    rows = [
        {
            "text": f"message {number}: {'the lamp is dark' if number % 2 else 'where is my parcel'}",
            "label": ("lamp", "parcel")[number % 2 == 0],
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


SETTINGS: Mapping[str, Any] = {
    "seed": 5,
    "dtype": "float32",
    "threads": 1,
    "score": ["exact_match", "bits_per_byte"],
    "data.dev_share": 0.2,
    "data.test_share": 0.2,
    "data.near_duplicates": False,
    "technique.name": "lora",
    "train.steps": 6,
    "train.batch": 4,
    "evaluate.max_tokens": 4,
    "evaluate.baseline": False,
    "evaluate.forgetting": False,
    "save.every": 4,
    "log.every": 1,
    "log.tensorboard": False,
}
"""What every run of these tests shares, so that one takes about a second."""


def write_run(folder: Path, model: Path | str, *, name: str = "run.toml", **changes: Any) -> Path:
    """Write a run file; `changes` are dotted names with underscores doubled, None takes a value away."""
    values = {"model": str(model), "data.source": "rows.jsonl", "output": str(folder / "out"), **SETTINGS}
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    lines = [f"{key} = {_literal(value)}" for key, value in values.items() if value is not None]
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_literal(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(_literal, value)) + "]" if isinstance(value, list) else json.dumps(value)


# ------------------------------------------------------------------------------------------------------------ inside this process


@dataclass(frozen=True)
class Done:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON value that it must be."""
        return json.loads(self.out)

    @property
    def message(self) -> str:
        """What a user was told, without progress."""
        return self.err[self.err.find("Error: ") :] if "Error: " in self.err else self.err


def cli(*arguments: Any, folder: Path | None = None, typed: str = "") -> Done:
    """Call the command line inside this process, from `folder`, with `typed` on standard input."""
    from burnish.cli import main

    out, err, before, stdin = io.StringIO(), io.StringIO(), Path.cwd(), sys.stdin
    os.chdir(folder or before)
    sys.stdin = io.StringIO(typed)
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    finally:
        os.chdir(before)
        sys.stdin = stdin
    return Done(int(code or 0), out.getvalue(), err.getvalue())


# ------------------------------------------------------------------------------------------------------------- real processes


@dataclass(frozen=True)
class Started:
    """A process under way, made by the server."""

    pid: int
    log: Path

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> Done:
        """Wait for its end; the code is negative where a signal ended it."""
        code = _asked({"wait": self.pid})["code"]
        return Done(code, self.log.with_suffix(".out").read_text("utf-8"), self.log.with_suffix(".err").read_text("utf-8"))

    def said(self) -> str:
        """What it told its user up to now."""
        return self.log.with_suffix(".err").read_text("utf-8")

    def wait_until(self, there: Callable[[], bool], *, seconds: float = 60.0) -> None:
        """Wait until something has happened, looking very often."""
        end = time.monotonic() + seconds
        while not there():
            assert time.monotonic() < end, f"did not happen in {seconds} s; the process said:\n{self.said()}"
            time.sleep(0.002)


def start(*arguments: Any, folder: Path, file_bytes: int = 0) -> Started:
    """Start the command line as a process of its own; `file_bytes` limits the size of every file that it writes."""
    number = _asked({})["number"]
    log = folder / f".call-{number}"
    job = {"arguments": [str(item) for item in arguments], "folder": str(folder), "log": str(log), "file_bytes": file_bytes}
    return Started(_asked(job)["pid"], log)


def process(*arguments: Any, folder: Path, file_bytes: int = 0) -> Done:
    """Run the command line as a process of its own, to its end."""
    return start(*arguments, folder=folder, file_bytes=file_bytes).wait()


def _asked(request: Mapping[str, Any]) -> dict[str, Any]:
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    assert answer, "the server of processes has ended"
    return json.loads(answer)


def environment() -> dict[str, str]:
    """Return the environment of a fresh Python process that finds burnish in the source tree."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }


@cache
def _server() -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).resolve())]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())

    def end() -> None:
        for pipe in (server.stdin, server.stdout):
            if pipe is not None:
                pipe.close()
        server.wait()

    atexit.register(end)
    return server


def serve() -> None:
    """Import everything, then fork a process per request line; end with the end of standard input."""
    import importlib

    for name in ("cli", "api", "tune", "finish", "starting"):
        importlib.import_module(f"burnish.{name}")
    for name in ("peft", "transformers.models.llama.modeling_llama", "torch.utils.tensorboard"):
        importlib.import_module(name)
    for number, line in enumerate(sys.stdin):
        request = json.loads(line)
        if "wait" in request:
            answer = {"code": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
        elif "arguments" in request:
            answer = {"pid": _forked(request)}
        else:
            answer = {"number": number}
        print(json.dumps(answer), flush=True)


def _forked(request: Mapping[str, Any]) -> int:
    for name in (".out", ".err"):
        Path(request["log"] + name).touch()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        for name, descriptor in ((".out", 1), (".err", 2)):
            os.dup2(os.open(request["log"] + name, os.O_WRONLY | os.O_TRUNC), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115
        os.chdir(request["folder"])
        if request["file_bytes"]:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"], resource.RLIM_INFINITY))
        from burnish.cli import main

        main(request["arguments"])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# -------------------------------------------------------------------------------------------------------------- what a run left


def digests(folder: Path, pattern: str = "*.safetensors") -> dict[str, str]:
    """Return the sha256 of the files below a folder that a pattern names."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob(pattern))
    }


def last_checkpoint(output: Path) -> Path:
    """Return the newest checkpoint folder of a run."""
    return max((output / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def metrics(output: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run without what a clock decides."""
    lines = (output / "metrics.jsonl").read_text("utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def result(output: Path) -> dict[str, Any]:
    """Return everything of a run that must be the same however it was carried out: weights, optimizer, random state, metrics, scores."""
    report = json.loads((output / "report.json").read_text("utf-8"))
    last = last_checkpoint(output)
    return {
        "model": digests(output / "model"),
        "last checkpoint": {"name": last.name, **digests(last)},
        "metrics": metrics(output),
        "scores": report["scores"],
        "answers": (output / "answers.jsonl").read_text("utf-8"),
    }


def tree(folder: Path) -> dict[str, str]:
    """Return every file of a folder with the sha256 of its content, to prove that nothing was changed."""
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    yield from (file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".call-"))


def refused(done: Done, *parts: str, code: int = 2) -> str:
    """Assert that a call failed with this code and one clear message that holds all parts, and return the message."""
    assert done.code == code, f"exit code {done.code}:\n{done.err}"
    assert "Traceback" not in done.err and "fault in burnish" not in done.err, done.err
    assert len(re.findall("^Error: ", done.err, flags=re.MULTILINE)) == 1, done.err
    for part in parts:
        assert re.search(part, done.message), f"{part!r} is not in:\n{done.message}"
    return done.message


if __name__ == "__main__":
    serve()
