"""A decision in plain sentences: what to do, how sure that is, what stands in the way, what would change it.

Enters: what decision.json holds, without sentences. Leaves: sentences, the first one the advice. Each rests on a figure of the decision; none is said
where that figure is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from burnish.decide.recommendation import FEWEST_ROWS
from burnish.report_words import duration, figure, interval

NAMES = {
    "zero_shot": "zero-shot",
    "few_shot_fixed": "few-shot, fixed",
    "few_shot_nearest": "few-shot, nearest",
    "optimised_prompt": "optimised prompt",
    "retrieval_bm25": "retrieval, by words",
    "retrieval_dense": "retrieval, by meaning",
    "retrieval_fused": "retrieval, fused",
    "whole_corpus": "whole corpus in the prompt",
    "tuned": "tuned",
    "tuned_with_retrieval": "tuned, retrieval glued on",
    "tuned_on_context": "tuned with context",
    "gold_passage": "gold passage",
    "wrong_passages": "wrong passages",
    "majority": "commonest answer",
    "linear": "classical model",
    "random_weights": "from random weights",
}
PROMPTED = ("zero_shot", "few_shot_fixed", "few_shot_nearest", "optimised_prompt")
RETRIEVAL = ("retrieval_bm25", "retrieval_dense", "retrieval_fused", "whole_corpus")
ADVICE = {
    **dict.fromkeys(PROMPTED, "Prompting is enough"),
    **dict.fromkeys(RETRIEVAL, "Look the answers up in your documents"),
    "tuned": "Tune the model",
    "tuned_with_retrieval": "Tune the model, and look answers up beside it",
    "tuned_on_context": "Tune the model with passages in its prompts, and look answers up",
}
MISSED = 0.8
"""Share of questions with the right passage among those shown, below which retrieval is what limits."""
FAR = 0.10
"""How far an arm must fall short for it to be said."""
PERFECT, GOOD, HOPELESS = 0.97, 0.9, 0.05


def name_of(arm: str) -> str:
    """Return an arm's name as people read it."""
    return NAMES.get(arm, arm.replace("_", " "))


def sentences(decision: Mapping[str, Any]) -> list[str]:
    """Return what follows from a decision, the advice first."""
    found, arms = decision.get("recommendation"), decision["arms"]
    if found is None:
        broken = "; ".join(f"{name_of(name)}: {', '.join(limits)}" for name, limits in decision.get("gates", {}).items())
        return [
            f"No way keeps to the limits that were set ({broken or 'none could be measured'}). Loosen one, or take another model."
        ]
    hopeless = _is_hopeless(decision, arms)
    return [
        *_unlike(decision, arms, hopeless=hopeless),
        *_advice(decision, found, hopeless=hopeless),
        *_warnings(decision, found, arms),
        *_flips(decision, found),
    ]


def _is_hopeless(decision: Mapping[str, Any], arms: Mapping[str, Any]) -> bool:
    """Whether no arm that could be chosen gets beyond a few points, even at the upper end of its interval."""
    score = decision["score"]
    highest = [arm["scores"][score]["high"] for arm in arms.values() if arm["offered"] and arm["scores"][score]["high"] is not None]
    return bool(decision["higher_is_better"] and highest and max(highest) <= HOPELESS)


def _advice(decision: Mapping[str, Any], found: Mapping[str, Any], *, hopeless: bool) -> Iterator[str]:
    arm, best, score, arms = found["arm"], found["best"], decision["score"], decision["arms"]
    value = arms[arm]["scores"][score]
    advice = "The cheapest of them all the same" if hopeless else ADVICE.get(arm, name_of(arm))
    yield (
        f"{advice}: {name_of(arm)} ({found['label']}). {score} {figure(value['mean'])} "
        f"({_range(value)}), on {value['n']:,} held-out rows."
    )
    if arm == best:
        yield "It is also the best of all that were measured."
    else:
        yield (
            f"The best is {name_of(best)} with {figure(arms[best]['scores'][score]['mean'])}; {name_of(arm)} is observed "
            f"{100 * found['behind'][arm]:.1f} points behind it, less than the margin of {100 * found['margin']:g}, and costs less."
        )
    if found["reasons"]:
        yield f"Provisional because of {'; '.join(found['reasons'])}."
    least = decision.get("detectable", {}).get("formula_at_20_percent_discordant")
    if least is not None and decision["rows"]["test"] < FEWEST_ROWS:
        yield f"So few rows show differences of about {100 * least:.0f} points, and smaller ones by luck."
    if found["label"] != "proven":
        needed = found["rows"]
        yield (
            f"More test rows are needed to prove that it is within the margin: about {_rounded(needed):,}."
            if needed is not None and needed > decision["rows"]["test"]
            else f"On {100 * found['chance']:.0f} % of resamples no other way is a margin ahead of it."
        )


