"""Runs that need the result of another run: `model = "first.toml"`, which is tuned first where its result is missing or stale.

The same holds of a teacher, of reward models, and of a run that a task is compared with (`single`).

Enters: a resolved run. Leaves: the same run with folders in place of run files. SFT, then a preference, then reinforcement are three files and
one command.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from burnish import checkpoint, config, runs
from burnish.config import Resolved
from burnish.errors import ConfigError, UsageError
from burnish.prepare import Plan, prepare, registries
from burnish.prepare_refuse import second_adapter
from burnish.techniques import TECHNIQUES
from burnish.tune import Watch, tune
from burnish.tune_saving import judges, model_digest

FREE = {"output": None, "save.*": None, "log.*": None, "task.*.single": None, "decide.*": None}
"""What may differ between a finished run and its run file without making the result another one."""


def is_chain(resolved: Resolved) -> bool:
    """Return whether a run names another run file: its model, what judges it, or a run that one of its tasks is compared with."""
    return bool(_begun_with(resolved) or _compared_with(resolved))


def _begun_with(resolved: Resolved) -> dict[str, str]:
    """Return the run files that make what a run needs before its first step, by field."""
    settings = resolved.config
    named = {"model": settings.model.name, "teacher": settings.teacher}
    named |= {f"rollout.reward.{place}.model": one.model for place, one in enumerate(settings.rollout.reward)}
    return {field: name for field, name in named.items() if name is not None and name.endswith(".toml")}


def _compared_with(resolved: Resolved) -> dict[str, str]:
    """Return the run files of single tasks that a run is compared with at its end, by field."""
    named = {f"task.{name}.single": task.single for name, task in resolved.config.task.items()}
    return {field: name for field, name in named.items() if name is not None and name.endswith(".toml")}


def replace_runs(resolved: Resolved, *, tune_first: Watch | None, above: tuple[Path, ...] = ()) -> Resolved:
    """Return the run with each run file that it names replaced by that run's output, tuned first where missing or stale.

    With `tune_first` None nothing is tuned. `above` are the run files that led here. Raises ConfigError for a circle of run files, and
    where another run would have to be tuned and may not be.
    """
    resolved = replace_model(resolved, tune_first=tune_first, above=above)
    for field, name in _compared_with(resolved).items():
        folder, origin = _tuned(resolved, name, field=field, tune_first=tune_first, above=above)
        resolved = config.with_value(resolved, field, folder, origin=origin)
    return resolved


def replace_model(resolved: Resolved, *, tune_first: Watch | None, above: tuple[Path, ...] = ()) -> Resolved:
    """Return the run with each run file that it begins with (model, teacher, reward models) replaced, as `replace_runs` does."""
    rewards = [one.model_dump(exclude_none=True) for one in resolved.config.rollout.reward]
    for field, name in _begun_with(resolved).items():
        folder, origin = _tuned(resolved, name, field=field, tune_first=tune_first, above=above)
        if field.startswith("rollout.reward."):
            rewards[int(field.split(".")[2])]["model"] = folder
            resolved = config.with_value(resolved, "rollout.reward", rewards, origin=origin)
        else:
            resolved = config.with_value(resolved, field, folder, origin=origin)
    return resolved


def _tuned(resolved: Resolved, name: str, *, field: str, tune_first: Watch | None, above: tuple[Path, ...]) -> tuple[str, str]:
    """Return the output of a run that another one names, tuned first where missing or stale, and the words for where it comes from."""
    above = (*above, resolved.file.resolve()) if resolved.file is not None else above
    file = Path(config.named_model(resolved, name))
    if file.resolve() in above:
        why = "be compared with it" if field.endswith(".single") else "begin with it"
        raise ConfigError(f"{field} = {name!r}: this run file is tuned after {above[-1].name}, which would {why}.")
    before = config.load(file, registries=registries())
    if field == "model" and _saves_adapter(before) and _saves_adapter(resolved) and not _stacks(resolved):
        raise ConfigError(second_adapter(name))
    before = replace_runs(before, tune_first=tune_first, above=above)
    output = Path(before.config.output)
    finished = runs.is_finished(output)
    stale = _stale(before, output) if finished else []
    if not finished or stale:
        _tune_first(f"{field} = {name!r}", before, stale=stale, watch=tune_first)
    return str(output.resolve()), f"the run {before.file}"


def _saves_adapter(resolved: Resolved) -> bool:
    """Return whether a run leaves an adapter and not a whole model; unknown for a technique of the user's own."""
    name = resolved.config.technique.name
    return name in TECHNIQUES and TECHNIQUES[name].saves == "adapter"


def _stacks(resolved: Resolved) -> bool:
    """Return whether a run's technique can stand on an adapter and be saved with it."""
    name = resolved.config.technique.name
    return name in TECHNIQUES and TECHNIQUES[name].stacks


def _tune_first(named: str, before: Resolved, *, stale: list[str], watch: Watch | None) -> None:
    """Tune a run that another one names; a stale result is put aside, not deleted."""
    output, name = Path(before.config.output), before.file
    why = f"changed since {output} was made ({'; '.join(stale)})" if stale else f"is not tuned yet ({output})"
    if watch is None or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"{named}: that run {why}. Tune it first, by itself: burnish tune {before.file}")
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
