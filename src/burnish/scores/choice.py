"""Which scores suit some tasks when the user names none.

In: tasks. Out: names of scores, the headline first. Called by evaluation and tuning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from burnish.scores.labels import has_labels
from burnish.scores.numbers import is_number
from burnish.scores.parts import has_texts, is_generated
from burnish.scores.preference import is_pair
from burnish.scores.ratings import is_rated, is_thumb
from burnish.scores.spans import has_spans
from burnish.scores.structured import has_json, has_tool_calls
from burnish.types import Task

SUITABLE: dict[str, tuple[str, ...]] = {
    "pairs": ("preference_accuracy", "rouge_l"),
    "numbers": ("absolute_error", "last_number"),
    "labels": ("accuracy", "macro_f1", "label_parse_rate"),
    "spans": ("span_f1",),
    "tools": ("tool_call",),
    "json": ("json_field_f1", "json_valid"),
    "short": ("exact_match", "token_f1"),
    "long": ("rouge_l", "chrf"),
    "text": ("bits_per_byte", "perplexity"),
}
OF_HEADS: dict[str, dict[str, tuple[str, ...]]] = {
    "masked": {"text": ("restored_tokens", "bits_per_masked_token")},
    "reward": {
        "pairs": ("preference_accuracy", "calibration_error", "brier_score"),
        "thumbs": ("thumb_auroc",),
        "ratings": ("rating_correlation",),
    },
}
"""All that can be measured of a head which says something that no model writes, by its problem and by kind of task."""

BY_NAME = ("brier_score",)
"""Of these, what is not chosen unless it is named."""

WITHOUT_HEADS = ("stop_rate", "label_parse_rate", "rouge_l")
"""What tells nothing of a head: it always says something that is a label, and always ends."""

OF_CHANCES = ("auroc", "sensitivity")
"""What compares probabilities of labels, which heads of labels alone tell."""

SHORT_WORDS, SHORT_CHARACTERS = 10, 100
"""Up to this median length of the references, an answer is right or wrong; beyond it, it is more or less alike."""

SMALLEST_SHARE = 0.1
"""A kind of task that makes less than this share of the rows adds no score of its own."""


def applicable(tasks: Sequence[Task]) -> list[str]:
    """Return the names of the scores that suit what the tasks hold, the headline first.

    The commonest kind of task comes first; a kind below a tenth of the tasks adds nothing. Tasks that are answered by generation
    add stop_rate. Tasks with nothing to compare with (a bare prompt) have only that one.
    """
    kinds = Counter(_kind(task) for task in tasks)
    free = [task for task in tasks if _kind(task) == "free"]
    if free:
        kinds["short" if _are_short(free) else "long"] += kinds.pop("free")
    names: list[str] = []
    for kind, count in kinds.most_common():
        if count >= SMALLEST_SHARE * len(tasks):
            names += SUITABLE.get(kind, ())
    return names + ["stop_rate"] * any(map(is_generated, tasks))


def fitting(tasks: Sequence[Task], problem: str | None, *, pictures: bool = False) -> list[str]:
    """Return the names of the scores that suit the tasks of a head with this problem, the headline first; None: no head.

    Of what is on `pictures` the order of the rows is told too: their classes are seldom of one size, and a threshold is chosen later.
    """
    if problem is None:
        return applicable(tasks)
    if problem not in OF_HEADS:
        names = [name for name in applicable(tasks) if name not in WITHOUT_HEADS]
        return names + ["auroc"] * (pictures and problem in ("single", "several"))
    rated = "thumbs" if all(is_thumb(task) for task in tasks if is_rated(task)) else "ratings"
    kinds = Counter(rated if is_rated(task) else _kind(task) for task in tasks)
    names = [name for kind, _ in kinds.most_common() for name in OF_HEADS[problem].get(kind, ())]
    return [name for name in names if name not in BY_NAME]


def measures(name: str, problem: str | None) -> bool:
    """Return whether a score can measure a head with this problem: restored tokens are compared by their own scores, and these by nothing else."""
    if name.split("(")[0] in OF_CHANCES:
        return problem in ("single", "several")
    return ":" in name or (name in OF_HEADS["masked"]["text"]) == (problem == "masked")


def _kind(task: Task) -> str:
    """Return what a task holds to compare with; the most specific kind where it holds several."""
    tests = {
        "pairs": is_pair,
        "numbers": is_number,
        "labels": has_labels,
        "spans": has_spans,
        "tools": has_tool_calls,
        "json": has_json,
        "free": has_texts,
    }
    if not is_generated(task):
        return "text"
    return next((kind for kind, holds in tests.items() if holds(task)), "prompt")


def _are_short(tasks: Sequence[Task]) -> bool:
    """Whether the canonical answers are short in the median, in words and in characters (not every script has spaces)."""
    texts = [task.expected.texts[0] for task in tasks]
    return median(len(text.split()) for text in texts) <= SHORT_WORDS and median(map(len, texts)) <= SHORT_CHARACTERS
