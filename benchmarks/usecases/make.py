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
from usecase_page import FIGURES, write

ROOT = Path(__file__).resolve().parents[2]


def carry_out(name: str, folder: Path) -> list[str]:
    """Make the folder, tune it, tune the alternative; what is there already stays. Return the commands as a person would type them."""
    commands = [
        (f"burnish init {name} {folder.relative_to(ROOT)}", ROOT, folder / "run.toml"),
        (f"burnish tune run.toml output=runs/{name}", folder, folder / "runs" / name / "report.json"),
        (
            f"burnish tune run.toml {CASES[name].alternative} output=runs/alternative",
            folder,
            folder / "runs" / "alternative" / "report.json",
        ),
    ]
    for command, place, made in commands:
        if not made.is_file():
            resume = ["--resume"] if made.name == "report.json" and made.parent.is_dir() else []
            subprocess.run([sys.executable, "-m", *command.split(), *resume], cwd=place, check=True)
    return [command for command, _, _ in commands]


def main() -> None:
    """Carry out what is missing and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *CASES], help="use cases; none named: all")
    parser.add_argument("--write", action="store_true", help="write the pages from the figures that are there, and measure nothing")
    given = parser.parse_args()
    for name in [] if given.write else given.names or CASES:
        if (FIGURES / f"{name}.json").is_file():
            continue
        from usecase_figures import figures

        folder = ROOT / "runs" / "usecases" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        commands = carry_out(name, folder)
        found = figures(folder, name, alternative=CASES[name].alternative, commands=commands)
        FIGURES.mkdir(exist_ok=True)
        (FIGURES / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write()


if __name__ == "__main__":
    main()
