"""Several adapters over one base in memory, each row of a flight with one of them.

Enters: a model without an adapter, and where adapters on it lie. Leaves: the same model, in whose network they stand by name beside each
other (`fast.switch` chooses among them). What cannot be shared, such as other tokens, heads or layers, is said in words: such a run is
loaded by itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from burnish.errors import ModelError
from burnish.models.fast import fits_slots
from burnish.models.find import Found, read_json
from burnish.models.load import Model
from burnish.techniques.quantised import FACTS

LAYERS = frozenset(f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down"))
"""The layers that may have an adapter: those that a step of `fast.slots` computes."""
FREE = frozenset(
    {
        *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode", "init_lora_weights"),
        *("layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "peft_type", "peft_version", "r", "rank_pattern"),
        *("revision", "target_modules", "task_type", "use_rslora"),
    }
)
"""Fields of an adapter's configuration that make no other kind of adapter of it."""


def why_not_shared(model: Model, found: Found) -> str | None:
    """Return why an adapter cannot stand beside others on a model's base, None where it can."""
    if found.adapter is None:
        return "it is a whole model"
    if found.base != model.found.base:
        return "it has another base"
    if found.settings.get("head") or found.settings.get("heads"):
        return "it has a head"
    if model.spec is not None or model.heads or not fits_slots(model):
        return "the base is of an architecture whose rows cannot choose an adapter each"
    if (found.adapter / FACTS).is_file():
        return "its base is quantised"
    return _why_not_plain(found.adapter) or _why_other_tokens(model, found.adapter)


def add_adapter(model: Model, found: Found, name: str) -> None:
    """Put an adapter into a model's network in place, under a name without dots; `why_not_shared` has found no reason against it.

    Until now the network may be plain. Rows that name no adapter are answered by the base alone. Raises ModelError where the file does not fit.
    """
    import warnings

    from peft import PeftModel

    assert found.adapter is not None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            if model.adapters:
                model.network.load_adapter(str(found.adapter), adapter_name=name, is_trainable=False)
            else:
                model.network = PeftModel.from_pretrained(model.network, str(found.adapter), adapter_name=name, is_trainable=False)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"model = {found.name!r}: the adapter does not fit its base {found.base}. ({text})") from error
    model.network.eval()
    model.adapters = (*model.adapters, name)


def _why_not_plain(folder: Path) -> str | None:
    """Return why an adapter is more than low-rank updates of the layers that a step computes, None where it is that."""
    from peft import LoraConfig

    values = read_json(folder / "adapter_config.json")
    if values.get("peft_type") != "LORA":
        return f"it is a {values.get('peft_type')} adapter, and no LoRA"
    usual: dict[str, Any] = json.loads(json.dumps(LoraConfig().to_dict(), default=str))
    odd = sorted(name for name, value in values.items() if name not in FREE and value and value != usual.get(name))
    if odd:
        return f"its configuration sets {', '.join(odd)}"
    others = sorted({layer for layer in _layers(folder) if layer not in LAYERS})
    return f"it changes {', '.join(others)}" if others else None


def _layers(folder: Path) -> list[str]:
    """Return the names of the layers that an adapter changes, from the head of its file."""
    from safetensors import safe_open

    with safe_open(str(folder / "adapter_model.safetensors"), framework="np") as file:
        keys = list(file.keys())
    suffixes = (".lora_A.weight", ".lora_B.weight")
    return [next((key.removesuffix(end).split(".")[-1] for end in suffixes if key.endswith(end)), key) for key in keys]


def _why_other_tokens(model: Model, folder: Path) -> str | None:
    """Return why an adapter's tokens are not its base's, None where they are; its chat template may be another."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    own, base = read_json(path), json.loads(model.tokenizer.backend_tokenizer.to_str())
    parts = ("model", "added_tokens", "normalizer", "pre_tokenizer", "decoder")
    return None if all(own.get(part) == base.get(part) for part in parts) else "its tokenizer is another than its base's"
