"""Average the weights of a tuned model with those of its base: a part of what was learned, for a part of what was forgotten.

Enters: two models as folders (or names), and a share. Leaves: a new folder of the same kind as the tuned one, complete or absent, that
opens with the same loaders. Of an adapter only the adapter is written, scaled; the base stays where it is.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from burnish import atomic
from burnish.errors import ConfigError, ModelError, UsageError
from burnish.models import Found, Model, find_model, load_model, refuse_foreign_code
from burnish.models.named_heads import FILES
from burnish.techniques.folded import merged_in

if TYPE_CHECKING:
    import torch

UP = (".lora_B.weight", ".lora_embedding_B")
"""Ends of the names of the factor of an adapter that is scaled: the update is B A, so scaling B alone scales it."""
UP_IN_MEMORY = re.compile(r"\.lora_(B|embedding_B)\.")
DOWN = (".lora_A.weight", ".lora_embedding_A")


def average(tuned: str, folder: Path | str, *, share: float, base: str | None = None) -> Path:
    """Write the model whose weights are (1 - share) base + share tuned into a new folder, and return that folder.

    `share` 0 gives the base and 1 the tuned model, exactly. A whole model needs its `base` named; a LoRA adapter knows its own, and
    (1 - share) W + share (W + s B A) = W + s (share B) A, so its factor B is scaled. In the wider of the two number formats.
    Source: Wortsman et al. 2021, "Robust fine-tuning of zero-shot models" (WiSE-FT), arXiv 2109.01903.

    Raises ConfigError for a share outside 0..1, ModelError for models that cannot be averaged, UsageError where the folder is used.
    """
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"share = {share}: expected a number from 0 (the base) to 1 (the tuned model); 0.5 is a usual first try.")
    target, found = Path(folder), find_model(tuned)
    refuse_foreign_code(found)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already; nothing in it was changed. Choose another folder.")
    if found.adapter is not None:
        _refuse_other_base(found, base)
        _refuse_other_adapters(found, found.adapter)
        origin, weights = found.adapter, _scaled_adapter
    else:
        origin, weights = Path(_local(found).base), _averaged_model
    against = found if found.adapter is not None else _named_base(found, base)
    facts = {"averaged": {"tuned": found.name, "base": against.base, "share": share}}

    def fill(temporary: Path) -> None:
        for file in sorted(origin.iterdir()):
            weights_of_model = file.suffix == ".safetensors" and file.name not in FILES.values()
            if file.is_file() and not weights_of_model and file.name != atomic.MANIFEST and file.suffix not in _PICKLES:
                shutil.copyfile(file, temporary / file.name)
        weights(origin, against, temporary, share)

    atomic.write_directory(target, fill, manifest=facts)
    return target


def average_with_base(model: Model, share: float, *, terms: Sequence[str] = ()) -> None:
    """Average a model that was just tuned with what it was tuned from, in place; 1 leaves it as it is.

    As `average` does it, by the way that the model's technique names (`Technique.averages`). `terms` are those that the run added.
    """
    import torch

    if share == 1.0:
        return
    assert model.technique is not None and model.technique.averages is not None, "prepare refuses other techniques"
    moving = {name: parameter for name, parameter in model.network.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        if model.technique.averages == "factor":
            for name, parameter in moving.items():
                parameter.mul_(share if UP_IN_MEMORY.search(name) else 1.0)
            return
        network = load_model(model.found.name, model.target, terms=terms).network
        base = dict((merged_in(network) if hasattr(network, "peft_config") else network).named_parameters())
        for name, parameter in moving.items():
            if name in base:  # a value head is nothing that the base has
                parameter.copy_(_mixed(base[name], parameter, share))


_PICKLES = atomic.PICKLE_SUFFIXES - {".npy"}  # `seen.npy` says what the model was trained on, and is read without unpickling


# ----------------------------------------------------------------------------------------------------------------- what is refused


def _local(found: Found) -> Found:
    """Return the model if it lies in a folder of this machine; ModelError where it would have to be fetched."""
    if not found.local:
        raise ModelError(
            f"model = {found.name!r} is a name on the hub. Averaging reads and writes folders: fetch it first and give its folder."
        )
    return found


def _named_base(found: Found, base: str | None) -> Found:
    """Return the base of a whole model."""
    if base is None:
        raise ModelError(f"{found.name}: a whole model does not say which weights it was tuned from. Name them: base=…")
    other = _local(find_model(base))
    refuse_foreign_code(other)
    if other.adapter is not None:
        raise ModelError(f"base = {base!r} is an adapter on {other.base}, and {found.name} a whole model. Give the merged base.")
    return other


def _refuse_other_base(found: Found, base: str | None) -> None:
    """Raise ModelError where another base is named than the one that the adapter belongs to."""
    if base is not None and Path(find_model(base).base).resolve() != Path(found.base).resolve():
        raise ModelError(f"{found.name} is an adapter on {found.base}, not on {base!r}. Leave base out.")


def _refuse_other_adapters(found: Found, folder: Path) -> None:
    """Raise ModelError for adapters whose effect is not proportional to one factor."""
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    kind = settings.get("peft_type")
    why = None
    if kind != "LORA":
        why = f"is an adapter of the kind {kind}"
    elif settings.get("use_dora"):
        why = "is a DoRA adapter, whose magnitudes are not proportional to anything"
    elif settings.get("modules_to_save") or settings.get("bias", "none") != "none":
        why = "trains more than its low-rank factors (whole modules or biases)"
    elif settings.get("init_lora_weights") not in (True, "gaussian", None):
        why = f"was begun by {settings['init_lora_weights']}, which changes the base too"
    if why is not None:
        raise ModelError(
            f"{found.name} {why}, so it cannot be scaled towards its base. Merge it into a whole model first, and average that."
        )


# --------------------------------------------------------------------------------------------------------------------- the weights


def _scaled_adapter(origin: Path, against: Found, target: Path, share: float) -> None:
    """Write the adapter's weights with its factors B scaled; ModelError where it holds others than A and B."""
    from safetensors.torch import load_file, save_file

    name = "adapter_model.safetensors"
    tensors = load_file(origin / name)
    other = [key for key in tensors if not key.endswith(UP + DOWN)]
    if other:
        raise ModelError(
            f"{origin / name} holds tensors that are no low-rank factors ({', '.join(other[:3])}). Merge it first, and average that."
        )
    save_file(
        {key: _mixed(tensor * 0, tensor, share) if key.endswith(UP) else tensor for key, tensor in tensors.items()},
        target / name,
        metadata={"format": "pt"},
    )


