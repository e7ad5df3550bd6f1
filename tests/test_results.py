"""The page of results says what the figures of its runs say, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def results() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("results_of_runs", ROOT / "benchmarks" / "results.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return module


def test_the_page_is_made_of_the_figures(results: ModuleType) -> None:
    assert results.page() == (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), (
        "write it anew: benchmarks/results.py --write"
    )


def test_each_file_of_figures_is_of_a_known_run_by_the_command_that_the_page_shows(results: ModuleType) -> None:
    files = list(results.FIGURES.glob("*.json"))
    assert files
    for file in files:
        figures = json.loads(file.read_text(encoding="utf-8"))
        assert figures["command"] == results.command(file.stem)
        for row in figures["scores"].values():
            assert row["n"] > 0 and row["groups"] > 0, "how many rows are behind a figure"
            assert row["tuned"]["low"] <= row["tuned"]["mean"] <= row["tuned"]["high"]


def test_a_finished_run_is_taken_up_with_its_machine(results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "FIGURES", tmp_path / "figures")
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    results.take_up("demo")
    assert results.read("demo") is None, "there is no finished run"
    value = {"mean": 0.5, "low": 0.4, "high": 0.6, "more": "left out"}
    report = {
        "run": {"device": "cpu", "steps": 3, "path": "left out"},
        "verdict": "Better.",
        "scores": {"accuracy": {"tuned": value, "n": 9, "groups": 4, "higher_is_better": True}},
    }
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (folder / "environment.json").write_text(
        json.dumps({"cpu": {"model": "A processor", "cores": 2, "flags": []}}), encoding="utf-8"
    )
    results.take_up("demo")
    kept = results.read("demo")
    assert kept["cpu"] == {"model": "A processor", "cores": 2} and kept["run"]["steps"] == 3
    assert kept["scores"]["accuracy"]["tuned"] == {"mean": 0.5, "low": 0.4, "high": 0.6}
    assert "left out" not in json.dumps(kept)
