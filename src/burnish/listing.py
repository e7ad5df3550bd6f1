"""What `burnish ls` shows: everything that can be chosen by name, each with a sentence.

Enters: the registries, the run folder, the caches. Leaves: lists of plain objects, each with a `name`.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any


def first_paragraph(thing: Any) -> str:
    """Return the first paragraph of a function's docstring as one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


_SOURCE = re.compile(r"\s*Sources?: (.*?)(?=\n\s*\n|\s+Raises |\Z)", re.DOTALL)


def about(thing: Any) -> str:
    """Return what a function does in a few sentences, without the paper that it comes from."""
    return " ".join(_SOURCE.sub("", (inspect.getdoc(thing) or "").split("\n\n")[0]).split())


def paper(thing: Any) -> str:
    """Return the papers that a function comes from, as its docstring names them; "" for none."""
    found = _SOURCE.search(inspect.getdoc(thing) or "")
    return " ".join(found[1].split()).rstrip(".") if found else ""


def options_of(function: Callable[..., Any]) -> list[str]:
    """Return the options of a function as NAME=DEFAULT."""
    parameters = inspect.signature(function).parameters.values()
    return [f"{item.name}={item.default}" for item in parameters if item.kind is item.KEYWORD_ONLY]


def formats() -> list[dict[str, Any]]:
    """Return the formats of rows."""
    from burnish.data.formats import FORMATS

    return [
        {"name": name, "columns": " | ".join(", ".join(names) for names in entry.required), "about": entry.description}
        for name, entry in FORMATS.items()
    ]


def objectives() -> list[dict[str, Any]]:
    """Return the objectives."""
    from burnish.objectives import OBJECTIVES

    return [
        {
            "name": name,
            "about": about(entry.function),
            "reads": ", ".join(kind.__name__ for kind in entry.reads),
            "options": options_of(entry.function),
            "paper": paper(entry.function),
        }
        for name, entry in OBJECTIVES.items()
    ]


def techniques() -> list[dict[str, Any]]:
    """Return the techniques, with the learning rate that `sft` of the bundled model has where a run names none, and what does not go together."""
    from burnish.assets import bundled_model
    from burnish.learning_rate import rate
    from burnish.objectives import OBJECTIVES
    from burnish.prepare_refuse import cannot_be_heard
    from burnish.techniques import TECHNIQUES

    width = int(json.loads((bundled_model("tiny") / "config.json").read_text(encoding="utf-8"))["hidden_size"])
    return [
        {
            "name": name,
            "about": about(entry.function),
            "learning_rate_of_tiny": rate(entry, width, OBJECTIVES["sft"]),
            "merges": entry.merges,
            "options": options_of(entry.function),
            "not_with": [one for one, objective in OBJECTIVES.items() if cannot_be_heard(entry, objective)],
            "paper": paper(entry.function),
        }
        for name, entry in TECHNIQUES.items()
    ]


def arms() -> list[dict[str, Any]]:
    """Return the ways to do a job that `burnish decide` compares."""
    from burnish.decide.arms import ARMS

    return [
        {"name": name, "weights": arm.weights, "recommended": "perhaps" if arm.offered else "never", "about": arm.about}
        for name, arm in ARMS.items()
    ]


def scores() -> list[dict[str, Any]]:
    """Return the scores."""
    from burnish.scores import SCORES

    return [
        {"name": name, "better": "higher" if entry.higher_is_better else "lower", "about": first_paragraph(entry.statistics)}
        for name, entry in SCORES.items()
    ]


def usecases() -> list[dict[str, Any]]:
    """Return the use cases."""
    from burnish.usecases import USECASES

    return [{"name": name, "about": make().summary} for name, make in USECASES.items()]


def runs() -> list[dict[str, Any]]:
    """Return the runs below the folder `runs`, the newest first."""
    from burnish.runs import list_runs

    folder = Path("runs")
    return list_runs(folder) if folder.is_dir() else []


def models() -> list[dict[str, Any]]:
    """Return the bundled models, the results of finished runs, and what the hub's cache holds."""
    from burnish.assets import BUNDLED

    found: list[dict[str, Any]] = [{"name": name, "kind": "bundled"} for name in BUNDLED]
    found += [{"name": str(run["path"]), "kind": "run"} for run in runs() if run["state"] == "finished"]
    try:
        from huggingface_hub import scan_cache_dir

        found += [{"name": repo.repo_id, "kind": "hub cache"} for repo in scan_cache_dir().repos if repo.repo_type == "model"]
    except Exception as error:
        if type(error).__name__ != "CacheNotFound":
            raise
    return found


def data() -> list[dict[str, Any]]:
    """Return the public data sets."""
    from burnish.data.public import PUBLIC

    return [{"name": name, "licence": entry.licence, "about": entry.title} for name, entry in PUBLIC.items()]


LISTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "formats": formats,
    "objectives": objectives,
    "techniques": techniques,
    "arms": arms,
    "scores": scores,
    "usecases": usecases,
    "runs": runs,
    "models": models,
    "data": data,
}
