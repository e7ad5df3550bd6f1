"""Who sees which rows: the same for every arm, fixed before anything is measured.

Enters: the plan of a run, and its documents as text. Leaves: `Rows`: what may be learned from, what settings are tried on, and what is held out,
with the sha256 that freezes it. Rows of one document are never divided but on purpose: where documents are looked in, some questions
on documents that are learned from are held out too ("seen"), beside those on documents that are only in the index ("new"). Reporting only new
ones would make tuning lose by construction, only seen ones would make retrieval look needless.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from burnish.config import Resolved, RunConfig
from burnish.config_schema import DataConfig
from burnish.data.dialog import Frame, as_task
from burnish.data.duplicates import between
from burnish.data.fields import normalised
from burnish.data.formats import examples
from burnish.data.sources import read
from burnish.decide.rows_written import write_dialogs
from burnish.errors import ConfigError, DataError, combined
from burnish.evaluate_wordings import RULES, Wordings, read_wordings
from burnish.gather import Gathered
from burnish.models import is_encoder
from burnish.prepare import Plan
from burnish.retrieval import Document
from burnish.types import Answerable, Dialog, Example, Labelled, Message, Tagged, Task, Text, content, plain

Stratum = Literal["all", "seen", "new"]

SEEN_SHARE = 0.25
"""Of the learnable questions on a document, the share that is held out as "seen"."""
FEWEST_OF_A_DOCUMENT = 4
"""Documents with fewer questions than this lose none of them to the held-out rows."""
LONG_ANSWER = 13
"""Words from which an answer that stands in two places is no accident: the field's usual length for contamination."""


