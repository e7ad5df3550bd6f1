"""What the tests of the loop, of the objectives and of the techniques share: rows, batches, and a run of a few steps on the stub."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from typing import Any

import numpy as np
import torch

from burnish.data.batching import collate, cut_packed, cut_padded
from burnish.data.dialog import Frame
from burnish.data.render import Renderer
from burnish.models import Model
from burnish.objectives import OBJECTIVES
from burnish.optim import Schedule, make_optimizer
from burnish.train import Step, TaskLoss, train
from burnish.types import Batch, Dialog, Message, Origin, Sequence, content

PLACES = ("lake", "hill", "old mill", "harbour", "square", "north gate", "bakery", "river")
ANSWERS = ("blue", "green", "red and white", "grey", "white", "black", "yellow as corn", "brown")


def dialog(question: str, answer: str, line: int) -> Dialog:
    turns = (Message(role="user", content=content(question)), Message(role="assistant", content=content(answer)))
    return Dialog(messages=turns, origin=Origin("rows.jsonl", line))


def eight_dialogs() -> list[Dialog]:
    """Return eight rows of unequal length, which no two answers make alike."""
    return [
        dialog(f"colour of the {place}? " * (1 + number % 3), answer, number + 1)
        for number, (place, answer) in enumerate(zip(PLACES, ANSWERS, strict=True))
    ]


def renderer(model: Model, *, max_length: int = 512, **more: Any) -> Renderer:
    return Renderer(model.tokenizer, max_length, model.end_ids(), more.pop("frame", Frame()), **more)


def eight_sequences(model: Model) -> list[list[Sequence]]:
    """Return the eight rows rendered, with weights that differ from row to row, so that a mean of means would show."""
    rendered = [renderer(model).sequences(row) for row in eight_dialogs()]
    for number, parts in enumerate(rendered):
        for part in parts:
            part.weight_N[:] *= np.float32(0.5 + 0.25 * (number % 4))
    return rendered


def cut(units: Many[Many[Sequence]], tokens: int, *, packing: bool = False, pad_id: int = 0) -> list[Batch]:
    """Return micro-batches of all units."""
    parts = (cut_packed if packing else cut_padded)([list(unit) for unit in units], tokens)
    return [collate(part, packing=packing, pad_id=pad_id, device="cpu") for part in parts]


def moving(model: Model) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.network.named_parameters() if parameter.requires_grad}


def snapshot(model: Model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.network.named_parameters()}


def restore(model: Model, weights: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            parameter.copy_(weights[name])


def run(
    model: Model,
    batches: Any,
    *,
    steps: int = 1,
    rate: float = 1e-3,
    tasks: Mapping[str, TaskLoss] | None = None,
    clip: float = 1.0,
    **more: Any,
) -> list[Step]:
    """Train for some steps on the same micro-batches, or on a function step -> micro-batches, and return the steps."""
    chosen: Any = batches if callable(batches) else lambda step: batches
    return list(
        train(
            model,
            chosen,
            tasks=tasks or {"main": TaskLoss(OBJECTIVES["sft"])},
            optimizer=more.pop("optimizer", None) or make_optimizer(moving(model)),
            schedule=Schedule(rate, steps, kind="constant"),
            clip=clip,
            **more,
        )
    )


class Watched:
    """An optimizer that notes the gradients it is handed instead of applying them; a class because torch's loop calls methods."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.param_groups: list[dict[str, Any]] = [{"lr": 0.0}]
        self.seen: list[dict[str, torch.Tensor]] = []

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.model.network.parameters():
            parameter.grad = None

    def step(self) -> None:
        named = moving(self.model).items()
        self.seen.append({name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in named})


def loss_and_gradient(
    model: Model, batches: list[Batch], *, clip: float = 0.0, **more: Any
) -> tuple[Step, dict[str, torch.Tensor]]:
    """Return one step of the loop, and the gradient that it would have applied, weights left as they are."""
    watched: Any = Watched(model)
    step = run(model, batches, optimizer=watched, clip=clip, **more)[0]
    return step, watched.seen[0]


def assert_same_gradients(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], *, tolerance: float = 2e-5
) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], atol=tolerance, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
