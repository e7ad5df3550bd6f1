"""Human feedback: keys become judgements, none is lost or mixed, sides are blind and balanced, and the figures are those of the papers."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish import rate
from burnish.data.formats import examples
from burnish.data.sources import read
from burnish.errors import DataError, UsageError
from burnish.models import adapt, save_model
from burnish.rate import Candidate, Item, append, item, order, read_feedback, read_prompts, repair
from burnish.rate_ahead import Ahead
from burnish.rate_statistics import _alpha, _coincidences, krippendorff_alpha, lines, summary
from burnish.rate_terminal import Console, sit, terminal
from burnish.techniques import TECHNIQUES
from burnish.types import Dialog, Message, Pair, Rated, content, plain
from cli_runs import cli, environment, refused, write_run
from stub import load_stub, make_stub

ITEMS = [item([Message("user", content(f"question {number}?"))], [("A",), ("B",)]) for number in range(4)]


def two(place: int) -> tuple[Candidate, ...]:
    return (Candidate(f"tuned {place}", "A"), Candidate(f"base {place}", "B"))


def one(place: int) -> tuple[Candidate, ...]:
    return (Candidate(f"tuned {place}", "A"),)


class Person:
    """Sits at a console: presses keys in turn, writes texts when an editor opens, and sees what is shown."""

    def __init__(self, keys: list[str | BaseException], texts: list[str | None] | None = None) -> None:
        self.keys, self.texts, self.seen, self.edited = iter(keys), iter(texts or []), io.StringIO(), []
        self.time = 0.0

    def key(self) -> str:
        key = next(self.keys, None)
        if key is None:
            raise EOFError
        if isinstance(key, BaseException):
            raise key
        self.time += 1.5
        return key

    def edit(self, text: str) -> str | None:
        self.edited.append(text)
        return next(self.texts)

    @property
    def console(self) -> Console:
        return Console(self.key, lambda text: _ignored(self.seen.write(text)), self.edit, lambda: self.time)


def _ignored(value: object) -> None:
    del value


def held(
    *keys: Any, answers: Any = two, texts: list[str | None] | None = None, done: Any = None, items: list[Item] | None = None
) -> tuple[list[dict[str, Any]], Person, Any]:
    """Hold a session of these keys and return its rows, the person and how it went."""
    person, rows = Person(list(keys), texts), []
    sitting = sit(ITEMS if items is None else items, answers, person.console, rater="ann", save=rows.append, done=done or {})
    return rows, person, sitting


def left(place: int) -> int:
    """The place of the answer that stands on the left of an item."""
    return order(ITEMS[place].id, "ann", answers=2)[0]


# ------------------------------------------------------------------------------------------------------------------------- keys


def test_keys_say_which_side_is_better_and_rows_say_which_answer() -> None:
    rows, _, sitting = held("1", "2", "t", "x")
    assert [row["choice"] for row in rows] == ["ab"[left(0)], "ab"[1 - left(1)], "tie", "both_bad"]
    for place, row in enumerate(rows):
        assert [answer["text"] for answer in row["answers"]] == [f"tuned {place}", f"base {place}"], "whatever stood on the left"
        assert row["order"] == ["ab"[left(place)], "ab"[1 - left(place)]]
        assert (row["rater"], row["edit"], row["thumb"], row["seconds"]) == ("ann", None, None, 1.5)
    assert (sitting.judged, sitting.left) == (4, 0)


def test_arrows_and_capitals_are_keys_too_and_others_are_told() -> None:
    rows, person, _ = held("\x1b[D", "\x1b[C", "T", "w", "\x1b[31m", "?", "X")
    assert [row["choice"] for row in rows] == ["ab"[left(0)], "ab"[1 - left(1)], "tie", "both_bad"]
    seen = person.seen.getvalue()
    assert "'w' means nothing here" in seen and "a tie" in seen and "\x1b" not in seen


def test_thumbs() -> None:
    rows, person, _ = held("+", "n", "1", "y", "-", answers=one)
    assert [row["thumb"] for row in rows] == [True, False, True, False]
    assert all(row["choice"] is None and row["order"] == ["a"] for row in rows)
    assert "'1' means nothing here" in person.seen.getvalue()


def test_an_edit_becomes_the_best_answer_and_starts_from_the_nearer_one() -> None:
    rows, person, _ = held("e", "2", "q", texts=["  better \n"])
    nearer = 1 - left(0)
    assert person.edited == [two(0)[nearer].text]
    assert rows[0]["edit"] == "better" and rows[0]["choice"] == "ab"[nearer]
    rows, _, _ = held("e", "q", answers=one, texts=["better"])
    assert rows[0]["edit"] == "better" and rows[0]["choice"] is None


@pytest.mark.parametrize("text", [None, "", " \n", "tuned 0", "half \udcff"])
def test_an_edit_that_changes_nothing_judges_nothing(text: str | None) -> None:
    rows, person, _ = held("e", "-", answers=one, texts=[text])
    told = "not valid UTF-8" if text and "\udcff" in text else "nothing is judged yet"
    assert [row["thumb"] for row in rows] == [False] and told in person.seen.getvalue()
    assert held("e", "9", "t")[0][0]["choice"] == "tie", "neither is nearer: the question stands"


def test_going_back_adds_a_row_and_never_changes_one() -> None:
    rows, person, sitting = held("1", "2", "u", "u", "t", "x", "q")
    assert [row["id"] for row in rows] == [ITEMS[0].id, ITEMS[1].id, ITEMS[0].id, ITEMS[2].id], (
        "then on with what is not judged yet"
    )
    assert [row["choice"] for row in rows][2:] == ["tie", "both_bad"]
    assert "you said: left is better" in person.seen.getvalue() and "you said: right is better" in person.seen.getvalue()
    assert sitting.left == 1
    assert "this is the first one" in held("u", "q")[1].seen.getvalue()


def test_skipping_says_nothing_and_does_not_undo_what_was_said() -> None:
    rows, _, sitting = held("s", "1", "u", "s", "q")
    assert [row["choice"] for row in rows] == ["skip", "ab"[left(1)]] and (sitting.judged, sitting.skipped, sitting.left) == (
        1,
        1,
        2,
    )


@pytest.mark.parametrize("end", ["q", EOFError(), KeyboardInterrupt()])
def test_leaving_keeps_what_was_said_and_the_next_session_goes_on(end: Any) -> None:
    rows, _, sitting = held("1", end, "2")
    assert len(rows) == 1 and sitting.left == 3
    more, person, _ = held("t", "t", "t", done={row["id"]: row for row in rows})
    assert [row["id"] for row in more] == [one.id for one in ITEMS[1:]] and "question 0" not in person.seen.getvalue()


def test_the_same_answer_twice_is_not_asked_in_either_direction() -> None:
    def answers(place: int) -> tuple[Candidate, ...]:
        return two(place) if place != 1 else (Candidate("x ", "A"), Candidate("x", "B"))

    rows, person, sitting = held("1", "u", "t", "1", "2", answers=answers)
    assert [row["id"] for row in rows] == [ITEMS[place].id for place in (0, 0, 2, 3)] and sitting.same == 1
    assert "question 1" not in person.seen.getvalue()
    assert held(answers=lambda place: (Candidate("x", "A"),) * 2)[2].same == 4


def test_a_person_sees_neither_models_nor_control_characters() -> None:
    made = (Candidate("fine\x1b[2J\x07\rtext\x9b5m", "runs/secret"), Candidate("", "tiny"))
    _, person, _ = held("q", answers=lambda place: made)
    seen = person.seen.getvalue()
    assert "fine[2J" in seen and "(no text)" in seen and not set(seen) & set("\x1b\x07\r\x9b")
    assert "secret" not in seen and "tiny" not in seen


# ------------------------------------------------------------------------------------------------------------------------- order


def test_sides_are_balanced_and_follow_from_prompt_and_rater_alone() -> None:
    names = [f"{number:016x}" for number in range(4000)]
    mine = [order(name, "ann", answers=2) for name in names]
    assert mine == [order(name, "ann", answers=2) for name in names] and set(mine) == {(0, 1), (1, 0)}
    first = np.mean([sides == (0, 1) for sides in mine])
    same = np.mean([sides == order(name, "bob", answers=2) for name, sides in zip(names, mine, strict=True)])
    for share in (first, same):  # four standard deviations of a fair coin; raters see sides that are independent of each other
        assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(len(names))
    assert order("x", "ann", answers=1) == (0,)


def test_an_item_is_told_apart_by_prompt_model_and_settings() -> None:
    prompt = [Message("user", content("Hi?"))]
    assert item(prompt, [("A", 1)]) == item(prompt, [("A", 1)])
    others = [
        item(prompt, [("A", 2)]),
        item([Message("system", content("s")), *prompt], [("A", 1)]),
        item(prompt, [("A", 1), ("B", 1)]),
    ]
    assert len({one.id for one in (item(prompt, [("A", 1)]), *others)}) == 4


# ------------------------------------------------------------------------------------------------------------------------ the file


def row(number: int, *, choice: str | None = "a", rater: str = "ann", **more: Any) -> dict[str, Any]:
    answers = [{"text": "yes", "model": "A"}, {"text": "no", "model": "B"}]
    made = {"id": f"i{number}", "messages": [{"role": "user", "content": f"q{number}"}], "answers": answers, "choice": choice}
    return {**made, "edit": None, "thumb": None, "rater": rater, "order": ["a", "b"], **more}


def test_a_torn_last_line_is_cut_off_at_any_byte_and_nothing_else_changes(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    append(file, row(0, note="ü"))
    whole = file.read_bytes()
    append(file, row(1, note="ü"))
    second = file.read_bytes()[len(whole) :]
    for cut in (1, 2, 20, len(second) // 2, second.index("ü".encode()) + 1, len(second) - 2):
        file.write_bytes(whole + second[:cut])
        assert [one["id"] for one in read_feedback(file)] == ["i0"]
        said = repair(file)
        assert said is not None and f"its {cut} bytes were removed" in said
        assert file.read_bytes() == whole and repair(file) is None
    file.write_bytes(whole + second[:-1])  # a whole row without its line break, as some editors leave it
    assert repair(file) is None and [one["id"] for one in read_feedback(file)] == ["i0", "i1"]
    assert repair(tmp_path / "none.jsonl") is None and not (tmp_path / "none.jsonl").exists()


def test_adding_mends_too_and_follows_links(tmp_path: Path) -> None:
    file, link = tmp_path / "f.jsonl", tmp_path / "link.jsonl"
    append(file, row(0))
    link.symlink_to(file)
    with file.open("a") as stream:
        stream.write('{"id": "i1", "ra')
    append(link, row(2))
    assert [one["id"] for one in read_feedback(file)] == ["i0", "i2"] and link.is_symlink()
    with pytest.raises(UsageError, match="is a folder"):
        append(tmp_path, row(0))


def _adds(file: str, rater: str) -> None:
    for number in range(60):
        append(Path(file), row(number, rater=rater, note="x" * 5000))


def test_two_raters_at_once_do_not_mix_their_bytes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    raters = [context.Process(target=_adds, args=(str(tmp_path / "f.jsonl"), name)) for name in ("ann", "bob", "cy")]
    for process in raters:
        process.start()
    for process in raters:
        process.join()
    rows = read_feedback(tmp_path / "f.jsonl")
    assert [process.exitcode for process in raters] == [0, 0, 0]
    for name in ("ann", "bob", "cy"):
        assert [one["id"] for one in rows if one["rater"] == name] == [f"i{number}" for number in range(60)]


def test_a_full_disk_leaves_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f.jsonl"
    append(file, row(0))
    before, write = file.read_bytes(), os.write
    monkeypatch.setattr(rate.os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(Exception, match="no space left"):
        append(file, row(1))
    assert file.read_bytes() == before


def test_lines_that_are_no_judgements_are_named(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    wrong = [{"prompt": "x"}, row(1, choice="c"), {**row(2), "answers": []}]
    file.write_text("\n".join(["nonsense", *map(json.dumps, [*wrong, row(3)])]) + "\n")
    with pytest.raises(DataError) as caught:
        read_feedback(file)
    text = str(caught.value)
    assert ":1: is no judgement" in text and ":2: is no judgement" in text
    assert (
        ":3: choice: 'c' is not known; expected one of a, b, tie, both_bad, skip" in text and ":4: answers: expected a list" in text
    )
    assert ":5:" not in text


def test_prompts_of_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("One?\n\n  Two?\n")
    assert [(one.prompt, one.origin.line) for one in read_prompts("p.txt", base=tmp_path)] == [("One?", 1), ("Two?", 3)]
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows = [{"prompt": "One?"}, {"prompt": turns[:1]}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    found = read_prompts("p.jsonl", base=tmp_path)
    assert found[0].prompt == "One?" and [plain(one.content) for one in found[1].prompt] == ["Hi"]  # type: ignore[union-attr]
    (tmp_path / "m.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    (asked,) = read_prompts("m.jsonl", base=tmp_path)
    assert [message.role for message in asked.prompt] == ["user"]  # type: ignore[union-attr]
    (tmp_path / "q.csv").write_text("question,answer\nWho?,Ada\n")
    assert isinstance(read_prompts("q.csv", base=tmp_path)[0].prompt, Dialog)
    (tmp_path / "w.jsonl").write_text(
        '{"prompt": ""}\n{"prompt": "x", "answers": [1]}\n{"prompt": "x", "answers": ["a", "b", "c"]}\n'
    )
    with pytest.raises(DataError, match=r"3 problems(.|\n)*w\.jsonl:1: prompt(.|\n)*w\.jsonl:2: answers\[1\](.|\n)*3 answers"):
        read_prompts("w.jsonl", base=tmp_path)


# ------------------------------------------------------------------------------------------------------------------------ figures

# The worked examples of Krippendorff 2011: two observers and two values; two observers and five; four observers with gaps.
BINARY = ("0100000010", "1110010000")
NOMINAL = ("aabbdcccedda", "babbbccceddd")


def test_alpha_of_the_published_examples() -> None:
    assert krippendorff_alpha(list(zip(*BINARY, strict=True))) == pytest.approx(0.095, abs=5e-4)
    assert krippendorff_alpha(list(zip(*NOMINAL, strict=True))) == pytest.approx(0.692, abs=5e-4)
    table = ["111", "2223", "3333", "3333", "2222", "1234", "4444", "1121", "2222", "555", "11", "3"]
    assert krippendorff_alpha(table) == pytest.approx(0.743, abs=5e-4), "the lone value of the last unit counts for nothing"


def test_alpha_at_its_ends() -> None:
    assert krippendorff_alpha(["aa", "bb", "cc"]) == 1.0
    assert krippendorff_alpha(["ab", "ba"]) == pytest.approx(1 - 1 / (1 - 4 / 12))
    assert krippendorff_alpha(["aa", "aa"]) is None and krippendorff_alpha([]) is None and krippendorff_alpha(["a", "b"]) is None
    draws = np.random.default_rng(0).integers(0, 3, (4000, 2))
    assert abs(krippendorff_alpha([[str(value) for value in unit] for unit in draws]) or 1) < 0.05, "chance agreement is none"


def test_alpha_adds_up_over_units_in_any_grouping() -> None:
    units = ["aab", "bb", "abc", "cc", "ac"]
    rows = _coincidences(units)
    assert float(_alpha(rows.sum(0))) == pytest.approx(krippendorff_alpha(units))
    assert float(_alpha(rows[:2].sum(0) + rows[2:].sum(0))) == pytest.approx(krippendorff_alpha(units[::-1]))


def test_the_report_counts_ties_as_half_and_the_last_judgement_only() -> None:
    rows = [row(number, choice=choice) for number, choice in enumerate(["a", "a", "b", "tie", "both_bad", "skip"])]
    rows += [row(2, choice="a"), row(2, choice="skip"), row(0, choice="b", rater="bob"), row(1, rater="bob", order=["b", "a"])]
    found = summary(rows)
    assert (found["judgements"], found["prompts"], found["skipped"], found["replaced"]) == (7, 5, 1, 2)
    assert found["raters"] == {"ann": 5, "bob": 2} and found["counts"] == {
        "a": 4,
        "b": 1,
        "tie": 1,
        "both_bad": 1,
        "up": 0,
        "down": 0,
    }
    (compared,) = found["comparisons"]
    assert compared["models"] == ["A", "B"] and compared["win_rate"]["mean"] == pytest.approx((4 + 0.5 * 2) / 7)
    assert compared["win_rate"]["low"] <= compared["win_rate"]["mean"] <= compared["win_rate"]["high"]
    assert (compared["win_rate"]["n"], compared["win_rate"]["groups"]) == (7, 5), "judgements of one prompt resemble each other"
    assert found["left"]["mean"] == pytest.approx(3 / 5) and found["left"]["n"] == 5
    assert found["agreement"]["prompts"] == 2 and found["agreement"]["share"]["mean"] == 0.5
    assert found["agreement"]["alpha"]["mean"] == pytest.approx(krippendorff_alpha(["ab", "aa"]))
    told = "\n".join(lines(found))
    for part in ("7 on 5 prompts (ann 5, bob 2)", "A over B: 71.4 % [", "of 7", "alpha 0.00", "50.0 %", "60.0 % ["):
        assert part in told, part


def test_a_lean_to_one_side_is_told_and_a_single_value_has_no_alpha() -> None:
    rows = [row(number, choice="a" if number % 9 else "b", order=["a", "b"]) for number in range(60)]
    assert "lean to one side" in "\n".join(lines(summary(rows)))
    balanced = [row(number, choice="a", order=["a", "b"] if number % 2 else ["b", "a"]) for number in range(60)]
    told = "\n".join(lines(summary([*balanced, *({**one, "rater": "bob"} for one in balanced)])))
    assert "lean" not in told and "alpha undefined (all judgements are the same" in told and "100.0 %" in told


def test_thumbs_and_samples_of_one_model_have_no_win_rate() -> None:
    single = [{"text": "yes", "model": "A"}]
    rows = [row(number, choice=None, thumb=number % 4 > 0, answers=single) for number in range(40)]
    rows += [row(number, answers=[{"text": "x", "model": "A"}, {"text": "y", "model": "A"}]) for number in range(50, 53)]
    found = summary(rows)
    assert found["comparisons"] == [] and found["thumbs"][0]["up"]["mean"] == 0.75
    assert "A: 75.0 % [" in "\n".join(lines(found))


# -------------------------------------------------------------------------------------------------------------------------- ahead


def test_answers_are_made_ahead_in_the_order_wanted_and_none_twice() -> None:
    calls: list[list[int]] = []

    def make(places: Any) -> list[tuple[Candidate, ...]]:
        calls.append(list(places))
        return [one(place) for place in places]

    ahead = Ahead(make, [3, 5, 6, 7, 8, 9], {5: two(5)})
    ahead.start()
    assert ahead.get(9) == one(9) and ahead.get(5) == two(5) and ahead.ready(3)
    ahead.stop()
    assert calls == [[3], [6, 7, 8, 9]], "the first one alone, so that a person can begin"


def test_what_goes_wrong_in_the_thread_is_raised_where_answers_are_needed() -> None:
    def make(places: Any) -> list[tuple[Candidate, ...]]:
        if 1 in places:
            raise DataError("no")
        return [one(place) for place in places]

    ahead = Ahead(make, [0, 1])
    ahead.start()
    assert ahead.get(0) == one(0)
    with pytest.raises(DataError, match="no"):
        ahead.get(1)
    ahead.stop()


# -------------------------------------------------------------------------------------------------------------- the command line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stub, prompts, an adapter far from its base (`out`), and a run that made a whole model of it (`full`)."""
    import torch

    folder = tmp_path_factory.mktemp("rate")
    model = load_stub(folder)
    adapt(model, TECHNIQUES["lora"], {})
    with torch.no_grad():
        for number, parameter in enumerate(one for one in model.network.parameters() if one.requires_grad):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.3)
    save_model(model, folder / "out", settings={"system": "Be brief."})
    (folder / "full").mkdir()
    write_run(folder, "./stub").rename(folder / "full" / "run.toml")
    text = (folder / "full" / "run.toml").read_text().replace("./stub", "../stub")
    (folder / "full" / "run.toml").write_text(text)
    make_stub(folder / "full" / "model", seed=7)
    (folder / "prompts.txt").write_text("colour 1 of the lake?\nwhere is the hill?\nwho are you?\n")
    return folder


