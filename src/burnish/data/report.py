"""The data report: what will be learned from, in numbers and in one example to look at.

In: examples and sequences by side, findings, what is known of the sources. Out: a dict of plain values, which is `data.json`, a
section of the run's HTML report and, through `print_data_report`, a table in the terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as ListOf
from itertools import pairwise
from typing import Any

import numpy as np

from burnish.data.check_sequences import Policy, trained
from burnish.data.estimate import estimate, measure_matmul
from burnish.data.findings import Findings
from burnish.data.report_terminal import print_data_report
from burnish.types import Example, Labelled, Sequence

__all__ = ["data_report", "estimate", "measure_matmul", "pieces", "print_data_report"]

LABELS_TOLD = 200
EXAMPLE_TOKENS = 256


def data_report(
    examples: Mapping[str, ListOf[Example]],
    sequences: Mapping[str, ListOf[ListOf[Sequence]]],
    *,
    findings: Findings,
    sources: ListOf[Mapping[str, Any]],
    limit: int,
    policy: Policy,
    decode: Callable[[list[int]], str],
    groups: Mapping[str, ListOf[str]] | None = None,
    notes: Iterable[str] = (),
    estimated: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the data report as plain values that JSON can hold.

    `examples[side]` and `groups[side]` a row each; `sequences[side][i]` what the renderer made of row i before any was dropped or cut
    (a side that is only answered, not learned, may be left out); `sources` what is known of each source (name, format, rows, sha256
    of its bytes, ...), taken over as it is; `decode` turns token ids into text with special tokens shown. Keys: rows, types, sides,
    labels, duplicates, findings, example, sources, notes, estimate.
    """
    count = Counter(type(example).__name__ for rows in examples.values() for example in rows)
    sides = {
        side: _side(rows, sequences.get(side), groups.get(side) if groups else None, limit=limit, policy=policy)
        for side, rows in examples.items()
    }
    return {
        "rows": sum(count.values()),
        "types": dict(count.most_common()),
        "sides": sides,
        "labels": _labels(examples),
        "duplicates": {
            name: found.count if (found := findings.rule(rule)) else 0
            for name, rule in (("exact", "exact_duplicate"), ("near", "near_duplicate"))
        },
        "findings": findings.as_json(),
        "example": _example(sequences.get("train", ()), limit, decode),
        "sources": [dict(source) for source in sources],
        "notes": list(notes),
        "estimate": dict(estimated) if estimated is not None else None,
    }


def _side(
    rows: ListOf[Example],
    rendered: ListOf[ListOf[Sequence]] | None,
    groups: ListOf[str] | None,
    *,
    limit: int,
    policy: Policy,
) -> dict[str, Any]:
    told: dict[str, Any] = {"rows": len(rows), "groups": len(set(groups)) if groups is not None else None, "tokens": None}
    if rendered is None:
        return told
    assert len(rendered) == len(rows), f"{len(rows)} rows, {len(rendered)} lists of sequences"
    kept = [[part for part in map(_measured(limit, policy), parts) if part is not None] for parts in rendered]
    over = sum(any(sequence.length > limit for sequence in parts) for parts in rendered)
    lengths = [length for parts in kept for length, _ in parts]
    dropped = [bool(before) and not after for before, after in zip(rendered, kept, strict=True)]
    trained_rows = [sum(count for _, count in parts) for parts, lost in zip(kept, dropped, strict=True) if not lost]
    total, learned = sum(lengths), sum(trained_rows)
    return told | {
        "sequences": len(lengths),
        "tokens": total,
        "trained_tokens": learned,
        "trained_share": learned / total if total else 0.0,
        "length": _spread(lengths),
        "trained_per_row": _spread(trained_rows),
        "trained_histogram": _histogram(trained_rows),
        "limit": limit,
        "policy": policy,
        "over_limit": over,
        "dropped": sum(dropped),
        "cut": over if policy == "cut" else 0,
    }


