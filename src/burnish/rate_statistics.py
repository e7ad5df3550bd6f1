"""What judgements say together: who won, how far people agree, and whether they lean to one side. Every figure has an interval.

Enters: rows of a feedback file. Leaves: an object of plain values, and the same as lines for a person. Intervals are those of the scores:
a bootstrap over prompts, since judgements of one prompt resemble each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from burnish.rate import last_of_each
from burnish.scores import intervals
from burnish.types import Score

Row = Mapping[str, Any]
Figure = dict[str, Any]


def summary(rows: Sequence[Row], *, seed: int = 0) -> dict[str, Any]:
    """Return counts, win rates, thumbs, agreement and the share of left answers, each figure with a 95 % interval.

    Of what one rater said of one prompt again and again only the last counts. A win rate is the share of judgements in which the
    first model's answer was the better one, ties and "both bad" as half.
    """
    counted = last_of_each(rows)
    judged = [row for row in counted.values() if row.get("choice") != "skip"]
    said = Counter(_verdict(row) for row in judged)
    return {
        "schema": 1,
        "judgements": len(judged),
        "skipped": len(counted) - len(judged),
        "replaced": len(rows) - len(counted),
        "prompts": len({row["id"] for row in judged}),
        "raters": dict(Counter(row["rater"] for row in judged).most_common()),
        "counts": {name: said[name] for name in ("a", "b", "tie", "both_bad", "up", "down")},
        "edited": sum(bool(row.get("edit")) for row in judged),
        "comparisons": _comparisons(judged, seed),
        "thumbs": _thumbs(judged, seed),
        "agreement": _agreement(judged, seed),
        "left": _left(judged, seed),
    }


def _verdict(row: Row) -> str:
    """Return a judgement as one word."""
    if row.get("thumb") is not None:
        return "up" if row["thumb"] else "down"
    return str(row["choice"]) if row.get("choice") is not None else "edited"


def _models(row: Row) -> tuple[str, ...]:
    """Return the models whose answers were judged."""
    return tuple(str(one.get("model")) for one in row["answers"])


def _comparisons(judged: Sequence[Row], seed: int) -> list[dict[str, Any]]:
    """Return the win rate of each first model over each second one; two samples of one model are not compared."""
    found = []
    by_models: dict[tuple[str, ...], list[Row]] = {}
    for row in judged:
        if row.get("choice") is not None and len(set(_models(row))) == 2:
            by_models.setdefault(_models(row), []).append(row)
    for models, rows in by_models.items():
        wins = [{"a": 1.0, "b": 0.0}.get(row["choice"], 0.5) for row in rows]
        said = Counter(row["choice"] for row in rows)
        found.append(
            {
                "models": list(models),
                "win_rate": mean(wins, [row["id"] for row in rows], seed=seed),
                "better": said["a"],
                "worse": said["b"],
                "ties": said["tie"],
                "both_bad": said["both_bad"],
            }
        )
    return found


def _thumbs(judged: Sequence[Row], seed: int) -> list[dict[str, Any]]:
    """Return the share of thumbs up by model."""
    by_model: dict[str, list[Row]] = {}
    for row in judged:
        if row.get("thumb") is not None:
            by_model.setdefault(_models(row)[0], []).append(row)
    return [
        {"model": model, "up": mean([float(row["thumb"]) for row in rows], [row["id"] for row in rows], seed=seed)}
        for model, rows in by_model.items()
    ]


def _left(judged: Sequence[Row], seed: int) -> Figure | None:
    """Return how often the answer on the left was the better one, where one was; 0.5 is expected of the sides alone."""
    rows = [row for row in judged if row.get("choice") in ("a", "b") and len(row.get("order") or ()) == 2]
    if not rows:
        return None
    return mean([float(row["order"][0] == row["choice"]) for row in rows], [row["id"] for row in rows], seed=seed)


def mean(values: Sequence[float], groups: Sequence[str], *, seed: int = 0) -> Figure:
    """Return {"mean", "low", "high", "n", "groups"} of values in groups, a note where the interval is rough."""
    statistics_RK = np.stack([np.asarray(values, dtype=np.float64), np.ones(len(values))], axis=1)
    return _figure(statistics_RK, groups, _ratio, seed)


def _ratio(sums: np.ndarray) -> np.ndarray:
    """Return the first sum over the second."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def _figure(statistics_RK: np.ndarray, groups: Sequence[str], combine: Any, seed: int) -> Figure:
    """Return a value with its interval."""
    score = Score(statistics=lambda answers, tasks: statistics_RK, combine=combine)
    found = intervals(score, {"value": statistics_RK}, list(groups), seed=seed)
    return {**found["value"], "n": found["n"], "groups": found["groups"], **({"note": found["note"]} if "note" in found else {})}


# ---------------------------------------------------------------------------------------------------------------------- agreement


