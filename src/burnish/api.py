"""The Python interface: what the command line does, as functions.

    import burnish
    run = burnish.tune("run.toml", "train.epochs=1")          # a run directory
    burnish.evaluate(run)["scores"]                            # base beside tuned, with intervals
    model = burnish.load(run)
    burnish.generate(model, ["Where is my parcel?"])

Enters: names, paths and options of a user. Leaves: plain values. Which rooms a verb goes through is decided here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import burnish
from burnish import checkpoint, config, runs
from burnish.assets import sample as sample_file
from burnish.config import Resolved
from burnish.config_schema import RunConfig, as_choice, as_data, as_model
from burnish.data.dialog import Frame, as_task, known_labels
from burnish.data.findings import joined
from burnish.data.render import Renderer
from burnish.data.seen import check_seen
from burnish.data.split import group_keys
from burnish.devices import Device, apply_device, choose_device
from burnish.errors import BurnishError, ConfigError, DataError, UsageError
from burnish.evaluate import Asking, answer, resolve_scores
from burnish.finish import base_answers, measured
from burnish.gather import gather, read_rows
from burnish.models import Model, find_model, load_model
from burnish.prepare import Plan, prepare, registries, seen_by
from burnish.prepare_fresh import fresh_folder
from burnish.sampling import Options
from burnish.sampling import generate as sample
from burnish.scores import applicable
from burnish.tune import Watch
from burnish.tune import tune as carry_out
from burnish.tune_chain import changed_sources, is_chain, replace_model
from burnish.types import Example, Message, Task, content, plain


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model that is ready to answer, in the form in which it was taught."""

    model: Model
    renderer: Renderer
    settings: Mapping[str, Any]

    @property
    def continues_text(self) -> bool:
        """Whether it was taught plain text, so that a prompt is continued and not answered."""
        return self.settings.get("form") == "text"

    def task(self, prompt: str) -> Task:
        """Return a user's prompt as a task, framed by the run's own system prompt and prompt template."""
        from burnish.types import Expected, Origin

        origin = Origin("prompt")
        if self.continues_text:
            return Task(messages=(), expected=Expected(), text=prompt, origin=origin)
        frame = self.renderer.frame
        system = (Message(role="system", content=content(frame.system)),) if frame.system else ()
        return Task(
            messages=(*system, Message(role="user", content=content(frame.ask(prompt)))), expected=Expected(), origin=origin
        )


# ---------------------------------------------------------------------------------------------------------------- tune and check


def resolve(
    run: str | Path | Mapping[str, Any], *overrides: str, defaults: Mapping[str, Any] | None = None, **values: Any
) -> Resolved:
    """Return the run that a file (or a mapping of values) and overrides describe, checked, each value with its origin.

    Keyword values are tables or dotted names with underscores doubled (`train__epochs=1`). Raises ConfigError with all problems.
    """
    given = {key.replace("__", "."): item for key, item in values.items()}
    tree: dict[str, Any] = deepcopy(dict(run)) if isinstance(run, Mapping) else {}  # the caller's mapping stays as it is
    for name, item in given.items():
        place = tree
        *tables, last = name.split(".")
        for table in tables:
            inner: Any = place.get(table, {})
            place[table] = {"data": as_data, "model": as_model}.get(table, as_choice)(inner)
            place = place[table]
        place[last] = item
    path = None if isinstance(run, Mapping) else Path(run)
    try:
        return config.load(path, overrides, registries=registries(), defaults=defaults, values=tree)
    except ConfigError as error:
        if path is None or (also := _data_problems(path)) is None:
            raise
        raise ConfigError(f"{error}\n{also}") from None


def _data_problems(path: Path) -> DataError | None:
    """Return what is wrong with the data of a run file that has other problems too, as far as its data part can be understood."""
    import tomllib

    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))["data"]
        gather(config.load(None, registries=registries(), values={"data": data}).config, path.resolve().parent)
    except DataError as error:
        return error
    except (BurnishError, OSError, ValueError, KeyError):
        return None
    return None


def check(run: str | Path | Mapping[str, Any], *overrides: str, measure: bool = True, **values: Any) -> dict[str, Any]:
    """Return the data report of a run, with estimates of memory and time; raises with every problem before any weights are read."""
    resolved = resolve(run, *overrides, **values)
    return prepare(replace_model(resolved, tune_first=None), measure=measure).report


def tune(
    run: str | Path | Mapping[str, Any], *overrides: str, resume: bool = False, watch: Watch | None = None, **values: Any
) -> Path:
    """Carry out a run and return its run directory.

    A run whose `model` is another run file has that one tuned first, unless its result is there and of the same content.
    Raises UsageError (nothing was started), RunError (the run failed) or Stopped (a clean stop, everything saved).
    """
    watch = watch or Watch()
    resolved = resolve(run, *overrides, **values)
    if is_chain(resolved):
        # A mistake in this run shows before hours are spent on the one that is tuned first.
        if not resume:
            runs.check_usable(resolved.config.output)
        gather(resolved.config, resolved.base)
    return carry_out(replace_model(resolved, tune_first=watch), resume=resume, watch=watch)


