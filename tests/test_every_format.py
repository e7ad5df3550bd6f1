"""Every format: a good row becomes an example, a bad one an error with file, line and column; and each is guessed from its columns.

A format that is added to FORMATS has to be added to SAMPLES here, and is then covered by all tests of the first part.
"""

from __future__ import annotations

import atexit
import csv
import json
import lzma
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data.formats import FORMATS, Examples, examples
from burnish.data.guess import guess
from burnish.data.records import Record, Table, columns_of
from burnish.data.sources import read
from burnish.errors import ConfigError, DataError
from burnish.types import Answerable, Dialog, Labelled, Origin, Pair, Rated, Span, Tagged, Text, plain

USER, REPLY = {"role": "user", "content": "Why does it hum?"}, {"role": "assistant", "content": "The belt is loose."}
OTHER = {"role": "assistant", "content": "No idea."}
CHAT = "\n\nHuman: Why?\n\nAssistant: So.\n\nHuman: And?\n\nAssistant: "

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
TWO = [{"text": "The belt.", "model": "A"}, {"text": "No idea.", "model": "B"}]


def studio(data: dict[str, Any], *people: Any, kind: str = "choices") -> dict[str, Any]:
    """A task of a Label Studio export, each person with the values of results of one kind (a list: several results)."""
    listed = [value if isinstance(value, list) else [value] for value in people]
    results = [[{"from_name": "c", "to_name": "text", "type": kind, "value": value} for value in values] for values in listed]
    return {
        "id": 1,
        "data": data,
        "annotations": [{"id": n, "completed_by": n, "was_cancelled": False, "result": each} for n, each in enumerate(results)],
        "predictions": [],
    }


def record(fields: dict[str, Any], *people: Any, question: str = "q", **more: Any) -> dict[str, Any]:
    """A record of an Argilla export, each person with a value."""
    answers = [{"value": value, "user_id": f"u{number}"} for number, value in enumerate(people)]
    return {
        "id": "1",
        "fields": fields,
        "metadata": {},
        "suggestions": {},
        "responses": {question: answers} if answers else {},
        **more,
    }


