"""The command line: which verbs there are, and what becomes of an error.

The verbs stand in the files of this room, one function each, which calls `api` and shows what comes back: `cli_start` (init, doctor,
ls, data get), `cli_tune` (check, tune, pretrain, demo), `cli_models` (evaluate, generate, chat, merge), `cli_rate` (rate),
`cli_decide` (decide), `cli_serve` (serve), `cli_export` (export).

Enters: arguments. Leaves: text or JSON on standard output, progress on standard error, and an exit code: 0; 1 a failed run; 2 the
user's mistake; 3 no space; 130 and 143 after a saved stop. A user never sees a traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer

from burnish import __version__, synthesize_command
from burnish.cli_decide import decide
from burnish.cli_export import export
from burnish.cli_models import chat, evaluate, generate, merge
from burnish.cli_rate import rate
from burnish.cli_serve import serve
from burnish.cli_start import data_get, doctor, init, ls
from burnish.cli_tune import check, demo, pretrain, tune
from burnish.errors import BurnishError, RunError, SpaceError, UsageError

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
for verb in (
    init,
    doctor,
    check,
    decide,
    tune,
    pretrain,
    evaluate,
    generate,
    chat,
    serve,
    rate,
    merge,
    export,
    ls,
    demo,
):  # in the order of --help
    app.command()(verb)
data_app.command("get")(data_get)
data_app.command("synthesize")(synthesize_command.run)


@app.callback(invoke_without_command=True)
def _about(version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


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
