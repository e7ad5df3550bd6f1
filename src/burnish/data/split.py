"""Which rows are learned from, which choose the checkpoint, and which are held out.

In: examples, the shares asked for, a seed. Out: their indices by side, and the group of each row. Rows of a group, copies, near copies
and rows that ask the same are never divided, because a model that learned one of them knows the other.

Where a group goes depends on its own content and the seed alone: neither the order of the rows nor other rows matter, so a data set
can grow without its old rows changing sides. The price is that shares are met on average and not exactly.

Two kinds of rows have their side given: what the model was trained on stays with the training rows, and rows that every bundled model
was kept away from are held out, the same ones by every run. All other groups go by their hash.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from itertools import pairwise

from burnish.data.duplicates import NEAR, Clusters, Roots, between, near
from burnish.data.fields import annotation, input_text, key_text, pictures, shown_by
from burnish.data.seen import Seen
from burnish.errors import ConfigError, DataError, combined
from burnish.pictures import families
from burnish.types import Dialog, Example, Labelled, Origin

SIDES = ("train", "dev", "test")

# An input of dialogs that stands in more than this share of all rows (and more than a few) is an instruction that they share, such
# as "Write a product description", and not a question with several answers: joining on it would leave nothing to divide.
INSTRUCTION_SHARE = 0.1
INSTRUCTION_ROWS = 20


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of the rows on each side, ascending, and the group of every row.

    `moved` names groups that did not stay where their hash put them (group, from, to); `missing_labels` the labels that rows have
    but that a side lacks; `notes` are sentences for the data report; `given` is the side of groups that did not go by their hash
    because the model was trained on them, or because they are reserved.
    """

    train: tuple[int, ...]
    dev: tuple[int, ...]
    test: tuple[int, ...]
    groups: tuple[str, ...]
    moved: tuple[tuple[str, str, str], ...]
    missing_labels: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    given: Mapping[str, str]

    def side(self, name: str) -> tuple[int, ...]:
        """Return the indices of 'train', 'dev' or 'test'."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[name]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Rows of a test set that stand in the training set: pairs of origins (train, test), one for each test row at most."""

    exact: tuple[tuple[Origin, Origin], ...]
    near: tuple[tuple[Origin, Origin], ...]
    same_input: tuple[tuple[Origin, Origin], ...]
    """What is asked is the same, the answer is another."""


def split(
    examples: ListOf[Example],
    *,
    dev: float,
    test: float,
    seed: int,
    near_duplicates: bool = True,
    seen: Seen | None = None,
    reserved: Seen | None = None,
    copies: Clusters | None = None,
) -> Split:
    """Return the rows divided by group into train, dev and test.

    `dev` and `test` are shares of the groups, each at least 0 and together below 1. No side that was asked for is empty: where the
    hash leaves one so, the group nearest to it moves; a group of more than half of all rows goes to train. `near_duplicates=False`
    keeps only equal rows, equal inputs and given groups together. Groups with a row that `seen` knows are learned from, so that the
    shares are those of the others; groups with one that `reserved` knows are tested on. `copies` are the rows' clusters of near copies where
    they are known already. Raises ConfigError for impossible shares,
    DataError where there are fewer groups than sides, or too few that were not seen.
    """
    _check_shares(dev, test)
    keys = group_keys(examples, near_duplicates=near_duplicates, copies=copies)
    rows = Counter(keys)
    asked = [side for side, share in zip(SIDES, (1.0, dev, test), strict=True) if share > 0]
    if len(rows) < len(asked):
        raise DataError(_too_few(len(examples), len(rows), asked, keys, examples))
    place = {key: _unit(seed, key) for key in rows}
    known = [row for row, example in enumerate(examples) if len(asked) > 1 and seen is not None and seen.knows(example)]
    aside = [row for row, example in enumerate(examples) if test > 0 and reserved is not None and reserved.knows(example)]
    given = _given(place, {keys[row] for row in known}, {keys[row] for row in aside}, dev=dev, test=test, seed=seed)
    if seen is not None and known and len(rows) - len({keys[row] for row in known}) < len(asked) - 1:
        raise DataError(_all_seen(len(examples), len(known), seen, asked[1:], examples[known[0]]))
    sides = {key: "test" if at < test else "dev" if at < test + dev else "train" for key, at in place.items()} | given
    moved = _settled(sides, place, rows, asked, given)
    indices = {side: tuple(i for i, key in enumerate(keys) if sides[key] == side) for side in SIDES}
    missing = _missing_labels(examples, {side: indices[side] for side in asked})
    notes = _notes(examples, indices, rows, moved, missing, shares={"dev": dev, "test": test}, sides=sides)
    notes += _given_notes(keys, given, sides, seen, known=len(known))
    return Split(indices["train"], indices["dev"], indices["test"], keys, moved, missing, notes, given)