@dataclass(frozen=True, slots=True)
class Item:
    """A row as every arm gets it.

    `task` is the question without any help, framed as the run says; `question` what is looked for in the documents. `document` names the document
    that it was made from and `evidence` (text, first and last character) where the answer stands in it, where that is known.
    """

    task: Task
    question: str
    stratum: Stratum = "all"
    document: str | None = None
    evidence: tuple[int, int, int] | None = None

    @property
    def id(self) -> str:
        """A sha256 of what is asked and expected, by which the row is known."""
        told = "\x1f".join([normalised(self.question), *map(normalised, self.task.expected.texts)])
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def answer(self) -> str:
        """The first acceptable answer."""
        return self.task.expected.texts[0] if self.task.expected.texts else ""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What every arm may see: rows to learn from, to try settings on, and held out; the documents; what is to be said of them."""

    train: list[Item]
    dev: list[Item]
    test: list[Item]
    documents: list[Document]
    notes: list[str]
    warnings: list[str]
    wordings: Wordings = RULES

    @property
    def test_hash(self) -> str:
        """The sha256 of the held-out rows: a decision on other rows is another decision."""
        return hashlib.sha256(" ".join(sorted(f"{item.id} {item.stratum}" for item in self.test)).encode()).hexdigest()


def divide(gathered: Gathered, config: RunConfig, *, base: Path) -> Rows:
    """Return the rows of a run for every arm alike, with the documents that are looked in.

    Raises DataError for documents that cannot be read, each named, for rows without a question, and where held-out rows are among those that are
    learned from.
    """
    settings = config.decide
    own = _contexts(gathered.examples) if settings.documents is None else {}
    sides = {
        side: [
            _item(example, gathered.frame, group, own)
            for example, group in zip(gathered.examples[side], gathered.groups[side], strict=True)
        ]
        for side in ("train", "dev", "test")
    }
    documents, warnings = read_documents(settings.documents, base) if settings.documents is not None else (list(own.values()), [])
    seed = config.seed
    train, seen = _hold_out_seen(sides["train"], limit=settings.test_rows, seed=seed) if documents else (sides["train"], [])
    new = _spread([replace(item, stratum="new" if seen else "all") for item in sides["test"]], settings.test_rows, seed)
    seen = _without_copies(seen, train)[: max(len(new), 1)] if seen else []
    test = [*new, *seen]
    if not new:
        raise DataError("No rows are held out, so nothing can be compared. Give data.test or data.test_share.")
    train = _spread(train, settings.train_rows, seed)
    dev = _spread(sides["dev"], settings.dev_rows, seed)
    if not dev:
        raise DataError("No dev rows, and settings must not be tried on held-out rows. Give data.dev or data.dev_share.")
    refuse_leaks(train, dev, test)
    wordings = RULES if settings.paraphrases is None else read_wordings(settings.paraphrases, base)
    notes = [*_notes(train, dev, test, documents), *_worded(wordings, test)]
    return Rows(train, dev, test, documents, notes, warnings, wordings)


# ------------------------------------------------------------------------------------------------------------------- rows, documents


def _item(example: Example, frame: Frame, group: str | None, own: Mapping[str, Document]) -> Item:
    """Return a row as a question without help; what stood beside it as context becomes a document."""
    if isinstance(example, Text):
        raise DataError(f"{example.origin}: a running text asks nothing, so prompting and retrieval have nothing to answer.")
    if not isinstance(example, Answerable):
        task = replace(as_task(example, frame), group=group)
        if task.text is not None or not task.messages or not (task.expected.texts or task.expected.tool_calls):
            raise DataError(f"{example.origin}: there is no question with an expected answer, so arms cannot be compared on it.")
        asked = plain(example.content if isinstance(example, Labelled | Tagged) else task.messages[-1].content)
        return Item(task, asked)
    if not own:  # the documents are elsewhere: the row's own context is what it is asked with
        task = replace(as_task(example, frame), group=group)
        return Item(task, example.question)
    alone = as_task(replace(example, context=""), frame)
    asked = frame.ask(example.question, question=example.question)
    messages = (*alone.messages[:-1], Message("user", content(asked)))
    document = own[example.context].name
    evidence = (0, example.answers[0][0], example.answers[0][0] + len(example.answers[0][1])) if example.answers else None
    expected = replace(alone.expected, asked=None)
    return Item(replace(alone, messages=messages, group=group, expected=expected), example.question, "all", document, evidence)


def _contexts(sides: Mapping[str, Sequence[Example]]) -> dict[str, Document]:
    """Return each context of the rows as a document, by its text."""
    found: dict[str, Document] = {}
    for rows in sides.values():
        for row in rows:
            if isinstance(row, Answerable) and row.context and row.context not in found:
                name = str(row.group) if row.group is not None else hashlib.sha256(row.context.encode()).hexdigest()[:16]
                taken = sum(document.name == name or document.name.startswith(f"{name}#") for document in found.values())
                found[row.context] = Document(f"{name}#{taken + 1}" if taken else name, row.context, row.origin)
    return found


def read_documents(source: str, base: Path) -> tuple[list[Document], list[str]]:
    """Return the texts of a file, folder or set by name, and what could not be read of them as warnings, each file named.

    Raises DataError with every file that cannot be read: a document that is silently left out would be held against retrieval.
    """
    table = read(source, base=base)
    found = examples(table, format="text")
    if table.problems or found.problems:
        raise combined(
            DataError,
            f"decide.documents = {source!r}: documents that cannot be read",
            list(dict.fromkeys([*table.problems, *found.problems])),
        )
    documents = [Document(text.origin.file, text.text, text.origin) for text in found.examples if isinstance(text, Text)]
    if not documents:
        raise DataError(f"decide.documents = {source!r}: no text was found in it. Give documents with running text.")
    return documents, list(dict.fromkeys([*table.warnings, *found.warnings]))


def _hold_out_seen(train: Sequence[Item], *, limit: int, seed: int) -> tuple[list[Item], list[Item]]:
    """Return the rows that stay, and questions held out of documents that are learned from; none where rows name no documents."""
    by_document: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(train):
        if item.document is not None:
            by_document[item.document].append(place)
    draw = np.random.Generator(np.random.Philox(key=seed + 1))
    chosen: list[int] = []
    for name in sorted(by_document):
        places = by_document[name]
        if len(places) >= FEWEST_OF_A_DOCUMENT:
            chosen += draw.permutation(places)[: max(1, int(SEEN_SHARE * len(places)))].tolist()
    chosen = sorted(draw.permutation(chosen)[:limit].tolist()) if chosen else []
    held = set(chosen)
    stay = [item for place, item in enumerate(train) if place not in held]
    return stay, [replace(train[place], stratum="seen") for place in chosen]


def _without_copies(held_out: Sequence[Item], train: Sequence[Item]) -> list[Item]:
    """Return the held-out questions that no learnable one nearly repeats."""
    copies = {place for _, place, _ in between([_said(item) for item in train], [_said(item) for item in held_out])}
    return [item for place, item in enumerate(held_out) if place not in copies]


def _said(item: Item) -> Dialog:
    """Return a row as question and answer alone, without the documents that many rows share."""
    turns = (Message("user", content(item.question)), Message("assistant", content(item.answer)))
    return Dialog(messages=turns, origin=item.task.origin)


def _spread(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """Return at most `limit` rows chosen by the seed, in the order they had."""
    if limit is None or len(items) <= limit:
        return list(items)
    kept = np.sort(np.random.Generator(np.random.Philox(key=seed + 2)).permutation(len(items))[:limit])
    return [items[place] for place in kept]


def closed_book(resolved: Resolved, gathered: Gathered, folder: Path) -> Resolved:
    """Return the run without the contexts of its rows, where they become documents: every row is a question and its answer, divided as before.

    A run whose rows have no contexts, or whose documents stand elsewhere, is returned as it is.
    """
    if resolved.config.decide.documents is not None or not (own := _contexts(gathered.examples)):
        return resolved
    files = {}
    for side in ("train", "dev", "test"):
        items = [
            _item(example, gathered.frame, group, own)
            for example, group in zip(gathered.examples[side], gathered.groups[side], strict=True)
        ]
        rows = [(item.task, item.answer, item.task.group or item.id) for item in items]
        files[side] = write_dialogs(rows, folder / "rows" / f"all-{side}.jsonl") if rows else None
    before = resolved.config.data
    data = DataConfig.model_validate_json(
        json.dumps(
            {
                "source": [{"source": str(files["train"])}],
                **{side: str(files[side]) for side in ("dev", "test") if files[side] is not None},
                "dev_share": 0.0,
                "test_share": 0.0,
                "format": "messages",
                "max_length": before.max_length,
                "long_rows": before.long_rows,
                "near_duplicates": False,
            }
        )
    )
    return replace(resolved, config=resolved.config.model_copy(update={"data": data}))


# --------------------------------------------------------------------------------------------------------------------------- leaks


def refuse_leaks(train: Sequence[Item], dev: Sequence[Item], test: Sequence[Item]) -> None:
    """Raise DataError where a held-out row is among those that arms learn from or are set by, alike or nearly, or its long answer is."""
    learned = [*train, *dev]
    problems = [
        f"{test[place].task.origin} is held out and nearly the same as {learned[other].task.origin}"
        for other, place, _ in between([_said(item) for item in learned], [_said(item) for item in test])
    ]
    grams = {gram: item for item in learned for gram in _grams(item.answer)}
    for item in test:
        twice = next((grams[gram] for gram in _grams(item.answer) if gram in grams), None)
        if twice is not None and item.document is None:
            problems.append(f"{item.task.origin} shares {LONG_ANSWER} words of its answer with {twice.task.origin}")
    if problems:
        shown = [*problems[:10], *([f"and {len(problems) - 10} more"] if len(problems) > 10 else [])]
        raise combined(
            DataError,
            "Held-out rows are found among the rows that are learned from, which no arm may see. Take them out of one side, or give related "
            "rows a group",
            shown,
        )


def _grams(text: str) -> set[tuple[str, ...]]:
    words = normalised(text).split()
    return {tuple(words[start : start + LONG_ANSWER]) for start in range(len(words) - LONG_ANSWER + 1)}


def _notes(train: Sequence[Item], dev: Sequence[Item], test: Sequence[Item], documents: Sequence[Document]) -> list[str]:
    """Return what a reader must know of the rows, in sentences."""
    strata = Counter(item.stratum for item in test)
    notes = [f"{len(train):,} rows to learn from, {len(dev):,} to try settings on, {len(test):,} held out."]
    if "seen" in strata:
        notes.append(
            f"Held out: {strata['new']:,} questions on documents that no arm learned from, {strata['seen']:,} on documents that tuning saw."
        )
    if documents:
        names = {document.name for document in documents}
        notes.append(f"{len(names):,} documents.")
    return notes


def _worded(wordings: Wordings, test: Sequence[Item]) -> list[str]:
    """Say for how many held-out questions the user gave other wordings; DataError where it is none of them."""
    if not wordings.given:
        return []
    known = wordings.known(item.question for item in test)
    if known == 0:
        raise DataError(
            f"decide.paraphrases: none of its {len(wordings.given)} questions is held out. Write the held-out questions as they stand in the data, such "
            f"as {test[0].question!r}."
        )
    return [f"Other wordings of {known} of {len(test)} held-out questions were given; those of the others are made by rule."]


HEADS = ("classification", "regression", "ner")
"""Objectives whose tuned arms answer by a head, while the base is asked to write the same answer."""


def refuse_kinds(config: RunConfig) -> None:
    """Raise ConfigError for runs that `decide` cannot carry out as prompts too."""
    if config.task:
        raise ConfigError(
            "decide compares ways to do one job, and this run has several tasks. Give it a run file with one of them."
        )
    if config.model.is_fresh:
        raise ConfigError("decide compares ways to use a model that there is; one with random weights can be asked nothing yet.")
    if config.objective.name not in ("sft", *HEADS):
        raise ConfigError(
            f"objective = {config.objective.name!r}: decide compares ways to get the same expected answer. The objective is 'sft', or one whose "
            f"head tells what the base can be asked to write: {', '.join(HEADS)}."
        )


def refuse_encoder(plan: Plan) -> None:
    """Raise ConfigError where the model cannot write, so that there is nothing to prompt."""
    if is_encoder(plan.model_config):
        raise ConfigError(f"{plan.found.name} is an encoder, which writes nothing, so it cannot be prompted. Use burnish tune.")
