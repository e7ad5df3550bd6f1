"""Checkpoints: what is needed to go on from step N exactly as if nothing had happened, complete or absent.

Enters: what writes the model, named tensors (optimizer, random generators) and state as JSON. Leaves: `checkpoint-N/`, which the
ecosystem's loaders open as an adapter or model folder, with our own state in its sub-folder `state/`, and a manifest written last
(`atomic`). On resume `find` walks from the newest to the first whose manifest verifies. safetensors and JSON only: nothing is
unpickled.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish import __version__, atomic
from burnish.environment import versions
from burnish.errors import RunError

if TYPE_CHECKING:
    import torch

    from burnish.optim import Optimizer

TENSORS = "state/tensors.safetensors"
STATE = "state/state.json"

_NAME = re.compile(r"checkpoint-(0|[1-9][0-9]*)")
_NUMBER = "$number"  # how JSON, which has no NaN and no infinity, holds them: {"$number": "nan"}


@dataclass(frozen=True, slots=True)
class Found:
    """The newest complete checkpoint, None where there is none, and why each newer one was passed over."""

    path: Path | None
    skipped: tuple[str, ...] = ()

    @property
    def step(self) -> int | None:
        """The step it was saved after."""
        return None if self.path is None else _step(self.path)


# ------------------------------------------------------------------------------------------------------------- save, find, load


def save(
    folder: Path,
    *,
    step: int,
    fill_model: Callable[[Path], None],
    tensors: Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
    facts: Mapping[str, Any],
    keep: int = 2,
    protected: Collection[int] = (),
) -> Path:
    """Write `folder/checkpoint-<step>/` and return its path; then delete all but the newest `keep` and the `protected` steps.

    `fill_model(path)` writes the adapter or model files. Tensors may be on any device, share memory and have any strides; state is
    JSON whose numbers may be NaN or infinite (tuples come back as lists). `facts` (hash of the config, fingerprint of the data,
    revision of the base model, world size) go into the manifest, with step and versions. Checkpoints of later steps, which belong
    to a course that was given up, are deleted too. Nothing is deleted before the new one is complete; raises as
    `atomic.write_directory` does.
    """
    from safetensors.torch import save_file

    assert keep >= 2, "one checkpoint is none: the newest may be the one that is damaged"
    text = json.dumps(_encoded(state, "state"), allow_nan=False)
    flat = _separate(tensors)

    def fill(path: Path) -> None:
        fill_model(path)
        (path / STATE).parent.mkdir()
        save_file(flat, path / TENSORS)
        (path / STATE).write_text(text, encoding="utf-8")

    folder = Path(folder)
    target = folder / f"checkpoint-{step}"
    needed = max(_last_size(folder), sum(tensor.nbytes for tensor in flat.values()))
    atomic.write_directory(target, fill, manifest={**facts, "step": step, "versions": _versions()}, needed_bytes=needed)
    _rotate(folder, step=step, keep=keep, protected=protected)
    return target


def find(folder: Path) -> Found:
    """Return the newest checkpoint of a folder whose every file is as it was written, and what was passed over and why.

    Reads all bytes of the checkpoints it looks at. Folders of other tools, without our manifest, are passed over too.
    """
    skipped: list[str] = []
    for path in reversed(_all(folder)):
        problems = _problems(path)
        if not problems:
            return Found(path, tuple(skipped))
        skipped.append("; ".join(problems))
    return Found(None, tuple(skipped))


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return tensors (on the CPU) and state of a checkpoint, after every file was compared with the manifest.

    Raises RunError with each damaged, missing or foreign file.
    """
    from safetensors.torch import load_file

    path = Path(path)
    if problems := _problems(path):
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise RunError(f"{path} cannot be used:{lines}\nContinue from an older checkpoint: --resume takes the newest complete one")
    return load_file(path / TENSORS), json.loads((path / STATE).read_text(encoding="utf-8"), object_hook=_decoded)


