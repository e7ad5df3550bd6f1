"""Heads beside a network that keeps its own class: one for each task of a run with several, and the value head of PPO.

Enters: a loaded `Model` and the specs of its heads by task. Leaves: linear layers on the trunk's hidden states, in float32, which move
with every technique; their scores and values at the read-outs of a batch; `heads.safetensors` and `value_head.safetensors` beside the
model or adapter. The head of a run with one task is part of the ecosystem's class instead (`heads`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.data.render_heads import HeadSpec
from burnish.errors import ModelError
from burnish.models.heads import spec_of, values_of
from burnish.types import Batch

if TYPE_CHECKING:
    import torch

    from burnish.models.load import Model

NAMED = "named_heads"
"""The module of the network that holds the heads by task."""
VALUE = "value_head"
HEADS_FILE = "heads.safetensors"
VALUE_FILE = "value_head.safetensors"
FILES = {NAMED: HEADS_FILE, VALUE: VALUE_FILE}
"""The file of each module that stands beside a network and is no part of its class."""


# ------------------------------------------------------------------------------------------------------------- the heads of tasks


def heads_in(settings: Mapping[str, Any]) -> dict[str, HeadSpec]:
    """Return the heads by task that a tuned model's settings (`burnish.json`) tell of."""
    return {task: spec_of(values) for task, values in settings.get("heads", {}).items()}


def settings_of_heads(heads: Mapping[str, HeadSpec]) -> dict[str, Any]:
    """Return what `heads_in` reads back."""
    return {"heads": {task: values_of(spec) for task, spec in heads.items()}} if heads else {}


def add_heads(model: Model, heads: Mapping[str, HeadSpec], *, taken_up: bool = True) -> None:
    """Put a head for each task beside the network; weights as the ecosystem draws them, from torch's generator as the caller seeded it.

    A linear layer for each, as the ecosystem's classes have it: without a bias for one reading of a whole text, else with one. With
    `taken_up`, heads that the model's folder holds for these tasks are put in; ModelError where they say something else.
    """
    import torch

    assert not model.heads, "heads of tasks are added once"
    if not heads:
        return
    network = model.plain()
    config = network.config.get_text_config()
    width, spread = int(config.hidden_size), float(getattr(config, "initializer_range", None) or 0.02)
    layers = torch.nn.ModuleDict()
    for task, spec in heads.items():
        layer = torch.nn.Linear(width, len(spec.labels), bias=spec.kind != "sequence", device=model.device, dtype=torch.float32)
        torch.nn.init.normal_(layer.weight, std=spread)
        if layer.bias is not None:
            torch.nn.init.zeros_(layer.bias)
        layers[_key(task)] = layer
    network.add_module(NAMED, layers.requires_grad_(False))
    model.heads = dict(heads)
    if taken_up:
        _take_up(model)


def _take_up(model: Model) -> None:
    """Put in the heads that the model's folder holds for the same tasks, and note those that have no task any more."""
    folder, held = model.found.folder, heads_in(model.found.settings)
    if folder is None or not held:
        return
    for task in model.heads.keys() & held.keys():
        ours, theirs = model.heads[task], held[task]
        if (ours.kind, ours.problem, ours.labels) != (theirs.kind, theirs.problem, theirs.labels):
            raise ModelError(
                f"model = {model.found.name!r} holds a head for task {task!r} with the labels {', '.join(theirs.labels[:8])}, in this order; "
                f"the rows have {', '.join(ours.labels[:8])}. Name the labels alike, or give the task another name."
            )
    tensors = _read(folder / HEADS_FILE)
    wanted = _tensors(_named(model))
    kept = {name: tensor for name, tensor in tensors.items() if name in wanted}
    missing = [name for name in wanted if name.rpartition(".")[0] in held and name not in kept]
    if missing or any(tensor.shape != wanted[name].shape for name, tensor in kept.items()):
        raise ModelError(f"{folder / HEADS_FILE}: these heads belong to another model.")
    _put(wanted, kept)
    if gone := sorted(held.keys() - model.heads.keys()):
        model.notes.append(f"The model's heads of {', '.join(gone)} are of no task here, and are not kept.")


def read_named(model: Model, batch: Batch, inputs: Mapping[str, Any], place_N: torch.Tensor) -> torch.Tensor:
    """Return the scores [N, C] of the head of the batch's task, float32; `place_N` are the read-outs in the flattened layout."""
    if model.head == "whole" and not model.encoder:
        hidden_BTH = model.plain()(**inputs, output_hidden_states=True).hidden_states[-1]
    else:
        hidden_BTH = model.trunk()(**inputs).last_hidden_state
    return _through(head_named(model, batch.task), hidden_BTH.flatten(0, 1)[place_N])


def head_named(model: Model, task: str) -> Any:
    """Return the layer that is the head of a task."""
    return _named(model)[_key(task)]


