"""What a use case's page says beside its figures: the other way of tuning that was measured, and a case where tuning was not the right answer.

Enters: nothing. Leaves: `CASES`, in the order of the gallery. In the words, `{score/arm}` is a figure of all held-out rows and `{slice@score/arm}` one of
a slice, so that no figure is written by hand.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a page needs beyond figures and the use case's own words.

    `alternative` is how the other run differs on the command line, `alternative_is` what it is; `read` says how to read the table, `not_right` tells
    the case where tuning was not the right answer.
    """

    alternative: str
    alternative_is: str
    read: str
    not_right: str


CASES: dict[str, Case] = {
    "sentiment": Case(
        alternative="objective=sft train.learning_rate=1e-3",
        alternative_is="the label written by the model (`sft`) instead of read by a head",
        read="""\
All three labels count the same in `macro_f1`; always saying *positive* gives about 0.17.""",
        not_right="""\
Trade words that change their meaning with the sentence are where ten million parameters end: on the slice *trade words* the tuned model has
{trade words@macro_f1/tuned}, on *plain* {plain@macro_f1/tuned}. The classical row has {trade words@macro_f1/classical} and {plain@macro_f1/classical}: it
costs nothing to run, so where it is as good, take it, and where a review decides about a person or a recall, let a person read what is marked *mixed*.""",
    ),
    "technical-diagnosis": Case(
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
`json_field_f1` counts each of the three fields; `exact_match` wants all of them right at once, and that is what a planner who does not look again
would live with.""",
        not_right="""\
Rare causes have three wordings each to learn from, and it shows: {rare causes@json_field_f1/tuned} of their fields are right, against
{usual@json_field_f1/tuned} of the usual ones. For causes with so few entries, look the old work orders up instead and let the planner read them: a new
cause is then known the day it is written down.""",
    ),
}
