"""The measurements beside the score, of all arms that could be chosen: agreement with itself, "I don't know", forgetting, memory, latency.

Enters: a bench and finished arms. Leaves: plain values by measurement and arm, and which limits of the user's an arm breaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.decide import measure
from burnish.decide.bench import Bench, Setting
from burnish.decide.carry_out import Effort, Result, model_of
from burnish.forgetting import changed, general_answers, general_probe
from burnish.models import Model
from burnish.prepare import seen_by


def probed(bench: Bench, done: Mapping[str, Result], effort: Effort) -> dict[str, Any]:
    """Return the measurements beside the score, by arm: consistency, abstention, latency."""
    items = bench.rows.test[:: max(1, len(bench.rows.test) // bench.settings.probe_rows)][: bench.settings.probe_rows]
    asked = {name: result for name, result in done.items() if result.arm.weights != "none" and result.arm.offered}
    models = {name: model for name, result in asked.items() if (model := model_of(bench, result)) is not None}
    found: dict[str, Any] = {"consistency": {}, "abstention": {}, "forgetting": _forgetting(bench, asked, models, effort)}
    found["memory"] = {
        name: {"weights": measure.weight_bytes(model), "index": _index_bytes(bench, asked[name])} for name, model in models.items()
    }
    for name, result in asked.items():
        effort.watch.say(f"Measuring how far {name} agrees with itself, and when it says that it does not know")
        found["consistency"][name] = measure.consistency(bench, result.arm, result.setting, items, models[name])
        found["abstention"][name] = measure.abstention(bench, result.arm, result.setting, items, models[name])
    effort.watch.say("Measuring single answers, arms in turn")
    timed: dict[str, tuple[Any, Setting, Any]] = {
        name: (result.arm, result.setting, models[name]) for name, result in asked.items()
    }
    found["latency"] = measure.latency(bench, timed, items)
    return found


def _forgetting(
    bench: Bench, asked: Mapping[str, Result], models: Mapping[str, Model], effort: Effort
) -> dict[str, dict[str, Any]]:
    """Return what each arm with weights of its own lost on the general probe, beside the base that all share."""
    tuned = {name: models[name] for name, result in asked.items() if result.folder is not None and result.arm.weights != "random"}
    if not tuned or not bench.plan.resolved.config.evaluate.forgetting:
        return {}
    effort.watch.say("Asking the base and the tuned arms general questions")
    probe, renderer = general_probe(seen_by(bench.plan.found)), bench.part.renderer
    before = general_answers(bench.model, renderer, probe)
    known: dict[str, dict[str, Any]] = {}
    for name, model in tuned.items():
        folder = str(asked[name].folder)
        if folder not in known:  # two arms may share their weights
            known[folder] = changed(before, general_answers(model, renderer, probe), probe)
    return {name: known[str(asked[name].folder)] for name in tuned}


def _index_bytes(bench: Bench, result: Result) -> int:
    """Return the bytes of the index of an arm that looks in one."""
    folder = bench.folder / "index"
    return sum(file.stat().st_size for file in folder.iterdir()) if result.arm.looks else 0


def limits_broken(bench: Bench, name: str, probes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the user's limits that an arm breaks, in words."""
    settings, broken = bench.settings, []
    timed = probes["latency"].get(name)
    if settings.latency_limit is not None and timed is not None and timed["p95"] > settings.latency_limit:
        broken.append(f"95 % of answers within {timed['p95']:.0f} ms, allowed are {settings.latency_limit:g}")
    scores: Any = probes["forgetting"].get(name, {}).get("scores")
    lost = (scores or {}).get("bits_per_byte", {}).get("difference", {}).get("mean")
    if settings.forgetting_limit is not None and lost is not None and lost > settings.forgetting_limit:
        broken.append(f"general text {lost:.2f} bits per byte harder to read, allowed are {settings.forgetting_limit:g}")
    return tuple(broken)