def _given(place: Mapping[str, float], seen: set[str], reserved: set[str], *, dev: float, test: float, seed: int) -> dict[str, str]:
    """Return the side of groups that do not go by their hash: seen ones to train, reserved ones to test.

    Where most groups that were not seen are reserved, dev rows would hardly be found among the others: then reserved groups are
    divided between dev and test in the ratio of the two shares. Where all are reserved none is, since something must be learned from.
    """
    reserved = reserved - seen
    if len(reserved) == len(place):
        return {}
    others = len(place) - len(seen) - len(reserved)
    for_dev = dev / (dev + test) if reserved and others < len(reserved) else 0.0
    # Another hash than that of the sides: rows are reserved by theirs, so that all of them may lie at one end of it.
    return dict.fromkeys(seen, "train") | {key: "dev" if _unit(seed, f"reserved:{key}") < for_dev else "test" for key in reserved}


def overlap(train: ListOf[Example], test: ListOf[Example], *, threshold: float = NEAR) -> Overlap:
    """Return which rows of a user's own test file stand in the training file: exactly, nearly, or with the same input.

    Raises ConfigError for a threshold outside (0, 1].
    """
    pairs = between(train, test, threshold=threshold)
    named = {second for _, second, _ in pairs}
    inputs = {_input_key(example): example.origin for example in reversed(train)}
    frequent = _instructions([*train, *test])
    asked = [
        (inputs[key], example.origin)
        for index, example in enumerate(test)
        if index not in named and (key := _input_key(example)) in inputs and key not in frequent and key[0]
    ]
    return Overlap(
        exact=tuple((train[first].origin, test[second].origin) for first, second, similarity in pairs if similarity == 1),
        near=tuple((train[first].origin, test[second].origin) for first, second, similarity in pairs if similarity < 1),
        same_input=tuple(asked),
    )


def group_keys(examples: ListOf[Example], *, near_duplicates: bool = True, copies: Clusters | None = None) -> tuple[str, ...]:
    """Return for each row the group that is never divided: its own group, joined with near copies and rows with the same input.

    Groups that are joined get the first of their names (by the hash of the name, so that no alphabet decides); rows without a group
    are named by the hash of their content. Pure in the content of the rows, whatever their order.
    """
    roots = Roots(len(examples))
    for cluster in copies if copies is not None else near(examples, threshold=NEAR if near_duplicates else 1.0):
        for first, second in pairwise(cluster):
            roots.join(first, second)
    of = families(shown_by(examples)) if near_duplicates else {}
    frequent, seen = _instructions(examples), {}
    for index, example in enumerate(examples):
        # Rows that show one picture, or a near copy of it, know each other's answers, whatever is asked about it.
        same = [("picture", of.get(one, one)) for one in pictures(example)]
        for key in (("group", example.group) if example.group is not None else None, _input_key(example), *same):
            if key is None or key in frequent or key == ("", ()):
                continue
            roots.join(seen.setdefault(key, index), index)
    names: dict[int, str] = {}
    for index, example in enumerate(examples):
        root, name = roots.root(index), _own_name(example)
        # A name that the user gave stays the group's name when rows without one are joined to it.
        names[root] = min((names.get(root, name), name), key=lambda candidate: (candidate.startswith("row:"), _digest(candidate)))
    return tuple(names[roots.root(index)] for index in range(len(examples)))


def _own_name(example: Example) -> str:
    if example.group is not None:
        return f"group:{example.group}"
    return "row:" + _digest("\0".join((type(example).__name__, key_text(example), annotation(example), *pictures(example))))[:16]


def _input_key(example: Example) -> tuple[str, tuple[str, ...]]:
    return input_text(example), pictures(example)


def _instructions(examples: ListOf[Example]) -> set[tuple[str, tuple[str, ...]]]:
    """Return the inputs that so many dialogs share that they are instructions and not questions."""
    counts = Counter(_input_key(example) for example in examples if isinstance(example, Dialog))
    return {key for key, count in counts.items() if count > max(INSTRUCTION_ROWS, INSTRUCTION_SHARE * len(examples))}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _unit(seed: int, key: str) -> float:
    """Return the place of a group in [0, 1), uniform over groups: 53 bits of the sha256 of seed and name."""
    return int(_digest(f"{seed}\0{key}")[:16], 16) // 2**11 / 2**53


def _check_shares(dev: float, test: float) -> None:
    problems = [
        f"data.{name} is {value}; expected a share from 0 (none) up to, not including, 1."
        for name, value in (("dev", dev), ("test", test))
        if not (math.isfinite(value) and 0 <= value < 1)
    ]
    if not problems and dev + test >= 1:
        problems = [
            f"dev ({dev}) and test ({test}) together are {dev + test:g}; expected less than 1, so that rows to learn from are left."
        ]
    if problems:
        raise combined(ConfigError, "The shares of the split cannot be met", problems)


