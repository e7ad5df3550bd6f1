"""A folder that is ready to tune, for `burnish init`: run file, rows, README.

Enters: a `UseCase`, or a user's own file with what was guessed about it. Leaves: run.toml, the sample rows and README.md in a folder
that was empty before. The run file is written last, so that a folder that holds one is complete.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.assets import sample
from burnish.disk import explained
from burnish.errors import DataError, UsageError
from burnish.run_file_write import comment
from burnish.usecases.definition import UseCase
from burnish.usecases.run_text import run_text

RUN_FILE = "run.toml"
README = "README.md"
NAMED_SOURCE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""`public:NAME`, `hf:OWNER/NAME`: a source that is no path. Two characters at least, so that a drive letter is a path."""


def write(usecase: UseCase, folder: Path) -> Path:
    """Write a use case into a new or empty folder and return its run file.

    Raises UsageError where something is already there or the folder cannot be written, SpaceError where the disk is full.
    """
    folder = Path(folder)
    target = _claimed(folder)
    run = {"model": usecase.run["model"], "output": _output(target), **usecase.run}
    head = [usecase.summary, "Every value can be changed here, or on the command line: burnish tune run.toml train.epochs=1"]
    with explained(target):
        for name in usecase.samples:
            _copied(sample(name), target / name)
        (target / README).write_text(_sample_readme(usecase, folder, run["output"]), encoding="utf-8", newline="\n")
        (target / RUN_FILE).write_text(
            run_text(run, head=head, notes=usecase.notes, unset=usecase.unset), encoding="utf-8", newline="\n"
        )
    return folder / RUN_FILE


def write_from_data(
    folder: Path,
    *,
    source: str,
    format: str,
    columns: Mapping[str, str],
    task: str,
    score: Sequence[str],
    why: Sequence[str],
) -> Path:
    """Write a run file and a README for rows that a user already has, and return the run file.

    `source` is a path, relative to the current folder or absolute, or a data set by name (public:NAME, hf:OWNER/NAME). A relative
    path is rewritten to be relative to the run file, so that the run works from anywhere. `task` says in a sentence what is learned;
    `why` are the sentences that say what was guessed and from what, and become comments.
    Raises DataError where the file is not there; UsageError and SpaceError as in `write`.
    """
    folder = Path(folder)
    if not NAMED_SOURCE.match(source) and not Path(source).exists():
        raise DataError(
            f"there is no file or folder {source!r}. Give the path from the current folder ({Path.cwd()}), or an absolute one."
        )
    target = _claimed(folder)
    data: dict[str, Any] = {"source": _from_run_file(source, target), "format": format, "columns": dict(columns)}
    run: dict[str, Any] = {
        "model": "tiny",
        "output": _output(target),
        "seed": 0,
        **({"score": list(score)} if score else {}),
        "data": {key: value for key, value in data.items() if value},
        "technique": {"name": "lora", "rank": 16, "alpha": 32.0},
        "train": {"epochs": 3, "batch": 16},
    }
    head = [task, "", "What was guessed, and from what (correct it below where it is wrong):", *(f"- {reason}" for reason in why)]
    unset = [one for one in UNSET if one[0] != "data.columns.group" or "group" not in columns]
    with explained(target):
        (target / README).write_text(_data_readme(folder, run, task, why), encoding="utf-8", newline="\n")
        (target / RUN_FILE).write_text(run_text(run, head=head, notes=NOTES, unset=unset), encoding="utf-8", newline="\n")
    return folder / RUN_FILE


NOTES = {
    "model": "the bundled model; a hub id or a folder works as well",
    "score": "the first one decides which checkpoint is kept",
    "data.source": "relative to this file",
    "data.columns": "standard name = name in your rows",
    "technique.rank": "8 to 64: more learns more and forgets more",
}
UNSET: tuple[tuple[str, Any, str], ...] = (
    ("data.columns.group", "customer", "the column of what must not be divided between training and test"),
    ("data.test_share", 0.2, "share of the rows held out for the final scores; not set: 0.1"),
    ("data.limit", 500, "try it on a few rows first"),
    ("train.learning_rate", 5e-4, "not set: the technique's own"),
)


