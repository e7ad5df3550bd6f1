"""How likely a model finds given tokens.

Enters: a `Model` and sequences with read-outs. Leaves: for each sequence its negative log-likelihood and the number of tokens it is
the sum of; perplexity and bits per byte are made from these by the scores.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many

import numpy as np

from burnish.errors import ModelError, combined
from burnish.models import Model, forward, numbered_batches
from burnish.sampling.mode import evaluating
from burnish.types import Sequence


def likelihoods(
    model: Model,
    sequences: Many[Sequence],
    *,
    tokens_per_batch: int = 8192,
    between: Callable[[], None] | None = None,
) -> list[tuple[float, int]]:
    """Return for each sequence the negative log-likelihood in nats of its read-outs' targets, and how many these are.

    Read-outs of weight zero do not count; the others count fully, whatever their weight. `tokens_per_batch` is the size of a padded
    batch in positions and changes speed only; `between` is called between batches and may raise to stop.

    Raises ModelError for sequences longer than the model's context, or where the model's output is not a finite number.
    """
    import torch

    _refuse_long(model, sequences)
    sums, counts = np.zeros(len(sequences)), np.zeros(len(sequences), dtype=np.int64)
    kept = [number for number, sequence in enumerate(sequences) if np.any(sequence.weight_N)]
    with evaluating(model.network):
        for places, batch in numbered_batches(
            model, [sequences[number] for number in kept], tokens=tokens_per_batch, between=between
        ):
            with torch.inference_mode():
                logprobs_N = forward(model, batch, ("logprobs",)).logprobs_N
                assert logprobs_N is not None, "asked for log-probabilities"
                nll_N = torch.where(batch.weight_N != 0, -logprobs_N.double(), 0.0).cpu().numpy()
                counted_N = (batch.weight_N != 0).cpu().numpy()
            for place, part in places:
                sums[kept[place]], counts[kept[place]] = nll_N[part].sum(), counted_N[part].sum()
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
