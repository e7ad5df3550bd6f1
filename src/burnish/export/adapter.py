"""Export an adapter: the folder that PEFT, vLLM and others open beside its base.

Enters: a `Subject` whose weights are an adapter. Leaves: its weights and configuration, tokenizer, chat template and `burnish.json`, without
the training's state. It is opened again by PEFT's own loader on the base, and compared.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from burnish.errors import BurnishError, ModelError
from burnish.export.bundle import Made, step_failed
from burnish.export.ecosystem import head_differences, open_network, text_checks
from burnish.export.parity import logits_checks, network_logits, tuned_logits
from burnish.export.subject import Choices, Subject, probes
from burnish.techniques.quantised import facts_of

LEFT_OUT = ("manifest.json", "seen.npy")


def refuse(subject: Subject, choices: Choices) -> None:
    """Raise ModelError for a model whose weights are all its own."""
    if not subject.is_adapter:
        raise ModelError(
            f"{subject.name} is no adapter: its weights are all its own. Export it whole: --to merged (or gguf, ollama, vllm)."
        )


def fill(subject: Subject, folder: Path, choices: Choices) -> Made:
    """Write the adapter into `folder` and compare it with the tuned model."""
    found = subject.model.found
    assert found.adapter is not None
    for path in sorted(found.adapter.iterdir()):
        if path.is_file() and path.name not in LEFT_OUT and path.name != "README.md":
            shutil.copyfile(path, folder / path.name)
    checks = text_checks(subject, folder)
    rows = probes(subject)
    quantised = facts_of(subject.model.plain())
    try:
        if subject.has_head or subject.model.heads:
            checks += head_differences(subject, folder, rows, tolerance=choices.tolerance)
        if not subject.has_head:
            # What is quantised on the way in is opened by whoever knows how: PEFT alone would put the adapter on the base as it lies.
            network = open_network(subject, folder) if quantised is None else _quantised_again(folder)
            checks += logits_checks(
                "logits",
                tuned_logits(subject.model, rows),
                network_logits(network, rows),
                stored="float32",
                tolerance=choices.tolerance,
            )
    except BurnishError:
        raise
    except Exception as error:
        raise step_failed("opening it with PEFT", error, to="adapter") from error
    notes = []
    if quantised is not None:
        notes.append(
            f"It was trained on a base quantised as {quantised.get('kind')}: on the base as it lies it answers a little otherwise."
        )
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    facts = {"peft_type": config.get("peft_type"), "rank": config.get("r")}
    return Made(checks, "float32", _use(subject, choices), facts, notes)


def _quantised_again(folder: Path) -> Any:
    from burnish.merge import exact
    from burnish.models import load_model

    return load_model(str(folder), exact()).plain()


def _use(subject: Subject, choices: Choices) -> str:
    return f"burnish generate {choices.output} --prompt TEXT   # or, in Python:\n# PeftModel.from_pretrained(base, {str(choices.output.name)!r})"
