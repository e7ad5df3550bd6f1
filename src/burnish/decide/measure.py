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
from typing import Any

import numpy as np

from burnish.data.fields import normalised
from burnish.data.render_heads import HeadRenderer
from burnish.decide.arms import Arm
from burnish.decide.bench import Bench, Said, Setting, ask, gold, statistics
from burnish.decide.protocol import Item
from burnish.evaluate_agreement import agreement, calibration, commonest, shares
from burnish.evaluate_certainty import label_chances
from burnish.evaluate_wordings import RULES, Wordings, worded
from burnish.forgetting_answers import says_not_stated
from burnish.models import Model
from burnish.scores import groups_of
from burnish.types import Answer, Task

SAMPLES, TEMPERATURE = 5, 0.7
RIGHT = 0.5
"""From this value of the deciding score on, an answer counts as right where errors are counted."""


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


def paraphrases(item: Item, wordings: Wordings = RULES) -> list[Item]:
    """Return the question in other words, the user's own where there are some, else made by rule; none of a text whose characters are marked."""
    if item.task.expected.spans is not None:
        return []
    return [replace(item, question=way, task=worded(item.task, item.question, way)) for way in wordings.of(item.question)]


def consistency(bench: Bench, arm: Arm, setting: Setting, items: Sequence[Item], model: Model) -> dict[str, Any]:
    """Return how far an arm agrees with itself: over samples of one question, and over wordings of it; and how well certainty tells what is right.

    "agreement" is the mean share of pairs of answers that say the same, "all_right" the share of questions answered rightly in every wording:
    a model can be consistently wrong. As certainty the share of the commonest answer among the samples is taken; a head, which draws no
    samples, says its certainty itself, where it tells one label.
    """
    groups = groups_of([item.task for item in items])
    worded = [[item, *paraphrases(item, bench.wordings)] for item in items]
    said = iter(ask(bench, arm, setting, [one for ways in worded for one in ways], model).answers)
    answers = [[next(said) for _ in ways] for ways in worded]
    right = [right_of(bench, some, [item] * len(some)).all() for some, item in zip(answers, items, strict=True)]
    samples, certain = _sampled(bench, arm, setting, items, model)
    return {
        "n": len(items),
        "samples": samples,
        "paraphrases": {
            "agreement": shares(agreement([[normalised(one.text) for one in some] for some in answers]), groups),
            "all_right": shares(np.array(right, dtype=float), groups),
            "given": bench.wordings.known(item.question for item in items),
        },
        "calibration": None if certain is None else calibration(*certain, groups),
    }


def _sampled(
    bench: Bench, arm: Arm, setting: Setting, items: Sequence[Item], model: Model
) -> tuple[dict[str, Any] | None, tuple[np.ndarray, np.ndarray] | None]:
    """Return the agreement among samples, and how certain each answer is and whether it is right; nothing where neither can be had."""
    groups, asker = groups_of([item.task for item in items]), bench.asker_of(model)
    if isinstance(asker, HeadRenderer):
        if asker.spec.problem != "single":
            return None, None
        answers, certain_R = label_chances(model, asker, [item.task for item in items], bench.asking())
        return None, (certain_R, right_of(bench, answers, items))
    asking = bench.asking(temperature=TEMPERATURE)
    drawn = [
        ask(bench, arm, setting, items, model, asking=replace(asking, options=replace(asking.options, step=number + 1))).answers
        for number in range(SAMPLES)
    ]
    texts = [[normalised(sample[place].text) for sample in drawn] for place in range(len(items))]
    chosen = [commonest(some) for some in texts]
    answers = [drawn[number][place] for place, (number, _) in enumerate(chosen)]
    certain_R = np.array([share for _, share in chosen])
    return {"agreement": shares(agreement(texts), groups)}, (certain_R, right_of(bench, answers, items))


# ------------------------------------------------------------------------------------------------------------- abstention, errors


def abstention(bench: Bench, arm: Arm, setting: Setting, items: Sequence[Item], model: Model) -> dict[str, Any] | None:
    """Return how often an arm says that it does not know where the document with the answer is taken away, and how often where it is there.

    "grounded" is how often its answer, where the document is gone, at least stands in what it was shown; what is neither is made up.
    None for arms that look in no documents: nothing can be taken away from them.
    """
    known = [item for item in items if gold(bench, item)]
    if arm.passages in ("none", "wrong", "gold") or not known:
        return None
    without = ask(bench, arm, setting, known, model, without_document=True)
    with_it = ask(bench, arm, setting, known, model)
    told = [np.array([float(says_not_stated(one.text)) for one in said.answers]) for said in (without, with_it)]
    stands = [
        float(not silent and bool(text := normalised(one.text)) and any(text in normalised(passage) for passage in shown))
        for one, silent, shown in zip(without.answers, told[0], without.shown, strict=True)
    ]
    groups = groups_of([item.task for item in known])
    return {
        "unanswerable": shares(told[0], groups),
        "answerable": shares(told[1], groups),
        "grounded": shares(np.array(stands), groups),
    }


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
    return shares(hits, groups_of([items[place].task for place in known]))


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
    return {name: summary(one) for name, one in taken.items() if one}


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return quantiles and mean of a few measured times, the mean with a 95 % interval by Student's t: a handful of times scatters more than a
    normal distribution with their own deviation admits, and arms would then be called cheaper by luck."""
    from scipy.special import stdtrit

    number = len(values)
    half = float(stdtrit(number - 1, 0.975) * np.std(values, ddof=1) / number**0.5) if number > 1 else float(np.mean(values))
    return {
        "p50": float(np.quantile(values, 0.5)),
        "p95": float(np.quantile(values, 0.95)),
        "mean": float(np.mean(values)),
        "low": float(np.mean(values)) - half,
        "high": float(np.mean(values)) + half,
        "n": number,
    }
