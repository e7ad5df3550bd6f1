"""Rows of preferences for the stub, and each loss as its paper has it, in plain torch without any of our code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from burnish.data.render_heads import REWARD
from burnish.data.render_pairs import judged_sequences, pair_sequences, rated_sequences
from burnish.models import Model, load_model
from burnish.types import Message, Origin, Pair, Rated, Sequence, content
from loop import ANSWERS, PLACES, renderer
from stub import cpu, make_stub


def said(role: Any, text: str) -> Message:
    return Message(role=role, content=content(text))


def eight_pairs() -> list[Pair]:
    """Return eight pairs of unequal length, the rejected answer longer than the chosen one in some rows, shorter in others."""
    worse = (
        "I do not know at all.",
        "no",
        "What?",
        "That is a secret.",
        "Who cares",
        "...",
        "As blue as the sea is deep",
        "ask again",
    )
    return [
        Pair(
            prompt=(said("user", f"colour of the {place}? " * (1 + number % 3)),),
            chosen=(said("assistant", answer),),
            rejected=(said("assistant", bad),),
            origin=Origin("pairs.jsonl", number + 1),
        )
        for number, (place, answer, bad) in enumerate(zip(PLACES, ANSWERS, worse, strict=True))
    ]


def eight_rated() -> list[Rated]:
    """Return eight answers, the good ones of the pairs and the bad ones in turn, two thumbs up to one down."""
    return [
        Rated(
            messages=(*pair.prompt, *(pair.rejected if number % 3 == 2 else pair.chosen)),
            rating=float(number % 3 != 2),
            origin=pair.origin,
        )
        for number, pair in enumerate(eight_pairs())
    ]


def with_made_reference(sequence: Sequence, seed: int, **more: float) -> Sequence:
    """Return the sequence with a made-up reference, about where the stub begins, and streams of one value each."""
    draw = np.random.Generator(np.random.Philox(key=seed))
    size = len(sequence.at_N)
    streams = {"reference": (-5.5 + 0.5 * draw.standard_normal(size)).astype(np.float32)}
    streams |= {name: np.full(size, value, dtype=np.float32) for name, value in more.items()}
    return dataclasses.replace(sequence, streams={**sequence.streams, **streams})


def pair_units(model: Model) -> list[list[Sequence]]:
    """Return the pairs rendered, with references and with weights that differ from answer to answer."""
    units = []
    for number, pair in enumerate(eight_pairs()):
        sides = pair_sequences(renderer(model), pair, group=number + 1)
        for place, side in enumerate(sides):
            side.weight_N[:] *= np.float32(0.5 + 0.25 * ((number + place) % 4))
        units.append([with_made_reference(side, 10 * number + place) for place, side in enumerate(sides)])
    return units


def rated_units(model: Model) -> list[list[Sequence]]:
    """Return the rated answers rendered, with references and a reference point."""
    rendered = [rated_sequences(renderer(model), row) for row in eight_rated()]
    return [[with_made_reference(one, number, divergence=0.75) for one in parts] for number, parts in enumerate(rendered)]


def reward_model(folder: Path) -> Model:
    """Return the stub with a head for one number, the same each time."""
    place = make_stub(folder / "stub")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return load_model(str(place), cpu(), head=REWARD)


def judged_units(model: Model) -> list[list[Sequence]]:
    """Return five pairs, some with a margin, and three rated answers, as a reward model reads them."""
    pairs = [
        judged_sequences(renderer(model), row, group=number + 1, margin=0.25 * (number % 3))
        for number, row in enumerate(eight_pairs()[:5])
    ]
    return [*pairs, *(judged_sequences(renderer(model), row, group=0) for row in eight_rated()[5:])]


@dataclasses.dataclass(frozen=True)
class Side:
    """One answer: log-probability per token under policy and reference, and weights."""

    logp: torch.Tensor
    reference: torch.Tensor
    weight: torch.Tensor

    @property
    def ratio(self) -> torch.Tensor:
        return (self.weight * (self.logp - self.reference)).sum()

    @property
    def total(self) -> torch.Tensor:
        return (self.weight * self.logp).sum()

    @property
    def average(self) -> torch.Tensor:
        return self.total / self.weight.sum()

    @property
    def average_ratio(self) -> torch.Tensor:
        return self.ratio / self.weight.sum()


def side(network: Any, part: Sequence) -> Side:
    logits_TV = network(input_ids=torch.as_tensor(part.tokens_T).long()[None], use_cache=False).logits[0]
    read = torch.log_softmax(logits_TV, -1)[torch.as_tensor(part.at_N).long(), torch.as_tensor(part.target_N).long()]
    return Side(read, torch.as_tensor(part.streams["reference"]), torch.as_tensor(part.weight_N))


def over_pairs(loss: Callable[[Side, Side], torch.Tensor], *, nll: float = 0.0) -> Callable[[Any, list[Sequence]], torch.Tensor]:
    """Return the mean of a loss over pairs, plus `nll` times the negative log-likelihood per token of all chosen answers."""

    def reference(network: Any, parts: list[Sequence]) -> torch.Tensor:
        chosen = {part.group: side(network, part) for part in parts if part.role == "chosen"}
        rejected = {part.group: side(network, part) for part in parts if part.role == "rejected"}
        assert chosen.keys() == rejected.keys()
        mean = sum((loss(chosen[group], rejected[group]) for group in chosen), torch.zeros(())) / len(chosen)
        tokens = torch.stack([one.weight.sum() for one in chosen.values()]).sum()
        return mean - nll * torch.stack([one.total for one in chosen.values()]).sum() / tokens

    return reference


def over_rated(loss: Callable[[Side, float, float], torch.Tensor]) -> Callable[[Any, list[Sequence]], torch.Tensor]:
    """Return the mean of a loss over rated answers: answer, rating, reference point."""

    def reference(network: Any, parts: list[Sequence]) -> torch.Tensor:
        each = [loss(side(network, part), float(part.streams["rating"][0]), float(part.streams["divergence"][0])) for part in parts]
        return torch.stack(each).mean()

    return reference


def softplus(x: torch.Tensor) -> torch.Tensor:
    """−log σ(−x), written out."""
    return torch.log(1 + torch.exp(x))


def dpo_loss(beta: float) -> Callable[[Side, Side], torch.Tensor]:
    """Rafailov et al. 2023, equation 7."""
    return lambda chosen, rejected: softplus(-beta * (chosen.ratio - rejected.ratio))


def ipo_loss(beta: float) -> Callable[[Side, Side], torch.Tensor]:
    """Azar et al. 2023, equation 17, per token."""
    return lambda chosen, rejected: (chosen.average_ratio - rejected.average_ratio - 1 / (2 * beta)) ** 2


def simpo_loss(beta: float, gamma: float) -> Callable[[Side, Side], torch.Tensor]:
    """Meng et al. 2024, equation 6."""
    return lambda chosen, rejected: softplus(-(beta * chosen.average - beta * rejected.average - gamma))


def orpo_loss(weight: float) -> Callable[[Side, Side], torch.Tensor]:
    """Hong et al. 2024, equations 4 and 5: odds(y) = P / (1 − P) with P the geometric mean of the tokens' probabilities."""

    def odds(one: Side) -> torch.Tensor:
        return one.average.exp() / (1 - one.average.exp())

    return lambda chosen, rejected: -weight * torch.log(torch.sigmoid(torch.log(odds(chosen) / odds(rejected))))


