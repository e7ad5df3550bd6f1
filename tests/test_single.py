"""Each task of a run beside a run with that task alone: on the same rows, with a verdict that the interval carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish import api
from burnish.errors import ConfigError, UsageError
from burnish.finish_single import change, singles, verdict
from burnish.prepare import prepare
from burnish.scores import SCORES, intervals
from cli_runs import cli, write_labelled, write_rows, write_run
from stub import make_stub

SETTINGS: dict[str, Any] = {
    "seed": 5,
    "dtype": "float32",
    "threads": 1,
    "technique": "lora",
    "data": {"dev_share": 0.2, "test_share": 0.2, "near_duplicates": False},
    "train": {"steps": 2, "batch": 4, "learning_rate": 1e-3, "schedule": "constant"},
    "evaluate": {"max_tokens": 4, "baseline": False, "forgetting": False},
    "log": {"tensorboard": False},
}
GROUPS = [f"group {number}" for number in range(100)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    make_stub(folder / "stub")
    write_rows(folder / "rows.jsonl")
    write_labelled(folder / "labelled.jsonl")
    return folder


def alone(place: Path, output: Path, **more: Any) -> dict[str, Any]:
    data = {**SETTINGS["data"], "source": str(place / "labelled.jsonl")}
    run = {**SETTINGS, "model": str(place / "stub"), "output": str(output), "objective": "classification", "data": data}
    return {**run, **more}


def both(place: Path, output: Path, single: Path | str, **more: Any) -> dict[str, Any]:
    tasks: list[dict[str, Any]] = [
        {"name": "parcels", "data": str(place / "labelled.jsonl"), "objective": "classification", "single": str(single)},
        {"name": "colours", "data": str(place / "rows.jsonl"), "score": ["bits_per_byte"]},
    ]
    return {**SETTINGS, "model": str(place / "stub"), "output": str(output), "task": tasks, **more}


@pytest.fixture(scope="module")
def one(place: Path) -> Path:
    return api.tune(alone(place, place / "one"))


# ------------------------------------------------------------------------------------------------------------------- the arithmetic


def test_points_are_a_hundred_times_the_paired_difference() -> None:
    draw = np.random.default_rng(0)
    tables = {
        arm: np.stack([draw.random(100) < share, np.ones(100)], 1).astype(float) for arm, share in (("single", 0.8), ("tuned", 0.7))
    }
    found = change(SCORES["accuracy"], tables, GROUPS, seed=3)
    expected = intervals(SCORES["accuracy"], tables, GROUPS, seed=3, difference_from="single")["difference"]
    assert found == {key: pytest.approx(100 * value) for key, value in expected.items()}
    assert found["mean"] == pytest.approx(100 * (tables["tuned"][:, 0].mean() - tables["single"][:, 0].mean()))


def test_where_less_is_better_the_change_is_relative() -> None:
    """Every text costs five percent more, whatever it costs: so does the whole, and nothing is uncertain about it."""
    bits = np.random.default_rng(0).random(100) + 0.5
    tables = {"single": np.stack([bits, np.ones(100)], 1), "tuned": np.stack([1.05 * bits, np.ones(100)], 1)}
    found = change(SCORES["bits_per_byte"], tables, GROUPS, seed=3)
    assert [found[key] for key in ("low", "mean", "high")] == pytest.approx([5.0, 5.0, 5.0])
    assert verdict(found, higher=False) == "more than 2 % above"


@pytest.mark.parametrize(
    ("low", "high", "higher", "expected"),
    [
        (-2.0, 1.0, True, "within 2 points"),
        (-2.1, 1.0, True, "not proven either way"),
        (-9.0, -2.1, True, "more than 2 points below"),
        (-9.0, -2.0, True, "not proven either way"),
        (5.0, 9.0, True, "within 2 points"),
        (-5.0, 2.0, False, "within 2 %"),
        (1.9, 2.1, False, "not proven either way"),
        (2.1, 9.0, False, "more than 2 % above"),
        (-9.0, -5.0, False, "within 2 %"),
        (None, None, True, "not proven either way"),
    ],
)
def test_the_verdict_is_that_of_the_whole_interval(low: float | None, high: float | None, higher: bool, expected: str) -> None:
    assert verdict({"mean": 0.0, "low": low, "high": high}, higher=higher) == expected


# ------------------------------------------------------------------------------------------------------------------------ whole runs


def test_a_task_is_compared_on_the_rows_held_out_by_both(place: Path, one: Path, tmp_path: Path) -> None:
    run = api.tune(both(place, tmp_path / "both", one))
    report = json.loads((run / "report.json").read_text())
    told, theirs = report["single"]["parcels"], json.loads((one / "report.json").read_text())
    assert set(report["single"]) == {"parcels"} and told["left_out"] == 0 and told["unit"] == "points"
    assert told["single"]["mean"] == theirs["scores"]["accuracy"]["tuned"]["mean"], "the same rows, the same answers"
    assert told["tuned"]["mean"] == report["scores"]["parcels/accuracy"]["tuned"]["mean"]
    assert told["difference"]["mean"] == pytest.approx(100 * (told["tuned"]["mean"] - told["single"]["mean"]))
    page = (run / "report.html").read_text()
    assert "Beside each task alone" in page and told["verdict"] in page
    assert "".join(told["verdict"].split()) in "".join(cli("tune", run / "run.toml", "--resume").out.split()), "in a terminal"
    # Another single run is not another run: nothing was learned from it.
    status = run / "status.json"
    status.write_text(status.read_text().replace('"finished"', '"stopped"'))
    api.tune({**both(place, run, one)}, "task.parcels.single=" + str(one.resolve()), resume=True)


def test_a_run_file_is_tuned_first(place: Path, tmp_path: Path) -> None:
    write_labelled(tmp_path / "labelled.jsonl")
    changes: dict[str, Any] = {"data__source": "labelled.jsonl", "objective": "classification", "score": None, "train__steps": 1}
    write_run(tmp_path, place / "stub", name="one.toml", **changes, output=str(tmp_path / "one"))
    run = both(place, tmp_path / "both", f"{tmp_path}/one.toml")
    with pytest.raises(ConfigError, match=r"task.parcels.single = '.*one.toml': that run is not tuned yet"):
        api.check(run, measure=False)
    report = json.loads((api.tune(run) / "report.json").read_text())
    assert report["single"]["parcels"]["run"] == str(tmp_path / "one")


def test_what_the_other_run_has_learned_is_not_asked_of_it(place: Path, tmp_path: Path) -> None:
    other = api.tune(alone(place, tmp_path / "other", seed=11))
    plan = prepare(api.resolve(both(place, tmp_path / "both", other)))
    found, test = singles(plan)["parcels"], plan.parts["parcels"].gathered.examples["test"]
    learned = {str(row.origin) for row in found.part.gathered.examples["train"]}
    assert 0 < len(found.rows) < len(test)
    assert {str(test[row].origin) for row in found.rows} == {str(row.origin) for row in test} - learned


def test_runs_that_say_nothing_are_refused_before_anything_is_tuned(place: Path, one: Path, tmp_path: Path) -> None:
    everything = alone(place, tmp_path / "all")
    everything["data"] = {**everything["data"], "test_share": 0.0, "dev_share": 0.0}
    learned = api.tune(everything)
    with pytest.raises(UsageError, match=r"task.parcels.single = .*it has learned from all \d+ rows that are held out here"):
        api.tune(both(place, tmp_path / "both", learned))
    with pytest.raises(UsageError, match=r"expected the directory of a finished run, or a run file"):
        api.check(both(place, tmp_path / "both", tmp_path / "nothing"), measure=False)
    none = both(place, tmp_path / "both", one)
    none["data"] = {**none["data"], "test_share": 0.0}
    with pytest.raises(UsageError, match=r"no rows of this task are held out"):
        api.check(none, measure=False)
    assert not (tmp_path / "both").exists()
