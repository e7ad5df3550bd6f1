"""Whether rendered rows will be learned from as meant: something trained in each, its end of turn too, none too long in silence.

In: examples and the sequences the renderer made of each, before any is dropped or cut. Out: findings. Runs before the weights are
read, because it needs no more than the tokenizer.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as ListOf
from typing import Literal

import numpy as np

from burnish.data.findings import SHOWN, Finding, Findings, finding, joined, share
from burnish.types import Example, Origin, Pair, Sequence, Text

Policy = Literal["drop", "cut", "fail"]
Hits = list[tuple[Origin, str]]


def check_sequences(
    examples: ListOf[Example],
    sequences: ListOf[ListOf[Sequence]],
    *,
    limit: int,
    policy: Policy,
    tolerance: float = 0.01,
    end_tokens: Collection[int] | None = None,
    shown: int = SHOWN,
) -> Findings:
    """Return what rows would train on nothing, never learn to stop, or do not fit `limit` tokens.

    `sequences[i]` are those of `examples[i]`. Rows over the limit are always counted: `fail` makes any an error, `drop` more than
    `tolerance` of all rows, `cut` never, except where nothing trained would be left. `end_tokens` are the ids that end a turn; each
    trained turn must predict one. Without `end_tokens` (None) that is not checked, for models that only continue text.
    """
    assert len(examples) == len(sequences), f"{len(examples)} examples, {len(sequences)} lists of sequences"
    longest = [max((sequence.length for sequence in rendered), default=0) for rendered in sequences]
    over = [index for index, length in enumerate(longest) if length > limit]
    return joined(
        [
            _untrained(examples, sequences, shown=shown),
            _not_finite(examples, sequences, shown=shown),
            _endless(examples, sequences, end_tokens, shown=shown),
            _too_long(examples, longest, over, limit=limit, policy=policy, tolerance=tolerance, shown=shown),
            _cut_to_nothing(examples, sequences, over, limit=limit, shown=shown) if policy == "cut" else None,
        ]
    )


def trained(sequence: Sequence) -> int:
    """Return how many read-outs of a sequence count in the loss."""
    return int(np.count_nonzero(sequence.weight_N))


def _untrained(examples: ListOf[Example], sequences: ListOf[ListOf[Sequence]], *, shown: int) -> Finding | None:
    hits: Hits = []
    for example, rendered in zip(examples, sequences, strict=True):
        if isinstance(example, Pair) and len(rendered) > 1:
            # Both answers of a pair are compared; one that counts nothing makes the comparison empty.
            empty = [sequence.role for sequence in rendered if not trained(sequence)]
            if empty:
                hits.append((example.origin, f"{len(empty)} of {len(rendered)} answers"))
        elif not any(trained(sequence) for sequence in rendered):
            tokens = sum(sequence.length for sequence in rendered)
            hits.append((example.origin, f"{tokens} tokens, none learned"))
    return finding(
        "error",
        "no_trained_token",
        what="in which nothing is learned",
        hits=hits,
        shown=shown,
        fix="Give each an answer to learn (an assistant message whose weight is not 0), or take them out; the loss of such rows is 0 and says nothing.",
    )


def _not_finite(examples: ListOf[Example], sequences: ListOf[ListOf[Sequence]], *, shown: int) -> Finding | None:
    hits: Hits = [
        (example.origin, "")
        for example, rendered in zip(examples, sequences, strict=True)
        if not all(
            np.isfinite(values_N).all() for sequence in rendered for values_N in (sequence.weight_N, *sequence.streams.values())
        )
    ]
    return finding(
        "error", "not_finite", what="with a weight that is no finite number", hits=hits, shown=shown, fix="Give finite weights."
    )


def _endless(
    examples: ListOf[Example], sequences: ListOf[ListOf[Sequence]], end_tokens: Collection[int] | None, *, shown: int
) -> Finding | None:
    if end_tokens is None:
        return None
    ends_K = np.fromiter(sorted(end_tokens), dtype=np.int64)
    hits: Hits = []
    for example, rendered in zip(examples, sequences, strict=True):
        if isinstance(example, Text):
            continue  # a text to continue has no turns
        windows = not isinstance(example, Pair)
        missing = sum(
            turns_without_end(sequence, ends_K, continues=windows and number + 1 < len(rendered))
            for number, sequence in enumerate(rendered)
        )
        if missing:
            hits.append((example.origin, f"{missing} turn" + ("s" if missing > 1 else "")))
    return finding(
        "error",
        "end_not_learned",
        what="in which a turn is learned without its end",
        hits=hits,
        shown=shown,
        fix="A model tuned on them does not learn to stop. Use a chat template that ends the assistant's turn with one of the model's end tokens.",
    )


def turns_without_end(sequence: Sequence, ends_K: np.ndarray, *, continues: bool = False) -> int:
    """Return how many trained turns of a sequence do not predict an end token.

    A turn is what is trained between two end tokens of the text that are not trained themselves; parts of it may be masked. Where
    the sequence `continues` in another window, the turn that reaches its last token is not counted.
    """
    trained_N = sequence.weight_N != 0
    order_N = np.argsort(sequence.at_N[trained_N], kind="stable")
    at_N, target_N = sequence.at_N[trained_N][order_N], sequence.target_N[trained_N][order_N]
    if not len(at_N):
        return 0
    # Position i holds the token that is predicted at i - 1, so an end token at i that was not trained closes whatever came before.
    untrained_T = np.isin(sequence.tokens_T, ends_K)
    untrained_T[np.minimum(at_N + 1, sequence.length - 1)] = False
    turn_N = np.cumsum(untrained_T)[at_N]
    ended = set(turn_N[np.isin(target_N, ends_K)].tolist())
    missing = set(turn_N.tolist()) - ended
    if continues and at_N[-1] + 1 >= sequence.length - 1:
        missing.discard(int(turn_N[-1]))
    return len(missing)


def _too_long(
    examples: ListOf[Example],
    longest: ListOf[int],
    over: ListOf[int],
    *,
    limit: int,
    policy: Policy,
    tolerance: float,
    shown: int,
) -> Finding | None:
    part = share(len(over), len(examples))
    refused = policy == "fail" or (policy == "drop" and len(over) > tolerance * len(examples))
    what = {"drop": "left out", "cut": "cut", "fail": "refused"}[policy]
    larger = f"the longest has {max(longest, default=0):,} tokens"
    if policy == "drop" and refused:
        fix = (
            f"More than {100 * tolerance:g} % would be lost; raise the limit ({larger}), cut them (policy 'cut'), or take them out."
        )
    elif policy == "fail":
        fix = f"Raise the limit ({larger}), shorten them, or choose the policy 'drop' or 'cut'."
    elif policy == "cut":
        fix = f"What lies beyond is not learned, their end of turn neither ({larger})."
    else:
        fix = f"Raise the limit to keep them ({larger})."
    return finding(
        "error" if refused else "warning",
        "over_limit",
        what=f"of {len(examples):,} ({part}) longer than the limit of {limit:,} tokens, {what}",
        hits=[(examples[index].origin, f"{longest[index]:,} tokens") for index in over],
        shown=shown,
        fix=fix,
    )


def _cut_to_nothing(
    examples: ListOf[Example], sequences: ListOf[ListOf[Sequence]], over: ListOf[int], *, limit: int, shown: int
) -> Finding | None:
    hits: Hits = []
    for index in over:
        left = sum(int(np.count_nonzero(s.weight_N[s.at_N + 1 < limit])) for s in sequences[index])
        if any(trained(sequence) for sequence in sequences[index]) and not left:
            hits.append((examples[index].origin, f"cut at {limit:,} tokens"))
    return finding(
        "error",
        "cut_to_nothing",
        what="of which the cut leaves nothing that is learned",
        hits=hits,
        shown=shown,
        fix="Their prompts alone fill the limit; raise it, shorten the prompts, or drop these rows.",
    )
