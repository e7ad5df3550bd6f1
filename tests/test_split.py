"""The split divides no group, depends on content and seed alone, and says what it could not do."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data.duplicates import Roots, between, exact, near
from burnish.data.fields import fields, input_text, key_text
from burnish.data.split import SIDES, group_keys, overlap, split
from burnish.errors import ConfigError, DataError
from burnish.types import Dialog, Example, ImagePart, Labelled, Message, Origin, Pair, Task, Text, TextPart, content
from burnish.types import Expected as Wanted

WORDS = (
    "card transfer account top-up exchange fee limit refund cheque statement passport balance currency merchant terminal".split()  # noqa: SIM905
)


def labelled(text: str, label: str = "a", *, group: str | None = None, line: int = 1) -> Labelled:
    return Labelled(origin=Origin("rows.csv", line), content=content(text), labels=(label,), group=group)


def dialog(question: str, answer: str, *, line: int = 1, system: str | None = None, group: str | None = None) -> Dialog:
    messages = (Message("user", content(question)), Message("assistant", content(answer)))
    if system is not None:
        messages = (Message("system", content(system)), *messages)
    return Dialog(origin=Origin("rows.jsonl", line), messages=messages, group=group)


def random_rows(count: int, seed: int, *, groups: int | None = None) -> list[Example]:
    """Rows whose texts have nothing in common, in random groups if asked."""
    draw = random.Random(seed)
    rows: list[Example] = []
    for line in range(count):
        text = " ".join(draw.choices(WORDS, k=9)) + f" {draw.getrandbits(80):x}"
        rows.append(labelled(text, draw.choice("ab"), group=None if groups is None else f"g{draw.randrange(groups)}", line=line))
    return rows


def similarity(first: str, second: str) -> float:
    grams = [{text[i : i + 5] for i in range(max(len(text) - 4, 1))} for text in (first, second)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


# ------------------------------------------------------------------------------------------------------------------ duplicates


def test_short_questions_that_share_their_beginning_are_not_one_cluster() -> None:
    names = ["asthma", "anaemia", "scurvy", "malaria", "measles", "rabies", "cholera", "tetanus", "gout", "mumps"]
    rows = [labelled(f"What are the first symptoms of {name}?") for name in names]
    rows += [labelled(f"What does the trouble code P03{number:02d} mean for my car?") for number in range(10)]
    assert near(rows) == ()


def test_copies_in_another_spelling_are_near_and_only_equal_labels_make_exact_ones() -> None:
    rows = [
        labelled("How can I reset my passcode?"),
        labelled("how can I  reset my passcode?\n"),
        labelled("How can I reset my passcode ?"),
        labelled("How can I reset my passcode?", "b"),
        labelled("Where is the nearest cash machine?"),
    ]
    assert exact(rows) == ((0, 1),)
    assert near(rows) == ((0, 1, 2, 3),)
    assert near(rows, threshold=1.0) == ((0, 1, 3),)


def test_rows_with_other_pictures_are_no_copies_and_empty_rows_are_in_no_cluster() -> None:
    def seen(sha: str) -> Labelled:
        parts = (ImagePart(f"{sha}.png", sha), TextPart("Is there a dent in this wing?"))
        return Labelled(origin=Origin("x"), content=parts, labels=("dent",))

    rows = [seen("1"), seen("2"), seen("1"), labelled(""), labelled(" ")]
    assert exact(rows) == near(rows) == ((0, 2),)


def test_key_text_holds_the_user_side_and_the_answer_without_the_system_turn() -> None:
    row = dialog("Hello  THERE", "General\nKenobi", system="Be polite.")
    assert key_text(row) == "hello there general kenobi"
    assert input_text(row) == "hello there"
    task = Task(origin=Origin("x"), messages=row.messages[:2], expected=Wanted(texts=("one", "two")))
    assert key_text(task) == "hello there one"
    pair = Pair(
        origin=Origin("x"), prompt=row.messages[:2], chosen=(Message("assistant", content("Yes")),), rejected=row.messages[2:]
    )
    assert [field.side for field in fields(pair)] == ["input", "input", "answer", "answer"]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.6, 0.85, 0.95]))
def test_near_clusters_equal_the_components_of_all_true_similarities(seed: int, threshold: float) -> None:
    draw = random.Random(seed)
    rows: list[Example] = []
    for _ in range(12):
        base = " ".join(draw.choices(WORDS, k=draw.choice([4, 12, 40])))
        rows.append(labelled(base))
        for _ in range(draw.randrange(3)):
            words = base.split()
            words[draw.randrange(len(words))] = draw.choice([*WORDS, ""])
            rows.append(labelled(" ".join(words)))
    draw.shuffle(rows)
    texts, roots = [key_text(row) for row in rows], Roots(len(rows))
    for first in range(len(rows)):
        for second in range(first):
            if similarity(texts[first], texts[second]) >= threshold:
                roots.join(first, second)
    found = near(rows, threshold=threshold)
    # MinHash may miss one pair in a hundred at the very threshold; what it finds is verified, so nothing is ever joined wrongly.
    expected = roots.clusters()
    assert all(any(set(cluster) <= set(whole) for whole in expected) for cluster in found)
    sure = Roots(len(rows))
    for first in range(len(rows)):
        for second in range(first):
            if similarity(texts[first], texts[second]) >= min(threshold + 0.05, 1.0):
                sure.join(first, second)
    assert all(any(set(cluster) <= set(whole) for whole in found) for cluster in sure.clusters())


def test_thousands_of_rows_of_one_template_stay_apart() -> None:
    """Every row is a candidate of every other here: quadratic in Python would take minutes."""
    rows = [labelled(f"Order {number * 104729:09d} has not come, where is it now?", line=number) for number in range(2000)]
    assert near(rows) == ()


def test_a_threshold_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"1\.5; expected a similarity"):
        near([labelled("a")], threshold=1.5)


# ----------------------------------------------------------------------------------------------------------------------- split


@settings(max_examples=30, deadline=None)
@given(count=st.integers(3, 60), seed=st.integers(0, 1000), groups=st.one_of(st.none(), st.integers(3, 12)))
def test_every_row_stands_on_one_side_no_group_is_divided_and_no_side_is_empty(count: int, seed: int, groups: int | None) -> None:
    rows = random_rows(count, seed, groups=groups)
    if len(set(group_keys(rows))) < 3:
        with pytest.raises(DataError, match="3 sides were asked for"):
            split(rows, dev=0.2, test=0.2, seed=seed)
        return
    parts = split(rows, dev=0.2, test=0.2, seed=seed)
    assert sorted([*parts.train, *parts.dev, *parts.test]) == list(range(count))
    homes = [{parts.groups[index] for index in parts.side(side)} for side in SIDES]
    assert all(homes)
    assert not homes[0] & homes[1] and not homes[0] & homes[2] and not homes[1] & homes[2]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), order=st.randoms(use_true_random=False))
def test_the_side_of_a_row_depends_on_its_content_and_not_on_the_order(seed: int, order: random.Random) -> None:
    rows = random_rows(50, seed, groups=20 if seed % 2 else None)
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    parts, other = (split(some, dev=0.2, test=0.2, seed=seed) for some in (rows, [rows[index] for index in shuffled]))
    for side in SIDES:
        assert sorted(shuffled[index] for index in other.side(side)) == list(parts.side(side))
    assert [other.groups[shuffled.index(index)] for index in range(len(rows))] == list(parts.groups)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), more=st.integers(1, 60))
def test_rows_that_are_added_do_not_move_the_others(seed: int, more: int) -> None:
    rows = random_rows(80, seed)
    parts, grown = (split(some, dev=0.2, test=0.2, seed=1) for some in (rows, rows + random_rows(more, seed + 10_000)))
    for side in SIDES:
        assert [index for index in grown.side(side) if index < len(rows)] == list(parts.side(side))


def test_the_seed_changes_the_sides_and_the_shares_are_met_on_average() -> None:
    rows = random_rows(1500, 0)
    parts = split(rows, dev=0.1, test=0.2, seed=0)
    assert abs(len(parts.test) / 1500 - 0.2) < 0.03 and abs(len(parts.dev) / 1500 - 0.1) < 0.03
    assert parts.test != split(rows, dev=0.1, test=0.2, seed=1).test
    assert parts == split(rows, dev=0.1, test=0.2, seed=0)


def test_near_copies_and_equal_questions_join_groups_on_one_side() -> None:
    rows: list[Example] = [*random_rows(40, 3)]
    rows += [dialog("Why was my card declined at the shop?", f"Answer {'x' * n}", line=n) for n in range(5)]
    rows += [labelled("I would like to change the address on my account", group="first")]
    rows += [labelled("I would like to change the address on my account!", group="second")]
    keys = split(rows, dev=0.2, test=0.2, seed=5).groups
    assert len(set(keys[40:45])) == 1
    assert keys[45] == keys[46] and keys[45] in ("group:first", "group:second")
    apart = split(rows, dev=0.2, test=0.2, seed=5, near_duplicates=False).groups
    assert apart[45] != apart[46] and len(set(apart[40:45])) == 1


def test_a_group_keeps_its_name_and_side_when_a_copy_without_group_joins_it() -> None:
    rows = random_rows(60, 8, groups=15)
    copy = labelled(key_text(rows[7]) + "!")
    keys = split([*rows, copy], dev=0.2, test=0.2, seed=2).groups
    assert keys[:-1] == split(rows, dev=0.2, test=0.2, seed=2).groups and keys[-1] == keys[7]


def test_an_instruction_that_all_dialogs_share_does_not_make_one_group_of_them() -> None:
    draw = random.Random(1)
    rows: list[Example] = [dialog("Write a product description.", f"{draw.getrandbits(200):x}") for _ in range(100)]
    parts = split(rows, dev=0.0, test=0.3, seed=0)
    assert len(set(parts.groups)) == 100 and not parts.dev and parts.test
    assert any("read as an instruction" in note for note in parts.notes)


def test_a_group_of_most_rows_is_learned_from_and_that_is_said() -> None:
    big = [
        Text(origin=Origin("big.txt", line), text=f"{random.Random(line).getrandbits(400):x}", group="big") for line in range(60)
    ]
    for seed in range(12):
        parts = split([*big, *random_rows(12, 4)], dev=0.0, test=0.4, seed=seed)
        assert set(range(60)) <= set(parts.train) and parts.test
        assert parts.moved == () or any("group:big was moved from test to train" in note for note in parts.notes)
    assert any(split([*big, *random_rows(12, 4)], dev=0.0, test=0.4, seed=seed).moved for seed in range(12))


def test_two_groups_fill_two_sides_and_a_side_that_was_not_asked_for_stays_empty() -> None:
    rows = [labelled("one thing to say", group="a"), labelled("quite another matter", group="b")]
    for seed in range(20):
        parts = split(rows, dev=0.0, test=0.01, seed=seed)
        assert len(parts.train) == len(parts.test) == 1 and not parts.dev
    whole = split(rows, dev=0.0, test=0.0, seed=0)
    assert whole.train == (0, 1) and not whole.test


def test_fewer_groups_than_sides_are_an_error_with_counts_and_a_place() -> None:
    rows = [labelled(f"row {'abc'[n] * 9}", group="only", line=n + 2) for n in range(3)]
    with pytest.raises(
        DataError, match=r"3 rows form 1 group .*2 sides .*\(train, test\).*group:only\) holds 3 of them, the first at rows.csv:2"
    ):
        split(rows, dev=0.0, test=0.5, seed=0)
    with pytest.raises(DataError, match="0 rows form 0 groups"):
        split([], dev=0.0, test=0.0, seed=0)


def test_impossible_shares_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*data.dev is -0.1.*data.test is nan"):
        split([], dev=-0.1, test=float("nan"), seed=0)
    with pytest.raises(ConfigError, match="together are 1"):
        split([], dev=0.5, test=0.5, seed=0)


def test_labels_that_a_side_lacks_are_told() -> None:
    rows = [*random_rows(60, 9), labelled("a text that stands alone here", "rare")]
    parts = split(rows, dev=0.2, test=0.2, seed=0)
    lacking = {side for side in SIDES if len(rows) - 1 not in parts.side(side)}
    assert {side for side, labels in parts.missing_labels.items() if "rare" in labels} == lacking
    assert sum("'rare'" in note for note in parts.notes) == 2


# --------------------------------------------------------------------------------------------------------------------- overlap


def test_overlap_names_both_origins_once_for_a_test_row() -> None:
    """A pain below the line, overlap: the evaluation set overlaps the training set."""
    train = [
        dialog("How do I reset my passcode in the app?", "Open the settings and choose security.", line=1),
        dialog("What is the capital of France?", "Paris, on the river Seine, has been it for centuries.", line=2),
        dialog("Tell me about tides", "They follow the moon.", line=3),
    ]
    test = [
        dialog("how do I reset my passcode in the app?", "Open the settings and choose security.", line=11),
        dialog("How do I reset my passcode in the app?", "Open the settings and choose security!", line=12),
        dialog("What is the capital of France?", "London it is not, whatever you may have read.", line=13),
        dialog("Something else altogether", "Indeed.", line=14),
    ]
    found = overlap(train, test)
    lines = [[(a.line, b.line) for a, b in pairs] for pairs in (found.exact, found.near, found.same_input)]
    assert lines == [[(1, 11)], [(1, 12)], [(2, 13)]]
    assert between(train, []) == between([], test) == ()


def data_folder() -> Path:
    folder = Path(os.environ.get("BURNISH_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "banking77" / "train.csv").is_file():
        pytest.skip("banking77 not found: set BURNISH_DATA to the folder that holds it")
    return folder


def test_real_questions_keep_their_near_copies_together() -> None:
    import csv

    with (data_folder() / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [labelled(row["text"], row["category"], line=number) for number, row in enumerate(csv.DictReader(file), 2)][:2000]
    parts = split(rows, dev=0.1, test=0.1, seed=0)
    held = [rows[index] for index in parts.test]
    assert 130 < len(held) < 270 and max(map(len, near(rows)), default=0) <= 5
    assert between([rows[index] for index in parts.train], held) == ()
