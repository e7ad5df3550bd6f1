"""Finish a run: save the tuned model, measure it beside its base and a classical baseline on held-out rows, and write the report.

Enters: a plan, a run directory and the tuned model. Leaves: `model/`, `answers.jsonl`, `report.json` and `report.html`.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from burnish import __version__, atomic, report, runs
from burnish.baseline import Baseline, linear_baseline
from burnish.evaluate import Asking, against, compare, each_slice, examples_table, fitting_scores, resolve_scores
from burnish.finish_answers import answers_of, asking_of, rows_of, zero_shot
from burnish.finish_classes import by_class
from burnish.finish_heads import head_on_frozen_base, heads_alone, with_threshold
from burnish.finish_pictures import GUARDS, guards, ignored, worst_rows
from burnish.finish_single import compare_singles
from burnish.forgetting import HEAD, changed, general_answers, general_probe, not_applicable
from burnish.models import Model, load_model, save_model
from burnish.prepare import Plan, seen_by
from burnish.prepare_pictures import eye_of
from burnish.prepare_task import TaskPlan
from burnish.types import Answer, Score, Task

BESIDE = ("zero_shot", "baseline", *GUARDS)
"""Arms that stand beside base and tuned model and are not compared with the base."""


def conclude(
    plan: Plan,
    run: runs.Run,
    model: Model,
    *,
    progress: Mapping[str, Any],
    asking: Asking,
    say: Callable[[str], None],
    before: Mapping[str, Sequence[Answer]] | None = None,
    worth: Mapping[str, Score] | None = None,
) -> dict[str, Any]:
    """Save the model, measure it on the test rows beside its base, write the report, and return what report.json holds.

    `before` holds what the policy preferred before step 0, by task, where an objective compares with that. `worth` is the reward that
    attempts worked for, as a score, by task ("" for the only one).
    """
    plan = with_threshold(plan, model, between=asking.between)
    atomic.write_directory(
        run.model, lambda folder: save_model(model, folder, settings=plan.settings()), manifest={"step": progress["step"]}
    )
    facts = run_facts(plan, model, progress)
    held_out = {name: tasks for name, part in plan.parts.items() if (tasks := rows_of(part, "test"))}
    if not held_out:
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
    say(f"Measuring the tuned model and its base on {sum(map(len, held_out.values()))} held-out rows")
    found, arms = side_by_side(plan, model, held_out, asking=asking, say=say, before=before, worth=worth)
    notes = [*plan.notes, *(note for part in plan.parts.values() for note in part.gathered.notes)]
    written = {
        "schema": 1,
        "run": facts,
        **found,
        "notes": list(dict.fromkeys(notes)),
        "best_step": progress["best_step"] or progress["step"],
        **_forgotten(plan, model, asking, say),
    }
    if progress["stopped_early"]:
        written["stopped_early"] = progress["step"]
    _write_answers(run, held_out, arms)
    for name, tasks in held_out.items():
        eye = eye_of(plan.parts[name])
        if eye is not None and (missed := worst_rows(arms[name]["tuned"], tasks, eye.shown)) is not None:
            atomic.write_file(run.path / report.MISTAKES, missed)
    report.write_report(run, written)
    return written


def side_by_side(
    plan: Plan,
    model: Model,
    held_out: Mapping[str, Sequence[Task]],
    *,
    asking: Asking,
    say: Callable[[str], None],
    before: Mapping[str, Sequence[Answer]] | None = None,
    worth: Mapping[str, Score] | None = None,
    draws: int | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, Sequence[Answer]]]]:
    """Return the measured part of a report on held-out rows, tuned model, base and what stands beside them, and by task every arm's answers.

    `before` and `worth` are those of `conclude`; `draws` is the seed of the intervals, that of the run unless given.
    """
    arms = _arms(plan, model, held_out, asking, before or {})
    measures = {
        name: _measure(plan.parts[name], tasks, arms[name], (worth or {}).get(name if len(plan.parts) > 1 else ""), draws)
        for name, tasks in held_out.items()
    }
    return {**together(measures), **compare_singles(plan, model, held_out, arms, asking=asking, say=say)}, arms


def _arms(
    plan: Plan,
    model: Model,
    held_out: Mapping[str, Sequence[Task]],
    asking: Asking,
    before: Mapping[str, Sequence[Answer]],
) -> dict[str, dict[str, Sequence[Answer]]]:
    """Return by task the answers of base and tuned model, and where a head reads them, of the base that writes them instead."""
    tuned = _answers(plan, model, held_out, asking)
    base = base_answers(plan, model, held_out, asking)
    # What a preference objective compares with is the policy before step 0, which prompt methods do not begin at the base.
    first = {**base, **before}
    written = zero_shot(plan, model.target, held_out, asking)
    arms: dict[str, dict[str, Sequence[Answer]]] = {}
    for name in held_out:
        arms[name] = {"base": base[name], "tuned": preferred(plan.parts[name], tuned[name], first[name])}
        if name in written:
            arms[name]["zero_shot"] = written[name]
        arms[name] |= guards(model, plan.parts[name], held_out[name], asking_of(plan.parts[name], asking))
    return arms


def _measure(
    part: TaskPlan, tasks: Sequence[Task], arms: Mapping[str, Sequence[Answer]], worth: Score | None, draws: int | None
) -> dict[str, Any]:
    """Return the measured part of the report of one task, the classical baseline beside the arms where the run wants it."""
    settings, restores = part.config, part.rows.head is not None and part.rows.head.restores
    # What is masked stands in the encoder's tokens, which a baseline does not know.
    wanted = settings.evaluate.baseline and not restores
    baseline = linear_baseline(rows_of(part, "train"), tasks, seed=settings.seed) if wanted else None
    scores = resolve_scores(settings.score) | ({} if worth is None else {"reward": worth})
    return measured(tasks, arms, scores, baseline=baseline, seed=settings.seed if draws is None else draws)


def _answers(plan: Plan, model: Model, held_out: Mapping[str, Sequence[Task]], asking: Asking) -> dict[str, list[Answer]]:
    """Return a model's answers to the rows of each task."""
    found = {}
    for name, tasks in held_out.items():
        part = plan.parts[name]
        found[name] = answers_of(model, part, tasks, asking_of(part, asking))
    return found


