"""The learning rate of a run that names none: a rule of the technique, the width of the model and the objective.

Enters: a technique, the hidden width of a model, the objectives of the run's tasks. Leaves: a number, from which `prepare` fills
`train.learning_rate`. It is a first try; `find_rate` looks for a better one by trials.

    rate = technique.learning_rate · (REFERENCE_WIDTH / width) ** technique.width_power · objective.rate_factor

The technique. At the width of real models LoRA takes about ten times the rate of full tuning: "LoRA Without Regret" (Schulman et al.
2025, Thinking Machines) finds that ratio over models and data sets; Biderman et al. 2024, "LoRA Learns Less and Forgets Less", arXiv
2405.09673, also find LoRA's best rates an order of magnitude above. On the bundled model ten times is at the edge: of two runs of one job one
stayed at chance. Four times learnt it (docs/techniques.md), so that LoRA's rate falls less steeply. What is few and far from the answer
(vectors before the tokens, factors) takes more still.

The width. For AdamW the best rate of a matrix between hidden states falls as one over the width, that of vectors does not fall: Yang
et al. 2022, arXiv 2203.03466. Between the bundled model and seven billion parameters the fall is steeper (presumably since wider
models are also deeper and were trained on more): a power of 1.25 joins a rate that does well on the bundled model (5e-4;
docs/techniques.md has the figures) to 2e-5 for full tuning at width 4096 (Touvron et al. 2023, arXiv 2307.09288), and one of 0.9 joins 2e-3
for LoRA to 2e-4 there (Dettmers et al. 2023, arXiv 2305.14314). For vectors a power of a half is assumed, between theory and the rate of (IA)3 (Liu et al.
2022, arXiv 2205.05638).

The objective. Its factor, and where that comes from, stands at its `rate_factor`.
"""

from __future__ import annotations

from collections.abc import Iterable

from burnish.types import Objective, Technique

REFERENCE_WIDTH = 320
"""The hidden width at which a technique's `learning_rate` holds: that of the bundled model."""


def rate(technique: Technique, width: int, objective: Objective) -> float:
    """Return the highest learning rate of a run, to two digits; `width` in features of a hidden state.

    Narrower models than the reference take its rate: nothing says that still larger steps would do.
    """
    narrower = min(1.0, REFERENCE_WIDTH / width)
    return rounded(technique.learning_rate * narrower**technique.width_power * objective.rate_factor)


def lowest(technique: Technique, width: int, objectives: Iterable[Objective]) -> float:
    """Return the rate of a run with several tasks, whose steps are shared: that of the task that bears least."""
    return min(rate(technique, width, objective) for objective in objectives)


def rounded(value: float) -> float:
    """Return a rate to two significant digits: more would feign a precision that no rule and no trial has."""
    return float(f"{value:.1e}")
