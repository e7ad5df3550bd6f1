"""Put the quick pieces in the place of a network's own: norms, gated layers, attention, and linear layers with adapters.

Enters: a network, adapters in it. Leaves: the same network, whose modules compute by the quick pieces where gradients are wanted, and as
before where they are not or where a call is of another kind. A module is known by what it computes: the quick piece must give what the
module's own `forward` gives on random numbers, or the module stays as it is. Names, weights and what is saved do not change.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from burnish.models.fast.attend import attend
from burnish.models.fast.attention import in_training, whole_rows
from burnish.models.fast.linear import activation_type, project, read_parts
from burnish.models.fast.rows import gate, normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

QUERIES = ("q_proj", "k_proj", "v_proj")
GATED = ("gate_proj", "up_proj")
ACTIVATIONS = {"SiLUActivation": "silu", "SiLU": "silu", "GELUTanh": "gelu", "PytorchGELUTanh": "gelu"}


def quicken(network: Any) -> dict[str, int]:
    """Let a network's modules compute by the quick pieces, and return how many of each kind do; not on a GPU."""
    counts = {"norms": 0, "gated layers": 0, "attention": 0, "adapted layers": 0}
    if next(network.parameters()).device.type != "cpu":
        return counts
    within: set[int] = set()  # linear layers that a larger piece computes
    for module in list(network.modules()):
        children = {name for name, _ in module.named_children()}
        quick: Callable[..., Any] | None = None
        kind, parts = "", ()
        if "RMSNorm" in type(module).__name__ and not children:
            quick, kind = _norm(module), "norms"
        elif {*GATED, "down_proj"} == children - {"act_fn"} and type(getattr(module, "act_fn", None)).__name__ in ACTIVATIONS:
            quick, kind, parts = _gated(module), "gated layers", (*GATED, "down_proj")
        elif {*QUERIES, "o_proj"} <= children <= {*QUERIES, "o_proj", "q_norm", "k_norm"} and hasattr(module, "head_dim"):
            quick, kind, parts = _attention(module), "attention", (*QUERIES, "o_proj")
        if quick is None:
            continue
        module.forward = quick
        counts[kind] += 1
        within |= {id(getattr(module, name)) for name in parts}
    for module in network.modules():
        if hasattr(module, "base_layer") and id(module) not in within and read_parts([module]) is not None:
            module.forward = _adapted(module)
            counts["adapted layers"] += 1
    return counts