def preferred(part: TaskPlan, tuned: Sequence[Answer], base: Sequence[Answer]) -> Sequence[Answer]:
    """Return the tuned model's answers with margins as its objective reads them: against the model before tuning, or as they are."""
    return against(tuned, base) if part.objective.preference == "ratio" and part.reads("reference") else tuned


def base_answers(plan: Plan, model: Model, held_out: Mapping[str, Sequence[Task]], asking: Asking) -> dict[str, list[Answer]]:
    """Return the answers of the model as it was before tuning, with a head of its own where the run gives it one."""
    with (
        before_tuning(plan, model, between=asking.between) as before,
        heads_alone(plan, before, held_out, between=asking.between) as settled,
    ):
        return _answers(settled, before, held_out, asking)


@contextmanager
def before_tuning(plan: Plan, model: Model, *, between: Callable[[], None] | None = None) -> Iterator[Model]:
    """Give the model as it was before tuning inside the `with` block: the adapter switched off, or the base loaded again.

    What is loaded from the folder of a run on top of another adapter holds both in one, which cannot be switched back to the first. A
    new head begins as random numbers, which nobody would use: the base is given one that learned from the same rows.
    """
    stacked = plan.found.adapter is not None and model.found.name != plan.found.name
    if plan.technique.reference == "adapter_off" and plan.has_base and not stacked:
        with model.network.disable_adapter():
            yield model
        return
    if plan.has_base:
        terms = plan.resolved.config.model.add_terms
        before = load_model(plan.found.name, model.target, head=plan.head, heads=plan.heads, terms=terms)
    else:
        before = head_on_frozen_base(plan, model.target, between=between)
    try:
        yield before
    finally:
        del before
        gc.collect()


