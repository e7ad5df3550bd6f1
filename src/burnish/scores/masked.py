"""Scores of an encoder that restores masked tokens of a text.

In: answers that say how many tokens were masked and restored, as JSON, with their likelihood; tasks that are texts. Out: statistics
[rows, 2] that add up over all masked tokens. Compare only models with the same tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from burnish.scores.parts import table, text_of
from burnish.scores.reading import read_json
from burnish.types import Answer, Task


def is_text(task: Task) -> bool:
    """Whether a task is a plain text."""
    return bool(task.text)


def restored_tokens(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Share of the masked tokens of a text that an encoder restores: no other token is found likelier there.

    Statistics [rows, 2]: restored, masked. The masks are drawn as in training, from a seed that is always the same.
    """
    return table((_counts(answer) if is_text(task) else (0.0, 0.0) for answer, task in zip(answers, tasks, strict=True)), 2)


def bits_per_masked_token(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Bits that an encoder needs on average to name a masked token.

    Statistics [rows, 2]: bits (nats / ln 2), masked tokens. Lower is better, best is 0.
    """
    return table(
        (
            (answer.nll / math.log(2.0), answer.nll_tokens) if is_text(task) else (0.0, 0.0)
            for answer, task in zip(answers, tasks, strict=True)
        ),
        2,
    )


def _counts(answer: Answer) -> tuple[float, float]:
    """Return (restored, masked) of an answer; one masked token that was not restored where it says no such thing."""
    value = read_json(text_of(answer))
    hits, size = (value.get("restored"), value.get("masked")) if isinstance(value, dict) else (None, None)
    # true is no number
    if isinstance(hits, bool) or isinstance(size, bool) or not isinstance(hits, int) or not isinstance(size, int):
        return 0.0, 1.0
    return (float(hits), float(size)) if 0 <= hits <= size < 2**53 else (0.0, 1.0)