def facts(path: Path) -> dict[str, Any]:
    """Return the facts in a checkpoint's manifest: what the caller of `save` gave, with `step` and `versions`."""
    return dict(atomic.read_manifest(path)["facts"])


def steps(folder: Path) -> list[int]:
    """Return the steps of all checkpoint folders, complete or not, in order."""
    return [_step(path) for path in _all(folder)]


def _problems(path: Path) -> list[str]:
    if problems := atomic.verify(path):
        return problems
    manifest = atomic.read_manifest(path)
    if missing := [name for name in (TENSORS, STATE) if name not in manifest["files"]]:
        return [f"{path}: is no checkpoint to continue from ({' and '.join(missing)} not in it)"]
    if _NAME.fullmatch(path.name) and manifest["facts"].get("step") != _step(path):
        return [f"{path}: was saved after step {manifest['facts'].get('step')}; the folder was renamed"]
    return []


def _rotate(folder: Path, *, step: int, keep: int, protected: Collection[int]) -> None:
    # Only sizes are compared: reading every kept checkpoint at each save would cost as much as saving. Damaged ones do not count as
    # kept. A folder without our manifest was not made here, and is never deleted.
    ours = {_step(path): path for path in _all(folder) if (path / atomic.MANIFEST).is_file()}
    sound = [number for number in ours if number <= step and not atomic.verify(ours[number], contents=False)]
    kept = {*sorted(sound)[-keep:], *protected}
    for number in sorted(set(ours) - kept):
        atomic.remove_directory(ours[number])


def _all(folder: Path) -> list[Path]:
    folder = Path(folder)
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in entries if _NAME.fullmatch(path.name) and path.is_dir()), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))


def _last_size(folder: Path) -> int:
    """Bytes of the newest checkpoint: the next one will be as large, so too little space shows before anything is written."""
    for path in reversed(_all(folder)):
        try:
            return sum(int(facts["size"]) for facts in atomic.read_manifest(path)["files"].values())
        except RunError:
            continue
    return 0


@cache
def _versions() -> dict[str, str]:
    return {"burnish": __version__, **versions(("torch", "transformers", "peft", "safetensors"))}


# ------------------------------------------------------------------------------------------------------- tensors and state as files


