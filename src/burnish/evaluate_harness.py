"""Public benchmarks by EleutherAI's lm-evaluation-harness, for those who want figures that others have too; an extra, `pip install "burnish[harness]"`.

Enters: models by arm, and names of the harness's tasks. Leaves: the metrics of each task in the shape of report.json, the arms compared on the same
documents, pair by pair: the harness's own comparison treats them as if they had been asked different ones. Its tasks are fetched by the
harness from the hub; one of your own lies in a folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.errors import ConfigError, RunError
from burnish.models import Model
from burnish.scores import SCORES, intervals

Rows = Mapping[str, Mapping[int, float]]
"""By "TASK/METRIC" the value of each document."""


def harness_rows(model: Model, names: Sequence[str], *, folder: Path | None = None, limit: int | None = None) -> Rows:
    """Return what the harness found of a model, document by document.

    `folder` holds task files (YAML) of your own, and what these run is your own code; `limit` is the number of documents of each task. Raises
    ConfigError where the library or a task is missing, RunError where the harness fails.
    """
    library, manager = _library(folder, names)
    known = set(manager.all_tasks)
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"--harness {unknown[0]}: lm-evaluation-harness has no such task. Its list: lm-eval ls tasks")
    rows: dict[str, dict[int, float]] = {}
    for task, samples in _samples(library, manager, model, names, limit).items():
        for sample in samples:
            for metric in sample["metrics"]:
                if isinstance(sample.get(metric), int | float):
                    rows.setdefault(f"{task}/{metric}", {})[int(sample["doc_id"])] = float(sample[metric])
    return rows


def harness_table(rows: Mapping[str, Rows]) -> dict[str, dict[str, Any]]:
    """Return by "TASK/METRIC" the mean of each arm over the documents that all were asked, with intervals of each and of the differences from the
    first arm."""
    first, *_ = rows
    table = {}
    for name in rows[first]:
        found = {arm: one[name] for arm, one in rows.items() if name in one}
        shared = sorted(set.intersection(*(set(values) for values in found.values())))
        values = {arm: np.array([[given[one], 1.0] for one in shared]) for arm, given in found.items()}
        table[name] = intervals(SCORES["exact_match"], values, [str(one) for one in shared], difference_from=first)
    return table


def _library(folder: Path | None, names: Sequence[str]) -> tuple[Any, Any]:
    """Return the library and what knows its tasks: those of the folder alone where they are enough, since there are thousands of others."""
    try:
        library: Any = importlib.import_module("lm_eval")
        tasks: Any = importlib.import_module("lm_eval.tasks")
    except ImportError:
        raise ConfigError(
            "--harness needs lm-evaluation-harness, which is not installed; run: pip install 'burnish[harness]'"
        ) from None
    if folder is not None:
        own = tasks.TaskManager(include_path=str(folder), include_defaults=False)
        if set(names) <= set(own.all_tasks):
            return library, own
    return library, tasks.TaskManager(include_path=None if folder is None else str(folder))


def _samples(library: Any, manager: Any, model: Model, names: Sequence[str], limit: int | None) -> dict[str, list[dict[str, Any]]]:
    """Return by task what the harness noted of each document."""
    wrapper: Any = importlib.import_module("lm_eval.models.huggingface").HFLM
    try:
        asked = wrapper(pretrained=model.plain(), tokenizer=model.tokenizer, batch_size=8, max_length=model.max_length)
        found = library.simple_evaluate(
            model=asked,
            tasks=list(names),
            task_manager=manager,
            limit=limit,
            log_samples=True,
            bootstrap_iters=0,
            verbosity="ERROR",
        )
    except Exception as error:  # data that cannot be fetched, a task file that is wrong: the library raises many kinds
        said = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise RunError(f"lm-evaluation-harness could not measure {', '.join(names)}: {said}") from error
    return found["samples"]
