"""Whether `decide` is right end to end where the right answer is planted: rows and documents made for the bundled chat model, each kind three times.

    python benchmarks/decide/planted.py [KIND …] [--seeds 3] [--write]

Enters: nothing. Leaves: a decision for each kind and seed below runs/planted, and with --write benchmarks/decide/planted.json. What is right follows from
how the rows are made: which family of arms (prompting, retrieval, tuning, both) can know what an answer takes. Where there is nothing to learn from rows,
there are only a few of them, as in life.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish import api
from burnish.decide.words import FAMILIES

ROOT = Path(__file__).parents[2]
FEW, MANY, HELD_OUT, DEV = 16, 240, 120, 32
ARMS = ["zero_shot", "few_shot_nearest", "retrieval_bm25", "tuned", "tuned_on_context", "gold_passage", "majority"]
SYLLABLES = tuple(re.findall("[a-z]+", "al bor cam dun el fen gor hal is jun kel lor mar nor os pel quin ros sel tor ul ven wil"))
THINGS = ("library", "bridge", "school", "museum", "hospital", "station", "theatre", "market hall", "town hall", "lighthouse")
PARTS = (
    "It is made of stone.",
    "Many people visit it in summer.",
    "It stands near the river.",
    "Children like to play there.",
    "It was painted again last year.",
)


@dataclass(frozen=True)
class Planted:
    """Rows (question, answer, group), how many of them may be learned from, documents by name, and the families that are right."""

    rows: list[tuple[str, str, str]]
    learned: int
    documents: dict[str, str]
    right: tuple[str, ...]


def towns(count: int, draw: random.Random) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault("".join(draw.choice(SYLLABLES) for _ in range(3)).capitalize())
    return list(found)


def facts_of(count: int, draw: random.Random) -> list[tuple[str, str, str, str]]:
    """Return (town, question, year, document): a fact that nobody can know, and the document that tells it."""
    made = []
    for town in towns(count, draw):
        thing, year = draw.choice(THINGS), str(draw.randint(1801, 1999))
        said = f"The {thing} of {town} was opened in {year}."
        sentences = [said, *draw.sample(PARTS, 2)]
        made.append((town, f"When was the {thing} of {town} opened?", year, " ".join(sentences)))
    return made


def facts(draw: random.Random) -> Planted:
    """Facts that stand in documents alone, and a few rows: they must be looked up."""
    made = facts_of(FEW + DEV + HELD_OUT, draw)
    rows = [(question, year, town) for town, question, year, _ in made]
    return Planted(rows, FEW, {town: text for town, _, _, text in made}, ("retrieval",))


def both(draw: random.Random) -> Planted:
    """The same facts in a form of their own, and many rows: looked up, and put into the form that only the rows show."""
    made = facts_of(MANY + DEV + HELD_OUT, draw)
    rows = [(question, f"REF {year} ok", town) for town, question, year, _ in made]
    return Planted(rows, MANY, {town: text for town, _, _, text in made}, ("both",))


def behaviour(draw: random.Random) -> Planted:
    """Labels by a rule that only many rows show, documents that do not tell it: tune."""
    labels = {"stone": "KX", "river": "PL", "summer": "VT", "children": "QD", "paint": "MW"}
    words = {
        "stone": ("rock", "marble", "brick"),
        "river": ("bank", "ferry", "water"),
        "summer": ("July", "holiday", "sun"),
        "children": ("toys", "school", "games"),
        "paint": ("colour", "brush", "walls"),
    }
    rows = []
    for town in towns(MANY + DEV + HELD_OUT, draw):
        kind = draw.choice(list(labels))
        rows.append((f"A letter from {town} about {draw.choice(words[kind])} and {draw.choice(words[kind])}.", labels[kind], town))
    return Planted(rows, MANY, {town: text for town, _, _, text in facts_of(60, draw)}, ("tuning",))


def neither(draw: random.Random) -> Planted:
    """What the model does already, its text in the question, and a few rows: prompting is enough."""
    made = facts_of(FEW + DEV + HELD_OUT, draw)
    rows = [(f"{text}\n\n{question}", year, town) for town, question, year, text in made]
    return Planted(rows, FEW, {town: text for town, _, _, text in facts_of(60, draw)}, ("prompting",))


def misleading(draw: random.Random) -> Planted:
    """The same, and documents that tell other years of the same things: looking up must not be advised."""
    made = facts_of(FEW + DEV + HELD_OUT, draw)
    rows = [(f"{text}\n\n{question}", year, town) for town, question, year, text in made]
    wrong = {town: text.replace(year, str(draw.randint(1801, 1999))) for town, _, year, text in made}
    return Planted(rows, FEW, wrong, ("prompting", "tuning"))


KINDS: dict[str, Callable[[random.Random], Planted]] = {
    "behaviour": behaviour,
    "facts": facts,
    "both": both,
    "neither": neither,
    "misleading": misleading,
}


def write(planted: Planted, folder: Path, seed: int) -> Path:
    """Write rows, documents and run file of a planted case, and return the run file."""
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    for name, text in planted.documents.items():
        (folder / "documents" / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    ends = (planted.learned, planted.learned + DEV, planted.learned + DEV + HELD_OUT)
    for side, start, end in zip(("train", "dev", "test"), (0, *ends), ends, strict=False):
        lines = [json.dumps({"question": asked, "answer": said, "group": group}) for asked, said, group in planted.rows[start:end]]
        (folder / f"{side}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    file = folder / "run.toml"
    file.write_text(
        f"""model = "tiny-chat"
