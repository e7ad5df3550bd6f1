"""Reinforcement learning by its properties on made-up numbers, and against TRL's trainers.

Split, packed, silent read-outs and the references from the papers: `test_every_objective`, with the rows of `policy_cases`.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from burnish.errors import ConfigError
from burnish.objectives.policy import GRPO, REINFORCE, RLOO
from burnish.types import Batch, Layout, Objective, Origin, Outputs


def made_batch(lengths: list[int], seed: int = 0, **streams: torch.Tensor) -> tuple[Batch, torch.Tensor]:
    """A batch of sequences with streams and nothing to run, and log-probabilities [N] that want a gradient."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    sampled = -torch.rand(total, generator=generator) * 3
    now = (sampled + 0.3 * torch.randn(total, generator=generator)).requires_grad_()
    advantages = torch.randn(len(lengths), generator=generator)
    sequence_N = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    nothing = torch.zeros(1, dtype=torch.long)
    batch = Batch(
        layout=Layout("padded", nothing[None], nothing[None], None, nothing, nothing),
        at_N=torch.zeros(total, dtype=torch.long),
        target_N=torch.zeros(total, dtype=torch.long),
        weight_N=torch.ones(total),
        sequence_N=sequence_N,
        streams={
            "sampled": sampled,
            "advantage": advantages[sequence_N],
            "reference": sampled + 0.5 * torch.randn(total, generator=generator),
            **streams,
        },
        group_S=torch.ones(len(lengths), dtype=torch.long),
        role_S=("policy",) * len(lengths),
        task="main",
        origins=(Origin("made"),) * len(lengths),
        tokens=total,
    )
    return batch, now


def value(objective: Objective, batch: Batch, outputs: Outputs, **options: Any) -> torch.Tensor:
    loss, counts = objective.function(outputs, batch, **options), objective.counts(batch, **options)
    assert loss.terms.keys() == counts.keys() == set(objective.terms)
    assert loss.metrics.keys() == set(objective.metrics)
    return torch.stack([loss.terms[name] / counts[name].clamp(min=1e-12) for name in loss.terms]).sum()


def test_at_the_first_update_rloo_is_plain_reinforce() -> None:
    """The gradient of −A log π(answer), averaged over answers."""
    batch, _ = made_batch([3, 5, 2])
    now = batch.streams["sampled"].clone().requires_grad_()
    (found,) = torch.autograd.grad(value(RLOO, batch, Outputs(logprobs_N=now)), now)
    torch.testing.assert_close(found, -batch.streams["advantage"] / 3)


def test_all_are_still_where_all_advantages_are_zero() -> None:
    for objective, more in ((GRPO, {}), (RLOO, {}), (REINFORCE, {})):
        batch, now = made_batch([3, 5], advantage=torch.zeros(8))
        (found,) = torch.autograd.grad(value(objective, batch, Outputs(logprobs_N=now), **more), now)
        assert torch.equal(found, torch.zeros(8))


def test_ratios_that_cannot_be_held_do_not_become_infinite() -> None:
    """A sampled log-probability that is a thousand nats off: the loss stays a number, and its gradient too."""
    for objective in (GRPO, RLOO, REINFORCE):
        batch, now = made_batch([3, 5], sampled=torch.full((8,), -1000.0))
        loss = value(objective, batch, Outputs(logprobs_N=now))
        (found,) = torch.autograd.grad(loss, now)
        assert loss.isfinite() and found.isfinite().all()


def test_a_sequence_without_an_answer_is_not_counted() -> None:
    batch, now = made_batch([3, 5, 2])
    silent = dataclasses.replace(batch, weight_N=torch.where(batch.sequence_N == 1, 0.0, 1.0))
    for objective, options in ((GRPO, {}), (GRPO, {"variant": "gspo"}), (RLOO, {})):
        assert objective.counts(silent, **options)["policy"] == 2
    loss = GRPO.function(Outputs(logprobs_N=now), silent)
    (found,) = torch.autograd.grad(loss.terms["policy"], now)
    assert torch.equal(found[3:8], torch.zeros(5))


def test_metrics_say_what_happened() -> None:
    """Two tokens up by 0.5 nats: a ratio of e^0.5 that the clip holds back where the advantage is positive."""
    batch, _ = made_batch([1, 1], advantage=torch.tensor([1.0, -1.0]))
    metrics = GRPO.function(Outputs(logprobs_N=batch.streams["sampled"] + 0.5), batch).metrics
    means = {name: float(total / count) for name, (total, count) in metrics.items() if count > 0}
    assert means["ratio"] == pytest.approx(np.exp(0.5), rel=1e-5)
    assert means["clipped"] == 0.5
    assert means["drift"] == pytest.approx(0.5, rel=1e-5)
    assert means["reference_kl"] >= 0


