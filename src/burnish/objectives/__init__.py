"""Objectives: what loss. Each is a pure function (Outputs, Batch, **options) -> Loss that returns sums, never means.

An objective stands in its own file with the paper it comes from and one line here. It imports only types and torch.
"""

from __future__ import annotations

from burnish.objectives.distill import DISTILL
from burnish.objectives.kto import KTO
from burnish.objectives.labels import CLASSIFICATION, NER, QA, REGRESSION
from burnish.objectives.likelihood import SFT
from burnish.objectives.masked import MLM
from burnish.objectives.policy import GRPO, PPO, REINFORCE, RLOO
from burnish.objectives.preference import APO, CPO, DPO, IPO, ORPO, SIMPO
from burnish.objectives.reward import REWARD
from burnish.types import Objective

OBJECTIVES: dict[str, Objective] = {
    "sft": SFT,
    "mlm": MLM,
    "classification": CLASSIFICATION,
    "regression": REGRESSION,
    "ner": NER,
    "qa": QA,
    "dpo": DPO,
    "ipo": IPO,
    "simpo": SIMPO,
    "orpo": ORPO,
    "cpo": CPO,
    "apo": APO,
    "kto": KTO,
    "reward": REWARD,
    "grpo": GRPO,
    "rloo": RLOO,
    "reinforce": REINFORCE,
    "ppo": PPO,
    "distill": DISTILL,
}
