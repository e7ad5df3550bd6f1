"""The verb that hands a tuned model over to other programs: export.

Enters: a run directory or model, and a target. Leaves: a folder, and in words what was compared and how to use it. `cli` registers it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.cli_parts import AsJson, Columns, Format, as_columns
from burnish.errors import UsageError


def export(
    model: Annotated[str, typer.Argument(metavar="RUN_DIR|MODEL")],
    to: Annotated[str, typer.Option("--to", help="adapter, merged, gguf, ollama, vllm, onnx or hub")],
    output: Annotated[str | None, typer.Option("--output", help="folder of the result; not given: RUN_DIR/export/TARGET")] = None,
    bits: Annotated[str | None, typer.Option("--bits", help="of gguf and ollama: F16, Q8_0 or Q4_0")] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="of whole models: auto (the base's), float32, bfloat16, float16")
    ] = None,
    tolerance: Annotated[float | None, typer.Option("--tolerance", help="largest difference that is accepted")] = None,
    data: Annotated[str | None, typer.Option("--data", help="rows to compare on; not given: the run's own held-out rows")] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="rows to compare on, at most")] = 64,
    format: Format = "auto",
    column: Columns = None,
    task: Annotated[str | None, typer.Option("--task", help="of a run with several tasks: this one")] = None,
    repo: Annotated[str | None, typer.Option("--repo", help="of hub: OWNER/NAME of a new repository")] = None,
    public: Annotated[bool, typer.Option("--public", help="of hub: let everybody see it")] = False,
    licence: Annotated[str | None, typer.Option("--license", help="of the result, for its card, such as apache-2.0")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="of whole models: write it although rounding would lose the update")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a tuned model for other programs, compared with the tuned model before it gets its name."""
    from burnish.api_export import export as carry_out
    from burnish.export import find_target
    from burnish.terminal import print_json

    chosen: dict[str, Any] = {"bits": bits, "dtype": dtype, "repo": repo, "public": public or None, "force": force or None}
    given = {name: value for name, value in chosen.items() if value is not None}
    if odd := [name for name in given if name not in find_target(to).takes]:
        raise UsageError(f"--{odd[0]} means nothing to --to {to}. Leave it out.")
    if tolerance is not None and not tolerance >= 0:
        raise UsageError(f"--tolerance {tolerance}: expected a number of at least 0.")
    made = carry_out(
        model,
        to,
        output,
        data=data,
        format=format,
        columns=as_columns(column),
        rows=rows,
        task=task,
        tolerance=tolerance,
        licence=licence,
        **given,
    )
    if as_json:
        print_json(made)
        return
    size = sum(made["files"].values())
    print(f"{made['output']}: {to}, stored as {made['stored']}, {len(made['files'])} files, {_size(size)}")
    for check in made["checks"]:
        print(
            f"  {check['step']}: {check['measure']} {check['difference']:.3g} on {check['n']:,} {check['of']} (allowed: {check['tolerance']:.3g})"
        )
    for note in made["notes"]:
        print(f"  note: {note}")
    print(f"Use it: {made['use']}")
    print(f"Read:   {Path(made['output']) / 'README.md'}")


def _size(size: int) -> str:
    from burnish.disk import readable

    return readable(size)
