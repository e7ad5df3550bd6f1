"""Mask tokens of a text for an encoder to restore, anew in every epoch.

Enters: sequences in which every token of the text is a read-out (`HeadRenderer` with a masked head). Leaves: a function that gives a
row of an epoch with some tokens masked and only those read. It depends on (seed, epoch, row) alone, so that the batches of a step
stay a pure function of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import Any

import numpy as np

from burnish.errors import ConfigError
from burnish.types import Sequence

SHARE = 0.15
"""Tokens that are predicted; of these 80 % are masked, 10 % become a random token and 10 % stay. Source: Devlin et al. 2018, section 3.1."""

STREAM = 0x6D61736B
"""Keeps these draws apart from others of the same seed."""


def masking(tokenizer: Any, seed: int, *, share: float = SHARE) -> Callable[[Many[Sequence], int, int], list[Sequence]]:
    """Return a function (sequences, row, epoch) -> the sequences with `share` of their read-outs masked, at least one of each.

    Drawn anew each epoch, as in Liu et al. 2019 (RoBERTa, arXiv 1907.11692, section 4.1). Raises ConfigError for a tokenizer without
    a mask token, or a share outside 0..1.
    """
    if tokenizer.mask_token_id is None:
        raise ConfigError("objective mlm: this tokenizer has no mask token. Choose an encoder, or objective.name = 'sft'.")
    if not 0 < share < 1:
        raise ConfigError(f"The share of masked tokens is {share}: expected a number between 0 and 1; 0.15 is usual.")
    special = set(tokenizer.all_special_ids)
    plain_V = np.asarray([number for number in range(len(tokenizer)) if number not in special], dtype=np.int32)

    def masked(sequences: Many[Sequence], row: int, epoch: int) -> list[Sequence]:
        draws = np.random.Generator(np.random.Philox(key=seed, counter=[0, row, epoch, STREAM]))
        return [_masked(sequence, draws, share, int(tokenizer.mask_token_id), plain_V) for sequence in sequences]

    return masked


def _masked(sequence: Sequence, draws: np.random.Generator, share: float, mask_id: int, plain_V: np.ndarray) -> Sequence:
    """Return a sequence with a share of its read-outs kept and their tokens replaced."""
    size = len(sequence.at_N)
    # Rounded up or down by chance, so that short texts too are masked by that share on average.
    kept = np.sort(draws.permutation(size)[: max(1, int(share * size + draws.random()))])
    kind_N, random_N = draws.random(len(kept)), plain_V[draws.integers(0, len(plain_V), len(kept))]
    at_N = sequence.at_N[kept]
    tokens_T = sequence.tokens_T.copy()
    tokens_T[at_N] = np.where(kind_N < 0.8, mask_id, np.where(kind_N < 0.9, random_N, tokens_T[at_N]))
    streams = {name: values[kept] for name, values in sequence.streams.items()}
    return replace(
        sequence,
        tokens_T=tokens_T,
        at_N=at_N,
        target_N=sequence.target_N[kept],
        weight_N=sequence.weight_N[kept],
        streams=streams,
    )
