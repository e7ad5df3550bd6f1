"""What it takes to follow a change: facts of the documents are made different, and each arm is brought up to date as its operator would.

Enters: a bench and finished arms. Leaves: plain values by way of updating: seconds, how many answers give the new fact (asked as before, and in other
words), how many still give the old one, and what became of other facts of the same documents. New values are taken from other rows' answers, so
that no model can know them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from burnish.data.fields import normalised
from burnish.decide.arms import Arm
from burnish.decide.bench import Bench, Setting, ask, gold, with_pool
from burnish.decide.carry_out import Effort, Result, model_of, with_rows
from burnish.decide.measure import paraphrases
from burnish.decide.protocol import Item
from burnish.decide.weights import learn, open_merged
from burnish.errors import BurnishError, Stopped
from burnish.models import Model
from burnish.retrieval import Document, update
from burnish.scores import SCORES, groups_of, intervals

SHORTEST, LONGEST = 3, 8
"""Characters that a fact has at least, and words that it has at most."""
REPLAY = 4
"""Rows that are known already, per row of a changed fact, when weights are trained on."""
NEIGHBOURS = 2
"""Other facts of the same document that are asked per changed fact."""


@dataclass(frozen=True, slots=True)
class Change:
    """A fact that was made different: the row before and after, and other rows on the same document."""

    before: Item
    after: Item
    neighbours: tuple[Item, ...]


def knowledge_update(bench: Bench, done: Mapping[str, Result], effort: Effort) -> dict[str, Any] | None:
    """Return what updating took and brought, by way; None where no fact of the documents can be changed."""
    changes, documents = changed_facts(bench, bench.settings.facts)
    if not changes or bench.index is None:
        return None
    effort.watch.say(f"Updating every arm after {len(changes)} facts of the documents were changed")
    started = time.perf_counter()
    index = update(bench.index, documents, embed=bench.embed)
    indexing = time.perf_counter() - started
    fresh = replace(bench, index=index, looked={})
    ways: list[dict[str, Any]] = []
    for name, result in done.items():
        arm = result.arm
        if arm.weights == "none" or not arm.offered:
            continue
        try:
            ways += _ways(bench, fresh, name, result, changes, indexing, effort)
        except Stopped:
            raise
        except Exception as error:
            said = str(error) if isinstance(error, BurnishError) else f"{type(error).__name__}: {error}"
            ways.append({"arm": name, "way": "failed", "failed": said, "seconds": 0.0, "direct": {"mean": 0.0}})
    facts = [{"question": one.before.question, "before": one.before.answer, "after": one.after.answer} for one in changes]
    return {"facts": facts, "documents": len({one.name for one in documents}), "ways": ways}


def changed_facts(bench: Bench, count: int) -> tuple[list[Change], list[Document]]:
    """Return facts made different, and the documents that hold them, edited at every place where the old value stands."""
    documents = {(one.name, part): one for name in {d.name for d in bench.rows.documents} for part, one in _parts(bench, name)}
    rows = [
        *(item for item in bench.rows.test if item.stratum == "seen"),
        *(item for item in bench.rows.test if item.stratum != "seen"),
    ]
    values = list(dict.fromkeys(item.answer for item in rows if _is_fact(item)))
    changes: list[Change] = []
    touched: set[str] = set()
    for item in rows:
        if len(changes) == count or not _is_fact(item) or not (places := gold(bench, item)):
            continue
        assert bench.index is not None
        passage = bench.index.passages[places[0]]
        text = documents[passage.document, passage.part].text
        new = _other_value(item, values, text)
        if passage.document in touched or new is None or not re.search(_whole(item.answer), text):
            continue
        touched.add(passage.document)
        for key, one in list(documents.items()):
            if key[0] == passage.document:
                documents[key] = replace(one, text=re.sub(_whole(item.answer), lambda _, new=new: new, one.text))
        expected = replace(item.task.expected, texts=(new,))
        after = replace(item, task=replace(item.task, expected=expected), document=passage.document, evidence=None)
        changes.append(Change(item, after, _neighbours(bench, item, passage.document)))
    return changes, [one for key, one in documents.items() if key[0] in touched]


def _parts(bench: Bench, name: str) -> list[tuple[int, Document]]:
    return list(enumerate(one for one in bench.rows.documents if one.name == name))


def _is_fact(item: Item) -> bool:
    words = item.answer.split()
    return len(item.answer) >= SHORTEST and 0 < len(words) <= LONGEST and item.task.expected.labels is None


def _whole(text: str) -> str:
    return rf"(?<!\w){re.escape(text.strip())}(?!\w)"


def _other_value(item: Item, values: Sequence[str], text: str) -> str | None:
    """Return another row's answer that looks alike and that the document does not hold: with digits or without, about as long."""
    digits = any(letter.isdigit() for letter in item.answer)
    alike = [one for one in values if any(letter.isdigit() for letter in one) == digits and normalised(one) not in normalised(text)]
    return min(alike, key=lambda one: (abs(len(one) - len(item.answer)), one), default=None)