def pretrain(
    run: str | Path | Mapping[str, Any], *overrides: str, resume: bool = False, watch: Watch | None = None, **values: Any
) -> Path:
    """Train a fresh model as a run says, and return its run directory: `tune`, for a run whose model is fresh and for no other.

    Raises ConfigError where the run begins with a model that there is already.
    """
    model = resolve(run, *overrides, **values).config.model
    if not model.is_fresh:
        raise ConfigError(
            f"model = {str(model)!r} has been trained before, and pretraining begins with random weights. To go on from it: burnish tune. "
            f'To begin anew: init = "llama" in the table [model], without a name.'
        )
    return tune(run, *overrides, resume=resume, watch=watch, **values)


# ---------------------------------------------------------------------------------------------------------- load, generate, evaluate


def load(name: str | Path, *, dtype: str = "auto", adapter: bool = True, device: Device | None = None) -> Loaded:
    """Return a model by run directory, folder, bundled name or hub id, ready to answer as it was taught.

    `device` is where and in which number formats; not given, it is chosen by `dtype`.
    """
    model = load_model(str(name), device or choose_device(dtype, moves_base=False), adapter=adapter)
    settings = model.found.settings
    frame = Frame(settings.get("system"), settings.get("prompt"), tuple(settings.get("choices", ())))
    limit = int(settings.get("max_length") or model.max_length)
    return Loaded(model, Renderer(model.tokenizer, limit, model.end_ids(), frame), settings)


def generate(
    model: str | Path | Loaded,
    prompts: Sequence[str] | None = None,
    *,
    data: str | Path | None = None,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    stop: Sequence[str] = (),
    seed: int = 0,
    batch: int = 32,
) -> list[dict[str, Any]]:
    """Return an answer to each prompt, or to each row of a data file: {"prompt", "text", "stopped", "tokens", and "origin" of a row}."""
    if (prompts is None) == (data is None):
        raise UsageError("Give either a prompt or a data file with rows to answer.")
    rows = read_rows(str(data), Path.cwd(), format=format, columns=columns)[:limit] if data is not None else []
    loaded = model if isinstance(model, Loaded) else load(model)
    tasks = [loaded.task(prompt) for prompt in prompts] if prompts is not None else _tasks(loaded, rows)
    options = Options(
        max_tokens=max_tokens or int(loaded.settings.get("max_tokens") or 128),
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        stop=tuple(stop),
        seed=seed,
        batch=batch,
    )
    given = sample(loaded.model, [loaded.renderer.prompt(task) for task in tasks], options)
    answers = []
    for task, one in zip(tasks, given, strict=True):
        asked = task.text if task.text is not None else plain(task.messages[-1].content)
        text = one.text if task.text is not None else one.text.strip()
        row = {"prompt": asked, "text": text, "stopped": one.stopped, "tokens": len(one.tokens)}
        answers.append(row | ({"origin": str(task.origin)} if data is not None else {}))
    return answers


