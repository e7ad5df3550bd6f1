"""Make docs/results.md: every figure from a run of this code, with the command and the machine that made it.

    burnish data get banking77    (likewise the other public sets; some need --from FOLDER)
    python benchmarks/results.py            carries out what has no figures yet, then writes the page
    python benchmarks/results.py NAME …     the same for these runs
    python benchmarks/results.py --write    takes up the finished runs under runs/, carries out none, and writes the page

Enters: the run files in examples/ and the demo. Leaves: the figures of each run in benchmarks/figures/NAME.json, and docs/results.md
made of them. Delete a file to have its run carried out again. Which runs there are, and in which table, stands in `results_runs`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from results_runs import HEAD, JOBS, NOTES, TABLES, Table, command

ROOT = Path(__file__).parent.parent
FIGURES = ROOT / "benchmarks" / "figures"
FACTS = ("device", "finished", "peak_memory_gb", "seconds", "steps", "technique", "tokens", "tokens_per_second", "trainable")
"""What the page tells of a run beside its scores."""
Report = dict[str, Any]


def cell(value: dict[str, Any] | None) -> str:
    """Return a value with its interval."""
    if value is None or value["mean"] is None:
        return "–"
    if value["low"] is None:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def read(name: str) -> Report | None:
    """Return the figures of a run, None where there are none yet."""
    file = FIGURES / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def take_up(name: str) -> None:
    """Keep the figures that the page shows of a finished run, with its machine; do nothing where there is no finished run."""
    folder = ROOT / "runs" / name
    if not (folder / "report.json").is_file():
        return
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    machine = json.loads((folder / "environment.json").read_text(encoding="utf-8"))["cpu"]
    kept = {
        "command": command(name),
        "run": {key: report["run"].get(key) for key in FACTS},
        "cpu": {key: machine[key] for key in ("model", "cores")},
        "verdict": report["verdict"],
        "scores": {score: _short(row) for score, row in report["scores"].items()},
        "forgetting": {"scores": {score: _short(row) for score, row in _general(report).items()}},
    }
    FIGURES.mkdir(parents=True, exist_ok=True)
    (FIGURES / f"{name}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of scores with what the page shows of it: of each arm its mean and interval."""
    arms = {arm: {key: row[arm][key] for key in ("mean", "low", "high")} for arm in ARMS if row.get(arm)}
    return arms | {key: row[key] for key in ("n", "groups", "higher_is_better") if key in row}


# ------------------------------------------------------------------------------------------------------------------ a run by itself


def section(name: str, report: Report) -> str:
    """Return the part of the page for one run: all its scores."""
    run = report["run"]
    lines = [f"### {name}", "", JOBS[name].about, "", f"    {command(name)}", ""]
    lines += ["| score | base | tuned | difference | classical | n | groups |", "|---|---|---|---|---|---|---|"]
    for score, row in report["scores"].items():
        better = "" if row["higher_is_better"] else " (lower is better)"
        cells = [cell(row.get(arm)) for arm in ("base", "tuned", "difference", "baseline")]
        lines.append(f"| {score}{better} | {' | '.join(cells)} | {row['n']} | {row['groups']} |")
    lines += ["", report["verdict"], ""]
    lines.append(f"{_training(run)}, technique {run['technique']}; {_machine(report)}; {run['finished']} UTC.")
    return "\n".join(lines) + "\n"


def _training(run: dict[str, Any]) -> str:
    speed = f"{run['tokens_per_second']:,.0f} tokens/s" if run["tokens_per_second"] else "no tokens"
    return f"{run['steps']} steps, {run['tokens']:,} tokens, {run['seconds']:.0f} s of training ({speed})"


def _machine(report: Report) -> str:
    return f"{report['cpu']['model']}, {report['cpu']['cores']} cores, {report['run']['device']}"


# ------------------------------------------------------------------------------------------------------------- runs beside each other


