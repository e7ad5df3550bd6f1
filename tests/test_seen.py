"""Rows that a model was trained on: recognised whatever their spelling, kept on the training side, and never scored on."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish import assets
from burnish.data.findings import joined
from burnish.data.seen import PARAGRAPH, Seen, check_seen, load_seen, row_hashes, save_seen, seen_of, words
from burnish.data.split import SIDES, group_keys, split
from burnish.errors import DataError, ModelError
from burnish.models import find_model
from burnish.types import Answerable, Dialog, Example, Expected, ImagePart, Labelled, Message, Origin, Pair, Task, Text, content
from cli_runs import cli, refused, write_rows, write_run
from stub import make_stub

HERE = Origin("rows.jsonl", 1)
WORD = st.text(alphabet="abcdefghijklmnopqrstuvwxyzäéß", min_size=1, max_size=8)
GAP = st.text(alphabet=" \n\t.,;:!?'\"()[]-–—…«»_\u00a0\u200b", min_size=1, max_size=4).filter(
    lambda gap: gap.strip("\u200b") != ""
)


def ask(question: str, answer: str = "Yes.", *, line: int = 1, group: str | None = None) -> Dialog:
    turns = (Message("user", content(question)), Message("assistant", content(answer)))
    return Dialog(origin=Origin("rows.jsonl", line), messages=turns, group=group)


def random_rows(count: int, seed: int) -> list[Example]:
    draw = random.Random(seed)
    return [ask(f"What is {draw.getrandbits(120):x} in the list {draw.getrandbits(120):x}?", line=line) for line in range(count)]


def paragraph(number: int) -> str:
    return f"Paragraph {number} tells of one matter and of no other, at such length that nobody writes it twice by accident."


# ------------------------------------------------------------------------------------------------------------- what a row is known by


@given(parts=st.lists(WORD, min_size=1, max_size=8), data=st.data())
def test_case_punctuation_and_white_space_do_not_change_a_row(parts: list[str], data: st.DataObject) -> None:
    plain = " ".join(parts)
    other = "".join(data.draw(GAP) + part for part in parts) + data.draw(GAP)
    assert row_hashes(ask(plain)) == row_hashes(ask(other)) == row_hashes(ask(other.upper())) != ()


@given(parts=st.lists(WORD, min_size=1, max_size=8, unique_by=str.casefold), data=st.data())
def test_another_word_or_order_makes_another_row(parts: list[str], data: st.DataObject) -> None:
    other = data.draw(st.permutations(parts))
    assert (row_hashes(ask(" ".join(parts))) == row_hashes(ask(" ".join(other)))) == (parts == other)
    assert row_hashes(ask(" ".join([*parts, "more"]))) != row_hashes(ask(" ".join(parts)))


@given(st.text(max_size=60))
def test_words_are_in_their_final_form(text: str) -> None:
    once = words(text)
    assert words(once) == once == once.strip() and "  " not in once


@pytest.mark.parametrize(
    ("one", "other"), [("7 - 5", "7 / 5"), ("1.5", "1,5"), ("1.5", "1 5"), ("a + b", "a - b"), ("कि", "का"), ("x < y", "x > y")]
)
def test_what_carries_meaning_between_numbers_and_letters_stays(one: str, other: str) -> None:
    assert words(one) != words(other)


def test_spaces_around_a_sign_between_numbers_are_no_difference() -> None:
    assert words("What is 12 * 5?") == words("what is 12*5") == "what is 12*5"


def test_a_row_is_known_by_its_question_whatever_its_type_and_answer() -> None:
    question = "Which parcels came today?"
    turns = (Message("user", content(question)),)
    rows = [
        ask(question, "None."),
        ask(question, "Three of them."),
        Labelled(origin=HERE, content=content(question), labels=("parcel",)),
        Pair(
            origin=HERE, prompt=turns, chosen=(Message("assistant", content("a")),), rejected=(Message("assistant", content("b")),)
        ),
        Task(origin=HERE, messages=turns, expected=Expected(texts=("None.",))),
        Dialog(origin=HERE, messages=(Message("system", content("Be brief.")), *ask(question).messages)),
    ]
    assert len({row_hashes(row) for row in rows}) == 1 and len(row_hashes(rows[0])) == 1
    assert row_hashes(Answerable(origin=HERE, question=question, context="A list.", answers=())) != row_hashes(rows[0])
    pictured = Labelled(origin=HERE, content=(ImagePart("a.png", "1"), *content(question)), labels=("parcel",))
    assert row_hashes(pictured) != row_hashes(rows[0])
    assert row_hashes(ask(" ?! ")) == ()


def test_a_text_is_known_by_its_paragraphs_and_not_by_its_headings() -> None:
    text = "\r\n \r\n".join(["# Chapter 1", paragraph(1), paragraph(2), "Answers will vary.", paragraph(3)])
    row = Text(origin=HERE, text=text)
    hashes = row_hashes(row)
    assert hashes == tuple(row_hashes(Text(origin=HERE, text=paragraph(n)))[0] for n in (1, 2, 3))
    assert hashes == row_hashes(Task(origin=HERE, messages=(), expected=Expected(), text=text))
    assert all(0 <= value < 2**64 for value in hashes) and len(words(paragraph(1))) >= PARAGRAPH
    # The same paragraph as a question is the same passage.
    assert row_hashes(ask(paragraph(1)))[0] == hashes[0]


@pytest.mark.parametrize(("known", "share"), [((), 0.0), ((1,), 0.25), ((1, 2), 0.5), ((1, 2, 3, 4), 1.0)])
def test_a_text_counts_as_seen_from_half_of_its_paragraphs_on(known: tuple[int, ...], share: float) -> None:
    seen = seen_of([Text(origin=HERE, text=paragraph(number)) for number in known])
    row = Text(origin=HERE, text="\n\n".join(map(paragraph, (1, 2, 3, 4))))
    assert seen.share(row) == share and seen.knows(row) == (share >= 0.5)
    assert seen.share(Text(origin=HERE, text="short")) == 0


# -------------------------------------------------------------------------------------------------------------------------- the file


@settings(max_examples=25, deadline=None)
@given(count=st.integers(0, 40), order=st.randoms(use_true_random=False))
def test_what_is_saved_knows_the_same_rows_whatever_their_order(
    tmp_path_factory: pytest.TempPathFactory, count: int, order: random.Random
) -> None:
    rows = random_rows(count, 1)
    shuffled = [*rows, *rows[:3]]
    order.shuffle(shuffled)
    folder = tmp_path_factory.mktemp("seen")
    for name, some in (("a.npy", rows), ("b.npy", shuffled)):
        save_seen(seen_of(some), folder / name)
    assert (folder / "a.npy").read_bytes() == (folder / "b.npy").read_bytes()
    loaded = load_seen(folder / "a.npy", model="tiny")
    assert loaded.model == "tiny" and np.array_equal(loaded.hash_N, seen_of(shuffled).hash_N)
    assert all(map(loaded.knows, rows)) and not any(map(loaded.knows, random_rows(40, 2)))


def test_the_file_of_150000_hashes_is_small_and_an_ordinary_array(tmp_path: Path) -> None:
    seen = Seen(np.sort(np.random.default_rng(0).choice(2**40, 150_000, replace=False)).astype(np.uint64))
    save_seen(seen, tmp_path / "seen.npy")
    assert (tmp_path / "seen.npy").stat().st_size < 800_000
    assert np.load(tmp_path / "seen.npy", allow_pickle=False).shape == (150_000, 5)
    assert np.array_equal(load_seen(tmp_path / "seen.npy").hash_N, seen.hash_N)


@pytest.mark.parametrize("fault", ["cut", "more", "other", "order", "pickle", "empty", "missing"])
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "seen.npy"
    save_seen(seen_of(random_rows(9, 0)), path)
    whole = path.read_bytes()
    broken = {"cut": whole[:-1], "more": whole + b"x", "empty": b"", "order": whole[:-10] + whole[-5:] + whole[-10:-5]}
    if fault in broken:
        path.write_bytes(broken[fault])
    elif fault == "missing":
        path.unlink()
    else:
        np.save(path, np.array([{}], dtype=object) if fault == "pickle" else np.arange(9.0), allow_pickle=True)
    with pytest.raises(ModelError, match=r"seen\.npy.*copy it again"):
        load_seen(path)


# ------------------------------------------------------------------------------------------------------------------------- the split


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), known=st.integers(0, 38), aside=st.integers(0, 20))
def test_seen_rows_are_learned_reserved_ones_held_out_and_no_side_is_empty(seed: int, known: int, aside: int) -> None:
    rows = random_rows(40, seed)
    seen, reserved = seen_of(rows[:known], model="tiny"), seen_of(rows[known : known + aside])
    parts = split(rows, dev=0.2, test=0.2, seed=seed, seen=seen, reserved=reserved)
    assert sorted([*parts.train, *parts.dev, *parts.test]) == list(range(40))
    assert set(range(known)) <= set(parts.train) and all(parts.side(side) for side in SIDES)
    held_out = set(range(known, min(known + aside, 40)))
    if aside and known + aside < 40:
        assert held_out <= {*parts.test, *parts.dev}, "a reserved row is learned from"
        if 40 - known - aside >= aside:
            assert held_out <= set(parts.test) or any(entry[1] == "test" for entry in parts.moved)
    assert any("'tiny' was trained on" in note for note in parts.notes) == (known > 0)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 100), order=st.randoms(use_true_random=False))
def test_given_sides_do_not_depend_on_the_order_and_leave_the_other_rows_alone(seed: int, order: random.Random) -> None:
    rows = random_rows(60, seed)
    seen, reserved = seen_of(rows[:15]), seen_of(rows[15:25])
    shuffled = list(range(60))
    order.shuffle(shuffled)
    parts = split(rows, dev=0.2, test=0.2, seed=seed, seen=seen, reserved=reserved)
    other = split([rows[row] for row in shuffled], dev=0.2, test=0.2, seed=seed, seen=seen, reserved=reserved)
    plain = split(rows, dev=0.2, test=0.2, seed=seed)
    for side in SIDES:
        assert sorted(shuffled[row] for row in other.side(side)) == list(parts.side(side))
        assert [row for row in parts.side(side) if row >= 25] == [row for row in plain.side(side) if row >= 25]


def test_one_seen_row_keeps_its_whole_group_with_the_training_rows() -> None:
    rows: list[Example] = [ask(f"Question {number**5} of the book?", group=f"g{number // 5}", line=number) for number in range(100)]
    seen = seen_of(rows[::10], model="tiny")
    parts = split(rows, dev=0.2, test=0.2, seed=0, near_duplicates=False, seen=seen)
    assert {row for row in range(100) if row // 5 % 2 == 0} <= set(parts.train)
    note = next(note for note in parts.notes if "was trained on" in note)
    assert "10 rows that 'tiny' was trained on stay" in note and "40 of their groups" in note and "other 50" in note


def test_where_little_but_reserved_rows_is_left_dev_gets_its_part_of_them() -> None:
    rows = random_rows(300, 5)
    seen, reserved = seen_of(rows[:195]), seen_of(rows[200:])
    parts = split(rows, dev=0.1, test=0.1, seed=0, seen=seen, reserved=reserved)
    assert 30 < len(parts.dev) < 70 and 30 < len(parts.test) < 70
    assert set(range(200, 300)) <= {*parts.dev, *parts.test}
    assert len(split(rows, dev=0.0, test=0.1, seed=0, seen=seen, reserved=reserved).test) >= 100


def test_rows_that_are_all_reserved_are_divided_as_any_others() -> None:
    rows = random_rows(60, 6)
    assert split(rows, dev=0.2, test=0.2, seed=0, reserved=seen_of(rows)) == split(rows, dev=0.2, test=0.2, seed=0)


def test_nothing_left_to_score_on_is_an_error_with_the_remedy_unless_nothing_is_held_out() -> None:
    rows = random_rows(20, 7)
    seen = seen_of(rows, model="tiny")
    with pytest.raises(
        DataError, match=r"(?s)'tiny' was trained on 20 of these 20 rows .*rows.jsonl:0.*dev and test.*another model"
    ):
        split(rows, dev=0.1, test=0.1, seed=0, seen=seen)
    with pytest.raises(DataError, match="hold some out for test"):
        split(rows, dev=0.0, test=0.1, seed=0, seen=seen)
    assert split(rows, dev=0.0, test=0.0, seed=0, seen=seen).notes == ()
    one_more = [*rows, *random_rows(1, 8)]
    assert split(one_more, dev=0.0, test=0.1, seed=0, seen=seen).test == (20,)


def test_a_finding_counts_the_rows_and_names_the_first() -> None:
    rows = random_rows(10, 9)
    found = check_seen(rows, seen_of(rows[2:9], model="tiny"), rows="data.test", shown=2)
    assert found is not None and found.level == "error" and found.count == 7
    assert (
        "7 rows of 10 data.test rows (70.0 %) that 'tiny' was trained on: rows.jsonl:2; rows.jsonl:3; and 5 more" in found.message
    )
    assert check_seen(rows, None, rows="data.test") is None and check_seen(rows, seen_of([]), rows="data.test") is None
    assert len(set(group_keys(rows))) == 10 and joined([None]).findings == ()


# --------------------------------------------------------------------------------------------------------------- the whole command


@pytest.fixture(scope="module")
def shared_stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("seen") / "stub")


@pytest.fixture
def place(shared_stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 24 rows of its own, 8 others, and a stub that has seen the first 6 of the rows and 2 of the others."""
    monkeypatch.setattr("burnish.prepare.measure_matmul", lambda *_, **__: 1e9)
    shutil.copytree(shared_stub, tmp_path / "stub")
    for name, count, first in (("rows.jsonl", 24, 0), ("others.jsonl", 8, 100)):
        write_rows(tmp_path / name, count, first=first)
    seen = seen_of([*dialogs(tmp_path / "rows.jsonl")[:6], *dialogs(tmp_path / "others.jsonl")[3:5]])
    save_seen(seen, tmp_path / "stub" / assets.SEEN)
    return tmp_path