SAMPLES: dict[str, list[dict[str, Any]]] = {
    "messages": [
        {"messages": [USER, REPLY]},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}, REPLY]},
        {"messages": json.dumps([USER, REPLY])},
    ],
    "sharegpt": [{"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}], "system": "Be brief."}],
    "alpaca": [
        {"instruction": "Add the numbers.", "input": "1 and 2", "output": "3", "system": "s", "history": [["Hi", "Hello"]]},
        {"instruction": "Say hello in French.", "input": "", "output": "Bonjour"},
        {"instruction": "Say hello in German.", "instances": [{"input": "", "output": "Hallo"}, {"input": "formal", "output": "Guten Tag"}]},
    ],
    "prompt_completion": [{"prompt": "The sky is", "completion": " blue."}, {"prompt": [USER], "completion": [REPLY]}],
    "text": [{"text": "A whole text to be continued, with some words in it."}],
    "labelled": [
        {"text": "Good phone, I would buy it again.", "label": "up"},
        {"text": "It broke on the first day of use.", "label": "down"},
        {"text": "Works as I had hoped it would.", "label": "up"},
        {"text": "Never again, a waste of money.", "label": "down"},
    ],
    "pictures": [
        {"image": "red.png", "label": "red"},
        {"image": "blue.jpg", "label": "blue"},
        {"image": "red.png", "label": "red"},
        {"image": "blue.jpg", "label": "blue"},
        {"photo": "red.png", "labels": ["red", "bright"]},
        {"image": "red.png", "number": 3.5},
    ],
    "spans": [
        {"tokens": ["Ada", "lives", "in", "New", "York"], "tags": ["B-PER", "O", "O", "B-LOC", "I-LOC"]},
        {"text": "Ada lives in New York", "spans": [{"start": 0, "end": 3, "label": "PER", "text": "Ada"}, [13, 21, "LOC"]]},
        {"tokens": ["Ada", "lives", "in", "New", "York"], "spans": [{"start": 3, "end": 5, "type": "LOC"}]},
    ],
    "question_answer": [{"question": "Who wrote it?", "answer": "Ada."}, {"question": "Who?", "answer": "Ada.", "context": ["She wrote.", "Ada."]}],
    "squad": [
        {"question": "Who?", "context": "Ada wrote it.", "answers": {"text": ["Ada"], "answer_start": [0]}},
        {"question": "Who?", "context": "Ada wrote it.", "answers": [{"text": "Ada", "answer_start": 0}], "title": "T"},
        {"question": "When?", "context": "Ada wrote it.", "answers": {"text": [], "answer_start": []}},
    ],
    "pairs": [
        {"prompt": "Why does it hum?", "chosen": "The belt.", "rejected": "No idea."},
        {"chosen": [USER, REPLY], "rejected": [USER, OTHER]},
        {"chosen": CHAT + "Yes.", "rejected": CHAT + "No."},
        {"input": {"messages": [USER]}, "preferred_output": [REPLY], "non_preferred_output": [OTHER]},
        {"input": {"messages": [USER], "tools": TOOLS}, "preferred_output": [REPLY], "non_preferred_output": [OTHER]},
    ],
    "rated": [
        {"prompt": "Why does it hum?", "completion": "The belt.", "label": True},
        {"messages": [USER, REPLY], "rating": 3.5},
    ],
    "feedback": [
        {"prompt": "Why does it hum?", "answers": TWO, "choice": "a"},
        {"id": "1", "messages": [USER], "answers": TWO, "choice": "b", "edit": None, "thumb": None, "rater": "ann", "order": ["b", "a"]},
        {"messages": [USER], "answers": TWO[:1], "edit": "The fan belt is loose."},
        {"prompt": "Why does it hum?", "answers": ["The belt.", "No idea."], "choice": "b", "rater": "bob"},
    ],
    "label_studio": [
        studio({"text": "Good phone."}, {"choices": ["up"]}),
        studio({"text": "Ada wrote."}, [{"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}], kind="labels"),
        studio({"prompt": "Why?", "response": "So."}, {"rating": 4}, kind="rating"),
        studio({"prompt": "Why?", "answer1": "So.", "answer2": "No."}, {"selected": "right"}, kind="pairwise"),
    ],
    "argilla": [
        record({"text": "Good phone."}, "up"),
        record({"prompt": "Why?", "reply-1": "So.", "reply-2": "No."}, ["reply-2", "reply-1"]),
        record({"text": "Ada wrote."}, [{"start": 0, "end": 3, "label": "PER"}]),
        record({"instruction": "Why?", "response": "So."}, 4),
    ],
}  # fmt: skip


def table(rows: list[dict[str, Any]], file: str = "rows.jsonl") -> Table:
    records = [Record(row, Origin(file, number)) for number, row in enumerate(rows, 1)]
    columns = columns_of(records)
    return Table(rows=records, columns=columns, problems=[], warnings=[], fingerprint="", files=(file,), folders={file: pictures()})


@cache
def pictures() -> Path:
    """A folder with two pictures, as rows of the format of that name know it."""
    folder = Path(tempfile.mkdtemp(prefix="burnish-pictures-"))
    atexit.register(shutil.rmtree, folder)
    PIL.Image.new("RGB", (12, 9), "red").save(folder / "red.png")
    PIL.Image.new("RGB", (12, 9), "blue").save(folder / "blue.jpg")
    return folder


def made_of(row: dict[str, Any], **options: Any) -> Any:
    """The only example of a row, all problems raised."""
    found = examples(table([row]), **options)
    assert not found.problems, found.problems
    (one,) = found.examples
    return one


def problems_of(row: dict[str, Any], **options: Any) -> str:
    found = examples(table([row]), **options)
    assert found.problems and not found.examples, "expected a problem"
    return "\n".join(found.problems)


EACH = [(name, row) for name, rows in SAMPLES.items() for row in rows]


def test_every_format_has_samples() -> None:
    assert SAMPLES.keys() == FORMATS.keys()


# ------------------------------------------------------------------------------------------------------------------ every format


@pytest.mark.parametrize(("name", "row"), EACH)
def test_a_good_row_becomes_an_example(name: str, row: dict[str, Any]) -> None:
    found = examples(table([row], "a.jsonl"), format=name)
    assert not found.problems and found.examples
    assert all(isinstance(one, FORMATS[name].gives) and one.origin == Origin("a.jsonl", 1) for one in found.examples)
    json.dumps(repr(found.examples))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_format_is_guessed_from_each_sample(name: str) -> None:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in SAMPLES[name]:
        groups.setdefault(tuple(row), []).append(row)
    for rows in groups.values():
        found = examples(table(rows))
        assert found.format == name and not found.problems
        assert name in found.guessed


@pytest.mark.parametrize(("name", "row"), EACH)
def test_a_missing_or_empty_required_cell_is_named_with_file_line_and_column(name: str, row: dict[str, Any]) -> None:
    required = next(
        one for one in FORMATS[name].required if all(part in examples(table([row]), format=name).columns for part in one)
    )
    chosen = examples(table([row]), format=name).columns
    for standard in required:
        for empty in (None, "", "  "):
            if standard in ("answers", "answer") and empty is not None:
                continue  # SQuAD 2.0: a question without an answer
            found = examples(table([row, {**row, chosen[standard]: empty}]), format=name)
            assert any(problem.startswith("rows.jsonl:2: ") and chosen[standard] in problem for problem in found.problems), (
                standard,
                empty,
            )
            assert all(one.origin.line == 1 for one in found.examples)


@pytest.mark.parametrize(("name", "row"), EACH)
def test_a_group_column_fills_the_group(name: str, row: dict[str, Any]) -> None:
    found = examples(table([{**row, "doc_id": 7}]), format=name, columns={"group": "doc_id"})
    assert {one.group for one in found.examples} == {"7"}
    assert "group (column 'doc_id'): is missing" in problems_of({**row, "doc_id": None}, format=name, columns={"group": "doc_id"})


@pytest.mark.parametrize(("name", "row"), EACH)
def test_columns_of_any_name_can_be_mapped(name: str, row: dict[str, Any]) -> None:
    """Users' columns have their own names; nothing but the map is needed."""
    chosen = examples(table([row]), format=name).columns
    renamed = {f"x {column}": value for column, value in row.items()}
    mapped = {standard: f"x {column}" for standard, column in chosen.items()}
    assert examples(table([renamed]), format=name, columns=mapped).examples == examples(table([row]), format=name).examples


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "from",
                    "value",
                    "text",
                    "start",
                    "end",
                    "label",
                    "answer_start",
                    "messages",
                    "function",
                    "name",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_junk_is_a_problem_and_never_a_crash(name: str, data: st.DataObject) -> None:
    entry = FORMATS[name]
    sample = data.draw(st.sampled_from(SAMPLES[name]))
    row = {column: data.draw(st.just(sample.get(column)) | JUNK, label=column) for column in entry.columns}
    found = examples(table([row]), format=name)
    assert found.examples or found.problems
    assert all(problem.startswith("rows.jsonl:1: ") for problem in found.problems)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_describe_themselves(name: str) -> None:
    entry = FORMATS[name]
    assert entry.description.endswith(".") and len(entry.description) > 20
    assert {part for one in entry.required for part in one} <= entry.columns.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_unknown_columns_and_options_get_a_suggestion(name: str) -> None:
    first = next(iter(FORMATS[name].columns))
    with pytest.raises(ConfigError, match=f"Did you mean '{first}'"):
        examples(table(SAMPLES[name]), format=name, columns={first + "x": "a"})
    with pytest.raises(DataError, match=r"there is no column 'nowhere'"):
        examples(table(SAMPLES[name]), format=name, columns={first: "nowhere"})
    with pytest.raises(ConfigError, match="has no option 'nonsense'"):
        examples(table(SAMPLES[name]), format=name, nonsense=1)


# ----------------------------------------------------------------------------------------------------------- choosing the format


def test_unknown_format_and_missing_columns() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'messages'"):
        examples(table([{"a": "b"}]), format="mesages")
    with pytest.raises(
        DataError, match=r"needs the columns instruction and output.*the rows have a\..*data\.columns\.instruction = 'a'"
    ):
        examples(table([{"a": "b"}]), format="alpaca")


def test_cannot_tell_lists_the_columns() -> None:
    with pytest.raises(DataError) as caught:
        examples(table([{"a": 1, "b": [2]}] * 3))
    text = str(caught.value)
    assert "data.format" in text and "data.columns" in text and "- a: number" in text and "- b: list" in text


def test_templates_join_columns() -> None:
    row = {"title": "Brakes", "body": "Check {them}.", "team": "a"}
    one = made_of(row, format="labelled", columns={"text": "{title}\n\n{body}", "label": "team"})
    assert plain(one.content) == "Brakes\n\nCheck {them}." and one.labels == ("a",)
    with pytest.raises(DataError, match=r"there is no column 'titel'.*Did you mean 'title'"):
        examples(table([row]), format="text", columns={"text": "{titel}"})
    with pytest.raises(ConfigError, match=r"is not a template|only names"):
        examples(table([row]), format="text", columns={"text": "{title.__class__}"})


def test_a_function_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from burnish.types import Text\ndef read(values, origin, *, upper=False):\n    text = values['a']\n"
    code += "    return Text(text=text.upper() if upper else text, origin=origin)\ndef number(values, origin):\n    return 3\n"
    (tmp_path / "my_format.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = examples(table([{"a": "x"}, {"b": "y"}]), format="my_format:read", upper=True)
    assert found.examples == [Text(text="X", origin=Origin("rows.jsonl", 1))]
    assert found.problems == ["rows.jsonl:2: my_format:read failed on this row: KeyError: 'a'"]
    with pytest.raises(ConfigError, match="Did you mean 'read'"):
        examples(table([{"a": "x"}]), format="my_format:raed")
    with pytest.raises(ConfigError, match="no module named 'not_there'"):
        examples(table([{"a": "x"}]), format="not_there:read")
    with pytest.raises(ConfigError, match="returned int"):
        examples(table([{"a": "x"}]), format="my_format:number")
    sys.modules.pop("my_format")


def test_problems_of_the_table_come_along() -> None:
    base = table([{"text": "x"}])
    base.problems.append("a.jsonl:3: broken")
    assert examples(base, format="text").problems == ["a.jsonl:3: broken"]


# ---------------------------------------------------------------------------------------------------------------------- messages


def call(arguments: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": arguments}}],
    }


def test_tool_calls_with_arguments_as_object_or_text() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    for arguments in ({"city": "Oslo"}, '{"city": "Oslo"}'):
        rows = [USER, call(arguments), {"role": "tool", "tool_call_id": "1", "content": "rain"}, REPLY]
        for offered in (tools, json.dumps(tools)):
            one = made_of({"messages": rows, "tools": offered})
            assert one.messages[1].tool_calls[0].name == "weather" and dict(one.messages[1].tool_calls[0].arguments) == {
                "city": "Oslo"
            }
            assert one.messages[1].content == () and one.messages[2].role == "tool" and list(one.tools) == tools


def test_weights_of_openai_files() -> None:
    one = made_of({"messages": [USER, {**REPLY, "weight": 0}, USER, {**REPLY, "weight": 1}]})
    assert [message.weight for message in one.messages] == [None, 0.0, None, 1.0]


def test_sharegpt_calls_and_answers_of_tools() -> None:
    turns = [
        ("human", "Rain?"),
        ("function_call", '{"name": "weather", "arguments": {"city": "Oslo"}}'),
        ("observation", "yes"),
        ("gpt", "Yes."),
    ]
    one = made_of({"conversations": [{"from": who, "value": what} for who, what in turns]})
    assert [message.role for message in one.messages] == ["user", "assistant", "tool", "assistant"]
    assert one.messages[1].tool_calls[0].arguments == {"city": "Oslo"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (
            [{"role": "usr", "content": "x"}, REPLY],
            "messages[1]: role 'usr' is not one of system, user, assistant, tool. Did you mean 'user'?",
        ),
        ([{"role": "human", "content": "x"}, REPLY], "data.format = 'sharegpt'"),
        ([USER], "the last message is the user's; expected the assistant's"),
        ([USER, {"role": "system", "content": "x"}, REPLY], "messages[2]: a system message stands behind others"),
        ([USER, {"role": "tool", "content": "x"}, REPLY], "messages[2]: a tool message does not follow a tool call"),
        ([{"role": "user", "contnet": "x"}, REPLY], "content is missing; expected text. Did you mean 'contnet'?"),
        ([USER, {"role": "assistant", "content": " "}], "messages[2]: content is blank"),
        ([{**USER, "weight": 1}, REPLY], "weight stands on a user message"),
        ([USER, {**REPLY, "weight": 0.5}], "weight is 0.5; expected 0"),
        ([USER, call("{city")], "arguments of weather: not valid JSON"),
        ([USER, call("[1]")], "arguments of weather are [1]; expected a JSON object"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, REPLY],
            "holds a picture; only text is learned from so far",
        ),
        ([USER, {**REPLY, "thinking": "hm"}], "'thinking' is not learned from"),
        ("hello", "expected a list of messages, found 'hello'"),
        ([], "expected a list of messages"),
    ],
)
def test_messages_that_are_wrong(messages: Any, expected: str) -> None:
    assert expected in problems_of({"messages": messages}, format="messages")


def test_pain_1_a_row_that_trains_on_nothing_is_an_error() -> None:
    """Pain 1: all labels masked, the loss is 0 and the run looks healthy."""
    assert "trains on nothing" in problems_of({"messages": [USER, {**REPLY, "weight": 0}]})
    assert "is empty; expected text" in problems_of({"instruction": "Do it.", "input": "", "output": ""})


def test_empty_cells_of_data_frames_are_missing() -> None:
    nan = float("nan")
    assert "text: is missing" in problems_of({"text": nan, "label": "a"}, format="labelled")
    assert "label: is missing" in problems_of({"text": "x", "label": nan}, format="labelled")
    assert len(made_of({"instruction": "x", "input": nan, "output": "y"}).messages) == 2


def test_all_problems_of_a_row_come_together() -> None:
    found = problems_of({"messages": [{"role": "usr", "content": "x"}, {"role": "assistant", "content": ""}, 3]}, format="messages")
    assert "messages[1]" in found and "messages[2]" in found and "messages[3]" in found


def test_user_s_column_name_stands_in_the_problem() -> None:
    found = problems_of(
        {"ticket": "It hums.", "reply": ""}, format="prompt_completion", columns={"prompt": "ticket", "completion": "reply"}
    )
    assert found == "rows.jsonl:1: completion (column 'reply'): is empty; expected text"


def test_alpaca_puts_the_input_below_the_instruction() -> None:
    dialog = made_of({"instruction": "Add.", "input": "1 and 2", "response": "3"})
    assert [plain(message.content) for message in dialog.messages] == ["Add.\n\n1 and 2", "3"]
    assert len(examples(table([SAMPLES["alpaca"][2]])).examples) == 2


# ------------------------------------------------------------------------------------------------------------------------- pairs


def test_shared_beginning_of_transcripts_is_the_prompt() -> None:
    pair = made_of(SAMPLES["pairs"][2])
    assert [(message.role, plain(message.content)) for message in pair.prompt] == [
        ("user", "Why?"),
        ("assistant", "So."),
        ("user", "And?"),
    ]
    assert plain(pair.chosen[0].content) == "Yes." and plain(pair.rejected[0].content) == "No."


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=5),
    st.text("cd", min_size=1, max_size=3),
    st.text("ef", min_size=1, max_size=3),
)
def test_implicit_and_explicit_prompts_give_the_same_pair(turns: list[str], good: str, bad: str) -> None:
    asked = [
        {"role": ("user", "assistant")[n % 2], "content": words} for n, words in enumerate(turns[: len(turns) - 1 + len(turns) % 2])
    ]
    best, worst = [{"role": "assistant", "content": good}], [{"role": "assistant", "content": bad}]
    if not asked or asked[-1]["role"] != "user":
        return
    explicit = made_of({"prompt": asked, "chosen": best, "rejected": worst})
    assert explicit == made_of({"chosen": asked + best, "rejected": asked + worst})


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "x", "chosen": "a", "rejected": "a"}, "chosen and rejected are the same"),
        ({"chosen": "a", "rejected": "b"}, "prompt: is missing"),
        (
            {"chosen": [USER, REPLY], "rejected": [{"role": "user", "content": "else"}, OTHER]},
            "do not begin with the same user's turn",
        ),
        ({"prompt": "x", "chosen": "a", "rejected": [USER]}, "rejected: the last message is the user's"),
        ({"chosen": CHAT, "rejected": CHAT + "No."}, "chosen: turn 4 (Assistant) is empty"),
    ],
)
def test_pairs_that_are_wrong(row: dict[str, Any], expected: str) -> None:
    assert expected in problems_of(row, format="pairs")


