"""Save a model as a folder that the ecosystem's own loaders open, and put saved weights back into a model.

Enters: a `Model` and an empty folder. Leaves: a PEFT adapter folder, or a Hugging Face model folder, each with tokenizer and chat
template, and `burnish.json`: the base by the name it was loaded under and the form in which the model was taught. A whole model keeps
what its base says about the rows that it was trained on; an adapter is found together with its base.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.assets import SEEN
from burnish.errors import ModelError
from burnish.models.find import SETTINGS, fingerprint, read_json
from burnish.models.heads import VALUE_FILE, restore_value_head, save_value_head, settings_of, value_head
from burnish.models.load import Model


def save_model(model: Model, folder: Path, *, settings: Mapping[str, Any] | None = None) -> None:
    """Write the model into `folder`: only the adapter where one is being trained, else all weights in the dtype they have.

    `settings` go into `burnish.json`: what a later evaluation, chat or server needs to ask in the form that was taught.
    """
    _save_network(model, folder)
    save_value_head(model, folder)
    model.tokenizer.save_pretrained(str(folder))
    config = folder / "adapter_config.json"
    written = dict(settings or {}) | settings_of(model.spec)
    if config.is_file():
        values = read_json(config)
        # PEFT's own loader needs a place; the name beside it finds a bundled model on another machine too.
        values["base_model_name_or_path"] = str(Path(model.found.base).resolve()) if model.found.local else model.found.base
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        base = model.found.name if model.found.adapter is None else model.found.base
        local = Path(base).expanduser()
        written |= {"base": str(local.resolve()) if local.is_dir() else base, "base_fingerprint": fingerprint(model.found)}
    elif (seen := model.found.seen) is not None:
        shutil.copyfile(seen, folder / SEEN)
    (folder / SETTINGS).write_text(json.dumps(written, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _save_network(model: Model, folder: Path) -> None:
    """Write the network without its value head, which the ecosystem's loaders would not know."""
    head = model.network._modules.pop("value_head", None)
    try:
        if model.technique is not None and model.technique.save is not None:
            model.technique.save(model.network, folder)
        else:
            model.network.save_pretrained(str(folder))
    finally:
        if head is not None:
            model.network.add_module("value_head", head)


def restore_weights(model: Model, folder: Path) -> None:
    """Put the weights of a folder that `save_model` wrote back into the model, bit for bit.

    Raises ModelError where the folder holds other parameters than the model.
    """
    from safetensors.torch import load_file

    if value_head(model) is not None:
        restore_value_head(model, folder)
    if model.technique is not None and model.technique.restore is not None:
        model.technique.restore(model.network, folder)
        return
    if (folder / "adapter_config.json").is_file():
        from peft import set_peft_model_state_dict
        from peft.utils import load_peft_weights

        result = set_peft_model_state_dict(model.network, load_peft_weights(str(folder), device="cpu"))
        unknown = list(result.unexpected_keys)
    else:
        files = [path for path in sorted(folder.glob("*.safetensors")) if path.name != VALUE_FILE]
        tensors = {name: tensor for path in files for name, tensor in load_file(path).items()}
        result = model.plain().load_state_dict(tensors, strict=False)
        tied = set(
            getattr(model.plain(), "all_tied_weights_keys", None) or getattr(model.plain(), "_tied_weights_keys", None) or ()
        )
        unknown = list(result.unexpected_keys) + [
            name for name in result.missing_keys if name not in tied and not name.startswith("value_head.")
        ]
    if unknown:
        raise ModelError(f"{folder}: the saved weights are not this model's ({', '.join(unknown[:3])} differ).")
