"""Measure the bundled base models, and write what was found into the pages that show it.

    burnish data get openstax --from FOLDER      (instruct_rasbt and us_code_sample likewise)
    python benchmarks/base/make.py runs/base
    python benchmarks/base/measure.py --output runs/base/measured.json
    python benchmarks/base/measure.py --output runs/base/measured.json --write

In: the models `tiny` and `tiny-chat` (or others given for them) and the files of `make.py`. Out: a JSON file with every figure, its
interval and number of rows. With --write nothing is measured: docs/base_model.md and the two model cards (`cards.py`) are written from
that file and from the run directories of the trainings.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asking import Setting, Subject
from base_page import write_pages
from measure_answers import measure_choice, measure_instructions, measure_labels, measure_reading
from measure_text import measure_continuations, measure_text

from burnish import atomic
from burnish.errors import BurnishError, DataError

ROOT = Path(__file__).parent.parent.parent
PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "text": measure_text,
    "reading": measure_reading,
    "labels": measure_labels,
    "instructions": measure_instructions,
    "choice": measure_choice,
    "continuations": measure_continuations,
}


def measure(setting: Setting, names: Sequence[str], output: Path) -> None:
    """Measure some parts and write each into the file as soon as it is done; parts that are there already stay."""
    found = read_measured(output) if output.is_file() else {"schema": 1, "models": {}, "parts": {}}
    print("models", flush=True)
    found["models"] = {subject.name: subject.facts() for subject in setting.subjects}
    for name in names:
        print(name, flush=True)
        started = time.monotonic()
        part = PARTS[name](setting)
        found["parts"][name] = {
            **part,
            "given": {subject.name: subject.given for subject in setting.subjects},
            "limit": setting.limit,
            "seconds": round(time.monotonic() - started, 1),
        }
        atomic.write_file(output, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(output)


def read_measured(path: Path) -> dict[str, Any]:
    """Return what was measured before; DataError where the file is missing or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}). Measure first: python benchmarks/base/measure.py --output {path}"
        ) from error
    if not isinstance(found, dict) or found.get("schema") != 1:
        raise DataError(f"{path} is not a file that this script wrote. Choose another --output.")
    return found


def some_parts(text: str) -> list[str]:
    """Return the parts that a list with commas names."""
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"there is no part {unknown[0]!r}; expected some of {', '.join(PARTS)}")
    return names


def main() -> None:
    """Read the command line; measure, or write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", default="tiny", help="the base model, by name or folder")
    parser.add_argument("--chat", default="tiny-chat", help="the instruction-tuned model, by name or folder")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "base", help="where make.py wrote its files")
    parser.add_argument("--limit", type=int, help="rows of each set, for a quick look; such figures are not written into pages")
    parser.add_argument("--only", type=some_parts, default=list(PARTS), metavar="PART,...", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--output", type=Path, required=True, help="the JSON file of figures")
    begun = [ROOT / "runs" / "tiny-begin", ROOT / "runs" / "tiny"]
    parser.add_argument("--tiny-runs", type=Path, nargs="+", default=begun, help="run directories of the base model's training")
    parser.add_argument(
        "--chat-runs", type=Path, nargs="+", default=[ROOT / "runs" / "tiny-chat"], help="those of the other model's"
    )
    parser.add_argument("--write", action="store_true", help="write the pages from the file, without measuring")
    given = parser.parse_args()
    try:
        if given.write:
            write_pages(read_measured(given.output), ROOT, runs={"tiny": given.tiny_runs, "tiny-chat": given.chat_runs})
        else:
            subjects = Subject("tiny", given.tiny), Subject("tiny-chat", given.chat)
            measure(Setting(tiny=subjects[0], chat=subjects[1], folder=given.folder, limit=given.limit), given.only, given.output)
    except BurnishError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
