"""Carry out the use cases and write their pages: `make usecases`.

    python benchmarks/usecases/make.py                 carries out what has no figures yet, then writes the pages
    python benchmarks/usecases/make.py NAME …          the same for these use cases
    python benchmarks/usecases/make.py --write         carries out none, and writes the pages anew

Enters: the bundled rows and models; nothing is downloaded. Leaves: runs/usecases/NAME (what `burnish init` wrote and its runs), figures/NAME.json
beside this file, docs/usecases/NAME.md, its plot, and docs/usecases.md. Delete a file of figures to have it made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from usecase_cases import CASES
from usecase_page import FIGURES, Figures, read, write

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "runs" / "usecases"


def tuned(name: str, folder: Path) -> list[str]:
    """Make the folder and tune it; what is there already stays. Return the commands as a person would type them."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    init, tune = f"burnish init {name} {folder.relative_to(ROOT)}", f"burnish tune run.toml output=runs/{name}"
    if not (folder / "run.toml").is_file():
        subprocess.run([sys.executable, "-m", *init.split()], cwd=ROOT, check=True)
    _run(tune, folder, folder / "runs" / name)
    return [init, tune]


def _run(command: str, place: Path, output: Path) -> None:
    """Carry a run out, or on; a finished one stays."""
    if not (output / "report.json").is_file():
        resume = ["--resume"] if (output / "checkpoints").is_dir() else []
        subprocess.run([sys.executable, "-m", *command.split(), *resume], cwd=place, check=True)


def figures_of(name: str) -> None:
    """Tune a use case, ask the prompted arms, and keep the figures; nothing where they are kept already."""
    if (FIGURES / f"{name}.json").is_file():
        return
    from usecase_figures import figures

    folder, case = RUNS / name, CASES[name]
    commands = tuned(name, folder)
    _keep(name, figures(folder, name, commands=commands, case=case))


def alternative_of(name: str) -> None:
    """Tune the alternative of a use case and add it to the figures; nothing where it is there already."""
    found = read(name)
    if found is None or found["alternative"] is not None:
        return
    from usecase_figures import alternative

    folder, overrides = RUNS / name, CASES[name].alternative
    tuned(name, folder)
    command = f"burnish tune run.toml {overrides} output=runs/alternative"
    _run(command, folder, folder / "runs" / "alternative")
    _keep(name, {**found, "commands": [*found["commands"], command], "alternative": alternative(folder, name, overrides)})


def _keep(name: str, found: Figures) -> None:
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Carry out what is missing and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *CASES], help="use cases; none named: all")
    parser.add_argument("--write", action="store_true", help="write the pages from the figures that are there, and measure nothing")
    given = parser.parse_args()
    names = [] if given.write else given.names or list(CASES)
    for step in (figures_of, alternative_of):
        for name in names:
            step(name)
            write()
    write()


if __name__ == "__main__":
    main()
