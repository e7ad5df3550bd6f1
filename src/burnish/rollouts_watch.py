"""What a rollout was like, and what to warn of: reward hacking, collapse, and samplers that are not what the learner thinks.

Enters: the records of all rollouts so far, and the held-out scores measured meanwhile. Leaves: warnings in words. Pure functions:
`rollouts` writes the records, whoever runs the loop prints the warnings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One rollout: `number` from 0, made before step `step`.

    `reward` and `deviation` are mean and standard deviation over its answers, `parts` the mean of each part of the reward; `equal_groups`
    the share of prompts whose answers were all worth the same; `length` the mean answer in tokens, `stop_rate` the share that ended by
    themselves; `entropy` of the policy in nats per token; `kl` from the reference in nats per answer (None: no reference), `kl_weight`
    what a nat of it costs; `mismatch` the mean distance of the learner's and the sampler's log-probability of a token. Where the learner
    reads all answers only in the step itself, entropy and mismatch are those of the answers to one prompt.
    """

    number: int
    step: int
    reward: float
    deviation: float
    equal_groups: float
    length: float
    stop_rate: float
    entropy: float
    mismatch: float
    kl: float | None = None
    kl_weight: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """When to warn. `window` is how many rollouts are averaged at either end of the history.

    `score_fall` is how far a held-out score may lie below its best; `reward_rise` by how many standard deviations of an answer's reward
    the mean must have risen meanwhile; `entropy_share` of the entropy at the beginning must remain; `kl` in nats per token;
    `equal_groups` the share of prompts from which nothing is learned; `mismatch` in nats per token.
    """

    window: int = 5
    score_fall: float = 0.02
    reward_rise: float = 0.1
    entropy_share: float = 0.2
    kl: float = 0.5
    equal_groups: float = 0.5
    mismatch: float = 0.05
    hopeless: int = 10
    """Rollouts from the first on in which every answer was worth the same, after which there is no point in going on."""


def hopeless(records: Sequence[Record], *, bounds: Bounds | None = None) -> str:
    """Return why a run cannot learn, in words: no answer has ever been worth more than another. Nothing while there is hope.

    Asked once, when the number of rollouts is reached: a reward that becomes constant later was learned, or is warned of.
    """
    bounds = bounds or Bounds()
    if len(records) != bounds.hopeless:
        return ""
    first = records[0].reward
    rounding = 1e-9 * max(1.0, abs(first))
    if any(record.deviation > rounding or abs(record.reward - first) > rounding for record in records):
        return ""
    judges = ", ".join(records[-1].parts)
    return (
        f"Every answer of the first {len(records)} rollouts was worth the same ({first:g}): the reward ({judges}) is constant, and "
        f"nothing can be learned from it. Look at some answers and at what judges them: choose a score with finer steps, easier or harder "
        f"prompts, more rollout.samples or a higher rollout.temperature."
    )


def warnings(records: Sequence[Record], scores: Sequence[tuple[int, float]] = (), *, bounds: Bounds | None = None) -> list[str]:
    """Return what is going wrong, a sentence or two each; nothing for a healthy history or one shorter than the window.

    `scores` are (step, value) of a held-out score, more being better, in order; the newest record and score stand last.
    """
    bounds = bounds or Bounds()
    if len(records) < bounds.window:
        return []
    late = records[-bounds.window :]
    found = [
        _hacking(records, scores, bounds),
        _entropy(records, late, bounds),
        _divergence(late, bounds),
        _equal(late, bounds),
        _mismatch(late, bounds),
    ]
    return [text for text in found if text]


def _hacking(records: Sequence[Record], scores: Sequence[tuple[int, float]], bounds: Bounds) -> str:
    """Warn where the reward rose since the held-out score was best, and the score fell."""
    if len(scores) < 2:
        return ""
    best_step, best = max(scores, key=lambda pair: pair[1])
    last_step, last = scores[-1]
    before = [record for record in records if record.step <= best_step] or list(records[:1])
    after = [record for record in records if record.step <= last_step]
    if last_step <= best_step or last >= best - bounds.score_fall or not after:
        return ""
    old, new = before[-bounds.window :], after[-bounds.window :]
    rise, spread = _mean(new, "reward") - _mean(old, "reward"), _mean(old, "deviation")
    if rise <= bounds.reward_rise * spread:
        return ""
    return (
        f"The reward rose from {_mean(old, 'reward'):.3g} to {_mean(new, 'reward'):.3g} while the held-out score fell from {best:.3g} "
        f"(step {best_step}) to {last:.3g} (step {last_step}): the policy exploits the reward. Take the checkpoint of step {best_step}, "
        f"raise the KL weight, or add what the reward does not see."
    )


def _entropy(records: Sequence[Record], late: Sequence[Record], bounds: Bounds) -> str:
    """Warn where the policy has become nearly certain of each token."""
    if len(records) < 2 * bounds.window:
        return ""
    begin, now = _mean(records[: bounds.window], "entropy"), _mean(late, "entropy")
    if now >= bounds.entropy_share * begin:
        return ""
    return (
        f"Entropy collapsed from {begin:.3g} to {now:.3g} nats per token: all answers to a prompt become the same, and nothing more is "
        f"learned. Lower the learning rate, raise clip_high or entropy_weight, or sample at a higher temperature."
    )


def _divergence(late: Sequence[Record], bounds: Bounds) -> str:
    """Warn where the policy has left its reference far behind."""
    known = [record.kl / max(record.length, 1.0) for record in late if record.kl is not None]
    if not known or float(np.mean(known)) <= bounds.kl:
        return ""
    return (
        f"The policy is {np.mean(known):.3g} nats per token from its reference (bound {bounds.kl:g}): it forgets what it could. Raise the KL "
        f"weight, lower the learning rate, or go back to an earlier checkpoint."
    )


def _equal(late: Sequence[Record], bounds: Bounds) -> str:
    """Warn where most prompts teach nothing because their answers are all worth the same."""
    share = _mean(late, "equal_groups")
    if share <= bounds.equal_groups:
        return ""
    return (
        f"For {100 * share:.0f} % of the prompts all answers were worth the same, so nothing is learned from them: the prompts are too "
        f"easy or too hard, or the reward has too few steps. Change the prompts, take more samples, or use a finer score."
    )


def _mismatch(late: Sequence[Record], bounds: Bounds) -> str:
    """Warn where the sampler's probabilities are not the learner's."""
    distance = _mean(late, "mismatch")
    if distance <= bounds.mismatch:
        return ""
    return (
        f"Sampler and learner differ by {distance:.3g} nats per token (bound {bounds.mismatch:g}): answers come from another policy than the "
        f'one that is corrected. Use the same dtype for both, dtype = "float32" if need be, and the same kernels.'
    )


def _mean(records: Sequence[Record], name: str) -> float:
    return float(np.mean([getattr(record, name) for record in records]))