def _either(module: Any, quick: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that computes as in training where that is wanted, and by the module's own `forward` elsewhere.

    `quick` may return NotImplemented for a call that it does not know.
    """
    plain = module.forward

    def forward(*inputs: Any, **options: Any) -> Any:
        if in_training():
            found = quick(*inputs, **options)
            if found is not NotImplemented:
                return found
        return plain(*inputs, **options)

    return forward


def _norm(module: Any) -> Callable[..., Any] | None:
    """Return the quick form of a module of RMS normalisation, None where it is none that this file knows."""
    import torch

    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if weight is None or weight.ndim != 1 or not isinstance(epsilon, float):
        return None
    draw = torch.Generator().manual_seed(0)
    sample = torch.randn(3, len(weight), generator=draw).to(weight.dtype)
    with torch.no_grad():
        before = module(sample).float()
        for more in (0.0, 1.0):
            found = normalise(sample, weight, epsilon, more=more).float()
            if torch.allclose(found, before, atol=2e-2 * float(before.abs().max()), rtol=0):
                return _either(module, lambda x, more=more: normalise(x, module.weight, epsilon, more=more))
    return None


def _gated(module: Any) -> Callable[..., Any] | None:
    """Return the quick form of a gated layer: down(act(gate x) up x)."""
    kind = ACTIVATIONS[type(module.act_fn).__name__]

    def quick(x: torch.Tensor) -> Any:
        above, below = read_parts([getattr(module, name) for name in GATED]), read_parts([module.down_proj])
        if above is None or below is None:
            return NotImplemented
        return project(gate(kind, *project(x, above)), below)[0]

    return _either(module, quick) if _reads(module, ["x"]) or _reads(module, ["hidden_states"]) else None


def _adapted(module: Any) -> Callable[..., Any]:
    """Return the quick form of a linear layer with an adapter that no larger piece computes."""

    def quick(x: torch.Tensor, *inputs: Any, **options: Any) -> Any:
        part = read_parts([module])
        return NotImplemented if part is None or inputs or options else project(x, part)[0]

    return _either(module, quick)


def _attention(module: Any) -> Callable[..., Any] | None:
    """Return the quick form of an attention layer whose queries and keys are turned by halves, as Llama's are; None for any other."""
    rotate = getattr(sys.modules[type(module).__module__], "apply_rotary_pos_emb", None)
    wanted = ["hidden_states", "position_embeddings", "attention_mask", "past_key_values", "kwargs"]
    if rotate is None or not _reads(module, wanted) or not _turns_halves(rotate) or getattr(module, "attn_logit_softcapping", None):
        return None
    norms = [getattr(module, name, None) for name in ("q_norm", "k_norm")]
    if any(norm is not None and tuple(norm.weight.shape) != (module.head_dim,) for norm in norms):
        return None
    if getattr(module, "use_rope", True) not in (True, 1):
        return None

    def quick(
        hidden_states: torch.Tensor,
        position_embeddings: Any = None,
        attention_mask: Any = None,
        past_key_values: Any = None,
        **options: Any,
    ) -> Any:
        parts, out = read_parts([getattr(module, name) for name in QUERIES]), read_parts([module.o_proj])
        dropped = module.training and getattr(module, "attention_dropout", 0.0)
        if parts is None or out is None or past_key_values is not None or position_embeddings is None or dropped:
            return NotImplemented
        if not whole_rows(module, attention_mask, options):
            return NotImplemented
        query, key, value = project(hidden_states, parts)
        if norms[0] is not None:
            query, key = (_by_head(norm, one, module.head_dim) for norm, one in zip(norms, (query, key), strict=True))
        batch, length = hidden_states.shape[:2]
        turn = tuple(one.expand(batch, length, -1).float().contiguous() for one in position_embeddings)
        causal = bool(options.get("is_causal") if options.get("is_causal") is not None else getattr(module, "is_causal", True))
        mixed = attend(query, key, value, (turn[0], turn[1]), width=module.head_dim, factor=float(module.scaling), causal=causal)
        return project(mixed, out)[0], None

    return _either(module, quick)


def _by_head(norm: Any, x_BTH: torch.Tensor, width: int) -> torch.Tensor:
    """Return what a norm of heads makes of rows of heads."""
    return norm(x_BTH.unflatten(-1, (-1, width))).flatten(2)


def _reads(module: Any, names: list[str]) -> bool:
    """Return whether a module's `forward` has exactly these parameters."""
    return list(inspect.signature(type(module).forward).parameters)[1:] == names


def _turns_halves(rotate: Any) -> bool:
    """Return whether a function turns queries and keys as `attend` does: each head whole, its halves as pairs."""
    import torch

    draw = torch.Generator().manual_seed(0)
    query, cosine, sine = (torch.randn(shape, generator=draw) for shape in ((1, 1, 2, 8), (1, 2, 8), (1, 2, 8)))
    try:
        turned, _ = rotate(query, query, cosine, sine)
    except (TypeError, RuntimeError, ValueError):
        return False
    swapped = torch.cat([-query[..., 4:], query[..., :4]], -1)
    return turned.shape == query.shape and torch.allclose(turned, query * cosine[:, None] + swapped * sine[:, None], atol=1e-5)


@contextmanager
def plainly(network: Any) -> Iterator[None]:
    """Compute by the modules' own `forward` inside the `with` block."""
    held = {module: vars(module).pop("forward") for module in network.modules() if "forward" in vars(module)}
    try:
        yield
    finally:
        for module, forward in held.items():
            module.forward = forward
