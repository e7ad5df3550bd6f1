"""Tasks of different kinds in one run, heads by task among them: losses, folders, resuming, and what answers for which task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish import api
from burnish.data.batching import collate
from burnish.data.dialog import Frame
from burnish.data.render_heads import ANSWER, REWARD, HeadRenderer, HeadSpec
from burnish.errors import ModelError, UsageError
from burnish.models import Model, adapt, forward, head_modules, head_named, load_model, restore_weights, save_model
from burnish.models.outline import outline
from burnish.objectives import OBJECTIVES
from burnish.techniques import TECHNIQUES
from burnish.train import TaskLoss
from burnish.tune import Watch
from burnish.types import Batch, Origin, Sequence
from cli_runs import cli, digests, refused, result, write_labelled, write_rows
from loop import assert_same_gradients, cut, eight_sequences, loss_and_gradient, moving, run
from stub import cpu, make_stub

LABELS = HeadSpec("sequence", ("dry", "town", "wet"))
TAGS = HeadSpec("token", ("O", "B-day", "I-day"), "flat")
HEADS = {"a.b": LABELS, "keys": TAGS, "where": ANSWER, "worth": REWARD}
"""Names that torch would not take for a module as they are: with a point, and one that a container of modules has already."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("mixed") / "stub")


def load(folder: Path, heads: dict[str, HeadSpec], *, seed: int = 0, technique: str = "full", **options: Any) -> Model:
    torch.manual_seed(seed)
    model = load_model(str(folder), cpu(), heads=heads)
    adapt(model, TECHNIQUES[technique], options)
    return model


