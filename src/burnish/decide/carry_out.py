"""Carry out the arms of a decision: each one chosen on dev rows, then asked the held-out rows, its result kept for the next time.

Enters: a bench and the arms. Leaves: a `Result` for each, or the reason why it failed, which stops none of the others. What is finished is kept in
the decision's folder under the sha256 of all that it depends on, and taken from there when the decision is made again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from burnish import runs
from burnish.baseline import linear_baseline
from burnish.decide.arms import Arm
from burnish.decide.bench import Bench, Said, Setting, ask, statistics, value
from burnish.decide.protocol import Item
from burnish.decide.search import RATES, Ledger, choose
from burnish.decide.weights import Learned, learn, open_merged
from burnish.errors import BurnishError, Stopped
from burnish.models import Model, fingerprint
from burnish.tune import Watch
from burnish.types import Answer, plain


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A finished arm: what it chose, what it answered to the held-out rows, and what it took.

    `seconds` are those of building it: training, and looking for settings stands in the ledger. `folder` is the run of a tuned arm;
    `repeats` are the answers of the same arm tuned with other seeds, and `folders` their runs: its score is the mean over all of them.
    """

    arm: Arm
    setting: Setting
    said: Said
    ledger: Ledger
    seconds: float = 0.0
    folder: Path | None = None
    repeats: tuple[Said, ...] = ()
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Effort:
    """How much each arm may try: the same number of trials for all. Training with passages is dear, so a quick decision tries it once."""

    trials: int
    quick: bool
    watch: Watch


def carry_out(bench: Bench, name: str, arm: Arm, effort: Effort, done: dict[str, Result]) -> Result:
    """Return the result of an arm, kept from before where nothing that it depends on has changed. Raises what carrying it out raises."""
    key, file = _key(bench, name, arm, effort, done), bench.folder / "arms" / f"{name}.json"
    if (kept := _kept(file, key, bench, arm)) is not None:
        effort.watch.say(f"{name}: kept from before")
        return kept
    if arm.weights == "none":
        result = _without_model(bench, name, arm)
    elif arm.weights == "base":
        setting, ledger = choose(bench, arm, trials=effort.trials)
        result = Result(arm, setting, ask(bench, arm, setting, bench.rows.test, bench.model), ledger)
    elif name == "tuned_with_retrieval":
        result = _glued(bench, arm, effort, done)
    else:
        result = _learned(bench, name, arm, effort, done)
    _keep(file, key, result)
    return result


def _without_model(bench: Bench, name: str, arm: Arm) -> Result:
    """Return what the commonest answer, or a classical model, gets."""
    started = time.perf_counter()
    train, test = [item.task for item in bench.rows.train], [item.task for item in bench.rows.test]
    if name == "majority":
        common = Counter(item.answer for item in bench.rows.train).most_common(1)[0][0]
        answers = [Answer(text=common, stopped=True) for _ in test]
    else:
        baseline = linear_baseline(train, test, seed=bench.plan.resolved.config.seed)
        if baseline is None:
            raise BurnishError("no classical model fits these rows")
        answers = list(baseline.answers)
    seconds = time.perf_counter() - started
    said = Said(test, answers, [0] * len(test), seconds, [()] * len(test))
    return Result(arm, Setting(), said, Ledger(labels=len(train)), seconds)


def _learned(bench: Bench, name: str, arm: Arm, effort: Effort, done: dict[str, Result]) -> Result:
    """Return a tuned arm: a run for each learning rate that may be tried, the best on dev rows asked the held-out ones.

    With passages it learns with as many as the arm that looks by words chose on dev rows.
    """
    plain_retrieval = done.get("retrieval_bm25")
    passages = (
        (plain_retrieval.setting.passages if plain_retrieval is not None else min(bench.settings.passages)) if arm.looks else 0
    )
    once = arm.weights == "random" or (effort.quick and arm.weights == "tuned on context")
    settings = [Setting(passages=passages, rate=rate) for rate in RATES[: 1 if once else effort.trials]]
    runs_of: dict[Setting, Learned] = {}
    asking: list[float] = []

    def run(setting: Setting) -> Learned:
        if setting not in runs_of:
            effort.watch.say(f"{name}: tuning with the learning rate × {setting.rate:g}")
            runs_of[setting] = learn(bench, arm, setting, name, bench.rows.train, watch=effort.watch)
        return runs_of[setting]

    def measure(setting: Setting) -> float:
        said = ask(bench, arm, setting, bench.rows.dev, open_merged(run(setting).folder, bench.model))
        asking.append(said.seconds)
        return value(bench, said)

    setting, ledger = choose(bench, arm, trials=effort.trials, measure=measure, settings=settings)
    chosen = run(setting)
    others = [] if arm.weights == "random" else range(1, bench.settings.seeds)
    again = [
        learn(bench, arm, setting, f"{name}-seed{number}", bench.rows.train, watch=effort.watch, seed=number) for number in others
    ]
    folders = tuple(one.folder for one in again)
    ledger.labels = len(bench.rows.train)
    # By what training took when it ran: runs that are there from an interrupted decision took no time now.
    ledger.seconds = sum(asking) + sum(one.seconds for key, one in runs_of.items() if key != setting)
    said = ask(bench, arm, setting, bench.rows.test, open_merged(chosen.folder, bench.model))
    return Result(arm, setting, said, ledger, chosen.seconds, chosen.folder, _repeats(bench, arm, setting, folders), folders)


def _repeats(bench: Bench, arm: Arm, setting: Setting, folders: Sequence[Path]) -> tuple[Said, ...]:
    """Return what the weights of other seeds answer to the held-out rows."""
    return tuple(ask(bench, arm, setting, bench.rows.test, open_merged(folder, bench.model)) for folder in folders)


