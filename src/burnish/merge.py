"""Adapters after training: merged into their base, stacked into one, or two of them on one base.

Enters: folders of adapters, or run directories. Leaves: a whole model folder, or one adapter folder, each written complete or not at all
and compared with what it was made of. Everything is added in float32, whatever the base is stored in, and what storing it in
fewer bits would lose is measured before it is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from burnish.atomic import write_directory
from burnish.devices import Device
from burnish.errors import ConfigError, ModelError, RunError
from burnish.models import Model, find_model, fingerprint, load_model, save_model, virtual
from burnish.models.find import Found
from burnish.techniques.folded import pairs, plain, save, take_in
from burnish.techniques.prompt import WHY_NOT
from burnish.techniques.quantised import dequantise, facts_of, quantise_as, round_trip

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]
Rounding = Callable[["torch.Tensor"], "torch.Tensor"]
PRECISIONS: tuple[str, ...] = ("float32", "bfloat16", "float16")

LEAST_KEPT, MOST_ERROR = 0.9, 0.5
"""Of the update's norm: at least this much must be left after rounding, and at most this much may be rounding."""

SAME = 1e-3
"""Largest change of a logit, as a share of the largest logit, that adding in another order explains in float32."""


@dataclass(frozen=True, slots=True)
class Update:
    """What is left of an update when weights are stored: norms of what is kept, and of its difference, over that of the update."""

    kept: float
    error: float

    @property
    def survives(self) -> bool:
        """Whether the stored weights still hold what was learned."""
        return self.kept >= LEAST_KEPT and self.error <= MOST_ERROR


@dataclass(frozen=True, slots=True)
class Merged:
    """What was made and how it was checked: largest changes of a logit on `prompts` prompts, at once and after reading it back."""

    model: str
    base: str
    output: str
    dtype: str
    layers: int
    prompts: int
    largest_logit: float
    change: float
    saved_change: float
    update: Update


def merge(
    model: str,
    output: str | Path,
    *,
    dtype: Precision | Literal["auto"] = "auto",
    prompts: Sequence[str] | None = None,
    force: bool = False,
) -> Merged:
    """Merge an adapter into its base, in float32, write the whole model to `output`, and return what was checked.

    `dtype` is what the weights are stored in; "auto" is what the base has. Logits are compared on `prompts`, or on eight of random tokens.

    Raises ModelError for a model that is no adapter, one that cannot be merged, and weights that would lose the update when stored
    (`force` leaves this one out); ConfigError for an output that exists; RunError where the merged model does not answer as before.
    """
    out, found = free(output), find_model(model)
    if dtype not in (*PRECISIONS, "auto"):
        raise ConfigError(f"dtype = {dtype!r} is not known. Use one of: auto, {', '.join(PRECISIONS)}.")
    if found.adapter is None:
        raise ModelError(f"model = {model!r} is no adapter: its weights are its own, so there is nothing to merge.")
    adapted = load_model(model, exact())
    if virtual.count(adapted.network):
        raise ModelError(f"model = {model!r} cannot be merged: {WHY_NOT}. Use it as it is, with its base.")
    stored: str = stored_dtype(adapted) if dtype == "auto" else dtype
    probes = probes_of(adapted, prompts)
    expected = [logits_of(adapted, tokens_T) for tokens_T in probes]
    layers, update = merge_in_place(adapted, stored)
    if not update.survives and not force:
        raise ModelError(lost(update, stored))
    change = largest_change(adapted, probes, expected)
    largest = max(float(logits.abs().max()) for logits in expected)
    if not change <= SAME * largest:
        raise RunError(
            f"The merged model does not answer as its adapter did: a logit changed by {change:.3g} of {largest:.3g}. Nothing was written."
        )
    adapted.network.to(_torch_dtype(stored))
    write(adapted, out, settings=found.settings, facts={"merged": model, "dtype": stored})
    saved = largest_change(load_model(str(out), exact()), probes, expected)
    return Merged(model, found.base, str(out), stored, layers, len(probes), largest, change, saved, update)


def lost(update: Update, stored: str) -> str:
    """Return why weights stored so would not hold what was learned."""
    return (
        f"Stored as {stored}, the merged weights would lose what was learned: {update.kept:.0%} of the update's norm is kept (expected at "
        f"least {LEAST_KEPT:.0%}), and the rounding is {update.error:.0%} of it (at most {MOST_ERROR:.0%}). Store them as float32, or keep "
        f"the adapter beside its base."
    )


