"""Runs that need the result of another run: `model = "first.toml"`, which is tuned first where its result is missing or stale.

The same holds of a teacher and of reward models.

Enters: a resolved run. Leaves: the same run with a folder as its model. SFT, then a preference, then reinforcement are three files and
one command.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from burnish import checkpoint, config, runs
from burnish.config import Resolved
from burnish.errors import ConfigError, UsageError
from burnish.prepare import Plan, prepare, registries, second_adapter
from burnish.techniques import TECHNIQUES
from burnish.tune import Watch, tune
from burnish.tune_saving import judges, model_digest

FREE = {"output": None, "save.*": None, "log.*": None}
"""What may differ between a finished run and its run file without making the result another one."""


def is_chain(resolved: Resolved) -> bool:
    """Return whether the model of a run, or one that judges it, is another run file."""
    return any((name or "").endswith(".toml") for name in (resolved.config.model.name, *_judges(resolved)))


def _judges(resolved: Resolved) -> list[str | None]:
    """Return the models that a run names beside its own: its teacher, and a reward model for each part of its reward."""
    return [resolved.config.teacher, *(one.model for one in resolved.config.rollout.reward)]


def replace_model(resolved: Resolved, *, tune_first: Watch | None, above: tuple[Path, ...] = ()) -> Resolved:
    """Return the run with every run file in place of a model replaced by that run's output, tuned first where missing or stale.

    With `tune_first` None nothing is tuned. `above` are the run files that led here. Raises ConfigError for a circle of run files, and
    where the first run would have to be tuned and may not be.
    """
    if not is_chain(resolved):
        return resolved
    above = (*above, resolved.file.resolve()) if resolved.file is not None else above
    model, (teacher, *rewards) = resolved.config.model.name or "", _judges(resolved)
    if model.endswith(".toml"):
        before = _loaded(resolved, model, above)
        if _saves_adapter(before) and _saves_adapter(resolved) and not _stacks(resolved):
            raise ConfigError(second_adapter(model))
        folder = _made(before, model, tune_first, above)
        resolved = config.with_value(resolved, "model", folder, origin=f"the run {before.file}")
    if (teacher or "").endswith(".toml"):
        before = _loaded(resolved, str(teacher), above)
        resolved = config.with_value(
            resolved, "teacher", _made(before, str(teacher), tune_first, above), origin=f"the run {before.file}"
        )
    if any((name or "").endswith(".toml") for name in rewards):
        parts = [one.model_dump(exclude_none=True) for one in resolved.config.rollout.reward]
        for part in parts:
            if str(part.get("model", "")).endswith(".toml"):
                part["model"] = _made(_loaded(resolved, part["model"], above), part["model"], tune_first, above)
        resolved = config.with_value(resolved, "rollout.reward", parts, origin="the runs of the reward models")
    return resolved


def _loaded(resolved: Resolved, name: str, above: tuple[Path, ...]) -> Resolved:
    """Return the run of a run file that another one names; ConfigError where that one waits for it."""
    file = Path(config.named_model(resolved, name))
    if file.resolve() in above:
        raise ConfigError(f"model = {name!r}: this run file is tuned after {above[-1].name}, which would begin with it.")
    return config.load(file, registries=registries())


def _made(before: Resolved, name: str, tune_first: Watch | None, above: tuple[Path, ...]) -> str:
    """Return the folder of a run that another one needs, tuned first where it is missing or stale."""
    before = replace_model(before, tune_first=tune_first, above=above)
    output = Path(before.config.output)
    finished = runs.is_finished(output)
    stale = _stale(before, output) if finished else []
    if not finished or stale:
        _tune_first(name, before, stale=stale, watch=tune_first)
    return str(output.resolve())


def _saves_adapter(resolved: Resolved) -> bool:
    """Return whether a run leaves an adapter and not a whole model; unknown for a technique of the user's own."""
    name = resolved.config.technique.name
    return name in TECHNIQUES and TECHNIQUES[name].saves == "adapter"


def _stacks(resolved: Resolved) -> bool:
    """Return whether a run's technique can stand on an adapter and be saved with it."""
    name = resolved.config.technique.name
    return name in TECHNIQUES and TECHNIQUES[name].stacks


def _tune_first(name: str, before: Resolved, *, stale: list[str], watch: Watch | None) -> None:
    """Tune the run that another one needs; a stale result is put aside, not deleted."""
    output = Path(before.config.output)
    why = f"changed since {output} was made ({'; '.join(stale)})" if stale else f"is not tuned yet ({output})"
    if watch is None or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"model = {name!r}: that run {why}. Tune it first, by itself: burnish tune {before.file}")
    resume = runs.Run(output).status_json.exists() and not stale
    watch.say(f"{name} {why}: it is tuned first")
    if stale:
        watch.say(f"Its former result is kept in {_put_aside(output)}")
    tune(before, resume=resume, watch=watch)


def _put_aside(output: Path) -> Path:
    """Rename a folder to the first free name of the form NAME.1, NAME.2 and so on, and return that."""
    number = 1
    while (place := output.with_name(f"{output.name}.{number}")).exists():
        number += 1
    output.rename(place)
    return place


def _stale(now: Resolved, output: Path) -> list[str]:
    """Return why the result of a finished run is no longer that of its run file: values, rows or model that changed since."""
    run = runs.Run(output)
    if not run.run_toml.is_file():
        return [f"{run.run_toml} is gone"]
    plan = prepare(now)
    changes = config.difference(config.load(run.run_toml, registries=registries()), plan.resolved, free=FREE)
    changes += [f"{source} changed" for source in changed_sources(plan, output)]
    saved = checkpoint.steps(run.checkpoints)
    if saved and not changes:
        facts = checkpoint.facts(run.checkpoints / f"checkpoint-{saved[-1]}")
        changes += ["its model changed"] if facts.get("model") != model_digest(plan.found) else []
        changes += ["its teacher or reward model changed"] if facts.get("judges", {}) != judges(plan.resolved) else []
    return changes


def changed_sources(plan: Plan, output: Path) -> list[str]:
    """Return the names of the sources whose content is not that which a run directory says it was made from."""
    file = runs.Run(output).data_json
    try:
        before = [source["sha256"] for source in json.loads(file.read_text(encoding="utf-8"))["sources"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} cannot be read ({type(error).__name__}), so it is not known which rows were held out.") from error
    now = [source for part in plan.parts.values() for source in part.gathered.sources]
    if len(before) != len(now):
        return [str(source["name"]) for source in now]
    return [str(source["name"]) for source, sha256 in zip(now, before, strict=True) if source["sha256"] != sha256]
