"""The Python interface: what the command line does, as functions.

    import burnish
    run = burnish.tune("run.toml", "train.epochs=1")          # a run directory
    burnish.evaluate(run)["scores"]                            # base beside tuned, with intervals
    model = burnish.load(run)
    burnish.generate(model, ["Where is my parcel?"])

Enters: names, paths and options of a user. Leaves: plain values. Which rooms a verb goes through is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import burnish
from burnish import config, runs
from burnish.api_compare import compare
from burnish.api_evaluate import evaluate
from burnish.api_evaluate_more import More
from burnish.assets import sample as sample_file
from burnish.config import Resolved
from burnish.config_schema import RunConfig, as_choice, as_data, as_model
from burnish.data.render_heads import HeadRenderer
from burnish.decide.decision import decide as settle
from burnish.errors import BurnishError, ConfigError, DataError, UsageError
from burnish.find_rate import find_learning_rate as search
from burnish.finish_single import singles
from burnish.gather import gather, read_rows
from burnish.loaded import Loaded, load, tasks_of
from burnish.prepare import prepare, registries
from burnish.reading import read, read_fully
from burnish.sampling import Options
from burnish.sampling import generate as sample
from burnish.tune import Watch
from burnish.tune import tune as carry_out
from burnish.tune_chain import is_chain, replace_model, replace_runs
from burnish.types import Task, plain


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
    plan = prepare(replace_runs(resolved, tune_first=None), measure=measure)
    singles(plan)
    return plan.report


def tune(
    run: str | Path | Mapping[str, Any], *overrides: str, resume: bool = False, watch: Watch | None = None, **values: Any
) -> Path:
    """Carry out a run and return its run directory.

    Other run files that a run names, as its `model` or as `single` of a task, are tuned first, unless their results are there and of the
    same content.
    Raises UsageError (nothing was started), RunError (the run failed) or Stopped (a clean stop, everything saved).
    """
    watch = watch or Watch()
    resolved = resolve(run, *overrides, **values)
    if is_chain(resolved):
        # A mistake in this run shows before hours are spent on the one that is tuned first.
        if not resume:
            runs.check_usable(resolved.config.output)
        for name in resolved.config.task_names:
            gather(resolved.config.of_task(name), resolved.base)
    return carry_out(replace_runs(resolved, tune_first=watch), resume=resume, watch=watch)


def find_learning_rate(
    run: str | Path | Mapping[str, Any], *overrides: str, watch: Watch | None = None, **values: Any
) -> dict[str, Any]:
    """Try learning rates on the first steps of a run, and return what was found: {"chosen", "usual", "before", "trials", ...} (`find_rate`).

    The run is not started. "chosen" is None where no rate was better than the untuned model. Raises as `tune` does; a run whose `model` is
    another run file needs that one tuned before.
    """
    return asdict(search(replace_model(resolve(run, *overrides, **values), tune_first=None), watch=watch))


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
            f'To begin anew: init = "llama" (or "vit", for pictures) in the table [model], without a name.'
        )
    return tune(run, *overrides, resume=resume, watch=watch, **values)


# ---------------------------------------------------------------------------------------------------------- load, generate, evaluate


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
    task: str | None = None,
) -> list[dict[str, Any]]:
    """Return an answer to each prompt, or to each row of a data file: {"prompt", "text", "stopped", "tokens", and "origin" of a row}.

    A model that reads by a head gives "reading" beside that: its labels with probabilities, spans, a number or an answer (`reading.read_fully`).
    A model that learned several tasks is asked in the form of `task`, or of its first one.
    """
    if (prompts is None) == (data is None):
        raise UsageError("Give either a prompt or a data file with rows to answer.")
    rows = read_rows(str(data), Path.cwd(), format=format, columns=columns)[:limit] if data is not None else []
    loaded = model if isinstance(model, Loaded) else load(model, task=task)
    tasks = [loaded.task(prompt) for prompt in prompts] if prompts is not None else tasks_of(loaded, rows)
    options = Options(
        max_tokens=max_tokens or int(loaded.settings.get("max_tokens") or 128),
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        stop=tuple(stop),
        seed=seed,
        batch=batch,
    )
    given = _given(loaded, tasks, options)
    answers = []
    for one, (said, stopped, tokens, reading) in zip(tasks, given, strict=True):
        asked = one.text if one.text is not None else plain(one.messages[-1].content)
        text = said if one.text is not None else said.strip()
        row = {"prompt": asked, "text": text, "stopped": stopped, "tokens": tokens} | (
            {} if reading is None else {"reading": reading}
        )
        answers.append(row | ({"origin": str(one.origin)} if data is not None else {}))
    return answers


def _given(loaded: Loaded, tasks: Sequence[Task], options: Options) -> list[tuple[str, bool, int, dict[str, Any] | None]]:
    """Return (text, whether it ended by itself, tokens, what a head read in figures) of each answer: written, or read by the model's head."""
    if isinstance(loaded.renderer, HeadRenderer):
        rows = [task.expected.asked or task for task in tasks]
        if loaded.renderer.spec.restores:  # how many masked tokens came back is all that there is to say
            return [(one.text, True, 0, None) for one in read(loaded.model, loaded.renderer, rows)]
        return [(text, True, 0, figures) for text, figures in read_fully(loaded.model, loaded.renderer, rows)]
    prompts = [loaded.renderer.prompt(task) for task in tasks]
    return [(one.text, one.stopped, len(one.tokens), None) for one in sample(loaded.model, prompts, options)]


def decide(
    run: str | Path | Mapping[str, Any], *overrides: str, quick: bool = False, watch: Watch | None = None, **values: Any
) -> Path:
    """Measure prompting, retrieval and tuning on a run's held-out rows, and return its directory with decision.json and decision.html.

    Raises as `tune` does; an arm that fails is reported and takes nothing from the others.
    """
    watch = watch or Watch()
    return settle(replace_runs(resolve(run, *overrides, **values), tune_first=watch), quick=quick, watch=watch)


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
for verb in (tune, evaluate, compare, decide):
    setattr(burnish, verb.__name__, verb)

__all__ = [
    "Loaded",
    "More",
    "RunConfig",
    "Watch",
    "check",
    "compare",
    "decide",
    "demo",
    "evaluate",
    "find_learning_rate",
    "generate",
    "load",
    "pretrain",
    "resolve",
    "tune",
]