def _averaged_model(origin: Path, against: Found, target: Path, share: float) -> None:
    """Write the averaged weights file by file, under the names that the tuned model's files have."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    place = {}
    for file in sorted(Path(against.base).glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            place |= dict.fromkeys(opened.keys(), file)
    left, formats = set(place), set()
    for file in (path for path in sorted(origin.glob("*.safetensors")) if path.name not in FILES.values()):
        mixed: dict[str, torch.Tensor] = {}
        for name, tensor in load_file(file).items():
            if name not in place:
                raise ModelError(f"{against.base} has no tensor {name}, which {origin} has: they are not of one architecture.")
            with safe_open(place[name], framework="pt") as opened:
                mixed[name] = _averaged(opened.get_tensor(name), tensor, share, name=name, where=origin)
            left.discard(name)
        formats |= {tensor.dtype for tensor in mixed.values() if tensor.is_floating_point()}
        save_file(mixed, target / file.name, metadata={"format": "pt"})
    if left:
        raise ModelError(
            f"{origin} lacks {len(left)} tensors of {against.base} ({sorted(left)[0]}): they are not of one architecture."
        )
    _note_format(target, formats)


def _averaged(base: torch.Tensor, tuned: torch.Tensor, share: float, *, name: str, where: Path) -> torch.Tensor:
    """Return one averaged tensor; ModelError where the two have different shapes, or count something and differ."""
    import torch

    if base.shape != tuned.shape:
        raise ModelError(
            f"{where}: {name} has the shape {list(tuned.shape)}, in the base {list(base.shape)}: they are not one model's."
        )
    if not tuned.is_floating_point():
        if not torch.equal(base, tuned):
            raise ModelError(
                f"{where}: {name} holds whole numbers that differ from the base's, and between these there is nothing."
            )
        return tuned
    return _mixed(base, tuned, share)


def _mixed(base: torch.Tensor, tuned: torch.Tensor, share: float) -> torch.Tensor:
    """Return (1 - share) base + share tuned, computed in float32 at least and kept in the wider format of the two."""
    import torch

    kept = torch.promote_types(base.dtype, tuned.dtype)
    if share in (0.0, 1.0):  # exactly, whatever stands there: 0 times infinity would be no number
        return (tuned if share else base).to(kept).contiguous()
    wide = torch.promote_types(kept, torch.float32)
    return ((1.0 - share) * base.to(wide) + share * tuned.to(wide)).to(kept).contiguous()


def _note_format(target: Path, formats: set[torch.dtype]) -> None:
    """Say in config.json in which number format the weights are now, the widest of them, which loaders go by."""
    import functools

    import torch

    config = target / "config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    widest = str(functools.reduce(torch.promote_types, formats)).removeprefix("torch.")
    values |= {key: widest for key in ("dtype", "torch_dtype") if key in values}
    config.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
