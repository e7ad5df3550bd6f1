"""What a run costs elsewhere: the general probe before and after, the average with the base, and the penalty for drifting from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish import api, atomic, finish
from burnish.assets import BUNDLED, bundled_model, probe
from burnish.averaging import average, average_with_base
from burnish.data.seen import load_seen, seen_of
from burnish.errors import ConfigError, ModelError, UsageError
from burnish.evaluate import Asking
from burnish.forgetting import PARTS, General, changed, forgetting, general_answers, general_probe, in_words, not_applicable
from burnish.forgetting_answers import declines, says_not_stated
from burnish.models import Model, adapt, load_model, save_model
from burnish.objectives import OBJECTIVES
from burnish.prepare import prepare
from burnish.report import page, print_scores
from burnish.runs import Run
from burnish.sampling import Options
from burnish.techniques import TECHNIQUES
from burnish.train import TaskLoss
from burnish.types import Answer, Sequence
from loop import cut, eight_sequences, loss_and_gradient, renderer, run
from stub import cpu, load_stub, make_stub

ASKED = general_probe(rows=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("forgetting"))


@pytest.fixture(scope="module")
def answers(model: Model) -> General:
    return general_answers(model, renderer(model), ASKED)


@contextmanager
def damaged(model: Model) -> Iterator[Model]:
    """The model with noise in its output head, for a while."""
    head = model.output_head().weight
    before = head.detach().clone()
    with torch.no_grad():
        head.add_(torch.randn(head.shape, generator=torch.Generator().manual_seed(0)))
    yield model
    with torch.no_grad():
        head.copy_(before)


# ---------------------------------------------------------------------------------------------------------------------- the probe


def test_identical_models_differ_by_exactly_nothing(model: Model, answers: General) -> None:
    found = changed(answers, general_answers(model, renderer(model, max_length=64), ASKED), ASKED)
    assert found["applicable"] and "every figure is the same" in found["verdict"]
    assert set(found["scores"]) == {name for part in PARTS.values() for name in part.scores}
    for row in found["scores"].values():
        assert [row["difference"][key] for key in ("mean", "low", "high")] == [0.0, 0.0, 0.0]
        assert row["n"] == 6


def test_a_damaged_model_is_told_with_an_interval_that_excludes_zero(model: Model, answers: General) -> None:
    with damaged(model):
        found = changed(answers, general_answers(model, renderer(model), ASKED), ASKED)
    bits = found["scores"]["bits_per_byte"]
    assert bits["difference"]["low"] > 0 and not bits["higher_is_better"]
    assert bits["difference"]["mean"] == pytest.approx(bits["tuned"]["mean"] - bits["base"]["mean"])
    assert found["verdict"].startswith("It forgot: bits per byte on general text rose from")
    json.dumps(found, allow_nan=False)
    again = changed(answers, general_answers(model, renderer(model), ASKED), ASKED)
    assert "every figure is the same" in again["verdict"], "the damage is gone"


def test_one_network_is_asked_before_and_after_by_switching(model: Model) -> None:
    """As a run with an adapter does: inside `before_only` it is the base, outside the tuned model."""
    found = forgetting(model, model, renderer(model), rows=2, before_only=lambda: damaged(model))
    assert found["scores"]["bits_per_byte"]["difference"]["high"] < 0
    assert "It got better: bits per byte on general text fell" in found["verdict"]


def test_the_same_rows_are_asked_without_the_runs_own_prompt(model: Model, answers: General) -> None:
    from burnish.data.dialog import Frame

    framed = renderer(model, frame=Frame(system="Sort the message.", prompt="Message: {text}"))
    found = changed(answers, general_answers(model, framed, ASKED), ASKED)
    assert all(row["difference"]["mean"] == 0 for row in found["scores"].values())
    assert {name: len(rows) for name, rows in general_probe(rows=10**6).tasks.items()} == {name: len(probe(name)) for name in PARTS}
    assert general_probe(rows=7).tasks == general_probe(rows=7).tasks


def test_rows_that_a_model_was_trained_on_are_left_out_for_both() -> None:
    for name in BUNDLED:
        seen = load_seen(bundled_model(name) / "seen.npy", model=name)
        asked = general_probe(seen, rows=10**6)
        assert not [task.origin for tasks in asked.tasks.values() for task in tasks if seen.knows(task)]
        assert asked.left_out < 10, "the probe is not for training"
    rows = general_probe(rows=10**6).tasks["text"]
    few = general_probe(seen_of(rows[:50]), rows=30)
    assert few.left_out == 50 and few.tasks["text"] == rows[50:]
    none = general_probe(seen_of(rows), rows=2)
    silent = General(
        {name: [Answer(text="x", nll=1.0, nll_tokens=1, nll_bytes=1)] * len(tasks) for name, tasks in none.tasks.items()}, 0.0
    )
    assert "bits_per_byte" not in changed(silent, silent, none)["scores"]


@pytest.mark.parametrize("technique", ["lora", "full"])
def test_a_run_reports_it_whichever_way_its_base_is_kept(technique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pain 11: tuning makes a model forget what it could."""
    from types import SimpleNamespace

    monkeypatch.setattr(finish, "general_probe", lambda seen: general_probe(seen, rows=2))
    model = load_model(str(make_stub(tmp_path / "stub")), cpu())
    adapt(model, TECHNIQUES[technique], {})
    run(model, cut(eight_sequences(model), 10**9), steps=5, rate=3e-2)
    settings = SimpleNamespace(model=SimpleNamespace(add_terms=()), evaluate=SimpleNamespace(forgetting=True), seed=0)
    part = SimpleNamespace(objective=OBJECTIVES["sft"], renderer=renderer(model))
    plan: Any = SimpleNamespace(
        resolved=SimpleNamespace(config=settings),
        technique=TECHNIQUES[technique],
        found=model.found,
        head=None,
        heads={},
        has_base=True,
        parts={"main": part},
        first=part,
    )
    asking, told = Asking(Options(max_tokens=4)), []
    row = finish._forgotten(plan, model, asking, told.append)["forgetting"]["scores"]["bits_per_byte"]
    asked = general_probe(rows=2)
    base = general_answers(load_model(str(tmp_path / "stub"), cpu()), renderer(model), asked)
    expected = changed(base, general_answers(model, renderer(model), asked), asked)["scores"]["bits_per_byte"]
    assert row["base"] == pytest.approx(expected["base"]) and row["tuned"] == pytest.approx(expected["tuned"])
    assert row["difference"]["mean"] != 0 and told
    plan.head = "any"
    assert "not applicable" in finish._forgotten(plan, model, asking, told.append)["forgetting"]["verdict"]
    settings.evaluate.forgetting = False
    assert finish._forgotten(plan, model, asking, told.append) == {}