@pytest.mark.parametrize(("label", "rating"), [(True, 1.0), ("false", 0.0), (1, 1.0), ("Down", 0.0), (0.0, 0.0)])
def test_thumbs(label: Any, rating: float) -> None:
    one = made_of({"prompt": "x", "completion": "y", "label": label}, format="rated")
    assert isinstance(one, Rated) and one.rating == rating


def test_a_grade_is_no_thumb() -> None:
    assert "map a number to columns.rating" in problems_of({"prompt": "x", "completion": "y", "label": 4}, format="rated")
    assert made_of({"prompt": "x", "completion": "y", "rating": "4.5"}).rating == 4.5
    assert "expected a number" in problems_of({"prompt": "x", "completion": "y", "rating": "nan"}, format="rated")


# ----------------------------------------------------------------------------------------------------- texts, labels and spans


def test_passages_of_a_file_keep_their_lines_and_their_file_as_group(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One\ntwo.\n\n  \nThree.\n\n\nFour.\n")
    source = read("a.txt", base=tmp_path)
    whole = examples(source)
    assert [one.text for one in whole.examples] == ["One\ntwo.\n\n  \nThree.\n\n\nFour."]  # type: ignore[union-attr]
    parts = examples(source, passage="paragraph").examples
    assert [(one.text, one.origin.line) for one in parts] == [("One\ntwo.", 1), ("Three.", 5), ("Four.", 8)]  # type: ignore[union-attr]
    assert {one.group for one in (*parts, *whole.examples)} == {"a.txt"}


@settings(max_examples=60, deadline=None)
@given(st.text("ab \n", max_size=40).filter(str.strip))
def test_passages_lose_nothing_but_blanks(text: str) -> None:
    found = examples(table([{"text": text}]), format="text", passage="paragraph").examples
    assert "".join("".join(one.text.split()) for one in found) == "".join(text.split())  # type: ignore[union-attr]
    assert all("\n\n" not in one.text for one in found)  # type: ignore[union-attr]


def test_labels_one_several_and_numbers() -> None:
    assert made_of({"text": "x y z", "label": 0}, format="labelled").labels == ("0",)
    assert made_of({"text": "x", "label": 1.0}, format="labelled").labels == ("1",)
    several = made_of({"text": "x", "labels": ["a", "b"]}, format="labelled")
    assert several.labels == ("a", "b") and several.several
    assert made_of({"text": "x", "label": "a; b"}, format="labelled", separator=";").labels == ("a", "b")
    assert made_of({"text": "x", "label": []}, format="labelled").several
    assert made_of({"text": "x", "score": "3.5"}, format="labelled").number == 3.5
    assert "map it as columns.number" in problems_of({"text": "x", "label": 3.5}, format="labelled")
    assert "stands twice" in problems_of({"text": "x", "label": ["a", "a"]}, format="labelled")


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_spans_of_tags_hold_the_tagged_tokens(data: st.DataObject) -> None:
    """Tags made of token ranges give back these ranges as text, in IOB2 and in IOBES."""
    tokens = data.draw(st.lists(st.text("xyz", min_size=1, max_size=4), min_size=1, max_size=8))
    ends = data.draw(st.booleans())
    tags, expected, at = [], [], 0
    while at < len(tokens):
        length = data.draw(st.integers(0, min(3, len(tokens) - at)))
        if length:
            middle = ["I-X"] * (length - 2) + (["E-X" if ends else "I-X"] if length > 1 else [])
            tags += ["S-X" if ends and length == 1 else "B-X", *middle]
            expected.append(" ".join(tokens[at : at + length]))
        else:
            tags.append("O")
        at += max(length, 1)
    one = made_of({"tokens": tokens, "tags": tags})
    assert isinstance(one, Tagged)
    assert [plain(one.content)[span.start : span.end] for span in one.spans] == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "1 tags for 2 tokens"),
        ({"tokens": ["a"], "tags": [3]}, "give the names of the classes"),
        ({"tokens": ["a"], "tags": ["NN"]}, "is not O, B-LABEL or I-LABEL"),
        ({"tokens": ["a"], "spans": [{"start": 0, "end": 2, "type": "X"}]}, "not inside the 1 tokens"),
        ({"text": "abc", "spans": [[0, 4, "X"]]}, "0 to 4 is not inside the text (0 to 3)"),
        ({"text": "abc", "spans": [[1, 1, "X"]]}, "1 to 1 is not inside"),
        ({"text": "abc", "spans": [{"start": 0, "end": 1}]}, "expected whole numbers start and end and a label"),
    ],
)
def test_spans_that_are_wrong(row: dict[str, Any], expected: str) -> None:
    assert expected in problems_of(row, format="spans")