def _named(model: Model) -> Any:
    """Return the module that holds the heads by task, which hangs on the network inside an adapter's wrapper."""
    return model.plain()._modules[NAMED]


def _through(layer: Any, hidden_NH: torch.Tensor) -> torch.Tensor:
    """Return what a layer beside the network says of hidden states, computed in the layer's own precision."""
    import torch

    with torch.autocast(hidden_NH.device.type, enabled=False):
        return layer(hidden_NH.to(layer.weight.dtype))


def _key(task: str) -> str:
    """Return a task's name as torch can call a module: without points, and never one of the names a module has already."""
    return "of_" + task.replace("%", "%25").replace(".", "%2E")


def _task(key: str) -> str:
    return key.removeprefix("of_").replace("%2E", ".").replace("%25", "%")


# ------------------------------------------------------------------------------------------------------------------ the value head


def value_head(model: Model) -> Any:
    """Return the model's value head, None where it has none."""
    return model.network._modules.get(VALUE)


def add_value_head(model: Model) -> None:
    """Put a value head beside the language model's, after the technique was applied: a linear layer that says 0 until it has learned.

    It moves with what the technique trains, computes in float32, and is saved as `value_head.safetensors` beside the model; one that
    the model's folder holds is taken up. Source: Schulman et al. 2017, arXiv 1707.06347 (a value function that shares the policy's trunk).
    """
    import torch

    assert value_head(model) is None, "a second value head"
    width = int(model.plain().config.get_text_config().hidden_size)
    head = torch.nn.Linear(width, 1, device=model.device, dtype=torch.float32)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    model.network.add_module(VALUE, head)
    folder = model.found.folder
    if folder is not None and (folder / VALUE_FILE).is_file():
        _restore(head, folder / VALUE_FILE)


def read_values(model: Model, hidden_NH: torch.Tensor) -> torch.Tensor:
    """Return what the value head says at hidden states, [N] float32."""
    return _through(value_head(model), hidden_NH).squeeze(-1)


# ----------------------------------------------------------------------------------------------------- beside the network, and on disk


def _places(model: Model) -> dict[str, Any]:
    """Return the network that each module beside the model hangs on: a merged adapter loses what hangs on its wrapper."""
    return {name: holder for name, holder in ((NAMED, model.plain()), (VALUE, model.network)) if name in holder._modules}


@contextmanager
def without_beside(model: Model) -> Iterator[None]:
    """Take the heads beside the network away inside the `with` block, where a technique or a loader of others would not know them."""
    taken = {name: (holder, holder._modules.pop(name)) for name, holder in _places(model).items()}
    try:
        yield
    finally:
        now = {NAMED: model.plain(), VALUE: model.network}  # a technique may have wrapped the network meanwhile
        for name, (_, module) in taken.items():
            now[name].add_module(name, module)


def train_heads(model: Model) -> None:
    """Let the heads of tasks move, whatever the technique trains: they begin as random numbers."""
    if model.heads:
        _named(model).requires_grad_(True)


def save_beside(model: Model, folder: Path) -> None:
    """Write the heads beside the network into the model's folder, a file for those of tasks and one for the value head."""
    from safetensors.torch import save_file

    for name, holder in _places(model).items():
        tensors = _tensors(holder._modules[name])
        save_file({key: tensor.detach().float().cpu().contiguous() for key, tensor in tensors.items()}, folder / FILES[name])


def restore_beside(model: Model, folder: Path) -> None:
    """Put saved heads back; ModelError where the folder has none, or those of another model."""
    for name, holder in _places(model).items():
        _restore(holder._modules[name], folder / FILES[name])


def is_beside(name: str) -> bool:
    """Return whether a tensor of the network's state belongs to a head beside it, which has a file of its own."""
    return name.startswith((f"{NAMED}.", f"{VALUE}."))


def _tensors(module: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of heads as their file names them: by task, as `tickets.weight`."""
    found = {}
    for name, tensor in module.state_dict().items():
        key, _, rest = name.partition(".")
        found[f"{_task(key)}.{rest}" if rest else name] = tensor
    return found


def _restore(module: Any, path: Path) -> None:
    """Put the tensors of a file into heads; ModelError where they are not the same ones."""
    tensors, wanted = _read(path), _tensors(module)
    if {name: tensor.shape for name, tensor in tensors.items()} != {name: tensor.shape for name, tensor in wanted.items()}:
        raise ModelError(f"{path}: these heads belong to another model.")
    _put(wanted, tensors)


def _read(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(f"{path.parent}: the heads beside the model are missing ({path.name}). Copy the folder again.")
    return load_file(path)


def _put(places: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> None:
    import torch

    with torch.no_grad():
        for name, tensor in tensors.items():
            places[name].copy_(tensor)
