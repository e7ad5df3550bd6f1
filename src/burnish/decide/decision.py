"""A decision from beginning to end: the order in which arms are carried out, measured, compared and reported.

Enters: a resolved run. Leaves: `decision.json` and `decision.html` in the run directory, with everything that is finished kept in `decide/` below it, so
that an interrupted decision goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from burnish import atomic, locks, runs
from burnish.config import Resolved, model_reference
from burnish.data.fields import shown
from burnish.decide.arms import ARMS, chosen, refuse_unknown
from burnish.decide.bench import Bench, gold
from burnish.decide.bench_open import FOLDER, corpus_fits, open_bench
from burnish.decide.carry_out import Effort, Result, attempt, statistics_of
from burnish.decide.costs import break_evens, costs
from burnish.decide.need import data_need
from burnish.decide.probes import limits_broken, probed
from burnish.decide.protocol import Rows, closed_book, divide, refuse_encoder, refuse_kinds
from burnish.decide.recommendation import Candidate, recommend
from burnish.decide.report import write_report
from burnish.decide.statistics import compare
from burnish.decide.told import Measured, told_of_all, told_of_arm, told_of_power
from burnish.decide.update import knowledge_update
from burnish.decide.words import sentences
from burnish.errors import ConfigError, RunError, UsageError
from burnish.gather import gather
from burnish.models import find_model
from burnish.prepare import Plan, prepare, seen_by
from burnish.scores import groups_of
from burnish.tune import Watch

DECISION_HTML = "decision.html"
QUICK: Mapping[str, int] = {
    "trials": 2,
    "seeds": 1,
    "train_rows": 600,
    "dev_rows": 40,
    "test_rows": 150,
    "probe_rows": 16,
    "facts": 6,
}
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
        refuse_encoder(plan)
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


def _decided(plan: Plan, rows: Rows, output: Path, effort: Effort) -> dict[str, Any]:
    """Return everything that decision.json holds."""
    bench, index_seconds = open_bench(plan, rows, output)
    done, left, failed = _carried_out(bench, effort)
    need = data_need(bench, done, effort) if bench.settings.data_need else None
    probes = probed(bench, done, effort)
    updated = knowledge_update(bench, done, effort) if bench.settings.facts and bench.index is not None else None
    spent = costs(bench, done, probes["latency"], index_seconds, updated)
    measured, gates = _compared(bench, done, probes, spent, quick=effort.quick)
    found = measured.found
    written = {
        **told_of_all(bench, effort, done, left, failed),
        "arms": {name: told_of_arm(bench, name, result, measured) for name, result in done.items()},
        "data_need": need,
        "update": updated,
        "recommendation": None if found is None else asdict(found),
        "gates": gates,
        "break_even": None if found is None else break_evens(spent, found.arm, updates=bench.settings.updates),
        "detectable": told_of_power(measured.comparison, found),
    }
    return written | {"sentences": sentences(written)}


def _carried_out(bench: Bench, effort: Effort) -> tuple[dict[str, Result], dict[str, str], dict[str, str]]:
    """Return the finished arms, those that cannot be carried out and those that failed, each with the reason; RunError where none is left."""
    arms, left = chosen(
        bench.settings.arms,
        documents=bench.index is not None,
        embedder=bench.embed is not None,
        evidence=any(gold(bench, item) for item in bench.rows.test[:50]),
        corpus_fits=corpus_fits(bench),
        head=bench.has_head,
    )
    done, failed = attempt(bench, arms, effort)
    if not done:
        raise RunError("No arm could be carried out: " + "; ".join(f"{name}: {reason}" for name, reason in failed.items()))
    return done, left, failed


def _compared(
    bench: Bench, done: Mapping[str, Result], probes: Mapping[str, Any], spent: Mapping[str, Any], *, quick: bool
) -> tuple[Measured, dict[str, tuple[str, ...]]]:
    """Return the comparison of all arms with the recommendation, and the limits that some of them break."""
    settings = bench.settings
    groups = groups_of([item.task for item in bench.rows.test])
    table = {name: statistics_of(bench, result) for name, result in done.items()}
    comparison = compare(table, groups, bench.scores[bench.headline], seed=bench.plan.resolved.config.seed)
    candidates = [
        Candidate(name, spent[name]["cost"], ARMS[name].parts, limits_broken(bench, name, probes), ARMS[name].offered)
        for name in done
        if name in spent
    ]
    found = recommend(
        candidates,
        comparison,
        margin=settings.margin,
        queries=settings.queries,
        updates=settings.updates,
        provisional=["a quick decision with little effort for each arm"] if quick else [],
    )
    return Measured(table, comparison, groups, probes, spent, found), {one.name: one.failed for one in candidates if one.failed}
