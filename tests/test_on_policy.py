"""On-policy distillation: what the model answers itself, what the teacher says of it, and a run that is stopped and taken up again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish import api, config, teacher
from burnish.data.batching import FixedBatches, shuffled
from burnish.data.dialog import Frame, as_task
from burnish.errors import ConfigError, ModelError, UsageError
from burnish.models import Model
from burnish.objectives.distill import DISTILL
from burnish.prepare import registries
from burnish.sampling import Options, generate
from burnish.terminal import step_line
from burnish.train import TaskLoss
from burnish.tune import Watch
from burnish.tune_taught import OwnAnswers, chosen
from burnish.types import Origin, Task, Text
from loop import eight_dialogs, eight_sequences, loss_and_gradient, renderer, restore, run, snapshot
from stub import load_stub, make_stub
from test_every_objective_runs import place, run_of, steps  # noqa: F401  (a fixture)

VOCABULARY = 288


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("teacher"), seed=9)


@pytest.fixture
def model(loaded: Model) -> Iterator[Model]:
    before = snapshot(loaded)
    loaded.network.requires_grad_(True)
    yield loaded
    loaded.network.requires_grad_(False)
    restore(loaded, before)


def tasks() -> list[Task]:
    return [as_task(row, Frame()) for row in eight_dialogs()]


def source(model: Model, other: Model, *, share: float = 1.0, candidates: int = 7, **more: Any) -> OwnAnswers:
    flat = [part for unit in eight_sequences(model) for part in unit]
    units = [[part] for part in teacher.fill(other, model.tokenizer, flat, candidates=candidates)]
    options = Options(max_tokens=more.pop("max_tokens", 6), temperature=1.0, seed=3, batch=more.pop("flight", 64))
    given = more.pop("tasks", None) or tasks()
    settings: dict[str, Any] = {"batch": 4, "tokens": 4096, "packing": False, "pad_id": 0, "device": "cpu", **more}
    fixed = FixedBatches(examples=units, order=shuffled(len(units), 3), **settings)
    return OwnAnswers(fixed, model, other, renderer(model), given, share, options, candidates)


def rows_of(batches: list[Any]) -> list[tuple[Any, ...]]:
    """Return each sequence of some batches as (tokens up to its last target, first read-out, targets, the teacher's candidates)."""
    found = []
    for batch in batches:
        for row in range(len(batch.role_S)):
            inside = batch.sequence_N == row
            at, target = batch.at_N[inside].tolist(), batch.target_N[inside].tolist()
            ids = batch.layout.input_ids_BT[row].tolist()[: at[-1] + 2]
            found.append((ids, at[0], target, batch.streams["candidates"][inside].tolist(), batch.streams["teacher"][inside]))
    return sorted(found, key=lambda one: one[0])


def test_the_model_answers_and_the_teacher_says_what_its_whole_output_says(model: Model, other: Model) -> None:
    made = source(model, other)
    found = rows_of(made(0))
    numbers = made.source.chosen(0)
    expected = {}
    for number in numbers:
        prompt = renderer(model).prompt(tasks()[number])
        (answer,) = generate(model, [prompt], made.options, numbers=[number])
        end = [] if answer.end_id is None else [answer.end_id]
        expected[(*prompt.tolist(), *answer.tokens.tolist(), *end)] = len(prompt)
    assert {tuple(ids) for ids, *_ in found} == set(expected)
    for ids, first, target, candidates, said in found:
        length = expected[tuple(ids)]
        assert first == length - 1 and target == ids[length:]
        logits = other.network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, length - 1 : -1]
        likeliest = logits.detach().log_softmax(-1).topk(7)
        assert candidates == likeliest.indices.tolist()
        torch.testing.assert_close(said, likeliest.values, rtol=1e-4, atol=1e-5)
    assert made.told["own/length"] <= 6 and 0 <= made.told["own/stop_rate"] <= 1