def statistics_of(bench: Bench, result: Result, name: str | None = None) -> np.ndarray:
    """Return the statistics [rows, K] of an arm's answers by one score (the deciding one unless named), the mean over its seeds."""
    given = {str(place): said.answers for place, said in enumerate((result.said, *result.repeats))}
    return np.mean(list(statistics(bench, given, bench.rows.test, name or bench.headline).values()), axis=0)


def _glued(bench: Bench, arm: Arm, effort: Effort, done: dict[str, Result]) -> Result:
    """Return the tuned arm with passages put before its questions, which it never saw in training."""
    if "tuned" not in done or done["tuned"].folder is None:
        raise BurnishError("it takes the weights of the arm 'tuned', which was not carried out")
    tuned = done["tuned"]
    assert tuned.folder is not None
    model = open_merged(tuned.folder, bench.model)
    setting, ledger = choose(
        bench, arm, trials=effort.trials, measure=lambda one: value(bench, ask(bench, arm, one, bench.rows.dev, model))
    )
    ledger.labels = len(bench.rows.train)
    ledger.seconds += tuned.ledger.seconds
    said, repeats = ask(bench, arm, setting, bench.rows.test, model), _repeats(bench, arm, setting, tuned.folders)
    return Result(arm, setting, said, ledger, tuned.seconds, tuned.folder, repeats, tuned.folders)


def attempt(bench: Bench, arms: dict[str, Arm], effort: Effort) -> tuple[dict[str, Result], dict[str, str]]:
    """Return the results of all arms, and of those that failed the reason; a stop that the user asked for stops all."""
    done: dict[str, Result] = {}
    failed: dict[str, str] = {}
    for name, arm in arms.items():
        effort.watch.say(f"{name}: {arm.about}")
        try:
            done[name] = carry_out(bench, name, arm, effort, done)
        except Stopped:
            raise
        except Exception as error:  # whatever ends one arm, memory too, takes nothing from the others
            failed[name] = str(error) if isinstance(error, BurnishError) else f"{type(error).__name__}: {error}"
            effort.watch.say(f"{name} failed: {failed[name]}")
    return done, failed


def model_of(bench: Bench, result: Result) -> Model | None:
    """Return the model that answers for an arm: the base, its own, or none."""
    if result.arm.weights == "none":
        return None
    return bench.model if result.folder is None else open_merged(result.folder, bench.model)


# --------------------------------------------------------------------------------------------------------------------- kept results


def _key(bench: Bench, name: str, arm: Arm, effort: Effort, done: Mapping[str, Result]) -> str:
    """Return a sha256 of everything that an arm's result follows from."""
    config = bench.plan.resolved.config
    settings = config.decide.model_dump(
        mode="json", include={"examples", "passages", "passage_size", "instructions", "embedder", "seeds"}
    )
    told = {
        "arm": [name, asdict(arm)],
        "rows": [_ids(side) for side in (bench.rows.train, bench.rows.dev, bench.rows.test)],
        "documents": None if bench.index is None else dict(bench.index.digests),
        "model": fingerprint(bench.model.found) or bench.model.found.name,
        "settings": settings,
        "effort": [effort.trials, effort.quick],
        # Some arms begin where others ended: with their weights, or as many passages.
        "before": {
            one: asdict(done[one].setting) for one in ("retrieval_bm25", "tuned") if one in done and one != name and arm.looks
        },
        "run": config.model_dump(mode="json", include={"seed", "dtype", "score", "technique", "train", "objective"}),
        "longest": bench.part.renderer.max_length,
        "answer": bench.answer_tokens,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _ids(items: Sequence[Item]) -> list[str]:
    return [f"{item.id} {item.stratum} {' '.join(plain(turn.content) for turn in item.task.messages)}" for item in items]


def _keep(file: Path, key: str, result: Result) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    runs.write_json(
        file,
        {
            "key": key,
            "setting": asdict(result.setting),
            "ledger": asdict(result.ledger),
            "seconds": result.seconds,
            "folders": [str(folder) for folder in (result.folder, *result.folders) if folder is not None],
            "said": [_plain(said) for said in (result.said, *result.repeats)],
        },
    )


def _plain(said: Said) -> dict[str, Any]:
    """Return answers as plain values, without the tasks, which the rows give again."""
    return {
        "seconds": said.seconds,
        "prompt_tokens": said.prompt_tokens,
        "shown": said.shown,
        "answers": [asdict(one) for one in said.answers],
    }


def _kept(file: Path, key: str, bench: Bench, arm: Arm) -> Result | None:
    """Return a result from before, None where there is none, it is damaged, or it was of something else."""
    try:
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        folders = [Path(one) for one in told["folders"]]
        if told["key"] != key or not all(runs.is_finished(folder) for folder in folders):
            return None
        first, *repeats = [_said(one, bench) for one in told["said"]]
        own = folders[0] if folders else None
        setting, ledger = Setting(**told["setting"]), Ledger(**told["ledger"])
        return Result(arm, setting, first, ledger, told["seconds"], own, tuple(repeats), tuple(folders[1:]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _said(told: Mapping[str, Any], bench: Bench) -> Said:
    answers = [Answer(**row) for row in told["answers"]]
    tasks = [item.task for item in bench.rows.test]
    return Said(tasks, answers, told["prompt_tokens"], told["seconds"], [tuple(one) for one in told["shown"]])


def with_rows(bench: Bench, train: Sequence[Item]) -> Bench:
    """Return the bench with fewer rows to learn from."""
    return replace(bench, rows=replace(bench.rows, train=list(train)))
