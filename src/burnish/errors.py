"""The errors that reach a user, one class per kind of mistake, and the exit code each one stands for.

Raised everywhere, caught once in `cli`, which prints the message without a traceback. A message says what happened, what was
expected and how to fix it. Several problems found together travel in one error, so that a user repairs them in one go.

    BurnishError (1)
    ├── UsageError (2)        the call itself: an option, a path, a name
    │   ├── ConfigError       a run file or an override
    │   ├── DataError         rows, formats, files of data
    │   └── ModelError        a model, tokenizer or adapter that cannot be used as asked
    ├── RunError (1)          a run that started and failed
    │   └── SpaceError (3)    no space left where the run writes
    └── Stopped (130, 143)    a clean stop on a signal, after saving
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MOST_SHOWN = 50
"""Problems listed in one message: a file of the wrong kind has one in every row."""


class BurnishError(Exception):
    """Base of all errors meant for a user; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(BurnishError):
    """The user's mistake: nothing was started, nothing was changed."""

    exit_code = 2


class ConfigError(UsageError):
    """A run file or override that cannot be used."""


class DataError(UsageError):
    """Data that cannot be read or trained on."""


class ModelError(UsageError):
    """A model, tokenizer or adapter that cannot be used as asked."""


class RunError(BurnishError):
    """A run that started and failed; what was saved before stays as it is."""


class SpaceError(RunError):
    """No space left where the run writes; the last complete checkpoint is kept."""

    exit_code = 3


class Stopped(BurnishError):
    """A clean stop on SIGINT (130) or SIGTERM (143), after a complete checkpoint was written."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def combined(kind: type[UsageError], heading: str, problems: Sequence[str]) -> UsageError:
    """Return one error of `kind` that lists the problems, one per line, under a heading that counts all of them."""
    assert problems, "an error without a problem"
    count = f"{len(problems)} problem" + ("s" if len(problems) != 1 else "")
    shown = [f"  - {problem}" for problem in problems[:MOST_SHOWN]]
    rest = [f"  - and {len(problems) - MOST_SHOWN} more"] if len(problems) > MOST_SHOWN else []
    return kind("\n".join([f"{heading}: {count}", *shown, *rest]))


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean X?' for the nearest of the known names, or an empty text where none is near."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
