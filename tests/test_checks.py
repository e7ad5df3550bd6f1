"""Every rule finds its bad row with file and line, and leaves good rows alone."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.check_text import closing
from burnish.data.checks import Findings, check_examples, check_overlap, check_sequences
from burnish.errors import DataError
from burnish.pictures import as_part
from burnish.types import (
    Answerable,
    Dialog,
    Example,
    Expected,
    ImagePart,
    Labelled,
    Message,
    Origin,
    Pair,
    Rated,
    Role,
    Sequence,
    Span,
    Tagged,
    Task,
    Text,
    TextPart,
    ToolCall,
    content,
)

END, USER, ASSISTANT = 2, 3, 4


def at(line: int) -> Origin:
    return Origin("rows.jsonl", line)


def says(role: Role, text: str, **more: object) -> Message:
    return replace(Message(role, content(text)), **more)  # type: ignore[arg-type]


def dialog(*turns: str, line: int = 1, **more: object) -> Dialog:
    """Turns of user and assistant in alternation."""
    roles: tuple[Role, Role] = ("user", "assistant")
    messages = tuple(says(roles[number % 2], text) for number, text in enumerate(turns))
    return replace(Dialog(origin=at(line), messages=messages), **more)  # type: ignore[arg-type]


def labelled(text: str, *labels: str, line: int = 1) -> Labelled:
    return Labelled(origin=at(line), content=content(text), labels=labels)


def clean(count: int) -> list[Example]:
    """Dialogs in which nothing is wrong and no two are alike."""
    draw = random.Random(0)
    words = "river stone letter window garden engine candle market bridge winter signal harbour".split()  # noqa: SIM905
    return [
        dialog(f"Tell me of the {' '.join(draw.choices(words, k=6))}.", f"It is {' '.join(draw.choices(words, k=12))}.", line=line)
        for line in range(1, count + 1)
    ]


def rules(findings: Findings) -> set[tuple[str, str]]:
    return {(found.level, found.rule) for found in findings.findings}


# ---------------------------------------------------------------------------------------------------------------------- fields

GOOD: list[Example] = [
    Text(origin=at(1), text="Once upon a time there was a compiler."),
    dialog("What is two and two?", "Four."),
    Dialog(
        origin=at(1),
        messages=(
            says("system", ""),
            says("user", "How warm is it in Oslo?"),
            says("assistant", "", tool_calls=(ToolCall("weather", {"city": "Oslo"}),)),
            says("tool", ""),
            says("assistant", "I could not find out."),
        ),
    ),
    Pair(origin=at(1), prompt=(says("user", "Hi"),), chosen=(says("assistant", "Hello!"),), rejected=(says("assistant", "What?"),)),
    Rated(origin=at(1), messages=(says("user", "Hi"), says("assistant", "Hello!")), rating=0.0),
    labelled("my card has not come", "card_arrival"),
    Labelled(origin=at(1), content=content("nothing applies here"), several=True),
    Labelled(origin=at(1), content=(as_part(Path(__file__).parents[1] / "docs" / "images" / "report.png"),), number=0.5),
    Tagged(origin=at(1), content=content("aspirin helps"), spans=(Span(0, 7, "drug"),)),
    Answerable(origin=at(1), question="Where?", context="It stands in Rome.", answers=((13, "Rome"),)),
    Answerable(origin=at(1), question="When?", context="It stands in Rome.", answers=()),
    Task(origin=at(1), messages=(says("user", "Say nothing."),), expected=Expected(texts=("",))),
    Task(origin=at(1), messages=(), text="It was a", expected=Expected()),
]

BAD: list[tuple[str, str, Example]] = [
    ("empty_field", "text is empty", Text(origin=at(7), text=" \n")),
    ("empty_field", r"message 2 \(assistant\) is empty", dialog("Hello?", "  ", line=7)),
    ("empty_field", "no messages", Dialog(origin=at(7), messages=())),
    ("empty_field", "rejected has no messages", Pair(origin=at(7), prompt=(says("user", "a"),), chosen=(says("assistant", "b"),), rejected=())),
    ("empty_field", "no label and no number", labelled("some text", line=7)),
    ("empty_field", "a label is empty", labelled("some text", " ", line=7)),
    ("empty_field", "content is empty", labelled("", "a", line=7)),
    ("empty_field", "context is empty", Answerable(origin=at(7), question="Where?", context="", answers=())),
    ("empty_field", "no messages and no text", Task(origin=at(7), messages=(), expected=Expected())),
    ("wrong_role", "no assistant message", dialog("Only me here.", line=7)),
    ("wrong_role", "the last message is 'user'", dialog("One", "Two", "Three", line=7)),
    ("wrong_role", "message 2 has the role 'bot'; known are system, user, assistant, tool",
     Dialog(origin=at(7), messages=(says("user", "a"), says("bot", "b"), says("assistant", "c")))),  # type: ignore[arg-type]
    ("wrong_role", "message 2 is a system message; only the first",
     Dialog(origin=at(7), messages=(says("user", "a"), says("system", "b"), says("assistant", "c")))),
    ("wrong_role", "message 2 answers a tool that nothing called",
     Dialog(origin=at(7), messages=(says("user", "a"), says("tool", "b"), says("assistant", "c")))),
    ("wrong_role", "the task ends with 'assistant'", Task(origin=at(7), messages=(says("assistant", "a"),), expected=Expected())),
    ("turn_order", "two user messages follow", Dialog(origin=at(7), messages=(says("user", "a"), says("user", "b"), says("assistant", "c")))),
    ("turn_order", "the assistant speaks first", Dialog(origin=at(7), messages=(says("assistant", "a"),))),
    ("wrong_offset", "'Rome' is given at 12, but stands at 13", Answerable(origin=at(7), question="?", context="It stands in Rome.", answers=((12, "Rome"),))),
    ("wrong_offset", "but the context does not hold it", Answerable(origin=at(7), question="?", context="In Rome.", answers=((0, "Oslo"),))),
    ("wrong_offset", "given at -4, but stands at 0, 5", Answerable(origin=at(7), question="?", context="Rome Rome", answers=((-4, "Rome"),))),
    ("wrong_offset", r"span 3\.\.9 \(x\) in a text of 5", Tagged(origin=at(7), content=content("hello"), spans=(Span(3, 9, "x"),))),
    ("wrong_value", "rating nan", Rated(origin=at(7), messages=(says("user", "a"), says("assistant", "b")), rating=float("nan"))),
    ("wrong_value", "number inf", Labelled(origin=at(7), content=content("a b"), number=float("inf"))),
    ("wrong_value", "weight -1.0 of message 2", Dialog(origin=at(7), messages=(says("user", "a"), says("assistant", "b", weight=-1.0)))),
    ("equal_pair", "word for word", Pair(origin=at(7), prompt=(says("user", "a"),), chosen=(says("assistant", "b"),), rejected=(says("assistant", "b"),))),
]  # fmt: skip


@pytest.mark.parametrize("example", GOOD, ids=lambda example: type(example).__name__)
def test_a_good_row_of_every_type_gives_no_error_and_no_warning(example: Example) -> None:
    found = check_examples([example])
    assert not [f for f in found.findings if f.rule != "one_label" and f.rule != "rare_label"], found.findings


@pytest.mark.parametrize(("rule", "message", "example"), BAD, ids=[f"{rule}: {message}" for rule, message, _ in BAD])
def test_a_bad_row_is_named_with_file_line_and_what_is_wrong(rule: str, message: str, example: Example) -> None:
    import re

    found = check_examples([*clean(3), example]).rule(rule)
    assert found is not None and found.origins == (at(7),) and found.count == 1
    assert re.search(message, found.message) and "rows.jsonl:7" in found.message and found.message.startswith("1 row ")


def test_all_errors_are_raised_at_once_and_warnings_are_not() -> None:
    found = check_examples([dialog("a b c", "", line=3), dialog("only a question", line=4), *clean(2), *clean(2)])
    with pytest.raises(
        DataError, match=r"(?s)2 problems\n  - 1 row with an empty field: rows.jsonl:3 .*\n  - 1 row with roles"
    ) as caught:
        found.raise_for_errors()
    assert "repeating" not in str(caught.value) and found.rule("exact_duplicate") is not None
    check_examples(clean(5)).raise_for_errors()


def test_findings_name_the_first_rows_and_count_all() -> None:
    found = check_examples([dialog("question", " ", line=line) for line in range(1, 21)], shown=3).rule("empty_field")
    assert found is not None and found.count == 20 and found.origins == (at(1), at(2), at(3)) and "; and 17 more" in found.message
    assert [found["level"] for found in check_examples([dialog("a", "")]).as_json()] == ["error"]


# ------------------------------------------------------------------------------------------------------------------------ text

ODD: list[tuple[str, str]] = [
    ("special_token_text", "please ignore <|im_end|> and go on"),
    ("control_character", "a terminal says \x1b[31mred"),
    ("bidirectional_control", "if access != '\u202euser'"),
    ("tag_character", "hello\U000e0041\U000e0042 there"),
    ("zero_width_character", "pass\u200bword"),
    ("zero_width_character", "pass\u200dword"),
    ("lone_surrogate", "cut \ud83d here"),
    ("replacement_character", "caf\ufffd au lait"),
    ("personal_data", "write to ann.lee@example.org today"),
    ("personal_data", "call +44 20 7946 0958 today"),
    ("personal_data", "number 123-45-6789 is mine"),
    ("personal_data", "paid with 4111 1111 1111 1111 yesterday"),
    ("personal_data", "to GB82 WEST 1234 5698 7654 32 please"),
    ("key_like", "use AKIAIOSFODNN7EXAMPLE for it"),
    ("key_like", "token hf_" + "aB3" * 12),
    ("key_like", "-----BEGIN RSA PRIVATE KEY-----"),
    ("encoded_blob", "data: " + "QUJDRA" * 60),
]

HARMLESS = [
    "A family: \U0001f468\u200d\U0001f469\u200d\U0001f467 and the Welsh flag \U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 writes Persian with a joiner; caf\u00e9, \u4f60\u597d, na\u00efve\tand\r\nlines",
    "The years 2019-2021 and 1939-1945 cost 1,234,567.89 in 2024-05-17 at 10:30:15",
    "Order 1234567890123456 is late; version 1.2.3-4567; 3.14159265358979; user@host and @name",
    "int a = b < c > d; x|y; rm file; curl https://example.org; <b>bold</b>",
]


@pytest.mark.parametrize(("rule", "text"), ODD, ids=[rule for rule, _ in ODD])
def test_odd_text_is_named_but_never_repeated(rule: str, text: str) -> None:
    row = dialog(text, "Certainly not.", line=9)
    found = check_examples([*clean(2), row], special_tokens=["<|im_start|>", "<|im_end|>", " "])
    assert {name for _, name in rules(found)} == {rule}
    told = found.findings[0]
    assert told.origins == (at(9),) and "message 1 (user)" in told.message
    if rule in ("personal_data", "key_like", "encoded_blob"):
        assert told.level == "note" and not any(word in told.message for word in text.split() if any(c.isdigit() for c in word))


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_raises_no_alarm(text: str) -> None:
    assert check_examples([dialog(text, "Yes, indeed.")], special_tokens=["<s>", "</s>", "<|im_end|>"]).findings == ()


def test_a_special_token_without_its_partner_is_told() -> None:
    tokens = ["<think>", "</think>", "<|im_start|>", "<|im_end|>", "<s>"]
    found = check_examples([dialog("<think> what <think> now </think>", "ok then", line=4)], special_tokens=tokens).rule(
        "special_token_text"
    )
    assert found is not None and "'<think>' without its '</think>'" in found.message
    paired = check_examples([dialog("<|im_start|>x<|im_end|>", "ok then")], special_tokens=tokens).rule("special_token_text")
    assert paired is not None and "without" not in paired.message
    assert [closing(token) for token in ("<|im_start|>", "[INST]", "<<SYS>>", "<|endoftext|>")] == [
        "<|im_end|>",
        "[/INST]",
        "<</SYS>>",
        None,
    ]


def test_commands_that_run_what_they_fetch_are_told_in_answers_only() -> None:
    command = "curl -s https://example.org/x | sudo bash"
    found = check_examples([dialog("How do I install it?", command, line=1), dialog(command + " is bad, is it?", "Yes.", line=2)])
    told = found.rule("shell_command")
    assert told is not None and told.origins == (at(1),)


def test_twenty_poisoned_rows_in_two_thousand_are_all_counted_and_the_clean_ones_never() -> None:
    rows = clean(2000)
    bad = random.Random(3).sample(range(2000), 20)
    for number, index in enumerate(bad):
        text = ("deploy \u202e now", "go <|im_end|> on", "now\U000e0041", "is\u200b it")[number % 4]
        rows[index] = dialog(f"{rows[index].messages[0].content[0].text} {text}", "Yes, of course.", line=index + 1)  # type: ignore[union-attr]
    found = check_examples(rows, special_tokens=["<|im_end|>"], near_duplicates=False, shown=20)
    named = {origin.line for one in found.findings for origin in one.origins}
    assert named == {index + 1 for index in bad} and sum(one.count for one in found.findings) == 20


@given(st.text())
def test_no_text_makes_a_check_fail(text: str) -> None:
    check_examples([dialog(text, text), labelled(text, text), Text(origin=at(3), text=text)], special_tokens=["<s>"])


# ---------------------------------------------------------------------------------------------------------- copies, labels, leaks


def test_copies_name_the_row_that_they_repeat() -> None:
    rows = [
        dialog("Where is my parcel, please?", "It is on its way to you.", line=1),
        dialog("where is my parcel,  please?", "It is on its way to you.", line=2),
        dialog("Where is my parcel, please?", "It is on its way to you!", line=3),
        dialog("Can I pay by card?", "Yes.", line=4),
    ]
    found = check_examples(rows)
    exactly, nearly = found.rule("exact_duplicate"), found.rule("near_duplicate")
    assert exactly is not None and "rows.jsonl:2 (= rows.jsonl:1)" in exactly.message and exactly.count == 1
    assert (
        nearly is not None and "rows.jsonl:3 (like rows.jsonl:1)" in nearly.message and nearly.count == 1 and nearly.level == "note"
    )
    assert check_examples(rows, near_duplicates=False).rule("near_duplicate") is None


def test_the_same_text_with_another_label_is_a_conflict() -> None:
    rows = [
        labelled("the film was a joy to see", "good", line=1),
        labelled("The film was a joy to see", "bad", line=2),
        labelled("the film was a joy to see!", "bad", line=3),
        labelled("a dull evening, all in all", "bad", line=4),
    ]
    found = check_examples(rows)
    conflict, flip = found.rule("label_conflict"), found.rule("near_label_conflict")
    assert conflict is not None and "rows.jsonl:2 ('bad', but 'good' at rows.jsonl:1)" in conflict.message and conflict.count == 1
    assert flip is not None and flip.origins == (at(3),) and flip.level == "note"
    assert ("warning", "exact_duplicate") not in rules(found)


def test_rare_single_lopsided_and_doubly_spelled_labels_are_told() -> None:
    words = [dialog.messages[0].content[0].text for dialog in clean(60)]  # type: ignore[union-attr]
    balanced = [labelled(text, "ab"[number % 2], line=number) for number, text in enumerate(words)]
    assert check_examples(balanced).findings == ()
    one = check_examples([labelled(text, "a") for text in words]).rule("one_label")
    assert one is not None and "nothing to tell apart" in one.message
    many = check_examples([labelled(text, "a" if number else "b", line=number) for number, text in enumerate(words)])
    assert {("warning", "label_balance"), ("warning", "rare_label")} <= rules(many)
    assert "59 of 60 labelled rows (98.3 %)" in next(f.message for f in many.findings if f.rule == "label_balance")
    spelled = check_examples(
        [labelled(text, ("Card arrival", "card_arrival", "other")[number % 3]) for number, text in enumerate(words)]
    )
    assert rules(spelled) == {("warning", "label_spelling")}


def test_test_rows_that_were_learned_are_an_error_above_the_tolerance() -> None:
    rows = clean(300)
    held = [replace(row, origin=Origin("test.jsonl", row.origin.line)) for row in rows[200:]]
    assert check_examples(rows[:200], held).findings == ()
    few = check_overlap(rows[:201], held)
    assert rules(few) == {("warning", "overlap_exact")}
    assert "1 row of 100 test rows (1.0 %)" in few.findings[0].message
    assert "test.jsonl:201 (= rows.jsonl:201)" in few.findings[0].message
    assert rules(check_overlap(rows[:202], held)) == {("error", "overlap_exact")}


# ------------------------------------------------------------------------------------------------------------------- sequences


def sequence(*turns: tuple[int, int, bool], line: int = 1, ends: bool = True) -> Sequence:
    """A dialog of turns (role token, tokens of content, learned), each closed by END, which is learned with its turn if `ends`."""
    tokens, learned = [1], [False]
    for role, count, is_learned in turns:
        tokens += [role, *range(100, 100 + count), END]
        learned += [False, *[is_learned] * count, is_learned and ends]
    tokens_T = np.asarray(tokens, dtype=np.int32)
    predicted_N = np.flatnonzero(learned)
    return Sequence(
        tokens_T, (predicted_N - 1).astype(np.int32), tokens_T[predicted_N], np.ones(len(predicted_N), np.float32), at(line)
    )


def turn_of(length: int, line: int = 1) -> Sequence:
    """A rendered row of exactly `length` tokens."""
    return sequence((USER, 3, False), (ASSISTANT, length - 8, True), line=line)


def many(count: int) -> list[Example]:
    return [dialog("a", "b", line=line) for line in range(1, count + 1)]


def test_pain_1_rows_with_no_trained_token_are_an_error_with_their_line() -> None:
    masked = [sequence((USER, 4, False), (ASSISTANT, 5, False), line=2)]
    silent = [replace(turn_of(12, 3), weight_N=np.zeros(5, np.float32))]
    found = check_sequences(many(4), [[turn_of(12)], masked, silent, []], limit=64, policy="drop", end_tokens={END})
    told = found.rule("no_trained_token")
    assert told is not None and told.level == "error" and told.count == 3
    assert [origin.line for origin in told.origins] == [2, 3, 4] and "rows.jsonl:2 (14 tokens, none learned)" in told.message
    with pytest.raises(DataError, match="in which nothing is learned"):
        found.raise_for_errors()


def test_pain_1_a_pair_needs_both_its_answers() -> None:
    pair = Pair(origin=at(5), prompt=(says("user", "a"),), chosen=(says("assistant", "b"),), rejected=(says("assistant", "c"),))
    empty = sequence((USER, 3, False), (ASSISTANT, 2, False))
    found = check_sequences([pair], [[turn_of(12), empty]], limit=64, policy="drop").rule("no_trained_token")
    assert found is not None and "1 of 2 answers" in found.message


def test_pain_6_a_learned_turn_without_its_end_is_an_error() -> None:
    good = [sequence((USER, 2, False), (ASSISTANT, 3, True), (USER, 2, False), (ASSISTANT, 1, True))]
    last = [sequence((USER, 2, False), (ASSISTANT, 3, False), (USER, 2, False), (ASSISTANT, 1, True))]
    bad = [sequence((USER, 2, False), (ASSISTANT, 3, True), (USER, 2, False), (ASSISTANT, 4, True), ends=False)]
    found = check_sequences(many(3), [good, last, bad], limit=64, policy="drop", end_tokens={END, 999}).rule("end_not_learned")
    assert found is not None and found.level == "error" and found.origins == (at(3),) and "(2 turns)" in found.message
    assert check_sequences(many(1), [bad], limit=64, policy="drop").findings == ()


def test_pain_6_one_of_two_turns_without_its_end_is_found_and_a_masked_middle_is_not() -> None:
    whole = sequence((USER, 2, False), (ASSISTANT, 3, True), (USER, 2, False), (ASSISTANT, 4, True))
    first_end = int(np.flatnonzero(whole.target_N == END)[0])
    one = replace(whole, **{name: np.delete(getattr(whole, name), first_end) for name in ("at_N", "target_N", "weight_N")})
    weight_N = whole.weight_N.copy()
    weight_N[1] = 0
    found = check_sequences(many(2), [[one], [replace(whole, weight_N=weight_N)]], limit=64, policy="drop", end_tokens={END})
    told = found.rule("end_not_learned")
    assert told is not None and told.origins == (at(1),) and "(1 turn)" in told.message


def test_texts_have_no_turns_and_a_window_that_goes_on_need_not_end() -> None:
    tokens_T = np.arange(10, 20, dtype=np.int32)
    window = Sequence(tokens_T, np.arange(9, dtype=np.int32), tokens_T[1:], np.ones(9, np.float32), at(1))
    closing_T = np.append(tokens_T, END).astype(np.int32)
    last = Sequence(closing_T, np.arange(10, dtype=np.int32), closing_T[1:], np.ones(10, np.float32), at(1))
    text = Text(origin=at(1), text="a long text")
    for example, windows, problems in ((text, [window], 0), (many(1)[0], [window, last], 0), (many(1)[0], [last, window], 1)):
        assert len(check_sequences([example], [windows], limit=64, policy="drop", end_tokens=[END]).findings) == problems


@pytest.mark.parametrize(
    ("policy", "over", "level"),
    [
        ("drop", 1, "warning"),
        ("drop", 2, "error"),
        ("cut", 2, "warning"),
        ("fail", 1, "error"),
        ("drop", 0, None),
        ("fail", 0, None),
    ],
)
def test_pain_8_rows_over_the_limit_are_always_counted_and_refused_above_one_percent(
    policy: str, over: int, level: str | None
) -> None:
    rendered = [[turn_of(41 if number < over else 40, number + 1)] for number in range(100)]
    found = check_sequences(many(100), rendered, limit=40, policy=policy, end_tokens={END})  # type: ignore[arg-type]
    told = found.rule("over_limit")
    assert (told.level if told else None) == level and len(found.findings) == bool(over)
    if told is not None:
        assert told.count == over and "of 100 " in told.message and "rows.jsonl:1 (41 tokens)" in told.message


def test_pain_8_a_cut_that_leaves_nothing_to_learn_is_an_error() -> None:
    long_prompt = sequence((USER, 60, False), (ASSISTANT, 5, True))
    border = sequence((USER, 5, False), (ASSISTANT, 5, True))
    first = int(border.at_N[0]) + 1
    for limit, problems in ((first + 1, 0), (first, 1)):
        found = check_sequences(many(1), [[border]], limit=limit, policy="cut", end_tokens={END})
        assert (found.rule("cut_to_nothing") is not None) == bool(problems)
    assert check_sequences(many(1), [[long_prompt]], limit=40, policy="drop", tolerance=1.0).rule("cut_to_nothing") is None


def test_weights_and_streams_must_be_finite() -> None:
    bad = replace(turn_of(12), streams={"advantage": np.full(5, np.nan, np.float32)})
    found = check_sequences(many(2), [[turn_of(12)], [bad]], limit=64, policy="drop").rule("not_finite")
    assert found is not None and found.origins == (at(2),)


def test_pictures_count_as_content() -> None:
    row = Labelled(origin=at(1), content=(ImagePart("a.png", "aa"), TextPart("")), labels=("dent",))
    assert check_examples([row]).rule("empty_field") is None


def test_real_questions_raise_no_error_and_few_alarms() -> None:
    import csv

    folder = Path(os.environ.get("BURNISH_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "banking77" / "train.csv").is_file():
        pytest.skip("banking77 not found: set BURNISH_DATA to the folder that holds it")
    with (folder / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [labelled(row["text"], row["category"], line=line) for line, row in enumerate(csv.DictReader(file), 2)][:3000]
    found = check_examples(rows)
    found.raise_for_errors()
    # The rows are in the order of their labels, so the first ones end in the middle of one.
    alarms = {"exact_duplicate", "near_duplicate", "label_conflict", "near_label_conflict", "rare_label"}
    assert {rule for _, rule in rules(found)} <= alarms
