"""What decision.json says: of the decision as a whole, of each arm, and of the differences that its rows can show.

Enters: a bench, finished arms, and everything measured of them. Leaves: plain values, which `words` puts into sentences and `report` shows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from burnish import __version__
from burnish.decide import measure
from burnish.decide.bench import Bench, statistics
from burnish.decide.carry_out import Effort, Result
from burnish.decide.protocol import Item
from burnish.decide.recommendation import Recommendation
from burnish.decide.statistics import Comparison, detectable, detectable_between, difference, holm, mcnemar
from burnish.scores import groups_of, intervals
from burnish.types import Answer


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Everything measured of the finished arms: statistics [rows, K] of the deciding score by arm, their comparison, the measurements
    beside it, the costs, and what is recommended."""

    table: Mapping[str, np.ndarray]
    comparison: Comparison
    groups: list[str]
    probes: Mapping[str, Any]
    spent: Mapping[str, Any]
    found: Recommendation | None


def told_of_all(
    bench: Bench, effort: Effort, done: Mapping[str, Result], left: Mapping[str, str], failed: Mapping[str, str]
) -> dict[str, Any]:
    """Return what is said of the decision as a whole."""
    config, rows = bench.plan.resolved.config, bench.rows
    names = {document.name for document in rows.documents}
    strata = {item.stratum for item in rows.test}
    score = bench.scores[bench.headline]
    return {
        "schema": 1,
        "burnish": __version__,
        "finished": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "name": config.output,
        "run_file": None if bench.plan.resolved.file is None else str(bench.plan.resolved.file.name),
        "model": str(config.model),
        "technique": config.technique.name,
        "objective": config.objective.name,
        "quick": effort.quick,
        "trials": effort.trials,
        "seed": config.seed,
        "seeds": config.decide.seeds,
        "score": bench.headline,
        "scores": list(bench.scores),
        "higher_is_better": score.higher_is_better,
        "margin": config.decide.margin,
        "queries": config.decide.queries,
        "updates": config.decide.updates,
        "unit": "currency" if config.decide.price_hour is not None else "seconds",
        "rows": {
            "train": len(rows.train),
            "dev": len(rows.dev),
            "test": len(rows.test),
            "groups": len(set(groups_of([item.task for item in rows.test]))),
            "strata": {name: sum(item.stratum == name for item in rows.test) for name in sorted(strata)},
            "sha256": rows.test_hash,
        },
        "documents": {"documents": len(names), "passages": 0 if bench.index is None else len(bench.index)},
        "notes": [*rows.notes, *rows.warnings],
        "left_out": dict(left),
        "failed": dict(failed),
    }


# ----------------------------------------------------------------------------------------------------------------------- of one arm


def told_of_arm(bench: Bench, name: str, result: Result, measured: Measured) -> dict[str, Any]:
    """Return what decision.json says of one arm."""
    items, said, arm = bench.rows.test, result.said, result.arm
    written: dict[str, Any] = {
        "about": arm.about,
        "offered": arm.offered,
        "parts": arm.parts,
        "chosen": result.setting.told(),
        **_values(bench, result, measured.groups),
        "tokens": {
            "prompt": sum(said.prompt_tokens) / len(items),
            "answer": sum(one.tokens for one in said.answers) / len(items),
        },
        "errors": measure.errors(bench, arm, items, said),
        "recall": measure.recall(bench, items, said) if arm.looks or arm.passages == "corpus" else None,
        **{kind: measured.probes[kind].get(name) for kind in ("latency", "consistency", "abstention", "forgetting", "memory")},
        "ledger": {
            "labels": result.ledger.labels,
            "trials": len(result.ledger.trials),
            "seconds": result.ledger.seconds,
            "tried": result.ledger.trials,
        },
        "folder": None if result.folder is None else str(result.folder),
    }
    if name in measured.spent:
        spent = measured.spent[name]
        written["cost"] = {**asdict(spent["cost"]), **{key: item for key, item in spent.items() if key != "cost"}}
    if measured.found is not None and name != measured.found.arm:
        written["against_chosen"] = _against(bench, name, measured.found.arm, measured)
    return written


def _values(bench: Bench, result: Result, groups: list[str]) -> dict[str, Any]:
    """Return an arm's scores: each one, the deciding one read leniently, by stratum, and of each seed that it was tuned with."""
    items, headline = bench.rows.test, bench.headline
    given = [said.answers for said in (result.said, *result.repeats)]
    kinder = [[measure.lenient(one, item.task) for one, item in zip(answers, items, strict=True)] for answers in given]
    strata = {}
    for stratum in dict.fromkeys(item.stratum for item in items):
        places = [place for place, item in enumerate(items) if item.stratum == stratum]
        some = [[answers[place] for place in places] for answers in given]
        strata[stratum] = _valued(bench, some, [items[place] for place in places], headline, [groups[place] for place in places])
    found: dict[str, Any] = {
        "scores": {
            name: _valued(bench, given, items, name, groups) for name, score in bench.scores.items() if score.needs == "text"
        },
        "lenient": _valued(bench, kinder, items, headline, groups),
        "strata": strata,
    }
    if result.repeats:
        found["seeds"] = [_valued(bench, [answers], items, headline, groups)["mean"] for answers in given]
    return found


def _valued(bench: Bench, given: Sequence[Sequence[Answer]], items: Sequence[Item], name: str, groups: list[str]) -> dict[str, Any]:
    """Return the value of one score with interval and rows; of several seeds the mean over them, row by row."""
    score = bench.scores[name]
    table = np.mean([statistics(bench, {"arm": answers}, items, name)["arm"] for answers in given], axis=0)
    row = intervals(score, {"arm": table}, groups, seed=bench.plan.resolved.config.seed)
    return {**row["arm"], "n": row["n"], "groups": row["groups"], **({"note": row["note"]} if "note" in row else {})}


def _against(bench: Bench, name: str, chosen: str, measured: Measured) -> dict[str, Any]:
    """Return by how much an arm is better than the chosen one; where rows are right or wrong also how many only one of them has right."""
    pair = {key: measured.table[key] for key in (chosen, name)}
    found: dict[str, Any] = dict(difference(pair, measured.groups, bench.scores[bench.headline], name, chosen))
    if right := measured.comparison.correct:
        only, theirs, chance = mcnemar(right[name], right[chosen])
        found |= {"only_right": only, "only_chosen_right": theirs, "probability": chance}
    return found


def told_of_power(comparison: Comparison, found: Recommendation | None) -> dict[str, Any]:
    """Return which differences these rows can show: by formula for right or wrong, and between the chosen arm and each other as measured."""
    told: dict[str, Any] = {"formula_at_20_percent_discordant": detectable(comparison.rows, 0.2), "rows": comparison.rows}
    if found is not None:
        others = [name for name in found.behind if name != found.arm]
        told["measured"] = {name: detectable_between(comparison, found.arm, name) for name in others}
        if comparison.correct and others:
            chances = {name: mcnemar(comparison.correct[name], comparison.correct[found.arm])[2] for name in others}
            told["holm"] = holm(chances)
    return told