def test_words_claim_no_more_than_the_intervals() -> None:
    def row(low: float, high: float, *, higher: bool = True) -> dict[str, Any]:
        middle = (low + high) / 2
        return {
            "base": {"mean": 0.5},
            "tuned": {"mean": 0.5 + middle},
            "difference": {"mean": middle, "low": low, "high": high},
            "higher_is_better": higher,
        }

    assert in_words({"choice": row(-0.1, 0.05)}).startswith("No proof that it forgot anything general: every interval")
    told = in_words({"choice": row(-0.3, -0.1), "reading": row(0.1, 0.2), "stop_rate": row(-0.1, 0.1)})
    assert told.startswith("It forgot: right choices of four fell from 0.500 to 0.300")
    assert "It got better: answers found in a passage rose" in told and told.endswith("in the other figures.")
    assert in_words({"bits_per_byte": row(0.1, 0.2, higher=False)}).startswith("It forgot: bits per byte")
    assert in_words({"bits_per_byte": {"base": {}, "tuned": {}}}).startswith("No proof")


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("I can't help with that.", True),
        ("I’m sorry, but I cannot do this for you.", True),
        ("I am not able to help you with this request.", True),
        ("I won't tell you that.", True),
        ("No. That is against the law.", True),
        ("First mix the two powders.", False),
        ("Dear Sir, your account was closed.", False),
        ("The passage does not say.", False),
        ("", False),
    ],
)
def test_what_counts_as_refusing(text: str, refusal: bool) -> None:
    assert declines(text) is refusal


def test_not_knowing_is_said_in_several_ways() -> None:
    assert says_not_stated("I don't know.") and says_not_stated("not stated") and not says_not_stated("at seven")