def cpo_loss(beta: float, smoothing: float) -> Callable[[Side, Side], torch.Tensor]:
    """Xu et al. 2024: DPO with a uniform reference; a share of pairs is taken to be the wrong way round."""

    def loss(chosen: Side, rejected: Side) -> torch.Tensor:
        margin = beta * (chosen.total - rejected.total)
        return (1 - smoothing) * softplus(-margin) + smoothing * softplus(margin)

    return loss


def apo_loss(beta: float, variant: str) -> Callable[[Side, Side], torch.Tensor]:
    """D'Oosterlinck et al. 2024, equations 7 and 8, plus the constant that makes them at least 0."""

    def loss(chosen: Side, rejected: Side) -> torch.Tensor:
        good, bad = beta * chosen.ratio, beta * rejected.ratio
        if variant == "zero":
            return 1 - torch.sigmoid(good) + torch.sigmoid(bad)
        return torch.sigmoid(good) + 1 - torch.sigmoid(good - bad)

    return loss


def kto_loss(beta: float, desirable: float, undesirable: float) -> Callable[[Side, float, float], torch.Tensor]:
    """Ethayarajh et al. 2024, section 4: λ − value, the value λ σ(β (r − z0)) or λ σ(β (z0 − r))."""

    def loss(answer: Side, rating: float, point: float) -> torch.Tensor:
        if rating == 1.0:
            return desirable - desirable * torch.sigmoid(beta * (answer.ratio - point))
        return undesirable - undesirable * torch.sigmoid(beta * (point - answer.ratio))

    return loss


def reward_loss(ratings: str, centre: float) -> Callable[[Any, list[Sequence]], torch.Tensor]:
    """Ouyang et al. 2022, equation 1, with the margin of Llama 2 (equation 2); thumbs as labels, or squared errors of numbers.

    To the mean over pairs of -log sigma(difference - margin) comes `centre` times that of (sum of both scores)^2 (Eisenstein et al. 2023).
    """

    def reference(network: Any, parts: list[Sequence]) -> torch.Tensor:
        score = [network(input_ids=torch.as_tensor(part.tokens_T).long()[None]).logits[0, 0] for part in parts]
        sides = {(part.group, part.role): number for number, part in enumerate(parts) if part.group}
        losses, sums, alone = [], [], []
        for group in sorted({group for group, _ in sides}):
            chosen, rejected = sides[group, "chosen"], sides[group, "rejected"]
            losses.append(softplus(score[rejected] - score[chosen] + float(parts[chosen].streams["margin"][0])))
            sums.append((score[chosen] + score[rejected]).square())
        for number, part in enumerate(parts):
            if not part.group:
                rating = float(part.streams["rating"][0])
                thumbs = softplus(-score[number]) if rating == 1 else softplus(score[number])
                alone.append(thumbs if ratings == "thumbs" else (score[number] - rating).square())
        return torch.stack(losses).mean() + torch.stack(alone).mean() + centre * torch.stack(sums).mean()

    return reference