def _unlike(decision: Mapping[str, Any], arms: Mapping[str, Any], *, hopeless: bool) -> Iterator[str]:
    """Say where the model is already perfect, or hopeless whatever is done."""
    if not decision["higher_is_better"]:
        return
    base = arms.get("zero_shot", {}).get("scores", {}).get(decision["score"], {})
    if base.get("low") is not None and base["low"] >= PERFECT:
        yield f"The base answers nearly all questions by itself ({_range(base)}): there is nothing left to gain."
    if hopeless:
        yield f"Nothing works with this model: no way gets beyond {100 * HOPELESS:g} points. Take a larger one before anything else is decided."


def _warnings(decision: Mapping[str, Any], found: Mapping[str, Any], arms: Mapping[str, Any]) -> Iterator[str]:
    """Say what stands in the way of an arm, and what the diagnostics tell."""
    score = decision["score"]

    def mean(name: str) -> float | None:
        value = arms.get(name, {}).get("scores", {}).get(score, {}).get("mean")
        return None if value is None else float(value) if decision["higher_is_better"] else -float(value)

    looking = [name for name in RETRIEVAL if mean(name) is not None]
    best = max(looking, key=lambda name: mean(name) or 0.0, default=None)
    gold, zero = mean("gold_passage"), mean("zero_shot")
    recall = (arms[best].get("recall") or {}).get("mean") if best is not None else None
    retrieval = mean(best) if best is not None else None
    missed = gold is not None and retrieval is not None and gold - max(retrieval, zero or 0.0) > FAR
    if missed and recall is not None and recall < MISSED:
        yield (
            f"Fix retrieval first: with the right passage {figure(gold)} would be reached, {name_of(best or '')} reaches {figure(retrieval)} because it "
            f"shows the right passage to only {100 * recall:.0f} % of the questions."
        )
    if gold is not None and zero is not None and gold - zero < 0.01 and zero < GOOD:
        yield f"Your documents do not hold the answers, or the model cannot read them: with the right passage {figure(gold)}, without any {figure(zero)}."
    glued, own = mean("tuned_with_retrieval"), mean("tuned")
    other = max([value for value in (own, retrieval) if value is not None], default=None)
    if glued is not None and other is not None and glued < other:
        yield f"Train with context, do not glue: passages put before a model tuned without them give {figure(glued)}, less than {figure(other)}."
    yield from _form_alone(arms, score)
    linear, chosen = mean("linear"), mean(found["arm"])
    if linear is not None and chosen is not None and linear > chosen:
        yield f"A classical model without any language model does better: {figure(linear)} against {figure(chosen)}."
    fresh = mean("random_weights")
    if fresh is not None and own is not None and own > fresh:
        yield f"What the base knew already is worth {100 * (own - fresh):.0f} points: the same network from random weights gets {figure(fresh)}."
    need = decision.get("data_need")
    if need is not None and need.get("overtakes") is not None:
        yield f"Tuning overtakes prompting ({name_of(need['prompted'])}) at about {_rounded(need['overtakes']):,} rows."
    if need is not None and "tuned" in need["doubling"]:
        doubled = need["doubling"]["tuned"]
        yield (
            f"The last doubling of the rows ({doubled['from']:,} to {doubled['to']:,}) brought tuning {100 * doubled['mean']:+.1f} points "
            f"({_points(doubled)}); the next one seldom brings more."
        )


def _form_alone(arms: Mapping[str, Any], score: str) -> Iterator[str]:
    """Say where tuning brought the form and nothing else: a strict score far above the base's, a lenient one that is not."""
    values = [
        arms.get(name, {}).get(kind, {}).get("mean")
        if kind == "lenient"
        else arms.get(name, {}).get("scores", {}).get(score, {}).get("mean")
        for kind in ("strict", "lenient")
        for name in ("zero_shot", "tuned")
    ]
    if None in values:
        return
    base, tuned, base_kindly, tuned_kindly = values
    if tuned - base > FAR and tuned_kindly - base_kindly < FAR / 5:
        yield (
            f"The weights learned the form, not the facts: read leniently, the base gets {figure(base_kindly)} already, and the tuned model "
            f"{figure(tuned_kindly)}."
        )


