"""The gate: an export is compared with the tuned model, and fails where it differs by more than its target allows.

Enters: what the tuned model says of held-out rows, and what the export says, loaded again by another way. Leaves: a `Check` for each
thing compared, with the measured difference and the stated tolerance; `hold` raises where one is above it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from burnish.errors import RunError
from burnish.export.subject import Probe
from burnish.models import Model

EXACT = 1e-3
"""Largest difference of a logit, as a share of the largest logit, between two float32 programs that add up in another order."""

DIVERGENCE = {"bfloat16": 5e-3, "float16": 1e-4, "F16": 1e-4, "Q8_0": 5e-3, "Q4_0": 0.1}
"""Mean Kullback-Leibler divergence (nats per place) from the tuned model's predictions that storing weights so may cost.

On the bundled model and on random small networks F16 costs up to 1e-6, Q8_0 up to 4e-4, Q4_0 up to 0.05 (docs/export.md); so a network
that was said wrongly stands out."""

SINGLE = {"F16": 0.01, "float16": 0.01}
"""Largest difference of a single logit, as a share of the largest, that rounding to these formats may cost."""


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: at which step, what was measured, the difference, the most that is allowed, and on how many of what."""

    step: str
    measure: str
    difference: float
    tolerance: float
    n: int
    of: str

    @property
    def passed(self) -> bool:
        """Whether the difference is a number within the tolerance."""
        return self.difference <= self.tolerance

    def line(self) -> str:
        """Return the check in one line for people."""
        sign = "within" if self.passed else "ABOVE"
        return f"{self.step}: {self.measure} {self.difference:.3g} on {self.n:,} {self.of}, {sign} the tolerance of {self.tolerance:.3g}"

    def facts(self) -> dict[str, Any]:
        """Return the check as JSON holds it."""
        return {**asdict(self), "difference": _number(self.difference), "passed": self.passed}


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def hold(checks: Iterable[Check], *, to: str) -> None:
    """Raise RunError with every check that failed; the folder that was being written is then removed by whoever writes it."""
    failed = [check for check in checks if not check.passed]
    if failed:
        steps = ", ".join(dict.fromkeys(check.step for check in failed))
        lines = "\n".join(f"  - {check.line()}" for check in failed)
        raise RunError(
            f"The export to {to} is not the tuned model (step: {steps}), so nothing was written.\n{lines}\n"
            f"Store it in a wider format, or keep the run directory; a larger difference is accepted with --tolerance."
        )


# ------------------------------------------------------------------------------------------------------------------------- logits


def tuned_logits(model: Model, probes: Sequence[Probe]) -> list[np.ndarray]:
    """Return the logits [P, V] that the tuned model gives at the places of each row, float32."""
    return network_logits(model.network if _wrapped(model) else model.plain(), probes)


def _wrapped(model: Model) -> bool:
    from burnish.models import virtual

    return virtual.count(model.network) > 0


def network_logits(network: Any, probes: Sequence[Probe]) -> list[np.ndarray]:
    """Return the logits [P, V] of any Hugging Face or PEFT network at the places of each row, float32."""
    import torch

    network.eval()
    found = []
    with torch.inference_mode():
        for probe in probes:
            tokens_1T = torch.as_tensor(probe.tokens_T)[None]
            logits_TV = network(input_ids=tokens_1T, attention_mask=torch.ones_like(tokens_1T)).logits[0]
            # Positions that a prompt method puts before the row are no places of it.
            logits_TV = logits_TV[-len(probe.tokens_T) :]
            found.append(logits_TV[torch.as_tensor(probe.places_P)].float().numpy())
    return found


@dataclass(frozen=True, slots=True)
class Difference:
    """How two sets of logits differ: the largest of one as a share of the largest logit, the mean divergence, and greedy agreement."""

    share: float
    divergence: float
    agreeing: int
    places: int


def difference(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> Difference:
    """Return how logits differ from those expected; logits of another width, or none, differ infinitely."""
    if not expected or [one.shape for one in expected] != [one.shape for one in found]:
        return Difference(math.inf, math.inf, 0, sum(map(len, expected)))
    largest = max(float(np.abs(one).max()) for one in expected)
    worst, total, agreeing, places = 0.0, 0.0, 0, 0
    for one_PV, other_PV in zip(expected, found, strict=True):
        worst = max(worst, float(np.abs(one_PV - other_PV).max())) if np.isfinite(other_PV).all() else math.inf
        first_PV, second_PV = _logs(one_PV), _logs(other_PV)
        total += float((np.exp(first_PV) * (first_PV - second_PV)).sum())
        agreeing += int((one_PV.argmax(1) == other_PV.argmax(1)).sum())
        places += len(one_PV)
    return Difference(worst / max(largest, 1e-30), max(0.0, total / places) if math.isfinite(total) else math.inf, agreeing, places)


def _logs(logits_PV: np.ndarray) -> np.ndarray:
    wide = logits_PV.astype(np.float64)
    wide -= wide.max(1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(1, keepdims=True))


def logits_checks(
    step: str, expected: Sequence[np.ndarray], found: Sequence[np.ndarray], *, stored: str, tolerance: float | None = None
) -> list[Check]:
    """Return the checks of logits stored in a format: of single logits where little is rounded, of the distribution where anything is."""
    told = difference(expected, found)
    checks, single = [], EXACT if stored == "float32" else SINGLE.get(stored)
    if stored != "float32":
        limit = DIVERGENCE[stored] if tolerance is None else tolerance
        measure = f"mean KL divergence in nats (greedy tokens agree at {told.agreeing:,})"
        checks.append(Check(step, measure, told.divergence, limit, told.places, "places"))
    if single is not None:
        limit = single if tolerance is None else tolerance
        checks.append(
            Check(step, "largest difference of a logit, as a share of the largest,", told.share, limit, told.places, "places")
        )
    return checks


# ------------------------------------------------------------------------------------------------------------------ texts and tokens


def texts_check(step: str, expected: Sequence[str], found: Callable[[int], str]) -> Check:
    """Return the check that texts are the same byte for byte; `found` gives the other one by number."""
    wrong = sum(one.encode() != found(number).encode() for number, one in enumerate(expected))
    return Check(step, "dialogs whose text differs by a byte:", float(wrong), 0.0, len(expected), "dialogs")


def tokens_check(step: str, texts: Sequence[str], expected: Callable[[str], list[int]], found: Callable[[str], list[int]]) -> Check:
    """Return the check that texts have the same tokens."""
    wrong = sum(list(expected(text)) != list(found(text)) for text in texts)
    return Check(step, "texts whose tokens differ:", float(wrong), 0.0, len(texts), "texts")