def generated(place: Path, model: str, *more: str) -> list[str]:
    texts = [one for line in (place / "prompts.txt").read_text().splitlines() for one in ("--prompt", line)]
    done = cli("generate", model, *texts, "--max-tokens", 6, "--json", *more, folder=place)
    assert done.code == 0, done.err
    return [one["text"] for one in done.json["answers"]]


def test_a_tuned_model_is_judged_against_its_base(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Answers are those that generate gives, the base's without the adapter and in the tuned model's form; all of it becomes pairs."""
    file = tmp_path / "f.jsonl"
    call = ("rate", "out", "--prompts", "prompts.txt", "--rater", "ann", "--output", file, "--max-tokens", 6)
    done = cli(*call, "--json", folder=place, typed="1\n2\n")
    assert done.code == 0 and done.json["judged"] == 2 and done.json["left"] == 1, done.err
    assert "1 of 3" in done.err, "with --json, standard output holds the one value alone"
    rows = read_feedback(file)
    assert [one["answers"][0]["text"] for one in rows] == generated(place, "out")[:2]
    assert [one["answers"][0]["model"] for one in rows] == ["out"] * 2 and rows[0]["answers"][1]["model"] == "the base of out"
    assert rows[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    versions = [answer["version"] for answer in rows[0]["answers"]]
    assert len(set(versions)) == 2 and None not in versions
    assert rows[0]["answers"][1]["text"] != rows[0]["answers"][0]["text"]
    # The same person goes on; another one judges the same answers without a model making them again.
    assert cli(*call, folder=place, typed="t\n").out.count("judgements added") == 1
    assert len(read_feedback(file)) == 3
    monkeypatch.setattr("burnish.cli_rate._ask", lambda *_: pytest.fail("answers that are in the file are made anew"))
    other = [part if part != "ann" else "bob" for part in call]
    assert cli(*other, folder=place, typed="1\n1\nx\n").code == 0
    both = read_feedback(file)
    assert [one["answers"] for one in both[3:]] == [one["answers"] for one in both[:3]]
    assert [type(one) for one in examples(read(str(file))).examples] == [Pair] * 4
    report = cli("rate", "--report", file, "--json")
    assert report.json["raters"] == {"ann": 3, "bob": 3} and report.json["agreement"]["prompts"] == 3
    assert "out over the base of out" in cli("rate", "--report", file).out


def test_another_model_two_samples_and_thumbs(place: Path, tmp_path: Path) -> None:
    base = ("--prompts", "prompts.txt", "--max-tokens", 6, "--prepare")
    assert cli("rate", "full", *base, "--output", tmp_path / "d", folder=place, typed="1\n1\n1\n").code == 0
    for one, tuned, before in zip(read_feedback(tmp_path / "d"), generated(place, "full"), generated(place, "stub"), strict=True):
        assert [answer["text"] for answer in one["answers"]] == [tuned, before], "the base is the one that the run began with"
    assert cli("rate", "out", *base, "--against", "stub", "--output", tmp_path / "a", folder=place, typed="1\n1\n1\n").code == 0
    rows = read_feedback(tmp_path / "a")
    assert [one["answers"][1]["text"] for one in rows] == generated(place, "stub")[: len(rows)] and len(rows) == 3
    done = cli("rate", "stub", *base, "--output", tmp_path / "b", folder=place, typed="t\nt\nt\n")
    assert done.code == 0 and "two samples of stub" in done.out
    for one in read_feedback(tmp_path / "b"):
        assert one["answers"][0]["text"] != one["answers"][1]["text"] and one["answers"][0]["model"] == "stub"
    assert cli("rate", "stub", *base, "--thumbs", "--output", tmp_path / "c", folder=place, typed="+\n-\ne\nBlue.\n").code == 0
    rows = read_feedback(tmp_path / "c")
    assert [(one["thumb"], one["edit"]) for one in rows] == [(True, None), (False, None), (None, "Blue.")]
    assert [one["answers"][0]["text"] for one in rows] == generated(place, "stub")


def test_calls_that_cannot_be_meant(place: Path, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text("")
    (place / "made.jsonl").write_text('{"prompt": "x", "answers": ["a", "b"]}\n')
    for arguments, said in [
        (["out"], "Give what is to be answered"),
        (["--prompts", "prompts.txt"], "3 prompts have no answers"),
        (["--prompts", "made.jsonl", "--thumbs", "--max-tokens", 3], "--thumbs, --max-tokens: for a model that answers"),
        (["out", "--prompts", "made.jsonl"], "holds answers already"),
        (["out", "--prompts", "prompts.txt", "--thumbs", "--against", "stub"], "leave --against away"),
        (["stub", "--prompts", "prompts.txt", "--temperature", 0], "gives the same answer twice"),
        (["out", "--report", "f.jsonl"], "only reads"),
        (["--report", tmp_path / "none.jsonl"], "there is no such file"),
        (["--report", tmp_path / "f.jsonl"], "holds no judgements yet"),
        (["out", "--prompts", "prompts.txt", "--output", tmp_path], "is a folder"),
    ]:
        refused(cli("rate", *arguments, folder=place), said)


# --------------------------------------------------------------------------------------------------- a real terminal, and a kill


class Terminal:
    """`burnish rate` in a process of its own, at a terminal of its own."""

    def __init__(self, folder: Path, *arguments: str, editor: str = "") -> None:
        self.master, slave = pty.openpty()
        variables = {**environment(), "EDITOR": editor, "VISUAL": "", "TERM": "xterm"}
        command = [sys.executable, "-m", "burnish", "rate", "--prompts", "made.jsonl", "--rater", "ann", *arguments]
        self.process = subprocess.Popen(
            command, cwd=folder, env=variables, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.seen = ""

    def until(self, text: str) -> None:
        """Read until a text was shown since the last call."""
        end = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} did not come:\n{self.seen}"
            if not select.select([self.master], [], [], 1.0)[0]:
                continue
            try:
                data = os.read(self.master, 4096)
            except OSError:  # the other end is closed
                data = b""
            assert data, f"{text!r} did not come before the end:\n{self.seen}"
            self.seen += data.decode(errors="replace")
        self.seen = self.seen[self.seen.index(text) + len(text) :]

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())


@pytest.fixture
def at_terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    rows = [
        {"prompt": f"q{n}?", "answers": [{"text": f"yes {n}", "model": "A"}, {"text": f"no {n}", "model": "B"}]} for n in range(5)
    ]
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (tmp_path / "editor.py").write_text("import sys, pathlib\npathlib.Path(sys.argv[1]).write_text('Written anew.\\n')\n")
    opened: list[Terminal] = []

    def start(*arguments: str, **named: str) -> Terminal:
        opened.append(Terminal(tmp_path, *arguments, **named))
        return opened[-1]

    yield start
    for one in opened:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        os.close(one.master)


def test_a_kill_in_the_middle_loses_nothing_that_was_entered(tmp_path: Path, at_terminal: Callable[..., Terminal]) -> None:
    """Single keys at a real terminal; killed without warning after the second one, the next session goes on with the third prompt."""
    one = at_terminal()
    one.until("1 of 5")
    one.press("1")
    one.until("2 of 5")
    one.press("\x1b[C")  # the right arrow
    one.until("3 of 5")
    one.process.send_signal(signal.SIGKILL)
    one.process.wait()
    file = tmp_path / "feedback.jsonl"
    rows = read_feedback(file)
    assert [(each["order"][0] == each["choice"]) for each in rows] == [True, False], "left, then right"
    with file.open("a") as stream:
        stream.write('{"id": "torn')
    again = at_terminal(editor=f"{sys.executable} {tmp_path / 'editor.py'}")
    again.until("the last line was torn")
    again.until("ann judges 3 of 5")
    again.until("3 of 5")
    again.press("e1")
    again.until("4 of 5")
    again.press("\x04")  # the end of input leaves, and says how it went
    again.until("1 judgements added")
    assert again.process.wait(30) == 0
    rows = read_feedback(file)
    assert len(rows) == 3 and rows[2]["edit"] == "Written anew."
    made = examples(read(str(file))).examples
    assert len(made) == 4 and all(isinstance(each, Pair) for each in made)
    rated = examples(read(str(file)), as_="rated").examples
    assert {each.rating for each in rated if isinstance(each, Rated)} == {0.0, 1.0}


def test_an_editor_that_fails_judges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Tty())
    shown = io.StringIO()
    console = terminal(shown)
    for editor, said in ((f"{sys.executable} -c 'raise SystemExit(3)'", "code 3"), ("no-such-editor", "cannot be run")):
        monkeypatch.setenv("EDITOR", editor)
        monkeypatch.delenv("VISUAL", raising=False)
        assert console.edit("x") is None and said in shown.getvalue()
