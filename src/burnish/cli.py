"""The command line: one function per verb, which calls `api` and shows what comes back.

Enters: arguments. Leaves: text or JSON on standard output, progress on standard error, and an exit code: 0; 1 a failed run; 2 the
user's mistake; 3 no space; 130 and 143 after a saved stop. A user never sees a traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish import __version__
from burnish.errors import BurnishError, RunError, SpaceError, UsageError, suggestion

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Adapts a general language model to one job, and proves that it fits.",
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Public data sets: fetch one, or see what there is.")
app.add_typer(data_app, name="data")

RunFile = Annotated[Path, typer.Argument(metavar="RUN.toml")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[a.b=c]…")]
Resume = Annotated[bool, typer.Option("--resume", help="go on from the last complete checkpoint")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON value on standard output, nothing else")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="at most this many rows")]
Format = Annotated[str, typer.Option("--format", help="format of the rows; auto guesses it")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="standard name = your column, such as text=message; repeatable")
]


@app.callback(invoke_without_command=True)
def _about(version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def init(
    first: Annotated[str, typer.Argument(metavar="USECASE|DIR", help="a use case (burnish ls usecases); with --data, the folder")],
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="new folder")] = None,
    data: Annotated[str | None, typer.Option("--data", help="your own rows: format and task are guessed from them")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a run file, rows and a README: ready to edit."""
    from burnish import starting
    from burnish.terminal import print_json

    if data is not None:
        if folder is not None:
            raise UsageError("With --data, give only the folder to make: burnish init --data FILE DIR")
        made = starting.from_data(data, Path(first))
    else:
        if folder is None:
            raise UsageError(
                "Give a use case and a folder: burnish init support my-run (see burnish ls usecases), or --data FILE DIR"
            )
        made = starting.from_usecase(first, folder)
    if as_json:
        print_json(made)
        return
    for reason in made["why"]:
        print(f"Guessed: {reason}")
    print(f"Wrote {made['run_file']}. Next:\n  cd {made['folder']}\n  burnish check run.toml\n  burnish tune run.toml")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show Python, torch, device, memory, disk, extras and caches: for bug reports."""
    from burnish.doctor import examine
    from burnish.terminal import print_json

    facts = examine()
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if name != "problems":
            shown = value.items() if isinstance(value, dict) else None
            print(
                f"{name.replace('_', ' '):<18} " + (", ".join(f"{key} {item}" for key, item in shown) if shown else _shown(value))
            )
    print("\n" + ("\n".join(f"! {problem}" for problem in facts["problems"]) or "No problem found."))


@app.command()
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


@app.command()
def tune(run: RunFile, overrides: Overrides = None, resume: Resume = False, as_json: AsJson = False) -> None:
    """Tune a model as a run file says, measure it beside its base, and write a report."""
    from burnish import api
    from burnish.terminal import watch

    _show_report(api.tune(run, *(overrides or []), resume=resume, watch=watch()), as_json=as_json)


@app.command()
def pretrain(run: RunFile, overrides: Overrides = None, resume: Resume = False, as_json: AsJson = False) -> None:
    """Train a model from random weights, its tokenizer learned from the same texts; the run file has [model] init = "llama"."""
    from burnish import api
    from burnish.terminal import watch

    _show_report(api.pretrain(run, *(overrides or []), resume=resume, watch=watch()), as_json=as_json)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(metavar="RUN_DIR|MODEL")],
    data: Annotated[str | None, typer.Option("--data", help="rows to score on; not given: the run's own held-out rows")] = None,
    score: Annotated[list[str] | None, typer.Option("--score", help="a score by name; repeatable (burnish ls scores)")] = None,
    limit: Limit = None,
    format: Format = "auto",
    column: Columns = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="longest answer")] = None,
    seed: Annotated[int, typer.Option("--seed", help="of the resampling for the intervals")] = 0,
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
        columns=_columns(column),
        max_tokens=max_tokens,
        seed=seed,
        say=say,
    )
    if as_json:
        print_json(report)
    else:
        _print_scores(report)


@app.command()
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
        columns=_columns(column),
        limit=limit,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        stop=stop or (),
        seed=seed,
    )
    if as_json:
        print_json({"answers": rows})
        return
    for row in rows:
        print(row["text"] if len(rows) == 1 else f"> {row['prompt']}\n{row['text']}\n")


@app.command()
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


@app.command()
def ls(
    what: Annotated[str, typer.Argument(metavar="formats|objectives|techniques|scores|usecases|runs|models|data")],
    as_json: AsJson = False,
) -> None:
    """List what there is."""
    from burnish.listing import LISTS
    from burnish.terminal import print_json, print_rows

    if what not in LISTS:
        raise UsageError(f"There is no list {what!r}.{suggestion(what, LISTS)} Expected one of: {', '.join(LISTS)}.")
    rows = LISTS[what]()
    if as_json:
        print_json(rows)
    elif not rows:
        print(f"No {what} here yet.")
    else:
        names = [key for key in rows[0] if not isinstance(rows[0][key], dict | list)]
        print_rows(rows, {name: (lambda row, key=name: _shown(row.get(key))) for name in names})


@app.command()
def demo(
    output: Annotated[str, typer.Option("--output", help="run directory; a finished demo there is replaced")] = "runs/demo",
    as_json: AsJson = False,
) -> None:
    """Run the whole job on the bundled model and sample rows."""
    from burnish import api
    from burnish.terminal import say, watch
    from burnish.usecases import find

    say("The demo: a help desk's messages are sorted into 14 categories by the bundled model, before and after tuning.")
    _show_report(api.demo(output, watch=watch()), as_json=as_json)
    say(f'Try it: burnish generate {output} --prompt "{find("support").prompt}"\nOpen:   {output}/report.html')


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="a public data set (burnish ls data)")],
    folder: Annotated[Path | None, typer.Option("--from", help="copy from this folder instead of fetching")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a pinned public data set into the user's cache, its sha256 checked."""
    from burnish.data.public import get
    from burnish.terminal import print_json

    place = get(name, folder=folder)
    if as_json:
        print_json({"name": name, "path": str(place)})
    else:
        print(f'{name} is in {place}. Use it in a run file: data = "public:{name}"')


