"""Labels one by one: how often each is found and how often it is said rightly, and which one is taken for which.

Enters: answers and tasks that expect one label each. Leaves: a part of report.json, which the page shows as tables. Called by `finish`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.scores.labels import named_labels
from burnish.types import Answer, Task

MOST = 40
"""Labels beyond which a table of all pairs is no longer read; the classes themselves are always listed."""


def by_class(arms: Mapping[str, Sequence[Answer]], tasks: Sequence[Task]) -> dict[str, Any]:
    """Return {"classes": {"rows", "confusion"}} of the tuned model (or the only one); nothing unless every task expects one label.

    `rows`: label, its held-out rows, precision, recall and F1 (None where nothing was said or expected). `confusion`: a row for each expected
    label, a column for each answered one and a last one for answers that are no label.
    """
    arm = next((name for name in ("tuned", "model") if name in arms), None)
    if arm is None or not tasks or any(task.expected.labels is None or len(task.expected.labels) != 1 for task in tasks):
        return {}
    known = sorted({label for task in tasks for label in (*task.expected.choices, *(task.expected.labels or ()))})
    place = {label: number for number, label in enumerate(known)}
    counts_CC = np.zeros((len(known), len(known) + 1), dtype=np.int64)
    for said, task in zip(named_labels(arms[arm], tasks), tasks, strict=True):
        given = place[said[0]] if said is not None and len(said) == 1 else len(known)
        counts_CC[place[(task.expected.labels or ("",))[0]], given] += 1
    right_C, said_C, held_C = counts_CC.diagonal(), counts_CC[:, :-1].sum(0), counts_CC.sum(1)
    rows = [
        {
            "label": label,
            "rows": int(held_C[n]),
            "precision": float(right_C[n] / said_C[n]) if said_C[n] else None,
            "recall": float(right_C[n] / held_C[n]) if held_C[n] else None,
            "f1": float(2 * right_C[n] / (said_C[n] + held_C[n])) if said_C[n] + held_C[n] else None,
        }
        for n, label in enumerate(known)
    ]
    return {"classes": {"rows": rows} | ({"confusion": counts_CC.tolist()} if len(known) <= MOST else {})}
