"""Export a whole model: an adapter merged into its base, or a tuned model as it is, as a folder that transformers opens.

Enters: a `Subject`. Leaves: config.json, safetensors, tokenizer, chat template and `burnish.json`. It is opened again by transformers
alone and compared; what rounding took of the update is measured before it is taken (`burnish.merge`).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish.errors import BurnishError, ConfigError, ModelError
from burnish.export.bundle import Made, move_up, step_failed
from burnish.export.ecosystem import head_differences, open_network, text_checks
from burnish.export.parity import Check, logits_checks, network_logits, tuned_logits
from burnish.export.subject import Choices, Subject, probes
from burnish.merge import PRECISIONS, merge, stored_dtype, write
from burnish.models import load_model
from burnish.techniques.prompt import WHY_NOT


def refuse(subject: Subject, choices: Choices) -> None:
    """Raise ModelError for a prompt method, which no weights can hold, and ConfigError for an unknown number format."""
    if choices.dtype not in (*PRECISIONS, "auto"):
        raise ConfigError(f"--dtype {choices.dtype} is not known. Use one of: auto, {', '.join(PRECISIONS)}.")
    if subject.has_virtual:
        raise ModelError(
            f"{subject.name} cannot be exported as a whole model: {WHY_NOT}. Export what was tuned, to stand beside its base: --to adapter"
        )


def fill(subject: Subject, folder: Path, choices: Choices) -> Made:
    """Write the whole model into `folder` and compare it with the tuned model."""
    stored, facts = _write(subject, folder, choices)
    return Made(checks(subject, folder, stored, choices), stored, f"burnish generate {choices.output} --prompt TEXT", facts)


def checks(subject: Subject, folder: Path, stored: str, choices: Choices) -> list[Check]:
    """Return the checks of a whole model's folder against the tuned model."""
    found, rows = text_checks(subject, folder), probes(subject)
    # A head's scores are numbers of their own size, so that what rounding may change of them is a share, as of a logit.
    rounded = choices.tolerance or (None if stored == "float32" else 0.05)
    try:
        if subject.has_head or subject.model.heads:
            found += head_differences(subject, folder, rows, tolerance=rounded)
        if not subject.has_head:
            logits = network_logits(open_network(subject, folder), rows)
            found += logits_checks("logits", tuned_logits(subject.model, rows), logits, stored=stored, tolerance=choices.tolerance)
    except BurnishError:
        raise
    except Exception as error:
        raise step_failed("opening it with transformers", error, to="merged") from error
    return found


def _write(subject: Subject, folder: Path, choices: Choices) -> tuple[str, dict[str, Any]]:
    """Write the weights; return what they are stored in, and what merging measured."""
    inner = folder / ".whole"
    if subject.is_adapter:
        told = merge(subject.name, inner, dtype=choices.dtype, force=choices.force)  # pyright: ignore[reportArgumentType]
        move_up(inner, folder)
        return told.dtype, {"layers": told.layers, "update": asdict(told.update)}
    from burnish.merge import exact

    whole = load_model(subject.name, exact())
    stored = stored_dtype(whole) if choices.dtype == "auto" else choices.dtype
    import torch

    whole.network.to({"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[stored])
    write(whole, inner, settings=whole.found.settings, facts={})
    move_up(inner, folder)
    return stored, {}