# ------------------------------------------------------------------------------------------------------------------------ showing


def _shown(value: Any) -> str:
    """Return a value as text for a table."""
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _columns(given: list[str] | None) -> dict[str, str]:
    """Return --column NAME=COLUMN options as a mapping."""
    wrong = [item for item in given or [] if "=" not in item]
    if wrong:
        raise UsageError(f"--column {wrong[0]}: expected NAME=COLUMN, such as --column text=message")
    return dict(item.split("=", 1) for item in given or [])


def _show_report(folder: Path, *, as_json: bool) -> None:
    """Print the report of a finished run."""
    import json

    if os.environ.get("RANK", "0") != "0":
        return
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if as_json:
        from burnish.terminal import print_json

        print_json({"output": str(folder), **report})
    else:
        _print_scores(report)


def _print_scores(report: dict[str, Any]) -> None:
    """Print the score table of a report."""
    from rich.console import Console

    from burnish.report import print_scores

    print_scores(report, Console(highlight=False))


# ------------------------------------------------------------------------------------------------------------------------- errors


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the code that the outcome stands for."""
    import warnings

    # Libraries warn of their own future to those who write code, not to those who run it; -W or PYTHONWARNINGS shows them again.
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning)
    as_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
    sys.exit(_outcome(lambda: app(args=arguments, prog_name="burnish", standalone_mode=False), as_json=as_json))


def _outcome(call: Callable[[], Any], *, as_json: bool) -> int:
    """Call, and return the exit code; every failure becomes one message."""
    from typer.exceptions import TyperException

    try:
        result = call()
        if result == 130:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except BurnishError as error:
        return _tell(error, as_json=as_json)
    except TyperException as error:
        text = error.format_message()
        if text.startswith("Usage:"):  # called without arguments: the help is the answer
            print(text, file=sys.stderr)
            return UsageError.exit_code
        return _tell(UsageError(f"{text} See: burnish --help"), as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _tell(RunError("Interrupted; nothing is left half written."), as_json=as_json, code=130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _tell(_explained(error), as_json=as_json)


def _explained(error: Exception) -> BurnishError:
    """Return an error of the system in words; anything else is a fault of burnish, whose details go into a file."""
    text = str(error)
    if isinstance(error, OSError) and error.errno == 28:
        return SpaceError(
            f"No space is left on the disk ({error.filename or 'while writing'}). Make room, or choose another disk with output=DIR."
        )
    if isinstance(error, PermissionError):
        return UsageError(
            f"{error.filename} cannot be read or written ({error.strerror}). Check its permissions, or choose another place."
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return RunError(
            "The memory is not enough for this run. Lower train.tokens (the size of a micro-batch; the result stays the same) or "
            "data.max_length, or take a smaller model; then go on with --resume. `burnish check` estimates what a run needs."
        )
    import tempfile

    with tempfile.NamedTemporaryFile("w", prefix="burnish-", suffix=".log", delete=False, encoding="utf-8") as log:
        traceback.print_exc(file=log)
    return RunError(
        f"An unexpected error, which is a fault in burnish: {type(error).__name__}: {text}\nPlease report it with {log.name} and `burnish doctor`."
    )


def _tell(error: BurnishError, *, as_json: bool, code: int | None = None) -> int:
    """Print an error and return its exit code: on standard error, and with --json as an object on standard output."""
    exit_code = error.exit_code if code is None else code
    if as_json:
        from json import dumps

        print(dumps({"error": {"kind": type(error).__name__, "message": str(error), "exit_code": exit_code}}, ensure_ascii=False))
    print(f"{'Error: ' if exit_code in (1, 2, 3) else ''}{error}", file=sys.stderr)
    return exit_code
