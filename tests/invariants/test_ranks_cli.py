"""Two processes = one process, through the command line: `torchrun --nproc-per-node 2 -m burnish tune run.toml` over gloo.

Promises R9 and R15. The sums of a step are the same in another order, so weights agree within a tolerance and not bit for bit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli_runs import cli, environment, metrics, write_rows, write_run
from stub import make_stub

TOLERANCE = 2e-5
"""Greatest difference of a weight after six steps in float32; a step moves them by about 2e-4 each."""


def torchrun(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", "-m", "burnish", *arguments]
    here = {**environment(), "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True, check=False, timeout=240)


def greatest_difference(first: Path, second: Path) -> float:
    from safetensors.torch import load_file

    one, two = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def numbers(lines: list[dict[str, Any]], name: str) -> list[float]:
    return [line[name] for line in lines if name in line]


def test_two_processes_make_the_run_of_one(tmp_path: Path) -> None:
    """Several micro-batches per step, an odd number of them now and then, so that the ranks have unequal work."""
    make_stub(tmp_path / "stub")
    write_rows(tmp_path / "rows.jsonl")
    write_run(tmp_path, "./stub", technique__name="full", train__tokens=120, train__packing=True, evaluate__every=2)
    assert cli("tune", "run.toml", "output=one", folder=tmp_path).code == 0
    done = torchrun("tune", "run.toml", "output=two", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr

    printed = json.loads(done.stdout)
    assert printed["output"] == "two", "rank 0 alone prints, one JSON value"
    one, two = (metrics(tmp_path / name) for name in ("one", "two"))
    assert [line["step"] for line in one] == [line["step"] for line in two], "one line per step, not one per rank"
    for name in ("loss", "gradient_norm"):
        assert numbers(two, name) == pytest.approx(numbers(one, name), rel=1e-4)
    assert numbers(two, "tokens") == numbers(one, "tokens"), "tokens are counted over all ranks"
    assert [line["dev"] for line in two if "dev" in line] == [line["dev"] for line in one if "dev" in line]
    assert greatest_difference(tmp_path / "one" / "model", tmp_path / "two" / "model") < TOLERANCE

    reports = [json.loads((tmp_path / name / "report.json").read_text("utf-8")) for name in ("one", "two")]
    for score, table in reports[0]["scores"].items():
        assert reports[1]["scores"][score]["tuned"]["mean"] == pytest.approx(table["tuned"]["mean"], abs=1e-3)
    assert json.loads((tmp_path / "two" / "status.json").read_text())["state"] == "finished"


@pytest.mark.slow
def test_a_mistake_ends_all_processes_with_its_message(tmp_path: Path) -> None:
    """No rank waits for one that has given up."""
    make_stub(tmp_path / "stub")
    write_rows(tmp_path / "rows.jsonl")
    write_run(tmp_path, "./stub", train__batch=0)
    done = torchrun("tune", "run.toml", folder=tmp_path)
    assert done.returncode != 0
    assert "train.batch" in done.stderr and not (tmp_path / "out").exists()
