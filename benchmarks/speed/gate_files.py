"""The files by which sides are compared: weights after the first step, and the gradient of the second step.

Enters: optimizer states of any side. Leaves: `weights.safetensors` and `gradients.safetensors`, with the same names on all sides. After one
step no adapter stands at zero any more, so that both of its factors have a gradient; AdamW's first moment holds it, up to the factor by
which it was clipped, which a cosine does not see.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BETA1 = 0.9


def gradient_after(first: Any, second: Any) -> Any:
    """Return the gradient of step 2 from AdamW's first moments after steps 1 and 2: m2 = beta1 m1 + (1 - beta1) g2."""
    return (second.float() - BETA1 * first.float()) / (1 - BETA1)


def plain_name(name: str) -> str:
    """Return the name of a parameter without what wrappers put into it."""
    name = name.replace(".default.", ".")
    for part in ("_orig_mod.", "_checkpoint_wrapped_module.", "base_model.model."):
        name = name.replace(part, "")
    return name


def write_gate(folder: Path, *, weights: Mapping[str, Any], gradients: Mapping[str, Any], full: bool) -> None:
    """Write both files; of a frozen base nothing is written."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    kept = {plain_name(name): item for name, item in weights.items() if full or "lora_" in name}
    save_file({name: item.detach().float().contiguous().clone() for name, item in kept.items()}, folder / "weights.safetensors")
    named = {plain_name(name): item.detach().float().contiguous().clone() for name, item in gradients.items()}
    save_file(named, folder / "gradients.safetensors")