def _claimed(folder: Path) -> Path:
    """Return the folder as an absolute path, made where it was missing; UsageError where it is in use."""
    if folder.is_dir():
        with explained(folder):
            there = sorted(entry.name for entry in folder.iterdir())
        if there:
            shown = ", ".join(there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
            raise UsageError(f"{folder} is not empty ({shown}): nothing was written. Give a new folder, or an empty one.")
    elif folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} is a file, and a folder is to be made there: nothing was written. Give another name.")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def _copied(source: Path, target: Path) -> None:
    """Copy a bundled file or folder, without rights and times of the installation (which may be read-only)."""
    if source.is_dir():
        target.mkdir()
        for entry in sorted(source.iterdir()):
            _copied(entry, target / entry.name)
    else:
        shutil.copyfile(source, target)


def _output(target: Path) -> str:
    """Return the output folder that the run file names: runs/ and the name of the folder, as for a run file without one."""
    return f"runs/{target.name or 'run'}"


def _from_run_file(source: str, target: Path) -> str:
    """Return a source as it is named from a run file in `target`: absolute and named sources stay, relative paths are turned."""
    if NAMED_SOURCE.match(source) or Path(source).is_absolute():
        return source
    try:
        return Path(os.path.relpath(Path(source).resolve(), target)).as_posix()
    except ValueError:
        # Another drive (Windows): there is no relative path to it.
        return str(Path(source).resolve())


def _commands(folder: Path, output: str, prompt: str) -> str:
    """Return the commands that tune and use the run, for a shell."""
    enter = [] if str(folder) == "." else [f"cd {shlex.quote(str(folder))}"]
    shown = shlex.quote(output)
    lines = [
        *enter,
        "burnish check run.toml          # every problem in run file and rows at once; nothing is loaded yet",
        "burnish tune run.toml           # tunes, measures base and tuned on held-out rows, writes a report",
        f"burnish generate {shown} --prompt {shlex.quote(prompt)}",
        f"burnish chat {shown}",
    ]
    return "\n".join(f"    {part}" for line in lines for part in line.split("\n"))


def _sample_readme(usecase: UseCase, folder: Path, output: str) -> str:
    """Return the README of a use case."""
    rows = ", ".join(f"`{name}{'/' if sample(name).is_dir() else ''}`" for name in usecase.samples)
    return f"""# {usecase.name}

{usecase.summary}

{_commands(folder, output, usecase.prompt)}

The result is in `{output}`: `report.html` to read, `report.json` for programs, `model/` for other tools.

- `run.toml`: the run, every value with a word on what it does
- {rows}: sample rows, written for burnish (Apache-2.0); people, places and products are invented

{_guide(usecase)}## Make it yours

{usecase.edit.strip()}
"""


def _guide(usecase: UseCase) -> str:
    """Return the sections that help to choose a use case, nothing where it has none."""
    if usecase.guide is None:
        return ""
    return "".join(f"## {title}\n\n{words.strip()}\n\n" for title, words in usecase.guide.sections())


def _data_readme(folder: Path, run: Mapping[str, Any], task: str, why: Sequence[str]) -> str:
    """Return the README of a run on a user's own rows."""
    reasons = "\n".join(f"- {comment(reason).removeprefix('# ')}" for reason in why)
    return f"""# {Path(run["output"]).name}

{task}

{_commands(folder, run["output"], "your text")}

The result is in `{run["output"]}`: `report.html` to read, `report.json` for programs, `model/` for other tools.

## What was guessed

{reasons or "- nothing: format and columns were given"}

The rows stay where they are: `{run["data"]["source"]}`, read as `{run["data"]["format"]}`. If a guess is wrong, correct
`data.format` and `[data.columns]` in `run.toml`; `burnish check run.toml` shows one row the way the model will see it.

## Before you trust the figures

- Name a `group` column where rows belong together (one customer, one document), so that none is on both sides of the split.
- Set `model` to a larger base when the run works from end to end with the bundled one.
"""
