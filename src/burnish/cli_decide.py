"""The verb that compares ways to do a job: decide.

Enters: a run file and overrides. Leaves: what `api` gives back, shown. `cli` registers it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from burnish.cli_parts import AsJson, Overrides, RunFile


def decide(
    run: RunFile,
    overrides: Overrides = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="little effort for every way, in minutes; the choice is provisional")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure whether prompting, retrieval, tuning or both do the job, on the same held-out rows, and recommend one."""
    import json

    from burnish import api
    from burnish.terminal import print_json, watch

    folder = api.decide(run, *(overrides or []), quick=quick, watch=watch())
    decision = json.loads((folder / "decision.json").read_text(encoding="utf-8"))
    if as_json:
        print_json({"output": str(folder), **decision})
        return
    from rich.console import Console

    from burnish.decide.report import print_decision

    print_decision(decision, Console(highlight=False, markup=False))
