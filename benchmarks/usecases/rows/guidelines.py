"""Rows of the use case knowledge-update: questions on rules that no model can know, and that changed between March and June.

Brook fever and its rules do not exist. Each fact of guidelines.txt is asked in several wordings, for now (June), for March, or without saying when, which means
now. The two guidelines themselves are written as documents to look answers up in. A fact in one wording and frame is a group.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from phrases import HERE, mixed

NOW = (
    "Please tell me {q}.",
    "I need to know {q}.",
    "{Q}?",
    "Do you know {q}?",
    "Brook fever: {q}?",
    "A colleague asks {q}.",
    "As of June: {q}?",
    "By the new guideline: {q}?",
    "Today: {q}?",
    "What does the rule say: {q}?",
    "quick question: {q}",
    "Remind me {q}.",
)
THEN = (
    "As of March: {q}?",
    "By the guideline of March: {q}?",
    "In March: {q}?",
    "Before the update: {q}?",
    "What did the March rule say: {q}?",
    "For the file of March: {q}.",
)
MONTHS = {"march": "March 2031", "june": "June 2031"}


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact: how it is asked, what the guideline of March says, and what that of June says."""

    asked: tuple[str, ...]
    march: str
    june: str

    @property
    def changed(self) -> bool:
        """Whether June says something else than March."""
        return self.march != self.june


def facts() -> list[Fact]:
    """Return the facts of the file."""
    found = []
    for line in (HERE / "guidelines.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            asked, march, june = (part.strip() for part in line.split("|"))
            found.append(Fact(tuple(one.strip() for one in asked.split(";")), march, june or march))
    return found


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the questions, and the two guidelines, a rule a row."""
    made = []
    for number, fact in enumerate(facts()):
        draw = random.Random(f"guideline {number}")
        for place, asked in enumerate(fact.asked):
            for frame in draw.sample(NOW, k=7):
                kind = "changed since March" if fact.changed else "unchanged"
                made.append(_row(frame, asked, fact.june, kind, f"{number} {place} {frame}"))
            for frame in draw.sample(THEN, k=3) if fact.changed else ():
                made.append(_row(frame, asked, fact.march, "as it was in March", f"{number} {place} {frame}"))
    documents = {f"guideline-{month}.jsonl": _guideline(month, name) for month, name in MONTHS.items()}
    return {"rules.jsonl": mixed(made, "rule"), **documents}


def _row(frame: str, asked: str, answer: str, kind: str, group: str) -> dict[str, Any]:
    return {"question": frame.format(q=asked, Q=asked[:1].upper() + asked[1:]), "answer": answer, "kind": kind, "group": group}


def _guideline(month: str, name: str) -> list[dict[str, Any]]:
    """Return a guideline as passages: of March all rules, of June those that changed."""
    chosen = [fact for fact in facts() if month == "march" or fact.changed]
    said = [f"{fact.asked[0][:1].upper()}{fact.asked[0][1:]}: {fact.march if month == 'march' else fact.june}." for fact in chosen]
    return [{"text": f"Guideline on Brook fever, {name}. {line}"} for line in said]
