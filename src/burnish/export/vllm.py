"""Export for vLLM: a folder that its server opens, and the command that starts it.

Enters: a `Subject` that writes text. Leaves: the adapter for `--enable-lora` where vLLM can take it, else the whole model; `serve.sh` with
the command, template included. What vLLM would refuse or change is told before anything is written. vLLM itself is not started here.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from burnish.errors import ModelError
from burnish.export import adapter, merged
from burnish.export.bundle import Made
from burnish.export.subject import Choices, Subject

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM allows for --max-lora-rank."""


def refuse(subject: Subject, choices: Choices) -> None:
    """Raise ModelError for a model that writes no text, and for a prompt method."""
    if subject.has_head:
        raise ModelError(
            f"{subject.name} reads by a head and writes no text, and vLLM's server is for models that write. Use --to onnx, or burnish serve."
        )
    if subject.has_virtual:
        raise ModelError(
            f"{subject.name} was tuned by a prompt method, which vLLM does not serve. Tune with lora, or use burnish serve."
        )
    merged.refuse(subject, choices)


def fill(subject: Subject, folder: Path, choices: Choices) -> Made:
    """Write the adapter or the whole model with the command that serves it, compared with the tuned model."""
    why = why_merged(subject)
    made = adapter.fill(subject, folder, choices) if not why else merged.fill(subject, folder, choices)
    where = str(choices.output)
    if why:
        words = ["vllm", "serve", where, "--served-model-name", subject.called]
    else:
        rank = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        largest = next(allowed for allowed in RANKS if allowed >= rank)
        base = str(subject.model.found.base)
        words = ["vllm", "serve", base, "--enable-lora", "--max-lora-rank", str(largest)]
        words += ["--lora-modules", f"{subject.called}={where}", "--tokenizer", where]
    # Without it the base's own template would be used, which is not always the one that was taught.
    words += ["--chat-template", str(Path(where) / "chat_template.jinja"), "--max-model-len", str(subject.renderer.max_length)]
    command = shlex.join(words)
    (folder / "serve.sh").write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    (folder / "serve.sh").chmod(0o755)
    notes = [*made.notes, f"The whole model, because {why}."] if why else made.notes
    system = subject.settings.get("system")
    if system:
        notes = [*notes, "vLLM adds no system message by itself: each request must bring the one below Use."]
    return Made(made.checks, made.stored, command, {**made.facts, "adapter": not why}, notes)


def why_merged(subject: Subject) -> str:
    """Return why vLLM cannot take the adapter as it is, an empty text where it can or there is none."""
    folder = subject.model.found.adapter
    if folder is None:
        return "its weights are all its own"
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        return f"vLLM takes LoRA adapters and this is {config.get('peft_type')}"
    if config.get("use_dora"):
        return "vLLM knows no DoRA"
    if config.get("modules_to_save") or config.get("trainable_token_indices"):
        return "it holds modules or new tokens of its own, which vLLM does not take from an adapter"
    if config.get("bias", "none") != "none" or config.get("rank_pattern") or config.get("alpha_pattern"):
        return "it has biases or layers of other ranks, which vLLM does not take from an adapter"
    if config.get("r", 0) > RANKS[-1]:
        return f"its rank of {config['r']} is above the {RANKS[-1]} that vLLM takes"
    if subject.model.found.adapter is not None and (folder / "quantised.json").is_file():
        return "it was trained on a quantised base, which vLLM would open otherwise"
    return ""