@settings(max_examples=100, deadline=None)
@given(st.text("ab c", min_size=1, max_size=12), st.text("ab c", min_size=1, max_size=3), st.integers(0, 12))
def test_wrong_offsets_are_reported_with_both_and_only_unique_ones_repaired(context: str, answer: str, start: int) -> None:
    """The given offset and the true one; nothing is moved unasked, nor where it would be a guess."""
    places = [at for at in range(len(context)) if context.startswith(answer, at)]
    if not context.strip() or not answer.strip():
        return
    right = start in places
    span = {"text": context, "spans": [{"start": start, "end": start + len(answer), "label": "X", "text": answer}]}
    for name, row in (
        ("squad", {"question": "q", "context": context, "answers": [{"text": answer, "answer_start": start}]}),
        ("spans", span),
    ):
        asked, repaired = examples(table([row]), format=name), examples(table([row]), format=name, repair=True)
        assert bool(asked.examples) == right
        assert bool(repaired.examples) == (right or len(places) == 1)
        for found in (*asked.examples, *repaired.examples):
            at = found.answers[0][0] if isinstance(found, Answerable) else found.spans[0].start  # type: ignore[union-attr]
            assert context.startswith(answer, at) and (not right or at == start)
        if not right:
            assert f"offset {start}" in asked.problems[0]
            assert len(places) != 1 or f"but at {places[0]}; correct it, or set data.repair = true" in asked.problems[0]


def test_squad_groups_and_flat_columns() -> None:
    rows = [{"question": "Who?", "context": context, "answer": "Ada"} for context in ("Ada wrote.", "Ada wrote.", "It was Ada.")]
    made = examples(table(rows), format="squad").examples
    assert [one.answers for one in made] == [((0, "Ada"),), ((0, "Ada"),), ((7, "Ada"),)]  # type: ignore[union-attr]
    assert made[0].group == made[1].group != made[2].group
    assert "has no offset and occurs 2 times" in problems_of(
        {"question": "q", "context": "Ada Ada", "answer": "Ada"}, format="squad"
    )


# ---------------------------------------------------------------------------------------------------------------------- feedback


def judged(**more: Any) -> dict[str, Any]:
    return {"id": "1", "messages": [USER], "answers": TWO, "choice": None, "edit": None, "thumb": None, "rater": "ann", **more}


def said(one: Any) -> list[tuple[Any, ...]]:
    """The texts of a pair, of a rated answer with its rating, or of a dialog's last turn."""
    if isinstance(one, Pair):
        return [(plain(one.chosen[0].content), plain(one.rejected[0].content))]
    return [(plain(one.messages[-1].content), *([one.rating] if isinstance(one, Rated) else []))]


B, N, E = "The belt.", "No idea.", "The fan belt."