def surviving(weights: Mapping[str, tuple[torch.Tensor, torch.Tensor]], stored: str | Rounding) -> Update:
    """Return how much of an update is left when weights are stored in a precision ("bfloat16", "int8", "nf4", ...).

    `weights` maps names to (base, merged), float32. Kept is the difference of both as stored. In place of a name, `stored` may be a
    function that gives a float32 weight as it comes back from being stored.
    """
    asked = kept = error = 0.0
    for base, merged in weights.values():
        update = merged.double() - base.double()
        left = _as_stored(merged, stored).double() - _as_stored(base, stored).double()
        asked += float(update.square().sum())
        kept += float(left.square().sum())
        error += float((left - update).square().sum())
    if asked == 0.0:
        return Update(1.0, 0.0)  # nothing was learned, so nothing is lost
    return Update((kept / asked) ** 0.5, (error / asked) ** 0.5)


def merge_in_place(adapted: Model, stored: str | Rounding) -> tuple[int, Update]:
    """Merge the model's adapter into its dense float32 weights; return the number of adapted layers, and what storing leaves of it."""
    if str((facts_of(adapted.plain()) or {}).get("kind", "")).startswith("bitsandbytes"):
        adapted.network = _dense_bitsandbytes(adapted)
    network: Any = adapted.plain()
    dequantise(network)
    layers = {
        name: module for name, module in network.named_modules() if hasattr(module, "get_base_layer") and hasattr(module, "merge")
    }
    before = {name: module.get_base_layer().weight.detach().clone() for name, module in layers.items()}
    adapted.network = adapted.network.merge_and_unload(safe_merge=True)
    # The vectors of new terms are trained in a part of their table, which is gone with the adapter.
    after = {name: adapted.network.get_submodule(name.removesuffix(".token_adapter")).weight.detach() for name in before}
    return len(layers), surviving({name: (before[name], after[name]) for name in before}, stored)


def _dense_bitsandbytes(adapted: Model) -> Any:
    """Return the adapter on its base as bitsandbytes computes with it, but dense: merged there, it would be quantised once more."""
    from peft import PeftModel

    assert adapted.found.adapter is not None
    base = load_model(adapted.found.name, exact(), adapter=False).network
    dense = quantise_as(base, adapted.found.adapter).dequantize().float()
    return PeftModel.from_pretrained(dense, str(adapted.found.adapter), is_trainable=False)


# -------------------------------------------------------------------------------------------------------------- several adapters


@dataclass(frozen=True, slots=True)
class Stacked:
    """One adapter made of two: its largest rank, and the largest change of a logit against the second one on the merged first."""

    first: str
    second: str
    output: str
    rank: int
    prompts: int
    largest_logit: float
    change: float


def stack(first: str, second: str, output: str | Path, *, prompts: Sequence[str] | None = None) -> Stacked:
    """Write two LoRA adapters, the second trained on the first one merged, as one adapter of both ranks on the original base.

    Nothing is rounded away in between: the first adapter's matrices stand in the result as they are.

    Raises ModelError where either is no plain LoRA, or the second one's base is not the first one merged; ConfigError for an output
    that exists; RunError where the result answers otherwise than the second adapter.
    """
    from peft import PeftModel

    out, one, two = free(output), find_model(first), find_model(second)
    for name, found in ((first, one), (second, two)):
        if found.adapter is None:
            raise ModelError(f"model = {name!r} is no adapter, so there is nothing to stack.")
    below, above = load_model(first, exact()), load_model(second, exact())
    probes = probes_of(above, prompts)
    expected = [logits_of(above, tokens_T) for tokens_T in probes]
    pairs_above = pairs(above.network)
    below.network = take_in(below.network)
    _refuse_another_base(below, above, first, second)
    assert two.adapter is not None
    below.network = PeftModel.from_pretrained(below.network, str(two.adapter), is_trainable=False)
    if pairs(below.network).keys() != pairs_above.keys():
        raise ModelError(f"model = {second!r} does not fit the base of {first!r}.")
    write(below, out, settings=two.settings, facts={"stacked": [first, second]}, fill=save)
    result = load_model(str(out), exact())
    change = largest_change(result, probes, expected)
    largest = max(float(logits.abs().max()) for logits in expected)
    rank = max(len(a) for a, _ in pairs(result.network).values())
    return Stacked(first, second, str(out), rank, len(probes), largest, change)


def beside(model: Model, adapter: str, *, name: str) -> None:
    """Put a second adapter beside the one that the model has, on the same base; `switch` chooses between them.

    Raises ModelError where the model has none, the adapter belongs to another base or is of another kind, or the name is taken.
    """
    found = find_model(adapter)
    present: Mapping[str, Any] = getattr(model.network, "peft_config", {})
    if not present or found.adapter is None:
        raise ModelError(
            f"Two adapters on one base: expected both to be adapters, and {adapter if present else model.found.name!r} is none."
        )
    if name in present:
        raise ModelError(f"An adapter is called {name!r} already. There are: {', '.join(present)}.")
    if Path(found.base) != Path(model.found.base) and fingerprint(found) != fingerprint(model.found):
        raise ModelError(f"{adapter!r} is an adapter on {found.base}, and the model is one on {model.found.base}.")
    from peft import PeftConfig

    kinds = {str(config.peft_type) for config in [*present.values(), PeftConfig.from_pretrained(str(found.adapter))]}
    if len(kinds) > 1:
        raise ModelError(
            f"Two adapters of different kinds ({', '.join(sorted(kinds))}) cannot stand on one base at once. Load them one by one."
        )
    model.network.load_adapter(str(found.adapter), adapter_name=name, is_trainable=False)


