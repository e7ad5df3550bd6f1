"""Learning rates tried on the first steps of a run: the choice by itself, and the verb on the stub."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import burnish
from burnish import api, find_rate
from burnish.errors import ConfigError, RunError, Stopped
from burnish.find_rate_choice import Trial, choose, described
from burnish.tune import Watch
from cli_runs import cli, metrics, refused, write_rows, write_run
from stub import make_stub

NOISE_K = np.asarray([0.01, -0.01, 0.02, -0.02, 0.01, -0.01, 0.0, 0.0])
BEFORE_K = 3.0 + NOISE_K


def trial(rate: float, loss: float | None, *, noise: float = 0.0) -> Trial:
    """Return a trial whose parts differ from those of others, by `noise` in a pattern of its own."""
    if loss is None:
        return Trial(rate, None, (), 7, "diverged by step 7")
    parts_K = loss + NOISE_K + noise * np.asarray([1, -1, 1, -1, 1, -1, 1, -1])
    return Trial(rate, loss, tuple(parts_K), 20)


def valley(bottom: float, rates: Sequence[float], *, curve: float = 0.1) -> list[Trial]:
    return [trial(rate, 1.0 + curve * np.log(rate / bottom) ** 2) for rate in rates]


# ------------------------------------------------------------------------------------------------------------------------ the choice


@given(bottom=st.floats(1.1e-4, 0.9e-2))
def test_the_bottom_of_a_parabola_is_found_wherever_it_lies_between_rates(bottom: float) -> None:
    rates = [1e-5 * 3**place for place in range(8)]
    found = choose(valley(bottom, rates), BEFORE_K)
    assert found == pytest.approx(bottom, rel=0.06), "two digits"


def test_the_order_of_trials_changes_nothing() -> None:
    trials = valley(7e-4, [1e-4, 3e-4, 9e-4, 2.7e-3])
    assert choose(trials, BEFORE_K) == choose(trials[::-1], BEFORE_K)


def test_within_noise_the_smaller_rate_is_taken_and_beyond_it_is_not() -> None:
    near = [trial(1e-4, 2.5), trial(3e-4, 2.001, noise=0.05), trial(9e-4, 2.0), trial(2.7e-3, 2.4)]
    assert choose(near, BEFORE_K) == 3e-4
    clear = [trial(1e-4, 2.5), trial(3e-4, 2.2, noise=0.05), trial(9e-4, 2.0), trial(2.7e-3, 2.4)]
    assert 5e-4 < (choose(clear, BEFORE_K) or 0) < 1.6e-3


def test_beside_a_trial_that_diverged_nothing_is_smoothed() -> None:
    assert choose([trial(1e-4, 2.0), trial(3e-4, 1.5), trial(9e-4, None)], BEFORE_K) == 3e-4
    assert choose([trial(1e-4, 1.5), trial(3e-4, 2.0)], BEFORE_K) == 1e-4


def test_nothing_is_chosen_where_no_trial_beats_the_untuned_model() -> None:
    assert choose([trial(1e-4, 3.0, noise=0.1), trial(3e-4, 3.2)], BEFORE_K) is None
    assert choose([trial(1e-4, None)], BEFORE_K) is None


def test_a_single_part_of_dev_rows_is_enough() -> None:
    rates = [Trial(rate, loss, (loss,), 20) for rate, loss in ((1e-4, 2.0), (3e-4, 1.0), (9e-4, 2.0))]
    assert choose(rates, np.asarray([3.0])) == 3e-4


def test_notes_tell_the_lowest_and_the_chosen() -> None:
    notes = [one.note for one in described([trial(9e-4, None), trial(3e-4, 1.0), trial(1e-4, 2.0)], 3e-4)]
    assert notes == ["", "lowest, chosen", "diverged by step 7"]


# --------------------------------------------------------------------------------------------------------------------------- a run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_stub(tmp_path / "stub")
    write_rows(tmp_path / "rows.jsonl", 40)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


def few(monkeypatch: pytest.MonkeyPatch, places: tuple[int, ...] = (-1, 0, 1)) -> None:
    monkeypatch.setattr(find_rate, "PLACES", places)
    monkeypatch.setattr(find_rate, "MOST_TRIALS", len(places))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_verb_finds_says_and_leaves_only_its_file(place: Path) -> None:
    run = write_run(place, "./stub", technique__name="full", train__steps=30)
    before = files(place)
    done = cli("tune", run, "--find-lr", folder=place)
    assert done.code == 0, done.err
    assert files(place) - before == {"out.learning_rate.json"}
    assert not files(place / "temporary")
    found = json.loads((place / "out.learning_rate.json").read_text())
    assert len({one["rate"] for one in found["trials"]}) == len(found["trials"]) >= 5
    losses = [one["loss"] for one in found["trials"] if one["loss"] is not None]
    assert min(losses) < found["before"], "the stub learns something in twenty steps"
    assert found["steps"] == 20 and found["usual"] == 5e-4
    assert f"train.learning_rate = {found['chosen']:g}" in done.out and "was not started" in done.out
    after = cli("tune", run, f"train.learning_rate={found['chosen']}", "--json", folder=place)
    assert after.code == 0, after.err


def test_trials_are_the_first_steps_of_the_run_and_begin_from_the_same_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same losses as the run at that rate, bit for bit, for the second trial as for the first; the model is back where it was each time."""
    few(monkeypatch)
    monkeypatch.setattr(find_rate, "FEWEST_STEPS", 4)
    seen: list[list[float]] = []
    real = find_rate.train

    def recorded(*arguments: Any, **named: Any) -> Any:
        seen.append([])
        for step in real(*arguments, **named):
            seen[-1].append(sum(step.losses.values()))
            yield step

    monkeypatch.setattr(find_rate, "train", recorded)
    run = write_run(place, "./stub", train__steps=8, technique__dropout=0.0)
    found = api.find_learning_rate(run)
    assert [len(losses) for losses in seen] == [4, 4, 4]
    assert found["steps"] == 4
    for losses, one in zip(seen, found["trials"], strict=True):
        output = place / f"at-{one['rate']:g}"
        api.tune(run, f"train.learning_rate={one['rate']}", f"output={output}")
        assert [line["loss"] for line in metrics(output) if "loss" in line][:4] == losses
    again = api.find_learning_rate(run)
    assert [one["loss"] for one in again["trials"]] == [one["loss"] for one in found["trials"]]


