"""Scores that are not in the registry: a user's own function, named `module:function` in a run file.

In: the name. Out: a Score like any other. The function takes answers and tasks, and options as keyword parameters; it returns one
number per answer, and the score is their mean.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from burnish.errors import RunError
from burnish.named_code import imported
from burnish.scores.parts import mean, means
from burnish.types import Answer, Score, Task


def private_score(name: str) -> Score:
    """Return the score that `module:function` names: a function of (answers, tasks), or a Score made by hand.

    The module is looked for in the current folder too, and known already where a run file lies beside it. Raises ConfigError where it
    cannot be imported or holds no such function.
    """
    found = imported(name, called="score ")
    if isinstance(found, Score):
        return found
    return mean_of(found, name)


def mean_of(function: Callable[..., Any], name: str) -> Score:
    """Return the mean of what a function gives for each answer as a score, its options and docstring kept.

    The statistics raise RunError where the function fails or does not return one finite number per answer.
    """

    @functools.wraps(function)
    def statistics(answers: Sequence[Answer], tasks: Sequence[Task], **options: Any) -> np.ndarray:
        try:
            values = [float(value) for value in function(answers, tasks, **options)]
        except Exception as error:
            raise RunError(
                f"score {name!r} failed: {type(error).__name__}: {error}. Expected a function of (answers, tasks) that returns one "
                "number per answer, whatever the answer"
            ) from error
        if len(values) != len(answers):
            raise RunError(f"score {name!r} returned {len(values)} numbers for {len(answers)} answers; expected one each")
        broken = [str(task.origin) for value, task in zip(values, tasks, strict=True) if not math.isfinite(value)]
        if broken:
            raise RunError(f"score {name!r} is not a finite number for {len(broken)} answers, the first one to {broken[0]}")
        return means(values)

    return Score(statistics=statistics, combine=mean)
