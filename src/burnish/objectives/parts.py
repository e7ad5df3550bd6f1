"""What several objectives share: sums per sequence, and which two sequences of a batch form a pair.

Enters: vectors over the read-outs of a batch. Leaves: vectors over its sequences, and the places of the chosen and the rejected one of
each pair. Nothing here looks beyond a group. Letters: S sequences of the batch, P pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from burnish.errors import ConfigError
from burnish.types import Batch, Outputs

if TYPE_CHECKING:
    import torch

Metric = tuple["torch.Tensor", "torch.Tensor"]
Check = tuple[float, bool, str]
"""An option's value, whether it is right, and what was expected."""

LARGEST_EXPONENT = 80.0
"""exp of it is still a finite float32; a probability that far from the reference's says no more than that it is far."""


def per_sequence(values_N: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return [S]: the sum of weight times value over the read-outs of each sequence, those of weight 0 left out whatever they hold."""
    import torch

    counted_N = torch.where(batch.weight_N != 0, batch.weight_N * values_N, torch.zeros_like(values_N))
    return torch.zeros(len(batch.role_S), dtype=counted_N.dtype, device=counted_N.device).index_add(0, batch.sequence_N, counted_N)


def weight_per_sequence(batch: Batch) -> torch.Tensor:
    """Return [S]: the sum of weights of each sequence, which is its number of tokens where weights are 1."""
    import torch

    return per_sequence(torch.ones_like(batch.weight_N), batch)


def mean_per_sequence(values_N: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return [S]: the weighted mean over the read-outs of each sequence; 0 for a sequence without weight."""
    return per_sequence(values_N, batch) / weight_per_sequence(batch).clamp(min=1e-12)


def log_ratio(outputs: Outputs, batch: Batch, *, mean: bool = False) -> torch.Tensor:
    """Return [S]: log(π / π_ref) of each answer in nats, summed over its tokens or averaged."""
    assert outputs.logprobs_N is not None
    ratio_N = outputs.logprobs_N - batch.streams["reference"]
    return mean_per_sequence(ratio_N, batch) if mean else per_sequence(ratio_N, batch)


def answered(batch: Batch) -> torch.Tensor:
    """Return bool [S]: whether a sequence has a read-out of any weight."""
    import torch

    counts_S = torch.zeros(len(batch.role_S), device=batch.weight_N.device)
    return counts_S.index_add(0, batch.sequence_N, (batch.weight_N != 0).to(counts_S.dtype)) > 0


def pairs(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int64 [P], [P]: the places of the chosen and of the rejected sequence of each pair, found by group, never by position.

    A pair of which one side has no weight compares nothing and is left out. A group may stand in a batch twice, where a step runs over
    the end of an epoch: its first chosen then goes with its first rejected, its second with its second.
    """
    import torch

    sides: dict[str, dict[int, list[int]]] = {"chosen": defaultdict(list), "rejected": defaultdict(list)}
    there_S = answered(batch).tolist()
    for place, (group, role) in enumerate(zip(batch.group_S.tolist(), batch.role_S, strict=True)):
        if group != 0 and role in sides:
            sides[role][group].append(place)
    found: list[tuple[int, int]] = []
    for group, chosen in sides["chosen"].items():
        rejected = sides["rejected"][group]
        assert len(chosen) == len(rejected), f"group {group}: {len(chosen)} chosen and {len(rejected)} rejected in one micro-batch"
        found += [(one, other) for one, other in zip(chosen, rejected, strict=True) if there_S[one] and there_S[other]]
    places_PK = torch.tensor(found, dtype=torch.long, device=batch.weight_N.device).reshape(-1, 2)
    return places_PK[:, 0], places_PK[:, 1]


def number_of(places_P: torch.Tensor) -> torch.Tensor:
    """Return how many places there are, as a float32 scalar on their device."""
    import torch

    return torch.tensor(float(len(places_P)), device=places_P.device)


def comparisons(reward_S: torch.Tensor, chosen_P: torch.Tensor, rejected_P: torch.Tensor) -> dict[str, Metric]:
    """Return the metrics of pairs: how often the chosen answer has the higher reward, by how much, and both rewards."""
    chosen_reward_P, rejected_reward_P = reward_S.detach()[chosen_P], reward_S.detach()[rejected_P]
    count, margin_P = number_of(chosen_P), chosen_reward_P - rejected_reward_P
    values = {
        "accuracy": (margin_P > 0).to(margin_P.dtype),
        "margin": margin_P,
        "chosen_reward": chosen_reward_P,
        "rejected_reward": rejected_reward_P,
    }
    return {name: (value_P.sum(), count) for name, value_P in values.items()}


COMPARISONS = ("accuracy", "margin", "chosen_reward", "rejected_reward")
"""The names of what `comparisons` returns."""


def divergence_from_reference(outputs: Outputs, batch: Batch) -> Metric:
    """Return (sum, count) over read-outs of q - 1 - log q in nats, with q the ratio of the policy's probability to the reference's.

    It is 0 where the two agree and above 0 elsewhere. Were the answers samples of the reference, its mean would be KL(reference ‖
    policy) per token. Source: Schulman 2020, "Approximating KL divergence", the estimator k3.
    """
    assert outputs.logprobs_N is not None
    log_ratio_N = (outputs.logprobs_N.detach() - batch.streams["reference"]).clamp(max=LARGEST_EXPONENT)
    return per_sequence(log_ratio_N.expm1() - log_ratio_N, batch).sum(), batch.weight_N.sum()


def refuse(wrong: Mapping[str, Check]) -> None:
    """Raise ConfigError for options out of range: `wrong` holds for each its value, whether it is right, and what was expected."""
    problems = [
        f"objective.{name} = {value}: expected {expected}." for name, (value, right, expected) in wrong.items() if not right
    ]
    if problems:
        raise ConfigError(" ".join(problems))


def above_0(value: float) -> Check:
    """Return the check of an option that must be above 0."""
    return value, value > 0, "a number above 0"


def from_0(value: float) -> Check:
    """Return the check of an option that must not be negative."""
    return value, value >= 0, "0 or a number above it"


def smoothing(value: float) -> Check:
    """Return the check of a share of pairs that may be the wrong way round; from a half on, they would all be."""
    return value, 0 <= value < 0.5, "a share from 0 up to, not including, 0.5"