@pytest.mark.parametrize(
    ("row", "pairs", "rated", "messages"),
    [
        (judged(choice="a"), [(B, N)], [(B, 1.0), (N, 0.0)], [(B,)]),
        (judged(choice="B"), [(N, B)], [(B, 0.0), (N, 1.0)], [(N,)]),
        (judged(choice="a", edit=E), [(E, B), (E, N)], [(B, 0.0), (N, 0.0), (E, 1.0)], [(E,)]),
        (judged(choice="tie"), [], [], []),
        (judged(choice="both_bad"), [], [(B, 0.0), (N, 0.0)], []),
        (judged(choice="skip"), [], [], []),
        (judged(answers=TWO[:1], thumb=True), [], [(B, 1.0)], [(B,)]),
        (judged(answers=TWO[:1], thumb="down"), [], [(B, 0.0)], []),
        (judged(answers=TWO[:1], edit=E), [(E, B)], [(B, 0.0), (E, 1.0)], [(E,)]),
        (judged(answers=TWO[:1], thumb=True, edit=E), [(E, B)], [(B, 1.0), (E, 1.0)], [(E,)]),
        (judged(answers=["x", "y", "z"], choice="b"), [("y", "x"), ("y", "z")], [("x", 0.0), ("y", 1.0), ("z", 0.0)], [("y",)]),
        (judged(answers=["", "y"], choice="b"), [], [], []),
        (judged(answers=["y", "y"], choice="b"), [], [("y", 1.0)], [("y",)]),
    ],
)
def test_what_a_judgement_gives(row: dict[str, Any], pairs: Any, rated: Any, messages: Any) -> None:
    other = {**judged(choice="a"), "id": "other"}  # so that there is always an example
    for kind, expected in (("pairs", pairs), ("rated", rated), ("messages", messages)):
        found = examples(table([other, row]), format="feedback", as_=kind)
        assert not found.problems
        given = [text for one in found.examples if one.origin.line == 2 for text in said(one)]
        assert given == expected, kind
        assert expected or any(warning.startswith("1 row: ") and "rows.jsonl:2" in warning for warning in found.warnings)


def test_only_the_last_judgement_of_a_rater_counts_and_a_skip_is_none() -> None:
    rows = [
        judged(choice="a"),
        judged(choice="b"),
        judged(choice="a", rater="bob"),
        judged(choice="skip"),
        judged(choice="tie", id="2"),
    ]
    found = examples(table(rows))
    assert [said(one) for one in found.examples] == [[(N, B)], [(B, N)]] and [one.origin.line for one in found.examples] == [2, 3]
    assert any("2 judgements were given anew" in warning for warning in found.warnings)
    assert any("1 row: a tie gives no pair; left out (rows.jsonl:5)" in warning for warning in found.warnings)
    several = examples(
        table([judged(choice="a", id=str(n)) for n in range(2)] + [judged(choice="tie", id=f"t{n}") for n in range(9)])
    )
    assert any(warning.startswith("9 rows: a tie") and "rows.jsonl:5 …" in warning for warning in several.warnings)


def test_a_file_of_ties_is_a_problem_that_says_why() -> None:
    assert "no row gives an example: 2 rows: a tie gives no pair" in no_examples(
        [judged(choice="tie"), judged(choice="tie", id="2")]
    )


def no_examples(rows: list[dict[str, Any]], **options: Any) -> str:
    found = examples(table(rows), **options)
    assert not found.examples
    return "\n".join(found.problems)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (judged(), "choice: is missing; expected one of a, b, tie, both_bad, skip"),
        (judged(choice="c"), "choice: 'c' is not known; expected one of a, b, tie"),
        (judged(choice="ties"), "Did you mean 'tie'?"),
        (judged(choice="a", answers=TWO[:1]), "only one answer"),
        (judged(thumb=True), "thumb: stands beside 2 answers"),
        (judged(thumb="maybe", answers=TWO[:1]), "thumb: expected true or false, found 'maybe'"),
        (judged(choice="a", answers=[{"txt": "x"}, "y"]), "answers[1]: expected a text"),
        (judged(choice="a", answers=[]), "answers: expected a list"),
        (judged(choice="a", messages=[USER, REPLY]), "the last message is the assistant's; expected the user's"),
        (judged(choice="a", messages="Hi"), "messages: expected a list of messages, found 'Hi'"),
    ],
)
def test_feedback_that_is_wrong(row: dict[str, Any], expected: str) -> None:
    assert expected in problems_of(row, format="feedback")


def test_an_unknown_kind_of_example_is_named() -> None:
    assert "as_: expected one of pairs, rated, messages, found 'pair'. Did you mean 'pairs'?" in problems_of(
        judged(choice="a"), as_="pair"
    )


# ---------------------------------------------------------------------------------------------------------- exports of labelling tools

UP, DOWN, SIDE = {"choices": ["up"]}, {"choices": ["down"]}, {"text": "Good phone."}
ADA = {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}
OSLO = {"start": 13, "end": 17, "text": "Oslo", "labels": ["LOC"]}
LIVES = {"text": "Ada lives in Oslo"}
BOTH = {"prompt": "Why?", "answer_a": "So.", "answer_b": "No."}
RATED = {"question": "Why?", "answer": "So."}
THREE = {"prompt": "Why?", "r1": "one", "r2": "two", "r3": "three"}


def brief(one: Any) -> Any:
    """An example in short: its type and what was marked."""
    if isinstance(one, Pair):
        return "Pair", plain(one.prompt[-1].content), *said(one)[0]
    if isinstance(one, Rated):
        return "Rated", plain(one.messages[0].content), plain(one.messages[1].content), one.rating
    if isinstance(one, Tagged):
        return "Tagged", plain(one.content), [(span.start, span.end, span.label) for span in one.spans]
    return "Labelled", plain(one.content), one.labels if one.number is None else one.number


MAJORITY, UNDECIDED = "annotators disagree; the majority counts", "none is in the majority; left out"