def switch(model: Model, name: str) -> None:
    """Let the model answer with another of its adapters; the first one is called "default". Raises ModelError for an unknown name."""
    present = list(getattr(model.network, "peft_config", {}))
    if name not in present:
        raise ModelError(f"No adapter of the model is called {name!r}. There are: {', '.join(present) or 'none'}.")
    model.network.set_adapter(name)
    model.network.requires_grad_(False)


# ---------------------------------------------------------------------------------------------------------------------- the parts


def exact() -> Device:
    """Return the CPU in float32, where everything is added up."""
    import torch

    return Device("cpu", "float32", "float32", torch.get_num_threads())


def free(output: str | Path) -> Path:
    """Return the folder to be written; ConfigError where something is there."""
    out = Path(output).expanduser()
    if out.exists():
        raise ConfigError(f"{out} exists already. Name a new folder for the result, or delete this one.")
    return out


def write(
    model: Model,
    out: Path,
    *,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    fill: Callable[[Any, Path], None] | None = None,
) -> None:
    """Write the model's folder, complete or not at all; `fill` writes the weights where the network's own way is not the one."""
    kept = {name: value for name, value in settings.items() if name not in ("base", "base_fingerprint")}
    found: Found = model.found if fill is not None else replace(model.found, adapter=None)
    technique = None
    if fill is not None:
        from burnish.techniques import TECHNIQUES

        technique = replace(TECHNIQUES["lora"], save=fill)
    written = replace(model, found=found, technique=technique)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_directory(out, lambda folder: save_model(written, folder, settings=kept), manifest=facts)


def stored_dtype(model: Model) -> str:
    """Return what the base's weights are stored in, as its configuration says."""
    from transformers import AutoConfig

    name = str(AutoConfig.from_pretrained(model.found.base, trust_remote_code=False).dtype).removeprefix("torch.")
    return name if name in PRECISIONS else "float32"


def _torch_dtype(stored: str) -> torch.dtype:
    """Return torch's dtype of that name."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[stored]


def _as_stored(weight: torch.Tensor, stored: str | Rounding) -> torch.Tensor:
    """Return a weight in float32 as it comes back from being stored."""
    if callable(stored):
        return stored(weight)
    if stored == "int8" or stored == "nf4":
        return round_trip(weight, kind=stored)
    return weight.to(_torch_dtype(stored)).float()


def probes_of(model: Model, prompts: Sequence[str] | None) -> list[np.ndarray]:
    """Return the prompts as tokens, or eight of 4 to 32 tokens drawn from the vocabulary."""
    if prompts:
        return [np.asarray(model.tokenizer(prompt)["input_ids"], dtype=np.int64) for prompt in prompts]
    draw, table = np.random.default_rng(0), model.plain().get_input_embeddings()
    known: Any = table
    return [draw.integers(0, known.weight.shape[0], size=4 * (1 + number)) for number in range(8)]


def logits_of(model: Model, tokens_T: np.ndarray) -> torch.Tensor:
    """Return the network's logits on one prompt."""
    import torch

    with torch.no_grad():
        network: Any = model.plain()
        return network(input_ids=torch.as_tensor(tokens_T)[None]).logits.float()


def largest_change(model: Model, probes: Sequence[np.ndarray], expected: Sequence[torch.Tensor]) -> float:
    """Return the largest difference of a logit from what was expected."""
    return max(float((logits_of(model, tokens_T) - logits).abs().max()) for tokens_T, logits in zip(probes, expected, strict=True))


def _refuse_another_base(below: Model, above: Model, first: str, second: str) -> None:
    """Raise ModelError where the second adapter's base is not the first adapter merged, up to how it was stored."""
    own, other = plain(below.network).state_dict(), plain(load_model(second, exact(), adapter=False).network).state_dict()
    different = own.keys() != other.keys()
    for name in own if not different else ():
        far = (own[name].double() - other[name].double()).norm() > 2**-7 * own[name].double().norm()
        different = different or own[name].shape != other[name].shape or bool(far)
    if different:
        raise ModelError(
            f"model = {second!r} was trained on {above.found.base}, which is not {first!r} merged into its base. Merge it there first "
            f"(burnish merge), and train the second adapter on the result."
        )