def dialogs(path: Path) -> list[Example]:
    lines = [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]
    return [ask(user["content"], assistant["content"], line=number) for number, (user, assistant) in enumerate(lines, 1)]


def test_check_keeps_seen_rows_on_the_training_side_and_says_so(place: Path) -> None:
    write_run(place, "./stub")
    done = cli("check", "run.toml", "--json", folder=place)
    assert done.code == 0, done.err
    assert any("6 rows that" in note and "stub' was trained on stay" in note for note in done.json["notes"])


@pytest.mark.parametrize("side", ["test", "dev"])
def test_check_refuses_rows_of_ones_own_that_the_model_has_seen(place: Path, side: str) -> None:
    write_run(place, "./stub", **{f"data__{side}": "others.jsonl", f"data__{side}_share": None})
    done = cli("check", "run.toml", folder=place)
    refused(done, f"2 rows of 8 data.{side} rows", r"others\.jsonl:4; .*others\.jsonl:5", "Take them out")


def test_evaluate_refuses_rows_that_the_model_has_seen_before_weights_are_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("burnish.loaded.load_model", never)
    done = cli("evaluate", "./stub", "--data", "others.jsonl", folder=place)
    refused(done, "2 rows of 8 given rows", r"others\.jsonl:4")


def test_a_run_of_rows_that_were_all_seen_cannot_be_scored(place: Path) -> None:
    save_seen(seen_of(dialogs(place / "rows.jsonl")), place / "stub" / assets.SEEN)
    write_run(place, "./stub")
    refused(cli("check", "run.toml", folder=place), "was trained on 24 of these 24 rows", "hold some out for dev and test")


