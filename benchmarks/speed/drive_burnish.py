"""burnish as a driver: the run that a user would write, carried out by `burnish.tune`, told step by step.

Enters: a task as JSON on the command line (`arms`). Leaves: lines (`told`). Nothing of burnish is set here but the run: what is measured
is what a user gets.
"""

from __future__ import annotations

from told import asked, read_rows, tell

tell("start")

import importlib  # noqa: E402  (the start is told before anything is imported)
import shutil  # noqa: E402
import tempfile  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from gate_files import gradient_after, write_gate  # noqa: E402
from levers import take_away  # noqa: E402

from run_files import run  # noqa: E402


class Enough(Exception):
    """Enough steps were measured; what follows the last one is no part of a figure."""


def tune(task: dict[str, Any], folder: Path) -> None:
    """Carry out a run for as many steps as asked, telling each; with "gate" also write what the gate compares."""
    import torch

    from burnish import api
    from burnish.tune import Watch

    torch.set_num_threads(task["threads"])
    steps, changes = task["steps"], dict(task.get("changes", {}))
    if task.get("gate") or task.get("keep"):
        changes |= {"save__every": 1 if task.get("gate") else steps}
    values = run(task["rows"], output=folder / "run", technique=task.get("technique", "lora"), threads=task["threads"], **changes)

    def step(record: dict[str, Any]) -> None:
        told = {name: item for name, item in record.items() if isinstance(item, float | int) and name != "tokens"}
        tell("step", **counts.pop(record["step"] - 1, {}), **told)
        if record["step"] >= steps + bool(task.get("keep")):  # what is kept is saved between two steps
            raise Enough

    if task.get("without"):
        take_away(task["without"])
    timed_reference()
    counts = counted_batches()
    with suppress(Enough):
        api.tune(values, watch=Watch(say=lambda line: tell("say", line=line), step=step))
    numbers = (folder / "run" / "environment.json").read_text(encoding="utf-8")
    tell("end", numbers=numbers)
    if task.get("keep"):
        kept = Path(task["keep"])
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(
            folder / "run" / "checkpoints" / f"checkpoint-{steps}" / "adapter_model.safetensors", kept / "weights.safetensors"
        )
    if task.get("gate"):
        _gate(folder / "run" / "checkpoints", Path(task["gate"]), full=task.get("technique") == "full")


def counted_batches() -> dict[int, dict[str, int]]:
    """Return what fills up with the sizes of each step's micro-batches, counted where the loop takes them."""
    around: Any = importlib.import_module("burnish.tune")  # the package offers the function under this name
    loop, counts = around.train, dict[int, dict[str, int]]()

    def watched(model: Any, batches: Any, **options: Any) -> Any:
        def counting(number: int) -> Any:
            micro_batches = batches(number)
            counts[number] = {
                "tokens": sum(batch.tokens for batch in micro_batches),
                "labels": sum(int((batch.weight_N > 0).sum()) for batch in micro_batches),
                "positions": sum(batch.layout.input_ids_BT.numel() for batch in micro_batches),
                "rows": len({str(origin) for batch in micro_batches for origin in batch.origins}),
            }
            return micro_batches

        tell("train")
        return loop(model, counting, **options)

    around.train = watched
    return counts


def timed_reference() -> None:
    """Have the pass over all rows before step 0, which preferences are compared with, told with its seconds."""
    import time

    from burnish import reference, tune_batches

    plain = reference.log_probabilities

    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        found = plain(*arguments, **options)
        tell("reference", seconds=time.perf_counter() - began, sequences=len(found))
        return found

    for module in (reference, tune_batches):
        if getattr(module, "log_probabilities", None) is plain:
            module.log_probabilities = timed  # type: ignore[attr-defined]


def _gate(checkpoints: Path, target: Path, *, full: bool) -> None:
    """Write the weights after the first step and the gradient of the second one, out of the checkpoints."""
    from safetensors.torch import load_file

    from burnish import checkpoint

    before, after = checkpoints / "checkpoint-1", checkpoints / "checkpoint-2"
    moments = "optimizer/optimizer.exp_avg."
    first, second = (
        {key.removeprefix(moments): item for key, item in checkpoint.load(path)[0].items() if key.startswith(moments)}
        for path in (before, after)
    )
    weights = load_file(before / ("model.safetensors" if full else "adapter_model.safetensors"))
    write_gate(
        target, weights=weights, gradients={name: gradient_after(first[name], item) for name, item in second.items()}, full=full
    )


def generate(task: dict[str, Any], folder: Path) -> None:
    """Continue prompts greedily, as `burnish generate` does, and tell each batch."""
    import time

    import numpy as np
    import torch

    from burnish import api
    from burnish.sampling import Options
    from burnish.sampling import generate as sample

    torch.set_num_threads(task["threads"])
    loaded = api.load(f"{task['work']}/model")
    prompts = [
        np.asarray(loaded.model.tokenizer(row["prompt"], add_special_tokens=False)["input_ids"])
        for row in read_rows(task["work"], task["rows"])[: task["batch"]]
    ]
    options = Options(max_tokens=task["new_tokens"], batch=task["batch"])
    tell("ready")
    for _ in range(task["steps"]):
        began = time.perf_counter()
        answers = sample(loaded.model, prompts, options)
        made = sum(len(answer.tokens) for answer in answers)
        tell("step", seconds=time.perf_counter() - began, tokens=made, first=answers[0].tokens.tolist())
    tell("end")


if __name__ == "__main__":
    job = asked()
    place = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        {"tune": tune, "generate": generate}[job["verb"]](job, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
