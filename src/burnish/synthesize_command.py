"""The verb `burnish data synthesize`: arguments in, a file of rows and a summary on standard output.

Registered by the command line, which imports this file before anything heavy. Progress goes to standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def run(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="documents: a file or a folder")],
    kind: Annotated[str, typer.Option("--kind", help="paraphrase or questions")],
    model: Annotated[str, typer.Option("--model", help="who writes: a model, or http(s)://… of an OpenAI-compatible server")],
    output: Annotated[Path, typer.Option("--output", help="the file of rows; a second start goes on with it")] = Path("rows.jsonl"),
    per_passage: Annotated[int, typer.Option("--per-passage", help="rows asked for per passage")] = 3,
    size: Annotated[int, typer.Option("--size", help="tokens of a passage, about")] = 200,
    context: Annotated[bool, typer.Option("--context", help="put the passage before each question")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="at most this many passages")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: the likeliest token each time")] = 0.7,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of the sampling")] = 0,
    server_model: Annotated[
        str | None, typer.Option("--server-model", help="which of the server's models, if it has several")
    ] = None,
    key_variable: Annotated[
        str, typer.Option("--key-variable", help="environment variable with the server's key; '' sends none")
    ] = "OPENAI_API_KEY",
    timeout: Annotated[float, typer.Option("--timeout", min=1.0, help="seconds to wait for one answer of the server")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON value on standard output, nothing else")] = False,
) -> None:
    """Let a model write paraphrases of your documents, or questions with answers about them, as rows to learn from."""
    from burnish.synthesize import refuse_values, synthesize

    refuse_values(kind, per_passage, limit)  # before any weights are read
    write, name = _writer(
        model, server_model=server_model, key_variable=key_variable, timeout=timeout, temperature=temperature, seed=seed
    )
    summary = synthesize(
        source,
        output,
        kind=kind,
        write=write,
        model=name,
        per_passage=per_passage,
        seed=seed,
        size=size,
        context=context,
        limit=limit,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(json.dumps(summary, indent=2, ensure_ascii=False) if as_json else told(summary))


def _writer(
    model: str, *, server_model: str | None, key_variable: str, timeout: float, temperature: float, seed: int
) -> tuple[Any, str]:
    """Return what writes, and the name that stands in each row for it: the model's, with the server's address where it has one."""
    from burnish.errors import ConfigError

    if model.startswith(("http://", "https://")):
        from burnish.synthesize_server import model_of, open_server, server_writer

        server = open_server(model, key_variable=key_variable, timeout=timeout)
        name = model_of(server, server_model)
        return server_writer(server, name, temperature=temperature), f"{name} at {server.address}"
    if server_model is not None:
        raise ConfigError(f"--server-model is for a server, and {model!r} is a model on this machine. Leave it out.")
    from burnish.synthesize_local import local_writer

    return local_writer(model, temperature=temperature, seed=seed), model


def told(summary: dict[str, Any]) -> str:
    """Return a summary in words."""
    dropped = sum(summary["dropped"].values())
    lines = [
        f"{summary['rows']:,} rows about {summary['passages']:,} passages in {summary['output']} (format {summary['format']}).",
        f"{dropped:,} replies were dropped" + (":" if dropped else "."),
        *[f"  {count:>6,}  {reason}" for reason, count in summary["dropped"].items()],
    ]
    if not summary["rows"] and dropped:
        lines.append(
            "Nothing could be used. A larger model, or one that was taught to follow instructions, may write what is asked for."
        )
    lines += [f"{summary['passages_without_rows']:,} passages gave no row."] if summary["passages_without_rows"] else []
    if summary["unanswered"]:
        lines.append(f"{summary['unanswered']:,} passages are not answered yet. Start the same command again to go on with them.")
    left_out = [f"{count:,} {why}" for why, count in summary["left_out"].items() if count]
    lines += [f"Pieces of the documents that were left out: {', '.join(left_out)}."] if left_out else []
    lines += [f"Warning: {warning}" for warning in summary["warnings"]]
    lines.append(
        'Read some of them before you tune on them. In the run file: columns = { group = "group" } keeps what belongs together.'
    )
    return "\n".join(lines)
