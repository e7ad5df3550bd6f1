"""`burnish evaluate` measures what the run's own report measured, on the same rows: every arm, every score, the same figures.

A run's report is made when the tuned model is still in memory; here it is loaded from its folder, and its base found again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish import api
from test_every_objective_runs import PLACES, pair, place, report_of, run_of, thumb

__all__ = ["place"]  # a fixture

MEASURED: tuple[str, ...] = ("scores", "headline", "verdict", "verdicts", "examples", "single")


def assert_same_report(again: dict[str, Any], report: dict[str, Any]) -> None:
    """Assert that everything that is measured on rows is in both, each figure the same but for the last digits of float32."""
    assert {key for key in MEASURED if key in report} == {key for key in MEASURED if key in again}
    assert again.get("baseline", {}).get("name") == report.get("baseline", {}).get("name")
    assert list(again["scores"]) == list(report["scores"])
    for name, row in report["scores"].items():
        found = again["scores"][name]
        assert found.keys() == row.keys(), name
        for arm, figures in row.items():
            if isinstance(figures, dict):
                for key, value in figures.items():
                    assert found[arm][key] == pytest.approx(value, rel=1e-5, abs=1e-6), (name, arm, key)
            else:
                assert found[arm] == figures, (name, arm)
    assert again["examples"] == report["examples"] and again.get("single") == report.get("single")


BESIDE = {"baseline": True, "forgetting": False, "every": 0, "max_tokens": 4}


@pytest.mark.parametrize(
    ("objective", "technique", "rows"),
    [
        ("classification", "lora", None),
        ("mlm", "lora", None),
        ("reward", "lora", "thumbs"),
        ("dpo", "prompt", None),
        ("dpo", "qlora", None),
        ("ipo", "full", None),
    ],
)
def test_evaluate_says_what_the_report_says(objective: str, technique: str, rows: str | None, place: Path, tmp_path: Path) -> None:
    """Also of ratings and restored tokens; and beside the policy before step 0, which new prompt tokens make another than the base."""
    run = run_of(place, objective, tmp_path / "run", technique=technique, evaluate=BESIDE)
    if rows:
        run["data"] = {**run["data"], "source": str(place / f"{rows}.jsonl")}
    report = report_of(run)
    again = api.evaluate(tmp_path / "run")
    assert_same_report(again, report)
    if objective == "classification":
        assert "zero_shot" in again["scores"]["accuracy"] and "baseline" in again["scores"]["accuracy"]


def test_evaluate_compares_a_run_on_an_adapter_with_that_adapter(place: Path, tmp_path: Path) -> None:
    """Both adapters are saved as one on the first base: switched off, it would be another base than the run began with."""
    first = run_of(place, "sft", tmp_path / "first", technique="lora", evaluate=BESIDE)
    first["train"] = {**first["train"], "learning_rate": 1e-2}
    middle = api.tune(first)
    report = report_of(run_of(place, "dpo", tmp_path / "second", model=str(middle), technique="lora", evaluate=BESIDE))
    assert_same_report(api.evaluate(tmp_path / "second"), report)


def test_evaluate_shows_the_reward_that_attempts_worked_for(place: Path, tmp_path: Path) -> None:
    judge = api.tune(run_of(place, "reward", tmp_path / "judge"))
    rollout = {"samples": 2, "max_tokens": 4, "reward": [{"model": str(judge)}]}
    report = report_of(run_of(place, "grpo", tmp_path / "run", rollout=rollout, technique="lora"))
    assert "reward" in report["scores"]
    assert_same_report(api.evaluate(tmp_path / "run"), report)
    judge.rename(tmp_path / "gone")
    said: list[str] = []
    assert "reward" not in api.evaluate(tmp_path / "run", say=said.append)["scores"]
    assert any("The reward is not measured" in one for one in said)


def test_evaluate_takes_rows_that_a_head_judges(place: Path, tmp_path: Path) -> None:
    """A reward model is asked of other pairs and thumbs than its own, an encoder of other texts."""
    judge = api.tune(run_of(place, "reward", tmp_path / "judge"))
    for name, row, score in (("pairs", pair, "preference_accuracy"), ("thumbs", thumb, "thumb_auroc")):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row(100 + number)) + "\n" for number in range(8)))
        found = api.evaluate(judge, file, scores=[score])
        assert found["scores"][score]["n"] == 8 and 0 <= found["scores"][score]["model"]["mean"] <= 1
    encoder = api.tune(run_of(place, "mlm", tmp_path / "mlm"))
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": f"Far from the {one} lies it."}) + "\n" for one in PLACES))
    found = api.evaluate(encoder, tmp_path / "texts.jsonl")
    assert {"base", "tuned", "difference"} <= found["scores"]["restored_tokens"].keys()


def test_evaluate_draws_anew_only_when_asked_to(place: Path, tmp_path: Path) -> None:
    """`--seed` moves the intervals and nothing else; a score that finds nothing here is refused by name."""
    report = report_of(run_of(place, "sft", tmp_path / "run", evaluate=BESIDE, score="rouge_l"))
    assert_same_report(api.evaluate(tmp_path / "run"), report)
    other = api.evaluate(tmp_path / "run", seed=99)
    assert other["scores"]["rouge_l"]["tuned"]["mean"] == report["scores"]["rouge_l"]["tuned"]["mean"]
    with pytest.raises(api.DataError, match="span_f1"):
        api.evaluate(tmp_path / "run", scores=["span_f1"])
