"""The verbs that carry out a run: check, tune, pretrain, demo.

Enters: a run file and overrides. Leaves: what `api` gives back, shown. `cli` registers them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.cli_parts import AsJson, Overrides, Resume, RunFile, show_report
from burnish.errors import UsageError


def check(run: RunFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Find every problem in run file and data at once, before any weights are read, and show what would be learned."""
    from burnish import api
    from burnish.terminal import print_json

    report = api.check(run, *(overrides or []))
    if as_json:
        print_json(report)
        return
    from rich.console import Console

    from burnish.data.report_terminal import print_data_report

    print_data_report(report, Console(highlight=False))
    print("\nNothing stands in the way. Next: burnish tune " + str(run))


def tune(
    run: RunFile,
    overrides: Overrides = None,
    resume: Resume = False,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="only try learning rates in short trials, and say which is best")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tune a model as a run file says, measure it beside its base, and write a report."""
    from burnish import api
    from burnish.terminal import watch

    if find_lr and resume:
        raise UsageError("--find-lr tries rates from the start of a run, so it cannot go with --resume. Give one of the two.")
    if find_lr:
        _show_search(api.find_learning_rate(run, *(overrides or []), watch=watch()), run, as_json=as_json)
        return
    show_report(api.tune(run, *(overrides or []), resume=resume, watch=watch()), as_json=as_json)


def _show_search(found: dict[str, Any], run: Path, *, as_json: bool) -> None:
    """Print which learning rates were tried, and what to write into the run file."""
    from burnish.terminal import print_json, print_rows

    if as_json:
        print_json(found)
        return
    tried: dict[str, Callable[[dict[str, Any]], str]] = {
        "rate": lambda trial: f"{trial['rate']:g}",
        "dev loss": lambda trial: "-" if trial["loss"] is None else f"{trial['loss']:.4g}",
        "note": lambda trial: trial["note"],
    }
    print_rows(found["trials"], tried)
    print(f"\nDev loss after {found['steps']} steps, on {found['rows']} rows; of the untuned model {found['before']:.4g}.")
    if found["chosen"] is None:
        print("No rate made it better by more than noise. Look at the data, or try a longer run (train.epochs, train.steps).")
    else:
        rate = found["chosen"]
        print(f"In {run}: train.learning_rate = {rate:g}  (by itself: {found['usual']:g}, from {found['why_usual']})")
        print(f"Or once: burnish tune {run} train.learning_rate={rate:g}")
    print(f"Written to {found['file']}; the run was not started.")


def pretrain(run: RunFile, overrides: Overrides = None, resume: Resume = False, as_json: AsJson = False) -> None:
    """Train a model from random weights: [model] init = "llama", its tokenizer learned from the same texts, or "vit", for pictures."""
    from burnish import api
    from burnish.terminal import watch

    show_report(api.pretrain(run, *(overrides or []), resume=resume, watch=watch()), as_json=as_json)


def demo(
    output: Annotated[str, typer.Option("--output", help="run directory; a finished demo there is replaced")] = "runs/demo",
    as_json: AsJson = False,
) -> None:
    """Run the whole job on the bundled model and sample rows."""
    from burnish import api
    from burnish.terminal import say, watch
    from burnish.usecases import find

    say("The demo: a help desk's messages are sorted into 14 categories by the bundled model, before and after tuning.")
    show_report(api.demo(output, watch=watch()), as_json=as_json)
    say(f'Try it: burnish generate {output} --prompt "{find("support").prompt}"\nOpen:   {output}/report.html')
