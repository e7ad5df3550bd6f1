"""Write an export: refused before anything is written, or complete with its card and what was measured, or absent.

Enters: a `Target`, a `Subject` and the user's `Choices`. Leaves: a folder with the result, README.md (the model card) and export.json.
The folder is filled under a hidden name and gets its own after every check has passed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish import __version__
from burnish.atomic import write_directory
from burnish.errors import ConfigError, RunError
from burnish.export.card import card
from burnish.export.parity import Check, hold
from burnish.export.subject import Choices, Subject

EXPORT = "export.json"


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What a target wrote and measured: the checks, what to say of the files, the command that uses them, and other facts."""

    checks: list[Check]
    stored: str
    use: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Target:
    """Somewhere to export to: what it is, what refuses a subject before anything is written, what fills the folder, and choices it takes.

    `after` acts on the complete folder before it gets its name, and returns more facts; it may raise.
    """

    says: str
    refuse: Callable[[Subject, Choices], None]
    fill: Callable[[Subject, Path, Choices], Made]
    takes: tuple[str, ...] = ()
    after: Callable[[Subject, Path, Choices], Mapping[str, Any]] | None = None


def write_export(name: str, target: Target, subject: Subject, choices: Choices) -> dict[str, Any]:
    """Write the export and return what export.json holds.

    Raises ConfigError for an output that exists, ModelError for a subject that cannot be exported there (nothing was written), RunError
    where a check failed (nothing is left).
    """
    out = choices.output
    if out.exists():
        raise ConfigError(f"{out} exists already. Name a new folder with --output, or delete this one.")
    target.refuse(subject, choices)
    written: dict[str, Any] = {}

    def fill(folder: Path) -> None:
        made = target.fill(subject, folder, choices)
        hold(made.checks, to=name)
        written.update(_facts(name, subject, made))
        (folder / "README.md").write_text(card(subject, choices, made, target=name), encoding="utf-8")
        _write_facts(folder, written)
        if target.after is not None:
            written.update(target.after(subject, folder, choices))
            _write_facts(folder, written)

    made_above = _missing_above(out)
    try:
        write_directory(out, fill, manifest={"export": name, "model": subject.name})
    except BaseException:
        for folder in made_above:
            with suppress(OSError):  # only folders that are empty are removed
                folder.rmdir()
        raise
    return {**written, "output": str(out), "files": _sizes(out)}


def _missing_above(out: Path) -> list[Path]:
    """Return the folders above the output that are not there yet, the innermost first."""
    return [folder for folder in out.resolve().parents if not folder.exists()]


def _facts(name: str, subject: Subject, made: Made) -> dict[str, Any]:
    return {
        "schema": 1,
        "target": name,
        "burnish": __version__,
        "model": subject.called,
        "base": subject.base,
        "stored": made.stored,
        "rows": len(subject.tasks),
        "rows_from": subject.rows_from,
        "checks": [check.facts() for check in made.checks],
        "use": made.use,
        "notes": made.notes,
        **made.facts,
    }


def _write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    (folder / EXPORT).write_text(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _sizes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


def move_up(inner: Path, folder: Path) -> None:
    """Move what a folder inside `folder` holds into it, its manifest left out, and remove the inner one."""
    from burnish.atomic import MANIFEST

    for path in sorted(inner.iterdir()):
        if path.name != MANIFEST:
            path.rename(folder / path.name)
    shutil.rmtree(inner)


def step_failed(step: str, error: Exception, *, to: str) -> RunError:
    """Return the error of a step that could not be carried out at all, such as a result that does not open."""
    text = " ".join(str(error).split())[:300]
    return RunError(f"The export to {to} failed (step: {step}), so nothing was written. {type(error).__name__}: {text}")