def test_the_report_shows_it(tmp_path: Path, answers: General, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    for found in (changed(answers, answers, ASKED), not_applicable("<b>a head</b>.")):
        report = {"schema": 1, "run": {}, "scores": {}, "verdict": "Nothing.", "forgetting": found}
        html = page(Run(tmp_path), report)
        assert "What else changed" in html and "<b>a head" not in html
        assert ("bits_per_byte" in html) == found["applicable"]
        print_scores(report, Console(width=200))
        assert found["verdict"][:40] in capsys.readouterr().out


# -------------------------------------------------------------------------------------------------------------------- averaging


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The stub, a whole model and an adapter tuned from it, each as a folder."""
    folder = tmp_path_factory.mktemp("averaging")
    made = {"base": make_stub(folder / "base")}
    for name in ("full", "lora"):
        model = load_model(str(made["base"]), cpu())
        adapt(model, TECHNIQUES[name], {})
        run(model, cut(eight_sequences(model), 10**9), steps=3, rate=1e-2)
        made[name] = folder / name
        atomic.write_directory(made[name], lambda place, model=model: save_model(model, place), manifest={})
    return made


def logits(name: Path | str, *, adapter: bool = True) -> torch.Tensor:
    model = load_model(str(name), cpu(), adapter=adapter)
    with torch.no_grad():
        return model.network(input_ids=torch.arange(3, 40)[None], use_cache=False).logits


@pytest.mark.parametrize("name", ["full", "lora"])
def test_the_ends_are_the_base_and_the_tuned_model_exactly(name: str, tuned: dict[str, Path], tmp_path: Path) -> None:
    base = str(tuned["base"]) if name == "full" else None
    ends = [logits(average(str(tuned[name]), tmp_path / str(share), share=share, base=base)) for share in (0, 1)]
    expected = [logits(tuned["base"]), logits(tuned[name])]
    assert not torch.equal(*expected)
    assert torch.equal(ends[0], expected[0]) and torch.equal(ends[1], expected[1])
    assert atomic.verify(tmp_path / "0") == []


def test_in_between_every_weight_lies_in_between(tuned: dict[str, Path], tmp_path: Path) -> None:
    average(str(tuned["full"]), tmp_path / "mixed", share=0.25, base=str(tuned["base"]))
    networks = [
        dict(load_model(str(place), cpu()).network.named_parameters())
        for place in (tuned["base"], tuned["full"], tmp_path / "mixed")
    ]
    for name, mixed in networks[2].items():
        torch.testing.assert_close(mixed, 0.75 * networks[0][name] + 0.25 * networks[1][name])


def test_a_scaled_adapter_is_the_average_of_base_and_merged_model(tuned: dict[str, Path], tmp_path: Path) -> None:
    average(str(tuned["lora"]), tmp_path / "scaled", share=0.5)
    scaled, merged = (load_model(str(place), cpu()).network.merge_and_unload() for place in (tmp_path / "scaled", tuned["lora"]))
    base = dict(load_model(str(tuned["base"]), cpu()).network.named_parameters())
    moved = dict(merged.named_parameters())
    for name, weight in scaled.named_parameters():
        torch.testing.assert_close(weight, 0.5 * base[name] + 0.5 * moved[name], atol=1e-6, rtol=1e-5)


def test_what_cannot_be_averaged_is_refused_and_leaves_nothing(tuned: dict[str, Path], tmp_path: Path) -> None:
    other = make_stub(tmp_path / "other", vocab=300)
    deeper = make_stub(tmp_path / "deeper", layers=3)
    adapter = tmp_path / "dora"
    atomic.write_directory(
        adapter,
        lambda place: (
            [(place / file.name).write_bytes(file.read_bytes()) for file in tuned["lora"].iterdir() if file.name != atomic.MANIFEST]
            and None
        ),
        manifest={},
    )
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}), encoding="utf-8")
    full, base, target = str(tuned["full"]), str(tuned["base"]), tmp_path / "new"
    for kind, match, call in (
        (ConfigError, "from 0", lambda: average(full, target, share=1.5, base=base)),
        (ModelError, "Name them", lambda: average(full, target, share=0.5)),
        (ModelError, "shape", lambda: average(full, target, share=0.5, base=str(other))),
        (ModelError, "lacks", lambda: average(full, target, share=0.5, base=str(deeper))),
        (ModelError, "has no tensor", lambda: average(str(deeper), target, share=0.5, base=base)),
        (ModelError, "is an adapter", lambda: average(full, target, share=0.5, base=str(tuned["lora"]))),
        (ModelError, "not on", lambda: average(str(tuned["lora"]), target, share=0.5, base=str(other))),
        (ModelError, "DoRA", lambda: average(str(adapter), target, share=0.5)),
        (UsageError, "there already", lambda: average(full, tuned["lora"], share=0.5, base=base)),
    ):
        with pytest.raises(kind, match=match):
            call()
    assert not target.exists() and not list(tmp_path.glob(".tmp-*"))


# ------------------------------------------------------------------------------------------------- the penalty for leaving the base


def test_without_the_penalty_nothing_changes_and_no_stream_is_needed(tmp_path: Path) -> None:
    model = load_stub(tmp_path)
    adapt(model, TECHNIQUES["full"], {})
    units = eight_sequences(model)
    step, _ = loss_and_gradient(model, cut(units, 90))
    assert set(step.losses) == {"nll"}
    batch = cut(units, 10**9)[0]
    counts = OBJECTIVES["sft"].counts(batch, kl=0.5)
    assert counts["kl"] == counts["nll"] == batch.weight_N.sum()


def test_the_penalty_is_nothing_at_the_base_and_silent_places_do_not_count() -> None:
    from types import SimpleNamespace

    own_N = torch.tensor([-1.0, -2.0, -90.0])
    batch: Any = SimpleNamespace(weight_N=torch.tensor([1.0, 0.5, 0.0]), streams={"reference": torch.tensor([-1.0, -2.0, 7.0])})
    loss = OBJECTIVES["sft"].function(SimpleNamespace(logprobs_N=own_N), batch, kl=1.0)
    assert loss.terms["kl"] == 0
    batch.streams["reference"] = torch.tensor([-1.5, -1.0, 7.0])
    assert 0 < OBJECTIVES["sft"].function(SimpleNamespace(logprobs_N=own_N), batch, kl=1.0).terms["kl"] < 1


def test_the_penalty_keeps_a_model_near_its_base(tmp_path: Path) -> None:
    """With kl 5 the best place is where -1 + 5 (1 - r) = 0: the policy 1 / 0.8 times as sure as the base, a shift of 0.22 nats.

    Pain 11.
    """
    shifts = []
    for kl in (0.0, 5.0):
        model = load_stub(tmp_path / str(kl))
        adapt(model, TECHNIQUES["full"], {})
        units = [[base_stream(model, part) for part in unit] for unit in eight_sequences(model)]
        run(model, cut(units, 10**9), steps=30, rate=3e-3, tasks={"main": TaskLoss(OBJECTIVES["sft"], {"kl": kl})})
        pairs = [(base_stream(model, part).streams["reference"], part.streams["reference"]) for unit in units for part in unit]
        shifts.append(np.mean(np.concatenate([after - before for after, before in pairs])))
    assert shifts[0] > 1.0
    assert 0.0 < shifts[1] < 0.5


def base_stream(model: Model, part: Sequence) -> Sequence:
    with torch.no_grad():
        logits_TV = model.network(input_ids=torch.as_tensor(part.tokens_T).long()[None], use_cache=False).logits[0]
    own_N = logits_TV.log_softmax(-1)[torch.as_tensor(part.at_N).long(), torch.as_tensor(part.target_N).long()]
    return replace(part, streams={"reference": own_N.numpy()})


@pytest.mark.parametrize("name", ["full", "lora", "selective"])
def test_a_run_averages_its_result_as_a_folder_is_averaged(name: str, tuned: dict[str, Path], tmp_path: Path) -> None:
    """`train.average`: the same run, its result a quarter of the way from the base."""
    whole = load_model(str(tuned["base"]), cpu())
    options = {"last_layers": 1} if name == "selective" else {}
    adapt(whole, TECHNIQUES[name], options)
    run(whole, cut(eight_sequences(whole), 10**9), steps=3, rate=1e-2)
    atomic.write_directory(tmp_path / "whole", lambda place: save_model(whole, place), manifest={})
    expected = logits(
        average(str(tmp_path / "whole"), tmp_path / "a", share=0.25, base=None if name == "lora" else str(tuned["base"]))
    )
    average_with_base(whole, 1.0)
    same = whole.network(input_ids=torch.arange(3, 40)[None], use_cache=False).logits.detach()
    torch.testing.assert_close(same, logits(tmp_path / "whole"), atol=1e-5, rtol=1e-5)
    average_with_base(whole, 0.25)
    found = whole.network(input_ids=torch.arange(3, 40)[None], use_cache=False).logits.detach()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, same, atol=1e-3)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_share_of_one_leaves_the_result_of_any_technique_alone(name: str, tmp_path: Path) -> None:
    model = load_stub(tmp_path)
    adapt(model, TECHNIQUES[name], {"norms": True} if name == "selective" else {})
    before = [parameter.detach().clone() for parameter in model.network.parameters()]
    average_with_base(model, 1.0)
    assert all(torch.equal(one, other) for one, other in zip(before, model.network.parameters(), strict=True))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"technique": "prompt"}, "not proportional to anything"),
        ({"technique": "dora"}, "these are: full, lora, qlora, selective"),
        ({"objective": "classification", "technique": "full"}, "a head begins as random numbers"),
        ({"model": {"init": "llama"}, "technique": "full"}, "random weights"),
    ],
)
def test_what_a_run_cannot_average_is_refused_before_anything_is_read(more: dict[str, Any], says: str, tmp_path: Path) -> None:
    run_file: dict[str, Any] = {"model": "tiny", "output": str(tmp_path / "out"), "data": str(tmp_path / "none.jsonl"), **more}
    with pytest.raises(ConfigError, match=says):
        prepare(api.resolve({**run_file, "train": {"average": 0.5}}))
