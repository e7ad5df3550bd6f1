"""The verbs that ask a model, or make another of it: evaluate, generate, chat, merge.

Enters: a model by name, and rows or prompts. Leaves: what `api` gives back, shown. `cli` registers them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.cli_parts import AsJson, Columns, Format, Limit, as_columns, show_scores
from burnish.errors import UsageError

if TYPE_CHECKING:
    from burnish.merge_mixture import Mixed

OneTask = Annotated[str | None, typer.Option("--task", help="of a run with several tasks: this one")]


def evaluate(
    models: Annotated[list[str], typer.Argument(metavar="RUN_DIR|MODEL…", help="one, or several to compare on the same rows")],
    data: Annotated[
        str | None, typer.Option("--data", help="rows to score on; not given: those that the (first) run held out")
    ] = None,
    score: Annotated[list[str] | None, typer.Option("--score", help="a score by name; repeatable (burnish ls scores)")] = None,
    limit: Limit = None,
    format: Format = "auto",
    column: Columns = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="longest answer")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="of the resampling for the intervals; not given: the run's")] = None,
    task: OneTask = None,
    measure: Annotated[
        list[str] | None,
        typer.Option("--measure", help="also consistency, abstention, calibration or forgetting; repeatable"),
    ] = None,
    slice: Annotated[
        list[str] | None, typer.Option("--slice", help="scores by label, length, file or a column of the rows; repeatable")
    ] = None,
    worst: Annotated[int, typer.Option("--worst", min=0, help="show so many of the rows that are answered worst")] = 0,
    paraphrases: Annotated[
        str | None, typer.Option("--paraphrases", help="for consistency: a file with the columns question and paraphrases")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="a model, or the address of a server, that says which answer is better")
    ] = None,
    judge_model: Annotated[str | None, typer.Option("--judge-model", help="of a server with several models: this one")] = None,
    people: Annotated[
        str | None, typer.Option("--people", help="pairs that people decided, by which the judge is measured first")
    ] = None,
    harness: Annotated[
        str | None, typer.Option("--harness", help="tasks of lm-evaluation-harness, between commas (burnish[harness])")
    ] = None,
    harness_folder: Annotated[str | None, typer.Option("--harness-folder", help="folder of such tasks of your own")] = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on rows, with intervals; a tuned one beside its base, several beside each other."""
    from burnish import api
    from burnish.terminal import print_json, say

    more = api.More(
        measures=tuple(measure or ()),
        slices=tuple(slice or ()),
        worst=worst,
        paraphrases=paraphrases,
        judge=judge,
        judge_model=judge_model,
        people=people,
        harness=tuple(one.strip() for one in (harness or "").split(",") if one.strip()),
        harness_folder=harness_folder,
    )
    asked: dict[str, Any] = {
        "scores": score or (),
        "limit": limit,
        "format": format,
        "columns": as_columns(column),
        "max_tokens": max_tokens,
        "task": task,
        "more": more,
        "say": say,
    }
    if len(models) > 1:
        report = api.compare(models, data, seed=seed or 0, **asked)
    else:
        report = api.evaluate(models[0], data, seed=seed, **asked)
    if as_json:
        print_json(report)
    else:
        show_scores(report)


def generate(
    model: Annotated[str, typer.Argument(metavar="RUN_DIR|MODEL")],
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="what to answer; repeatable")] = None,
    data: Annotated[str | None, typer.Option("--data", help="a file of rows to answer")] = None,
    limit: Limit = None,
    format: Format = "auto",
    column: Columns = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="longest answer")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: the likeliest token each time")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0, help="only tokens of this joint probability")] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="only this many tokens; 0: all")] = 0,
    stop: Annotated[list[str] | None, typer.Option("--stop", help="end the answer at this text; repeatable")] = None,
    seed: Annotated[int, typer.Option("--seed", help="of the sampling")] = 0,
    task: OneTask = None,
    as_json: AsJson = False,
) -> None:
    """Answer prompts, or the rows of a file; a model with a head says what it reads as JSON."""
    from json import dumps

    from burnish import api
    from burnish.terminal import print_json

    rows = api.generate(
        model,
        prompt or None,
        data=data,
        format=format,
        columns=as_columns(column),
        limit=limit,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        stop=stop or (),
        seed=seed,
        task=task,
    )
    if as_json:
        print_json({"answers": rows})
        return
    for row in rows:
        # A head's figures are for programs as much as for people: labels with probabilities, spans, numbers.
        said = dumps(row["reading"], ensure_ascii=False) if "reading" in row else row["text"]
        print(said if len(rows) == 1 else f"> {row['prompt']}\n{said}\n")


