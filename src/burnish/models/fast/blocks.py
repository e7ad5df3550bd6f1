"""Put the quick pieces in the place of a network's own: norms, gated layers, attention, and linear layers with adapters.

Enters: a network. Leaves: the same network, whose modules compute by the quick pieces where gradients are wanted, and as before where
they are not or where a call is of another kind. A module is known by what it computes and not by its name alone: a norm must give what
its own `forward` gives on random numbers, angles must turn heads as ours do. Names, weights and what is saved do not change.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any

from burnish.devices import Device
from burnish.models.fast.attend import attend
from burnish.models.fast.attention import attend_rows, in_training, is_causal, is_plain, pieces_in
from burnish.models.fast.linear import project, read_parts
from burnish.models.fast.rows import gate, normalise

if TYPE_CHECKING:
    import torch

GATED = ("gate_proj", "up_proj")
QUERIES = ("q_proj", "k_proj", "v_proj")
HEAD_NORMS = ("q_norm", "k_norm")

ACTIVATIONS = {"SiLUActivation": "silu", "SiLU": "silu", "GELUTanh": "gelu", "PytorchGELUTanh": "gelu"}
"""What gates are activated by, by the class of transformers or torch that does it."""


def quicken(network: Any, device: Device) -> None:
    """Let a network's modules compute by the quick pieces in training, on a CPU and unless the device says "no".

    Layers that are compiled keep their modules: the compiler makes loops of its own.
    """
    if device.quick == "no" or device.name != "cpu" or device.compiled:
        return
    attend_rows(network)
    known: dict[type, bool] = {}  # whether a class computes what its quick form does, as its first module showed
    for module in network.modules():
        quick = _norm(module) or _gated(module) or _attention(module)
        if quick is not None and known.setdefault(type(module), quick is None or _agrees(module, quick)):
            _take(module, quick)


def quicken_adapters(network: Any, device: Device) -> None:
    """Let the linear layers with adapters that no larger piece computes do so by `project`."""
    if device.quick == "no" or device.name != "cpu" or device.compiled:
        return
    for module in network.modules():
        if hasattr(module, "base_layer") and "forward" not in vars(module) and read_parts([module]) is not None:
            _take(module, _adapted)


def plain_pieces(trunk: Any) -> list[str]:
    """Return the classes of a trunk's modules that hold linear layers and compute them the plain way, in alphabetical order."""
    import torch
    from transformers.pytorch_utils import Conv1D

    found = set()
    for module in trunk.modules():
        inner = [child for child in module.children() if isinstance(getattr(child, "base_layer", child), torch.nn.Linear | Conv1D)]
        if not inner or hasattr(module, "base_layer") or isinstance(module, torch.nn.ModuleDict):
            continue
        whole = "forward" in vars(module) and read_parts(inner) is not None
        if not whole and not all("forward" in vars(child) for child in inner):
            found.add(type(module).__name__)
    return sorted(found)


def _take(module: Any, quick: Callable[..., Any]) -> None:
    """Let a module compute by `quick(module, ...)` in training; NotImplemented from it, and all other calls, lead to its own `forward`.

    The module's class is asked for its own, and the function is bound to the module: a copy of the network computes with its own weights.
    """

    def forward(self: Any, *inputs: Any, **options: Any) -> Any:
        if in_training():
            found = quick(self, *inputs, **options)
            if found is not NotImplemented:
                return found
        return type(self).forward(self, *inputs, **options)

    module.forward = MethodType(forward, module)


def _norm(module: Any) -> Callable[..., Any] | None:
    """Return the quick form of RMS normalisation, None for a module that is none."""
    import torch

    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if "RMSNorm" not in type(module).__name__ or weight is None or weight.ndim != 1 or not isinstance(epsilon, float):
        return None
    with torch.no_grad():  # some multiply by the weight, others by one more
        ones = type(module).forward(module, torch.ones(len(weight), dtype=weight.dtype)).float()
    more = 1.0 if (ones - weight.float() - 1).abs().sum() < (ones - weight.float()).abs().sum() else 0.0
    return lambda self, x: normalise(x, self.weight, epsilon, more=more)