def test_the_reference_is_needed_only_where_kl_counts() -> None:
    batch, now = made_batch([2, 2])
    without = dataclasses.replace(batch, streams={name: batch.streams[name] for name in ("sampled", "advantage")})
    loss = GRPO.function(Outputs(logprobs_N=now), without)
    assert GRPO.counts(without)["kl"] == 0 == loss.terms["kl"]
    assert loss.metrics["reference_kl"][1] == 0
    with pytest.raises(KeyError):
        GRPO.function(Outputs(logprobs_N=now), without, kl=0.1)


@pytest.mark.parametrize("options", [{"variant": "gpo"}, {"clip": 0.0}, {"clip_high": -1.0}, {"kl": -0.1}, {"longest_answer": 0}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    batch, now = made_batch([2, 2])
    with pytest.raises(ConfigError, match=next(iter(options))):
        GRPO.function(Outputs(logprobs_N=now), batch, **options)


def test_equals_trl() -> None:
    """GRPO in all variants, and RLOO, against the trainers' own loss, in value and gradient; both divide as their step does."""
    from trl import GRPOTrainer, RLOOTrainer

    lengths = [3, 6, 4, 5]
    batch, now = made_batch(lengths)
    mask = (torch.arange(6)[None] < torch.tensor(lengths)[:, None]).float()

    def padded(values_N: torch.Tensor) -> torch.Tensor:
        return torch.zeros(4, 6).masked_scatter(mask.bool(), values_N)

    first_N = torch.tensor([0, 3, 9, 13])
    inputs = {
        "prompt_ids": torch.zeros(4, 1),
        "prompt_mask": torch.ones(4, 1),
        "completion_ids": torch.zeros(4, 6),
        "completion_mask": mask,
        "advantages": batch.streams["advantage"][first_N],
        "old_per_token_logps": padded(batch.streams["sampled"]),
        "old_logps": padded(batch.streams["sampled"]).sum(-1),
        "ref_per_token_logps": padded(batch.streams["reference"]),
        "num_items_in_batch": mask.sum(),
    }
    same = SimpleNamespace(gather=lambda x: x, reduce=lambda x, reduction: x, num_processes=1, gather_for_metrics=lambda x: x)

    def theirs(kind: Any, **more: Any) -> torch.Tensor:
        trainer = SimpleNamespace(
            _get_per_token_logps_and_entropies=lambda *a, **k: (padded(now), torch.zeros(4, 6), None),
            aux_loss_enabled=False,
            top_entropy_quantile=1.0,
            off_policy_mask_threshold=None,
            use_vllm=False,
            _entropy_bonus_enabled=False,
            use_adaptive_entropy=False,
            max_completion_length=6,
            model=SimpleNamespace(training=False),
            args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
            accelerator=same,
            _metrics={"eval": defaultdict(list)},
            **{"epsilon_low": 0.2, "epsilon_high": 0.2, "importance_sampling_level": "token", "beta": 0.0, **more},
        )
        return kind._compute_loss(trainer, None, inputs)

    pairs = [
        (theirs(GRPOTrainer, loss_type="grpo"), GRPO, {}),
        (theirs(GRPOTrainer, loss_type="grpo", beta=0.3), GRPO, {"kl": 0.3}),
        (theirs(GRPOTrainer, loss_type="dr_grpo"), GRPO, {"variant": "dr_grpo", "longest_answer": 6}),
        (theirs(GRPOTrainer, loss_type="dapo", epsilon_high=0.28, beta=0.1), GRPO, {"variant": "dapo", "kl": 0.1}),
        (
            theirs(GRPOTrainer, loss_type="grpo", importance_sampling_level="sequence", beta=0.1),
            GRPO,
            {"variant": "gspo", "clip": 0.2, "kl": 0.1},
        ),
        (theirs(RLOOTrainer), RLOO, {}),
    ]
    for expected, objective, options in pairs:
        ours = value(objective, batch, Outputs(logprobs_N=now), **options)
        torch.testing.assert_close(ours, expected, msg=lambda text, options=options: f"{options}: {text}")
        gradients = [torch.autograd.grad(loss, now, retain_graph=True)[0] for loss in (ours, expected)]
        torch.testing.assert_close(*gradients)
