"""Find a model by its name, without reading weights: the bundled one, a local folder, a run directory, or a hub name.

Enters: a name. Leaves: a `Found`, which says where base and adapter lie and how the result was taught. What asks to run code of its
own, holds pickles, or belongs to another base is refused here, before anything is opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.assets import BUNDLED, SEEN, bundled_model
from burnish.errors import ModelError, suggestion

FOREIGN_CODE_KEYS = ("auto_map", "_attn_implementation_internal", "model_file")
"""Keys of config files with which a repository asks to run its own code or to load a kernel from elsewhere."""

SETTINGS = "burnish.json"


@dataclass(frozen=True, slots=True)
class Found:
    """Where a model lies: the base, an adapter on it if there is one, and how the user named it."""

    name: str
    base: str
    adapter: Path | None = None
    local: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """The folder of the tuned result: an adapter's, or a local model's own."""
        return self.adapter or (Path(self.base) if self.local else None)

    @property
    def seen(self) -> Path | None:
        """The file with hashes of the rows that the base was trained on, None where nothing is known of them."""
        path = Path(self.base) / SEEN
        return path if self.local and path.is_file() else None


def find_model(name: str) -> Found:
    """Return where a model lies, without reading weights: a bundled name, a folder, a run directory, or else a hub name.

    Raises ModelError where nothing usable is there, saying what was looked for.
    """
    if name in BUNDLED:
        return Found(name, str(bundled_model(name)))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _find_in_folder(name, folder)
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            f"model = {name!r}: there is no such model folder. Expected a folder with config.json and *.safetensors, a run directory, "
            f"a name such as 'owner/name' on the Hugging Face hub, or a bundled model ({', '.join(BUNDLED)})."
        )
    if "/" not in name:
        raise ModelError(
            f"model = {name!r} is not known.{suggestion(name, BUNDLED)} Use a bundled model ({', '.join(BUNDLED)}), a folder, a run "
            f"directory, or a hub name with its owner ('owner/name')."
        )
    return Found(name, name, local=False)


def _find_in_folder(name: str, folder: Path) -> Found:
    """Return what a local folder holds: a run directory's result, an adapter with its base, or a whole model."""
    if (folder / "run.toml").is_file() and not (folder / "config.json").is_file():
        if not (folder / "model").is_dir():
            raise ModelError(
                f"model = {name!r} is a run directory without a finished model. Finish it first: burnish tune {folder}/run.toml --resume"
            )
        folder = folder / "model"
    settings = read_settings(folder)
    if (folder / "adapter_config.json").is_file():
        return _find_adapter(name, folder, settings)
    if not (folder / "config.json").is_file():
        raise ModelError(f"model = {name!r}: the folder has no config.json and no adapter_config.json, so it is not a model.")
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"model = {name!r}: the folder has no *.safetensors file.{_pickles(folder)}")
    return Found(name, str(folder), settings=settings)


def _find_adapter(name: str, folder: Path, settings: Mapping[str, Any]) -> Found:
    """Return an adapter with the base that it belongs to; ModelError where either cannot be used."""
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(f"model = {name!r}: the adapter has no adapter_model.safetensors.{_pickles(folder)}")
    base = str(settings.get("base") or read_json(folder / "adapter_config.json").get("base_model_name_or_path") or "")
    place = bundled_model(base) if base in BUNDLED else Path(base).expanduser()
    if not base or place.resolve() == folder.resolve():
        raise ModelError(
            f"{folder}: the adapter does not say which model it belongs to. Set base_model_name_or_path in its adapter_config.json."
        )
    if any((part / "adapter_config.json").is_file() for part in (place, place / "model")):
        raise ModelError(f"{folder}: the adapter's base {base!r} is itself an adapter. Merge it first.")
    try:
        found = find_model(base)
    except ModelError as error:
        raise ModelError(f"{folder}: the model that this adapter belongs to cannot be used. {error}") from error
    _refuse_other_base(folder, settings, found)
    return Found(name, found.base, folder, found.local, settings)


def _pickles(folder: Path) -> str:
    """Return a sentence on weights that are not opened here, empty where there are none."""
    other = sorted(path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth"})
    return f" It has {other[0]}, which may run code when opened: convert it to safetensors first." if other else ""


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object of a model folder; ModelError where it is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: expected a JSON object.")
    return values


def read_settings(folder: Path) -> dict[str, Any]:
    """Return what a tuned model's folder says about itself (`burnish.json`): its base and the form in which it was taught."""
    path = folder / SETTINGS
    return read_json(path) if path.is_file() else {}


def fingerprint(found: Found) -> str | None:
    """Return a sha256 that tells one base from another: the heads and sizes of its weight files; None for a hub name.

    The head of a safetensors file lists every tensor with its place; its first megabyte of weights stands for the rest, so that a
    large model is told apart in milliseconds.
    """
    if not found.local:
        return None
    digest = hashlib.sha256()
    for path in sorted(Path(found.base).glob("*.safetensors")):
        with path.open("rb") as stream:
            head = stream.read(8)
            digest.update(head + stream.read(int.from_bytes(head, "little")) + stream.read(1_000_000))
        digest.update(str(path.stat().st_size).encode())
    return digest.hexdigest()


def _refuse_other_base(folder: Path, settings: Mapping[str, Any], base: Found) -> None:
    """Raise ModelError where an adapter's base is not the one that it was trained on."""
    expected = settings.get("base_fingerprint")
    if expected and fingerprint(base) not in (None, expected):
        raise ModelError(
            f"{folder}: this adapter was trained on another version of {base.name!r} than the one found at {base.base}. "
            f"Its answers would be wrong; put the original base there, or tune again."
        )


def refuse_foreign_code(found: Found) -> None:
    """Raise ModelError where a local folder's configuration asks to run code of its own."""
    folders = [Path(found.base)] if found.local else []
    folders += [found.adapter] if found.adapter is not None else []
    for path in [folder / file for folder in folders for file in ("config.json", "tokenizer_config.json", "adapter_config.json")]:
        values = read_json(path) if path.is_file() else {}
        bad = [key for key in FOREIGN_CODE_KEYS if values.get(key)]
        if bad:
            raise ModelError(
                f"{path} asks to run code that comes with the model ({', '.join(bad)}). That is never done here; use a model without it."
            )