def _gated(module: Any) -> Callable[..., Any] | None:
    """Return the quick form of a gated layer, down(act(gate x) up x), None for a module that is none."""
    kind = ACTIVATIONS.get(type(getattr(module, "act_fn", None)).__name__)
    children = {name for name, _ in module.named_children()}
    if kind is None or children - {"act_fn"} != {*GATED, "down_proj"} or len(_parameters(module)) != 1:
        return None

    def quick(self: Any, x: torch.Tensor) -> Any:
        above, below = read_parts([getattr(self, name) for name in GATED]), read_parts([self.down_proj])
        if above is None or below is None:
            return NotImplemented
        return project(gate(kind, *project(x, above)), below)[0]

    return quick


def _adapted(self: Any, x: torch.Tensor, *inputs: Any, **options: Any) -> Any:
    """Compute a linear layer with its adapter."""
    parts = read_parts([self])
    return NotImplemented if parts is None or inputs or options else project(x, parts)[0]


def _attention(module: Any) -> Callable[..., Any] | None:
    """Return the quick form of attention whose queries and keys are turned by halves, as Llama's are; None for any other module."""
    children = {name for name, _ in module.named_children()}
    wanted = ["hidden_states", "position_embeddings", "attention_mask", "past_key_values", "kwargs"]
    if not {*QUERIES, "o_proj"} <= children <= {*QUERIES, "o_proj", *HEAD_NORMS} or _parameters(module) != wanted:
        return None
    rotate = getattr(sys.modules[type(module).__module__], "apply_rotary_pos_emb", None)
    norms = [getattr(module, name) for name in HEAD_NORMS if name in children]
    by_head = all(tuple(norm.weight.shape) == (module.head_dim,) and _norm(norm) is not None for norm in norms)
    special = getattr(module, "attn_logit_softcapping", None) or not getattr(module, "use_rope", True)
    return _attend if rotate is not None and by_head and not special else None


def _attend(
    self: Any,
    hidden_states: torch.Tensor,
    position_embeddings: Any = None,
    attention_mask: Any = None,
    past_key_values: Any = None,
    **options: Any,
) -> Any:
    """Compute a layer of attention over whole rows, or the pieces of one: its linear layers, norms of heads where it has them, angles, and `attend`."""
    parts, out = read_parts([getattr(self, name) for name in QUERIES]), read_parts([self.o_proj])
    dropped = self.training and getattr(self, "attention_dropout", 0.0)
    special = past_key_values is not None or dropped or not is_plain(attention_mask, options)
    if parts is None or out is None or special or position_embeddings is None:
        return NotImplemented
    query, key, value = project(hidden_states, parts)
    if hasattr(self, HEAD_NORMS[0]):
        query, key = (
            getattr(self, name)(one.unflatten(-1, (-1, self.head_dim))).flatten(2)
            for name, one in zip(HEAD_NORMS, (query, key), strict=True)
        )
    batch, length = hidden_states.shape[:2]
    cosine, sine = (one.expand(batch, length, -1).float().contiguous() for one in position_embeddings)
    seen: dict[str, Any] = {"causal": is_causal(self, options), "pieces": pieces_in(attention_mask)}
    mixed = attend(query, key, value, (cosine, sine), width=self.head_dim, factor=float(self.scaling), **seen)
    return project(mixed, out)[0], None


def _agrees(module: Any, quick: Callable[..., Any]) -> bool:
    """Return whether a module and its quick form give the same on random numbers, up to rounding."""
    import torch

    draw = torch.Generator().manual_seed(0)
    weight = next(module.parameters())
    width = (
        weight.shape[-1]
        if weight.ndim == 1
        else getattr(module, QUERIES[0] if hasattr(module, QUERIES[0]) else GATED[0]).in_features
    )
    x = torch.randn(1, 5, width, generator=draw).to(weight.dtype)
    options: dict[str, Any] = {}
    if hasattr(module, QUERIES[0]):
        angles = 3 * torch.rand(1, 5, module.head_dim // 2, generator=draw).repeat(1, 1, 2)
        options = {"position_embeddings": (angles.cos().to(x.dtype), angles.sin().to(x.dtype)), "attention_mask": None}
    with torch.no_grad():
        found, expected = quick(module, x, **options), type(module).forward(module, x, **options)
    if found is NotImplemented:
        return False
    one, other = (item[0].float() if isinstance(item, tuple) else item.float() for item in (found, expected))
    return bool((one - other).norm() <= 2e-2 * other.norm())


def _parameters(module: Any) -> list[str]:
    """Return the names of what a module's `forward` takes."""
    return list(inspect.signature(type(module).forward).parameters)[1:]
