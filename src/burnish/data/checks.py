"""Everything that is checked about rows before tuning: whole, clean, not repeated, not leaked, labels in balance.

In: examples (and the user's own test rows, and the tokenizer's special tokens). Out: findings, errors first, with file and line.
`burnish check` shows them, tuning raises their errors before any weights are read. What the rendered rows look like is checked
by `check_sequences`.
"""

from __future__ import annotations

from collections.abc import Sequence as ListOf

from burnish.data.check_fields import check_fields
from burnish.data.check_labels import check_labels
from burnish.data.check_pictures import check_pictures
from burnish.data.check_sequences import Policy, check_sequences
from burnish.data.check_text import check_text
from burnish.data.duplicates import NEAR, Clusters, between, exact, near
from burnish.data.fields import fields
from burnish.data.findings import SHOWN, Finding, Findings, finding, joined, share
from burnish.types import Example

__all__ = ["Finding", "Findings", "Policy", "check_examples", "check_overlap", "check_sequences"]

LEAK_TOLERANCE = 0.01
"""Share of test rows that may be copies of training rows before that is an error."""


def check_examples(
    examples: ListOf[Example],
    test: ListOf[Example] = (),
    *,
    special_tokens: ListOf[str] = (),
    near_duplicates: bool = True,
    threshold: float = NEAR,
    shown: int = SHOWN,
    near_copies: Clusters | None = None,
) -> Findings:
    """Return what is wrong or odd in rows to learn from, and what of them stands in `test`, the user's own held-out rows.

    Each finding names the first `shown` rows and counts all. `near_duplicates=False` leaves the search for near copies out (exact ones
    are always found); `threshold` is the similarity it starts from; `near_copies` are what it would
    find, where that is known already. Raises ConfigError for a threshold outside (0, 1].
    """
    texts = [tuple(fields(example)) for example in examples]
    copies = exact(examples)
    clusters = near_copies if near_copies is not None else near(examples, threshold=threshold if near_duplicates else 1.0)
    return joined(
        [
            *check_fields(examples, texts, shown=shown),
            *check_text(examples, texts, special_tokens=special_tokens, shown=shown),
            _exact_copies(examples, copies, shown=shown),
            _near_copies(examples, clusters, copies, shown=shown) if near_duplicates else None,
            *check_labels(examples, clusters, shown=shown),
            *check_pictures(examples, shown=shown),
            check_overlap(examples, test, threshold=threshold if near_duplicates else 1.0, shown=shown),
        ]
    )


def check_overlap(
    train: ListOf[Example], test: ListOf[Example], *, threshold: float = NEAR, tolerance: float = LEAK_TOLERANCE, shown: int = SHOWN
) -> Findings:
    """Return which test rows stand in `train`: copies (an error above `tolerance` of the test rows), and near copies."""
    pairs = between(train, test, threshold=threshold) if test else ()
    copies = [(train[first].origin, test[second].origin) for first, second, similarity in pairs if similarity == 1]
    others = [(train[first].origin, test[second].origin, similarity) for first, second, similarity in pairs if similarity < 1]
    return joined(
        [
            finding(
                "error" if len(copies) > tolerance * len(test) else "warning",
                "overlap_exact",
                what=f"of {len(test):,} test rows ({share(len(copies), len(test))}) standing in the training rows",
                hits=[(origin, f"= {where}") for where, origin in copies],
                shown=shown,
                fix="A score on rows that were learned proves nothing; take them out of one side, or let burnish split.",
            ),
            finding(
                "warning",
                "overlap_near",
                what=f"of {len(test):,} test rows ({share(len(others), len(test))}) nearly standing in the training rows",
                hits=[(origin, f"{similarity:.2f} like {where}") for where, origin, similarity in others],
                shown=shown,
                fix="Look at them: scores on near copies are too good.",
            ),
        ]
    )


def _exact_copies(examples: ListOf[Example], copies: Clusters, *, shown: int) -> Finding | None:
    pairs = sorted((other, cluster[0]) for cluster in copies for other in cluster[1:])
    hits = [(examples[other].origin, f"= {examples[first].origin}") for other, first in pairs]
    return finding(
        "warning",
        "exact_duplicate",
        what="repeating another",
        hits=hits,
        shown=shown,
        fix="They are learned more often than the others; take them out unless that is meant.",
    )


def _near_copies(examples: ListOf[Example], clusters: Clusters, copies: Clusters, *, shown: int) -> Finding | None:
    repeated = {other for cluster in copies for other in cluster[1:]}
    kept = ([index for index in cluster if index not in repeated] for cluster in clusters)
    pairs = sorted((other, first) for first, *others in kept for other in others)
    hits = [(examples[other].origin, f"like {examples[first].origin}") for other, first in pairs]
    return finding(
        "note",
        "near_duplicate",
        what="nearly repeating another",
        hits=hits,
        shown=shown,
        fix="They are kept; a split made by burnish puts them on one side.",
    )
