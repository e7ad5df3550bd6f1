"""A rollout that several processes sample together: each answers its share of the prompts, and all get all answers.

Enters: what this process sampled. Leaves: what all of them sampled, the same on each, as one process would have it. What travels are whole
and real numbers in tensors; texts are decoded again. Used by `rollouts` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from typing import Any, get_args

import numpy as np

from burnish.devices import Ranks
from burnish.errors import BurnishError, RunError
from burnish.sampling import Generated, Reason, text_of

REASONS: tuple[Reason, ...] = get_args(Reason)


def share(size: int, ranks: Ranks) -> range:
    """Return the places of the prompts that this process answers."""
    edges = [size * rank // ranks.size for rank in (ranks.rank, ranks.rank + 1)]
    return range(*edges)


def together(sample: Callable[[], list[Generated]], ranks: Ranks, tokenizer: Any, stop: tuple[str, ...]) -> list[Generated]:
    """Return the answers of all processes, each of which calls its own `sample`.

    Raises what `sample` raised here, and RunError where it failed in another process: none waits for one that is gone.
    """
    import torch

    if ranks.size == 1:
        return sample()
    failed, mine = None, []
    try:
        mine = sample()
    except BurnishError as error:
        failed = error
    if ranks.agree(failed is not None):
        raise failed or RunError("Another process of this run could not sample its share of the answers; its own message says why.")
    wholes = ranks.gather(torch.as_tensor(np.concatenate([np.zeros(0, np.int64), *map(_wholes, mine)])))
    reals = ranks.gather(torch.as_tensor(np.concatenate([np.zeros(0), *map(_reals, mine)])))
    pairs = zip(wholes, reals, strict=True)
    return [one for parts in pairs for one in _answers(parts[0].numpy(), parts[1].numpy(), tokenizer, stop)]


def _wholes(one: Generated) -> np.ndarray:
    """Return the whole numbers of an answer."""
    end_id = -1 if one.end_id is None else one.end_id
    facts = [len(one.tokens), one.prompt, one.sample, one.prompt_cut, REASONS.index(one.stop_reason), end_id]
    return np.concatenate([np.array(facts, dtype=np.int64), one.tokens])


def _reals(one: Generated) -> np.ndarray:
    """Return the real numbers of an answer."""
    return np.append(one.logprobs.astype(np.float64), one.end_logprob)


def _answers(wholes: np.ndarray, reals: np.ndarray, tokenizer: Any, stop: Many[str]) -> list[Generated]:
    """Return the answers that `_wholes` and `_reals` took apart."""
    found, place, real = [], 0, 0
    while place < len(wholes):
        length, prompt, sample, cut, reason, end_id = wholes[place : place + 6].tolist()
        tokens = wholes[place + 6 : place + 6 + length].astype(np.int32)
        logprobs = reals[real : real + length].astype(np.float32)
        found.append(
            Generated(
                tokens=tokens,
                text=text_of(tokenizer, tokens, stop, REASONS[reason])[0],
                stopped=REASONS[reason] != "length",
                stop_reason=REASONS[reason],
                logprobs=logprobs,
                prompt=prompt,
                sample=sample,
                end_id=None if end_id < 0 else end_id,
                end_logprob=float(reals[real + length]),
                prompt_cut=cut,
            )
        )
        place, real = place + 6 + length, real + length + 1
    return found
