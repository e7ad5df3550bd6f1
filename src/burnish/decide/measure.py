"""What is measured of an arm beside its score: consistency, calibration, abstention, where errors come from, latency.

Enters: a bench, an arm with its setting and model, and rows. Leaves: plain values with the number of rows behind each. What an arm cannot have (a
closed book retrieves nothing) is absent and not zero.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from burnish.data.fields import normalised
from burnish.decide.arms import Arm
from burnish.decide.bench import Bench, Said, Setting, ask, gold, statistics
from burnish.decide.protocol import Item
from burnish.forgetting_answers import says_not_stated
from burnish.models import Model
from burnish.scores import SCORES, groups_of, intervals
from burnish.types import Answer, Message, Score, Task, content, plain

SAMPLES, TEMPERATURE = 5, 0.7
RIGHT = 0.5
"""From this value of the deciding score on, an answer counts as right where errors are counted."""
BINS = 10
_POLITE = "Could you tell me: "


def lenient(answer: Answer, task: Task) -> Answer:
    """Return an answer with what surrounds it taken away: the first line, without "Answer:", or the one known label that it names."""
    text = answer.text.strip()
    if task.expected.choices:
        named = {choice for choice in task.expected.choices if re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text, re.IGNORECASE)}
        longest = [one for one in named if not any(one != other and one.lower() in other.lower() for other in named)]
        return replace(answer, text=longest[0]) if len(longest) == 1 else answer
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return replace(answer, text=re.sub(r"^(the )?answer( is)?\s*:\s*", "", first, flags=re.IGNORECASE))


def right_of(bench: Bench, answers: Sequence[Answer], items: Sequence[Item]) -> np.ndarray:
    """Return which answers count as right by the deciding score."""
    score = bench.scores[bench.headline]
    values = score.combine(statistics(bench, {"": answers}, items, bench.headline)[""])
    return np.nan_to_num(values) >= RIGHT if score.higher_is_better else np.zeros(len(items), dtype=bool)


# --------------------------------------------------------------------------------------------------------- consistency, calibration


def paraphrases(item: Item) -> list[Item]:
    """Return the question in other words by rule, the meaning kept: small letters, no mark at its end, a polite beginning."""
    last = item.task.messages[-1]
    text = plain(last.content)
    asked = item.question
    ways = (asked.lower(), asked.rstrip("?.! "), _POLITE + asked[:1].lower() + asked[1:])
    made = []
    for way in ways:
        turn: Message = replace(last, content=content(text.replace(asked, way)))
        made.append(replace(item, question=way, task=replace(item.task, messages=(*item.task.messages[:-1], turn))))
    return made


def consistency(bench: Bench, arm: Arm, setting: Setting, items: Sequence[Item], model: Model) -> dict[str, Any]:
    """Return how far an arm agrees with itself: over samples of one question, and over paraphrases; and how well agreement tells what is right.

    "agreement" is the mean share of pairs of answers that say the same, "all_right" the share of questions answered rightly in every wording:
    a model can be consistently wrong. As certainty the share of the commonest answer among the samples is taken.
    """
    asking = bench.asking(temperature=TEMPERATURE)
    drawn = [
        ask(bench, arm, setting, items, model, asking=replace(asking, options=replace(asking.options, step=number + 1)))
        for number in range(SAMPLES)
    ]
    said_RS = np.array([[normalised(one.text) for one in sample.answers] for sample in drawn], dtype=object).T
    worded = [ask(bench, arm, setting, [paraphrases(item)[way] for item in items], model) for way in range(3)]
    plain_said = ask(bench, arm, setting, items, model)
    ways_RW = np.array([[normalised(one.text) for one in way.answers] for way in (plain_said, *worded)], dtype=object).T
    right_WR = np.stack([right_of(bench, way.answers, items) for way in (plain_said, *worded)])
    certain, correct = [], []
    for place, texts in enumerate(said_RS):
        commonest, count = Counter(texts.tolist()).most_common(1)[0]
        certain.append(count / SAMPLES)
        number = texts.tolist().index(commonest)
        correct.append(bool(right_of(bench, [drawn[number].answers[place]], [items[place]])[0]))
    return {
        "n": len(items),
        "samples": {"agreement": _shares(_agreement(said_RS), items)},
        "paraphrases": {
            "agreement": _shares(_agreement(ways_RW), items),
            "all_right": _shares(right_WR.all(axis=0).astype(float), items),
        },
        "calibration": calibration(np.array(certain), np.array(correct)),
    }


def _agreement(texts_RS: np.ndarray) -> np.ndarray:
    """Return for each row the share of pairs of answers that are the same."""
    return np.array([np.mean([one == other for one, other in combinations(row.tolist(), 2)]) for row in texts_RS])


def _shares(values_R: np.ndarray, items: Sequence[Item]) -> dict[str, Any]:
    """Return a mean with its interval over groups."""
    table = np.stack([values_R, np.ones(len(values_R))], axis=1)
    mean: Score = SCORES["exact_match"]
    # A row of zeros would count as not compared; the second column says that it was.
    found = intervals(mean, {"value": table}, groups_of([item.task for item in items]))
    return {**found["value"], "n": found["n"]}


def calibration(certain_R: np.ndarray, correct_R: np.ndarray) -> dict[str, Any]:
    """Return the Brier score, the expected calibration error over bins of equal mass, and accuracy on the surest 80 %: Guo et al. 2017."""
    order = np.argsort(-certain_R, kind="stable")
    parts = [part for part in np.array_split(order, min(BINS, len(order))) if len(part)]
    gaps = [len(part) * abs(float(certain_R[part].mean()) - float(correct_R[part].mean())) for part in parts]
    surest = order[: max(1, round(0.8 * len(order)))]
    return {
        "brier": float(np.mean((certain_R - correct_R) ** 2)),
        "error": float(sum(gaps) / len(order)),
        "accuracy_at_80": float(correct_R[surest].mean()),
        "n": len(order),
    }


# ------------------------------------------------------------------------------------------------------------- abstention, errors


def abstention(bench: Bench, arm: Arm, setting: Setting, items: Sequence[Item], model: Model) -> dict[str, Any] | None:
    """Return how often an arm says that it does not know where the document with the answer is taken away, and how often where it is there.

    None for arms that look in no documents: nothing can be taken away from them.
    """
    known = [item for item in items if gold(bench, item)]
    if arm.passages in ("none", "wrong", "gold") or not known:
        return None
    without = ask(bench, arm, setting, known, model, without_document=True)
    with_it = ask(bench, arm, setting, known, model)
    told = [np.array([float(says_not_stated(one.text)) for one in said.answers]) for said in (without, with_it)]
    return {"unanswerable": _shares(told[0], known), "answerable": _shares(told[1], known)}


def errors(bench: Bench, arm: Arm, items: Sequence[Item], said: Said) -> dict[str, int]:
    """Return how many answers are right, and where the others come from."""
    right = right_of(bench, said.answers, items)
    kinder = right_of(bench, [lenient(one, item.task) for one, item in zip(said.answers, items, strict=True)], items)
    found: Counter[str] = Counter()
    for place, item in enumerate(items):
        if right[place]:
            found["right"] += 1
        elif kinder[place] or not said.answers[place].stopped:
            found["form"] += 1
        elif arm.passages == "none":
            found["closed book wrong"] += 1
        elif not holds_evidence(bench, item, said.shown[place]):
            found["retrieval missed" if gold(bench, item) else "not in the documents"] += 1
        else:
            found["evidence read wrong"] += 1
    return dict(found)


def holds_evidence(bench: Bench, item: Item, shown: Sequence[str]) -> bool:
    """Whether a passage that holds the answer was shown, not cut before it."""
    assert bench.index is not None
    texts = [bench.index.passages[place].text for place in gold(bench, item)]
    answer = normalised(item.answer)
    divided = all(answer not in normalised(text) for text in texts)  # it reaches over the border of two passages
    return any(
        any(text.startswith(one) or text in one for text in texts) and (divided or answer in normalised(one)) for one in shown
    )


def recall(bench: Bench, items: Sequence[Item], said: Said) -> dict[str, Any] | None:
    """Return how often a passage that holds the answer was shown, None where it is not known which one does."""
    known = [place for place, item in enumerate(items) if gold(bench, item)]
    if not known:
        return None
    hits = np.array([float(holds_evidence(bench, items[place], said.shown[place])) for place in known])
    return _shares(hits, [items[place] for place in known])


# ------------------------------------------------------------------------------------------------------------------- memory, latency


def weight_bytes(model: Model) -> int:
    """Return the bytes of a model's weights as they lie in memory."""
    return sum(one.numel() * one.element_size() for one in model.network.parameters())


def latency(bench: Bench, arms: Mapping[str, tuple[Arm, Setting, Model]], items: Sequence[Item]) -> dict[str, dict[str, float]]:
    """Return milliseconds of a single answer by arm: looking, writing the prompt and answering, one row at a time, arms in turn on each row.

    The first row warms up and is not counted. Taking arms in turn lets whatever slows the machine down slow all of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in arms}
    asking = bench.asking(batch=1)
    for number, item in enumerate(items):
        for name, (arm, setting, model) in arms.items():
            bench.looked.clear()  # nobody has asked this question before
            started = time.perf_counter()
            ask(bench, arm, setting, [item], model, asking=asking)
            if number:
                taken[name].append(1000 * (time.perf_counter() - started))
    return {
        name: {
            "p50": float(np.quantile(one, 0.5)),
            "p95": float(np.quantile(one, 0.95)),
            "mean": float(np.mean(one)),
            "low": float(np.mean(one) - 1.96 * np.std(one) / len(one) ** 0.5),
            "high": float(np.mean(one) + 1.96 * np.std(one) / len(one) ** 0.5),
            "n": len(one),
        }
        for name, one in taken.items()
        if one
    }
