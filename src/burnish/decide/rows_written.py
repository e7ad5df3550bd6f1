"""Rows as files that `tune` reads: dialogs with their answers, or texts with what a head is to tell of them.

Enters: tasks as they are put to the model. Leaves: JSON lines in a format of `data.formats`. Called by `protocol` and `weights`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish import atomic, runs
from burnish.types import Task, plain


def write_dialogs(rows: Sequence[tuple[Task, str, str]], file: Path) -> Path:
    """Write rows as dialogs, one a line: what is put to the model, the answer, and the group. Return the file's absolute path."""
    lines = []
    for task, answer, group in rows:
        turns = [{"role": turn.role, "content": plain(turn.content)} for turn in task.messages]
        row = {"messages": [*turns, {"role": "assistant", "content": answer}], "group": group}
        lines.append(json.dumps(row, ensure_ascii=False))
    return _written(lines, file)


def write_marked(tasks: Sequence[Task], file: Path, *, several: bool) -> Path:
    """Write texts with their labels (a list where a row may have `several`), numbers or spans, one a line. Return the file's absolute path."""
    return _written([json.dumps(_marked(task, several=several), ensure_ascii=False) for task in tasks], file)


def _marked(task: Task, *, several: bool) -> dict[str, Any]:
    expected = task.expected
    if expected.spans is not None:
        spans = [{"start": span.start, "end": span.end, "label": span.label} for span in expected.spans]
        return {"text": expected.source, "spans": spans}
    text = plain(task.messages[-1].content)
    if expected.number is not None:
        return {"text": text, "number": expected.number}
    labels = expected.labels or ()
    return {"text": text, "label": list(labels) if several or len(labels) != 1 else labels[0]}


def _written(lines: Sequence[str], file: Path) -> Path:
    atomic.make_directory(file.parent)
    runs.write_text(file, "".join(f"{line}\n" for line in lines))
    return file.resolve()
