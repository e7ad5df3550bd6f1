"""Finish a run: save the tuned model, measure it beside its base and a linear baseline on held-out rows, and write the report.

Enters: a plan, a run directory and the tuned model. Leaves: `model/`, `answers.jsonl`, `report.json` and `report.html`.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from burnish import __version__, atomic, report, runs
from burnish.baseline import Baseline, linear_baseline
from burnish.evaluate import Asking, answer, compare, examples_table, resolve_scores
from burnish.forgetting import HEAD, changed, general_answers, general_probe, not_applicable
from burnish.models import Model, load_model, save_model
from burnish.prepare import Plan, seen_by
from burnish.types import Answer, Score, Task


def conclude(
    plan: Plan, run: runs.Run, model: Model, *, progress: Mapping[str, Any], asking: Asking, say: Callable[[str], None]
) -> dict[str, Any]:
    """Save the model, measure it on the test rows beside its base, write the report, and return what report.json holds."""
    atomic.write_directory(
        run.model, lambda folder: save_model(model, folder, settings=plan.settings()), manifest={"step": progress["step"]}
    )
    settings = plan.resolved.config
    tasks = plan.tasks("test")
    facts = run_facts(plan, model, progress)
    if not tasks:
        written = {
            "schema": 1,
            "run": facts,
            "scores": {},
            "headline": None,
            "verdict": "No rows were held out, so nothing was measured.",
            "notes": plan.notes,
            **_forgotten(plan, model, asking, say),
        }
        report.write_report(run, written)
        return written
    scores = resolve_scores(settings.score)
    say(f"Measuring the tuned model and its base on {len(tasks)} held-out rows")
    arms: dict[str, Sequence[Answer]] = {"tuned": answer(model, plan.renderer, tasks, scores, asking)}
    arms = {"base": base_answers(plan, model, tasks, scores, asking), **arms}
    baseline = linear_baseline(plan.tasks("train"), tasks, seed=settings.seed) if settings.evaluate.baseline else None
    written = measured(tasks, arms, scores, baseline=baseline, seed=settings.seed)
    written = {
        "schema": 1,
        "run": facts,
        **written,
        "notes": [*plan.notes, *plan.gathered.notes],
        "best_step": progress["best_step"] or progress["step"],
        **_forgotten(plan, model, asking, say),
    }
    if progress["stopped_early"]:
        written["stopped_early"] = progress["step"]
    _write_answers(run, tasks, arms)
    report.write_report(run, written)
    return written


def base_answers(plan: Plan, model: Model, tasks: Sequence[Task], scores: Mapping[str, Score], asking: Asking) -> list[Answer]:
    """Return the answers of the model as it was before tuning."""
    with before_tuning(plan, model) as before:
        return answer(before, plan.renderer, tasks, scores, asking)


@contextmanager
def before_tuning(plan: Plan, model: Model) -> Iterator[Model]:
    """Give the model as it was before tuning inside the `with` block: the adapter switched off, or the base loaded again."""
    if plan.technique.reference == "adapter_off":
        with model.network.disable_adapter():
            yield model
        return
    before = load_model(plan.found.name, model.target)
    try:
        yield before
    finally:
        del before
        gc.collect()


def _forgotten(plan: Plan, model: Model, asking: Asking, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the part of the report on what the run cost elsewhere, nothing where it was not to be measured."""
    settings = plan.resolved.config
    if not getattr(settings.evaluate, "forgetting", False):
        return {}
    if plan.objective.head is not None:
        return {"forgetting": not_applicable(HEAD)}
    say("Measuring what was forgotten: general questions to the base and to the tuned model")
    asked = general_probe(seen_by(plan.found))
    with before_tuning(plan, model) as before:
        first = general_answers(before, plan.renderer, asked, between=asking.between)
    del before  # two models need not lie in memory while the second is asked
    after = general_answers(model, plan.renderer, asked, between=asking.between)
    return {"forgetting": changed(first, after, asked, seed=settings.seed)}


def measured(
    tasks: Sequence[Task],
    arms: Mapping[str, Sequence[Answer]],
    scores: Mapping[str, Score],
    *,
    baseline: Baseline | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the measured part of a report: scores with intervals, the headline, a verdict in words, and examples to read."""
    table = compare(arms, tasks, scores, seed=seed)
    if baseline is not None:
        beside = compare(
            {**arms, "baseline": baseline.answers}, tasks, {n: s for n, s in scores.items() if n != "stop_rate"}, seed=seed
        )
        for name, row in beside.items():
            if "baseline" in row:
                table[name]["baseline"] = row["baseline"]
    headline = next(iter(table))
    found = {
        "scores": table,
        "headline": headline,
        "verdict": report.verdict(table, headline),
        "examples": examples_table(arms, tasks),
    }
    return found | ({"baseline": {"name": baseline.name, "seconds": round(baseline.seconds, 2)}} if baseline is not None else {})


def run_facts(plan: Plan, model: Model, progress: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report says of the run itself."""
    settings = plan.resolved.config
    total, moving = model.parameters()
    seconds = float(progress["seconds"])
    return {
        "name": settings.output,
        "model": str(settings.model),
        "technique": settings.technique.name,
        "objective": settings.objective.name,
        "steps": progress["step"],
        "seconds": round(seconds, 1),
        "tokens": progress["tokens"],
        "tokens_per_second": round(progress["tokens"] / seconds, 1) if seconds else None,
        "parameters": total,
        "trainable": moving,
        "device": f"{model.target.name}, weights {model.target.dtype}, products {model.target.products}, {model.target.threads} threads",
        "burnish": __version__,
        "finished": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def _write_answers(run: runs.Run, tasks: Sequence[Task], arms: Mapping[str, Sequence[Answer]]) -> None:
    """Write every held-out row with every arm's answer, one JSON line each, for whoever wants to look closer."""
    lines = []
    for number, task in enumerate(tasks):
        row: dict[str, Any] = {"origin": str(task.origin), "group": task.group}
        if task.text is None:
            row["expected"] = task.expected.texts[0] if task.expected.texts else ""
        for arm, answers in arms.items():
            given = answers[number]
            row[arm] = (
                {"text": given.text, "stopped": given.stopped}
                if task.text is None
                else {"nll": given.nll, "bytes": given.nll_bytes}
            )
        lines.append(json.dumps(row, ensure_ascii=False))
    runs.write_text(run.path / "answers.jsonl", "".join(line + "\n" for line in lines))
