"""LLaMA-Factory as a driver: LoRA on the shared token ids, through its own entry point.

Enters: a task as JSON on the command line (`arms`). Leaves: lines (`told`). It reads rows that are tokenised already, and goes on from an
adapter that is given: so the work is the same.
"""

from __future__ import annotations

from told import asked, read_tokens, tell

tell("start")

import json  # noqa: E402  (the start is told before anything is imported)
import shutil  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from types import ModuleType  # noqa: E402
from typing import Any  # noqa: E402

from drive_hf import LORA, Counted, prepare, watched  # noqa: E402


def without_sound() -> None:
    """Put an empty module where the tool imports one for sound, which it has no use for with text."""
    from importlib.machinery import ModuleSpec

    silent = ModuleType("torchaudio")
    silent.__spec__ = ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = silent


def write_rows(task: dict[str, Any], folder: Path) -> None:
    """Write the rows in the form in which the tool keeps what it has tokenised."""
    from datasets import Dataset, DatasetDict

    rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in read_tokens(task["work"], task["rows"])]
    for row in rows:
        row.update(images=None, videos=None, audios=None)
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(str(folder))


def write_adapter(task: dict[str, Any], folder: Path) -> None:
    """Write the adapter that burnish begins with, with settings that the tool's older PEFT knows."""
    from peft import LoraConfig

    LoraConfig(**LORA, base_model_name_or_path=f"{task['work']}/model").save_pretrained(str(folder))
    shutil.copy(Path(task["work"]) / "adapter" / "adapter_model.safetensors", folder / "adapter_model.safetensors")


def train(task: dict[str, Any], folder: Path) -> None:
    """Tune through the tool's own entry point."""
    from llamafactory.train.sft import workflow
    from llamafactory.train.tuner import run_exp

    write_rows(task, folder / "rows")
    write_adapter(task, folder / "adapter")
    counters: list[Counted] = []
    plain = workflow.CustomSeq2SeqTrainer

    class Told(plain):  # type: ignore[misc, valid-type]
        def __init__(self, **known: Any) -> None:
            counters.append(Counted(known["data_collator"]))
            super().__init__(**{**known, "data_collator": counters[0]})
            self.add_callback(watched(counters[0], task.get("gate")))

    workflow.CustomSeq2SeqTrainer = Told
    run_exp(
        {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": f"{task['work']}/model",
            "adapter_name_or_path": str(folder / "adapter"),
            "finetuning_type": "lora",
            "lora_rank": 16,
            "lora_alpha": 32,
            "lora_target": "all",
            "template": "empty",
            "dataset": "shared",  # to be named, though rows that are tokenised already take its place
            "tokenized_path": str(folder / "rows"),
            "output_dir": str(folder / "out"),
            "per_device_train_batch_size": task["batch"],
            "gradient_accumulation_steps": 1,
            "learning_rate": task["rate"],
            "lr_scheduler_type": "constant",
            "max_steps": task["steps"],
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_shuffling": True,
            "bf16": task.get("bf16", True),
            "disable_gradient_checkpointing": not task.get("checkpointing", True),
        }
    )


if __name__ == "__main__":
    job = asked()
    prepare(job)
    without_sound()
    place = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        train(job, place)
        tell("end", settings=json.dumps({name: job[name] for name in ("bf16", "checkpointing") if name in job}))
    finally:
        shutil.rmtree(place, ignore_errors=True)
