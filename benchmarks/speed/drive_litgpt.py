"""LitGPT as a driver: LoRA on the shared token ids, through its own `finetune lora`.

Enters: a task as JSON on the command line (`arms`). Leaves: lines (`told`). It merges the adapters of queries, keys and values into one, so
their first values are its own; the first loss, where the second factor is zero, is the same.
"""

from __future__ import annotations

from told import asked, read_tokens, tell

tell("start")

import shutil  # noqa: E402  (the start is told before anything is imported)
import tempfile  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


class Enough(Exception):
    """Enough steps were measured."""


def converted(task: dict[str, Any], folder: Path) -> Path:
    """Return the model in the tool's own form, with the constants of the model's configuration."""
    import json

    import yaml
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint

    target = folder / "model"
    shutil.copytree(Path(task["work"]) / "model", target)
    convert_hf_checkpoint(target, model_name="SmolLM2-135M")
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    path = target / "model_config.yaml"
    known = yaml.safe_load(path.read_text(encoding="utf-8"))
    rope = config.get("rope_parameters", {}).get("rope_theta", 10000.0)
    path.write_text(yaml.safe_dump(known | {"rope_base": int(rope), "norm_eps": config["rms_norm_eps"]}), encoding="utf-8")
    return target


def train(task: dict[str, Any], folder: Path) -> None:
    """Tune through the tool's own function, telling each step where it logs it."""
    import lightning
    import torch
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import DataModule
    from litgpt.data.base import get_sft_collate_fn
    from litgpt.finetune import lora
    from litgpt.prompts import Default
    from torch.utils.data import DataLoader

    torch.set_num_threads(task["threads"])
    counts: list[dict[str, int]] = []
    rows = []
    for row in read_tokens(task["work"], task["rows"]):
        size = {"raw": len(row["input_ids"]), "raw_plus_prompt_template": len(row["input_ids"])}
        rows.append({"input_ids": torch.tensor(row["input_ids"]), "labels": torch.tensor(row["labels"]), "token_counts": size})
    plain = get_sft_collate_fn()

    def collate(samples: list[Any]) -> Any:
        batch = plain(samples)
        sizes = {"tokens": sum(len(one["input_ids"]) for one in samples), "labels": int((batch["labels"] >= 0).sum())}
        counts.append({**sizes, "positions": batch["input_ids"].numel(), "rows": len(samples)})
        return batch

    class Rows(DataModule):
        prompt_style = Default()

        def connect(self, *_: Any, **__: Any) -> None: ...

        def train_dataloader(self) -> Any:
            return DataLoader(rows, batch_size=task["batch"], collate_fn=collate)

        def val_dataloader(self) -> Any:
            return DataLoader(rows[:1], batch_size=1, collate_fn=plain)

    def log(self: Any, metrics: dict[str, Any], step: int | None = None) -> None:
        if "iter_time" not in metrics:
            return
        tell("step", step=step, loss=float(metrics["loss"]), **counts.pop(0))
        if (step or 0) >= task["steps"]:
            raise Enough

    lightning.Fabric.log_dict = log
    rate = {"class_path": "torch.optim.AdamW", "init_args": {"lr": task["rate"], "weight_decay": 0.0, "betas": [0.9, 0.999]}}
    parts = dict.fromkeys(("lora_query", "lora_key", "lora_value", "lora_projection", "lora_mlp"), True)
    model = converted(task, folder)
    tell("train")
    with suppress(Enough):
        lora.setup(
            model,
            out_dir=folder / "out",
            precision="bf16-true",
            lora_r=16,
            lora_alpha=32,
            lora_dropout=0.0,
            data=Rows(),
            train=TrainArgs(
                save_interval=None,
                log_interval=1,
                global_batch_size=task["batch"],
                micro_batch_size=task["batch"],
                lr_warmup_steps=1,  # it divides by them
                epochs=1,
            ),
            eval=EvalArgs(interval=10_000, max_new_tokens=1, max_iters=1),
            optimizer=rate,
            seed=0,
            **parts,
        )


if __name__ == "__main__":
    job = asked()
    place = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        train(job, place)
        tell("end")
    finally:
        shutil.rmtree(place, ignore_errors=True)
