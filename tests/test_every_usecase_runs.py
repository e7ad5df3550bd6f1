"""Every use case, from `burnish init` to an answer, through the command line on the stub: a new one is covered by its registry line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from burnish.usecases import USECASES, find
from cli_runs import cli
from stub import make_stub

FEW = ["train.steps=3", "train.batch=4", "data.limit=60", "evaluate.limit=4", "evaluate.every=3", "evaluate.max_tokens=6"]
"""What makes a run short; everything else is as the use case says."""
WITHOUT_PROBE = "evaluate.forgetting=false"
"""The general probe asks some hundred questions, the same ones whatever the use case: the first one asks them."""


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stub that reads long texts: its tokens are bytes."""
    return make_stub(tmp_path_factory.mktemp("usecases") / "stub", context=4096)


@pytest.mark.parametrize("name", list(USECASES))
def test_a_use_case_runs_from_init_to_an_answer(name: str, stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Timing this machine takes two seconds each time, and is tested elsewhere.
    monkeypatch.setattr("burnish.prepare.measure_matmul", lambda *_, **__: 1e9)
    made = cli("init", name, name, "--json", folder=tmp_path)
    assert made.code == 0, made.err
    job, few = tmp_path / name, [f"model={stub}", *FEW, *([WITHOUT_PROBE] if name != next(iter(USECASES)) else [])]
    assert made.json["run_file"] == f"{name}/run.toml" and (job / "README.md").is_file()

    checked = cli("check", "run.toml", f"model={stub}", "--json", folder=job)
    assert checked.code == 0, checked.err
    assert checked.json["rows"] >= 30 and checked.json["example"] and checked.json["estimate"]

    done = cli("tune", "run.toml", *few, "--json", folder=job)
    assert done.code == 0, done.err
    assert done.json["output"] == f"runs/{name}"
    report = json.loads((job / "runs" / name / "report.json").read_text("utf-8"))
    assert list(report["scores"]) == list(find(name).run["score"])
    for score in report["scores"].values():
        assert {"base", "tuned", "difference", "n", "groups", "higher_is_better"} <= score.keys()
        assert math.isfinite(score["tuned"]["mean"]) and score["n"] > 0
    assert (job / "runs" / name / "report.html").stat().st_size > 1000

    measured = cli("evaluate", f"runs/{name}", "--limit", "6", "--json", folder=job)
    assert measured.code == 0, measured.err
    assert set(measured.json["scores"]) <= set(report["scores"]) and measured.json["scores"]
    assert ("slice" in find(name).run["data"].get("columns", {})) == ("by_slice" in report)

    answered = cli("generate", f"runs/{name}", "--prompt", find(name).prompt, "--json", folder=job)
    assert answered.code == 0, answered.err
    (answer,) = answered.json["answers"]
    # A head reads its answer, and writes no token.
    assert answer["prompt"] == find(name).prompt and (answer["tokens"] > 0 or "objective" in find(name).run)
    assert cli("ls", "runs", "--json", folder=job).json[0]["name"] == name
