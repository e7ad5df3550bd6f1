"""What each arm costs: once, for each question, for each update; and from how many questions on one is cheaper than another.

Enters: results, measured latencies and updates, the user's prices. Leaves: plain values, all in one unit: seconds of this machine, or the currency in
which its hour was given. Labels cost where a price for them was given; every arm that needs labels needs the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.decide.bench import Bench
from burnish.decide.carry_out import Result
from burnish.decide.recommendation import Cost, break_even_band


def costs(
    bench: Bench,
    done: Mapping[str, Result],
    latency: Mapping[str, Mapping[str, float]],
    index_seconds: float,
    changed: Mapping[str, Any] | None,
) -> dict[str, dict[str, Any]]:
    """Return by arm its `Cost`, the interval of a question's cost, and what it is made of; only arms whose answers were timed."""
    settings = bench.settings
    rate = 1.0 if settings.price_hour is None else settings.price_hour / 3600
    found: dict[str, dict[str, Any]] = {}
    for name, timed in latency.items():
        result, arm = done[name], done[name].arm
        looks = index_seconds if arm.looks else 0.0
        seconds = result.ledger.seconds + result.seconds + looks
        labels = result.ledger.labels * (settings.price_label or 0.0)
        renewed = _update_seconds(name, result, index_seconds, len(bench.rows.documents), changed)
        cost = Cost(
            seconds * rate + labels, timed["mean"] / 1000 * rate, renewed * rate, (timed["high"] - timed["mean"]) / 1000 * rate
        )
        band = (max(timed["low"], 0.0) / 1000 * rate, timed["high"] / 1000 * rate)
        found[name] = {"cost": cost, "band": band, "seconds": seconds, "update_seconds": renewed, "labels": labels}
        found[name]["total"] = cost.total(settings.queries, settings.updates)
    return found


def _update_seconds(name: str, result: Result, index_seconds: float, documents: int, changed: Mapping[str, Any] | None) -> float:
    """Return the seconds of one update: as measured, else the training again, and the index's share of one document."""
    ways = [way for way in (changed or {}).get("ways", []) if way["arm"] == name]
    if ways:
        best = max(way["direct"]["mean"] for way in ways)
        good = [way for way in ways if way["direct"]["mean"] >= best - 0.05]
        return float(min(way["seconds"] for way in good))
    again = result.seconds if result.folder is not None else 0.0
    return again + (index_seconds / max(documents, 1) if result.arm.looks else 0.0)


def break_evens(spent: Mapping[str, Mapping[str, Any]], chosen: str, *, updates: float) -> dict[str, list[dict[str, Any]]]:
    """Return by other arm from how many questions on which of the two costs less, with a band, for no updates, those given, and four times those.

    "cheaper" is the arm whose questions cost less, so that it wins in the long run; "middle" None: it does so at no number of questions.
    """
    one = spent[chosen]
    found: dict[str, list[dict[str, Any]]] = {}
    for name, other in spent.items():
        if name == chosen:
            continue
        first, second = (one, other) if one["cost"].per_query <= other["cost"].per_query else (other, one)
        rows = []
        for number in dict.fromkeys((0.0, updates, 4 * updates)):
            low, middle, high = break_even_band(first["cost"], second["cost"], (first["band"], second["band"]), updates=number)
            cheaper = chosen if first is one else name
            rows.append({"updates": number, "cheaper": cheaper, "least": low, "middle": middle, "most": high})
        found[name] = rows
    return found