def _measured(limit: int, policy: Policy) -> Callable[[Sequence], tuple[int, int] | None]:
    """Return what measures a sequence as it will be learned: (tokens, trained read-outs), or None where it is dropped."""

    def measure(sequence: Sequence) -> tuple[int, int] | None:
        if sequence.length <= limit:
            return sequence.length, trained(sequence)
        if policy != "cut":
            return None
        # A read-out's target is the token after it, which has to be left too.
        return limit, int(np.count_nonzero(sequence.weight_N[sequence.at_N + 1 < limit]))

    return measure


def _spread(values: ListOf[int]) -> dict[str, float] | None:
    """Return min, median, mean, 95th percentile and max; None without values."""
    if not values:
        return None
    low, median, high, top = np.percentile(values, [0, 50, 95, 100], method="inverted_cdf").tolist()
    return {"min": int(low), "median": int(median), "mean": float(np.mean(values)), "p95": int(high), "max": int(top)}


def _histogram(values: ListOf[int]) -> list[dict[str, int]]:
    """Return how many rows have 0, 1, 2-3, 4-7, 8-15 ... trained tokens: doubling bins, and 0 in a bin of its own."""
    counts = Counter(value.bit_length() for value in values)
    bins = range(max(counts, default=-1) + 1)
    return [{"from": 2**bit // 2, "to": max(2**bit - 1, 0), "rows": counts[bit]} for bit in bins]


def _labels(examples: Mapping[str, ListOf[Example]]) -> dict[str, Any] | None:
    """Return the rows of each label on each side, the most frequent first; None without labelled rows."""
    counts = {
        side: Counter(label for example in rows if isinstance(example, Labelled) for label in example.labels)
        for side, rows in examples.items()
    }
    total = sum(counts.values(), Counter[str]())
    if not total:
        return None
    order = sorted(total, key=lambda label: (-total[label], label))
    return {
        "count": len(order),
        "rows": {label: {side: counts[side][label] for side in examples} for label in order[:LABELS_TOLD]},
        "left_out": max(len(order) - LABELS_TOLD, 0),
        "largest_share": total[order[0]] / sum(total.values()),
    }


def _example(rendered: ListOf[ListOf[Sequence]], limit: int, decode: Callable[[list[int]], str]) -> dict[str, Any] | None:
    """Return the first row that will be learned, as pieces of text; None where there is none."""
    fitting = (sequence for parts in rendered for sequence in parts if sequence.length <= limit and trained(sequence))
    sequence = next(fitting, None)
    if sequence is None:
        return None
    return {
        "origin": str(sequence.origin),
        "tokens": sequence.length,
        "trained_tokens": trained(sequence),
        "left_out_tokens": max(sequence.length - EXAMPLE_TOKENS, 0),
        "pieces": pieces(sequence, decode, limit=EXAMPLE_TOKENS),
    }


def pieces(sequence: Sequence, decode: Callable[[list[int]], str], *, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the text of a sequence as runs of {"text", "trained"}, in order; only the first `limit` tokens if given.

    A token is trained where a read-out of non-zero weight before it has it as its target. The texts join to what the tokens decode to
    together, as far as the tokenizer's text of a beginning is a beginning of its text.
    """
    tokens = sequence.tokens_T[:limit]
    predicted_N = sequence.at_N[sequence.weight_N != 0] + 1
    target_N = sequence.target_N[sequence.weight_N != 0]
    inside_N = predicted_N < len(tokens)
    predicted_N, target_N = predicted_N[inside_N], target_N[inside_N]
    marked_T = np.zeros(len(tokens), dtype=bool)
    marked_T[predicted_N[sequence.tokens_T[predicted_N] == target_N]] = True
    borders = [0, *(np.flatnonzero(np.diff(marked_T)) + 1).tolist(), len(tokens)]
    found: list[dict[str, Any]] = []
    before, ids = "", tokens.tolist()
    for start, end in pairwise(borders):
        if start == end:
            continue
        # Some tokenizers drop the space before the first token of what they decode, hence the text of all tokens so far.
        whole = decode(ids[:end])
        text = whole[len(before) :] if whole.startswith(before) else decode(ids[start:end])
        found.append({"text": text, "trained": bool(marked_T[start])})
        before = whole
    return found
