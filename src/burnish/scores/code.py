"""Scores of answers that are Python: whether they parse, pass tests, and are free of what a linter finds.

In: answers with code in a Markdown fence, or that are nothing but code. Out: statistics [rows, 2] that add up. Tests run what a model
wrote, so they run only where asked for, each in a process of its own (`confined`): an isolated interpreter without site-packages, an
empty environment, a temporary folder, limits on CPU and wall time, memory, file size and open files, and no new processes (a limit
that the system does not hold against root). This is no strong sandbox: the network, and files that this user may read or write, are
not protected. Run it under a user or in a container that has nothing to lose.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from burnish.errors import ConfigError
from burnish.scores.parts import has_texts, is_generated, means, text_of
from burnish.types import Answer, Task

LONGEST = 100_000
"""Characters of code that are looked at; more is junk, and would only take time."""
MOST_TESTS = 50
FILE_BYTES = 1_000_000

_FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def python_code(
    answers: Sequence[Answer],
    tasks: Sequence[Task],
    *,
    tests: Literal["none", "expected"] = "none",
    seconds: float = 5.0,
    memory: int = 512,
) -> np.ndarray:
    """Share of answers that are Python code; with tests, the share of tests that the code passes.

    Statistics [rows, 2]. `tests = "expected"` runs the code with each assertion of the row's expected texts, whose other statements
    prepare them all; a text without assertions is one test. `seconds` limits each test, on the clock and of CPU; `memory` is in MiB.
    The code is run with few protections: see the module. Raises ConfigError for options out of range, or where the system has no
    limits on processes.
    """
    if tests not in ("none", "expected") or not 0 < seconds < 1e6 or memory < 64:
        raise ConfigError(
            f"python_code: tests = {tests!r}, seconds = {seconds}, memory = {memory}: expected none or expected, a number of seconds "
            f"above 0, and at least 64 MiB."
        )
    if tests == "expected" and os.name != "posix":
        raise ConfigError("python_code: tests need limits on processes, which this system does not have. Use tests = 'none'.")

    def value(answer: Answer, task: Task) -> float | None:
        if not is_generated(task) or (tests == "expected" and not has_texts(task)):
            return None
        code = code_of(text_of(answer))
        if not _is_code(code) or tests == "none":
            return float(_is_code(code))
        cases = [case for text in task.expected.texts for case in _cases(text)][:MOST_TESTS]
        return float(np.mean([passes(code, case, seconds=seconds, memory=memory) for case in cases]))

    return means(value(answer, task) for answer, task in zip(answers, tasks, strict=True))


def python_clean(answers: Sequence[Answer], tasks: Sequence[Task], *, select: str = "") -> np.ndarray:
    """Share of answers that are Python code in which ruff finds nothing, by its default rules or those that `select` names.

    Statistics [rows, 2]. `select` is ruff's own, such as "E,F,N,ANN,D103". The code is read and not run. Raises ConfigError where ruff is not
    installed, or knows no such rule.
    """
    ruff = _ruff()
    rules = ["--select", select] if select else []
    if rules and (told := _rules_refused(ruff, tuple(rules))):
        raise ConfigError(
            f"python_clean: select = {select!r}: {told} Expected rules of ruff by their codes, such as E,F,N,ANN,D103."
        )

    def clean(code: str) -> bool:
        command = [ruff, "check", "--isolated", "--quiet", "--no-cache", *rules, "--stdin-filename", "answer.py", "-"]
        done = subprocess.run(command, input=code.encode(), capture_output=True, timeout=60, check=False)
        return done.returncode == 0

    def value(answer: Answer, task: Task) -> float | None:
        if not is_generated(task):
            return None
        code = code_of(text_of(answer))
        return float(_is_code(code) and clean(code))

    return means(value(answer, task) for answer, task in zip(answers, tasks, strict=True))


def code_of(text: str) -> str:
    """Return the code of an answer: its first fence that says Python, else its first fence, else all of it."""
    if "```" not in text:
        return text
    fences = [(match[1].lower(), match[2]) for match in _FENCE.finditer(text[:LONGEST])]
    named = [body for language, body in fences if language in ("python", "py", "python3")]
    return next(iter(named or [body for _, body in fences]), text)


def _is_code(code: str) -> bool:
    """Return whether a text is Python that does something: a lone word or number is prose."""
    tree = _parsed(code)
    return tree is not None and any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Name | ast.Constant)) for node in tree.body
    )


def _parsed(code: str) -> ast.Module | None:
    """Return the syntax tree, or None for what is no Python, whatever it is."""
    if len(code) > LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in a model's strings are not ours to complain of
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _cases(text: str) -> list[str]:
    """Return the tests in a text: each assertion at its outermost level, after all other statements; or the whole text."""
    tree = _parsed(text)
    asserts = [] if tree is None else [node for node in tree.body if isinstance(node, ast.Assert)]
    if tree is None or not asserts:
        return [text]
    given = "\n".join(ast.unparse(node) for node in tree.body if not isinstance(node, ast.Assert))
    return [f"{given}\n{ast.unparse(node)}" for node in asserts]


def passes(code: str, test: str, *, seconds: float, memory: int) -> bool:
    """Return whether code and test, one behind the other, run to their end in a confined process; `memory` in MiB.

    Ending early, with whatever exit code, is failing: the process must hand back a word that the code is not told.
    """
    word = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="burnish-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "answer.py"
        path.write_text(f"{code}\n\n{test}\n", encoding="utf-8", errors="replace")
        limits = [str(max(1, round(seconds))), str(memory * 2**20), str(FILE_BYTES)]
        command = [sys.executable, "-I", "-S", "-B", str(Path(__file__).with_name("confined.py")), str(path), *limits]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.communicate(word.encode() + b"\n", timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        finally:
            # The whole session: what the code started must not outlive it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        reached = Path(folder) / "reached"
        return reached.is_file() and reached.read_bytes().strip() == word.encode()


@cache
def _rules_refused(ruff: str, rules: tuple[str, ...]) -> str:
    command = [ruff, "check", "--isolated", "--quiet", "--no-cache", *rules, "--stdin-filename", "answer.py", "-"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
    return "" if done.returncode in (0, 1) else " ".join(done.stderr.decode(errors="replace").split())[:300]


def _ruff() -> str:
    """Return the path of ruff: that of this environment, else the first on PATH."""
    beside = Path(sys.executable).with_name("ruff")
    found = str(beside) if beside.is_file() else shutil.which("ruff")
    if found is None:
        raise ConfigError("score 'python_clean' needs ruff, which is not installed. Install it: pip install ruff")
    return found
