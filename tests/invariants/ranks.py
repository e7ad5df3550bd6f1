"""One process of two: what `test_two_processes` starts twice, and in its own process once with the whole of each step.

Arguments: a folder with the stub and a file to write results to. Writes JSON: steps and digests of the weights.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from burnish.data.batching import FixedBatches, shuffled
from burnish.devices import Ranks, join_ranks, leave_ranks
from burnish.errors import RunError
from burnish.models import Model, adapt, load_model
from burnish.objectives import OBJECTIVES
from burnish.rewards import Part
from burnish.rollouts import Rollouts
from burnish.rollouts_plan import Plan
from burnish.techniques import TECHNIQUES
from burnish.train import TaskLoss, train
from burnish.train_room import Room, positions
from burnish.types import Answer, Batch, Expected, Loss, Message, Origin, Outputs, Task, content
from loop import eight_sequences, moving, renderer, run
from stub import cpu

QUESTIONS = ("colour of the lake?", "and the hill?", "the old mill in the north?", "who?")

CASES: dict[str, dict[str, Any]] = {
    "even": {"tokens": 10**9, "batch": 6, "packing": False, "technique": "full"},
    "uneven": {"tokens": 100, "batch": 7, "packing": False, "technique": "full"},
    "packed": {"tokens": 100, "batch": 7, "packing": True, "technique": "lora"},
    "shared": {"tokens": 100, "batch": 3, "packing": False, "shared": True, "technique": "lora"},
    "idle": {"tokens": 10**9, "batch": 1, "packing": False, "technique": "lora"},
    "short": {"tokens": 200, "batch": 8, "packing": False, "technique": "full", "limit": 90},
}
"""`idle`: one micro-batch a step, so that the second process has none and takes part with zeros. `short`: the second process alone runs out of
memory above so many positions."""


def fresh(folder: str, technique: str) -> Model:
    model = load_model(folder, cpu())
    torch.manual_seed(3)
    adapt(model, TECHNIQUES[technique], {})
    return model


def batches(model: Model, ranks: Ranks, case: dict[str, Any]) -> FixedBatches:
    units, shared = eight_sequences(model), case.get("shared", False)
    if shared:  # two rows to a group, which begin alike
        units = [
            [dataclasses.replace(one, group=number + 1) for unit in units[number : number + 2] for one in unit]
            for number in range(0, len(units), 2)
        ]
    order = shuffled(len(units), 5)
    settings = (case["batch"], case["tokens"], case["packing"], 0, "cpu", ranks.rank, ranks.size)
    return FixedBatches(units, order, *settings, shared=shared)


def digest(model: Model) -> str:
    parts = hashlib.sha256()
    for parameter in moving(model).values():
        parts.update(parameter.detach().numpy().tobytes())
    return parts.hexdigest()


@contextmanager
def short_of_memory(limit: int | None) -> Iterator[None]:
    """Let passes over more positions than the limit fail as on a GPU that is full."""
    module = sys.modules[train.__module__]
    plain = module.forward

    def forward(model: Model, batch: Batch, needs: tuple[str, ...]) -> Outputs:
        if limit is not None and positions(batch) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. (a test)")
        return plain(model, batch, needs)

    module.forward = forward  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        module.forward = plain  # pyright: ignore[reportAttributeAccessIssue]


def trajectories(folder: str, ranks: Ranks) -> dict[str, Any]:
    """Return for each case what five steps gave, how many micro-batches this process had, and the weights at their end."""
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        model = fresh(folder, case["technique"])
        source = batches(model, ranks, case)
        room = Room()
        with short_of_memory(case.get("limit") if ranks.rank == 1 else None):
            steps = run(model, source, steps=5, rate=1e-2, ranks=ranks, room=room)
        found[name] = {
            "room": room.positions,
            "losses": [step.losses["nll"] for step in steps],
            "norms": [step.gradient_norm for step in steps],
            "tokens": [step.tokens for step in steps],
            "parts": [len(source(step)) for step in range(5)],
            "digest": digest(model),
            "sum": sum(float(parameter.detach().double().abs().sum()) for parameter in moving(model).values()),
        }
    return found | {"attempts": attempted(folder, ranks)}


def letters(answers: list[Answer], tasks: list[Task]) -> list[float]:
    return [sum("a" <= letter <= "z" for letter in answer.text) / max(len(answer.text), 1) for answer in answers]


def attempted(folder: str, ranks: Ranks) -> dict[str, Any]:
    """Return the same of five steps of reinforcement learning, in which each process samples its share of three prompts."""
    model = fresh(folder, "lora")
    asked = [
        Task(messages=(Message("user", content(text)),), expected=Expected(), origin=Origin("prompts.jsonl", line))
        for line, text in enumerate(QUESTIONS, 1)
    ]
    plan = Plan(advantage="group", prompts=3, samples=4, max_tokens=8, tokens=128, stop=("q",))
    parts = [Part(name="letters", judge=letters)]
    source = Rollouts(
        model, renderer(model), asked, parts, plan, rank=ranks.rank, ranks=ranks.size, processes=ranks, own_logprobs=True
    )
    served: list[int] = []

    def counted(step: int) -> list[Batch]:
        batches = source(step)
        served.append(len(batches))
        return batches

    steps = run(model, counted, steps=5, rate=1e-2, tasks={"main": TaskLoss(OBJECTIVES["grpo"])}, ranks=ranks)
    return {
        "losses": [record.reward for record in source.records],
        "norms": [step.gradient_norm for step in steps],
        "tokens": [step.tokens for step in steps],
        "parts": served,
        "digest": digest(model),
        "sum": sum(float(parameter.detach().double().abs().sum()) for parameter in moving(model).values()),
    }


def broken(outputs: Outputs, batch: Batch) -> Loss:
    loss = OBJECTIVES["sft"].function(outputs, batch)
    bad = any(origin.line == 2 for origin in batch.origins)
    return Loss({"nll": loss.terms["nll"] * (float("nan") if bad else 1.0)})


def stopped_together(folder: str, ranks: Ranks) -> dict[str, Any]:
    """Return how this process ended where a row of one process alone is not finite, and where the processes have drifted apart."""
    model = fresh(folder, "lora")
    before = digest(model)
    source = batches(model, ranks, {"tokens": 64, "batch": 8, "packing": False})
    found: dict[str, Any] = {}
    try:
        run(model, source, ranks=ranks, tasks={"main": TaskLoss(dataclasses.replace(OBJECTIVES["sft"], function=broken))})
        found["not finite"] = "went on"
    except RunError as error:
        found["not finite"] = str(error)
    found["untouched"] = digest(model) == before
    with torch.no_grad():
        next(iter(moving(model).values())).view(-1)[0] += 1e-6 * ranks.rank
    try:
        run(model, source, ranks=ranks)
        found["drifted"] = "went on"
    except RunError as error:
        found["drifted"] = str(error)
    return found


def main() -> None:
    torch.set_num_threads(1)
    folder, result = sys.argv[1:]
    ranks = join_ranks()
    try:
        found = trajectories(folder, ranks)
        if ranks.size > 1:
            found["stops"] = stopped_together(folder, ranks)
            found["decisions"] = {"one of two": ranks.agree(ranks.rank == 1), "none": ranks.agree(False)}
        Path(f"{result}.{ranks.rank}").write_text(json.dumps(found))
        ranks.barrier()
    finally:
        leave_ranks()


if __name__ == "__main__":
    main()
