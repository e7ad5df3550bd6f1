"""Distillation: the loss against others' and by its properties, and the teacher that fills what it reads.

Split, packed, silent read-outs and the references from the papers: `test_every_objective`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from burnish import teacher
from burnish.errors import ConfigError, ModelError
from burnish.models import Model
from burnish.objectives.distill import DISTILL, distill
from burnish.train import TaskLoss
from burnish.types import Batch, Outputs, Sequence
from loop import cut, eight_sequences, restore, run, snapshot
from policy_cases import taught_units
from stub import load_stub, stub_tokenizer
from test_policy import made_batch


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("teacher"), seed=9)


def taught(student_NK: torch.Tensor, teacher_NK: torch.Tensor) -> tuple[Batch, Outputs]:
    batch, now = made_batch([len(student_NK)])
    streams = {"teacher": teacher_NK, "candidates": torch.zeros_like(teacher_NK, dtype=torch.long)}
    return dataclasses.replace(batch, streams=streams), Outputs(logprobs_N=now, candidates_NK=student_NK)


def drawn(rows: int, width: int, kept: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)).mul(2).log_softmax(-1)[:, :kept]


@pytest.mark.parametrize("options", [{}, {"direction": "reverse"}, {"direction": "js", "beta": 0.2}, {"temperature": 3.0}])
def test_it_is_zero_where_student_and_teacher_agree_and_only_there(options: dict[str, Any]) -> None:
    same = drawn(5, 20, 4, 0)
    batch, outputs = taught(same, same)
    assert distill(outputs, batch, **options).terms["distill"].item() == pytest.approx(0.0, abs=1e-6)
    batch, outputs = taught(drawn(5, 20, 4, 1), same)
    assert distill(outputs, batch, **options).terms["distill"].item() > 0.1


def test_the_rest_counts() -> None:
    """A student that gives the candidates the right proportions but too little probability is not right."""
    given = torch.tensor([[0.6, 0.3]]).log()
    batch, outputs = taught(torch.tensor([[0.2, 0.1]]).log(), given)
    expected = 0.9 * np.log(3) + 0.1 * np.log(0.1 / 0.7)
    assert distill(outputs, batch).terms["distill"].item() == pytest.approx(expected, rel=1e-5)


def test_metrics_and_a_teacher_without_a_rest() -> None:
    """All of the vocabulary as candidates: the rest is nothing, and no gradient is infinite."""
    student = drawn(4, 6, 6, 2).requires_grad_()
    batch, outputs = taught(student, drawn(4, 6, 6, 2))
    loss = distill(outputs, batch)
    (gradient,) = torch.autograd.grad(loss.terms["distill"], student)
    assert gradient.isfinite().all()
    assert float(loss.metrics["agreement"][0]) == 4
    assert float(loss.metrics["covered"][0] / loss.metrics["covered"][1]) == pytest.approx(1, rel=1e-5)


def test_equals_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generalised divergence over a whole vocabulary, at several mixtures and temperatures, in value and gradient."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gkd import GKDTrainer

    logits, theirs = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1)), drawn(10, 12, 12, 5).view(2, 5, 12)
    for options, beta in (({}, 0.0), ({"direction": "reverse"}, 1.0), ({"direction": "js", "beta": 0.3}, 0.3)):
        for temperature in (1.0, 2.0):
            left, right = logits.clone().requires_grad_(), logits.clone().requires_grad_()
            batch, outputs = taught(left.log_softmax(-1).flatten(0, 1), theirs.flatten(0, 1))
            ours = distill(outputs, batch, temperature=temperature, **options).terms["distill"] / temperature**2
            expected = GKDTrainer.generalized_jsd_loss(right, theirs, beta=beta, temperature=temperature, reduction="sum")
            torch.testing.assert_close(ours, expected, rtol=2e-4, atol=1e-4)
            gradients = torch.autograd.grad(ours, left)[0], torch.autograd.grad(expected, right)[0]
            torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


def test_hard_labels_alone_are_plain_fine_tuning(model: Model) -> None:
    batch, outputs = taught(drawn(5, 20, 4, 1), drawn(5, 20, 4, 2))
    assert outputs.logprobs_N is not None
    loss, counts = distill(outputs, batch, hard=1.0), DISTILL.counts(batch, hard=1.0)
    torch.testing.assert_close(loss.terms["nll"], -outputs.logprobs_N.sum())
    assert loss.terms["distill"] == 0 == counts["distill"]


@pytest.mark.parametrize("options", [{"direction": "both"}, {"beta": 1.0}, {"temperature": 0.0}, {"hard": 1.5}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    batch, outputs = taught(drawn(2, 8, 3, 0), drawn(2, 8, 3, 1))
    with pytest.raises(ConfigError, match=next(iter(options))):
        distill(outputs, batch, **options)


# ------------------------------------------------------------------------------------------------------------------ the teacher


def flat(model: Model) -> list[Sequence]:
    return [part for unit in eight_sequences(model) for part in unit]


@pytest.mark.parametrize("head", ["separate", "whole"])
@pytest.mark.parametrize("tokens", [64, 4096])
def test_the_teacher_says_what_its_whole_output_says(
    model: Model, other: Model, monkeypatch: pytest.MonkeyPatch, head: str, tokens: int
) -> None:
    monkeypatch.setattr(other, "head", head)
    sequences = flat(model)
    filled = teacher.fill(other, model.tokenizer, sequences, candidates=7, tokens=tokens)
    for before, after in zip(sequences, filled, strict=True):
        assert np.array_equal(after.tokens_T, before.tokens_T)
        assert after.group == before.group and after.task == before.task
        logits = other.network(input_ids=torch.as_tensor(before.tokens_T).long()[None], use_cache=False).logits[0]
        expected = logits.log_softmax(-1)[torch.as_tensor(before.at_N).long()].topk(7)
        assert after.streams["candidates"].dtype == np.int32
        assert np.array_equal(after.streams["candidates"], expected.indices.numpy())
        torch.testing.assert_close(torch.as_tensor(after.streams["teacher"]), expected.values, rtol=1e-4, atol=1e-5)


def test_a_student_becomes_its_teacher(model: Model, other: Model) -> None:
    """The whole way: filled streams through the loop; the divergence falls to a tenth."""
    before = snapshot(model)
    model.network.requires_grad_(True)
    filled = teacher.fill(other, model.tokenizer, flat(model), candidates=16)
    steps = run(model, cut([[part] for part in filled], 4096), steps=40, rate=5e-3, tasks={"main": TaskLoss(DISTILL)})
    model.network.requires_grad_(False)
    restore(model, before)
    assert steps[-1].losses["distill"] < 0.1 * steps[0].losses["distill"]


def test_sequences_without_readouts_and_none_at_all(model: Model, other: Model) -> None:
    one = flat(model)[0]
    silent = dataclasses.replace(one, at_N=one.at_N[:0], target_N=one.target_N[:0], weight_N=one.weight_N[:0])
    filled = teacher.fill(other, model.tokenizer, [silent, one], candidates=3)
    assert filled[0].streams["candidates"].shape == (0, 3)
    assert filled[1].streams["teacher"].shape == (len(one.at_N), 3)
    assert teacher.fill(other, model.tokenizer, []) == []


def test_what_cannot_teach_is_refused(model: Model, other: Model, tmp_path: Any) -> None:
    with pytest.raises(ModelError, match="another tokenizer"):
        teacher.fill(other, stub_tokenizer(vocab=280), flat(model))
    with pytest.raises(ModelError, match="candidates = 400"):
        teacher.fill(other, model.tokenizer, flat(model), candidates=400)
    short = load_stub(tmp_path, seed=9, context=16)
    with pytest.raises(ModelError, match=r"reads 16 tokens, and rows\.jsonl:"):
        teacher.fill(short, model.tokenizer, flat(model))
    with torch.no_grad():
        short.plain().get_output_embeddings().weight[0] = float("nan")  # type: ignore[index]
    broken = [part for part in flat(model) if part.length <= 16] or [
        dataclasses.replace(
            flat(model)[0], tokens_T=flat(model)[0].tokens_T[:8], at_N=np.arange(3), target_N=np.arange(3), weight_N=np.ones(3)
        )
    ]
    with pytest.raises(ModelError, match="not a finite number"):
        teacher.fill(short, model.tokenizer, broken)


def test_rows_of_the_harness_have_a_rest(model: Model) -> None:
    """The rows that `test_every_objective` compares on are no special case: the candidates hold part of the probability only."""
    covered = [np.exp(part.streams["teacher"]).sum(-1) for unit in taught_units(model) for part in unit]
    assert 0.1 < np.concatenate(covered).mean() < 0.9