def table(one: Table) -> str:
    """Return the part of the page for runs that are compared: a row for each, commands below, what is behind a classical row first."""
    found = {name: report for name in one.runs if (report := read(name)) is not None}
    if not found:
        return ""
    lines = [f"## {one.title}", "", one.about, ""]
    behind = [name for name, report in found.items() for score in _shown(one, report)[:1] if _behind(report["scores"][score])]
    if behind:
        lines += [f"**The classical row does better, outside chance, in {', '.join(behind)}.**", ""]
    lines += _rows(one, found)
    lines += ["", "```sh", *(command(name) for name in found), "```", ""]
    lines += [NOTES[name] for name in found if name in NOTES]
    machines: dict[str, list[str]] = {}
    for name, report in found.items():
        machines.setdefault(_machine(report), []).append(name)
    told = [machine + (f" ({', '.join(names)})" if len(machines) > 1 else "") for machine, names in machines.items()]
    lines += ["", f"Machine: {'; '.join(told)}."]
    return "\n".join(lines) + "\n"


def _rows(one: Table, found: dict[str, Report]) -> list[str]:
    arms = [arm for arm in ARMS if any(arm in row for report in found.values() for row in report["scores"].values())]
    general = [name for name in one.general if any(name in _general(report) for report in found.values())]
    heads = ["run", "score", *(ARMS[arm] for arm in arms), "n", "groups", *general, *(COLUMNS[name] for name in one.columns)]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, report in found.items():
        for number, score in enumerate(_shown(one, report)):
            row, first = report["scores"][score], number == 0
            cells = [name if first else "", score + ("" if row["higher_is_better"] else " (lower is better)")]
            cells += [cell(row.get(arm)) for arm in arms] + [str(row["n"]), str(row["groups"])]
            cells += [cell(_general(report).get(each, {}).get("difference")) if first else "" for each in general]
            cells += [_fact(report["run"], column) if first else "" for column in one.columns]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


ARMS = {
    "zero_shot": "zero-shot",
    "base": "base",
    "tuned": "tuned",
    "difference": "difference",
    "baseline": "classical",
}
"""The columns of a score, in their order, by the name of the arm in report.json."""

COLUMNS = {"trainable": "parameters that move", "seconds": "training", "peak_memory_gb": "peak memory"}


def _shown(one: Table, report: Report) -> list[str]:
    """Return the scores of a run that a table shows."""
    return [score for score in report["scores"] if not one.scores or score in one.scores]


def _behind(row: dict[str, Any]) -> bool:
    """Return whether the tuned model's interval lies below the classical row's value."""
    tuned, classical = row.get("tuned"), row.get("baseline")
    if not tuned or not classical or tuned["low"] is None or classical["mean"] is None:
        return False
    return tuned["high"] < classical["mean"] if row["higher_is_better"] else tuned["low"] > classical["mean"]


def _general(report: Report) -> dict[str, Any]:
    """Return what the run forgot, by score."""
    return (report.get("forgetting") or {}).get("scores") or {}


def _fact(run: dict[str, Any], column: str) -> str:
    value = run.get(column)
    if value is None:
        return "–"
    return {"seconds": f"{value:,.0f} s", "peak_memory_gb": f"{value:.2f} GB"}.get(column, f"{value:,}")


# ------------------------------------------------------------------------------------------------------------------------- the page


def make(names: Iterable[str]) -> None:
    """Carry out the runs that have no figures yet, and keep their figures."""
    for name in names:
        if (FIGURES / f"{name}.json").is_file():
            continue
        if not (ROOT / "runs" / name / "report.json").is_file():
            subprocess.run([sys.executable, "-m", *command(name).split()], cwd=ROOT, check=True)
        take_up(name)


def page() -> str:
    """Return the page, made of the figures that are there."""
    parts = [HEAD, *filter(None, map(table, TABLES)), "## Jobs one by one\n"]
    parts += [section(name, report) for name in JOBS if (report := read(name)) is not None and JOBS[name].alone]
    return "\n".join(parts)


def write() -> None:
    """Write the page."""
    (ROOT / "docs" / "results.md").write_text(page(), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="runs to carry out; none: all")
    parser.add_argument("--write", action="store_true", help="carry out no run")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.names) - set(JOBS)):
        parser.error(f"no such run: {', '.join(unknown)}; expected some of {', '.join(JOBS)}")
    if asked.write:
        for name in asked.names or JOBS:
            take_up(name)
    else:
        make(asked.names or JOBS)
    write()


if __name__ == "__main__":
    main()