def _separate(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors on the CPU, contiguous, no two in the same memory: what safetensors can hold."""
    flat: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        if plain.untyped_storage().data_ptr() in seen:
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        flat[name] = plain
    return flat


def _encoded(value: Any, place: str) -> Any:
    """Return a value as JSON can hold it; TypeError names the place of what it cannot."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_NUMBER: repr(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value) or _NUMBER in value:
            raise TypeError(f"{place}: keys must be texts other than {_NUMBER!r}: {list(value)}")
        return {key: _encoded(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(item, f"{place}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{place}: {type(value).__name__} is not JSON; keep tensors among the tensors")


def _decoded(pairs: dict[str, Any]) -> Any:
    return float(pairs[_NUMBER]) if pairs.keys() == {_NUMBER} else pairs


# -------------------------------------------------------------------------------------------------------------- random generators


def capture_rng() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the state of the global generators of Python, NumPy and torch (CPU, every CUDA device): tensors `rng.*`, and JSON."""
    import numpy as np
    import torch

    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors = {
        "rng.python": torch.tensor(words, dtype=torch.int64),
        "rng.numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "rng.torch": torch.get_rng_state(),
    }
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for device in range(devices):
        tensors[f"rng.cuda.{device}"] = torch.cuda.get_rng_state(device)
    numpy_state = {"name": name, "position": int(position), "has_gauss": int(has_gauss), "cached": float(cached)}
    return tensors, {"python": {"version": version, "gauss": gauss}, "numpy": numpy_state, "cuda_devices": devices}


def restore_rng(tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Put the generators back to what `capture_rng` returned; `tensors` may hold others beside the `rng.*`.

    Raises RunError where the state has generators of more CUDA devices than are here: the numbers to come would differ.
    """
    import numpy as np
    import torch

    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if state["cuda_devices"] > devices:
        raise RunError(
            f"the checkpoint holds random states of {state['cuda_devices']} CUDA devices, and {devices} are here: "
            "resume on the same number of devices, or start a new run"
        )
    words = tuple(int(word) for word in tensors["rng.python"].tolist())
    random.setstate((state["python"]["version"], words, state["python"]["gauss"]))
    saved = state["numpy"]
    keys = tensors["rng.numpy"].numpy().astype(np.uint32)
    np.random.set_state((saved["name"], keys, saved["position"], saved["has_gauss"], saved["cached"]))
    torch.set_rng_state(tensors["rng.torch"])
    for device in range(state["cuda_devices"]):
        torch.cuda.set_rng_state(tensors[f"rng.cuda.{device}"], device)


# -------------------------------------------------------------------------------------------------------------------- optimizer


def optimizer_tensors(
    optimizer: Optimizer, names: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Return an optimizer's state as tensors `optimizer.<what>.<parameter>`, and its parameter groups as JSON.

    `names` maps names to parameters, as `dict(network.named_parameters())`. A group holds its hyper-parameters and, under `params`,
    the names of its parameters. The tensors are the optimizer's own, not copies.
    """
    import torch

    name_of = {id(parameter): name for name, parameter in names.items()}
    tensors: dict[str, torch.Tensor] = {}
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        options = {key: value for key, value in group.items() if key != "params"}
        groups.append({**options, "params": [name_of[id(parameter)] for parameter in group["params"]]})
        for parameter in group["params"]:
            for what, value in optimizer.state.get(parameter, {}).items():
                assert isinstance(value, torch.Tensor), (
                    f"{what} of {name_of[id(parameter)]}: {type(value).__name__} is not a tensor"
                )
                tensors[f"optimizer.{what}.{name_of[id(parameter)]}"] = value
    return tensors, groups


def load_optimizer(
    optimizer: Optimizer,
    tensors: Mapping[str, torch.Tensor],
    names: Mapping[str, torch.Tensor],
    groups: Sequence[Mapping[str, Any]],
) -> None:
    """Put state and hyper-parameters of `optimizer_tensors` into an optimizer over the same parameters, bit for bit.

    torch's own `load_state_dict` is not used: it casts the moments to the dtype of their parameter. Raises RunError where the
    groups hold other parameters than the saved ones, and changes nothing then.
    """
    name_of = {id(parameter): name for name, parameter in names.items()}
    present = [[name_of[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    if present != (saved := [list(group["params"]) for group in groups]):
        raise RunError(_other_parameters(saved, present))
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, what, name = key.split(".", 2)
            found.setdefault(name, {})[what] = tensor
    for group, options in zip(optimizer.param_groups, groups, strict=True):
        for key, value in options.items():
            if key != "params":
                group[key] = tuple(value) if isinstance(group.get(key), tuple) else value
        # torch keeps the step count on the CPU unless the whole update runs on the device.
        step_moves = bool(group.get("capturable") or group.get("fused"))
        for parameter in group["params"]:
            values = found.get(name_of[id(parameter)], {})
            optimizer.state[parameter] = {
                what: value.to(parameter.device if what != "step" or step_moves else "cpu", copy=True)
                for what, value in values.items()
            }


def _other_parameters(saved: list[list[str]], present: list[list[str]]) -> str:
    was, now = {name for group in saved for name in group}, {name for group in present for name in group}
    lines = [f"only in the checkpoint: {name}" for name in sorted(was - now)[:5]]
    lines += [f"only in this run: {name}" for name in sorted(now - was)[:5]]
    detail = "\n".join(f"  - {line}" for line in lines) or "  - the same parameters in other groups or another order"
    return (
        f"the optimizer's state is of other parameters than those that are trained now:\n{detail}\nResume with the technique it had"
    )