def _settled(
    sides: dict[str, str], place: Mapping[str, float], rows: Counter[str], asked: ListOf[str], given: Mapping[str, str]
) -> tuple[tuple[str, str, str], ...]:
    """Move groups in `sides` where a side would be empty or hold most rows; return what moved."""
    moved: dict[str, tuple[str, str, str]] = {}

    def move(key: str, side: str) -> None:
        start = moved[key][1] if key in moved else sides[key]
        moved[key] = (key, start, side)
        sides[key] = side

    largest, count = rows.most_common(1)[0]
    if count > sum(rows.values()) / 2 and sides[largest] != "train" and largest not in given:
        move(largest, "train")
    order = sorted(place, key=lambda key: (place[key], key))
    for side in reversed(asked):
        if side in sides.values():
            continue
        # Taken from a side that keeps another group: the lowest place for test and dev, the highest for train; never what was seen, and
        # never what is reserved or the largest group, unless there is no other.
        held = Counter(sides.values())
        free = [
            key for key in (reversed(order) if side == "train" else order) if held[sides[key]] > 1 and given.get(key) != "train"
        ]
        move(min(free, key=lambda key: (key in given, key == largest and side != "train")), side)
    return tuple(entry for _, entry in sorted(moved.items()) if entry[1] != entry[2])


def _all_seen(total: int, known: int, seen: Seen, sides: ListOf[str], first: Example) -> str:
    return (
        f"{seen.model!r} was trained on {known:,} of these {total:,} rows (the first at {first.origin}), and the others are too few groups to "
        f"hold some out for {' and '.join(sides)}. A score on rows that it was trained on shows what it remembers, not what it can do. Add "
        f"rows written after it was made, begin with another model (burnish ls models), or set the share of a side to 0."
    )


def _given_notes(
    keys: ListOf[str], given: Mapping[str, str], sides: Mapping[str, str], seen: Seen | None, *, known: int
) -> tuple[str, ...]:
    """Return what the data report says of rows whose side did not follow from their hash."""
    notes = []
    stay = sum(given.get(key) == "train" for key in keys)
    if stay and seen is not None:
        also = f", and {stay - known:,} of their groups with them" if stay > known else ""
        rows = "1 row" if known == 1 else f"{known:,} rows"
        notes.append(
            f"{rows} that {seen.model!r} was trained on stay{'s' if known == 1 else ''} on the training side{also}; "
            f"the shares held out are those of the other {len(keys) - stay:,}."
        )
    for side in ("test", "dev"):
        if count := sum(given.get(key) == side == sides[key] for key in keys):
            notes.append(
                f"{count:,} of the {side} rows are reserved: no bundled model was trained on them, and every run holds them out."
            )
    return tuple(notes)


def _too_few(total: int, groups: int, asked: ListOf[str], keys: ListOf[str], examples: ListOf[Example]) -> str:
    largest, count = Counter(keys).most_common(1)[0] if keys else ("", 0)
    named = (
        f" The largest group ({largest}) holds {count:,} of them, the first at {examples[keys.index(largest)].origin}."
        if keys
        else ""
    )
    return (
        f"{total:,} rows form {groups:,} group"
        + ("" if groups == 1 else "s")
        + f" that must not be divided, but {len(asked)} sides were asked for "
        f"({', '.join(asked)}), each with at least one group.{named} Add rows, give a finer group column, or set the share of a side to 0."
    )


def _missing_labels(examples: ListOf[Example], indices: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[str, ...]]:
    """Return for each side the labels that some row has but none of this side, where there are any."""
    labels = {side: {label for i in members for label in _labels(examples[i])} for side, members in indices.items()}
    known = set().union(*labels.values())
    return {side: tuple(sorted(known - own)) for side, own in labels.items() if known - own}


def _labels(example: Example) -> tuple[str, ...]:
    return example.labels if isinstance(example, Labelled) else ()


def _notes(
    examples: ListOf[Example],
    indices: Mapping[str, tuple[int, ...]],
    rows: Counter[str],
    moved: ListOf[tuple[str, str, str]],
    missing: Mapping[str, tuple[str, ...]],
    *,
    shares: Mapping[str, float],
    sides: Mapping[str, str],
) -> tuple[str, ...]:
    notes = [
        f"The group {key} was moved from {start} to {end}: no side may be empty or hold most rows." for key, start, end in moved
    ]
    for side, share in shares.items():
        real = len(indices[side]) / len(examples)
        if share and not share / 2 <= real <= share * 2:
            count = sum(1 for key in rows if sides[key] == side)
            notes.append(
                f"{side} holds {100 * real:.1f} % of the rows, {100 * share:g} % was asked: it has {count} of {len(rows)} groups."
            )
    for side, labels in missing.items():
        named = ", ".join(map(repr, labels[:5])) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
        notes.append(f"{side} has no row with {len(labels)} of the labels: {named}.")
    for (text, _), key_count in _frequent(examples).items():
        notes.append(
            f"{key_count:,} rows ask {_short(text)!r}: read as an instruction they share; they are not kept on one side for it."
        )
    return tuple(notes)


def _frequent(examples: ListOf[Example]) -> dict[tuple[str, tuple[str, ...]], int]:
    frequent = _instructions(examples)
    return dict(Counter(key for example in examples if (key := _input_key(example)) in frequent)) if frequent else {}


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