def _flips(decision: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    units = {"queries": "questions", "updates": "updates", "margin": "points of margin"}
    now = {"queries": decision["queries"], "updates": decision["updates"], "margin": found["margin"]}
    for flip in found["flips"]:
        quantity, value = flip["quantity"], flip["value"]
        shown = f"{100 * value:.1f}" if quantity == "margin" else f"{_rounded(value):,}"
        way = "more than" if value > now[quantity] else "less than"
        yield f"It would change to {name_of(flip['arm'])} with {way} {shown} {units[quantity]}."


def _rounded(value: float) -> int:
    """Return a number with two digits that mean something."""
    whole = round(value)
    power = max(0, len(str(abs(whole))) - 2)
    return round(whole, -power) if power else whole


def _range(value: Mapping[str, Any]) -> str:
    return "no interval" if value["low"] is None else f"95 % interval {figure(value['low'])} to {figure(value['high'])}"


def _points(value: Mapping[str, Any]) -> str:
    return "no interval" if value["low"] is None else f"95 % interval {100 * value['low']:+.1f} to {100 * value['high']:+.1f}"


# ------------------------------------------------------------------------------------------------------- the table people ask by

FAMILIES = {
    "prompting": PROMPTED,
    "retrieval": RETRIEVAL,
    "tuning": ("tuned",),
    "both": ("tuned_on_context", "tuned_with_retrieval"),
}
ASKED = (
    "general knowledge kept",
    "task quality",
    "own facts",
    "form of the answer",
    "latency",
    "ease of update",
    "labels needed",
    "best for",
)
BEST_FOR = {
    "prompting": "little to maintain; a model that can do the job already",
    "retrieval": "facts that stand in documents and change",
    "tuning": "labels, form and tone that are the same every time",
    "both": "facts from documents in a form of your own",
}


def asked(decision: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the best arm of each family, and the rows that people ask by with a word of each; "–" where nothing was measured."""
    arms, score = decision["arms"], decision["score"]
    sign = 1.0 if decision["higher_is_better"] else -1.0
    columns: list[tuple[str, str]] = []
    for family, names in FAMILIES.items():
        there = [name for name in names if name in arms and arms[name]["scores"][score]["mean"] is not None]
        if there:
            columns.append((family, max(there, key=lambda name: sign * arms[name]["scores"][score]["mean"])))
    rows = [(row, [_cell(decision, row, family, name) for family, name in columns]) for row in ASKED]
    return [f"{family}: {name_of(name)}" for family, name in columns], rows


def _cell(decision: Mapping[str, Any], row: str, family: str, name: str) -> str:
    """Return one cell of that table."""
    arm, score = decision["arms"][name], decision["score"]
    value = arm["scores"][score]
    if row == "general knowledge kept":
        if not arm["folder"]:
            return "all: the weights are the base's"
        general = (arm.get("forgetting") or {}).get("scores", {}).get("bits_per_byte", {}).get("difference")
        if not general or general["mean"] is None:
            return "–"
        return f"{general['mean']:+.2f} bits per byte on general text ({interval(general, signed=True)}, n {arm['forgetting']['scores']['bits_per_byte']['n']})"
    if row == "task quality":
        return f"{figure(value['mean'])} ({interval(value)}, n {value['n']})"
    if row == "own facts":
        new = arm["strata"].get("new") or (arm["strata"].get("all") if decision["documents"]["documents"] else None)
        return (
            "–"
            if not new or new["mean"] is None
            else f"{figure(new['mean'])} ({interval(new)}, n {new['n']}) on documents not learned from"
        )
    if row == "form of the answer":
        stops = arm["scores"].get("label_parse_rate") or arm["scores"].get("stop_rate")
        kinder = arm["lenient"]["mean"]
        told = (
            f"{figure(kinder)} ({interval(arm['lenient'])}, n {arm['lenient']['n']}) when read leniently"
            if kinder is not None
            else ""
        )
        return (
            ", ".join(
                part
                for part in (
                    f"{figure(stops['mean'])} ({interval(stops)}) in form" if stops and stops["mean"] is not None else "",
                    told,
                )
                if part
            )
            or "–"
        )
    if row == "latency":
        timed = arm.get("latency")
        return "–" if not timed else f"{timed['p50']:.0f} ms, 95 % within {timed['p95']:.0f} ms (n {timed['n']})"
    if row == "ease of update":
        cost = arm.get("cost")
        return "–" if cost is None else duration(cost["update_seconds"])
    return f"{arm['ledger']['labels']:,}" if row == "labels needed" else BEST_FOR[family]