@pytest.mark.parametrize(("options", "beta"), [({}, 0.0), ({"direction": "reverse"}, 1.0), ({"direction": "js", "beta": 0.3}, 0.3)])
def test_loss_and_gradient_are_those_of_trl(
    model: Model, other: Model, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], beta: float
) -> None:
    """GKD on the model's own answers, over the whole vocabulary: trl's loss of the two networks' logits, as mean over answer tokens."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gkd import GKDTrainer

    made = source(model, other, candidates=VOCABULARY)
    batches = made(0)
    step, ours = loss_and_gradient(model, batches, tasks={"main": TaskLoss(DISTILL, {**options, "on_policy": 1.0})})
    parts, count = [], sum(int(batch.weight_N.sum()) for batch in batches)
    for batch in batches:
        ids, labels = batch.layout.input_ids_BT, torch.full_like(batch.layout.input_ids_BT, -100)
        labels[batch.sequence_N, batch.at_N] = batch.target_N
        with torch.no_grad():
            theirs = other.network(input_ids=ids, use_cache=False).logits
        mine = model.network(input_ids=ids, use_cache=False).logits
        parts.append(GKDTrainer.generalized_jsd_loss(mine, theirs, labels=labels, beta=beta, reduction="sum"))
    expected = torch.stack(parts).sum() / count
    model.network.zero_grad()
    expected.backward()
    assert step.losses["distill"] == pytest.approx(expected.item(), rel=1e-3)
    for name, parameter in model.network.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=2e-3, atol=2e-4)


def test_a_share_of_the_rows_anew_in_each_epoch_and_the_others_as_they_are(model: Model, other: Model) -> None:
    own = [[chosen(number, epoch, seed=3, share=0.3) for number in range(400)] for epoch in range(2)]
    assert 0.2 < np.mean(own[0]) < 0.4 and own[0] != own[1]
    made = source(model, other, share=0.5)
    fixed, mixed = rows_of(made.source(0)), rows_of(made(0))
    numbers = made.source.chosen(0)
    expected = sum(not chosen(number, 0, seed=3, share=0.5) for number in numbers)
    kept = [row for row in mixed if row[0] in [ids for ids, *_ in fixed]]
    assert len(kept) == expected and 0 < expected < 4
    assert rows_of(source(model, other, share=0.0)(0))[0][:4] == fixed[0][:4]


def test_neither_cut_nor_flight_nor_ranks_change_what_is_learned(model: Model, other: Model) -> None:
    """And a step that is asked for again is the same one: nothing has to persist."""

    def plain(found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [row[:4] for row in found]

    whole = source(model, other, share=0.5)
    expected = plain(rows_of(whole(1)))
    assert plain(rows_of(whole(1))) == expected
    assert plain(rows_of(source(model, other, share=0.5, tokens=64, flight=1)(1))) == expected
    ranks = [source(model, other, share=0.5, tokens=64, rank=rank, ranks=2)(1) for rank in range(2)]
    assert plain(rows_of([batch for part in ranks for batch in part])) == expected
    assert plain(rows_of(whole(3))) != expected


def test_a_student_becomes_its_teacher_on_its_own_answers(model: Model, other: Model) -> None:
    found = run(
        model, source(model, other, candidates=32), steps=30, rate=5e-3, tasks={"main": TaskLoss(DISTILL, {"on_policy": 1.0})}
    )
    assert np.mean([step.losses["distill"] for step in found[-3:]]) < 0.4 * found[0].losses["distill"]


def test_what_cannot_be_answered_is_refused(model: Model, other: Model) -> None:
    with pytest.raises(ConfigError, match=r"plain texts .*rows\.jsonl:3"):
        source(model, other, tasks=[*tasks()[:7], as_task(Text(text="no question", origin=Origin("rows.jsonl", 3)), Frame())])
    with pytest.raises(ModelError, match=r"no room for an answer of 480 tokens"):
        source(model, other, max_tokens=480)
    for options, said in (({"on_policy": 1.5}, "on_policy = 1.5"), ({"on_policy": 0.5, "hard": 0.5}, "exclude each other")):
        with pytest.raises(ConfigError, match=said):
            DISTILL.own_share(options)
    assert DISTILL.own_share({}) == 0 and DISTILL.own_share({"on_policy": 0.25}) == 0.25


# ------------------------------------------------------------------------------------------------------------------------- runs


def test_pain_16_stopped_and_taken_up_again_is_uninterrupted_on_policy(place: Path, tmp_path: Path) -> None:  # noqa: F811
    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 3:
            raise KeyboardInterrupt

    make_stub(tmp_path / "large", seed=9)
    more = {"objective": {"name": "distill", "on_policy": 0.5}, "teacher": str(tmp_path / "large")}
    quiet = api.tune({**run_of(place, "distill", tmp_path / "quiet"), **more})
    broken = {**run_of(place, "distill", tmp_path / "broken"), **more}
    with pytest.raises(KeyboardInterrupt):
        api.tune(broken, watch=Watch(step=stop))
    api.tune(broken, resume=True)
    assert steps(tmp_path / "broken") == steps(quiet)
    told = [line for line in steps(quiet) if "own/length" in line]
    assert told and all(0 <= line["own/stop_rate"] <= 1 for line in told)


def test_a_teacher_of_other_weights_is_refused_on_resume_and_a_moved_one_is_not(place: Path, tmp_path: Path) -> None:  # noqa: F811
    """The name alone says nothing: what lies there may have been tuned anew since."""

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 3:
            raise KeyboardInterrupt

    make_stub(tmp_path / "large", seed=9)
    run = run_of(place, "distill", tmp_path / "out", teacher=str(tmp_path / "large"))
    with pytest.raises(KeyboardInterrupt):
        api.tune(run, watch=Watch(step=stop))
    shutil.move(tmp_path / "large", tmp_path / "moved")
    make_stub(tmp_path / "large", seed=10)
    with pytest.raises(UsageError, match="teacher: its weights are not those the run began with"):
        api.tune(run, resume=True)
    api.tune({**run, "teacher": str(tmp_path / "moved")}, resume=True)
    assert json.loads((tmp_path / "out/status.json").read_text())["state"] == "finished"


def test_a_reward_model_of_other_weights_is_refused_on_resume(place: Path, tmp_path: Path) -> None:  # noqa: F811
    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 3:
            raise KeyboardInterrupt

    judge = api.tune(run_of(place, "reward", tmp_path / "judge"))
    rollout = {"samples": 2, "max_tokens": 4, "reward": [{"model": str(judge)}]}
    run = run_of(place, "grpo", tmp_path / "out", rollout=rollout)
    with pytest.raises(KeyboardInterrupt):
        api.tune(run, watch=Watch(step=stop))
    shutil.rmtree(judge)
    api.tune(run_of(place, "reward", judge, seed=6))
    with pytest.raises(UsageError, match=r"rollout\.reward\.0: its weights are not those"):
        api.tune(run, resume=True)


def test_a_teacher_and_a_reward_model_are_named_from_the_run_file(tmp_path: Path) -> None:
    """With a leading ./ or ../ they belong to the run file, and still do where the run is written down elsewhere."""
    (tmp_path / "runs").mkdir()
    file = tmp_path / "run.toml"
    text = 'data = "rows.jsonl"\nteacher = "./large"\n[rollout]\nreward = [{model = "../judge", weight = 2.0}, "accuracy"]\n'
    file.write_text(text, encoding="utf-8")
    resolved = config.load(file, registries=registries())
    assert config.named_model(resolved, resolved.config.teacher) == str(tmp_path / "large")
    written = tmp_path / "runs/run.toml"
    written.write_text(config.dump(resolved, folder=written.parent), encoding="utf-8")
    again = config.load(written, registries=registries())
    assert again.config.teacher == "../large" and again.config.rollout.reward[0].model == "../../judge"
    assert config.named_model(again, again.config.rollout.reward[0].model) == str(tmp_path.parent / "judge")
    assert config.difference(resolved, again) == []
    assert config.named_model(resolved, "runs/large") == "runs/large", "an earlier output, from the current folder"


def test_the_line_of_reinforcement_learning_shows_what_the_answers_are_worth() -> None:
    record = {"step": 5, "steps": 10, "loss": 1e-9, "tokens_per_second": 100.0, "time_left": 3.0}
    assert "loss 0.0000" in step_line(record)
    line = step_line({**record, "rollout/reward": 0.4321, "rollout/length": 12.25, "rollout/kl": 0.0512})
    assert "reward 0.4321  length 12.2  kl 0.0512" in line and "loss" not in line
    assert "kl" not in step_line({**record, "rollout/reward": 0.4, "rollout/length": 12.0})
