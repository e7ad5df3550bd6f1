"""transformers itself as a driver: its Trainer with a head on a frozen base, and its `generate`.

Enters: a task as JSON on the command line (`arms`). Leaves: lines (`told`).
"""

from __future__ import annotations

from told import asked, read_rows, read_tokens, tell

tell("start")

import shutil  # noqa: E402  (the start is told before anything is imported)
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from drive_hf import Counted, prepare, settings, watched  # noqa: E402


def head(task: dict[str, Any], folder: Path) -> None:
    """Train a new head for classification, the base frozen, with transformers' own Trainer."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    rows = read_tokens(task["work"], task["rows"])
    network = AutoModelForSequenceClassification.from_pretrained(f"{task['work']}/head", dtype=getattr(torch, task["dtype"]))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("score"))
    tokenizer = AutoTokenizer.from_pretrained(f"{task['work']}/model")
    counter = Counted(DataCollatorWithPadding(tokenizer))
    trainer = Trainer(
        model=network,
        args=TrainingArguments(**settings(task, folder)),
        train_dataset=Dataset.from_list(rows),
        data_collator=counter,
        callbacks=[watched(counter)],
    )
    trainer.train()


def generate(task: dict[str, Any], folder: Path) -> None:
    """Continue prompts greedily, padded on the left, and tell each batch."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"dtype": getattr(torch, task["dtype"])} if "dtype" in task else {}
    network = AutoModelForCausalLM.from_pretrained(f"{task['work']}/model", **options)
    tokenizer = AutoTokenizer.from_pretrained(f"{task['work']}/model", padding_side="left")
    texts = [row["prompt"] for row in read_rows(task["work"], task["rows"])[: task["batch"]]]
    inputs = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    wanted = {"max_new_tokens": task["new_tokens"], "min_new_tokens": task["new_tokens"], "do_sample": False}
    tell("ready")
    for _ in range(task["steps"]):
        began = time.perf_counter()
        with torch.inference_mode():
            answers = network.generate(**inputs, **wanted, **task.get("options", {}))
        made = answers[:, inputs["input_ids"].shape[1] :]
        tell("step", seconds=time.perf_counter() - began, tokens=int(made.numel()), first=made[0].tolist())


if __name__ == "__main__":
    job = asked()
    prepare(job)
    place = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        {"head": head, "generate": generate}[job["verb"]](job, place)
        tell("end")
    finally:
        shutil.rmtree(place, ignore_errors=True)
