"""What an answer is worth in the benchmark of reinforcement, on every side: a number that differs between random answers.

Enters: a text, or answers and tasks as a score of burnish gets them. Leaves: the share of its characters that are vowels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def of_text(text: str) -> float:
    """Return the share of vowels among the characters of a text."""
    return sum(letter in "aeiou" for letter in text.lower()) / max(1, len(text))


def vowels(answers: Sequence[Any], tasks: Sequence[Any]) -> list[float]:
    """Share of the characters of an answer that are vowels."""
    return [of_text(answer.text) for answer in answers]
