"""How often the rule of `decide` is right where the truth is known: simulated score tables, and the coverage of their intervals.

    python benchmarks/decide/simulate.py [--tables 1000] [--write]

Enters: nothing. Leaves: figures on standard output, with --write also benchmarks/decide/simulate.json. Row i is answered rightly by an arm of true
accuracy p where Φ⁻¹(p) + √0.6 z + √0.4 e > 0: z is how hard the row is for every arm (of a group of rows in part), e an arm's own luck.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri

from burnish.decide.recommendation import MARGIN, Candidate, Cost, recommend
from burnish.decide.statistics import compare, difference
from burnish.scores import SCORES

ARMS = ("zero-shot", "tuned", "few-shot", "retrieval", "tuned on context")
COSTS = (1.0, 1.05, 2.5, 3.5, 3.6)
PARTS = (0, 2, 1, 2, 3)

PLANTED = {
    "behaviour": ((0.55, 0.80, 0.66, 0.60, 0.74), "tuned"),
    "facts": ((0.40, 0.55, 0.45, 0.84, 0.78), "retrieval"),
    "both needed": ((0.40, 0.62, 0.50, 0.70, 0.80), "tuned on context"),
    "neither needed": ((0.80, 0.74, 0.74, 0.72, 0.74), "zero-shot"),
    "misleading corpus": ((0.70, 0.62, 0.64, 0.50, 0.48), "zero-shot"),
}
"""True accuracy of each arm, and the arm that is two margins or more ahead of every other."""

HARDER = {
    "behaviour, both as good": (0.55, 0.80, 0.66, 0.60, 0.81),
    "facts, both as good": (0.40, 0.55, 0.45, 0.84, 0.85),
    "near tie": (0.70, 0.80, 0.79, 0.80, 0.805),
    "tuned two margins behind": (0.55, 0.74, 0.62, 0.80, 0.81),
}
"""Tables in which the right choice is a matter of a point or two, or a cheap arm lies where the margin is hard to see."""


def table(
    accuracies: tuple[float, ...], rows: int, draw: np.random.Generator, *, per_group: int = 1, shared: float = 0.5
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return statistics [rows, 2] by arm, and the group of each row; `shared` is the part of a row's hardness that its group has."""
    group_R = np.arange(rows) // per_group
    hard_R = draw.standard_normal(rows)
    if per_group > 1:
        hard_R = np.sqrt(shared) * draw.standard_normal(group_R[-1] + 1)[group_R] + np.sqrt(1 - shared) * hard_R
    made = {}
    for name, accuracy in zip(ARMS, accuracies, strict=False):
        right_R = ndtri(accuracy) + np.sqrt(0.6) * hard_R + np.sqrt(0.4) * draw.standard_normal(rows) > 0
        made[name] = np.stack([right_R, np.ones(rows)], axis=1).astype(np.float64)
    return made, [str(group) for group in group_R]


def candidates() -> list[Candidate]:
    return [Candidate(name, Cost(0.0, cost), parts) for name, cost, parts in zip(ARMS, COSTS, PARTS, strict=True)]


def rule(
    accuracies: tuple[float, ...],
    winner: str | None,
    *,
    tables: int,
    rows: int = 300,
    seed: int = 0,
    per_group: int = 1,
    resamples: int = 500,
) -> dict[str, Any]:
    """Return how often the choice lies within the margin, is the planted winner, is clearly worse, and how often each label is right."""
    draw = np.random.default_rng(seed)
    truth = dict(zip(ARMS, accuracies, strict=True))
    within = won = worse = 0
    labels: dict[str, list[bool]] = {"proven": [], "likely": [], "provisional": []}
    for number in range(tables):
        statistics, groups = table(accuracies, rows, draw, per_group=per_group)
        comparison = compare(statistics, groups, SCORES["accuracy"], seed=number, resamples=resamples)
        found = recommend(candidates(), comparison, queries=1.0)
        assert found is not None
        behind = max(accuracies) - truth[found.arm]
        within += behind < MARGIN
        won += found.arm == winner
        worse += behind >= 2 * MARGIN
        labels[found.label].append(behind < MARGIN)
    said = {
        name: {"share": round(len(one) / tables, 3), "within": round(float(np.mean(one)), 3) if one else None}
        for name, one in labels.items()
    }
    result: dict[str, Any] = {"within_margin": within / tables, "two_margins_worse": worse / tables, "labels": said}
    return result | ({"planted_winner": won / tables} if winner is not None else {})


def coverage(rows: int, *, per_group: int, tables: int, seed: int = 1) -> float:
    """Return how often the interval of a paired difference holds the true one."""
    draw = np.random.default_rng(seed)
    accuracies, held = (0.80, 0.74), 0
    for number in range(tables):
        statistics, groups = table(accuracies, rows, draw, per_group=per_group)
        found = difference(statistics, groups, SCORES["accuracy"], "zero-shot", "tuned", seed=number)
        assert found["low"] is not None and found["high"] is not None
        held += found["low"] <= accuracies[0] - accuracies[1] <= found["high"]
    return held / tables


def measure(tables: int) -> dict[str, Any]:
    """Return all figures."""
    found: dict[str, Any] = {"tables": tables, "rows": 300, "margin": MARGIN}
    found["planted"] = {kind: rule(values, winner, tables=tables) for kind, (values, winner) in PLANTED.items()}
    found["planted, rows in groups of 5"] = {
        kind: rule(values, winner, tables=tables, per_group=5) for kind, (values, winner) in PLANTED.items()
    }
    found["harder"] = {kind: rule(values, None, tables=tables) for kind, values in HARDER.items()}
    found["coverage"] = {
        f"{rows} rows{f' in groups of {size}' if size > 1 else ''}": coverage(rows, per_group=size, tables=tables)
        for rows, size in ((100, 1), (300, 1), (500, 1), (100, 5), (300, 5), (500, 10))
    }
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    started = time.monotonic()
    told = {"command": f"python benchmarks/decide/simulate.py --tables {asked.tables} --write", **measure(asked.tables)}
    told["seconds"] = round(time.monotonic() - started)
    print(json.dumps(told, indent=2))
    if asked.write:
        Path(__file__).with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
