"""Rewards: what sampled answers are worth, as a mix of scores and models, with a guard against ever longer answers.

Enters: answers, the tasks they attempt, and what judges them: `Score` values, or callables such as a reward model. Leaves: one number
per answer and what it is made of. Called by `rollouts`; nothing is loaded here. A reward that is not a finite number stops the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from burnish.errors import ConfigError, RunError, combined
from burnish.types import Answer, Score, Task

Judge = Callable[..., Sequence[float] | np.ndarray]
"""What gives one number per answer to (answers, tasks, **options), more being better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a reward: a score, or a callable of (answers, tasks) that gives a number each, with its weight in the sum."""

    name: str
    judge: Score | Judge
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthGuard:
    """A penalty for long answers: none up to `soft` tokens, rising evenly to `penalty` at `limit` tokens, and `penalty` beyond.

    Source: Yu et al. 2025 (DAPO), arXiv 2503.14476, equation 13.
    """

    soft: int
    limit: int
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.soft < self.limit or not (math.isfinite(self.penalty) and self.penalty >= 0):
            raise ConfigError(
                f"length guard: soft = {self.soft}, limit = {self.limit}, penalty = {self.penalty}: expected token counts with "
                f"soft below limit, and a penalty of 0 or more."
            )

    def __call__(self, answers: Sequence[Answer]) -> np.ndarray:
        """Return [answers] what is added to each reward: 0 or less."""
        over_S = np.array([answer.tokens - self.soft for answer in answers], dtype=np.float64)
        return -self.penalty * np.clip(over_S / (self.limit - self.soft), 0.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Rewards:
    """What answers are worth: float64 `total_S`, and each part's own numbers before its weight ("length" for the guard's)."""

    total_S: np.ndarray
    parts: Mapping[str, np.ndarray]


def check_parts(parts: Sequence[Part]) -> None:
    """Raise ConfigError, all problems at once, for a mix that can say nothing: no parts, a name twice, a weight of no size."""
    problems = [] if parts else ["there is no score in it: name at least one."]
    names = [part.name for part in parts]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            problems.append(f"{name!r} stands in it {names.count(name)} times: give it one weight.")
    for part in parts:
        if not math.isfinite(part.weight) or part.weight == 0:
            problems.append(f"weight of {part.name!r} = {part.weight}: expected a finite number other than 0.")
        if part.name == "length":
            problems.append("'length' names the length guard: call this part something else.")
        if isinstance(part.judge, Score) and part.judge.needs != "text":
            problems.append(f"{part.name!r} measures the likelihood of a given text, which a sampled answer does not have.")
    if problems:
        raise combined(ConfigError, "A reward that cannot be used", problems)


def rewards(
    answers: Sequence[Answer], tasks: Sequence[Task], parts: Sequence[Part], *, guard: LengthGuard | None = None
) -> Rewards:
    """Return what each answer is worth: the weighted sum of the parts, negated where a score is better when lower, and the guard's.

    Raises RunError that names the rows where a part is not one finite number per answer: a hole in the reward would teach nonsense.
    """
    assert len(answers) == len(tasks)
    found: dict[str, np.ndarray] = {}
    total_S = np.zeros(len(answers))
    for part in parts:
        found[part.name] = _judged(part, answers, tasks)
        total_S += part.weight * found[part.name]
    if guard is not None:
        found["length"] = guard(answers)
        total_S += found["length"]
    _refuse_not_finite("the sum of the rewards", total_S, tasks)
    return Rewards(total_S, found)


def _judged(part: Part, answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Return a part's numbers, float64 [answers], more being better."""
    if isinstance(part.judge, Score):
        missing = [str(task.origin) for task in tasks if not part.judge.applies(task)]
        if missing:
            raise RunError(
                f"reward {part.name!r} finds nothing to compare an answer with in {len(set(missing))} rows, the first one {missing[0]}. "
                f"Leave these rows out, or choose another score."
            )
        try:
            values = part.judge.combine(part.judge.statistics(answers, tasks, **part.options))
        except RunError as error:
            raise RunError(f"{error}. Nothing was learned from these answers; look at the row and at what judges it.") from error
        values_S = np.asarray(values, dtype=np.float64) * (1.0 if part.judge.higher_is_better else -1.0)
    else:
        try:
            values_S = np.asarray([float(value) for value in part.judge(answers, tasks, **part.options)], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise RunError(f"reward {part.name!r} did not give numbers: {error}. Expected one number per answer.") from error
    if values_S.shape != (len(answers),):
        raise RunError(f"reward {part.name!r} gave {values_S.size} numbers for {len(answers)} answers; expected one each.")
    _refuse_not_finite(f"reward {part.name!r}", values_S, tasks)
    return values_S


def _refuse_not_finite(what: str, values_S: np.ndarray, tasks: Sequence[Task]) -> None:
    """Raise RunError where a number is not finite, naming the rows."""
    places = np.flatnonzero(~np.isfinite(values_S)).tolist()
    if places:
        rows = list(dict.fromkeys(str(tasks[place].origin) for place in places))
        raise RunError(
            f"{what} is not a finite number for {len(places)} of {len(values_S)} answers (the first is {values_S[places[0]]}). Rows: "
            f"{', '.join(rows[:12])}. Nothing was learned from them; look at these rows and at what judges them."
        )


def equal_groups(rewards_S: np.ndarray, groups_S: np.ndarray) -> tuple[int, int]:
    """Return how many groups have rewards that are all equal, so that nothing is learned from them, and how many groups there are."""
    groups = np.unique(groups_S)
    return sum(bool(np.ptp(rewards_S[groups_S == group]) == 0) for group in groups), len(groups)
