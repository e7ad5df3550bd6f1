"""The verbs before a run: init, doctor, ls, and data get.

Enters: names of use cases, lists, data sets. Leaves: written folders and plain lists. `cli` registers them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli_parts import AsJson, as_text
from burnish.errors import UsageError, suggestion


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
                f"{name.replace('_', ' '):<18} " + (", ".join(f"{key} {item}" for key, item in shown) if shown else as_text(value))
            )
    print("\n" + ("\n".join(f"! {problem}" for problem in facts["problems"]) or "No problem found."))


def ls(
    what: Annotated[str, typer.Argument(metavar="formats|objectives|techniques|arms|scores|usecases|runs|models|data")],
    as_json: AsJson = False,
) -> None:
    """List what there is."""
    from burnish.listing import LISTS
    from burnish.terminal import print_entries, print_json, print_rows

    if what not in LISTS:
        raise UsageError(f"There is no list {what!r}.{suggestion(what, LISTS)} Expected one of: {', '.join(LISTS)}.")
    rows = LISTS[what]()
    if as_json:
        print_json(rows)
    elif not rows:
        print(f"No {what} here yet.")
    elif "options" in rows[0]:
        print_entries(rows)
    else:
        names = [key for key in rows[0] if not isinstance(rows[0][key], dict | list)]
        print_rows(rows, {name: (lambda row, key=name: as_text(row.get(key))) for name in names})


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
