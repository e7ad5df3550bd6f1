"""What the drivers of TRL and of transformers' Trainer have in common: batches counted, steps told, files for the gate.

Enters: a Trainer of either. Leaves: lines (`told`). Imported inside a peer's environment, so it needs transformers alone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gate_files import gradient_after, write_gate
from told import tell

LORA = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "task_type": "CAUSAL_LM",
}


def settings(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the arguments that do the same work as burnish's run; speed is left as the task says."""
    return {
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": task["batch"],
        "max_steps": task["steps"],
        "learning_rate": task["rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "adam_beta2": 0.999,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
        "train_sampling_strategy": "group_by_length" if task.get("grouped") else "sequential",
        **({"gradient_checkpointing": task["checkpointing"]} if "checkpointing" in task else {}),
        **({"bf16": task["bf16"]} if "bf16" in task else {}),
        **({"torch_compile": True} if task.get("compile") else {}),
    }


def prepare(task: dict[str, Any]) -> None:
    """Set threads and the precision of float32 products before a model is loaded."""
    import torch

    torch.set_num_threads(task["threads"])
    os.environ["WANDB_DISABLED"] = "true"
    if task.get("products"):
        torch.set_float32_matmul_precision(task["products"])


def load_adapter(network: Any, folder: str) -> None:
    """Give the adapters of a PEFT network the values that burnish begins with."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    found = set_peft_model_state_dict(network, load_file(Path(folder) / "adapter_model.safetensors"))
    assert not found.unexpected_keys, f"adapters that this side does not have: {found.unexpected_keys[:3]}"


class Counted:
    """A collator that remembers how many real tokens, trained tokens and positions each batch held, for the step that takes it."""

    def __init__(self, collate: Callable[[list[Any]], dict[str, Any]]) -> None:
        self.collate = collate
        self.counts: deque[dict[str, int]] = deque()

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        """Return the batch of some rows, its sizes noted."""
        batch = self.collate(rows)
        ids, mask = batch["input_ids"], batch.get("attention_mask")
        trained = batch["completion_mask"] > 0 if "completion_mask" in batch else batch["labels"] >= 0
        self.counts.append(
            {
                "tokens": int(ids.numel() if mask is None else (mask > 0).sum()),
                "labels": int(trained.sum()),
                "positions": int(ids.numel()),
                "rows": len(rows),
            }
        )
        return batch


def watched(counted: Counted | None, gate: str | None = None, *, full: bool = False, keep: str | None = None) -> Any:
    """Return a callback that tells each step, writes what the gate compares after the first two, and the adapters at the end to `keep`."""
    from transformers import TrainerCallback

    class Watched(TrainerCallback):
        first: dict[str, Any]

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            tell("train")

        def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            counts = counted.counts.popleft() if counted is not None and counted.counts else {}
            tell("step", step=state.global_step, **counts)
            if gate and state.global_step <= 2:
                self._keep(state.global_step, known["model"], known["optimizer"])
            if keep and state.global_step == state.max_steps:
                moving = {name: item for name, item in known["model"].named_parameters() if item.requires_grad}
                write_gate(Path(keep), weights=moving, gradients={}, full=full)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            kept = {name: item for name, item in (logs or {}).items() if isinstance(item, float | int)}
            tell("log", step=state.global_step, **{name: item for name, item in kept.items() if name not in ("step", "at")})

        def _keep(self, step: int, network: Any, optimizer: Any) -> None:
            assert gate is not None
            states = getattr(optimizer, "optimizer", optimizer).state
            moving = {name: item for name, item in network.named_parameters() if item.requires_grad and item in states}
            moments = {name: states[item]["exp_avg"].detach().clone() for name, item in moving.items()}
            if step == 1:
                self.first = {"moments": moments, "weights": {name: item.detach().clone() for name, item in moving.items()}}
                return
            gradients = {name: gradient_after(self.first["moments"][name], item) for name, item in moments.items()}
            write_gate(Path(gate), weights=self.first["weights"], gradients=gradients, full=full)

    return Watched()
