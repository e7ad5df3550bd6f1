"""Reward models: a head that gives an answer one number, learned from pairs, from thumbs or from ratings.

Enters: `Outputs.scores_NC` with one column, read at the last token of each sequence; pairs as two sequences of one group with the roles
"chosen" and "rejected", rated answers as single ones; the streams "margin" (0 where none is given) and "rating" on all of them.
Leaves: the terms "preference" and "centre", sums over pairs, and "rating", a sum over rated answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from burnish.objectives.parts import COMPARISONS, answered, comparisons, from_0, mean_per_sequence, number_of, pairs, refuse
from burnish.types import Batch, Loss, Objective, Outputs, Pair, Rated

if TYPE_CHECKING:
    import torch

Ratings = Literal["thumbs", "numbers"]


def reward(outputs: Outputs, batch: Batch, *, ratings: Ratings = "thumbs", centre: float = 0.0) -> Loss:
    """A reward model: the chosen answer of a pair gets the higher score, a rated answer its rating.

    Per pair −log σ(s_chosen − s_rejected − margin) (Bradley and Terry); per rated answer the cross-entropy of a thumb up (1) or down (0)
    under σ(s), or, with `ratings` "numbers", (s − rating)². Scores of pairs are free up to a constant; `centre` times
    (s_chosen + s_rejected)² draws them around zero, so that rewards of different models compare (0.01 in the source).

    Source: Ouyang et al. 2022, arXiv 2203.02155, equation 1; Touvron et al. 2023, arXiv 2307.09288, equation 2 (margin); Eisenstein et al.
    2023, arXiv 2312.09244, equation 2 (centre). Raises ConfigError for options out of range.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

    refuse({"centre": from_0(centre)})
    assert outputs.scores_NC is not None and outputs.scores_NC.shape[1] == 1, "a reward is one number"
    score_S, rating_S = mean_per_sequence(outputs.scores_NC[:, 0], batch), mean_per_sequence(batch.streams["rating"], batch)
    chosen_P, rejected_P = pairs(batch)
    chosen_score_P, rejected_score_P = score_S[chosen_P], score_S[rejected_P]
    margin_P = mean_per_sequence(batch.streams["margin"], batch)[chosen_P]
    alone_S = _alone(batch)
    if ratings == "thumbs":
        rated_S = binary_cross_entropy_with_logits(score_S, rating_S, reduction="none")
        right_S, error_count = ((score_S > 0) == (rating_S > 0.5)).to(score_S.dtype), alone_S.sum() * 0
    else:
        rated_S = (score_S - rating_S) ** 2
        right_S, error_count = score_S.detach() * 0, alone_S.sum()
    metrics = {
        **comparisons(score_S, chosen_P, rejected_P),
        "rating_accuracy": ((alone_S * right_S).sum(), alone_S.sum() - error_count),
        "rating_error": ((alone_S * (score_S.detach() - rating_S).abs()).sum(), error_count),
    }
    terms = {
        "preference": -logsigmoid(chosen_score_P - rejected_score_P - margin_P).sum(),
        "rating": (alone_S * rated_S).sum(),
        "centre": centre * ((chosen_score_P + rejected_score_P) ** 2).sum(),
    }
    return Loss(terms=terms, metrics=metrics)


def reward_counts(batch: Batch, *, ratings: Ratings = "thumbs", centre: float = 0.0) -> Mapping[str, torch.Tensor]:
    """Return the denominators of `reward`: pairs, rated answers, and pairs again where their scores are drawn around zero."""
    refuse({"centre": from_0(centre)})
    count = number_of(pairs(batch)[0])
    return {"preference": count, "rating": _alone(batch).sum(), "centre": count if centre > 0 else count * 0}


def _alone(batch: Batch) -> torch.Tensor:
    """Return [S]: 1 for each sequence with weight that is no side of a pair, else 0."""
    import torch

    single = [float(role not in ("chosen", "rejected")) for role in batch.role_S]
    return torch.tensor(single, device=batch.weight_N.device) * answered(batch)


REWARD = Objective(
    function=reward,
    counts=reward_counts,
    terms=("preference", "rating", "centre"),
    needs=("scores",),
    reads=(Pair, Rated),
    metrics=(*COMPARISONS, "rating_accuracy", "rating_error"),
    renders="judged",
    head="sequence",
    streams=("margin", "rating"),
    rate_factor=0.3,  # as for other heads (objectives.labels)
)
