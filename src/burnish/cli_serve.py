"""The verb that offers models to programs and browsers: serve.

Enters: models by name, and where to listen. Leaves: a server that runs until it is told to stop. `serve` holds what it answers to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.errors import UsageError

PASSAGES = 2
"""Passages put above a question, as many as `burnish chat` takes."""


def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="[NAME=]RUN_DIR|MODEL...", help="runs or models; NAME is what clients ask for")
    ],
    base: Annotated[
        str | None, typer.Option("--base", help="serve this model too, to compare with; an adapter brings its own base along")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="address to listen on; any other than this machine's own asks for a key")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: one that is free")] = 8000,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file", help="file that holds the key; else $BURNISH_API_KEY, else one is made and shown where it is needed"
        ),
    ] = None,
    allow_host: Annotated[list[str] | None, typer.Option("--allow-host", help="a further name of this server; repeatable")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="of the weights: auto, float32, bfloat16 or float16")] = "auto",
    documents: Annotated[
        str | None,
        typer.Option("--documents", help="file, folder or set by name to look in, for answers with passages on the page"),
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", help="folder of the runs that the page shows, and of fine-tuning jobs")] = Path(
        "runs"
    ),
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="fine-tuning jobs carried out at once; the others wait")] = 1,
) -> None:
    """Offer models over HTTP, in the shapes that clients of hosted services use."""
    try:
        from burnish.serve.run import run
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette", "python_multipart"):
            raise
        raise UsageError(f"`burnish serve` needs {error.name}, which is not installed: pip install 'burnish[serve]'") from None
    look = None
    if documents is not None:
        from burnish.starting import looking_in

        look = looking_in(documents, PASSAGES)
    named = tuple(allow_host or ())
    run(models, base=base, host=host, port=port, key_file=key_file, hosts=named, runs=runs, dtype=dtype, jobs=jobs, look=look)