@pytest.mark.parametrize(
    ("row", "expected", "note"),
    [
        (studio(SIDE, UP), [("Labelled", "Good phone.", ("up",))], ""),
        (studio(SIDE, UP, DOWN, UP), [("Labelled", "Good phone.", ("up",))], MAJORITY),
        (studio(SIDE, UP, DOWN), [], UNDECIDED),
        (studio(SIDE, UP, UP), [("Labelled", "Good phone.", ("up",))], ""),
        (studio(SIDE), [], "not annotated"),
        (studio(LIVES, [ADA, OSLO], kind="labels"), [("Tagged", LIVES["text"], [(0, 3, "PER"), (13, 17, "LOC")])], ""),
        (studio(LIVES, [ADA, OSLO], [ADA], [ADA], kind="labels"), [("Tagged", LIVES["text"], [(0, 3, "PER")])], MAJORITY),
        (studio(LIVES, [ADA], [], kind="labels"), [("Tagged", LIVES["text"], [])], MAJORITY),
        (studio(RATED, {"rating": 4}, {"rating": 1}, {"rating": 5}, kind="rating"), [("Rated", "Why?", "So.", 4.0)], MAJORITY),
        (studio(RATED, {"choices": ["Good"]}), [("Rated", "Why?", "So.", 1.0)], ""),
        (studio(SIDE, {"number": 2.5}, kind="number"), [("Labelled", "Good phone.", 2.5)], ""),
        (studio(BOTH, {"selected": "left"}, kind="pairwise"), [("Pair", "Why?", "So.", "No.")], ""),
        (studio(BOTH, {"selected": "right"}, kind="pairwise"), [("Pair", "Why?", "No.", "So.")], ""),
        (studio(BOTH, {"selected": "right"}, {"selected": "left"}, kind="pairwise"), [], UNDECIDED),
        (studio(SIDE, UP, {"text": ["x"]}) | {}, [("Labelled", "Good phone.", ("up",))], None),
        (record(SIDE, "up"), [("Labelled", "Good phone.", ("up",))], ""),
        (record(SIDE, "up", "down", "up"), [("Labelled", "Good phone.", ("up",))], MAJORITY),
        (record(SIDE, "up", "down"), [], UNDECIDED),
        (record(SIDE), [], "not annotated"),
        (record(SIDE, 3, 5), [("Labelled", "Good phone.", 4.0)], MAJORITY),
        (record(RATED, 4), [("Rated", "Why?", "So.", 4.0)], ""),
        (record(LIVES, [{"start": 0, "end": 3, "label": "PER"}]), [("Tagged", LIVES["text"], [(0, 3, "PER")])], ""),
        (record(LIVES, [{"start": 0, "end": 3, "label": "PER"}], [], []), [("Tagged", LIVES["text"], [])], MAJORITY),
        (record(THREE, ["r2", "r1", "r3"]), [("Pair", "Why?", "two", "one"), ("Pair", "Why?", "two", "three"), ("Pair", "Why?", "one", "three")], ""),
        (record(THREE, [{"value": "r1", "rank": 1}, {"value": "r2", "rank": 1}, {"value": "r3", "rank": 2}]),
         [("Pair", "Why?", "one", "three"), ("Pair", "Why?", "two", "three")], ""),
        (record(THREE, [{"value": "r1", "rank": 1}, {"value": "r2", "rank": 1}]), [], "same rank"),
        (record(THREE, ["r1", "r2"], ["r2", "r1"], ["r2", "r1"]), [("Pair", "Why?", "two", "one")], MAJORITY),
    ],
)  # fmt: skip
def test_exports_become_what_they_say(row: dict[str, Any], expected: Any, note: str | None) -> None:
    name = "argilla" if "fields" in row else "label_studio"
    if note is None:  # a result of a kind that is not read beside one that is
        row["annotations"][1]["result"][0]["type"] = "textarea"
        note = "marks of type textarea are not read"
    found = examples(table([row]), format=name)
    assert [brief(one) for one in found.examples] == expected
    told = "\n".join([*found.warnings, *found.problems])
    assert note in told and (note or not told)
    assert bool(found.problems) == (not expected)


def test_several_labels_anywhere_make_all_rows_of_several_labels() -> None:
    many = {"choices": ["up", "new"]}
    for rows in (
        [studio(SIDE, UP), studio(SIDE, many, UP, many)],
        [record(SIDE, ["up"]), record(SIDE, ["up", "new"], ["up"], ["up", "new"])],
    ):
        found = examples(table(rows))
        assert [one.labels for one in found.examples] == [("up",), ("up", "new")] and all(one.several for one in found.examples)  # type: ignore[union-attr]
        assert any("some texts have several labels" in warning for warning in found.warnings)
        assert "set the option several = true" in problems_of(rows[1], several=False)


def test_offsets_of_a_browser_are_counted_anew_where_the_text_says_so() -> None:
    """A character beyond U+FFFF is two units for JavaScript, which Label Studio counts in."""
    text = "😀 Ada"
    made = made_of(studio({"text": text}, [{"start": 3, "end": 6, "text": "Ada", "labels": ["PER"]}], kind="labels"))
    assert made.spans == (Span(2, 5, "PER"),) and text[2:5] == "Ada"
    wrong = studio({"text": text}, [{"start": 1, "end": 4, "text": "Ada", "labels": ["PER"]}], kind="labels")
    assert "a text that stands there in the data" in problems_of(wrong)


def test_cancelled_drafts_and_older_forms() -> None:
    row = studio(SIDE, UP, DOWN)
    row["annotations"][1]["was_cancelled"] = True
    assert made_of(row).labels == ("up",)
    assert made_of({"data": row["data"], "completions": row["annotations"]}).labels == ("up",)
    older = [
        {"user_id": "u", "status": "submitted", "values": {"q": {"value": "up"}}},
        {"user_id": "v", "status": "draft", "values": {"q": {"value": "x"}}},
    ]
    assert made_of({"fields": SIDE, "responses": older}).labels == ("up",)
    proposed = record(SIDE, suggestions={"q": {"value": "up", "score": 0.9, "agent": "m"}})
    assert made_of(proposed, suggestions=True).labels == ("up",)
    assert "not annotated" in no_examples([proposed])


def test_fields_and_questions_are_named_where_they_cannot_be_told() -> None:
    odd = {"Anfrage": "Why?", "x": "So.", "y": "No."}
    row = studio(odd, {"selected": "left"}, kind="pairwise")
    assert "name them with the options left and right" in problems_of(row)
    assert "name it with the option prompt" in problems_of(row, left="x", right="y")
    assert brief(made_of(row, left="x", right="y", prompt="Anfrage")) == ("Pair", "Why?", "So.", "No.")
    row["annotations"][0]["result"][0]["to_name"] = "y,x"  # the control names the fields it shows
    assert brief(made_of(row, prompt="Anfrage")) == ("Pair", "Why?", "No.", "So.")
    assert "Did you mean 'Anfrage'" in problems_of(row, prompt="Anfrag")
    two = {"fields": {"a": "x", "b": "y"}, "responses": {"tone": [{"value": "kind"}], "stars": [{"value": 3}]}}
    assert "'tone' (labels), 'stars' (a number); name the one to read" in problems_of(two)
    assert brief(made_of(two, question="stars", text="b")) == ("Labelled", "y", 3.0)
    assert "name it with the option text" in problems_of(two, question="tone")
    assert "Did you mean 'tone'" in no_examples([two], question="tonne")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"data": {}, "annotations": []}, "data: expected an object with the fields"),
        ({"data": SIDE, "annotations": "x"}, "annotations: not valid JSON"),
        ({"data": SIDE, "annotations": [{"result": "x"}]}, "annotations[1]: expected an object with a list 'result'"),
        (studio(SIDE, {"choices": "up"}), "annotations[1].result[1]: expected 'choices', a list of texts"),
        (studio(SIDE, {"rating": "4"}, kind="rating"), "expected a number, found '4'"),
        (studio(BOTH, {"selected": "both"}, kind="pairwise"), "expected 'selected', left or right, found 'both'"),
        (studio(LIVES, {"start": 0, "end": 3}, kind="labels"), "expected start, end, labels"),
        (studio({"a": "x", "b": "y"}, UP), "cannot tell which field was marked, the row has a, b"),
        ({"fields": [], "responses": {}}, "fields: expected an object"),
        ({"fields": SIDE, "responses": {"q": ["up"]}}, "responses.q: expected objects with value and user_id"),
        (record(SIDE, {"a": 1}), "responses.q: expected a label, a list of labels, a number, a ranking or spans"),
        (record(SIDE, "up", 3), "q: holds"),
        (record(LIVES, [{"start": 3, "end": 99, "label": "X"}]), "3 to 99 is not inside the text"),
        (record(THREE, [{"value": "r1", "rank": 1}, {"value": "r9", "rank": 2}]), "'r9' is ranked, but no field of the row"),
    ],
)
def test_exports_that_are_wrong(row: dict[str, Any], expected: str) -> None:
    text = problems_of(row, format="argilla" if "fields" in row else "label_studio")
    assert expected in text and text.startswith("rows.jsonl:1: ")