def _forgotten(plan: Plan, model: Model, asking: Asking, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the part of the report on what the run cost elsewhere, nothing where it was not to be measured."""
    settings = plan.resolved.config
    if not settings.evaluate.forgetting:
        return {}
    if plan.head is not None:
        return {"forgetting": not_applicable(HEAD)}
    say("Measuring what was forgotten: general questions to the base and to the tuned model")
    asked, renderer = general_probe(seen_by(plan.found)), plan.first.renderer
    with before_tuning(plan, model) as before:
        first = general_answers(before, renderer, asked, between=asking.between)
    del before  # two models need not lie in memory while the second is asked
    after = general_answers(model, renderer, asked, between=asking.between)
    return {"forgetting": changed(first, after, asked, seed=settings.seed)}


def together(measures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the measured part of a report from those of its tasks: the only one, or all under their tasks' names."""
    if len(measures) == 1:
        return dict(next(iter(measures.values())))
    first = next(iter(measures))
    baselines = {name: one["baseline"] for name, one in measures.items() if "baseline" in one}
    found: dict[str, Any] = {
        "scores": {f"{name}/{score}": row for name, one in measures.items() for score, row in one["scores"].items()},
        "headline": f"{first}/{measures[first]['headline']}",
        "verdict": " ".join(f"{name}: {one['verdict']}" for name, one in measures.items()),
        "verdicts": {name: one["verdict"] for name, one in measures.items()},
        "examples": [{"task": name, **row} for name, one in measures.items() for row in one["examples"]],
    }
    if slices := {f"{name}/{part}": row for name, one in measures.items() for part, row in one.get("by_slice", {}).items()}:
        found["by_slice"] = slices
    if baselines:
        found["baseline"] = {
            "name": ", ".join(f"{name}: {one['name']}" for name, one in baselines.items()),
            "seconds": round(sum(one["seconds"] for one in baselines.values()), 2),
        }
    return found


def measured(
    tasks: Sequence[Task],
    arms: Mapping[str, Sequence[Answer]],
    scores: Mapping[str, Score],
    *,
    baseline: Baseline | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the measured part of a report: scores with intervals, the headline, a verdict in words, and examples to read.

    Rows that name a slice are measured a second time with their slice alone.
    """
    table = _scores_table(tasks, arms, scores, baseline, seed)

    def of_places(places: list[int]) -> dict[str, Any]:
        part = [tasks[place] for place in places]
        theirs = {arm: [answers[place] for place in places] for arm, answers in arms.items()}
        beside = baseline and replace(baseline, answers=tuple(baseline.answers[place] for place in places))
        return _scores_table(part, theirs, fitting_scores(scores, part), beside, seed)

    headline = next(iter(table))
    blind = ignored(arms, tasks, headline, scores[headline], seed=seed)
    found = {
        "scores": table,
        "headline": headline,
        "verdict": " ".join(filter(None, [blind, report.verdict(table, headline)])),
        "examples": examples_table(arms, tasks),
        **by_class(arms, tasks),
    }
    if slices := each_slice(tasks, of_places):
        found["by_slice"] = slices
    if baseline is None or not any("baseline" in row for row in table.values()):
        return found
    return found | {"baseline": {"name": baseline.name, "seconds": round(baseline.seconds, 2)}}


def _scores_table(
    tasks: Sequence[Task],
    arms: Mapping[str, Sequence[Answer]],
    scores: Mapping[str, Score],
    baseline: Baseline | None,
    seed: int,
) -> dict[str, Any]:
    """Return the scores of all arms with intervals.

    What is not compared with the base, a base that writes or a baseline, changes no figure of the others, nor which rows count.
    """
    main = {arm: answers for arm, answers in arms.items() if arm not in BESIDE}
    table = compare(main, tasks, scores, seed=seed)
    for arm in BESIDE:
        given, names = arms.get(arm), set(scores)
        if arm == "baseline" and baseline is not None:
            given, names = baseline.answers, set(baseline.scores or scores) & set(scores) - {"stop_rate"}
        if given is None or not names:
            continue
        beside = compare({**main, arm: given}, tasks, {name: score for name, score in scores.items() if name in names}, seed=seed)
        for name, row in beside.items():
            if arm in row:
                table[name][arm] = row[arm]
    return table


def measured_alike(
    tasks: Sequence[Task], arms: Mapping[str, Sequence[Answer]], scores: Mapping[str, Score], *, seed: int = 0
) -> dict[str, Any]:
    """Return scores with intervals of arms of which none is the base of another, each compared with the first, and examples to read."""
    table = compare(arms, tasks, scores, seed=seed, difference_from=next(iter(arms)))
    return {"scores": table, "headline": next(iter(table)), "examples": examples_table(arms, tasks)}


def run_facts(plan: Plan, model: Model, progress: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report says of the run itself."""
    settings = plan.resolved.config
    total, moving = model.parameters()
    seconds = float(progress["seconds"])
    return {
        "name": settings.output,
        "model": str(settings.model),
        "technique": settings.technique.name,
        "objective": ", ".join(dict.fromkeys(part.config.objective.name for part in plan.parts.values())),
        "steps": progress["step"],
        "seconds": round(seconds, 1),
        "tokens": progress["tokens"],
        "tokens_per_second": round(progress["tokens"] / seconds, 1) if seconds else None,
        "parameters": total,
        "trainable": moving,
        "peak_memory_gb": round(progress["memory"] / 1e9, 2),
        "device": f"{model.target.name}, weights {model.target.dtype}, products {model.target.products}, {model.target.threads} threads",
        "burnish": __version__,
        "finished": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def _write_answers(
    run: runs.Run, held_out: Mapping[str, Sequence[Task]], arms: Mapping[str, Mapping[str, Sequence[Answer]]]
) -> None:
    """Write every held-out row with every arm's answer, one JSON line each, for whoever wants to look closer."""
    lines = []
    for name, tasks in held_out.items():
        for number, task in enumerate(tasks):
            row: dict[str, Any] = {"task": name} if len(held_out) > 1 else {}
            row |= {"origin": str(task.origin), "group": task.group}
            if task.text is None:
                number_expected = "" if task.expected.number is None else f"{task.expected.number:g}"
                row["expected"] = task.expected.texts[0] if task.expected.texts else number_expected
            for arm, answers in arms[name].items():
                given = answers[number]
                row[arm] = (
                    {"text": given.text, "stopped": given.stopped}
                    if task.text is None
                    else {"nll": given.nll, "bytes": given.nll_bytes}
                )
            lines.append(json.dumps(row, ensure_ascii=False))
    runs.write_text(run.path / "answers.jsonl", "".join(line + "\n" for line in lines))
