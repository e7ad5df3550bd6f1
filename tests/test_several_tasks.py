"""One run that learns several tasks: each with its own rows, scores and part of every step, and all of it told per task."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from burnish import api, runs
from burnish.errors import UsageError
from burnish.tune import Watch
from cli_runs import cli, refused, write_labelled, write_rows
from stub import make_stub

SETTINGS: dict[str, Any] = {
    "seed": 5,
    "dtype": "float32",
    "threads": 1,
    "technique": "full",
    "data": {"dev_share": 0.2, "test_share": 0.2, "near_duplicates": False},
    "train": {"steps": 6, "batch": 4, "learning_rate": 1e-3, "schedule": "constant"},
    "evaluate": {"max_tokens": 4, "baseline": False, "forgetting": False, "every": 3},
    "save": {"every": 3},
    "log": {"every": 1, "tensorboard": False},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    make_stub(folder / "stub")
    write_rows(folder / "rows.jsonl")
    write_labelled(folder / "labelled.jsonl")
    return folder


def two(place: Path, output: Path, **more: Any) -> dict[str, Any]:
    tasks = [
        {"name": "colours", "data": str(place / "rows.jsonl"), "score": ["exact_match", "bits_per_byte"], "share": 3},
        {"name": "parcels", "data": str(place / "labelled.jsonl"), "score": "accuracy", "share": 1, "weight": 0.5},
    ]
    return {**SETTINGS, "model": str(place / "stub"), "output": str(output), "task": tasks, **more}


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    return api.tune(two(place, place / "both"))


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]


def test_losses_dev_scores_and_the_report_are_told_per_task(finished: Path) -> None:
    """A pain below the line, mixing: sets are neither mixed nor evaluated each by itself."""
    steps = [line for line in metrics(finished) if "loss" in line]
    for step in steps:
        assert step["loss"] == pytest.approx(step["colours/nll"] + step["parcels/nll"])
    dev = [line["dev"] for line in metrics(finished) if "dev" in line]
    assert all(set(one) == {"colours/exact_match", "parcels/accuracy"} for one in dev) and len(dev) == 3
    report = json.loads((finished / "report.json").read_text())
    assert set(report["scores"]) == {"colours/exact_match", "colours/bits_per_byte", "parcels/accuracy"}
    assert report["headline"] == "colours/exact_match" and set(report["verdicts"]) == {"colours", "parcels"}
    answers = [json.loads(line) for line in (finished / "answers.jsonl").read_text().splitlines()]
    assert {row["task"] for row in answers} == {"colours", "parcels"}
    page = (finished / "report.html").read_text()
    assert "What it was trained on: colours" in page and "What it was trained on: parcels" in page


def test_the_data_report_has_a_part_for_each_task(finished: Path) -> None:
    data = json.loads((finished / "data.json").read_text())
    assert {name: task["share"] for name, task in data["tasks"].items()} == {"colours": 0.75, "parcels": 0.25}
    assert len(data["sources"]) == 2


def test_evaluating_the_run_again_gives_the_figures_of_its_report(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    again = api.evaluate(finished)
    for name, row in report["scores"].items():
        assert again["scores"][name]["tuned"] == row["tuned"], name
    alone = api.evaluate(finished, task="parcels")
    assert alone["scores"]["accuracy"]["tuned"] == report["scores"]["parcels/accuracy"]["tuned"]
    with pytest.raises(UsageError, match=r"has no task 'parcel'.*Did you mean 'parcels'"):
        api.evaluate(finished, task="parcel")


def test_the_result_is_asked_in_the_form_of_the_task_that_is_named(finished: Path) -> None:
    assert api.load(finished).renderer.frame.choices == ()
    assert api.load(finished, task="parcels").renderer.frame.choices == ("lamp", "parcel")


def test_the_command_line_takes_one_task_too(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    done = cli("evaluate", finished, "--task", "parcels", "--json")
    assert json.loads(done.out)["scores"]["accuracy"]["tuned"] == report["scores"]["parcels/accuracy"]["tuned"]
    assert cli("generate", finished, "--task", "parcels", "--prompt", "x").code == 0
    refused(cli("generate", finished, "--task", "parcel", "--prompt", "x"), "has no task 'parcel'", "Did you mean 'parcels'")


def test_stopped_and_taken_up_again_is_uninterrupted(place: Path, finished: Path, tmp_path: Path) -> None:
    """Also in what each step takes from each task (pain 16)."""

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 5:
            raise KeyboardInterrupt

    run = two(place, tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        api.tune(run, watch=Watch(step=stop))
    api.tune(run, resume=True)
    assert metrics(tmp_path / "again") == metrics(finished)


def test_changed_tasks_are_not_resumed(place: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    status = runs.Run(tmp_path / "copy").status_json
    status.write_text(status.read_text().replace('"finished"', '"stopped"'))
    with pytest.raises(UsageError, match=r"task.parcels.weight: 0.5 -> 2.0"):
        api.tune(two(place, tmp_path / "copy"), "task.parcels.weight=2.0", resume=True)


def test_a_task_of_weight_zero_changes_nothing_of_the_others(place: Path, tmp_path: Path) -> None:
    """Its loss is told, and its rows stand in the steps, but nothing is learned from it."""
    runs_of = []
    for name, labelled in (("one", "labelled.jsonl"), ("two", "other.jsonl")):
        write_labelled(place / "other.jsonl", 40)
        text = (place / "other.jsonl").read_text().replace("lamp", "pump")
        (place / "other.jsonl").write_text(text)
        run = two(place, tmp_path / name)
        run["task"][1] |= {"weight": 0.0, "data": str(place / labelled)}
        runs_of.append([line["colours/nll"] for line in metrics(api.tune(run)) if "loss" in line])
    assert runs_of[0] == pytest.approx(runs_of[1], rel=1e-6)