def test_reserved_rows_of_the_package_are_tested_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish import api
    from burnish.prepare import prepare

    rows = dialogs(place / "rows.jsonl")
    save_seen(seen_of(rows[6:12]), place / "reserved.npy")
    monkeypatch.setattr("burnish.assets.reserved", lambda: place / "reserved.npy")
    plan = prepare(api.resolve(write_run(place, str(place / "stub"))))
    sides = {side: {example.origin.line for example in plan.first.gathered.examples[side]} for side in SIDES}
    assert set(range(1, 7)) <= sides["train"] and set(range(7, 13)) <= sides["test"]
    monkeypatch.setattr("burnish.assets.reserved", lambda: None)
    assert prepare(api.resolve(place / "run.toml")).fingerprint != plan.fingerprint


def test_a_tuned_model_knows_what_its_base_has_seen(place: Path) -> None:
    write_run(place, "./stub", technique__name="full", train__steps=1, save__every=1)
    done = cli("tune", "run.toml", folder=place)
    assert done.code == 0, done.err
    copied = find_model(str(place / "out")).seen
    assert copied == place / "out" / "model" / assets.SEEN and copied.read_bytes() == (place / "stub" / assets.SEEN).read_bytes()
    refused(cli("evaluate", "out", "--data", "others.jsonl", folder=place), "2 rows of 8 given rows")
    # What is known of the model's rows grew: the rows held out now are not those held out then.
    save_seen(seen_of(dialogs(place / "rows.jsonl")[:12]), place / "stub" / assets.SEEN)
    refused(cli("evaluate", "out", folder=place), "divided in another way", "Tune it again")


def test_an_adapter_knows_what_its_base_has_seen(place: Path) -> None:
    adapter = place / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(place / "stub")}), encoding="utf-8")
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    assert find_model(str(adapter)).seen == place / "stub" / assets.SEEN
    (place / "stub" / assets.SEEN).unlink()
    assert find_model(str(adapter)).seen is None
    assert find_model("someone/some-model").seen is None


def test_the_package_reserves_rows_only_where_it_has_a_list_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    assert assets.reserved() is None
    save_seen(seen_of([]), tmp_path / "reserved.npy")
    assert assets.reserved() == tmp_path / "reserved.npy"
