"""The score of an assistant that both talks and acts: some rows expect words, others a call of a tool, and one figure must judge both.

In: answers and tasks with a reference text or expected calls. Out: statistics [rows, 2] that add up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.scores.parts import means, text_of
from burnish.scores.reading import read_tool_calls
from burnish.scores.structured import tool_call
from burnish.scores.text import has_words, rouge_l
from burnish.types import Answer, Task


def expects_reply(task: Task) -> bool:
    """Whether a task says which tools are to be called, or holds a reference text with words."""
    return task.expected.tool_calls is not None or has_words(task)


def reply(answers: Sequence[Answer], tasks: Sequence[Task], *, stem: bool = True) -> np.ndarray:
    """Right calls where calls are expected; where words are, none for an answer that calls a tool, else its ROUGE-L.

    Statistics [rows, 2]. A call counts 1 with its name and all arguments right, else 0, as `tool_call` counts it. `stem` is that of `rouge_l`.
    """

    def value(answer: Answer, task: Task) -> float | None:
        if task.expected.tool_calls is not None:
            return float(tool_call([answer], [task])[0, 0])
        if not has_words(task):
            return None
        return 0.0 if read_tool_calls(text_of(answer)) else float(rouge_l([answer], [task], stem=stem)[0, 0])

    return means(value(answer, task) for answer, task in zip(answers, tasks, strict=True))