output = {json.dumps(str(folder / "out"))}
seed = {seed}
score = ["exact_match"]
data = {{source = "train.jsonl", dev = "dev.jsonl", test = "test.jsonl", near_duplicates = false, max_length = 384}}
technique = "full"
train = {{epochs = 3, batch = 16, learning_rate = 5e-4}}
evaluate = {{max_tokens = 16, limit = 20, forgetting = false}}
log = {{tensorboard = false}}

[decide]
documents = "documents"
arms = {json.dumps(ARMS)}
examples = [2, 4]
passages = [1, 2]
probe_rows = 6
data_need = false
trials = 1
facts = 0
""",
        encoding="utf-8",
    )
    return file


def family_of(arm: str) -> str:
    return next((family for family, names in FAMILIES.items() if arm in names), "none")


def decided(kind: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return what was decided in one planted case."""
    started = time.monotonic()
    planted = KINDS[kind](random.Random(f"{kind} {seed}"))
    output = api.decide(write(planted, folder, seed), quick=True)
    decision = json.loads((output / "decision.json").read_text(encoding="utf-8"))
    found = decision["recommendation"]
    values = {name: round(arm["scores"]["exact_match"]["mean"], 3) for name, arm in decision["arms"].items()}
    chosen = family_of(found["arm"])
    return {
        "kind": kind,
        "seed": seed,
        "arm": found["arm"],
        "family": chosen,
        "right": chosen in planted.right,
        "exact_match": values,
        "seconds": round(time.monotonic() - started),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    results: list[dict[str, Any]] = []
    if unknown := set(asked.kinds) - KINDS.keys():
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    for kind in asked.kinds or KINDS:
        for seed in range(asked.seeds):
            results.append(decided(kind, seed, ROOT / "runs" / "planted" / f"{kind}-{seed}"))
            print(json.dumps(results[-1]), flush=True)
            told = {
                "command": "python benchmarks/decide/planted.py --write",
                "right": sum(one["right"] for one in results),
                "of": len(results),
                "decisions": results,
            }
            if asked.write:  # after each one: what is finished is kept, and a second start goes on from it
                Path(__file__).with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print(f"right in {sum(one['right'] for one in results)} of {len(results)}")
