"""What is measured of a run, what of all runs of a side, and whether a row holds.

Enters: runs (`protocol.Run`). Leaves: plain values for the results. Steps that warm up are dropped from rates; the whole wall time is kept.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import formulae
from protocol import Run
from rows import Arm, Figure, Row
from work import SHAPE, WORK

LOSS_TOLERANCE = 5e-3
"""By which two sides' losses may differ, relative to the loss: bfloat16 keeps eight bits."""

COSINE = 0.999


@cache
def _lengths(name: str) -> tuple[list[int], list[int]] | None:
    """Return the tokens and the trained tokens of each row of a set, None for one that is not kept as token ids."""
    path = WORK / f"{name}.tokens.json"
    if not path.is_file():
        return None
    rows = json.loads(path.read_text(encoding="utf-8"))
    parts = [part if isinstance(part, list) else [part] for part in rows]
    tokens = [sum(len(one["input_ids"]) for one in row) for row in parts]
    if any(isinstance(one["labels"], int) for row in parts for one in row):
        return None
    return tokens, [sum(label >= 0 for one in row for label in one["labels"][1:]) for row in parts]


def flops_per_token(name: str, technique: str) -> float | None:
    """Return the model FLOPs of a real token of a set, None where they are not counted: pairs, heads, attempts."""
    found = _lengths(name)
    if found is None or name.startswith("pairs") or technique not in ("lora", "full"):
        return None
    tokens, trained = found
    return formulae.flops(SHAPE, tokens, sum(trained), technique="full" if technique == "full" else "lora") / sum(tokens)


def measures(run: Run, arm: Arm) -> dict[str, float]:
    """Return what is measured of one run."""
    steps, warmup = run.of("step"), arm.warmup
    begun = [line["at"] for line in run.of("train") or run.of("ready")]
    ends = [*(begun[:1] or [0.0]), *(line["at"] for line in steps)]
    kept = steps[warmup:]
    seconds = sum(line["seconds"] for line in kept) if all("seconds" in line for line in kept) else ends[-1] - ends[warmup]
    found = {
        "seconds_total": run.seconds,
        "ready": begun[0] if begun else 0.0,
        "first_step": ends[1] if len(ends) > 1 else 0.0,
        "seconds_to_last": ends[-1],
        "peak_gb": run.events[-1]["peak_bytes"] / 1e9,
        "processor_share": run.events[-1]["processor"] / run.seconds,
        "stolen": run.stolen,
        "others": run.others,
        "matrix_peak_tflops": run.peak_flops / 1e12,
    }
    if not kept:  # a side that makes one step, to see how long it takes to get there
        return found
    found |= {"seconds_per_step": seconds / len(kept), "steps_per_second": len(kept) / seconds}
    counted = {name: sum(line.get(name, 0) for line in kept) for name in ("tokens", "labels", "positions", "rows")}
    named = {"tokens": "tokens_per_second", "labels": "label_tokens_per_second", "rows": "examples_per_second"}
    found |= {named[name]: counted[name] / seconds for name in named if counted[name]}
    if counted["positions"] and counted["tokens"]:
        found["padding_share"] = formulae.padding_share(counted["tokens"], counted["positions"])
    return found | _of_work(run, found, len(kept))


def _of_work(run: Run, found: Mapping[str, float], steps: int) -> dict[str, float]:
    """Return what depends on the kind of work: share of the peak, and pairs with the pass that reads the reference."""
    more: dict[str, float] = {}
    rows, batch = run.task["rows"], run.task["batch"]
    cost = flops_per_token(rows, run.task.get("technique", "lora"))
    if cost is not None and "tokens_per_second" in found and run.peak_flops:
        more["share_of_peak"] = formulae.share_of_peak(cost * found["tokens_per_second"], 1.0, run.peak_flops)
    if rows.startswith("pairs"):
        reference = sum(line["seconds"] / (line["sequences"] / 2) for line in run.of("reference"))
        more["reference_seconds_per_pair"] = reference
        more["pairs_per_second"] = 1.0 / (reference + found["seconds_per_step"] / batch)
    return more


# --------------------------------------------------------------------------------------------------------------------- all runs


