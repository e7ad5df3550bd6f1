"""Make the part of docs/decide.md that shows two whole decisions, with the time that they took and a picture of the page.

    burnish data get covid_qa && burnish data get banking77
    python benchmarks/decide/examples.py            carries out what is missing, then writes figures, pictures and the page
    python benchmarks/decide/examples.py --write    takes up the decisions that lie under runs/, and carries out none

Enters: the run files examples/decide-NAME.toml. Leaves: benchmarks/decide/examples.json, docs/images/decide-NAME.png (where a Chromium is on the PATH),
and the part of docs/decide.md between its two marks. Delete a decision's folder under runs/ to have it carried out, and timed, anew: a time
is kept with the decision that it was taken of, since one that goes on from finished arms takes less.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from burnish.decide.words import name_of
from burnish.environment import environment

ROOT = Path(__file__).parents[2]
PAGE, FIGURES = ROOT / "docs" / "decide.md", Path(__file__).with_suffix(".json")
EXAMPLES = {"covid_qa": 600, "banking77": 300}
"""Decisions, and the seconds within which each is to end on two quiet cores."""
START, END = "<!-- from benchmarks/decide/examples.py -->", "<!-- end -->"


def carried_out(name: str) -> None:
    """Carry out a decision in a folder of its own, and keep beside it how long that took."""
    folder = ROOT / "runs" / f"decide-{name}"
    if (folder / "time.json").is_file():
        return
    if folder.exists():  # one that was interrupted would go on from what is finished, and its time would say too little
        shutil.rmtree(folder)
    started = time.monotonic()
    call = [sys.executable, "-m", "burnish", "decide", f"examples/decide-{name}.toml", "--quick", f"output=runs/decide-{name}"]
    subprocess.run(call, cwd=ROOT, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = {"seconds": round(time.monotonic() - started), "processor_seconds": round(used.ru_utime + used.ru_stime)}
    (folder / "time.json").write_text(json.dumps(told) + "\n", encoding="utf-8")


def taken_up(name: str) -> dict[str, Any]:
    """Return what the page shows of a decision."""
    folder = ROOT / "runs" / f"decide-{name}"
    decision = json.loads((folder / "decision.json").read_text(encoding="utf-8"))
    score = decision["score"]
    return {
        "command": f"burnish decide examples/decide-{name}.toml --quick",
        **json.loads((folder / "time.json").read_text(encoding="utf-8")),
        "limit_seconds": EXAMPLES[name],
        "cpu": {key: environment()["cpu"][key] for key in ("model", "cores")},
        "score": score,
        "rows": {key: decision["rows"][key] for key in ("train", "dev", "test", "groups")},
        "documents": decision["documents"],
        "arms": {
            arm: {
                "score": {key: one["scores"][score][key] for key in ("mean", "low", "high", "n")},
                "p50_ms": None if one["latency"] is None else round(one["latency"]["p50"]),
                "fixed_seconds": None if "cost" not in one else round(one["cost"]["fixed"], 1),
                "offered": one["offered"],
            }
            for arm, one in decision["arms"].items()
        },
        "arm": decision["recommendation"]["arm"] if decision["recommendation"] else None,
        "sentences": decision["sentences"],
    }


def pictured(name: str, *, height: int = 1500) -> bool:
    """Write the upper part of a decision's page as a picture; False where no Chromium is on the PATH."""
    browser = next((found for one in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(one))), None)
    if browser is None:
        return False
    from playwright.sync_api import sync_playwright

    page_file = (ROOT / "runs" / f"decide-{name}" / "decision.html").resolve()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": 1000, "height": height}, color_scheme="light")
        page.goto(page_file.as_uri())
        page.screenshot(path=str(ROOT / "docs" / "images" / f"decide-{name}.png"))
        opened.close()
    return True


def section(found: dict[str, dict[str, Any]]) -> str:
    """Return the part of the page that shows these decisions."""
    parts = []
    for name, one in found.items():
        rows = one["rows"]
        documents = one["documents"]["documents"]
        known = f", {documents:,} documents" if documents else ", no documents"
        parts += [
            f"### {name}",
            f"`{one['command']}`: {rows['train']:,} rows to learn from, {rows['test']:,} held out in {rows['groups']:,} groups{known}. It took "
            f"{one['seconds']} s ({one['processor_seconds']} s of processor time) on {one['cpu']['cores']} cores.",
            "\n".join(f"> {sentence}\n>" for sentence in one["sentences"]).removesuffix("\n>"),
            "\n".join(
                [
                    f"| arm | {one['score']} | p50 of an answer | seconds to build |",
                    "|---|---|---|---|",
                    *(_line(arm, told, chosen=arm == one["arm"]) for arm, told in one["arms"].items()),
                ]
            ),
        ]
        if (ROOT / "docs" / "images" / f"decide-{name}.png").is_file():
            parts.append(f"![The page of this decision](images/decide-{name}.png)")
    return "\n\n".join(parts)


def _line(arm: str, told: dict[str, Any], *, chosen: bool) -> str:
    score = told["score"]
    value = "–" if score["mean"] is None else f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    name = f"**{name_of(arm)}**" if chosen else name_of(arm) if told["offered"] else f"{name_of(arm)} (diagnostic)"
    latency = "–" if told["p50_ms"] is None else f"{told['p50_ms']} ms"
    return f"| {name} | {value}, n {score['n']} | {latency} | {'–' if told['fixed_seconds'] is None else told['fixed_seconds']} |"


def write(found: dict[str, dict[str, Any]]) -> None:
    """Write the figures, and the page's part made of them."""
    FIGURES.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(START)
    PAGE.write_text(f"{before}{START}\n\n{section(found)}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="carry out nothing")
    asked = parser.parse_args()
    made = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {}
    for example in EXAMPLES:
        if not asked.write:
            carried_out(example)
        if (ROOT / "runs" / f"decide-{example}" / "time.json").is_file():
            made[example] = taken_up(example)
            pictured(example)
    write(made)