def chat(
    model: Annotated[str, typer.Argument(metavar="RUN_DIR|MODEL")],
    system: Annotated[str | None, typer.Option("--system", help="system message; not given: the run's own")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="longest answer")] = 256,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: the likeliest token each time")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0, help="only tokens of this joint probability")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="of the sampling")] = 0,
    documents: Annotated[
        str | None, typer.Option("--documents", help="file, folder or index of documents that each question is looked up in")
    ] = None,
    passages: Annotated[int, typer.Option("--passages", min=1, help="passages of them above a question")] = 2,
    feedback: Annotated[str, typer.Option("--feedback", help="where /rate writes, as burnish rate does")] = "feedback.jsonl",
    as_json: AsJson = False,
) -> None:
    """Talk to a model in the terminal; /help lists what can be typed."""
    from burnish import starting

    starting.talk(
        model,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        as_json=as_json,
        documents=documents,
        passages=passages,
        feedback=feedback,
    )


def merge(
    models: Annotated[
        list[str], typer.Argument(metavar="RUN_DIR...", help="a run or the folder of an adapter; several with --weights")
    ],
    output: Annotated[str, typer.Option("--output", help="folder of the result")],
    weights: Annotated[
        str | None, typer.Option("--weights", help="one adapter of several: a weight for each, such as 0.6,0.4")
    ] = None,
    average: Annotated[
        float | None, typer.Option("--average", help="a share of what tuning changed, 0 (the base) to 1: the kind of model stays")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="for --average: what a whole model was tuned from")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="auto (that of the base), float32, bfloat16 or float16")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="write it although rounding would lose the update")] = False,
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into its base at full precision, or make one model of several; what comes out is compared with what went in."""
    from dataclasses import asdict

    from burnish.merge import merge as carry_out
    from burnish.terminal import print_json

    if len(models) > 1 or weights is not None or average is not None:
        if dtype != "auto" or force:
            raise UsageError("--dtype and --force belong to merging into the base; leave them out with --weights and --average.")
        made = _mixed(models, output, weights=weights, average=average, base=base)
        if as_json:
            print_json(asdict(made))
            return
        compared = "" if made.change is None else f" On {made.prompts} prompts the logits (up to {made.largest_logit:.3g}) differ"
        compared += "" if made.change is None else f" by {made.change:.2g} at most from those of the sum of the updates."
        print(
            f"{made.output}: {' + '.join(f'{one:g} × {name}' for one, name in zip(made.weights, made.models, strict=True))}.{compared}"
        )
        return
    if base is not None:
        raise UsageError("--base belongs to --average; an adapter knows its base.")
    done = carry_out(models[0], output, dtype=dtype, force=force)  # pyright: ignore[reportArgumentType]  (it says what is allowed)
    if as_json:
        print_json(asdict(done))
    else:
        print(
            f"{done.output}: {done.layers} layers merged in float32, stored as {done.dtype}. On {done.prompts} prompts the logits (up to "
            f"{done.largest_logit:.3g}) changed by {done.change:.2g} at most, and by {done.saved_change:.2g} after saving."
        )


def _mixed(models: list[str], output: str, *, weights: str | None, average: float | None, base: str | None) -> Mixed:
    """Make one model of several, or of a model and its base; UsageError where it is not said which of the two."""
    from burnish.merge_mixture import mix, towards_base

    if average is not None:
        if weights is not None or len(models) > 1:
            raise UsageError("--average takes one model; several are put together with --weights.")
        return towards_base(models[0], average, output, base=base)
    if base is not None:
        raise UsageError("--base belongs to --average; adapters know their base.")
    try:
        numbers = [float(part) for part in (weights or "").split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--weights {weights}: expected a number for each adapter, such as 0.6,0.4.") from None
    return mix(models, numbers, output)