def summary(row: Row, runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Return for each side the middle and the range of each measure, with the losses of its first steps."""
    found: dict[str, dict[str, Any]] = {}
    for arm in row.arms:
        mine = [run for run in runs if run.arm == arm.name]
        good = [measures(run, arm) for run in mine if not run.problem]
        if not good:
            found[arm.name] = {"problem": next((run.problem for run in mine), "never carried out")}
            continue
        names = [name for name in good[0] if all(name in one for one in good)]
        spreads = {name: formulae.spread([one[name] for one in good]) for name in names}
        found[arm.name] = {
            "repeats": len(good),
            "losses": losses(next(run for run in mine if not run.problem))[:2],
            "measures": {
                name: {"median": one.median, "least": one.least, "greatest": one.greatest} for name, one in spreads.items()
            },
        }
    return found


def losses(run: Run) -> list[float]:
    """Return the losses that a side told, step by step."""
    return [line["loss"] for line in run.events if "loss" in line]


def judged(figure: Figure, sides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a figure with its value and verdict: "holds", "falls short", or "not measured"."""
    target = str(figure.target) if figure.target else None
    told: dict[str, Any] = {
        "name": figure.name,
        "measure": figure.measure,
        "target": target,
        "value": None,
        "verdict": "not measured",
    }
    own = sides.get(figure.arm, {}).get("measures", {}).get(figure.measure)
    other = sides.get(figure.over, {}).get("measures", {}).get(figure.measure) if figure.over else None
    if own is None or (figure.over and other is None):
        return told
    told["value"] = own["median"] / other["median"] if other else own["median"]
    told["verdict"] = "measured" if figure.target is None else "holds" if figure.target.holds(told["value"]) else "falls short"
    return told


def verdict(figures: Sequence[Mapping[str, Any]]) -> str:
    """Return what a whole row says: it holds where every figure with a target does."""
    told = {figure["verdict"] for figure in figures} - {"measured"}
    if "falls short" in told:
        return "falls short"
    return "not measured" if "not measured" in told or not figures else "holds" if told else "measured"


# --------------------------------------------------------------------------------------------------------------------- the gate


def refusals(row: Row, gate: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> list[str]:
    """Return why a row's figures may not be compared; empty where both sides do the same work."""
    if row.gate == "gradients":
        return [reason for one in gate for reason in _of_gradient(one)]
    good = {run.arm: run for run in runs if not run.problem}
    if row.gate == "losses":
        first = {name: losses(run)[:1] for name, run in good.items() if not run.task.get("grouped") and not run.task.get("packing")}
        values = [found[0] for found in first.values() if found]
        spreads = max(values) - min(values) if values else 0.0
        if values and spreads > LOSS_TOLERANCE * abs(statistics.median(values)):
            return [f"first losses differ: {first}"]
    if row.gate == "tokens":
        answers = {name: run.of("step")[0]["first"][:4] for name, run in good.items()}
        if len({json.dumps(one) for one in answers.values()}) > 1:
            return [f"the first tokens of greedy answers differ: {answers}"]
    if row.gate == "moves":
        still = [name for name, run in good.items() if not any(_norm(line) > 0 for line in run.events)]
        return [f"{name}: every gradient is zero" for name in still]
    return []


def _norm(line: Mapping[str, Any]) -> float:
    return float(line.get("gradient_norm", line.get("grad_norm", 0.0)))


def _of_gradient(one: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with one side's losses, gradient and weights."""
    name = one["arm"]
    if one.get("problem"):
        return [f"{name}: {one['problem']}"]
    found = []
    if one.get("cosine", 0.0) <= COSINE:
        found.append(f"{name}: cosine of the gradient {one.get('cosine', 0.0):.5f}, expected above {COSINE}")
    if not one.get("norm", 0.0) > 0 or not one.get("moved", 0.0) > 0:
        found.append(f"{name}: a gradient of zero, or weights that do not move")
    for step, (told, plain) in enumerate(zip(one["told"], one.get("losses", []), strict=False), 1):
        if abs(told - plain) > LOSS_TOLERANCE * abs(plain):
            found.append(f"{name}: loss of step {step} is {told:.5f}, of the plain twin {plain:.5f}")
    return found
