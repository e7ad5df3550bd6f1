"""Rows and independent references for reinforcement learning and distillation, written from the papers with torch alone.

Rows with streams, the loss of each as one number from a plain network, and the lowest that it can become on these rows: advantages have
both signs and clips hold ratios back, so a policy's loss falls towards a number of its own and not towards 0. `plain_forward` serves
`test_rollouts`.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from burnish.models import Model, add_value_head
from burnish.models.forward import model_inputs
from burnish.types import Batch, Outputs, Sequence
from loop import eight_sequences
from stub import load_stub

Units = list[list[Sequence]]
CANDIDATES, VOCABULARY = 6, 288


def with_value_head(folder: Path) -> Model:
    """Return the stub with a value head that has an opinion: one of zeros would send no gradient into the trunk."""
    model = load_stub(folder)
    add_value_head(model)
    with torch.no_grad():
        for parameter in model.network.value_head.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return model


def plain_forward(model: Model, batch: Batch, needs: tuple[str, ...]) -> Outputs:
    """All that an objective may need, from whole logits; the "value" is an eighth of the logit of token 5, which gradients reach."""
    layout = batch.layout
    place_N = layout.row_S[batch.sequence_N] * layout.input_ids_BT.shape[1] + layout.start_S[batch.sequence_N] + batch.at_N
    logits_NV = model.network(**model_inputs(model, layout)).logits.flatten(0, 1)[place_N]
    logprobs_NV = logits_NV.log_softmax(-1)
    candidates = batch.streams.get("candidates")
    return Outputs(
        logprobs_N=logprobs_NV.gather(-1, batch.target_N[:, None])[:, 0],
        entropy_N=-(logprobs_NV.exp() * logprobs_NV).sum(-1),
        candidates_NK=None if candidates is None else logprobs_NV.gather(-1, candidates),
        values_N=logits_NV[:, 5] / 8,
    )


def read(network: Any, part: Sequence) -> torch.Tensor:
    """Logits [N, V] at a sequence's read-outs, the sequence run alone."""
    logits_TV = network(input_ids=torch.as_tensor(part.tokens_T).long()[None], use_cache=False).logits[0]
    return logits_TV[torch.as_tensor(part.at_N).long()]


def logp(network: Any, part: Sequence) -> torch.Tensor:
    return read(network, part).log_softmax(-1)[torch.arange(len(part.at_N)), torch.as_tensor(part.target_N).long()]


def sampled_units(model: Model) -> Units:
    """Eight answers to four prompts, with streams drawn about what the model itself says, so that clips bite on some and not on others."""
    generator = np.random.default_rng(3)
    units = eight_sequences(model)
    for number, unit in enumerate(units):
        for place, part in enumerate(unit):
            with torch.no_grad():
                now_N = logp(model.network, part).numpy()
            count = len(now_N)
            streams = {
                "sampled": now_N + generator.normal(0, 0.25, count),
                "reference": now_N + generator.normal(0, 0.4, count),
                "advantage": np.full(count, generator.normal(0, 1.5)),
                "value": generator.normal(0, 0.3, count),
                "return": generator.normal(0, 1.0, count),
            }
            unit[place] = dataclasses.replace(
                part, group=number // 2 + 1, streams={name: values.astype(np.float32) for name, values in streams.items()}
            )
    return [units[first] + units[first + 1] for first in range(0, 8, 2)]


def tokenwise_units(model: Model) -> Units:
    """The same with an advantage per token, as PPO and REINFORCE++ have it."""
    generator = np.random.default_rng(4)
    return [
        [
            dataclasses.replace(
                part, streams={**part.streams, "advantage": generator.normal(0, 1, len(part.at_N)).astype(np.float32)}
            )
            for part in unit
        ]
        for unit in sampled_units(model)
    ]


def taught_units(model: Model) -> Units:
    """Eight rows with a made-up teacher: distributions over the vocabulary of which the likeliest few are given."""
    generator = np.random.default_rng(5)
    units = eight_sequences(model)
    for unit in units:
        for place, part in enumerate(unit):
            full = torch.as_tensor(generator.normal(0, 2.0, (len(part.at_N), VOCABULARY))).float().log_softmax(-1).topk(CANDIDATES)
            streams = {"candidates": full.indices.numpy().astype(np.int32), "teacher": full.values.numpy()}
            unit[place] = dataclasses.replace(part, streams=streams)
    return units


def tensor(part: Sequence, name: str) -> torch.Tensor:
    return torch.as_tensor(part.weight_N if name == "weight" else part.streams[name])