def _agreement(judged: Sequence[Row], seed: int) -> dict[str, Any] | None:
    """Return how far raters agree on the prompts that several of them judged; None where there are none."""
    by_id: dict[str, list[str]] = {}
    for row in judged:
        if _verdict(row) != "edited":
            by_id.setdefault(row["id"], []).append(_verdict(row))
    units = {name: said for name, said in by_id.items() if len(said) > 1}
    if not units:
        return None
    pairs = [[(one == other) for one, other in combinations(said, 2)] for said in units.values()]
    share = _figure(np.array([[sum(each), len(each)] for each in pairs], dtype=np.float64), list(units), _ratio, seed)
    alpha = _figure(_coincidences(list(units.values())), list(units), _alpha, seed)
    if krippendorff_alpha(list(units.values())) is None:
        alpha |= {
            "mean": None,
            "low": None,
            "high": None,
            "note": "all judgements are the same, so that chance alone explains them",
        }
    return {"prompts": len(units), "share": share, "alpha": alpha}


def krippendorff_alpha(units: Sequence[Sequence[str]]) -> float | None:
    """Return Krippendorff's alpha of nominal values: 1 where all agree, 0 where they agree as by chance; None without any variety.

    A unit holds what each of its raters said, in any order; units with less than two are passed over. With o_cc the number of equal
    ordered pairs inside a unit divided by its raters less one, n_c how often value c was given, and n their sum:
    alpha = 1 - (1 - sum_c o_cc / n) / (1 - sum_c n_c (n_c - 1) / (n (n - 1))).
    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", University of Pennsylvania.
    """
    paired = [unit for unit in units if len(unit) > 1]
    if len({value for unit in paired for value in unit}) < 2:
        return None
    return float(_alpha(_coincidences(paired).sum(0)))


def _coincidences(units: Sequence[Sequence[str]]) -> np.ndarray:
    """Return a row per unit that adds up over units: its equal pairs divided by its raters less one, and how often each value occurs."""
    values = sorted({value for unit in units for value in unit})
    counts_UC = np.array([[list(unit).count(value) for value in values] for unit in units], dtype=np.float64)
    equal_U = (counts_UC * (counts_UC - 1)).sum(1) / (counts_UC.sum(1) - 1)
    return np.concatenate([equal_U[:, None], counts_UC], axis=1)


def _alpha(sums: np.ndarray) -> np.ndarray:
    """Return alpha of added-up rows of `_coincidences`; 1 where a resample holds one value only, so that nothing differs in it."""
    equal, counts = sums[..., 0], sums[..., 1:]
    total = counts.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = 1 - equal / total
        expected = 1 - (counts * (counts - 1)).sum(-1) / (total * (total - 1))
        return np.where(expected > 0, 1 - observed / expected, np.where(total > 0, 1.0, np.nan))


# -------------------------------------------------------------------------------------------------------------------------- lines


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return a summary as lines for a person."""
    raters = ", ".join(f"{name} {count}" for name, count in found["raters"].items()) or "nobody"
    aside = [f"{found[name]} {name}" for name in ("edited", "skipped", "replaced") if found[name]]
    said = [f"Judgements: {found['judgements']} on {found['prompts']} prompts ({raters})" + "".join(f", {one}" for one in aside)]
    for one in found["comparisons"]:
        said.append(
            f"{one['models'][0]} over {one['models'][1]}: {percent(one['win_rate'])}, ties as half "
            f"({one['better']} better, {one['worse']} worse, {one['ties']} ties, {one['both_bad']} both bad)"
        )
    said += [f"{one['model']}: {percent(one['up'])} thumbs up" for one in found["thumbs"]]
    if found["agreement"] is not None:
        agreement = found["agreement"]
        alpha = agreement["alpha"]
        value = "undefined" if alpha["mean"] is None else f"{alpha['mean']:.2f}{_range(alpha, '.2f')}"
        note = f" ({alpha['note']})" if "note" in alpha else ""
        said.append(
            f"Agreement on {agreement['prompts']} prompts: {percent(agreement['share'])}; Krippendorff's alpha {value}{note}"
        )
    elif len(found["raters"]) > 1:
        said.append("Agreement: no prompt was judged by two raters")
    if found["left"] is not None:
        left = found["left"]
        bias = left["low"] is not None and not left["low"] <= 0.5 <= left["high"]
        said.append(f"The left answer was the better one in {percent(left)}" + (": raters lean to one side" if bias else ""))
    return said


def percent(figure: Mapping[str, Any]) -> str:
    """Return a share in percent with its interval and the number of judgements behind it."""
    scaled = {key: None if figure[key] is None else 100 * figure[key] for key in ("mean", "low", "high")}
    return f"{scaled['mean']:.1f} %{_range(scaled, '.1f')} of {figure['n']}"


def _range(figure: Mapping[str, Any], form: str) -> str:
    """Return an interval in brackets, nothing where there is none."""
    return "" if figure["low"] is None else f" [{figure['low']:{form}}, {figure['high']:{form}}]"
