"""Scores of how well a model expects the reference text, without generating: perplexity and bits per byte.

In: answers whose likelihood fields are filled (`Score.needs` is "likelihood"). Out: statistics [rows, 2] that add up: over the
whole corpus, not a mean of means per row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from burnish.scores.parts import table
from burnish.types import Answer, Task


def has_likelihood(task: Task) -> bool:
    """Whether a task has a text whose likelihood can be measured."""
    return bool(task.text) or any(task.expected.texts)


def perplexity(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """How many tokens the model hesitates between, on average, before each token of the reference: exp(nats per token).

    Statistics [rows, 2]: nats, tokens. Compare only models with the same tokenizer; else bits_per_byte. Lower is better, best is 1.
    """
    return table(((answer.nll, answer.nll_tokens) for answer, _ in zip(answers, tasks, strict=True)), 2)


def perplexity_of_sums(sums: np.ndarray) -> np.ndarray:
    """Combine sums [..., 2] of (nats, tokens) to perplexity [...]; nan without tokens, infinite where it exceeds float64."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.exp(sums[..., 0] / sums[..., 1])


def bits_per_byte(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Bits that the model needs for each UTF-8 byte of the reference: comparable between tokenizers.

    Statistics [rows, 2]: bits (nats / ln 2), bytes. Lower is better, best is 0.
    """
    return table(((answer.nll / math.log(2.0), answer.nll_bytes) for answer, _ in zip(answers, tasks, strict=True)), 2)
