"""Every registered objective through the command line: a run file, rows of its kind, a finished run with its report; stopped = never stopped.

What an objective computes is proved in test_every_objective; here it is proved that a user reaches it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from burnish import api
from burnish.objectives import OBJECTIVES
from burnish.prepare import prepare
from burnish.tune import Watch
from cli_runs import COLOURS, PLACES, cli, refused, write_labelled, write_rows
from stub import make_stub
from test_encoders import make_encoder

Rows = Callable[[int], dict[str, Any]]


def pair(number: int) -> dict[str, Any]:
    place, colour = PLACES[number % len(PLACES)], COLOURS[number % len(COLOURS)]
    return {"prompt": f"colour {number} of the {place}?", "chosen": f"{colour} {number}", "rejected": f"no idea {number}"}


def thumb(number: int) -> dict[str, Any]:
    good = number % 2 == 0
    return {"prompt": f"is it {number}?", "completion": f"yes {number}" if good else "who knows", "label": good}


def number_row(number: int) -> dict[str, Any]:
    return {"text": f"{number} stars, {'good' if number % 2 else 'bad'}", "number": float(number % 5)}


def tagged(number: int) -> dict[str, Any]:
    place = PLACES[number % len(PLACES)]
    text = f"visit {number} to the {place} today"
    start = text.index(place)
    return {"text": text, "spans": [{"start": start, "end": start + len(place), "label": "place"}]}


def asked(number: int) -> dict[str, Any]:
    colour = COLOURS[number % len(COLOURS)]
    context = f"Row {number}. The boat is {colour}. It lies there."
    answers = {"text": [colour], "answer_start": [context.index(colour)]} if number % 4 else {"text": [], "answer_start": []}
    return {"question": f"colour {number}?", "context": context, "answers": answers}


def text(number: int) -> dict[str, Any]:
    return {"text": f"The {PLACES[number % len(PLACES)]} number {number} is {COLOURS[number % len(COLOURS)]}. " * 3}


KINDS: dict[str, tuple[str, ...]] = {
    "pairs": ("dpo", "ipo", "simpo", "orpo", "cpo", "apo", "reward"),
    "thumbs": ("kto",),
    "labelled": ("classification",),
    "numbers": ("regression",),
    "tagged": ("ner",),
    "asked": ("qa",),
    "texts": ("mlm",),
    "dialogs": ("sft", "grpo", "rloo", "reinforce", "ppo", "distill"),
}
KIND = {objective: kind for kind, names in KINDS.items() for objective in names}
MADE: dict[str, Rows] = {
    "pairs": pair,
    "thumbs": thumb,
    "numbers": number_row,
    "tagged": tagged,
    "asked": asked,
    "texts": text,
}
SCORE = {
    "pairs": "preference_accuracy",
    "labelled": "accuracy",
    "numbers": "absolute_error",
    "tagged": "span_f1",
    "asked": "exact_match",
    "dialogs": "exact_match",
    "texts": "restored_tokens",
}
"""The score that a run of these rows is to choose for itself."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objectives")
    make_stub(folder / "stub")
    make_encoder(folder / "encoder")
    write_rows(folder / "dialogs.jsonl")
    write_labelled(folder / "labelled.jsonl")
    for kind, row in MADE.items():
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row(number)) + "\n" for number in range(24)))
    return folder


def run_of(place: Path, objective: str, output: Path, **more: Any) -> dict[str, Any]:
    run: dict[str, Any] = {
        "model": str(place / ("encoder" if objective == "mlm" else "stub")),
        "output": str(output),
        "seed": 5,
        "dtype": "float32",
        "threads": 1,
        "objective": objective,
        "technique": "full",
        "data": {
            "source": str(place / f"{KIND[objective]}.jsonl"),
            "format": "auto",
            "dev_share": 0.2,
            "test_share": 0.2,
            "near_duplicates": False,
        },
        "train": {"steps": 4, "batch": 4, "learning_rate": 1e-3, "schedule": "constant"},
        "rollout": {"samples": 2, "max_tokens": 4},
        "evaluate": {"max_tokens": 4, "baseline": False, "forgetting": False, "every": 2},
        "save": {"every": 2},
        "log": {"every": 1, "tensorboard": False},
    }
    if objective == "distill":
        run["teacher"] = str(place / "stub")
    if OBJECTIVES[objective].renders != "rollouts":
        del run["rollout"]
    return {**run, **more}


def steps(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]


