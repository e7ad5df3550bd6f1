"""Measure rows of the benchmark and write them down.

    make bench                                          every row, then docs/performance.md
    make bench-sft                                      the first two rows
    python benchmarks/speed/run.py ROW …                these rows alone
    python benchmarks/speed/run.py --quick ROW …        two repeats instead of five
    python benchmarks/speed/run.py --setup              makes the peers' environments

Enters: the work (`work`, made where it is missing) and the rows (`rows`). Leaves: benchmarks/results/ROW.json, and a line for each row that ends
in "holds" or "falls short". A row whose sides do not do the same work is refused: it gets no figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import machine
import measures
import page
import protocol
import work
from rows import ROWS, Row

HERE = Path(__file__).parent
RESULTS = work.ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "llamafactory", "litgpt", "burnish")


def setup() -> None:
    """Make the peers' environments: torch first, so that no build for another device is drawn in."""
    for file in sorted(HERE.glob("requirements-*.txt")):
        target = protocol.VENVS / file.stem.removeprefix("requirements-")
        if (target / "installed").is_file():
            continue
        subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
        pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        constraint = target / "torch.txt"
        constraint.write_text("torch==2.13.0\n", encoding="utf-8")
        subprocess.run([*pip, "-c", str(constraint), "torch"], check=True)
        subprocess.run([*pip, "-c", str(constraint), "-r", str(file)], check=True)
        removed = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("# remove: ")]
        for line in removed:
            subprocess.run([*pip[:3], "uninstall", "--quiet", "--yes", *line.split()[2:]], check=True)
        (target / "installed").touch()


def measure(name: str, row: Row, *, repeats: int) -> dict[str, Any]:
    """Return the results of one row."""

    def say(line: str) -> None:
        print(line, flush=True)

    say(f"{name}: {row.title}")
    base = {"row": name, "title": row.title, "date": time.strftime("%Y-%m-%d", time.gmtime()), "repeats": repeats}
    if lacking := row.needs or ", ".join(protocol.missing(row)):
        figures = [measures.judged(figure, {}) for figure in row.figures]
        return {**base, "lacks": lacking, "figures": figures, "verdict": "not measured"}
    by_arm = {arm.name: arm for arm in row.arms}

    def speed(run: protocol.Run) -> float:
        found = measures.measures(run, by_arm[run.arm])
        return found.get("tokens_per_second" if "pairs_per_second" not in found else "pairs_per_second", found["steps_per_second"])

    choices, tried = {}, {}
    for arm in row.arms:
        choices[arm.name], tried[arm.name] = protocol.chosen(name, arm, speed, say)
    gate = protocol.gradients(row, choices, say) if row.gate == "gradients" else []
    reasons = measures.refusals(row, gate, []) if gate else []
    runs = [] if reasons else protocol.measure(row, choices, repeats=repeats, say=say)
    reasons = reasons or measures.refusals(row, gate, runs)
    sides = measures.summary(row, runs)
    figures = [measures.judged(figure, {} if reasons else sides) for figure in row.figures]
    return {
        **base,
        "machine": machine.processor()
        | {"threads": protocol.threads(), "load_of_others": max((run.others for run in runs), default=0.0)},
        "versions": {peer: machine.versions(protocol.python_of(peer), PACKAGES) for peer in sorted({arm.peer for arm in row.arms})},
        "commit": _commit(),
        "work": {"version": work.VERSION, "seed": work.SEED, "shape": asdict(work.SHAPE), "batch": work.BATCH, "smoke": work.SMOKE},
        "choices": choices,
        "tried": {arm: found for arm, found in tried.items() if found},
        "numbers": _numbers(runs),
        "gate": {"kind": row.gate, "sides": gate, "refused": reasons},
        "sides": sides,
        "dev": protocol.dev_losses(row) if row.dev else None,
        "figures": figures,
        "verdict": "refused" if reasons else measures.verdict(figures),
    }


def _numbers(runs: Sequence[protocol.Run]) -> Any:
    """Return what burnish chose by itself: number formats and ways to compute."""
    ends = [line for run in runs for line in run.of("end") if line.get("numbers")]
    return json.loads(ends[-1]["numbers"]).get("numbers") if ends else None


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=work.ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def told(result: dict[str, Any]) -> list[str]:
    """Return what is printed of a row: each figure, and the verdict."""
    lines = []
    for figure in result["figures"]:
        value = "–" if figure["value"] is None else f"{figure['value']:.3g}"
        target = f" ({figure['target']})" if figure["target"] else ""
        lines.append(f"  {figure['name']}: {value}{target}: {figure['verdict']}")
    refused = result.get("gate", {}).get("refused", [])
    return [*lines, *(f"  refused: {reason}" for reason in refused), f"{result['row']}: {result['verdict']}"]


def write(result: dict[str, Any]) -> None:
    """Write the results of a row, and the page anew; those of a smoke test stay beside its work."""
    folder = work.ROOT / ".bench" / "smoke-results" if work.SMOKE else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result['row']}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not work.SMOKE:
        page.write()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rows that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="ROW", help=f"rows: {', '.join(ROWS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="two repeats")
    parser.add_argument("--repeats", type=int, default=5, help="how often each side is measured")
    parser.add_argument("--setup", action="store_true", help="make the peers' environments and the work, and measure nothing")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.names) - set(ROWS)):
        parser.error(f"no such row: {', '.join(unknown)}; expected some of {', '.join(ROWS)}")
    os.chdir(work.ROOT)
    setup()
    work.make()
    if asked.setup:
        return
    for name in asked.names or ROWS:
        began = time.time()
        result = measure(name, ROWS[name], repeats=2 if asked.quick else asked.repeats)
        write(result | {"seconds": round(time.time() - began)})
        print("\n".join(told(result)), flush=True)


if __name__ == "__main__":
    main()
