"""What each arm may choose, tried on the dev rows: the same number of trials for every arm, each one written into the ledger.

Enters: a bench and an arm. Leaves: the setting with the best dev value, and a `Ledger` of what the choice took. Held-out rows are never seen here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, product
from typing import Any

from burnish.decide.arms import Arm
from burnish.decide.bench import Bench, Setting, ask, value
from burnish.decide.prompts import Layout

INSTRUCTIONS = (
    "Answer in as few words as possible.",
    "Answer the question. Give the answer alone, without any explanation.",
    "Answer in the same form as the examples.",
)
WITH_PASSAGES = (
    "Answer the question from the text below, in as few words as possible.",
    "Read the text and answer with the words of the text.",
)
RATES = (1.0, 2.0, 0.5, 4.0, 0.25, 3.0, 0.7, 6.0)
"""Factors of the run's learning rate, in the order in which they are tried."""


@dataclass(slots=True)
class Ledger:
    """The effort an arm was given: labelled rows, trials on dev rows with their values, and seconds spent on choosing."""

    labels: int = 0
    trials: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, setting: Setting, found: float) -> None:
        """Write down a trial."""
        self.trials.append({**{key: item for key, item in asdict(setting).items() if item}, "value": round(found, 6)})


def settings_of(arm: Arm, bench: Bench) -> list[Setting]:
    """Return the settings that an arm without weights of its own may try, the plainest first; a searched prompt goes its own way."""
    chosen, instructions = bench.settings, bench.settings.instructions
    if arm.examples in ("fixed", "nearest"):
        pairs = _mixed([("turns", count) for count in chosen.examples], [("inline", count) for count in chosen.examples])
        return [Setting(examples=count, layout=layout, examples_by=arm.examples) for layout, count in pairs]
    if arm.looks:
        asked = ("", *(instructions or WITH_PASSAGES))
        return [Setting(passages=count, instruction=said) for said, count in product(asked, chosen.passages)]
    if arm.passages == "corpus":
        return [Setting(instruction=said) for said in ("", *(instructions or WITH_PASSAGES))]
    return [Setting()]


def _mixed(first: Sequence[tuple[Any, int]], second: Sequence[tuple[Any, int]]) -> list[tuple[Any, int]]:
    """Return two lists in turns, so that few trials see something of both."""
    return list(chain.from_iterable(zip(first, second, strict=True)))


def choose(
    bench: Bench,
    arm: Arm,
    *,
    trials: int,
    measure: Callable[[Setting], float] | None = None,
    settings: Sequence[Setting] | None = None,
) -> tuple[Setting, Ledger]:
    """Return the best of at most `trials` settings on the dev rows, the first of equals, and the ledger.

    `measure` gives the dev value of a setting; not given, the base is asked. Where there is nothing to choose there is no trial.
    """
    started = time.perf_counter()
    ledger = Ledger(labels=len(bench.pool) if arm.examples != "none" else 0)
    take = measure or (lambda setting: value(bench, ask(bench, arm, setting, bench.rows.dev, bench.model)))
    found: dict[Setting, float] = {}

    def tried(setting: Setting) -> float:
        if setting not in found:
            found[setting] = take(setting)
            ledger.add(setting, found[setting])
        return found[setting]

    if arm.examples == "searched":
        best = _searched(bench, tried, trials)
    else:
        offered = list(settings if settings is not None else settings_of(arm, bench))[:trials]
        best = offered[0] if len(offered) == 1 else max(offered, key=tried)
    ledger.seconds = time.perf_counter() - started
    return best, ledger


def _searched(bench: Bench, tried: Callable[[Setting], float], trials: int) -> Setting:
    """Return the best prompt of a bounded search, one thing changed at a time: half of the trials examples and layouts, the plain question
    first, then the instructions with the best of them, then what is left of the examples with the best instruction."""
    left = [trials]

    def take(settings: Sequence[Setting], best: Setting | None) -> Setting:
        for setting in settings:
            if left[0] == 0:
                break
            left[0] -= 1
            if best is None or tried(setting) > tried(best):
                tried(setting)
                best = setting
        assert best is not None
        return best

    shown = [Setting(), *_with_examples(bench.settings.examples)]
    half = trials // 2 + 1
    best = take(shown[:half], None)
    best = take([replace(best, instruction=said) for said in bench.settings.instructions or INSTRUCTIONS], best)
    return take([replace(one, instruction=best.instruction) for one in shown[half:]], best)


def _with_examples(counts: Sequence[int]) -> list[Setting]:
    """Return the ways of showing examples, such that few of them see the most and the least examples, both layouts, both choices."""
    by_count = sorted(set(counts), reverse=True)
    ends = [by_count[0], by_count[0], by_count[-1], by_count[0]]
    ways: list[tuple[str, Layout]] = [("nearest", "turns"), ("nearest", "inline"), ("nearest", "turns"), ("fixed", "turns")]
    first = [Setting(examples=count, layout=layout, examples_by=by) for count, (by, layout) in zip(ends, ways, strict=True)]
    layouts: tuple[Layout, ...] = ("turns", "inline")
    every = product(by_count, ("nearest", "fixed"), layouts)
    rest = [Setting(examples=count, layout=layout, examples_by=by) for count, by, layout in every]
    return list(dict.fromkeys([*first, *rest]))
