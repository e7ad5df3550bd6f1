"""Log-probabilities kept on disk for other runs: the same sequences under the same weights need not be read twice.

Enters: the network, and the sequences with the way in which they are read. Leaves: arrays, from the user's cache where a run has kept
them, else computed and kept. A file is complete or absent, so that several processes may read and write at once; what was used longest
ago is removed when the files grow beyond `LARGEST`. Deleting the folder empties the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.atomic import write_file
from burnish.data.public import cache
from burnish.errors import BurnishError
from burnish.reference import as_file, from_file

if TYPE_CHECKING:
    from burnish.models import Model

LARGEST = 2_000_000_000
"""Bytes of all files together, at most."""


def folder() -> Path:
    """Return where files are kept: in $BURNISH_CACHE, else beside the fetched sets in the user's cache."""
    sets = cache()
    return (sets.parent if sets.name == "data" else sets) / "reference"


def weights_digest(model: Model, *, without: Collection[str] = ()) -> str:
    """Return a sha256 of all weights in memory and of what the architecture makes of them, whatever the model is called.

    `without` names parameters that say nothing yet: those of an adapter that begins as zero. Wrappers of adapters leave the digest alone.
    """
    import torch

    digest = hashlib.sha256(f"{torch.__version__} {model.plain().config.to_json_string()}".encode())
    tensors = {name: tensor for name, tensor in model.network.state_dict().items() if name not in without}
    bare = {name.removeprefix("base_model.model.").replace(".base_layer.", "."): tensor for name, tensor in tensors.items()}
    for name in sorted(bare):
        tensor = bare[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def kept(key: str, *, compute: Callable[[], list[np.ndarray]], say: Callable[[str], None] = lambda line: None) -> list[np.ndarray]:
    """Return the arrays of this key from the cache, else compute and keep them; a cache that cannot be written is told and left alone."""
    path = folder() / f"{key}.safetensors"
    found = from_file(path, key)
    if found is not None:
        with suppress(OSError):  # perhaps another run has just removed it; used now, it is the last to go
            path.touch()
        say(f"What the model says before tuning was kept by an earlier run ({path.parent})")
        return found
    values = compute()
    try:
        write_file(path, as_file(values, key))
        _trim()
    except (BurnishError, OSError) as error:
        say(f"What the model says before tuning is not kept for other runs: {error}")
    return values


def size() -> tuple[int, int]:
    """Return how many files are kept, and their bytes."""
    sizes = [stat.st_size for _, stat in _files()]
    return len(sizes), sum(sizes)


def _trim() -> None:
    """Remove what was used longest ago until the files keep to `LARGEST`; other processes may do the same meanwhile."""
    left = size()[1]
    for path, stat in sorted(_files(), key=lambda file: file[1].st_mtime_ns):
        if left <= LARGEST:
            return
        with suppress(OSError):
            path.unlink()
        left -= stat.st_size


def _files() -> list[tuple[Path, Any]]:
    """Return the files that are kept, with what the system says of them; one that goes meanwhile is left out."""
    found = []
    for path in folder().glob("*.safetensors"):
        with suppress(OSError):
            found.append((path, path.stat()))
    return found