def test_exports_as_files_with_the_line_of_each_task(tmp_path: Path) -> None:
    """As the tools write them: Label Studio one indented list, Argilla a list or a record per line."""
    rows = [studio(SIDE, UP), studio(SIDE, {"choices": []}), studio(SIDE, DOWN)]
    (tmp_path / "ls.json").write_text(json.dumps(rows, indent=2))
    found = examples(read("ls.json", base=tmp_path))
    lines = (tmp_path / "ls.json").read_text().split("\n")
    assert found.format == "label_studio" and [one.labels for one in found.examples] == [("up",), ("down",)]  # type: ignore[union-attr]
    (problem,) = found.problems
    assert problem.startswith("ls.json:") and lines[int(problem.split(":")[1]) - 1].strip() == "{"
    records = [record(SIDE, "up"), record(SIDE, "down")]
    (tmp_path / "a.json").write_text(json.dumps(records))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    for name in ("a.json", "a.jsonl"):
        found = examples(read(name, base=tmp_path))
        assert found.format == "argilla" and [one.labels for one in found.examples] == [("up",), ("down",)]  # type: ignore[union-attr]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True), min_size=1, max_size=5))
def test_the_majority_does_not_depend_on_the_order_of_people(people: list[list[str]]) -> None:
    fields = {"prompt": "p", "a": "1", "b": "2", "c": "3"}
    for question, given_ in (
        ("ranking", [one for one in people if len(one) > 1]),
        ("labels", [[f"x{label}" for label in one] for one in people]),
    ):
        if not given_:
            continue
        both = [
            examples(table([record(fields, *each, question=question)]), format="argilla", several=True, text="prompt")
            for each in (given_, given_[::-1])
        ]
        marked = [
            sorted(
                map(
                    str,
                    (
                        [set(one.labels) and sorted(one.labels)] if isinstance(one, Labelled) else [brief(one)]
                        for one in found.examples
                    ),
                )
            )
            for found in both
        ]
        assert marked[0] == marked[1]
        if question == "labels":
            counts = {label: sum(label in one for one in given_) for one in given_ for label in one}
            (one,) = both[0].examples
            assert set(one.labels) == {label for label, count in counts.items() if 2 * count > len(given_)}  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------------------------- guess

PHRASES = [
    "the fan hums at night",
    "no light on the panel",
    "it smells of burnt rubber",
    "the door will not close",
    "water under the boot mat",
]
TEAMS = ["a", "b", "c", "a", "b"] * 12


def rows_of(**columns: list[Any]) -> Table:
    return table([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def many(words: list[str]) -> list[str]:
    return [f"{word} {number}" for number in range(12) for word in words]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"ticket": many(PHRASES), "reply": many(PHRASES[::-1])}, ("prompt_completion", {"prompt": "ticket", "completion": "reply"})),
        ({"reply": many(PHRASES), "ticket": many(PHRASES)}, ("prompt_completion", {"prompt": "ticket", "completion": "reply"})),
        ({"sentence": many(PHRASES), "sentiment": ["good", "bad", "good", "bad", "bad"] * 12}, ("labelled", {"text": "sentence", "label": "sentiment"})),
        ({"Befund": many(PHRASES), "Stufe": ["A", "B", "A", "C", "B"] * 12}, ("labelled", {"text": "Befund", "label": "Stufe"})),
        ({"stars": [1, 2, 3, 4, 5] * 12, "review": many(PHRASES)}, ("labelled", {"text": "review", "label": "stars"})),
        ({"a": many(PHRASES), "b": many(PHRASES[::-1])}, ("prompt_completion", {"prompt": "a", "completion": "b"})),
        ({"article": many(PHRASES), "highlights": many(PHRASES)}, ("prompt_completion", {"prompt": "article", "completion": "highlights"})),
        ({"id": list(range(60)), "body": many(PHRASES)}, ("text", {"text": "body"})),
        ({"url": ["x"] * 60, "title": many(["a b"] * 5), "text": many(PHRASES)}, ("text", {"text": "text"})),
        ({"Question": many(PHRASES), "Answer": many(PHRASES), "topic": ["x"] * 60}, ("question_answer", {"question": "Question", "answer": "Answer"})),
        ({"chat": [[USER, REPLY]] * 3}, ("messages", {"messages": "chat"})),
        ({"prompt": [[USER]] * 3, "completion": [[REPLY]] * 3}, ("prompt_completion", {"prompt": "prompt", "completion": "completion"})),
        ({"words": [["a", "b"]] * 3, "ner_tags": [["O", "B-X"]] * 3}, ("spans", {"tokens": "words", "tags": "ner_tags"})),
        ({"text": many(PHRASES), "number": [1.5, 2.0, 2.25, 4.0, 1.0] * 12}, ("labelled", {"text": "text", "number": "number"})),
        ({"text": many(PHRASES), "number": ["3", "1", "2", "5", "4"] * 12}, ("labelled", {"text": "text", "number": "number"})),
        ({"score": [number / 7 for number in range(60)], "essay": many(PHRASES)}, ("labelled", {"text": "essay", "number": "score"})),
        ({"text": many(PHRASES), "number": list(range(1, 61))}, ("text", {"text": "text"})),
        ({"text": many(PHRASES), "number": list(range(60)), "label": ["a", "b", "a", "b", "b"] * 12}, ("labelled", {"text": "text", "label": "label"})),
        ({"text": many(PHRASES), "entities": [[[0, 3, "X"]]] * 60}, ("spans", {"text": "text", "spans": "entities"})),
        ({"message": many(PHRASES), "team": TEAMS, "case": [f"case-{number}" for number in range(60)]}, ("labelled", {"text": "message", "label": "team"})),
        ({"message": many(PHRASES), "team": TEAMS, "customer": [f"K{number % 9}" for number in range(60)]}, ("labelled", {"text": "message", "label": "team"})),
        ({"symptom": many(PHRASES), "found": ["P0301", "P0420", "P0171", "P0301", "P0420"] * 12}, ("labelled", {"text": "symptom", "label": "found"})),
    ],
)  # fmt: skip
def test_guesses(columns: dict[str, list[Any]], expected: tuple[str, dict[str, str]]) -> None:
    found = guess(rows_of(**columns))
    assert (found.format, dict(found.columns)) == expected
    assert found.why and all(sentence.endswith(".") for sentence in (*found.why, *found.alternatives))
    assert not examples(rows_of(**columns)).problems


def test_columns_named_by_the_user_decide() -> None:
    rows = rows_of(ticket=many(PHRASES), reply=many(PHRASES), team=["a", "b", "c", "a", "b"] * 12)
    assert guess(rows).format == "prompt_completion"
    assert examples(rows, columns={"text": "ticket", "label": "team"}).format == "labelled"
    assert examples(rows, columns={"completion": "team"}).columns == {"prompt": "ticket", "completion": "team"}
    assert examples(rows, columns={"group": "team"}).format == "prompt_completion"


# -------------------------------------------------------------------------------------------------------------------- real data

