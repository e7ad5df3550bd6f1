"""How likely a model finds given tokens.

Enters: a `Model` and sequences with read-outs. Leaves: for each sequence its negative log-likelihood and the number of tokens it is
the sum of; perplexity and bits per byte are made from these by the scores.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import replace
from typing import Any

import numpy as np

from burnish.data.batching import collate, cut_padded
from burnish.errors import ModelError, combined
from burnish.models import Model, forward
from burnish.sampling.mode import evaluating
from burnish.types import Sequence


def likelihoods(model: Model, sequences: Many[Sequence], *, tokens_per_batch: int = 8192) -> list[tuple[float, int]]:
    """Return for each sequence the negative log-likelihood in nats of its read-outs' targets, and how many these are.

    Read-outs of weight zero do not count; the others count fully, whatever their weight. `tokens_per_batch` is the size of a padded
    batch in positions and changes speed only.

    Raises ModelError for sequences longer than the model's context, or where the model's output is not a finite number.
    """
    import torch

    _refuse_long(model, sequences)
    pad_id: Any = model.tokenizer.pad_token_id or 0
    sums, counts = np.zeros(len(sequences)), np.zeros(len(sequences), dtype=np.int64)
    # The group carries each sequence's number through the batches, which are cut by length.
    units = [
        [replace(sequence, group=number, task="main", streams={})]
        for number, sequence in enumerate(sequences)
        if np.any(sequence.weight_N)
    ]
    with evaluating(model.network):
        for micro_batch in cut_padded(units, tokens_per_batch):
            with torch.inference_mode():
                batch = collate(micro_batch, packing=False, pad_id=pad_id, device=model.device, mask=model.encoder)
                logprobs_N = forward(model, batch, ("logprobs",)).logprobs_N
                assert logprobs_N is not None, "asked for log-probabilities"
                number_N = batch.group_S[batch.sequence_N].cpu().numpy()
                counted_N = (batch.weight_N != 0).cpu().numpy()
                np.add.at(sums, number_N[counted_N], -logprobs_N.double().cpu().numpy()[counted_N])
                np.add.at(counts, number_N[counted_N], 1)
    _refuse_not_finite(sequences, sums)
    return [(float(total), int(count)) for total, count in zip(sums, counts, strict=True)]


def _refuse_long(model: Model, sequences: Many[Sequence]) -> None:
    """Raise ModelError where a sequence does not fit the model's context."""
    problems = [f"{sequence.origin}: {sequence.length} tokens." for sequence in sequences if sequence.length > model.max_length]
    if problems:
        heading = f"Sequences longer than the {model.max_length} tokens that the model reads (cut them into windows)"
        raise combined(ModelError, heading, problems)


def _refuse_not_finite(sequences: Many[Sequence], sums: np.ndarray) -> None:
    """Raise ModelError where a likelihood is not a finite number."""
    broken = [str(sequences[number].origin) for number in np.flatnonzero(~np.isfinite(sums)).tolist()]
    if broken:
        raise ModelError(
            f"The model's output is not a finite number for {len(broken)} of {len(sequences)} sequences (first: {broken[0]}). "
            f"Its weights are damaged or its tuning diverged; use an earlier checkpoint or another model."
        )
