"""Whether labels can be learned and measured: consistent, enough rows of each, not all the same.

In: examples and their clusters of near copies. Out: findings, all warnings or notes, since only the user knows what a label means.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as ListOf

from burnish.data.duplicates import Clusters
from burnish.data.fields import input_text, normalised, pictures
from burnish.data.findings import SHOWN, Finding, finding, share
from burnish.types import Example, Labelled, Origin

RARE = 3
"""Labels with fewer rows are called rare: they cannot stand in train, dev and test at once."""
LOPSIDED = 0.9
"""Above this share of one label, accuracy says little."""


def check_labels(examples: ListOf[Example], clusters: Clusters, *, shown: int = SHOWN) -> list[Finding | None]:
    """Return conflicts between equal and between nearly equal texts, and what is odd about the labels as a whole."""
    labelled = [example for example in examples if isinstance(example, Labelled) and example.labels]
    origins: dict[str, list[Origin]] = {}
    for example in labelled:
        for label in dict.fromkeys(example.labels):
            origins.setdefault(label, []).append(example.origin)
    return [
        *_conflicts(examples, clusters, shown=shown),
        *([_lopsided(origins, len(labelled)), _rare(origins, shown=shown), _spelling(origins, shown=shown)] if origins else []),
    ]


def labels_of(example: Example) -> str | None:
    """Return the labels of a row as one text, None for a row that is not labelled with any."""
    if not isinstance(example, Labelled) or example.number is not None:
        return None
    return ", ".join(sorted(example.labels) if example.several else example.labels)


def _conflicts(examples: ListOf[Example], clusters: Clusters, *, shown: int) -> list[Finding | None]:
    same: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for index, example in enumerate(examples):
        if labels_of(example) is not None:
            same.setdefault((input_text(example), pictures(example)), []).append(index)
    exactly = _differing(examples, same.values())
    named = {index for index, _ in exactly}
    nearly = [pair for pair in _differing(examples, clusters) if pair[0] not in named]
    return [
        finding(
            "warning",
            "label_conflict",
            what="with a text that has another label elsewhere",
            hits=_told(examples, exactly),
            shown=shown,
            fix="No model can learn both; decide for one, or use several labels.",
        ),
        finding(
            "note",
            "near_label_conflict",
            what="with nearly a text that has another label elsewhere",
            hits=_told(examples, nearly),
            shown=shown,
            fix="Look at them: a label may be wrong, or flipped on purpose.",
        ),
    ]


def _differing(examples: ListOf[Example], groups: Iterable[ListOf[int]]) -> list[tuple[int, int]]:
    """Return (row, first labelled row of its group) for the rows labelled differently from that first."""
    pairs = []
    for group in groups:
        labelled = [index for index in group if labels_of(examples[index]) is not None]
        pairs += [(index, labelled[0]) for index in labelled[1:] if labels_of(examples[index]) != labels_of(examples[labelled[0]])]
    return sorted(pairs)


def _told(examples: ListOf[Example], pairs: ListOf[tuple[int, int]]) -> list[tuple[Origin, str]]:
    return [
        (examples[index].origin, f"{labels_of(examples[index])!r}, but {labels_of(examples[first])!r} at {examples[first].origin}")
        for index, first in pairs
    ]


def _lopsided(origins: dict[str, list[Origin]], total: int) -> Finding | None:
    label, places = max(origins.items(), key=lambda item: len(item[1]))
    if len(origins) == 1:
        message = (
            f"All {total:,} labelled rows have the label {label!r}: there is nothing to tell apart. Add rows with other labels."
        )
        return Finding("warning", "one_label", message, tuple(places[:1]), total)
    if len(places) <= LOPSIDED * total:
        return None
    message = (
        f"{len(places):,} of {total:,} labelled rows ({share(len(places), total)}) have the label {label!r}. "
        "Accuracy says little then: look at macro_f1, and add rows with the other labels."
    )
    return Finding("warning", "label_balance", message, tuple(places[:1]), len(places))


def _rare(origins: dict[str, list[Origin]], *, shown: int) -> Finding | None:
    counts = Counter({label: len(places) for label, places in origins.items() if len(places) < RARE})
    if not counts:
        return None
    named = ", ".join(f"{label!r} ({count})" for label, count in counts.most_common()[: -shown - 1 : -1])
    message = (
        f"{len(counts):,} of {len(origins):,} labels stand in fewer than {RARE} rows: {named}{_more(len(counts), shown)}. "
        "They are hardly learned and cannot be measured; add rows, join labels, or leave them out."
    )
    return Finding("warning", "rare_label", message, tuple(origins[label][0] for label in list(counts)[:shown]), len(counts))


def _spelling(origins: dict[str, list[Origin]], *, shown: int) -> Finding | None:
    alike: dict[str, list[str]] = {}
    for label in origins:
        alike.setdefault(re.sub(r"[\W_]+", "", normalised(label)) or label, []).append(label)
    doubled = [sorted(labels) for labels in alike.values() if len(labels) > 1]
    if not doubled:
        return None
    named = "; ".join(" and ".join(map(repr, labels)) for labels in doubled[:shown])
    message = (
        f"Labels that differ only in case, spaces or punctuation: {named}{_more(len(doubled), shown)}. "
        "They are learned as different labels; spell them the same if they mean the same."
    )
    return Finding("warning", "label_spelling", message, tuple(origins[labels[0]][0] for labels in doubled[:shown]), len(doubled))


def _more(count: int, shown: int) -> str:
    return f"; and {count - shown} more" if count > shown else ""
