"""Gather a run's data: from named sources to checked examples on three sides, before any model is opened.

Enters: the data part of a run. Leaves: `Gathered` examples with groups, findings and fingerprint. Reading stands in `data.sources`,
meaning in `data.formats`, dividing in `data.split`; this file only says in which order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish import assets
from burnish.config import RunConfig
from burnish.data.check_fields import check_fields
from burnish.data.checks import check_examples, check_overlap
from burnish.data.dialog import Frame, known_labels
from burnish.data.duplicates import NEAR, near
from burnish.data.fields import fields, shown_by
from burnish.data.findings import Finding, Findings, joined
from burnish.data.formats import examples as read_examples
from burnish.data.mixture import mixture
from burnish.data.seen import Seen, check_seen, load_seen
from burnish.data.sources import read
from burnish.data.split import Split, group_keys, split
from burnish.errors import BurnishError, DataError, combined
from burnish.types import Example

SIDES = ("train", "dev", "test")

MOST_SLICES = 50
"""More values of a column than this are no parts of the rows that anybody would look at one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """Examples by side with the group of each; `source_of` and `weights` say how often each training row is seen per epoch."""

    examples: Mapping[str, list[Example]]
    groups: Mapping[str, list[str]]
    source_of: list[int]
    weights: list[float]
    frame: Frame
    findings: Findings
    sources: list[dict[str, Any]]
    notes: list[str]
    fingerprint: str

    def order(self, kept: list[int], seed: int) -> Callable[[int], np.ndarray]:
        """Return the order of each epoch over the kept training rows: numbers into `kept`, a pure function of seed and epoch."""
        source_K = np.asarray([self.source_of[row] for row in kept], dtype=np.int64)
        places = [np.flatnonzero(source_K == source) for source in range(len(self.weights))]
        starts, flat = np.cumsum([0, *map(len, places)]), np.concatenate(places)

        def order(epoch: int) -> np.ndarray:
            pairs_MK = mixture([len(rows) for rows in places], self.weights, seed=seed, epoch=epoch)
            return flat[starts[pairs_MK[:, 0]] + pairs_MK[:, 1]]

        from functools import lru_cache

        return lru_cache(maxsize=4)(order)


@dataclass(slots=True, eq=False)
class _Reading:
    """What has been read so far, over all sources."""

    examples: list[Example]
    source_of: list[int]
    problems: list[str]
    findings: list[Finding]
    facts: list[dict[str, Any]]


def gather(
    config: RunConfig, base: Path, *, special_tokens: tuple[str, ...] = (), seen: Seen | None = None, shown: int = 5
) -> Gathered:
    """Return the run's examples, divided and checked. Raises DataError with every problem of every source.

    What the model has `seen` is not held out; where the user's own dev or test rows are among it, that is a finding.
    """
    data = config.data
    reading = _Reading([], [], [], [], [])
    for number, source in enumerate(data.sources):
        _read(reading, number, source.source, source.format or "auto", source.columns or {}, config=config, base=base)
    own: dict[str, list[Example]] = {}
    for side, name in (("dev", data.dev), ("test", data.test)):
        if name is not None:
            aside = _Reading([], [], reading.problems, reading.findings, reading.facts)
            _read(aside, 0, name, data.format, data.columns, config=config, base=base)
            own[side] = aside.examples
    reading.problems += _too_many_slices([*reading.examples, *(row for rows in own.values() for row in rows)])
    if reading.problems:
        raise combined(DataError, "The data cannot be read as it is", reading.problems)
    if data.limit is not None and data.limit < len(reading.examples):
        _limit(reading, data.limit, config.seed)
    reserved = assets.reserved()
    copies = near(reading.examples, threshold=NEAR if data.near_duplicates else 1.0)
    divided = split(
        reading.examples,
        dev=0.0 if "dev" in own else data.dev_share,
        test=0.0 if "test" in own else data.test_share,
        seed=config.seed,
        near_duplicates=data.near_duplicates,
        seen=seen,
        reserved=load_seen(reserved) if reserved is not None else None,
        copies=copies,
    )
    examples = {side: own.get(side) or [reading.examples[row] for row in divided.side(side)] for side in SIDES}
    groups = {side: [divided.groups[row] for row in divided.side(side)] for side in SIDES}
    groups |= {side: list(group_keys(rows, near_duplicates=data.near_duplicates)) for side, rows in own.items()}
    if not examples["train"]:
        raise DataError("No row is left to learn from: give data.source rows, or smaller data.dev_share and data.test_share.")
    checked = check_examples(
        reading.examples,
        own.get("test", ()),
        special_tokens=special_tokens,
        near_duplicates=data.near_duplicates,
        shown=shown,
        near_copies=copies,
    )
    aside = [finding for rows in own.values() for finding in check_fields(rows, [tuple(fields(row)) for row in rows], shown=shown)]
    aside += [check_seen(rows, seen, rows=f"data.{side}", shown=shown) for side, rows in own.items()]
    overlap = check_overlap(reading.examples, own["dev"], shown=shown) if "dev" in own else None
    return Gathered(
        examples=examples,
        groups=groups,
        source_of=[reading.source_of[row] for row in divided.train],
        weights=[source.weight for source in data.sources],
        frame=Frame(data.system, data.prompt, known_labels([*examples["train"], *examples["dev"], *examples["test"]])),
        findings=joined([*reading.findings, checked, *aside, overlap]),
        sources=reading.facts,
        notes=list(divided.notes),
        fingerprint=_fingerprint(reading, divided),
    )