def test_the_dev_loss_is_that_of_the_rows(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The untuned model's equals the mean over answer tokens that the ecosystem's own class gives."""
    from transformers import AutoModelForCausalLM

    from burnish.prepare import prepare

    few(monkeypatch, (0,))
    monkeypatch.setattr(find_rate, "PARTS", 1)
    run = write_run(place, "./stub", train__steps=2)
    found = api.find_learning_rate(run)
    part = prepare(api.resolve(run)).first
    network = AutoModelForCausalLM.from_pretrained(str(place / "stub"))
    nll, count = 0.0, 0.0
    with torch.no_grad():
        for row, example in enumerate(part.gathered.examples["dev"]):
            for one in part.rows.sequences(example, row):
                logits_TV = network(torch.as_tensor(one.tokens_T[None], dtype=torch.long)).logits[0]
                picked = logits_TV.log_softmax(-1)[torch.as_tensor(one.at_N).long(), torch.as_tensor(one.target_N).long()]
                nll -= float((picked * torch.as_tensor(one.weight_N)).sum())
                count += float(one.weight_N.sum())
    assert found["rows"] == len(part.gathered.examples["dev"])
    assert found["before"] == pytest.approx(nll / count, rel=1e-5)


def test_a_rate_that_diverges_is_told_and_no_larger_one_is_tried(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from burnish.techniques import TECHNIQUES

    monkeypatch.setitem(TECHNIQUES, "full", replace(TECHNIQUES["full"], learning_rate=0.5))
    run = write_run(place, "./stub", technique__name="full", train__steps=20, train__schedule="constant", train__clip=0.0)
    found = api.find_learning_rate(run)
    given_up = [one for one in found["trials"] if one["loss"] is None]
    assert given_up and all(one["note"].startswith("diverged") for one in given_up)
    largest = max((one["rate"] for one in found["trials"] if one["loss"] is not None), default=0.0)
    assert all(one["rate"] > largest for one in given_up)
    assert len(found["trials"]) <= find_rate.MOST_TRIALS
    assert found["chosen"] is None or found["chosen"] <= largest


OBJECTIVES = ("classification", "qa", "dpo", "kto", "reward", "mlm", "distill")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import test_every_objective_runs as runs
    from test_encoders import make_encoder

    folder = tmp_path_factory.mktemp("kinds")
    make_stub(folder / "stub")
    make_encoder(folder / "encoder")
    write_rows(folder / "dialogs.jsonl")
    runs.write_labelled(folder / "labelled.jsonl")
    for kind, row in runs.MADE.items():
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row(number)) + "\n" for number in range(24)))
    return folder


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_is_for_every_kind_of_fixed_rows(objective: str, kinds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads, streams that the untuned model fills, tokens masked anew: each is judged by its own loss, and the run can start afterwards."""
    from test_every_objective_runs import run_of

    few(monkeypatch, (0, 1))
    run = run_of(kinds, objective, tmp_path / "run")
    found = burnish.find_learning_rate(run)
    assert np.isfinite(found["before"]) and all(one["loss"] is not None for one in found["trials"])
    assert len({one["loss"] for one in found["trials"]}) == 2, "another rate, another loss"
    assert not (tmp_path / "run").exists()
    if objective == "dpo":
        assert found["before"] == pytest.approx(np.log(2), rel=1e-5), "policy and reference are the same before step 0"


def test_several_tasks_are_judged_by_the_sum_of_their_weighted_losses(
    kinds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_every_objective_runs import run_of

    few(monkeypatch, (0,))
    monkeypatch.setattr(find_rate, "PARTS", 1)

    def before(**tasks: float) -> float:
        run = run_of(kinds, "sft", tmp_path / "run")
        del run["objective"], run["data"]
        shared = {"dev_share": 0.2, "test_share": 0.2, "near_duplicates": False}
        made = {
            "one": {"objective": "sft", "data": {**shared, "source": str(kinds / "dialogs.jsonl")}},
            "two": {"objective": "dpo", "data": {**shared, "source": str(kinds / "pairs.jsonl")}},
        }
        run["task"] = [{"name": name, "weight": weight, **made[name]} for name, weight in tasks.items()]
        return burnish.find_learning_rate(run)["before"]

    assert before(one=1.0, two=3.0) == pytest.approx(before(one=1.0, two=0.0) + 3 * np.log(2), rel=1e-5)


# ---------------------------------------------------------------------------------------------------------------------- what is refused


def test_what_cannot_be_judged_is_refused_with_the_reason(place: Path, kinds: Path) -> None:
    from test_every_objective_runs import run_of

    with pytest.raises(ConfigError, match=r"'grpo' the model learns from its own attempts"):
        api.find_learning_rate(run_of(kinds, "grpo", place / "out"))
    run = write_run(place, "./stub", data__dev_share=0.0)
    refused(cli("tune", run, "--find-lr", folder=place), "judged on dev rows, and there are none", r"data\.dev_share = 0\.1")
    refused(cli("tune", run, "--find-lr", "--resume", folder=place), "cannot go with --resume")
    assert not (place / "out").exists() and not (place / "out.learning_rate.json").exists()


def test_several_processes_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(cli("tune", write_run(place, "./stub"), "--find-lr", folder=place), "one process")


def test_where_no_trial_comes_to_its_end_the_reason_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, (0,))

    def broken(*arguments: Any, **named: Any) -> Any:
        yield find_rate.Step(0, {"nll": 1.0}, {}, 1.0, 1.0, 1, 1.0)
        raise RunError("Step 2: the gradient is not finite. More of it.")

    monkeypatch.setattr(find_rate, "train", broken)
    with pytest.raises(RunError, match=r"No trial came to its end.*Step 2: the gradient is not finite"):
        api.find_learning_rate(write_run(place, "./stub"))


@pytest.mark.parametrize("moment", ["Untuned", "rate "])
def test_a_stop_leaves_nothing(place: Path, moment: str) -> None:
    def say(line: str) -> None:
        if line.startswith(moment):
            os.kill(os.getpid(), signal.SIGINT)

    before = files(place)
    run = write_run(place, "./stub")
    with pytest.raises(Stopped) as caught:
        api.find_learning_rate(run, watch=Watch(say))
    assert caught.value.exit_code == 130 and "nothing was written" in str(caught.value)
    assert files(place) - before == {"run.toml"} and not files(place / "temporary")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
