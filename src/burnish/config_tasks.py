"""Several tasks in one run: their tables by name, what they take over from the run, and each of them seen as a run of its own.

Enters: the layers of a run, or all of them merged. Leaves: `task` as a table of tables by name, in which every task has its own data,
objective and scores. A check that knows one task looks at a `view`; what it finds is told under the task's own name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish.config_layers import Key, Layer, Merged, Place, Problem, is_model_file

OWN = ("source", "dev", "test")
"""What each task says for itself; all else of `data` is the default of every task."""
PARTS = ("data", "objective", "score")
"""What a task has in place of the run's."""


def by_name(layer: Layer) -> tuple[Layer, list[Problem]]:
    """Return the layer with its list of tasks (`[[task]]`) as a table by their names, and what is wrong with the names."""
    given = layer.tree.get("task")
    if not isinstance(given, list):
        return layer, []
    tasks: dict[str, Any] = {}
    numbers: dict[str, int] = {}
    problems = []
    for number, task in enumerate(given):
        name = task.get("name") if isinstance(task, Mapping) else None
        key: Key = ("task", number)
        if not isinstance(name, str) or not name or "/" in name:
            problems.append(Problem(layer.place(key), key, 'each [[task]] needs a name of its own without "/": name = "summaries"'))
        elif name in tasks:
            problems.append(Problem(layer.place(key), (*key, "name"), f"two tasks are called {name!r}; give each its own name"))
        else:
            tasks[name] = {part: value for part, value in task.items() if part != "name"}
            numbers[name] = number

    def place(key: Key) -> Place:
        # In the file the tasks are a list, and its lines are known by number.
        head, rest = key[:2], key[2:]
        number = numbers.get(str(head[-1])) if len(head) == 2 and head[0] == "task" else None
        return layer.place(key if number is None else ("task", number, *rest))

    return replace(layer, tree={**layer.tree, "task": tasks}, place=place), problems


def names(merged: Merged) -> list[str]:
    """Return the names of the tasks, none where the run has only one."""
    tasks = merged.tree.get("task")
    return [name for name, task in tasks.items() if isinstance(task, dict)] if isinstance(tasks, dict) else []


def distribute(merged: Merged) -> None:
    """Give every task what the run says of data, objective and scores and the task does not; then the run says nothing of them.

    Rows are each task's own: a source, or rows for dev or test, beside tasks is a problem.
    """
    if not names(merged):
        return
    shared: dict[str, Any] = {part: merged.tree[part] for part in PARTS if part in merged.tree}
    for part in OWN:
        if isinstance(shared.get("data"), dict) and part in shared["data"]:
            key = ("data", part)
            text = f"with [[task]] tables each task names its own rows: write it as data.{part} of a task"
            merged.problems.append(Problem(merged.place(key), key, text))
    for name in names(merged):
        task = merged.tree["task"][name]
        for part, value in shared.items():
            # Options without a name belong to the run's objective; another objective has options of its own.
            filled = part == "data" or (part == "objective" and "name" not in (task.get(part) or {}))
            if filled and isinstance(value, dict) and isinstance(task.setdefault(part, {}), dict):
                for field, item in value.items():
                    if field not in OWN and field not in task[part]:
                        _take_over(merged, (part, field), item, ("task", name, part))
            elif part not in task:
                _take_over(merged, (part,), value, ("task", name))
    for part in shared:
        del merged.tree[part]
        for known in [known for known in merged.places if known[0] == part]:
            del merged.places[known]


def _take_over(merged: Merged, key: Key, value: Any, above: Key) -> None:
    """Put a value of the run into a task, with the places it comes from."""
    table: Any = merged.tree
    for name in above:
        table = table[name]
    table[key[-1]] = dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value
    for known, place in list(merged.places.items()):
        if known[: len(key)] == key:
            merged.places[*above, *known[len(key) - 1 :]] = place


def views(merged: Merged) -> Iterator[tuple[Key, Merged]]:
    """Yield (prefix, run) of each task seen as a run of its own; the run itself, with no prefix, where it has no tasks.

    The tables are shared: what is written into a view's tree stands in the merged one. Its places are handed back by `told`.
    """
    found = names(merged)
    if not found:
        yield (), merged
    for name in found:
        prefix: Key = ("task", name)
        task = merged.tree["task"][name]
        rest = {key: value for key, value in merged.tree.items() if key != "task"}
        own = {part: task[part] for part in PARTS if part in task}
        places = {known: place for known, place in merged.places.items() if known[0] not in ("task", *PARTS)}
        places |= {known[2:]: place for known, place in merged.places.items() if known[:2] == prefix and len(known) > 2}
        raw = {known[2:]: text for known, text in merged.raw.items() if known[:2] == prefix}
        yield prefix, Merged({**rest, **own}, places, raw)


def told(prefix: Key, merged: Merged, view: Merged) -> None:
    """Put what a view has been given, new tables, places and problems, into the merged run under the task's name."""
    if not prefix:
        return
    task = merged.tree["task"][prefix[1]]
    for part in PARTS:
        if part in view.tree:
            task[part] = view.tree[part]
    for known, place in view.places.items():
        merged.places[prefixed(prefix, known)] = place
    merged.problems += [Problem(one.place, prefixed(prefix, one.key), one.text) for one in view.problems]
    view.problems = []


def prefixed(prefix: Key, key: Key) -> Key:
    """Return a key of a view as the key of the whole run."""
    return (*prefix, *key) if prefix and key and key[0] in PARTS else key


def inside(prefix: Key, key: Key) -> Key:
    """Return a key of the whole run as a view has it: one of the task itself without the task's name."""
    return key[2:] if prefix and key[:2] == prefix else key


def each(merged: Merged, do: Callable[[Merged], None]) -> None:
    """Do something with every task seen as a run of its own."""
    for prefix, view in views(merged):
        do(view)
        told(prefix, merged, view)


def single_reference(single: str, base: Path) -> str:
    """Return the name of a run to compare a task with, an absolute path where it is relative to the run file, as a model's name is."""
    return str((base / single).resolve()) if is_model_file(single) else single