def rows_of(spec: HeadSpec, task: str) -> list[Sequence]:
    """Return rows of unequal length for a head; one of whole texts is read at the last token."""
    draw, made = np.random.default_rng(0), []
    for number, length in enumerate((5, 11, 8)):
        tokens_T = draw.integers(2, 280, length).astype(np.int32)
        at_N = np.asarray([length - 1] if spec.kind == "sequence" else [1, length // 2, length - 1])
        ones_N = np.ones(len(at_N), np.float32)
        made.append(
            Sequence(tokens_T, at_N, draw.integers(0, len(spec.labels), len(at_N)), ones_N, Origin("rows", number), task=task)
        )
    return made


def batch_of(model: Model, task: str, *, packing: bool = False) -> Batch:
    return collate(rows_of(model.heads[task], task), packing=packing, pad_id=model.pad_id(), device="cpu")


def said(model: Model, task: str, *, packing: bool = False) -> torch.Tensor:
    with torch.no_grad():
        found_NC = forward(model, batch_of(model, task, packing=packing), ("scores",)).scores_NC
    assert found_NC is not None
    return found_NC


def in_class(folder: Path, model: Model, task: str) -> Model:
    """Return the ecosystem's class for a task's head, with the weights of the head beside the network and of its trunk."""
    spec = model.heads[task]
    other = load_model(str(folder), cpu(), head=spec)
    other.plain().base_model.load_state_dict(model.plain().base_model.state_dict())
    (name,) = head_modules(other.plain())
    other.plain().get_submodule(name).load_state_dict(head_named(model, task).state_dict())
    return other


# ----------------------------------------------------------------------------------------------------------------- beside a network


@pytest.mark.parametrize("task", HEADS)
def test_a_head_beside_the_network_says_what_the_ecosystems_class_says(folder: Path, task: str) -> None:
    """Given the same weights: padded, packed, and where the network can only be run as a whole."""
    model = load(folder, HEADS)
    theirs = in_class(folder, model, task)
    expected_NC = forward(theirs, batch_of(model, task), ("scores",)).scores_NC
    assert expected_NC is not None and expected_NC.shape[1] == len(HEADS[task].labels)
    for packing, head in ((False, "separate"), (True, "separate"), (False, "whole")):
        model.head = "whole" if head == "whole" else "separate"
        torch.testing.assert_close(said(model, task, packing=packing), expected_NC.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("technique", ["full", "lora", "ia3", "prompt", "qlora"])
def test_heads_move_with_every_technique_and_are_no_part_of_it(folder: Path, technique: str) -> None:
    if technique not in TECHNIQUES:
        pytest.skip("not among the techniques")
    model = load(folder, {"kind": LABELS}, technique=technique)
    bare = load(folder, {}, technique=technique)
    heads = {name for name in moving(model) if "named_heads" in name}
    assert len(heads) == 1 and set(moving(model)) - heads == set(moving(bare)), "the technique trains what it did without"
    before = head_named(model, "kind").weight.detach().clone()
    steps = run(model, [batch_of(model, "kind")], steps=3, rate=1e-2, tasks={"kind": TaskLoss(OBJECTIVES["classification"])})
    assert steps[-1].losses["nll"] < steps[0].losses["nll"]
    assert head_named(model, "kind").weight.dtype == torch.float32 and not torch.equal(before, head_named(model, "kind").weight)


def test_the_sizes_told_beforehand_are_those_of_the_model(folder: Path) -> None:
    model = load(folder, HEADS)
    told = outline(model.plain().config, TECHNIQUES["full"], {}, heads=HEADS)
    assert (told.parameters, told.trainable) == model.parameters()


def test_a_model_without_the_head_of_a_task_says_so(folder: Path) -> None:
    model, batch = load(folder, {"kind": LABELS}), batch_of(load(folder, {"other": LABELS}), "other")
    with pytest.raises(ModelError, match=r"has heads for kind, and none for 'other'"):
        forward(model, batch, ("scores",))


# ------------------------------------------------------------------------------------------------------------------------- losses


def mixed(model: Model) -> list[Sequence]:
    """Return rows of three tasks: dialogs to imitate, texts with labels, plain texts."""
    dialogs = [one for unit in eight_sequences(model) for one in unit]
    spoken = [Sequence(one.tokens_T, one.at_N, one.target_N, one.weight_N, one.origin, task="talk") for one in dialogs[:5]]
    read = [Sequence(one.tokens_T, one.at_N, one.target_N, one.weight_N, one.origin, task="text") for one in dialogs[5:]]
    return [*spoken, *read, *rows_of(LABELS, "kind")]


TASKS = {
    "talk": TaskLoss(OBJECTIVES["sft"]),
    "text": TaskLoss(OBJECTIVES["sft"], {}, 0.25),
    "kind": TaskLoss(OBJECTIVES["classification"], {}, 2.0),
}


def by_task(rows: list[Sequence], tokens: int, **more: Any) -> list[Batch]:
    return [batch for task in TASKS for batch in cut([[one] for one in rows if one.task == task], tokens, **more)]


def test_a_mixed_step_is_the_weighted_sum_of_separate_ones(folder: Path) -> None:
    """In value, and in the gradient of trunk and head; each task divided by its own count."""
    model = load(folder, {"kind": LABELS})
    rows = mixed(model)
    step, gradient = loss_and_gradient(model, by_task(rows, 10**9), tasks=TASKS)
    expected = {name: torch.zeros_like(tensor) for name, tensor in gradient.items()}
    for name, task in TASKS.items():
        only = [batch for batch in by_task(rows, 10**9) if batch.task == name]
        alone = TaskLoss(task.objective, task.options)
        one, theirs = loss_and_gradient(model, only, tasks={name: alone})
        assert step.losses[f"{name}/nll"] == pytest.approx(one.losses["nll"], rel=1e-5)
        for place in expected:
            expected[place] += task.weight * theirs[place]
    assert_same_gradients(gradient, expected)
    # Once more without the loop: the head's part, by torch alone.
    batch = next(batch for batch in by_task(rows, 10**9) if batch.task == "kind")
    logits_NC = forward(model, batch, ("scores",)).scores_NC
    assert logits_NC is not None
    theirs = torch.nn.functional.cross_entropy(logits_NC, batch.target_N)
    assert step.losses["kind/nll"] == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("packing", [False, True])
def test_a_step_that_is_cut_is_the_whole_step(folder: Path, packing: bool) -> None:
    model = load(folder, {"kind": LABELS})
    rows = mixed(model)
    whole, gradient = loss_and_gradient(model, by_task(rows, 10**9), tasks=TASKS)
    parts = by_task(rows, 64, packing=packing)
    assert len(parts) > 5
    small, theirs = loss_and_gradient(model, parts, tasks=TASKS)
    assert small.losses == pytest.approx(whole.losses, rel=1e-4)
    assert_same_gradients(theirs, gradient)


# -------------------------------------------------------------------------------------------------------------------- on the disk


@pytest.mark.parametrize("technique", ["full", "lora"])
def test_saved_and_loaded_heads_say_the_same(folder: Path, technique: str, tmp_path: Path) -> None:
    """The folder opens with the ecosystem's own loader too, with nothing left over."""
    from transformers import AutoModelForCausalLM

    model = load(folder, HEADS, technique=technique)
    with torch.no_grad():
        for parameter in moving(model).values():
            parameter += 0.01 * torch.randn_like(parameter)
    model.network.eval()
    save_model(model, tmp_path / "saved")
    assert (tmp_path / "saved" / "heads.safetensors").is_file() and model.heads == HEADS
    again = load_model(str(tmp_path / "saved"), cpu())
    assert again.heads == HEADS and again.spec is None
    for task in HEADS:
        torch.testing.assert_close(said(again, task), said(model, task), atol=1e-6, rtol=1e-5)
    if technique == "full":
        opened: Any = AutoModelForCausalLM.from_pretrained(str(tmp_path / "saved"), output_loading_info=True)
        assert not opened[1]["missing_keys"] and not opened[1]["unexpected_keys"]
    kept = {task: said(model, task) for task in HEADS}
    with torch.no_grad():
        for parameter in moving(model).values():
            parameter.zero_()
    restore_weights(model, tmp_path / "saved")
    assert all(torch.equal(said(model, task), kept[task]) for task in HEADS), "bit for bit"
    (tmp_path / "saved" / "heads.safetensors").unlink()
    with pytest.raises(ModelError, match=r"heads beside the model are missing \(heads.safetensors\)"):
        load_model(str(tmp_path / "saved"), cpu())


def test_a_run_that_goes_on_takes_the_heads_of_its_tasks_up(folder: Path, tmp_path: Path) -> None:
    model = load(folder, {"kind": LABELS, "old": TAGS}, technique="lora")
    with torch.no_grad():
        head_named(model, "kind").weight += 1.0
    save_model(model, tmp_path)
    on = load_model(str(tmp_path), cpu(), heads={"kind": LABELS, "new": TAGS})
    assert torch.equal(head_named(on, "kind").weight, head_named(model, "kind").weight)
    assert any("heads of old are of no task here" in note for note in on.notes)
    adapt(on, TECHNIQUES["lora"], {})
    torch.testing.assert_close(said(on, "kind"), said(model, "kind"), atol=1e-5, rtol=1e-4)
    with pytest.raises(ModelError, match=r"holds a head for task 'kind' with the labels dry, town, wet"):
        load_model(str(tmp_path), cpu(), heads={"kind": HeadSpec("sequence", ("wet", "dry", "town"))})


def test_a_merged_adapter_keeps_its_heads(folder: Path, tmp_path: Path) -> None:
    from burnish.merge import merge

    model = load(folder, {"kind": LABELS}, technique="lora")
    run(model, [batch_of(model, "kind")], steps=5, rate=1e-2, tasks={"kind": TaskLoss(OBJECTIVES["classification"])})
    model.network.eval()
    save_model(model, tmp_path / "adapter")
    merge(str(tmp_path / "adapter"), tmp_path / "merged")
    torch.testing.assert_close(said(load_model(str(tmp_path / "merged"), cpu()), "kind"), said(model, "kind"), atol=1e-4, rtol=1e-3)


# ------------------------------------------------------------------------------------------------------------------------ whole runs

SETTINGS: dict[str, Any] = {
    "seed": 5,
    "dtype": "float32",
    "threads": 1,
    "data": {"dev_share": 0.2, "test_share": 0.2, "near_duplicates": False},
    "train": {"steps": 6, "batch": 6, "learning_rate": 1e-3, "schedule": "constant"},
    "evaluate": {"max_tokens": 4, "baseline": False, "forgetting": False, "every": 3},
    "save": {"every": 3},
    "log": {"every": 1, "tensorboard": False},
}


@pytest.fixture(scope="module")
def place(folder: Path) -> Path:
    write_rows(folder.parent / "rows.jsonl")
    write_labelled(folder.parent / "labelled.jsonl")
    texts = [json.dumps({"text": f"The {number} boats of the harbour are painted in spring."}) for number in range(30)]
    (folder.parent / "texts.jsonl").write_text("\n".join(texts) + "\n")
    return folder.parent


def three(place: Path, output: Path, **more: Any) -> dict[str, Any]:
    tasks: list[dict[str, Any]] = [
        {"name": "parcels", "data": str(place / "labelled.jsonl"), "objective": "classification", "share": 2, "weight": 0.5},
        {"name": "colours", "data": str(place / "rows.jsonl"), "score": ["exact_match", "bits_per_byte"], "share": 2},
        {"name": "boats", "data": str(place / "texts.jsonl"), "score": "bits_per_byte", "share": 1},
    ]
    return {**SETTINGS, "model": str(place / "stub"), "output": str(output), "technique": "lora", "task": tasks, **more}


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    return api.tune(three(place, place / "three"))


def report_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def test_every_task_is_scored_by_what_answers_for_it(finished: Path) -> None:
    report = report_of(finished)
    assert set(report["scores"]) == {
        "parcels/accuracy",
        "parcels/macro_f1",
        "colours/exact_match",
        "colours/bits_per_byte",
        "boats/bits_per_byte",
    }
    answers = [json.loads(line) for line in (finished / "answers.jsonl").read_text().splitlines()]
    for arm in ("base", "tuned"):
        assert {row[arm]["text"] for row in answers if row["task"] == "parcels"} <= {"lamp", "parcel"}, "a head says labels alone"
    assert (finished / "model" / "heads.safetensors").is_file() and (finished / "model" / "adapter_model.safetensors").is_file()


def test_evaluating_the_run_again_gives_the_figures_of_its_report(finished: Path) -> None:
    """Of base and tuned model: the heads of the base are trained again, and none depends on which others are."""
    report, again, alone = report_of(finished), api.evaluate(finished), api.evaluate(finished, task="parcels")
    for name, row in report["scores"].items():
        for arm in ("base", "tuned"):
            assert again["scores"][name][arm]["mean"] == pytest.approx(row[arm]["mean"], abs=1e-6), (name, arm)
    assert alone["scores"]["accuracy"]["base"]["mean"] == report["scores"]["parcels/accuracy"]["base"]["mean"]


def test_the_head_of_the_task_that_is_named_answers(finished: Path) -> None:
    first = cli("generate", finished, "--prompt", "message 7: the lamp is dark", "--json").json["answers"][0]
    named = cli("generate", finished, "--task", "parcels", "--prompt", "message 7: the lamp is dark", "--json").json["answers"][0]
    assert first == named and named["text"] in ("lamp", "parcel")
    written = cli("generate", finished, "--task", "colours", "--prompt", "message 7: the lamp is dark", "--json").json["answers"][0]
    assert written["tokens"] > 0 and named["tokens"] == 0
    refused(cli("generate", finished, "--task", "parcel", "--prompt", "x"), "has no task 'parcel'", "Did you mean 'parcels'")
    assert isinstance(api.load(finished).renderer, HeadRenderer)
    assert api.load(finished).writer.frame == Frame(), (
        "whoever only talks with it is answered in the form of the first task that writes"
    )


@pytest.fixture(scope="module")
def judges(place: Path) -> Path:
    """A run with two reward heads, which learned opposite preferences, and a head for labels."""
    tasks = []
    for name, better in (("longer", "a long answer of many words"), ("shorter", "brief")):
        worse = {"longer": "brief", "shorter": "a long answer of many words"}[name]
        rows = [json.dumps({"prompt": f"question {n}?", "chosen": f"{better} {n}", "rejected": f"{worse} {n}"}) for n in range(24)]
        (place / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
        tasks.append({"name": name, "data": str(place / f"{name}.jsonl"), "objective": "reward"})
    tasks.append({"name": "parcels", "data": str(place / "labelled.jsonl"), "objective": "classification"})
    train = {**SETTINGS["train"], "steps": 30, "learning_rate": 3e-3}
    return api.tune({**SETTINGS, "model": str(place / "stub"), "output": str(place / "judges"), "task": tasks, "train": train})


def test_the_reward_head_of_a_task_is_a_reward(place: Path, judges: Path, tmp_path: Path) -> None:
    """Each head judges by what it learned, in words of its own task; the run that names one finishes with its reward in the report."""
    from burnish.config import load as read
    from burnish.prepare import registries
    from burnish.tune_rewards import reward_model
    from burnish.types import Answer, Expected, Message, Task, content

    asked = {
        **SETTINGS,
        "model": str(place / "stub"),
        "objective": "grpo",
        "data": {**SETTINGS["data"], "source": str(place / "rows.jsonl")},
    }
    resolved = read(None, registries=registries(), values=asked)
    tasks = [
        Task(messages=(Message("user", content("question 99?")),), expected=Expected(), origin=Origin("rows", n)) for n in range(2)
    ]
    answers = [Answer(text="a long answer of many words 99"), Answer(text="brief 99")]
    for name, sign in (("longer", 1), ("shorter", -1)):
        long, short = reward_model(str(judges), resolved, cpu(), task=name)(answers, tasks)
        assert sign * (long - short) > 0, name
    rollout = {"samples": 2, "max_tokens": 4, "reward": [{"model": str(judges), "task": name} for name in ("longer", "shorter")]}
    run = {**asked, "output": str(tmp_path / "run"), "rollout": rollout, "train": {**SETTINGS["train"], "steps": 2}}
    output = api.tune(run)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    parts = {key for line in lines for key in line if key.startswith("reward/")}
    assert parts == {f"reward/{judges}/longer", f"reward/{judges}/shorter"}
    assert "reward" in report_of(output)["scores"]
    for reward, says in (
        ({"model": str(judges)}, "has reward heads for longer, shorter. Say whose is meant: task = 'longer'"),
        ({"model": str(judges), "task": "longr"}, "has no task 'longr'.*Did you mean 'longer'"),
        ({"model": str(judges), "task": "parcels"}, "has no reward head for the task 'parcels'"),
        ({"score": "rouge_l", "task": "longer"}, "there is no model"),
    ):
        with pytest.raises(api.ConfigError, match=says):
            api.tune({**run, "output": str(tmp_path / "no"), "rollout": {**rollout, "reward": [reward]}})


def test_stopped_and_taken_up_again_is_uninterrupted(place: Path, finished: Path, tmp_path: Path) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.tune(three(place, tmp_path / "again"), watch=Watch(step=stop))
    api.tune(three(place, tmp_path / "again"), resume=True)
    assert result(tmp_path / "again")["scores"] == result(finished)["scores"]
    assert digests(tmp_path / "again" / "model") == digests(finished / "model")


def test_the_base_has_the_same_head_and_the_tuned_model_keeps_its_own(place: Path, finished: Path, tmp_path: Path) -> None:
    """The heads that only the base is given leave no trace in the model that was asked before."""
    from burnish.finish_heads import heads_alone
    from burnish.prepare import prepare

    plan = prepare(api.resolve(three(place, tmp_path / "none")))
    model = load_model(str(finished), cpu())
    before = head_named(model, "parcels").weight.clone()
    with model.network.disable_adapter(), heads_alone(plan, model, ["parcels"]):
        assert not torch.equal(head_named(model, "parcels").weight, before)
    assert torch.equal(head_named(model, "parcels").weight, before)


def test_a_run_goes_on_from_a_mixed_one(place: Path, finished: Path, tmp_path: Path) -> None:
    run = three(place, tmp_path / "on", model=str(finished))
    run["train"] = {**run["train"], "steps": 1, "learning_rate": 1e-9}
    on = api.tune(run)
    ours, theirs = (load_model(str(one), cpu()) for one in (on, finished))
    torch.testing.assert_close(head_named(ours, "parcels").weight, head_named(theirs, "parcels").weight, atol=1e-6, rtol=0)


def test_an_encoder_restores_tokens_and_tells_labels_in_one_run(place: Path, tmp_path: Path) -> None:
    from test_encoders import make_encoder

    run = three(place, tmp_path / "both", model=str(make_encoder(tmp_path / "encoder")), technique="full")
    run["task"] = [
        {"name": "parcels", "data": str(place / "labelled.jsonl"), "objective": "classification"},
        {"name": "boats", "data": str(place / "texts.jsonl"), "objective": "mlm"},
    ]
    report = report_of(api.tune(run))
    measured = {"parcels/accuracy", "parcels/macro_f1", "boats/restored_tokens", "boats/bits_per_masked_token"}
    assert set(report["scores"]) == measured and report["headline"] == "parcels/accuracy"
    opened = load_model(str(tmp_path / "both"), cpu())
    assert opened.encoder and opened.spec is not None and opened.spec.kind == "masked" and set(opened.heads) == {"parcels"}
    run["task"][1]["objective"] = "sft"
    with pytest.raises(UsageError, match=r"must be\s+causal"):
        api.tune({**run, "output": str(tmp_path / "refused")})


# ------------------------------------------------------------------------------------------------------------- attempts beside rows


def test_attempts_stand_beside_fixed_rows_and_resume_inside_a_rollout(place: Path, tmp_path: Path) -> None:
    def attempted(output: Path) -> dict[str, Any]:
        run = three(place, output, rollout={"samples": 2, "max_tokens": 4, "inner": 2})
        run["task"][1] |= {"objective": "grpo", "score": ["exact_match"]}
        return run

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 4:
            raise KeyboardInterrupt

    whole = api.tune(attempted(tmp_path / "whole"))
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert all({"parcels/nll", "boats/nll", "colours/rollout/reward"} <= set(line) for line in steps)
    with pytest.raises(KeyboardInterrupt):
        api.tune(attempted(tmp_path / "again"), watch=Watch(step=stop))
    api.tune(attempted(tmp_path / "again"), resume=True)
    assert digests(tmp_path / "again" / "model") == digests(whole / "model")
    narrow = attempted(tmp_path / "narrow")
    narrow["train"] = {**narrow["train"], "batch": 1}
    with pytest.raises(UsageError, match=r"the attempts of colours take all of it, which leaves no row for parcels, boats"):
        api.tune(narrow)
