"""Scores: how good answers are, as statistics that add up over rows. The registry, and how a name becomes a score.

In: answers and the tasks they answer. Out: float64 statistics [rows, K], combined to a value by the score; `intervals` adds how
far the value can be trusted. A score of a single answer is also a reward. Adding one: a function, and one line in SCORES.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.errors import ConfigError, DataError, suggestion
from burnish.scores import (
    calibration,
    chances,
    code,
    facts,
    grades,
    labels,
    likelihood,
    masked,
    numbers,
    preference,
    ratings,
    replies,
    spans,
    structured,
    text,
)
from burnish.scores.choice import applicable, fitting, measures
from burnish.scores.intervals import groups_of, intervals
from burnish.scores.parts import f_measure, has_texts, is_generated, mean
from burnish.scores.private import private_score
from burnish.types import Answer, Score, Task

__all__ = ["SCORES", "applicable", "fitting", "groups_of", "intervals", "measures", "resolve", "reward"]

SCORES: dict[str, Score] = {
    "exact_match": Score(statistics=text.exact_match, combine=mean, applies=has_texts),
    "token_f1": Score(statistics=text.token_f1, combine=mean, applies=has_texts),
    "rouge_l": Score(statistics=text.rouge_l, combine=mean, applies=text.has_words),
    "chrf": Score(statistics=text.chrf, combine=mean, applies=has_texts),
    "bleu": Score(statistics=text.bleu, combine=text.bleu_of_sums, applies=has_texts),
    "stop_rate": Score(statistics=text.stop_rate, combine=mean, applies=is_generated),
    "accuracy": Score(statistics=labels.accuracy, combine=mean, applies=labels.has_labels),
    "macro_f1": Score(statistics=labels.macro_f1, combine=labels.macro_f1_of_sums, applies=labels.has_labels),
    "label_parse_rate": Score(statistics=labels.label_parse_rate, combine=mean, applies=labels.has_labels),
    "auroc": Score(statistics=chances.auroc, combine=chances.mean_area_of_sums, needs="chances", applies=labels.has_labels),
    "sensitivity": Score(
        statistics=chances.sensitivity, combine=chances.sensitivity_of_sums, needs="chances", applies=labels.has_labels
    ),
    "weighted_kappa": Score(statistics=grades.weighted_kappa, combine=grades.kappa_of_sums, applies=grades.has_grade),
    "span_f1": Score(statistics=spans.span_f1, combine=f_measure, applies=spans.has_spans),
    "json_valid": Score(statistics=structured.json_valid, combine=mean, applies=structured.has_json),
    "json_field_f1": Score(statistics=structured.json_field_f1, combine=f_measure, applies=structured.has_json),
    "tool_call": Score(statistics=structured.tool_call, combine=mean, applies=structured.has_tool_calls),
    "reply": Score(statistics=replies.reply, combine=mean, applies=replies.expects_reply),
    "facts_kept": Score(statistics=facts.facts_kept, combine=mean, applies=facts.has_facts),
    "python_code": Score(statistics=code.python_code, combine=mean, applies=is_generated),
    "python_clean": Score(statistics=code.python_clean, combine=mean, applies=is_generated),
    "last_number": Score(statistics=numbers.last_number, combine=mean, applies=numbers.has_number),
    "absolute_error": Score(
        statistics=numbers.absolute_error, combine=mean, higher_is_better=False, best=0.0, applies=numbers.is_number
    ),
    "preference_accuracy": Score(
        statistics=preference.preference_accuracy, combine=mean, needs="preference", applies=preference.is_pair
    ),
    "calibration_error": Score(
        statistics=calibration.calibration_error,
        combine=calibration.error_of_sums,
        higher_is_better=False,
        needs="preference",
        best=0.0,
        applies=preference.is_pair,
    ),
    "brier_score": Score(
        statistics=calibration.brier_score,
        combine=mean,
        higher_is_better=False,
        needs="preference",
        best=0.0,
        applies=preference.is_pair,
    ),
    "thumb_auroc": Score(statistics=ratings.thumb_auroc, combine=ratings.area_of_sums, applies=ratings.is_thumb),
    "rating_correlation": Score(
        statistics=ratings.rating_correlation, combine=ratings.correlation_of_sums, applies=ratings.is_rated
    ),
    "restored_tokens": Score(statistics=masked.restored_tokens, combine=mean, applies=masked.is_text),
    "bits_per_masked_token": Score(
        statistics=masked.bits_per_masked_token,
        combine=mean,
        higher_is_better=False,
        needs="likelihood",
        best=0.0,
        applies=masked.is_text,
    ),
    "perplexity": Score(
        statistics=likelihood.perplexity,
        combine=likelihood.perplexity_of_sums,
        higher_is_better=False,
        needs="likelihood",
        best=1.0,
        applies=likelihood.has_likelihood,
    ),
    "bits_per_byte": Score(
        statistics=likelihood.bits_per_byte,
        combine=mean,
        higher_is_better=False,
        needs="likelihood",
        best=0.0,
        applies=likelihood.has_likelihood,
    ),
}


def resolve(name: str) -> Score:
    """Return the score of a registered name, or of `module:function` for a private one; options are `evaluate`'s business.

    Raises ConfigError, with the nearest name, where there is none.
    """
    if name in SCORES:
        return SCORES[name]
    if ":" in name:
        return private_score(name)
    known = ", ".join(sorted(SCORES))
    raise ConfigError(f"unknown score {name!r}.{suggestion(name, SCORES)} Expected one of {known}, or module:function for your own")


def reward(score: Score, answers: Sequence[Answer], tasks: Sequence[Task], **options: Any) -> list[float]:
    """Return one number per answer of which more is better: the score of that answer alone, negated where lower is better.

    Raises DataError for tasks that hold nothing the score could compare with, since a reward of zero would teach that the answer
    was wrong.
    """
    values = score.combine(score.statistics(answers, tasks, **options))
    missing = [task.origin for task, value in zip(tasks, values, strict=True) if not np.isfinite(value)]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(tasks)} tasks have no reward, the first one {missing[0]}: the score finds nothing there to compare "
            "the answer with. Leave these rows out, or choose another score"
        )
    sign = 1.0 if score.higher_is_better else -1.0
    return [sign * float(value) for value in values]
