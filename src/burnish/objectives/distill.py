"""Distillation: imitate what a teacher finds likely at each token, not only the token that stands there.

Enters: `Outputs.candidates_NK` and `logprobs_N`, and the streams "candidates" and "teacher" that `teacher` filled: the teacher's k
likeliest tokens and their log-probabilities. Leaves: sums over read-outs, in nats. All other tokens are one bucket on both sides, so
that what is compared are distributions, also where the candidates hold only part of the probability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from burnish.errors import ConfigError
from burnish.types import Answerable, Batch, Dialog, Labelled, Loss, Objective, Outputs, Pair, Tagged, Text

if TYPE_CHECKING:
    import torch

Direction = Literal["forward", "reverse", "js"]

SMALLEST_REST = 1e-7
"""Probability of the rest at least: below it float32 cannot tell 1 from the sum of the candidates."""


def distill(
    outputs: Outputs,
    batch: Batch,
    *,
    direction: Direction = "forward",
    beta: float = 0.5,
    temperature: float = 1.0,
    hard: float = 0.0,
    on_policy: float = 0.0,
) -> Loss:
    """Distillation: move the model towards a teacher's probabilities of the next token.

    "forward" is KL(teacher ‖ student), which covers all that the teacher would say; "reverse" KL(student ‖ teacher), which keeps to what
    it finds likeliest; "js" is β KL(teacher ‖ m) + (1 − β) KL(student ‖ m), m = β teacher + (1 − β) student. `temperature` softens both
    over the candidates and the rest, and its square keeps the gradient's size. `hard` is the share of the plain negative
    log-likelihood in the sum; the two terms are given with their shares in them. `on_policy` is the share of the rows whose answer
    the model writes by itself, and the teacher judges token by token; what writes them is not the loss but the source of the batches.

    Source: Hinton et al. 2015, arXiv 1503.02531; Gu et al. 2023 (MiniLLM), arXiv 2306.08543, for the reverse direction; Agarwal et al.
    2023 (GKD), arXiv 2306.13649, for "js" and for answers of the model's own. Raises ConfigError for options out of range.
    """
    import torch

    assert outputs.candidates_NK is not None and outputs.logprobs_N is not None
    _refuse(direction, beta, temperature, hard, on_policy)
    counts_N1 = (batch.weight_N != 0)[:, None]
    even = -math.log(batch.streams["teacher"].shape[1] + 1)  # where nothing counts: a distribution like any other
    student_NK = torch.where(counts_N1, outputs.candidates_NK, torch.full_like(outputs.candidates_NK, even))
    given_NK = torch.where(counts_N1, batch.streams["teacher"], torch.full_like(batch.streams["teacher"], even))
    student, teacher = _softened(_with_rest(student_NK), temperature), _softened(_with_rest(given_NK), temperature)
    divergence_N = _divergence(teacher, student, direction, beta) * temperature**2
    nll_N = -torch.where(batch.weight_N != 0, outputs.logprobs_N, torch.zeros_like(outputs.logprobs_N))
    count = batch.weight_N.sum()
    agrees_N = (student_NK.argmax(-1) == given_NK.argmax(-1)).to(batch.weight_N.dtype)
    metrics = {
        "agreement": ((batch.weight_N * agrees_N).sum(), count),
        "covered": ((batch.weight_N * given_NK.exp().sum(-1)).sum(), count),
    }
    terms = {"distill": (1 - hard) * (batch.weight_N * divergence_N).sum(), "nll": hard * (batch.weight_N * nll_N).sum()}
    return Loss(terms=terms, metrics=metrics)


def distill_counts(
    batch: Batch,
    *,
    direction: Direction = "forward",
    beta: float = 0.5,
    temperature: float = 1.0,
    hard: float = 0.0,
    on_policy: float = 0.0,
) -> Mapping[str, torch.Tensor]:
    """Return the denominators of `distill`: the sum of the weights, and none for a term whose share is 0."""
    count = batch.weight_N.sum()
    return {"distill": count if hard < 1 else count * 0, "nll": count if hard > 0 else count * 0}


def distill_own_answers(
    *,
    direction: Direction = "forward",
    beta: float = 0.5,
    temperature: float = 1.0,
    hard: float = 0.0,
    on_policy: float = 0.0,
) -> float:
    """Return the share of the rows that the model answers by itself; ConfigError for options of `distill` out of range."""
    _refuse(direction, beta, temperature, hard, on_policy)
    return on_policy


def _refuse(direction: str, beta: float, temperature: float, hard: float, on_policy: float) -> None:
    """Raise ConfigError for options that have no meaning."""
    if direction not in ("forward", "reverse", "js"):
        raise ConfigError(f"direction = {direction!r}: expected forward, reverse or js.")
    if not 0 < beta < 1:
        raise ConfigError(f"beta = {beta}: expected a number between 0 and 1; at its ends it is direction = forward or reverse.")
    if temperature <= 0:
        raise ConfigError(f"temperature = {temperature}: expected a number above 0; 1 leaves the probabilities as they are.")
    if not 0 <= hard <= 1:
        raise ConfigError(f"hard = {hard}: expected a share from 0 to 1.")
    if not 0 <= on_policy <= 1:
        raise ConfigError(f"on_policy = {on_policy}: expected a share of the rows from 0 to 1.")
    if hard > 0 and on_policy > 0:
        raise ConfigError(
            f"hard = {hard} and on_policy = {on_policy} exclude each other: hard teaches answers that were given, and the model would be "
            f"taught its own. Set one of the two to 0."
        )


def _with_rest(logprobs_NK: torch.Tensor) -> torch.Tensor:
    """Return [N, K + 1] the log-probabilities with that of all other tokens behind them, which add up to 1."""
    import torch

    rest_N1 = (1 - logprobs_NK.exp().sum(-1, keepdim=True)).clamp(min=SMALLEST_REST).log()
    return torch.cat([logprobs_NK, rest_N1], dim=-1)


def _softened(logprobs_NK: torch.Tensor, temperature: float) -> torch.Tensor:
    return (logprobs_NK / temperature).log_softmax(-1)


def _divergence(teacher_NK: torch.Tensor, student_NK: torch.Tensor, direction: Direction, beta: float) -> torch.Tensor:
    """Return [N] how far student and teacher are apart, in nats."""
    import torch

    if direction == "forward":
        return _kl(teacher_NK, student_NK)
    if direction == "reverse":
        return _kl(student_NK, teacher_NK)
    mixed_NK = torch.logaddexp(teacher_NK + math.log(beta), student_NK + math.log1p(-beta))
    return beta * _kl(teacher_NK, mixed_NK) + (1 - beta) * _kl(student_NK, mixed_NK)


def _kl(left_NK: torch.Tensor, right_NK: torch.Tensor) -> torch.Tensor:
    """Return [N] KL(left ‖ right) of log-probabilities."""
    return (left_NK.exp() * (left_NK - right_NK)).sum(-1)


DISTILL = Objective(
    function=distill,
    counts=distill_counts,
    terms=("distill", "nll"),
    needs=("logprobs", "candidates"),
    reads=(Text, Dialog, Labelled, Tagged, Answerable, Pair),
    metrics=("agreement", "covered"),
    streams=("candidates", "teacher"),
    own_answers=distill_own_answers,
)
