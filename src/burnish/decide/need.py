"""How many rows are needed: the best prompt and the tuned weights at an eighth, a quarter, half and all of the rows.

Enters: a bench and the results of all rows. Leaves: plain values: quality by number of rows with intervals, the number from which tuning is ahead, what
the last doubling brought, and which labels have too few rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.data.fields import normalised
from burnish.decide.arms import ARMS
from burnish.decide.bench import Bench, ask, statistics, value, with_pool
from burnish.decide.carry_out import Effort, Result, with_rows
from burnish.decide.measure import RIGHT
from burnish.decide.protocol import Item
from burnish.decide.statistics import difference
from burnish.decide.weights import learn, open_merged
from burnish.decide.words import PROMPTED
from burnish.scores import groups_of, intervals
from burnish.types import Answer

SHARES = (8, 4, 2)
FEW_ROWS = 10
"""Rows of a label below which its errors may come from there being too few."""


def data_need(bench: Bench, done: Mapping[str, Result], effort: Effort) -> dict[str, Any] | None:
    """Return quality by number of rows of the best prompted arm and of the tuned one; None where neither was carried out."""
    names = [*_best_prompt(bench, done), *(["tuned"] if "tuned" in done else [])]
    if not names:
        return None
    everything = bench.rows.train
    draw = np.random.Generator(np.random.Philox(key=bench.plan.resolved.config.seed + 3)).permutation(len(everything))
    answers: dict[int, dict[str, Sequence[Answer]]] = {}
    for share in SHARES:
        kept = [everything[place] for place in sorted(draw[: max(1, len(everything) // share)].tolist())]
        answers[len(kept)] = {name: _answers(bench, name, done[name], kept, share, effort) for name in names}
    answers[len(everything)] = {name: done[name].said.answers for name in names}
    groups = groups_of([item.task for item in bench.rows.test])
    score = bench.scores[bench.headline]
    table = []
    for rows, given in sorted(answers.items()):
        found = statistics(bench, given, bench.rows.test, bench.headline)
        row = intervals(score, found, groups, seed=0, difference_from=names[0])
        table.append({"rows": rows, **{name: row[name] for name in names}, "n": row["n"]})
    written: dict[str, Any] = {"score": bench.headline, "sizes": table, "labels": lacking(bench, done)}
    if len(names) == 2:
        written |= {
            "prompted": names[0],
            "overtakes": overtakes(table, names[0], higher=score.higher_is_better, margin=bench.settings.margin),
        }
    return written | {"doubling": {name: _doubling(bench, name, answers, groups) for name in names}}


def _best_prompt(bench: Bench, done: Mapping[str, Result]) -> list[str]:
    """Return the prompted arm with the best answers, in a list; nothing where none was carried out."""
    there = [name for name in PROMPTED if name in done]
    return [max(there, key=lambda name: value(bench, done[name].said))] if there else []


def _answers(bench: Bench, name: str, result: Result, kept: Sequence[Any], share: int, effort: Effort) -> Sequence[Answer]:
    """Return an arm's answers when it has only these rows, with the setting that it chose on all of them."""
    arm = ARMS[name]
    if arm.weights == "base" and not result.setting.examples:
        return result.said.answers  # what stands in its prompt does not come from the rows
    less = with_pool(with_rows(bench, kept), kept)
    if arm.weights == "base":
        return ask(less, arm, result.setting, bench.rows.test, bench.model).answers
    effort.watch.say(f"Data need: tuning on 1/{share} of the rows")
    learned = learn(less, arm, result.setting, f"{name}-1of{share}", kept, watch=effort.watch)
    return ask(less, arm, result.setting, bench.rows.test, open_merged(learned.folder, bench.model)).answers


def overtakes(table: Sequence[Mapping[str, Any]], prompted: str, *, higher: bool, margin: float) -> int | None:
    """Return the number of rows from which tuning is ahead of a prompted arm at every larger size that was measured, between sizes by the line through them.

    None where it is not ahead by the margin with all rows. Quality is taken as straight in the logarithm of the number of rows.
    """
    sign = 1.0 if higher else -1.0
    ahead = [sign * (row["tuned"]["mean"] - row[prompted]["mean"]) for row in table]
    if ahead[-1] < margin:
        return None
    place = len(ahead) - 1
    while place > 0 and ahead[place - 1] > 0:
        place -= 1
    if place == 0:
        return int(table[0]["rows"])
    low, high = np.log(table[place - 1]["rows"]), np.log(table[place]["rows"])
    share = -ahead[place - 1] / (ahead[place] - ahead[place - 1])
    return int(np.ceil(np.exp(low + share * (high - low))))


def _doubling(
    bench: Bench, name: str, answers: Mapping[int, Mapping[str, Sequence[Answer]]], groups: Sequence[str]
) -> dict[str, Any]:
    """Return what the last doubling of the rows brought, with an interval: the next one seldom brings more."""
    before, after = sorted(answers)[-2:]
    pair = {"before": answers[before][name], "after": answers[after][name]}
    found = statistics(bench, pair, bench.rows.test, bench.headline)
    return {"from": before, "to": after, **difference(found, groups, bench.scores[bench.headline], "after", "before")}


def lacking(bench: Bench, done: Mapping[str, Result]) -> list[dict[str, Any]]:
    """Return the kinds of rows of which there are few to learn from, and which the tuned arm (or the best prompt) answers worse than others."""
    name = next(iter([*(["tuned"] if "tuned" in done else []), *_best_prompt(bench, done)]), None)
    if name is None or not bench.scores[bench.headline].higher_is_better:
        return []
    values = bench.scores[bench.headline].combine(
        statistics(bench, {name: done[name].said.answers}, bench.rows.test, bench.headline)[name]
    )
    right: dict[str, list[bool]] = defaultdict(list)
    for item, one in zip(bench.rows.test, np.nan_to_num(values), strict=True):
        right[kind_of(item)].append(bool(one >= RIGHT))
    return few_and_worse(Counter(kind_of(item) for item in bench.rows.train), right)


def kind_of(item: Item) -> str:
    """Return what kind of row it is: its label, or of a question in words the word that it begins with (who, when, how …)."""
    if item.task.expected.labels is not None:
        return item.answer
    return f"questions with “{next(iter(normalised(item.question).split()), '')}”"


def few_and_worse(learned: Mapping[str, int], right: Mapping[str, Sequence[bool]]) -> list[dict[str, Any]]:
    """Return the kinds with fewer than ten rows to learn from that are answered worse than all rows together, the rarest first."""
    overall = float(np.mean([one for some in right.values() for one in some]))
    found = [
        {"label": kind, "rows": learned.get(kind, 0), "right": sum(some), "n": len(some)}
        for kind, some in right.items()
        if learned.get(kind, 0) < FEW_ROWS and sum(some) / len(some) < overall
    ]
    return sorted(found, key=lambda row: (row["rows"], row["label"]))
