"""A decision from beginning to end: the order in which arms are carried out, measured, compared and reported.

Enters: a resolved run. Leaves: `decision.json` and `decision.html` in the run directory, with everything that is finished kept in `decide/` below it, so
that an interrupted decision goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from burnish import __version__, atomic, locks, retrieval_store, runs
from burnish.config import Resolved, model_reference
from burnish.data.fields import shown
from burnish.decide import measure
from burnish.decide.arms import ARMS, chosen, refuse_unknown
from burnish.decide.bench import Bench, Setting, gold, questions_of, statistics
from burnish.decide.carry_out import Effort, Result, attempt, model_of
from burnish.decide.costs import break_evens, costs
from burnish.decide.need import data_need
from burnish.decide.protocol import Rows, closed_book, divide, refuse_kinds
from burnish.decide.recommendation import Candidate, Recommendation, recommend
from burnish.decide.report import write_report
from burnish.decide.statistics import Comparison, compare, detectable, detectable_between, difference, holm, mcnemar
from burnish.decide.update import knowledge_update
from burnish.decide.words import sentences
from burnish.devices import choose_device
from burnish.errors import ConfigError, RunError, UsageError
from burnish.forgetting import changed, general_answers, general_probe
from burnish.gather import gather
from burnish.models import Model, find_model, load_model
from burnish.prepare import Plan, prepare, seen_by
from burnish.retrieval import Embed, Index, build, update
from burnish.scores import groups_of, intervals
from burnish.tune import Watch
from burnish.types import Score

DECISION_JSON, DECISION_HTML, FOLDER = "decision.json", "decision.html", "decide"
QUICK: Mapping[str, int] = {"trials": 2, "train_rows": 600, "dev_rows": 40, "test_rows": 150, "probe_rows": 16, "facts": 6}
"""What a quick decision is held to; smaller values of the run file stay."""


def decide(resolved: Resolved, *, quick: bool = False, watch: Watch | None = None) -> Path:
    """Carry out a decision and return its run directory.

    Raises ConfigError or DataError before anything is written where it cannot be made, Stopped after a clean stop.
    """
    watch = watch or Watch()
    if quick:
        resolved = _quick(resolved)
    watch.say("Reading and checking the data")
    refuse_kinds(resolved.config)
    refuse_unknown(resolved.config.decide.arms)
    seen = None if resolved.config.model.is_fresh else seen_by(find_model(model_reference(resolved)))
    gathered = gather(resolved.config, resolved.base, seen=seen)
    if pictured := next((row for side in gathered.examples.values() for row in side if shown(row)), None):
        raise ConfigError(
            f"{pictured.origin}: this row shows a picture, and the ways that decide compares read texts. Tune a model of pictures."
        )
    rows = divide(gathered, resolved.config, base=resolved.base)
    output = Path(resolved.config.output)
    atomic.make_directory(output / FOLDER)
    lock = locks.take(output / FOLDER)
    try:
        plan = prepare(closed_book(resolved, gathered, output / FOLDER))
        _freeze(rows, output / FOLDER)
        for line in (*rows.notes, *rows.warnings):
            watch.say(line)
        written = _decided(plan, rows, output, Effort(resolved.config.decide.trials, quick, watch))
        write_report(output, written)
    finally:
        locks.release(lock)
    watch.say(f"Decision: {output / DECISION_HTML}")
    return output


def _quick(resolved: Resolved) -> Resolved:
    """Return the run with little effort for every arm alike."""
    settings = resolved.config.decide
    less = {name: limit if (value := getattr(settings, name)) is None else min(value, limit) for name, limit in QUICK.items()}
    return replace(resolved, config=resolved.config.model_copy(update={"decide": settings.model_copy(update=less)}))


def _freeze(rows: Rows, folder: Path) -> None:
    """Write down the held-out rows before anything is measured; UsageError where a decision on other rows was begun here."""
    file = folder / "test.json"
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))["sha256"]
        if before != rows.test_hash:
            raise UsageError(
                f"{folder} holds a decision on other held-out rows, and figures on both must not be mixed. Choose another folder with output=DIR, "
                f"or delete {folder}."
            )
    runs.write_json(file, {"sha256": rows.test_hash, "rows": [[item.id, item.stratum] for item in rows.test]})


# --------------------------------------------------------------------------------------------------------------------- carrying out


def _bench(plan: Plan, rows: Rows, output: Path) -> tuple[Bench, float]:
    """Return the bench, and the seconds that the index of the documents took; one that is there already is brought up to date."""
    config = plan.resolved.config
    target = choose_device(config.dtype, moves_base=False, threads=config.threads)
    embed: Embed | None = None
    if config.decide.embedder is not None:
        from burnish.retrieval_dense import open_embedder

        embed = open_embedder(config.decide.embedder, device=target.name)
    started = time.perf_counter()
    index = _index(rows, output / FOLDER / "index", plan, embed) if rows.documents else None
    seconds = time.perf_counter() - started
    model = load_model(plan.found.name, target)
    return Bench(plan, rows, output / FOLDER, model, index, questions_of(rows.train), rows.train, embed), seconds


def _index(rows: Rows, folder: Path, plan: Plan, embed: Embed | None) -> Index:
    """Return the index of the documents, kept in the folder."""
    settings = plan.resolved.config.decide
    try:
        before = retrieval_store.read(folder)
    except RunError:
        before = None
    if before is not None and (before.size, before.embedder) == (settings.passage_size, settings.embedder):
        names = {document.name for document in rows.documents}
        index = update(before, rows.documents, remove=[name for name in before.digests if name not in names], embed=embed)
    else:
        index = build(rows.documents, size=settings.passage_size, embed=embed, embedder=settings.embedder)
    retrieval_store.write(index, folder)
    return index


def _decided(plan: Plan, rows: Rows, output: Path, effort: Effort) -> dict[str, Any]:
    """Return everything that decision.json holds."""
    bench, index_seconds = _bench(plan, rows, output)
    settings = bench.settings
    arms, left = chosen(
        settings.arms,
        documents=bench.index is not None,
        embedder=bench.embed is not None,
        evidence=any(gold(bench, item) for item in rows.test[:50]),
        corpus_fits=_corpus_fits(bench),
    )
    done, failed = attempt(bench, arms, effort)
    if not done:
        raise RunError("No arm could be carried out: " + "; ".join(f"{name}: {reason}" for name, reason in failed.items()))
    written = _frame(bench, effort, done, left, failed)
    need = data_need(bench, done, effort)
    probes = _probes(bench, done, effort)
    updated = knowledge_update(bench, done, effort) if settings.facts and bench.index is not None else None
    groups = groups_of([item.task for item in rows.test])
    score = bench.scores[bench.headline]
    table = statistics(bench, {name: result.said.answers for name, result in done.items()}, rows.test, bench.headline)
    comparison = compare(table, groups, score, seed=plan.resolved.config.seed)
    spent = costs(bench, done, probes["latency"], index_seconds, updated)
    candidates = [
        Candidate(name, spent[name]["cost"], ARMS[name].parts, _broken(bench, name, probes), ARMS[name].offered)
        for name in done
        if name in spent
    ]
    provisional = ["a quick decision with little effort for each arm"] if effort.quick else []
    found = recommend(
        candidates,
        comparison,
        margin=settings.margin,
        queries=settings.queries,
        updates=settings.updates,
        provisional=provisional,
    )
    written["arms"] = {
        name: _arm(bench, name, result, comparison, table, groups, probes, spent, found) for name, result in done.items()
    }
    written |= {
        "data_need": need,
        "update": updated,
        "recommendation": _told(found),
        "gates": {one.name: one.failed for one in candidates if one.failed},
    }
    written["break_even"] = None if found is None else break_evens(spent, found.arm, updates=settings.updates)
    written["detectable"] = _detectable(bench, comparison, found)
    return written | {"sentences": sentences(written)}


def _corpus_fits(bench: Bench) -> bool:
    """Whether all documents fit beside a question."""
    if bench.index is None:
        return False
    tokens = 0
    for document in bench.rows.documents:
        tokens += len(bench.model.tokenizer(document.text, add_special_tokens=False)["input_ids"])
        if tokens > bench.room:
            return False
    return tokens + max(bench.tokens(item.task) for item in bench.rows.test) + 8 * len(bench.rows.documents) <= bench.room


def _frame(
    bench: Bench, effort: Effort, done: Mapping[str, Result], left: Mapping[str, str], failed: Mapping[str, str]
) -> dict[str, Any]:
    """Return what is said of the decision as a whole."""
    config, rows = bench.plan.resolved.config, bench.rows
    names = {document.name for document in rows.documents}
    strata = {item.stratum for item in rows.test}
    return {
        "schema": 1,
        "burnish": __version__,
        "finished": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "name": config.output,
        "run_file": None if bench.plan.resolved.file is None else str(bench.plan.resolved.file.name),
        "model": str(config.model),
        "technique": config.technique.name,
        "quick": effort.quick,
        "trials": effort.trials,
        "seed": config.seed,
        "score": bench.headline,
        "scores": list(bench.scores),
        "higher_is_better": bench.scores[bench.headline].higher_is_better,
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


def _probes(bench: Bench, done: Mapping[str, Result], effort: Effort) -> dict[str, Any]:
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


def _broken(bench: Bench, name: str, probes: Mapping[str, Any]) -> tuple[str, ...]:
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


# ----------------------------------------------------------------------------------------------------------------- what is reported


def _arm(
    bench: Bench,
    name: str,
    result: Result,
    comparison: Comparison,
    table: Mapping[str, Any],
    groups: list[str],
    probes: Mapping[str, Any],
    spent: Mapping[str, Any],
    found: Recommendation | None,
) -> dict[str, Any]:
    """Return what decision.json says of one arm."""
    items, said, arm = bench.rows.test, result.said, result.arm
    kinder = [measure.lenient(one, item.task) for one, item in zip(said.answers, items, strict=True)]
    scores = {}
    for other, score in bench.scores.items():
        if score.needs == "text":
            scores[other] = _valued(bench, said.answers, items, other, score, groups)
    strata = {}
    for stratum in dict.fromkeys(item.stratum for item in items):
        places = [place for place, item in enumerate(items) if item.stratum == stratum]
        some = [items[place] for place in places]
        strata[stratum] = _valued(
            bench,
            [said.answers[place] for place in places],
            some,
            bench.headline,
            bench.scores[bench.headline],
            [groups[place] for place in places],
        )
    written: dict[str, Any] = {
        "about": arm.about,
        "offered": arm.offered,
        "parts": arm.parts,
        "chosen": result.setting.told(),
        "scores": scores,
        "lenient": _valued(bench, kinder, items, bench.headline, bench.scores[bench.headline], groups),
        "strata": strata,
        "tokens": {
            "prompt": sum(said.prompt_tokens) / len(items),
            "answer": sum(one.tokens for one in said.answers) / len(items),
        },
        "errors": measure.errors(bench, arm, items, said),
        "recall": measure.recall(bench, items, said) if arm.looks or arm.passages == "corpus" else None,
        "latency": probes["latency"].get(name),
        "consistency": probes["consistency"].get(name),
        "abstention": probes["abstention"].get(name),
        "ledger": {
            "labels": result.ledger.labels,
            "trials": len(result.ledger.trials),
            "seconds": result.ledger.seconds,
            "tried": result.ledger.trials,
        },
        "forgetting": probes["forgetting"].get(name),
        "memory": probes["memory"].get(name),
        "folder": None if result.folder is None else str(result.folder),
    }
    if name in spent:
        written["cost"] = {**asdict(spent[name]["cost"]), **{key: item for key, item in spent[name].items() if key != "cost"}}
    if found is not None and name != found.arm:
        other = {key: table[key] for key in (found.arm, name)}
        written["against_chosen"] = difference(other, groups, bench.scores[bench.headline], name, found.arm)
        if comparison.correct:
            only, theirs, chance = mcnemar(comparison.correct[name], comparison.correct[found.arm])
            written["against_chosen"] |= {"only_right": only, "only_chosen_right": theirs, "probability": chance}
    return written


def _valued(bench: Bench, answers: Any, items: Any, name: str, score: Score, groups: list[str]) -> dict[str, Any]:
    """Return the value of one score with interval and rows."""
    row = intervals(score, statistics(bench, {"arm": answers}, items, name), groups, seed=bench.plan.resolved.config.seed)
    return {**row["arm"], "n": row["n"], "groups": row["groups"], **({"note": row["note"]} if "note" in row else {})}


def _told(found: Recommendation | None) -> dict[str, Any] | None:
    """Return the recommendation as plain values."""
    return None if found is None else asdict(found)


def _detectable(bench: Bench, comparison: Comparison, found: Recommendation | None) -> dict[str, Any]:
    """Return which differences these rows can show: by formula for right or wrong, and between the chosen arm and each other as measured."""
    told: dict[str, Any] = {"formula_at_20_percent_discordant": detectable(comparison.rows, 0.2), "rows": comparison.rows}
    if found is not None:
        others = [name for name in found.behind if name != found.arm]
        told["measured"] = {name: detectable_between(comparison, found.arm, name) for name in others}
        if comparison.correct and others:
            chances = {name: mcnemar(comparison.correct[name], comparison.correct[found.arm])[2] for name in others}
            told["holm"] = holm(chances)
    return told