def minimum(ratio: torch.Tensor, advantage: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return torch.min(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def averaged(how: str, answers: list[torch.Tensor], parts: list[Sequence], longest: int = 1) -> torch.Tensor:
    """Mean over all tokens, over answers of the mean over their tokens, or over answers of the sum of their tokens by a constant."""
    weights = [tensor(part, "weight") for part in parts]
    products = [weight * answer for weight, answer in zip(weights, answers, strict=True)]
    if how in ("dapo", "tokens"):
        return torch.cat(products).sum() / torch.cat(weights).sum()
    if how == "dr_grpo":
        return torch.stack([product.sum() for product in products]).sum() / (longest * len(parts))
    return torch.stack([product.sum() / weight.sum() for product, weight in zip(products, weights, strict=True)]).mean()


def grpo_loss(how: str, low: float, high: float, *, beta: float = 0.0, longest: int = 1) -> Any:
    """Equation 3 of the GRPO paper and its variants' own, answer by answer."""

    def loss(network: Any, parts: list[Sequence]) -> torch.Tensor:
        answers = []
        for part in parts:
            w, now = tensor(part, "weight"), logp(network, part)
            if how == "gspo":
                ratio = ((w * (now - tensor(part, "sampled"))).sum() / w.sum()).exp()
                gain = minimum(ratio, tensor(part, "advantage")[0], low, high).expand(len(w))
            else:
                gain = minimum((now - tensor(part, "sampled")).exp(), tensor(part, "advantage"), low, high)
            apart = tensor(part, "reference") - now
            answers.append(gain - beta * (apart.exp() - apart - 1))
        return -averaged(how, answers, parts, longest)

    return loss


def lowest_policy(how: str, low: float, high: float, *, longest: int = 1) -> Any:
    """The clipped surrogate with every ratio where the clip lets it gain no more; a penalty of divergence is 0 at best."""

    def least(parts: list[Sequence]) -> float:
        advantages = [tensor(part, "advantage") for part in parts]
        gains = [torch.where(advantage > 0, (1 + high) * advantage, (1 - low) * advantage) for advantage in advantages]
        return -averaged(how, gains, parts, longest).item()

    return least


def rloo_loss(network: Any, parts: list[Sequence]) -> torch.Tensor:
    """The answer as one action, its ratio held between 0.8 and 1.2."""
    gains = []
    for part in parts:
        ratio = (tensor(part, "weight") * (logp(network, part) - tensor(part, "sampled"))).sum().exp()
        gains.append(minimum(ratio, tensor(part, "advantage")[0], 0.2, 0.2))
    return -torch.stack(gains).mean()


def tokens_loss(network: Any, parts: list[Sequence]) -> torch.Tensor:
    """The clipped surrogate averaged over all tokens (PPO, equation 7)."""
    gains = [minimum((logp(network, p) - tensor(p, "sampled")).exp(), tensor(p, "advantage"), 0.2, 0.2) for p in parts]
    return -averaged("tokens", gains, parts)


def ppo_loss(network: Any, parts: list[Sequence]) -> torch.Tensor:
    """Equation 9 of the PPO paper, with value_weight 0.1, value_clip 0.2 and entropy_weight 0.01."""
    errors, entropies = [], []
    for part in parts:
        said = network(input_ids=torch.as_tensor(part.tokens_T).long()[None], use_cache=False, output_hidden_states=True)
        at_N = torch.as_tensor(part.at_N).long()
        value = network.value_head(said.hidden_states[-1][0, at_N])[:, 0]
        before, goal = tensor(part, "value"), tensor(part, "return")
        held = torch.minimum(torch.maximum(value, before - 0.2), before + 0.2)
        errors.append(torch.maximum((value - goal).square(), (held - goal).square()))
        entropies.append(torch.distributions.Categorical(logits=said.logits[0, at_N]).entropy())
    value, entropy = (averaged("tokens", each, parts) for each in (errors, entropies))
    return tokens_loss(network, parts) + 0.1 * value - 0.01 * entropy


def lowest_ppo(parts: list[Sequence]) -> float:
    """No ratio can gain more, no value come nearer to its return than its clip allows, and all tokens are equally likely."""
    errors = [((tensor(part, "return") - tensor(part, "value")).abs() - 0.2).clamp(min=0).square() for part in parts]
    policy = lowest_policy("tokens", 0.2, 0.2)(parts)
    return policy + 0.1 * averaged("tokens", errors, parts).item() - 0.01 * math.log(VOCABULARY)


def distill_loss(direction: str, *, beta: float = 0.5, temperature: float = 1.0, hard: float = 0.0) -> Any:
    """Over K candidates and the rest: probabilities to the power of 1 / temperature, made to add up to 1, then the divergence."""

    def soft(logprobs: torch.Tensor) -> torch.Tensor:
        p = logprobs.exp()
        p = torch.cat([p, 1 - p.sum(-1, keepdim=True)], -1) ** (1 / temperature)
        return p / p.sum(-1, keepdim=True)

    def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return (p * (p / q).log()).sum(-1)

    def loss(network: Any, parts: list[Sequence]) -> torch.Tensor:
        total, weight = torch.zeros(()), torch.zeros(())
        for part in parts:
            everything = read(network, part).log_softmax(-1)
            q = soft(everything.gather(-1, torch.as_tensor(part.streams["candidates"]).long()))
            p = soft(tensor(part, "teacher"))
            mixed = beta * p + (1 - beta) * q
            apart = {"forward": kl(p, q), "reverse": kl(q, p), "js": beta * kl(p, mixed) + (1 - beta) * kl(q, mixed)}[direction]
            value = (1 - hard) * temperature**2 * apart - hard * logp(network, part)
            total, weight = total + (tensor(part, "weight") * value).sum(), weight + tensor(part, "weight").sum()
        return total / weight

    return loss
