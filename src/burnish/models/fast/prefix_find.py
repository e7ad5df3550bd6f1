"""Where the frozen part of a model ends: found by running it, not looked up by the name of its architecture.

Enters: a model whose parameters are marked, and a sequence. Leaves: its `Prefix`, or why there is none. The lowest layers are those whose
output wants no gradient; they must say in training what they say in use, and run one behind the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from burnish.data.batching import collate
from burnish.models import virtual
from burnish.models.fast.prefix import Prefix, in_mode, pass_over, states_in
from burnish.types import Batch, Sequence

if TYPE_CHECKING:
    import torch

    from burnish.models.load import Model


def find(model: Model, sample: Sequence, *, undropped: bool = False) -> Prefix | str:
    """Return the frozen prefix of a model, found by running it over a sequence; else why there is none to keep, "" for nothing frozen."""
    layers, trunk = _layers(model.trunk()), model.trunk()
    if virtual.is_virtual(model.network):
        return "Not kept: virtual positions before every sequence change what each layer says."
    if not layers:
        return ""
    batch = batch_of(model, [replace(sample, streams={})])
    with in_mode(model.network, training=False):
        said = _observed(model, [*layers, trunk], batch)
    if [one.module for one in said] != [*layers, trunk]:
        return ""  # layers that are left out, repeated or run in another order are no prefix
    number = next((place for place, one in enumerate(said) if one.moves), len(said))
    if number == 0:
        return ""
    whole = number == len(said)
    apart = whole and model.head == "separate"
    last = said[-1] if apart else said[min(number, len(layers)) - 1]
    if _drops(model, [*layers, trunk], batch, last):
        if not undropped:
            return (
                f"Not kept: the {min(number, len(layers))} lowest of {len(layers)} layers do not move, but drop out a part of what they say. "
                f"With train.reuse = true they drop nothing and are computed once."
            )
        for module in last.before:
            _lock(module)
        if _drops(model, [*layers, trunk], batch, last):
            return "Not kept: layers that do not move say different things of the same tokens."
    if last.states_BTH.shape[:-1] != (1, sample.length):
        return "Not kept: what the layers say does not stand in a row of positions."
    prefix = Prefix(
        modules=[trunk] if apart else layers[:number],
        layers=(min(number, len(layers)), len(layers)),
        reads="places" if apart else "all",
        width=last.states_BTH.shape[-1],
        dtype=last.states_BTH.dtype,
    )
    if whole and not apart and model.encoder and model.spec is not None and _reads_first(model, prefix, batch, last.states_BTH):
        prefix.reads = "first"
    return prefix


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """What a module said: its hidden states, whether they want a gradient, and the modules that were done before it."""

    module: Any
    states_BTH: torch.Tensor
    moves: bool
    before: list[Any]


def _layers(trunk: Any) -> list[Any]:
    """Return the layers of a trunk: the list that holds most of its weights."""
    import torch

    lists = [module for module in trunk.modules() if isinstance(module, torch.nn.ModuleList)]
    return list(max(lists, key=lambda item: sum(parameter.numel() for parameter in item.parameters()), default=()))


def _observed(model: Model, watched: list[Any], batch: Batch) -> list[_Said]:
    """Run the trunk as where gradients are computed, and return what the watched modules said, in the order in which they did."""
    import torch

    from burnish.models.forward import as_in_training, model_inputs

    said: list[_Said] = []
    done: list[Any] = []

    def note(module: Any, inputs: Any, output: Any) -> None:
        done.append(module)
        if any(module is one for one in watched):
            states_BTH = states_in(output)
            said.append(_Said(module, states_BTH.detach(), states_BTH.requires_grad, list(done)))

    hooks = [module.register_forward_hook(note) for module in model.trunk().modules()]
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with (
            torch.random.fork_rng(devices=devices),
            torch.compiler.set_stance("force_eager"),
            torch.enable_grad(),
            as_in_training(model),
        ):
            model.trunk()(**model_inputs(model, batch.layout))
    finally:
        for hook in hooks:
            hook.remove()
    return said


def _drops(model: Model, watched: list[Any], batch: Batch, last: _Said) -> bool:
    """Return whether a module says something else in training than in use: dropout, or its like."""
    import torch

    with in_mode(model.network, training=True):
        said = _observed(model, watched, batch)
    return not all(torch.equal(one.states_BTH, last.states_BTH) for one in said if one.module is last.module)


def _lock(module: Any) -> None:
    """Leave a module in the mode in which a model is used, whatever its network is switched to."""
    module.eval()
    module.train = lambda mode=True: module


def _reads_first(model: Model, prefix: Prefix, batch: Batch, states_BTH: torch.Tensor) -> bool:
    """Return whether a head that is part of its class reads nothing but the first token of a text."""
    import torch

    from burnish.models.forward import PIXELS, model_inputs
    from burnish.models.heads import whole_scores
    from burnish.models.probe import exact_products

    if states_BTH.shape[1] < 2 or model.spec is None or model.spec.kind not in ("sequence", "picture"):
        return False
    inputs = model_inputs(model, batch.layout)
    first: dict[str, Any] = {
        name: value[:, :1] if isinstance(value, torch.Tensor) and name != PIXELS else value for name, value in inputs.items()
    }
    pass_over(prefix)
    try:
        with in_mode(model.network, training=False), torch.no_grad(), exact_products():
            whole = whole_scores(model, inputs)
            prefix.now = states_BTH[:, :1]
            return bool(torch.allclose(whole_scores(model, first), whole, rtol=1e-2, atol=1e-3))
    except (TypeError, ValueError, RuntimeError):
        return False
    finally:
        prefix.now = None


def batch_of(model: Model, sequences: list[Sequence]) -> Batch:
    """Return sequences as they stand in a padded batch."""
    return collate(sequences, packing=False, pad_id=model.pad_id(), device=model.device, mask=model.encoder)
