"""A model as judge of two answers: each pair shown in both orders, and believed only as far as it agrees with people.

Enters: a function that lets the judge answer prompts (a model here, or one behind a server), rows with two answers, and pairs that people have decided.
Leaves: plain values. A judge that changes its mind with the order has said nothing, which counts as a tie. How far its verdicts can be used is
measured on the people's pairs, always, and told beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.data.fields import normalised
from burnish.evaluate_agreement import shares
from burnish.scores import groups_of
from burnish.types import Answer, Pair, Task, plain

Ask = Callable[[Sequence[str]], Sequence[str]]
"""Prompts to replies, in their order; '' where there was none."""

FEWEST_LABELS, LEAST_KAPPA = 50, 0.6
"""Pairs of people, and agreement with them beyond chance, below which a judge's figures are not to be relied on."""
ALIKE = 1.25
"""Answers whose lengths differ by less than this factor are alike in length: judges prefer longer ones."""
RESAMPLES = 1000

PROMPT = """Two answers to the same question are compared.

Question:
{question}

{reference}Answer A:
{first}

Answer B:
{second}

Which answer is better? Reply with one letter alone: A, B, or T if they are equally good."""

_LETTER = re.compile(r"\b([ABT])\b")


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """Of each pair: 1 where the first answer is better, 0 where the second is, 0.5 for a tie; whether the order decided, and replies not read."""

    worth_R: np.ndarray
    turned_R: np.ndarray
    unread: int


@dataclass(frozen=True, slots=True)
class Compared:
    """Two answers to a question, and the expected one where there is one."""

    question: str
    first: str
    second: str
    reference: str = ""


def verdicts(ask: Ask, rows: Sequence[Compared]) -> Verdicts:
    """Return what the judge says of each pair, both orders put to it; answers that are the same are a tie without asking."""
    asked = [place for place, row in enumerate(rows) if normalised(row.first) != normalised(row.second)]
    prompts = [_prompt(rows[place], turned) for place in asked for turned in (False, True)]
    replies = iter(ask(prompts))
    worth_R, turned_R, unread = np.full(len(rows), 0.5), np.zeros(len(rows)), 0
    for place in asked:
        straight, turned = _read(next(replies)), _read(next(replies))
        unread += (straight is None) + (turned is None)
        # In the second order the letters mean the other answer.
        both = (straight, None if turned is None else 1.0 - turned)
        if None in both or both[0] != both[1]:
            turned_R[place] = float(None not in both)
            continue
        worth_R[place] = both[0]
    return Verdicts(worth_R, turned_R, unread)


def _prompt(row: Compared, turned: bool) -> str:
    first, second = (row.second, row.first) if turned else (row.first, row.second)
    reference = f"A good answer:\n{row.reference}\n\n" if row.reference else ""
    return PROMPT.format(question=row.question, reference=reference, first=first, second=second)


def _read(reply: str) -> float | None:
    """Return 1 for A, 0 for B, 0.5 for a tie, None for a reply that names none of them, or several."""
    letters = set(_LETTER.findall(reply.strip()))
    return {"A": 1.0, "B": 0.0, "T": 0.5}[letters.pop()] if len(letters) == 1 else None


def agreement_with_people(ask: Ask, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return how far the judge decides as people did: the share of pairs, and Cohen's kappa, with intervals over pairs.

    Each pair is shown in both orders, so by chance it would take the chosen answer in half of those that it decides.
    """
    rows = [
        Compared(
            "\n\n".join(plain(turn.content) for turn in pair.prompt),
            "\n\n".join(plain(turn.content) for turn in pair.chosen),
            "\n\n".join(plain(turn.content) for turn in pair.rejected),
        )
        for pair in pairs
    ]
    found = verdicts(ask, rows)
    groups = [f"pair {place}" if pair.group is None else f"group {pair.group}" for place, pair in enumerate(pairs)]
    draw = np.random.default_rng(0)
    drawn = [_kappa(found.worth_R[draw.integers(0, len(rows), len(rows))]) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    kappa = _kappa(found.worth_R)
    return {
        "agreement": shares((found.worth_R == 1.0).astype(float), groups),
        "kappa": {"mean": kappa, "low": min(float(low), kappa), "high": max(float(high), kappa), "n": len(rows)},
        "turned": shares(found.turned_R, groups),
        "unread": found.unread,
        "n": len(rows),
    }


def _kappa(worth_R: np.ndarray) -> float:
    """Return Cohen's kappa between people, for whom either place is as likely, and the judge, which may also call a tie."""
    agreed, decided = float((worth_R == 1.0).mean()), float((worth_R != 0.5).mean())
    chance = decided / 2
    return (agreed - chance) / (1 - chance)


def judged(
    ask: Ask,
    tasks: Sequence[Task],
    first: Sequence[Answer],
    second: Sequence[Answer],
    people: dict[str, Any],
) -> dict[str, Any]:
    """Return how often the first answers are better than the second by this judge, ties as halves, and whether that can be relied on.

    `people` is what `agreement_with_people` found of the same judge.
    """
    rows = [
        Compared(
            "\n\n".join(plain(turn.content) for turn in task.messages),
            one.text,
            other.text,
            task.expected.texts[0] if task.expected.texts else "",
        )
        for task, one, other in zip(tasks, first, second, strict=True)
    ]
    found, groups = verdicts(ask, rows), groups_of(tasks)
    sizes = [(max(len(row.first), 1), max(len(row.second), 1)) for row in rows]
    alike = [place for place, (one, other) in enumerate(sizes) if max(one, other) < ALIKE * min(one, other)]
    kappa = people["kappa"]["mean"]
    return {
        "better": shares(found.worth_R, groups),
        "better_alike_in_length": shares(found.worth_R[alike], [groups[place] for place in alike]),
        "wins": int((found.worth_R == 1.0).sum()),
        "ties": int((found.worth_R == 0.5).sum()),
        "losses": int((found.worth_R == 0.0).sum()),
        "turned": shares(found.turned_R, groups),
        "unread": found.unread,
        "people": people,
        "relied_on": people["n"] >= FEWEST_LABELS and kappa >= LEAST_KAPPA,
        "told": _told(people["n"], kappa),
    }


def _told(labels: int, kappa: float) -> str:
    """Return in words how far the judge can be believed."""
    if labels < FEWEST_LABELS:
        return f"Only {labels} pairs that people decided, fewer than {FEWEST_LABELS}: how good this judge is, is not known. Do not rely on it."
    if kappa < LEAST_KAPPA:
        return f"This judge decides as people do with a kappa of {kappa:.2f}, below {LEAST_KAPPA}. Do not rely on it."
    return f"This judge decides as people do with a kappa of {kappa:.2f}, on {labels} pairs."