def test_every_objective_has_rows() -> None:
    assert set(KIND) == set(OBJECTIVES)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_of_it_finishes_with_a_report_of_a_score_that_fits(objective: str, place: Path, tmp_path: Path) -> None:
    """Pain 9: evaluation shows a loss and no figure of the task."""
    output = api.tune(run_of(place, objective, tmp_path / "run"))
    report = json.loads((output / "report.json").read_text())
    assert json.loads((output / "status.json").read_text())["state"] == "finished"
    assert report["run"]["objective"] == objective and report["run"]["steps"] == 4
    wanted = SCORE.get(KIND[objective])
    if wanted:
        assert report["headline"] == wanted
        assert {"base", "tuned", "difference"} <= report["scores"][wanted].keys()
    losses = [line["loss"] for line in steps(output) if "loss" in line]
    assert len(losses) == 4 and all(isinstance(loss, float) for loss in losses)


def test_one_command_makes_the_reward_model_that_a_run_names_by_its_file(place: Path, tmp_path: Path) -> None:
    """SFT → reward model → PPO as run files; what is there already is not made again, and a circle is refused."""
    judge = tmp_path / "reward.toml"
    judge.write_text(
        f'model = "{place / "stub"}"\nobjective = "reward"\noutput = "{tmp_path / "judge"}"\ndtype = "float32"\ntechnique = "full"\n'
        f'[data]\nsource = "{place / "pairs.jsonl"}"\nnear_duplicates = false\n[train]\nsteps = 2\nbatch = 4\n'
    )
    run = run_of(place, "ppo", tmp_path / "ppo", rollout={"samples": 2, "max_tokens": 4, "reward": [{"model": str(judge)}]})
    output = api.tune(run)
    assert (tmp_path / "judge" / "report.json").is_file() and "judge" in (output / "run.toml").read_text()
    made = (tmp_path / "judge" / "report.json").stat().st_mtime_ns
    api.tune({**run, "output": str(tmp_path / "again")})
    assert (tmp_path / "judge" / "report.json").stat().st_mtime_ns == made
    judge.write_text(judge.read_text().replace(str(place / "stub"), str(judge)))
    with pytest.raises(api.ConfigError, match="is tuned after"):
        api.tune({**run, "output": str(tmp_path / "circle")})


