"""The verbs that ask a model: evaluate, generate, chat.

Enters: a model by name, and rows or prompts. Leaves: what `api` gives back, shown. `cli` registers them.
"""

from __future__ import annotations

from typing import Annotated

import typer

from burnish.cli_parts import AsJson, Columns, Format, Limit, as_columns, show_scores

OneTask = Annotated[str | None, typer.Option("--task", help="of a run with several tasks: this one")]


def evaluate(
    model: Annotated[str, typer.Argument(metavar="RUN_DIR|MODEL")],
    data: Annotated[str | None, typer.Option("--data", help="rows to score on; not given: the run's own held-out rows")] = None,
    score: Annotated[list[str] | None, typer.Option("--score", help="a score by name; repeatable (burnish ls scores)")] = None,
    limit: Limit = None,
    format: Format = "auto",
    column: Columns = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="longest answer")] = None,
    seed: Annotated[int, typer.Option("--seed", help="of the resampling for the intervals")] = 0,
    task: OneTask = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on rows, with intervals; a tuned one beside its base."""
    from burnish import api
    from burnish.terminal import print_json, say

    report = api.evaluate(
        model,
        data,
        scores=score or (),
        limit=limit,
        format=format,
        columns=as_columns(column),
        max_tokens=max_tokens,
        seed=seed,
        task=task,
        say=say,
    )
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
    """Answer prompts, or the rows of a file."""
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
        print(row["text"] if len(rows) == 1 else f"> {row['prompt']}\n{row['text']}\n")


def chat(
    model: Annotated[str, typer.Argument(metavar="RUN_DIR|MODEL")],
    system: Annotated[str | None, typer.Option("--system", help="system message; not given: the run's own")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="longest answer")] = 256,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: the likeliest token each time")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0, help="only tokens of this joint probability")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="of the sampling")] = 0,
    as_json: AsJson = False,
) -> None:
    """Talk to a model in the terminal; /help lists what can be typed."""
    from burnish import starting

    starting.talk(model, system=system, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed, as_json=as_json)


def merge(
    model: Annotated[str, typer.Argument(metavar="RUN_DIR", help="a run, or the folder of an adapter")],
    output: Annotated[str, typer.Option("--output", help="folder of the merged model")],
    dtype: Annotated[str, typer.Option("--dtype", help="auto (that of the base), float32, bfloat16 or float16")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="write it although rounding would lose the update")] = False,
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into its base at full precision, and compare the two."""
    from dataclasses import asdict

    from burnish.merge import merge as carry_out
    from burnish.terminal import print_json

    done = carry_out(model, output, dtype=dtype, force=force)  # pyright: ignore[reportArgumentType]  (it says what is allowed)
    if as_json:
        print_json(asdict(done))
    else:
        print(
            f"{done.output}: {done.layers} layers merged in float32, stored as {done.dtype}. On {done.prompts} prompts the logits (up to "
            f"{done.largest_logit:.3g}) changed by {done.change:.2g} at most, and by {done.saved_change:.2g} after saving."
        )
