"""Mixtures: one adapter as the weighted sum of several on one base, or a tuned model drawn back towards its base.

Enters: adapters, or run directories, and a weight each. Leaves: a folder of the same kind, complete or not at all, whose logits were
compared with the base to whose weights the same updates were added one by one. A whole model is averaged by `averaging`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish import config
from burnish.averaging import average
from burnish.errors import ConfigError, ModelError, RunError
from burnish.merge import SAME, exact, free, largest_change, logits_of, probes_of, write
from burnish.models import Found, Model, find_model, fingerprint, load_model
from burnish.techniques.folded import add, is_plain_lora, lora_layers, pairs, plain, save


@dataclass(frozen=True, slots=True)
class Mixed:
    """What was made of which parts; `change` is the largest change of a logit on `prompts` prompts, None where weights were averaged."""

    models: tuple[str, ...]
    weights: tuple[float, ...]
    output: str
    rank: int | None = None
    prompts: int = 0
    largest_logit: float = 0.0
    change: float | None = None


def mix(models: Sequence[str], weights: Sequence[float], output: str | Path, *, prompts: Sequence[str] | None = None) -> Mixed:
    """Write the LoRA adapter that adds weight_1 update_1 + weight_2 update_2 + … to the one base that all adapters have.

    The ranks stand beside each other, each B times its weight, so the sum is exact; a negative weight takes away what one learned.
    Source: Ilharco et al. 2022, "Editing Models with Task Arithmetic", arXiv 2212.04089.

    Raises ConfigError for weights that do not fit, ModelError for adapters that are no plain LoRA or stand on different bases,
    RunError where the mixture does not answer as the sum does.
    """
    import torch

    out = free(output)
    _refuse_weights(models, weights)
    found = [find_model(name) for name in models]
    for name, one in zip(models, found, strict=True):
        if one.adapter is None:
            raise ModelError(f"model = {name!r} is no adapter. Weights of whole models are averaged with --average alone.")
        if Path(one.base).resolve() != Path(found[0].base).resolve() and fingerprint(_base(one)) != fingerprint(_base(found[0])):
            raise ModelError(
                f"{name!r} is an adapter on {one.base}, and {models[0]!r} one on {found[0].base}: their sum has no base."
            )
    opened = [_opened(name) for name in models]
    updates = [
        {layer: (a, weight * b) for layer, (a, b) in pairs(model.network).items()}
        for model, weight in zip(opened, weights, strict=True)
    ]
    expected, probes = _summed(models[0], updates, prompts)
    first = opened[0]
    with torch.no_grad():
        for layer in lora_layers(first.network).values():
            layer.lora_B["default"].weight.mul_(weights[0])
    held: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for update in updates[1:]:
        for layer, pair in update.items():
            held.setdefault(layer, []).append(pair)
    plain(first.network).folded = held  # `save` writes these beside the adapter's own ranks
    write(first, out, settings=found[0].settings, facts={"mixed": list(models), "weights": list(weights)}, fill=save)
    result = load_model(str(out), exact())
    change, largest = largest_change(result, probes, expected), max(float(logits.abs().max()) for logits in expected)
    if not change <= SAME * largest:
        raise RunError(
            f"{out} does not answer as the sum of the adapters does: a logit differs by {change:.3g} of {largest:.3g}. Delete it, and "
            f"report this."
        )
    rank = max(len(a) for a, _ in pairs(result.network).values())
    return Mixed(tuple(models), tuple(weights), str(out), rank, len(probes), largest, change)


def towards_base(model: str, share: float, output: str | Path, *, base: str | None = None) -> Mixed:
    """Write the model whose weights are (1 - share) base + share tuned: an adapter scaled and compared, a whole model averaged.

    The base of a whole model is that of its run directory, or `base`. Raises ConfigError for a share outside 0..1, ModelError for
    models that cannot be averaged, UsageError where the folder is used.
    """
    found = find_model(model)
    if found.adapter is not None and share > 0 and base is None:
        if not share <= 1:
            raise ConfigError(f"share = {share}: expected a number from 0 (the base) to 1 (the tuned model).")
        return mix([model], [share], output)
    file = Path(model) / "run.toml"
    if found.adapter is None and base is None and file.is_file():
        from burnish.prepare import registries

        resolved = config.load(file, registries=registries())
        base = None if resolved.config.model.is_fresh else config.model_reference(resolved)
    average(model, output, share=share, base=base)
    return Mixed((model,), (share,), str(output))


def _refuse_weights(models: Sequence[str], weights: Sequence[float]) -> None:
    """Raise ConfigError for weights that are not one finite number other than 0 for each adapter."""
    if not models or len(models) != len(weights):
        raise ConfigError(
            f"{len(models)} adapters and {len(weights)} weights: give one weight for each, such as --weights 0.6,0.4."
        )
    bad = [weight for weight in weights if not math.isfinite(weight) or weight == 0]
    if bad:
        raise ConfigError(f"weight {bad[0]}: expected a finite number other than 0; leave an adapter out that should not count.")


def _base(found: Found) -> Found:
    return Found(found.base, found.base, local=found.local)


def _opened(name: str) -> Model:
    """Return an adapter on its base in float32; ModelError where it is more than products added to weights."""
    model = load_model(name, exact())
    if not hasattr(model.network, "peft_config") or not is_plain_lora(model.network):
        raise ModelError(
            f"model = {name!r} is no plain LoRA (DoRA, trained vectors or heads, a quantised base, or another kind of adapter), so it has no "
            f"weight in a sum. Merge it into a whole model first (burnish merge), and average that."
        )
    return model


def _summed(name: str, updates: Sequence[dict], prompts: Sequence[str] | None) -> tuple[list, list]:
    """Return the logits of the base with every update added to its weights, on the prompts, and these as tokens."""
    base = load_model(name, exact(), adapter=False)
    for update in updates:
        for layer, pair in update.items():
            add(base.network.get_submodule(layer), pair)
    probes = probes_of(base, prompts)
    return [logits_of(base, tokens_T) for tokens_T in probes], probes