def _too_many_slices(examples: list[Example]) -> list[str]:
    """Return the problem of a slice column that names no parts of the rows but the rows themselves."""
    found = {example.slice for example in examples if example.slice is not None}
    if len(found) <= MOST_SLICES:
        return []
    return [
        f"data.columns.slice: its column has {len(found)} different values in {len(examples)} rows, and each would be scored by itself. "
        f"Name a column with at most {MOST_SLICES}, such as usual, rare and edge, or none"
    ]


def _fingerprint(reading: _Reading, divided: Split) -> str:
    """Return a sha256 of the content of all sources, and of which groups have their side given: another version may know of more."""
    parts = [fact["sha256"] for fact in reading.facts] + [f"{side} {group}" for group, side in sorted(divided.given.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read(
    reading: _Reading, number: int, source: str, format: str, columns: Mapping[str, str], *, config: RunConfig, base: Path
) -> None:
    """Read one source into `reading`; what cannot be read becomes a problem beside those of the others."""
    try:
        table = read(source, base=base)
        found = read_examples(table, format=format, columns=columns, repair=config.data.repair)
    except BurnishError as error:
        reading.problems.append(str(error))
        return
    reading.problems += found.problems
    warnings = list(dict.fromkeys(found.warnings))
    reading.findings += [Finding("warning", "source", message, (), 1) for message in warnings]
    reading.examples += found.examples
    reading.source_of += [number] * len(found.examples)
    fact = {"name": source, "format": found.format, "guessed": found.guessed, "rows": len(found.examples)}
    reading.facts.append({**fact, "sha256": _content(table.fingerprint, found.examples)})


def _content(fingerprint: str, rows: list[Example]) -> str:
    """Return the sha256 of a source's content: of its bytes, and of the pictures that its rows show where there are any."""
    seen = [part.sha256 for part in shown_by(rows)]
    return hashlib.sha256("\n".join([fingerprint, *seen]).encode()).hexdigest() if seen else fingerprint


def read_rows(source: str, base: Path, *, format: str = "auto", columns: Mapping[str, str] | None = None) -> list[Example]:
    """Return the examples of one source; DataError with every problem found."""
    table = read(source, base=base)
    found = read_examples(table, format=format, columns=columns or {})
    if found.problems:
        raise combined(DataError, f"{source} cannot be read as it is", found.problems)
    return found.examples


def _limit(reading: _Reading, limit: int, seed: int) -> None:
    """Keep `limit` rows, chosen by the seed, in the order they had."""
    chosen = np.sort(np.random.Generator(np.random.Philox(key=seed)).permutation(len(reading.examples))[:limit])
    reading.examples = [reading.examples[row] for row in chosen]
    reading.source_of = [reading.source_of[row] for row in chosen]
