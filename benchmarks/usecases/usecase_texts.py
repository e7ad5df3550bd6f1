"""The prompted arms of running text: how well the untouched base predicts a text, alone and behind other texts of the trade.

Enters: the training texts and those held out. Leaves: likelihoods by arm, of the text itself, never of what stands before it. The passage is what a prompt can
do for a language: show some of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from burnish import api
from burnish.evaluate import answer, resolve_scores
from burnish.finish_answers import asking_for
from burnish.loaded import Loaded
from burnish.models import Model
from burnish.prepare import Plan
from burnish.retrieval import Document, build, search
from burnish.types import Answer, Task

CONTEXT = 700
"""Characters of the text that stands before."""
WORDS, LONGEST = 25, 40
"""Words of a text that a page shows, and tokens by which a model goes on."""
WHOLE = 10_000
"""Words of a piece of the index: more than any text has."""


def is_texts(tasks: Sequence[Task]) -> bool:
    """Whether all rows are running text."""
    return all(task.text is not None for task in tasks)


def text_arms(
    plan: Plan, model: Model, tasks: Sequence[Task]
) -> tuple[dict[str, Sequence[Answer]], dict[str, str], dict[str, float]]:
    """Return by arm the likelihood of each text, what stood before it, and milliseconds of a single text."""
    known = plan.first.tasks("train")
    texts = [task.text or "" for task in known]
    index = build((Document(f"{place:07}", text, known[place].origin) for place, text in enumerate(texts)), size=WHOLE)

    def nearest(task: Task) -> str:
        found = search(index, task.text or "", limit=1)
        return texts[int(found[0].passage.document)] if found else texts[0]

    before: dict[str, Callable[[Task], str]] = {
        "zero_shot": lambda task: "",
        "few_shot_fixed": lambda task: texts[0],
        "few_shot_nearest": nearest,
    }
    told = {"few_shot_fixed": "a training text before it", "few_shot_nearest": "the most similar training text before it"}
    found: dict[str, Sequence[Answer]] = {}
    times = {}
    for name, context in before.items():
        started = time.perf_counter()
        found[name] = [_behind(plan, model, task, context(task)) for task in tasks]
        times[name] = round(1000 * (time.perf_counter() - started) / max(len(tasks), 1), 1)
    return found, {"zero_shot": "nothing to choose", **told}, times


def _behind(plan: Plan, model: Model, task: Task, context: str) -> Answer:
    """Return the likelihood of a text behind another one: that of both together, less that of what stands before."""
    scores, asking = resolve_scores(["bits_per_byte"]), asking_for(plan)
    if not context:
        return answer(model, plan.first.renderer, [task], scores, asking)[0]
    head, text = f"{context[:CONTEXT]}\n\n", task.text or ""
    alone, both = answer(model, plan.first.renderer, [replace(task, text=head), replace(task, text=head + text)], scores, asking)
    assert alone.nll is not None and both.nll is not None, "a text without a likelihood"
    tokens = max(both.nll_tokens - alone.nll_tokens, 1)
    return Answer(nll=both.nll - alone.nll, nll_tokens=tokens, nll_bytes=len(text.encode()))


def continuations(plan: Plan, model: Model, run: str, tasks: Sequence[Task]) -> list[dict[str, str]]:
    """Return how base and tuned model go on from the beginnings of texts, beside how these went on."""
    base, tuned = Loaded(model, plan.first.renderer, {"form": "text"}), api.load(run)
    rows = []
    for task in tasks:
        words = (task.text or "").split()
        begun, rest = " ".join(words[:WORDS]), " ".join(words[WORDS : 2 * WORDS])
        before, after = (api.generate(one, [begun], max_tokens=LONGEST)[0]["text"] for one in (base, tuned))
        rows.append({"slice": task.slice or "", "prompt": begun, "expected": rest, "before": before, "after": after})
    return rows