def _neighbours(bench: Bench, item: Item, document: str) -> tuple[Item, ...]:
    """Return other facts of the same document, which must stay as they are: held-out ones first, then those that were learned."""
    old, rows = normalised(item.answer), bench.rows
    others = [
        one
        for one in (*rows.test, *rows.dev, *rows.train)
        if one.document == document and one.id != item.id and old not in normalised(one.answer)
    ]
    return tuple(others[:NEIGHBOURS])


# ---------------------------------------------------------------------------------------------------------------- ways of updating


def _ways(
    bench: Bench, fresh: Bench, name: str, result: Result, changes: Sequence[Change], indexing: float, effort: Effort
) -> list[dict[str, Any]]:
    """Return the ways in which an arm can be brought up to date, each carried out and asked."""
    arm, setting = result.arm, result.setting
    before = model_of(bench, result)
    assert before is not None
    known = _right_share(ask(bench, arm, setting, _all_neighbours(changes), before).answers, _all_neighbours(changes))

    def measured(way: str, asked: Bench, model: Model, seconds: float) -> dict[str, Any]:
        return {
            "arm": name,
            "way": way,
            "seconds": seconds,
            **_asked(asked, arm, setting, model, changes),
            "neighbours_before": known,
        }

    if result.folder is None:
        if arm.examples != "none":
            started = time.perf_counter()
            told = with_pool(bench, [*bench.pool, *(taught(change)[0] for change in changes)])
            return [measured("examples added", told, bench.model, time.perf_counter() - started)]
        return [
            measured(
                "documents indexed anew" if arm.passages != "none" else "nothing to update",
                fresh,
                bench.model,
                indexing if arm.looks else 0.0,
            )
        ]
    ways = [measured("documents indexed anew, weights as they were", fresh, before, indexing)] if arm.looks else []
    if name == "tuned":
        for way, (seconds, model) in _trained(bench, arm, setting, result, changes, effort).items():
            ways.append(measured(way, bench, model, seconds))
    return ways


def _trained(
    bench: Bench, arm: Arm, setting: Setting, result: Result, changes: Sequence[Change], effort: Effort
) -> dict[str, tuple[float, Model]]:
    """Return the weights trained again on all rows with the new facts among them, and the old ones trained on with replay."""
    new = [one for change in changes for one in taught(change)]
    replaced = {change.before.id for change in changes}
    kept = [item for item in bench.rows.train if item.id not in replaced]
    again = learn(with_rows(bench, kept), arm, setting, "tuned-again", [*kept, *new], watch=effort.watch)
    draw = np.random.Generator(np.random.Philox(key=bench.plan.resolved.config.seed + 4)).permutation(len(kept))
    replay = [kept[place] for place in draw[: REPLAY * len(new)].tolist()]
    found = {"trained again on all rows": (again.seconds, open_merged(again.folder, bench.model))}
    assert result.folder is not None
    tuned = replace(bench.model, found=replace(bench.model.found, name=str(result.folder.resolve())))
    on = learn(replace(with_rows(bench, kept), model=tuned), arm, setting, "tuned-on", [*new, *replay], watch=effort.watch)
    found["trained on, with replay"] = (on.seconds, open_merged(on.folder, bench.model))
    return found


def taught(change: Change) -> list[Item]:
    """Return what an operator would write of a changed fact: the question in two other wordings, with the new answer."""
    return paraphrases(change.after)[1:]


def _all_neighbours(changes: Sequence[Change]) -> list[Item]:
    return list({one.id: one for change in changes for one in change.neighbours}.values())


def _asked(bench: Bench, arm: Arm, setting: Setting, model: Model, changes: Sequence[Change]) -> dict[str, Any]:
    """Return how many answers give the new value, asked directly and in a wording that nobody taught; the old one; and other facts."""
    direct = [change.after for change in changes]
    said = ask(bench, arm, setting, direct, model).answers
    reworded = [paraphrases(change.after, bench.wordings)[0] for change in changes]
    other = ask(bench, arm, setting, reworded, model).answers
    old = [_holds(one.text, change.before.answer) for one, change in zip(said, changes, strict=True)]
    neighbours = _all_neighbours(changes)
    found = {
        "direct": _right_share(said, direct),
        "reworded": _right_share(other, reworded),
        "stale": _share(np.array(old, dtype=float), direct),
    }
    return found | {"neighbours": _right_share(ask(bench, arm, setting, neighbours, model).answers, neighbours)}


def _holds(text: str, fact: str) -> bool:
    return re.search(_whole(normalised(fact)), normalised(text)) is not None


def _right_share(answers: Sequence[Any], items: Sequence[Item]) -> dict[str, Any]:
    """Return the share of answers that hold the expected fact, with an interval."""
    return _share(np.array([float(_holds(one.text, item.answer)) for one, item in zip(answers, items, strict=True)]), items)


def _share(values_R: np.ndarray, items: Sequence[Item]) -> dict[str, Any]:
    if not len(items):
        return {"mean": None, "low": None, "high": None, "n": 0}
    table = {"value": np.stack([values_R, np.ones(len(values_R))], axis=1)}
    found = intervals(SCORES["exact_match"], table, groups_of([item.task for item in items]))
    return {**found["value"], "n": found["n"]}