def test_a_run_of_attempts_is_checked_without_an_estimate(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still to be written has no length: nothing is said of the cost, and nothing fails."""
    monkeypatch.setattr("burnish.prepare.measure_matmul", lambda *_, **__: 1e9)
    assert prepare(api.resolve(run_of(place, "grpo", tmp_path / "run")), measure=True).report["estimate"] is None
    assert prepare(api.resolve(run_of(place, "dpo", tmp_path / "run")), measure=True).report["estimate"]


def test_kto_takes_pairs_as_two_thumbs_and_is_measured_on_them(place: Path, tmp_path: Path) -> None:
    thumbs = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in map(pair, range(24))
        for side in ("chosen", "rejected")
    ]
    (place / "both.jsonl").write_text("".join(json.dumps(row) + "\n" for row in thumbs))
    run = run_of(place, "kto", tmp_path / "pairs", data={"source": str(place / "pairs.jsonl"), "near_duplicates": False})
    report = json.loads((api.tune(run) / "report.json").read_text())
    assert report["headline"] == "preference_accuracy" and report["scores"]["preference_accuracy"]["n"] > 0
    found = {}
    for name in ("pairs", "both"):
        run["data"] = {"source": str(place / f"{name}.jsonl"), "near_duplicates": False, "dev_share": 0, "test_share": 0}
        run["evaluate"]["every"] = 0
        sequences = prepare(api.resolve(run)).sequences()
        found[name] = sorted((one.tokens_T.tolist(), one.streams["rating"].tolist()) for one in sequences)
    assert found["pairs"] == found["both"] and len(found["pairs"]) == 48


@pytest.mark.parametrize("objective", ["dpo", "kto", "grpo", "ppo", "mlm", "classification", "distill"])
def test_pain_16_stopped_and_taken_up_again_is_uninterrupted(objective: str, place: Path, tmp_path: Path) -> None:
    """Also where streams were filled before step 0, and where the model's own attempts are what is learned from."""

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 3:
            raise KeyboardInterrupt

    quiet = api.tune(run_of(place, objective, tmp_path / "quiet"))
    broken = run_of(place, objective, tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        api.tune(broken, watch=Watch(step=stop))
    api.tune(broken, resume=True)
    assert steps(tmp_path / "broken") == steps(quiet)


def test_dpo_begins_at_log_2_in_a_run_that_goes_on_from_another(place: Path, tmp_path: Path) -> None:
    """SFT, then DPO, by one command: the reference is the tuned model, whatever it was tuned from."""
    first = run_of(place, "sft", tmp_path / "first", technique="lora")
    first["train"] = {**first["train"], "learning_rate": 1e-2}
    middle = api.tune(first)
    second = api.tune(run_of(place, "dpo", tmp_path / "second", model=str(middle), technique="lora"))
    begun = next(line for line in steps(second) if "loss" in line)
    assert begun["loss"] == pytest.approx(0.693147, abs=1e-5) and begun["kl"] == pytest.approx(0, abs=1e-5)


def test_a_reward_model_judges_what_another_run_attempts(place: Path, tmp_path: Path) -> None:
    """SFT → reward model → PPO."""
    judge = api.tune(run_of(place, "reward", tmp_path / "reward"))
    rollout = {"samples": 2, "max_tokens": 4, "reward": [{"model": str(judge)}]}
    output = api.tune(run_of(place, "ppo", tmp_path / "ppo", rollout=rollout))
    rewards = [line["rollout/reward"] for line in steps(output) if "loss" in line]
    assert len(rewards) == 4 and len(set(rewards)) > 1
    report = json.loads((output / "report.json").read_text())
    assert {"base", "tuned", "difference"} <= report["scores"]["reward"].keys() and report["headline"] != "reward"
    with pytest.raises(api.ConfigError, match="is no reward model"):
        api.tune(run_of(place, "ppo", tmp_path / "no", rollout={**rollout, "reward": [{"model": str(place / "stub")}]}))


@pytest.mark.parametrize(
    ("objective", "source", "says"),
    [
        ("dpo", "dialogs.jsonl", "cannot learn from Dialog rows"),
        ("classification", "pairs.jsonl", "cannot learn from Pair rows"),
        ("ner", "labelled.jsonl", "cannot learn from Labelled rows"),
        ("kto", "dialogs.jsonl", "cannot learn from Dialog rows"),
    ],
)
def test_rows_of_another_kind_are_refused_with_the_first_one(
    objective: str, source: str, says: str, place: Path, tmp_path: Path
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        f'model = "{place / "stub"}"\nobjective = "{objective}"\noutput = "{tmp_path / "out"}"\ndata = "{place / source}"\n'
    )
    refused(cli("check", file), says, f"{source}:1")


@pytest.mark.parametrize(
    ("objective", "more", "says"),
    [
        ("sft", {"rollout": {"samples": 4}}, "rollout.samples: belongs"),
        ("sft", {"teacher": "tiny"}, "only the objective distill"),
        ("distill", {"teacher": None}, "name it: teacher = MODEL"),
        ("grpo", {"rollout": {"reward": [{"weight": 2.0}]}}, "either a score or a model"),
    ],
)
def test_what_no_objective_of_the_run_reads_is_refused(
    objective: str, more: dict[str, Any], says: str, place: Path, tmp_path: Path
) -> None:
    """No field is accepted and ignored, and none that is needed is missed only when weights were read."""
    with pytest.raises(api.ConfigError, match=says):
        api.check(run_of(place, objective, tmp_path / "run", **more))


def test_an_epoch_of_attempts_counts_what_is_learned_again(place: Path, tmp_path: Path) -> None:
    more = {"rollout": {"samples": 2, "max_tokens": 4, "inner": 3}, "train": {"epochs": 1, "batch": 4}}
    once = prepare(api.resolve(run_of(place, "grpo", tmp_path / "run", **{**more, "rollout": {"samples": 2}})))
    thrice = prepare(api.resolve(run_of(place, "grpo", tmp_path / "run", **more)))
    rows = len(once.first.gathered.examples["train"])
    assert once.resolved.config.train.steps == -(-rows // 4) and thrice.resolved.config.train.steps == -(-3 * rows // 4)


def test_a_model_with_a_head_is_asked_and_measured_again(place: Path, tmp_path: Path) -> None:
    output = api.tune(run_of(place, "classification", tmp_path / "run"))
    report = json.loads((output / "report.json").read_text())
    again = api.evaluate(output)
    for arm in ("base", "tuned"):
        assert again["scores"]["accuracy"][arm] == report["scores"]["accuracy"][arm]
    said = api.generate(output, ["message 7: the lamp is dark"])[0]["text"]
    assert said in ("lamp", "parcel")
    done = cli("chat", output)
    refused(done, "writes no text")


# --------------------------------------------------------------------------------------------- figures of heads that write nothing


def report_of(run: dict[str, Any]) -> dict[str, Any]:
    return json.loads((api.tune(run) / "report.json").read_text())


def test_an_encoder_that_restores_tokens_is_measured_beside_its_base(place: Path, tmp_path: Path) -> None:
    """The base with its own head, not a trained one: without a step between them both say the same of the same masks."""
    run = run_of(place, "mlm", tmp_path / "run", evaluate={"baseline": True, "forgetting": False, "every": 2})
    still = {**run, "train": {**run["train"], "learning_rate": 1e-12}}
    report = report_of(still)
    assert list(report["scores"]) == ["restored_tokens", "bits_per_masked_token"] and "baseline" not in report
    row = report["scores"]["bits_per_masked_token"]
    assert 0 < row["base"]["mean"] == pytest.approx(row["tuned"]["mean"], rel=1e-4)
    moved = report_of({**run, "output": str(tmp_path / "moved"), "train": {**run["train"], "steps": 30, "learning_rate": 3e-3}})
    row = moved["scores"]["bits_per_masked_token"]
    assert row["tuned"]["mean"] < row["base"]["mean"]


def test_a_score_of_text_is_refused_for_restored_tokens(place: Path, tmp_path: Path) -> None:
    with pytest.raises(api.ConfigError, match="restored_tokens"):
        api.tune(run_of(place, "mlm", tmp_path / "run", score="perplexity"))


@pytest.mark.parametrize("ratings", ["thumbs", "numbers"])
def test_a_reward_model_of_ratings_is_measured(ratings: str, place: Path, tmp_path: Path) -> None:
    run = {**run_of(place, "reward", tmp_path / "run"), "objective": {"name": "reward", "ratings": ratings}}
    rows = [thumb(number) for number in range(40)]
    if ratings == "numbers":
        rows = [{**row, "label": None, "rating": float(number % 5)} for number, row in enumerate(rows)]
        rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
    (tmp_path / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run["data"] = {**run["data"], "source": str(tmp_path / "rated.jsonl"), "format": "rated"}
    run["evaluate"] = {**run["evaluate"], "baseline": True}
    report = report_of(run)
    name = {"thumbs": "thumb_auroc", "numbers": "rating_correlation"}[ratings]
    assert list(report["scores"]) == [name]
    assert {"base", "tuned", "baseline", "difference"} <= report["scores"][name].keys() and "zero_shot" not in report["scores"][
        name
    ]
    if ratings == "thumbs":  # "who knows" is not hard to tell from "yes"
        assert report["scores"][name]["baseline"]["mean"] == 1.0


def test_a_reward_model_of_pairs_says_how_far_it_can_be_believed(place: Path, tmp_path: Path) -> None:
    run = run_of(place, "reward", tmp_path / "run")
    report = report_of({**run, "evaluate": {**run["evaluate"], "baseline": True}})
    assert list(report["scores"]) == ["preference_accuracy", "calibration_error"]
    assert report["scores"]["preference_accuracy"]["baseline"]["mean"] == 1.0
    assert all("baseline" in row and "zero_shot" not in row for row in report["scores"].values())


@pytest.mark.parametrize("objective", ["classification", "regression", "ner", "qa"])
def test_a_head_stands_beside_the_base_that_writes_the_answer(objective: str, place: Path, tmp_path: Path) -> None:
    """The figures are those of a base that is asked as `sft` asks it."""
    run = run_of(place, objective, tmp_path / "run")
    report = report_of({**run, "evaluate": {**run["evaluate"], "baseline": True}})
    written = run_of(place, "sft", tmp_path / "written", data=run["data"], score=list(report["scores"]))
    other = report_of(written)
    for name, row in report["scores"].items():
        assert {"base", "tuned", "zero_shot", "baseline"} <= row.keys(), name
        assert row["zero_shot"] == other["scores"][name]["base"], name
    assert all("zero_shot" in example for example in report["examples"])
    answers = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert all(line["zero_shot"].keys() == {"text", "stopped"} for line in answers)


def test_a_stop_while_the_base_writes_is_noticed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish import finish_answers
    from burnish.errors import Stopped

    seen = []
    real = finish_answers.zero_shot

    def stopping(plan: Any, target: Any, held_out: Any, asking: Any) -> Any:
        def between() -> None:
            seen.append(1)
            raise Stopped("stop", signal_number=2)

        from dataclasses import replace

        return real(plan, target, held_out, replace(asking, between=between))

    monkeypatch.setattr("burnish.finish.zero_shot", stopping)
    with pytest.raises(Stopped):
        api.tune(run_of(place, "classification", tmp_path / "run"))
    assert seen == [1]


def test_an_encoder_with_a_head_has_no_base_that_writes(place: Path, tmp_path: Path) -> None:
    report = report_of(run_of(place, "classification", tmp_path / "run", model=str(place / "encoder")))
    assert all("zero_shot" not in row for row in report["scores"].values())