def evaluate(
    model: str | Path,
    data: str | Path | None = None,
    *,
    scores: Sequence[str] = (),
    limit: int | None = None,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    max_tokens: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Return scores with intervals: of a tuned model beside its base, or of a model alone.

    Without `data`, the held-out rows of a run directory are used, and without `scores` those of its run. The result has the shape of
    report.json, and on the same rows the same figures. Rows that the model is known to have been trained on are refused.
    """
    folder = Path(model)
    is_run = (folder / "run.toml").is_file()
    seen = seen_by(find_model(str(model)))
    if data is None and not is_run:
        raise UsageError(f"{model} is not a run directory, so it has no held-out rows of its own. Give some: --data FILE")
    resolve_scores(scores)
    # What is wrong with the rows shows before weights are read.
    tasks = _held_out(folder) if data is None else []
    rows = read_rows(str(data), Path.cwd(), format=format, columns=columns) if data is not None else []
    joined([check_seen(rows[:limit], seen, rows="given")]).raise_for_errors("These rows cannot be scored on")
    loaded = load(model, device=_measured_on(folder) if is_run else None)
    tasks = (tasks or _tasks(loaded, rows))[:limit]
    chosen = resolve_scores(list(scores) or (_own_scores(folder, tasks) if is_run else []) or applicable(tasks))
    longest = max_tokens or int(loaded.settings.get("max_tokens") or 128)
    asking = Asking(Options(max_tokens=longest, seed=seed, long_prompts="cut"))
    say(f"Measuring {model} on {len(tasks)} rows")
    given = answer(loaded.model, loaded.renderer, tasks, chosen, asking)
    arms = {"model": given}
    if (beside := _base(loaded, folder, is_run)) is not None:
        say("Measuring its base on the same rows")
        arms = {"base": beside(tasks, chosen, asking), "tuned": given}
    return {
        "schema": 1,
        "run": {"name": str(model), "model": loaded.model.found.base if loaded.model.found.adapter else str(model)},
        **measured(tasks, arms, chosen, seed=seed),
    }


def _measured_on(folder: Path) -> Device | None:
    """Return device and formats that a run had, so that a figure does not change with them; None where that device is not here."""
    file = runs.Run(folder).environment_json
    if not file.is_file():
        return None
    numbers = json.loads(file.read_text(encoding="utf-8"))["numbers"]
    here = choose_device(moves_base=False)
    before = replace(Device(**numbers), threads=here.threads)
    if before.name != here.name:
        return None
    apply_device(before)
    return before


def _own_scores(folder: Path, tasks: Sequence[Task]) -> list[str]:
    """Return the scores of a run that find something to compare with in these rows, in its order."""
    names = config.load(runs.Run(folder).run_toml, registries=registries()).config.score
    return [name for name, score in resolve_scores(names).items() if any(score.applies(task) for task in tasks)]


def _base(loaded: Loaded, folder: Path, is_run: bool) -> Callable[..., Any] | None:
    """Return what answers as the base of a tuned model, None where it has none that is known."""
    if loaded.model.found.adapter is not None:

        def without_adapter(tasks: Sequence[Task], chosen: Any, asking: Asking) -> Any:
            with loaded.model.network.disable_adapter():
                return answer(loaded.model, loaded.renderer, tasks, chosen, asking)

        return without_adapter
    if not is_run:
        return None
    resolved = config.load(folder / "run.toml", registries=registries())
    model = resolved.config.model
    if model.is_fresh:
        made = fresh_folder(model, loaded.model.tokenizer, seed=resolved.config.seed, beside=folder.parent)
        base = load_model(str(made.resolve()), loaded.model.target)
    else:
        base = load_model(config.model_reference(resolved), loaded.model.target)
    return lambda tasks, chosen, asking: answer(base, loaded.renderer, tasks, chosen, asking)


def _held_out(folder: Path) -> list[Task]:
    """Return the test rows of a run, read again from its data; DataError where they may no longer be the ones held out."""
    resolved = config.load(folder / "run.toml", registries=registries())
    # The folder may have been moved, and a fresh model is looked for beside it.
    plan: Plan = prepare(config.with_value(resolved, "output", str(folder), origin="where it lies"))
    if changed := changed_sources(plan, folder):
        raise DataError(
            f"{', '.join(changed)} changed since {folder} was tuned: rows held out now may be rows it has learned. "
            f"Put the data back, or give rows it has not seen: --data FILE"
        )
    if _tuned_on(folder) not in (None, plan.gathered.fingerprint):
        raise DataError(
            f"{folder}: its rows would be divided in another way now than when it was tuned, since more is known of what models were "
            f"trained on: rows held out now may be rows it has learned. Tune it again, or give rows it has not seen: --data FILE"
        )
    tasks = plan.tasks("test")
    if not tasks:
        raise DataError(f"{folder} held no rows out. Give some: --data FILE")
    return tasks


def _tuned_on(folder: Path) -> str | None:
    """Return the fingerprint of the data that a run was tuned on, by its newest checkpoint; None where no checkpoint tells."""
    checkpoints = runs.Run(folder).checkpoints
    for step in reversed(checkpoint.steps(checkpoints)):
        with suppress(BurnishError):  # a damaged checkpoint does not keep the finished model from being measured
            return checkpoint.facts(checkpoints / f"checkpoint-{step}").get("data")
    return None


def _tasks(loaded: Loaded, examples: list[Example]) -> list[Task]:
    """Return rows as tasks in the form that the model was taught, with groups."""
    frame = loaded.renderer.frame
    if not frame.choices:
        frame = replace(frame, choices=known_labels(examples))
    groups = group_keys(examples)
    return [replace(as_task(example, frame), group=group) for example, group in zip(examples, groups, strict=True)]


# ------------------------------------------------------------------------------------------------------------------------- the demo


def demo(output: str = "runs/demo", *, watch: Watch | None = None) -> Path:
    """Run the whole job on the bundled model and sample rows, and return its run directory; an earlier demo there is replaced."""
    import shutil

    from burnish.usecases import USECASES

    usecase = USECASES["support"]()
    rows = sample_file(usecase.samples[0])
    run = {**usecase.run, "data": {**usecase.run["data"], "source": str(rows)}, "output": output}
    if runs.is_finished(output):
        before = config.load(runs.Run(Path(output)).run_toml, registries=registries())
        if [(before.base / source.source).resolve() for source in before.config.data.sources] != [rows.resolve()]:
            raise UsageError(f"{output} holds another run, which the demo will not replace. Choose another folder: --output DIR")
        shutil.rmtree(output)
    resume = runs.Run(Path(output)).status_json.exists()
    return carry_out(resolve(run), resume=resume, watch=watch)


# Importing a module makes it an attribute of its package. Without this, burnish.tune would be the module and not the verb.
for verb in (tune, evaluate):
    setattr(burnish, verb.__name__, verb)

__all__ = [
    "Loaded",
    "RunConfig",
    "Watch",
    "base_answers",
    "check",
    "demo",
    "evaluate",
    "generate",
    "load",
    "pretrain",
    "resolve",
    "tune",
]
