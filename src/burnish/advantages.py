"""From rewards to advantages: how much better an answer, or a token of it, was than expected.

Enters: numbers of a whole rollout as float64 arrays: rewards per answer and the prompt each belongs to, or rewards and values per token.
Leaves: advantages and returns. Pure functions, called by `rollouts` before the objectives, which never look beyond one group.
"""

from __future__ import annotations

import numpy as np

EPSILON = 1e-4
"""Added to a standard deviation that divides: a group whose rewards hardly differ is not blown up."""

LARGEST_CHANGE = 0.2
"""Of the error that the controller of the KL coefficient answers to, either way."""


def group_normalised(rewards_S: np.ndarray, groups_S: np.ndarray, *, scale: bool = True) -> np.ndarray:
    """Return [S] the reward less the group's mean, divided by the group's standard deviation (of a sample) unless `scale` is off.

    A group whose rewards are all equal gets exactly 0. Source: Shao et al. 2024 (GRPO), arXiv 2402.03300, section 4.1.2; without
    the division: Liu et al. 2025 (Dr. GRPO), arXiv 2503.20783.
    """
    advantages_S = np.zeros(len(rewards_S))
    for group in np.unique(groups_S):
        inside_S = groups_S == group
        rewards = np.asarray(rewards_S, dtype=np.float64)[inside_S]
        if np.ptp(rewards) == 0:
            continue
        centred = rewards - rewards.mean()
        advantages_S[inside_S] = centred / (rewards.std(ddof=1) + EPSILON) if scale else centred
    return advantages_S


def leave_one_out(rewards_S: np.ndarray, groups_S: np.ndarray) -> np.ndarray:
    """Return [S] the reward less the mean reward of the other answers of its group, of which there must be one.

    Source: Ahmadian et al. 2024, arXiv 2402.14740, equation 8; Kool et al. 2019.
    """
    rewards_S = np.asarray(rewards_S, dtype=np.float64)
    advantages_S = np.zeros(len(rewards_S))
    for group in np.unique(groups_S):
        inside_S = groups_S == group
        rewards, size = rewards_S[inside_S], int(inside_S.sum())
        assert size > 1, "an answer that stands alone has nothing to be compared with"
        if np.ptp(rewards) > 0:
            advantages_S[inside_S] = rewards - (rewards.sum() - rewards) / (size - 1)
    return advantages_S


def whitened(values_N: np.ndarray) -> np.ndarray:
    """Return [N] the values with mean 0 and standard deviation 1 over all of them; all 0 where they are all equal.

    Source: Hu et al. 2025 (REINFORCE++), arXiv 2501.03262; of PPO's advantages, Ziegler et al. 2019, arXiv 1909.08593.
    """
    values_N = np.asarray(values_N, dtype=np.float64)
    if len(values_N) == 0 or np.ptp(values_N) == 0:
        return np.zeros(len(values_N))
    return (values_N - values_N.mean()) / (values_N.std() + 1e-8)


def token_rewards(reward: float, sampled_T: np.ndarray, reference_T: np.ndarray | None, *, kl: float) -> np.ndarray:
    """Return [T] the reward of each token of an answer: −`kl` · (sampled − reference) at each, and the answer's reward at its last.

    Source: Ziegler et al. 2019, arXiv 1909.08593, equation 2, the penalty spread over the tokens.
    """
    assert len(sampled_T), "an answer has at least one token"
    rewards_T = np.zeros(len(sampled_T))
    if kl:
        assert reference_T is not None, "a penalty needs a reference"
        rewards_T -= kl * (np.asarray(sampled_T, dtype=np.float64) - reference_T)
    rewards_T[-1] += reward
    return rewards_T


def returns(rewards_T: np.ndarray, *, discount: float = 1.0) -> np.ndarray:
    """Return [T] for each token its reward and all later ones, each step into the future discounted."""
    found_T, total = np.zeros(len(rewards_T)), 0.0
    for place in range(len(rewards_T) - 1, -1, -1):
        total = float(rewards_T[place]) + discount * total
        found_T[place] = total
    return found_T


def generalised(
    rewards_T: np.ndarray, values_T: np.ndarray, *, discount: float = 1.0, decay: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return generalised advantages [T] and the returns [T] = advantages + values that a value head is to predict.

    δ_t = r_t + discount · v_{t+1} − v_t, A_t = δ_t + discount · decay · A_{t+1}; after the last token nothing is worth anything, also
    where an answer was cut off. Source: Schulman et al. 2015, arXiv 1506.02438, equation 16.
    """
    values_T = np.asarray(values_T, dtype=np.float64)
    errors_T = rewards_T + discount * np.append(values_T[1:], 0.0) - values_T
    advantages_T = returns(errors_T, discount=discount * decay)
    return advantages_T, advantages_T + values_T


def next_kl(coefficient: float, divergence: float, *, target: float, horizon: float, answers: int) -> float:
    """Return the KL coefficient after a rollout of `answers` answers whose mean divergence from the reference is `divergence` nats.

    It rises where the divergence is above its target and falls below it, by at most LARGEST_CHANGE · answers / horizon of itself.
    Source: Ziegler et al. 2019, arXiv 1909.08593, section 2.2.
    """
    error = float(np.clip(divergence / target - 1.0, -LARGEST_CHANGE, LARGEST_CHANGE))
    return coefficient * (1.0 + error * answers / horizon)
