"""Where a model is good and where it is not: scores by slice of the rows, and the rows that are answered worst.

Enters: tasks, the answers of one or several arms, a score, and what rows are divided by. Leaves: plain values; a slice has intervals and n as the whole
has. A difference that shows in one of many slices may be luck: their number is told with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.errors import UsageError, suggestion
from burnish.scores import groups_of, intervals
from burnish.types import Answer, Score, Task, plain

FEWEST, MOST = 5, 20
"""Rows of a slice; smaller ones are put together, and so are those beyond the largest twenty."""
REST = "(all others)"
BUILT_IN = ("label", "length", "file")


def slice_values(tasks: Sequence[Task], name: str, columns: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the value of each row by which it is divided: its expected label, its length in words (thirds), its file, or a column.

    `columns` are the values of each row as it was read, by its origin. Raises UsageError for what no row has.
    """
    if name == "label":
        found = [", ".join(task.expected.labels) if task.expected.labels else None for task in tasks]
    elif name == "file":
        found = [task.origin.file for task in tasks]
    elif name == "length":
        found = _thirds([len(_asked(task).split()) for task in tasks])
    else:
        found = [columns.get(str(task.origin), {}).get(name) for task in tasks]
    if all(value is None for value in found):
        known = [*BUILT_IN, *dict.fromkeys(column for row in columns.values() for column in row)]
        raise UsageError(f"--slice {name}: no row has it.{suggestion(name, known)} Rows can be divided by {', '.join(known[:20])}.")
    return ["(none)" if value is None else str(value) for value in found]


def _asked(task: Task) -> str:
    return task.text or "\n\n".join(plain(message.content) for message in task.messages)


def _thirds(words: Sequence[int]) -> list[str]:
    low, high = np.quantile(words, [1 / 3, 2 / 3])
    names = (f"up to {low:.0f} words", f"up to {high:.0f} words", f"more than {high:.0f} words")
    return [names[0] if count <= low else names[1] if count <= high else names[2] for count in words]


def by_slice(
    arms: Mapping[str, Sequence[Answer]], tasks: Sequence[Task], score: Score, values: Sequence[str], *, seed: int = 0
) -> list[dict[str, Any]]:
    """Return the score of each arm in each slice, the largest slice first, with the rows that it has."""
    sizes = Counter(values)
    kept = [value for value, count in sizes.most_common(MOST) if count >= FEWEST]
    named = [value if value in kept else REST for value in values]
    groups, found = groups_of(tasks), []
    for name in [*kept, *([REST] if REST in named else [])]:
        places = [place for place, value in enumerate(named) if value == name]
        some = [tasks[place] for place in places]
        table = {arm: np.asarray(score.statistics([given[place] for place in places], some)) for arm, given in arms.items()}
        found.append({"value": name, **intervals(score, table, [groups[place] for place in places], seed=seed)})
    return found


def worst_rows(
    arms: Mapping[str, Sequence[Answer]], tasks: Sequence[Task], score: Score, *, count: int, arm: str
) -> list[dict[str, Any]]:
    """Return the rows that one arm answers worst, first those that another arm answers best: what was lost stands on top."""
    worth = {name: _worth(score, given, tasks) for name, given in arms.items()}
    others = [values for name, values in worth.items() if name != arm]
    best_R = np.max(others, axis=0) if others else np.zeros(len(tasks))
    places = [place for place in np.lexsort((-best_R, worth[arm])).tolist() if np.isfinite(worth[arm][place])][:count]
    sign = 1.0 if score.higher_is_better else -1.0
    return [
        {
            "origin": str(tasks[place].origin),
            "prompt": _asked(tasks[place]),
            "expected": tasks[place].expected.texts[0] if tasks[place].expected.texts else "",
            "answers": {name: given[place].text for name, given in arms.items()},
            "values": {name: None if not np.isfinite(one[place]) else sign * float(one[place]) for name, one in worth.items()},
        }
        for place in places
    ]


def _worth(score: Score, answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Return the score of each row by itself, more being better; not finite where it does not apply."""
    with np.errstate(all="ignore"):
        values = np.asarray(score.combine(np.asarray(score.statistics(answers, tasks), dtype=np.float64)), dtype=np.float64)
    return np.where(np.isfinite(values), values if score.higher_is_better else -values, np.inf)
