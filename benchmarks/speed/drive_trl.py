"""TRL as a driver: supervised fine-tuning, preferences and reinforcement on the shared work.

Enters: a task as JSON on the command line (`arms`). Leaves: lines (`told`). With nothing but the work in the task it runs as its README shows;
what an arm was tuned by hand to is in the task.
"""

from __future__ import annotations

from told import asked, read_rows, read_tokens, tell

tell("start")

import shutil  # noqa: E402  (the start is told before anything is imported)
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from drive_hf import LORA, Counted, load_adapter, prepare, settings, watched  # noqa: E402


def _model(task: dict[str, Any]) -> dict[str, Any]:
    """Return how a trainer is to load the model: by name, in the dtype that the task names, else in its own."""
    return {"model_init_kwargs": {"dtype": task["dtype"]}} if "dtype" in task else {}


def _adapters(task: dict[str, Any]) -> dict[str, Any]:
    from peft import LoraConfig

    return {"peft_config": LoraConfig(**LORA)} if task.get("technique", "lora") == "lora" else {}


def _train(trainer: Any, task: dict[str, Any], *, counted: bool = True) -> None:
    """Give the adapters their first values, count batches, and train."""
    full = task.get("technique") == "full"
    if not full:
        load_adapter(trainer.model, f"{task['work']}/adapter")
    counter = Counted(trainer.data_collator) if counted else None
    if counter is not None:
        trainer.data_collator = counter
    trainer.add_callback(watched(counter, task.get("gate"), full=full, keep=task.get("keep")))
    trainer.train()


def sft(task: dict[str, Any], folder: Path) -> None:
    """Train on token ids and labels; with "text" on rows as a user has them, which the trainer renders and tokenises."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    packing = {"packing": True, "packing_strategy": "bfd"} if task.get("packing") else {}
    if task.get("text"):
        turns = lambda role, text: [{"role": role, "content": text}]  # noqa: E731
        rows = [
            {"prompt": turns("user", row["prompt"]), "completion": turns("assistant", row["completion"])}
            for row in read_rows(task["work"], task["rows"])
        ]
    else:
        rows = read_tokens(task["work"], task["rows"])
    longest = task["context"] if not packing else task["pack_to"]
    trainer = SFTTrainer(
        model=f"{task['work']}/model",
        args=SFTConfig(max_length=longest, **settings(task, folder), **_model(task), **packing),
        train_dataset=Dataset.from_list(rows),
        **_adapters(task),
    )
    _train(trainer, task)


def dpo(task: dict[str, Any], folder: Path) -> None:
    """Train on pairs of token ids; the reference read beforehand where the task says so."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Tokenised(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *known: Any, **more: Any) -> Any:
            began = time.perf_counter()
            found = super()._precompute_ref_logps(dataset, *known, **more)
            tell("reference", seconds=time.perf_counter() - began, sequences=2 * len(dataset))
            return found

    def pair(two: list[dict[str, list[int]]]) -> dict[str, list[int]]:
        chosen, rejected = two
        start = next(place for place, label in enumerate(chosen["labels"]) if label >= 0)
        parts = {"chosen_ids": chosen["input_ids"][start:], "rejected_ids": rejected["input_ids"][start:]}
        return {"prompt_ids": chosen["input_ids"][:start], **parts}

    rows = [pair(two) for two in read_tokens(task["work"], task["rows"])][: task["steps"] * task["batch"]]
    trainer = Tokenised(
        model=f"{task['work']}/model",
        args=DPOConfig(
            max_length=task["context"],
            precompute_ref_log_probs=bool(task.get("reference_first")),
            **settings(task, folder),
            **_model(task),
        ),
        train_dataset=Dataset.from_list(rows),
        **_adapters(task),
    )
    _train(trainer, task)


def grpo(task: dict[str, Any], folder: Path) -> None:
    """Attempt prompts and learn from the attempts; the reward is that of burnish's run (`reward`)."""
    from datasets import Dataset
    from reward import of_text
    from trl import GRPOConfig, GRPOTrainer

    prompts = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in read_rows(task["work"], task["rows"])]

    def rewarded(completions: list[Any], **_: Any) -> list[float]:
        return [of_text(one[0]["content"]) for one in completions]

    known = settings(task, folder)
    known["per_device_train_batch_size"] = task["batch"] * task["samples"]
    known.pop("train_sampling_strategy")
    trainer = GRPOTrainer(
        model=f"{task['work']}/model",
        reward_funcs=rewarded,
        args=GRPOConfig(
            num_generations=task["samples"],
            max_completion_length=task["new_tokens"],
            temperature=1.0,
            loss_type="grpo",
            **known,
            **_model(task),
        ),
        train_dataset=Dataset.from_list(prompts),
        **_adapters(task),
    )
    _train(trainer, task, counted=False)


if __name__ == "__main__":
    job = asked()
    prepare(job)
    place = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        {"sft": sft, "dpo": dpo, "grpo": grpo}[job["verb"]](job, place)
        tell("end")
    finally:
        shutil.rmtree(place, ignore_errors=True)
