"""The plain twin of every side: transformers and PEFT in float32, row by row, without padding. The gate compares with it.

Enters: a task with the folders that sides wrote (`gate_files`). Leaves: for each side the losses of the first two steps as they should be,
and how alike its gradient of the second step is to the plain one, at the very weights that the side had then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drive_hf import LORA, load_adapter
from gate_files import plain_name
from told import asked, read_tokens, tell


def network_of(task: dict[str, Any]) -> Any:
    """Return the network in float32, its adapters as at the start."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(task["threads"])
    network = AutoModelForCausalLM.from_pretrained(f"{task['work']}/model", dtype=torch.float32)
    if task.get("technique", "lora") == "lora":
        network = get_peft_model(network, LoraConfig(**LORA))
        load_adapter(network, f"{task['work']}/adapter")
    return network.eval()


def sum_of(network: Any, row: Mapping[str, list[int]]) -> tuple[Any, int]:
    """Return the summed log-probability of a row's trained tokens, and how many there are."""
    import torch

    labels = torch.tensor(row["labels"][1:])
    logits = network(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0, :-1].float()
    kept = labels >= 0
    chosen = torch.log_softmax(logits[kept], -1).gather(-1, labels[kept][:, None])
    return chosen.sum(), int(kept.sum())


def sft_loss(network: Any, rows: list[Any], learn: bool) -> float:
    """Return the loss of a step; with `learn` also fill the gradients."""
    import torch

    count = sum(label >= 0 for row in rows for label in row["labels"][1:])
    total = 0.0
    for row in rows:
        with torch.set_grad_enabled(learn):
            loss = -sum_of(network, row)[0] / count
        if learn:
            loss.backward()
        total += loss.item()
    return total


def dpo_loss(network: Any, rows: list[Any], learn: bool) -> float:
    """Return DPO's loss of a step with beta 0.1, the reference being the network as it began; with `learn` also fill the gradients."""
    import torch

    total = 0.0
    for chosen, rejected in rows:
        with torch.no_grad(), network.disable_adapter():
            kept = [sum_of(network, one)[0] for one in (chosen, rejected)]
        with torch.set_grad_enabled(learn):
            here = [sum_of(network, one)[0] for one in (chosen, rejected)]
            margin = (here[0] - kept[0]) - (here[1] - kept[1])
            loss = -torch.nn.functional.logsigmoid(0.1 * margin) / len(rows)
        if learn:
            loss.backward()
        total += loss.item()
    return total


def compare(task: dict[str, Any]) -> None:
    """Tell, for each side, the plain losses and the cosine of its gradient with the plain one."""
    import torch
    from safetensors.torch import load_file

    network = network_of(task)
    moving = {plain_name(name): item for name, item in network.named_parameters() if item.requires_grad}
    begun = {name: item.detach().clone() for name, item in moving.items()}
    rows, batch = read_tokens(task["work"], task["rows"]), task["batch"]
    loss_of = dpo_loss if task["rows"].startswith("pairs") else sft_loss
    first = loss_of(network, rows[:batch], learn=False)
    for side, folder in task["sides"].items():
        weights, found = (load_file(Path(folder) / f"{name}.safetensors") for name in ("weights", "gradients"))
        missing = sorted(set(found) - set(moving))
        if missing or not found:
            tell("gate", side=side, problem=f"parameters of other names, or none: {missing[:2]}")
            continue
        with torch.no_grad():
            for name, item in weights.items():
                if name in moving:
                    moving[name].copy_(item)
        network.zero_grad()
        second = loss_of(network, rows[batch : 2 * batch], learn=True)
        told = _alike({name: item.grad for name, item in moving.items()}, found)
        moved = sum((begun[name] - item).norm().item() ** 2 for name, item in moving.items()) ** 0.5
        tell("gate", side=side, losses=[first, second], moved=moved, **told)


def dev(task: dict[str, Any]) -> None:
    """Tell, for each side, the loss on rows held out, at the adapters that it has after its last step; and that of the start."""
    import torch
    from safetensors.torch import load_file

    network = network_of(task)
    moving = {plain_name(name): item for name, item in network.named_parameters() if item.requires_grad}
    rows = read_tokens(task["work"], f"{task['rows']}_dev")
    tell("dev", side="start", loss=sft_loss(network, rows, learn=False))
    for side, folder in task["sides"].items():
        with torch.no_grad():
            for name, item in load_file(Path(folder) / "weights.safetensors").items():
                moving[plain_name(name)].copy_(item)
        tell("dev", side=side, loss=sft_loss(network, rows, learn=False))


def _alike(plain: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, float]:
    """Return the cosine over all parameters, the least and the middle one of single parameters, and the norm of what was found."""
    import statistics

    import torch

    cosine = torch.nn.functional.cosine_similarity
    names = sorted(found)
    pairs = [(plain[name].flatten().double(), found[name].flatten().double()) for name in names]
    whole = cosine(torch.cat([one for one, _ in pairs]), torch.cat([other for _, other in pairs]), dim=0).item()
    single = [cosine(one, other, dim=0).item() for one, other in pairs]
    norm = torch.cat([other for _, other in pairs]).norm().item()
    return {"cosine": whole, "least": min(single), "middle": statistics.median(single), "norm": norm}


if __name__ == "__main__":
    job = asked()
    (dev if job.get("verb") == "dev" else compare)(job)
