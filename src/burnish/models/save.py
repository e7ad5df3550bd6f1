"""Save a model as a folder that the ecosystem's own loaders open, and put saved weights back into a model.

Enters: a `Model` and an empty folder. Leaves: a PEFT adapter folder, or a Hugging Face model folder, each with tokenizer and chat
template, heads that stand beside the network, and `burnish.json`: the base by the name it was loaded under, the form in which the model
was taught, and which heads it has. A whole model keeps
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
from burnish.models.heads import settings_of
from burnish.models.load import Model
from burnish.models.named_heads import FILES, is_beside, restore_beside, save_beside, settings_of_heads, without_beside


def save_model(model: Model, folder: Path, *, settings: Mapping[str, Any] | None = None) -> None:
    """Write the model into `folder`: only the adapter where one is being trained, else all weights in the dtype they have.

    `settings` go into `burnish.json`: what a later evaluation, chat or server needs to ask in the form that was taught.
    """
    with without_beside(model):  # the ecosystem's loaders would not know them
        if model.technique is not None and model.technique.save is not None:
            model.technique.save(model.network, folder)
        else:
            model.network.save_pretrained(str(folder))
    save_beside(model, folder)
    model.tokenizer.save_pretrained(str(folder))
    config = folder / "adapter_config.json"
    written = dict(settings or {}) | settings_of(model.spec) | settings_of_heads(model.heads)
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


def _named_as_here(model: Model, folder: Path, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a folder's tensors under the names that the network itself has for them.

    Some classes write other names, those of the files that the ecosystem has had for years, and turn them back when they open a folder.
    """
    import torch
    from transformers.core_model_loading import revert_weight_conversion

    network = model.plain()
    if model.eye is None or revert_weight_conversion(network, network.state_dict()).keys() == network.state_dict().keys():
        return tensors
    # float32 holds either format exactly; what it is copied into has its own.
    opened = type(network).from_pretrained(str(folder), config=network.config, dtype=torch.float32, use_safetensors=True)
    return opened.state_dict()


def restore_weights(model: Model, folder: Path) -> None:
    """Put the weights of a folder that `save_model` wrote back into the model, bit for bit.

    Raises ModelError where the folder holds other parameters than the model.
    """
    from safetensors.torch import load_file

    restore_beside(model, folder)
    if model.technique is not None and model.technique.restore is not None:
        model.technique.restore(model.network, folder)
        return
    if (folder / "adapter_config.json").is_file():
        from peft import set_peft_model_state_dict
        from peft.utils import load_peft_weights

        result = set_peft_model_state_dict(model.network, load_peft_weights(str(folder), device="cpu"))
        unknown = list(result.unexpected_keys)
    else:
        files = [path for path in sorted(folder.glob("*.safetensors")) if path.name not in FILES.values()]
        tensors = {name: tensor for path in files for name, tensor in load_file(path).items()}
        result = model.plain().load_state_dict(_named_as_here(model, folder, tensors), strict=False)
        tied = set(
            getattr(model.plain(), "all_tied_weights_keys", None) or getattr(model.plain(), "_tied_weights_keys", None) or ()
        )
        unknown = list(result.unexpected_keys) + [name for name in result.missing_keys if name not in tied and not is_beside(name)]
    if unknown:
        raise ModelError(f"{folder}: the saved weights are not this model's ({', '.join(unknown[:3])} differ).")
