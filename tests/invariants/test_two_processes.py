"""Two processes = one process: the same steps over gloo, whatever each process holds of them, and one end for both."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ranks import CASES, trajectories

from burnish.devices import Ranks
from stub import make_stub

HERE = Path(__file__).resolve().parent


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("ranks") / "stub")


@pytest.fixture(scope="module")
def both(folder: Path) -> list[dict[str, Any]]:
    """What each of two processes reports; started as torchrun starts them, one thread each, so that they do not starve each other."""
    result = folder.parent / "result"
    settings = {
        **os.environ,
        "PYTHONPATH": f"{HERE.parents[1] / 'src'}",
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "ranks.py"), str(folder), str(result)],
            env=settings | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    printed = []
    try:
        printed = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(printed)
    return [json.loads(Path(f"{result}.{rank}").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    return trajectories(str(folder), Ranks())


@pytest.mark.parametrize("case", [*CASES, "attempts"])
def test_two_processes_equal_one(case: str, both: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    """Losses (rewards of attempts), gradient norms and token counts of five steps within 1e-5; both processes end with the same weights, bit for bit."""
    first, second = (report[case] for report in both)
    one = alone[case]
    assert first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert first["norms"] == pytest.approx(one["norms"], rel=1e-4)
    assert first["tokens"] == one["tokens"]
    assert first["digest"] == second["digest"]
    assert first["sum"] == pytest.approx(one["sum"], rel=1e-5)


def test_the_cases_are_as_uneven_as_they_say(both: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    """The comparison means something: micro-batches are divided without rest, with one, and so that a process has none."""
    parts = {case: list(zip(both[0][case]["parts"], both[1][case]["parts"], strict=True)) for case in CASES}
    assert all(second == 0 for _, second in parts["idle"])
    assert any(first != second for first, second in parts["uneven"])
    assert all(sum(pair) == whole for case in CASES for pair, whole in zip(parts[case], alone[case]["parts"], strict=True))


def test_what_one_process_finds_of_its_memory_both_keep(both: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    """One of them ran out of memory and divided its part; the bound is the same on both, and the run, above, what it would have been."""
    first, second = (report["short"]["room"] for report in both)
    assert first == second > 0 and alone["short"]["room"] == 0
    assert all(report[case]["room"] == 0 for report in both for case in CASES if case != "short")


def test_pain_2_both_stop_where_one_is_not_finite(both: list[dict[str, Any]]) -> None:
    """A row that only one process holds: neither applies the step, and the process that holds it names it."""
    reports = [report["stops"] for report in both]
    assert all("not finite" in report["not finite"] and report["untouched"] for report in reports)
    assert any("rows.jsonl:2" in report["not finite"] for report in reports)


def test_processes_that_have_drifted_apart_are_stopped(both: list[dict[str, Any]]) -> None:
    """After the first step every process proves that it holds the same trainable parameters, bit for bit."""
    assert all("different trainable parameters" in report["stops"]["drifted"] for report in both)


def test_decisions_are_taken_together(both: list[dict[str, Any]]) -> None:
    assert all(report["decisions"] == {"one of two": True, "none": False} for report in both)