PLACES = [os.environ.get("BURNISH_DATA"), Path(__file__).resolve().parents[2] / "shared" / "data"]
REAL = next((Path(place) for place in PLACES if place and Path(place).is_dir()), None)
real = pytest.mark.skipif(REAL is None, reason="the real data sets are not here; set BURNISH_DATA")
LABELLED = {"text": "column_1", "label": "column_2"}
QA = {"question": "question", "answer": "answer"}
TOKENS = {"tokens": "tokens", "tags": "tags"}
ALPACA = {"instruction": "instruction", "input": "input", "output": "output"}
EXPECTED = {
    "banking77/train.csv": ("labelled", {"text": "text", "label": "category"}),
    "clinc150/data_full.json": ("labelled", LABELLED),
    "clinc150/data_small.json": ("labelled", LABELLED),
    "sentiment_uci/amazon_cells_labelled.txt": ("labelled", LABELLED),
    "sentiment_uci/imdb_labelled.txt": ("labelled", LABELLED),
    "sentiment_uci/yelp_labelled.txt": ("labelled", LABELLED),
    "instruct_rasbt/instruction-data.json": ("alpaca", ALPACA),
    "instruct_rasbt/instruction-data-with-preference.json": (
        "pairs",
        {"prompt": "instruction", "input": "input", "chosen": "chosen", "rejected": "rejected"},
    ),
    "self_instruct/seed_tasks.jsonl": ("alpaca", {"instruction": "instruction", "instances": "instances"}),
    "hh_rlhf_harmless_test/test.jsonl.gz": ("pairs", {"chosen": "chosen", "rejected": "rejected"}),
    "gsm8k/train.jsonl": ("question_answer", QA),
    "medquad/medquad.jsonl.xz": ("question_answer", QA),
    "openstax/exercises.jsonl.xz": ("question_answer", QA),
    "openstax/textbooks.jsonl.xz": ("text", {"text": "text"}),
    "covid_qa/faq_covidbert.csv": ("question_answer", QA),
    "covid_qa/200421_covidQA.json": (
        "squad",
        {"question": "question", "context": "context", "answers": "answers", "document": "document_id"},
    ),
    "automotive_qa_apqc/apqc_auto.json": ("question_answer", {**QA, "context": "context"}),
    "pubmedqa/ori_pqal.json": ("question_answer", {"question": "QUESTION", "answer": "LONG_ANSWER", "context": "CONTEXTS"}),
    "mts_dialog/MTS-Dialog-TrainingSet.csv": ("prompt_completion", {"prompt": "dialogue", "completion": "section_text"}),
    "mts_dialog/MTS-Dialog-ValidationSet.csv": ("prompt_completion", {"prompt": "dialogue", "completion": "section_text"}),
    "legal_plain_summaries/all_v1.json": ("prompt_completion", {"prompt": "original_text", "completion": "reference_summary"}),
    "code_mbpp/mbpp.jsonl": ("prompt_completion", {"prompt": "text", "completion": "code"}),
    "exercism_python/exercises.jsonl": ("prompt_completion", {"prompt": "instructions", "completion": "solution"}),
    "exercism_python/approaches.jsonl": ("text", {"text": "text"}),
    "exercism_python/concepts.jsonl": ("text", {"text": "about"}),
    "us_code_sample/title-11.jsonl": ("text", {"text": "text"}),
    "us_code_sample/title-18.jsonl.xz": ("text", {"text": "text"}),
    "us_code_sample": ("text", {"text": "text"}),
    "ner_biomedical": ("spans", TOKENS),
    "ner_wnut17/wnut17train.conll": ("spans", TOKENS),
    "ner_wnut17/emerging.dev.conll": ("spans", TOKENS),
    "maintie/gold_release.json": ("spans", {"text": "text", "tokens": "tokens", "spans": "entities"}),
    "obd_trouble_codes/obd-trouble-codes.csv": ("prompt_completion", {"prompt": "column_1", "completion": "column_2"}),
    "legalbench_permissive/overruling/train.tsv": ("labelled", {"text": "text", "label": "answer"}),
    "legalbench_permissive/ucc_v_common_law/train.tsv": ("labelled", {"text": "contract", "label": "answer"}),
    "legalbench_permissive/nys_judicial_ethics/train.tsv": ("question_answer", QA),
    "legalbench_permissive/privacy_policy_qa/train.tsv": ("question_answer", {**QA, "context": "text"}),
    "legalbench_permissive/definition_extraction/train.tsv": ("prompt_completion", {"prompt": "text", "completion": "answer"}),
}


@real
@pytest.mark.parametrize("path", EXPECTED)
def test_real_sets_are_guessed(path: str) -> None:
    assert REAL is not None
    if not (REAL / path).exists():
        pytest.skip(f"{path} is not among the data")
    found = guess(read(path, base=REAL))
    assert (found.format, dict(found.columns)) == EXPECTED[path]


@real
def test_every_task_of_legalbench_can_be_guessed() -> None:
    assert REAL is not None
    files = sorted((REAL / "legalbench_permissive").glob("*/train.tsv"))
    if not files:
        pytest.skip("legalbench_permissive is not among the data")
    for file in files:
        found: Examples = examples(read(str(file)))
        assert found.format in ("labelled", "question_answer", "prompt_completion") and not found.problems, file


@real
def test_rows_of_real_csv_agree_with_the_standard_reader() -> None:
    assert REAL is not None
    path = REAL / "mts_dialog/MTS-Dialog-TrainingSet.csv"
    if not path.exists():
        pytest.skip("mts_dialog is not among the data")
    with path.open(encoding="utf-8", newline="") as file:
        expected = [{key: value.replace("\r\n", "\n") for key, value in row.items()} for row in csv.DictReader(file)]
    ours = read(str(path))
    assert [dict(row.values) for row in ours.rows] == expected
    lines = path.read_bytes().decode().split("\n")
    assert all(lines[row.origin.line - 1].startswith(f"{row.values['ID']},") for row in ours.rows if row.origin.line)


@real
def test_lines_of_compressed_real_data_are_true() -> None:
    assert REAL is not None
    path = REAL / "us_code_sample/title-18.jsonl.xz"
    if not path.exists():
        pytest.skip("us_code_sample is not among the data")
    lines = lzma.decompress(path.read_bytes()).split(b"\n")
    for row in read(str(path)).rows[::97]:
        assert json.loads(lines[(row.origin.line or 0) - 1]) == row.values


def test_types_of_the_samples() -> None:
    """What each format gives, once more in plain sight."""
    kinds = {name: type(examples(table(rows), format=name).examples[0]) for name, rows in SAMPLES.items()}
    dialogs = dict.fromkeys(("messages", "sharegpt", "alpaca", "prompt_completion", "question_answer"), Dialog)
    assert kinds == {
        **dialogs,
        "text": Text,
        "labelled": Labelled,
        "spans": Tagged,
        "squad": Answerable,
        "pairs": Pair,
        "rated": Rated,
        "feedback": Pair,
        "label_studio": Labelled,
        "argilla": Labelled,
    }
    tagged = made_of(SAMPLES["spans"][1])
    assert tagged.spans == (Span(0, 3, "PER"), Span(13, 21, "LOC"))
