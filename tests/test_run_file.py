"""Reading, locating and writing TOML: what is written is read back, every value is found on its line, every slip gets a hint."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish import run_file
from burnish.errors import ConfigError
from burnish.run_file_lines import duplicate, line_index, split_pair
from burnish.run_file_write import comment, dotted, key_literal, text_literal, value_literal
from run_files import UNHURRIED

# Control characters, quotes and line ends on purpose; lone surrogates are no text.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', "'''", '"""', "\\", "a\nb", "\r\n", "é\u2028", "# x"]
)
SCALARS = st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8)


def leaves(tree: Any, above: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else []
    found = {above} if above else set()
    for key, item in pairs:
        found |= leaves(item, (*above, key))
    return found


@given(VALUES)
@settings(UNHURRIED)
def test_a_written_value_is_read_back_as_it_was(value: Any) -> None:
    for wide in (False, True):
        back = tomllib.loads(f"value = {value_literal(value, wide=wide)}  {comment('from: you (a' + chr(10) + 'b.toml:1)')}")[
            "value"
        ]
        assert back == value and repr(back) == repr(value)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
@settings(UNHURRIED)
def test_every_key_and_element_is_found(tree: dict[str, Any]) -> None:
    text = "".join(f"{key_literal(key)} = {value_literal(value, wide=True)} # comment = [\n" for key, value in tree.items())
    assert tomllib.loads(text) == tree
    assert set(line_index(text)) == leaves(tree)


@given(st.lists(TEXTS, min_size=1, max_size=4))
@settings(UNHURRIED)
def test_a_dotted_name_comes_apart_again(path: list[str]) -> None:
    assert split_pair(f"{dotted(path)}=a = b") == (tuple(path), "a = b")


def test_lines_of_every_form_of_toml() -> None:
    text = """# first line
a.b = 1
"quoted key" = '''
c = 2
'''
[table]
list = [
  "x", # ]
  {name = "y", deep = [1, 2]},
]
when = 1979-05-27 07:32:00
[[rows]]
x = 1
[[rows]]
x = 2
[rows.inner]
z = ""
[table.sub]
last = \"\"\"a "quoted" word
[no] = table\"\"\"
end = 1
"""
    tree, lines = tomllib.loads(text), line_index(text)
    assert set(lines) == leaves(tree)
    expected = {
        ("a", "b"): 2,
        ("quoted key",): 3,
        ("table", "list"): 7,
        ("table", "list", 0): 8,
        ("table", "list", 1, "deep", 1): 9,
        ("table", "when"): 11,
        ("rows", 1, "x"): 15,
        ("rows", 1, "inner", "z"): 17,
        ("table", "sub", "last"): 19,
        ("table", "sub", "end"): 21,
    }
    assert {path: lines[path] for path in expected} == expected


@pytest.mark.parametrize(
    ("text", "name", "first", "second"),
    [
        ("a = 1\nb = 2\na = 3", "a", 1, 3),
        ("[t]\nx = 1\n\n[t]\ny = 2", "t", 1, 4),
        ("a.b = 1\n[a]\nc = 1", "a", 1, 2),
        ("x = {a = 1, a = 2}", "x.a", 1, 1),
        ("[a]\nb = 1\nb.c = 2", "a.b", 2, 3),
        ("a = {b = 1}\n[a.c]\nx = 1", "a", 1, 2),
        ("a = [1]\n[[a]]\nx = 1", "a", 1, 2),
        ("[[a]]\nx = 1\n[a]\ny = 1", "a", 1, 3),
    ],
)
def test_a_duplicate_names_both_lines(tmp_path: Path, text: str, name: str, first: int, second: int) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
    message = failure(tmp_path, text)
    assert f"run.toml:{second}: '{name}' is defined twice, first on line {first}" in message


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
@settings(UNHURRIED)
def test_no_duplicate_is_seen_where_there_is_none(tree: dict[str, Any]) -> None:
    assert duplicate("".join(f"{key_literal(key)} = {value_literal(value, wide=True)}\n" for key, value in tree.items())) is None


def failure(folder: Path, text: str | bytes) -> str:
    path = folder / "run.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        run_file.read(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("a = .5", "Write a = 0.5"),
        ("a = 5.", "Write a = 5.0"),
        ("a = -.5e3  # half", "Write a = -0.5e3"),
        ("a = 07", "Write a = 7 (no leading zeros)"),
        ("a = three", 'Text stands in quotes: a = "three"'),
        ("a = data/rows.jsonl", 'a = "data/rows.jsonl"'),
        ("a = no", "Write a = false"),
        ("a = True", "Write a = true"),
        ("a = None", "leave the line out"),
        ("a =", "A value is missing"),
        ("a: 3", "Write a = 3"),
        ('a = "C:\\data"', "single quotes"),
        ('a = "open', "does not end with"),
        ("a = “x”", "straight quotes"),
        ("a = [1 2]", "divided by commas"),
        ("a = {b = 1,", "on one line"),
        ("[a", "[name]"),
        ("learning rate = 1", 'Quote a key with unusual characters: "learning rate" = 1'),
        ('{"a": 1}', "looks like JSON"),
    ],
)
def test_a_syntax_error_says_how_to_write_it(tmp_path: Path, line: str, hint: str) -> None:
    message = failure(tmp_path, f"# run\nz = 1\n{line}\n" if not line.startswith("{") else line)
    assert hint in message and f"run.toml:{1 if line.startswith('{') else 3}: not valid TOML" in message
    assert line in message, "the line itself is shown"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "run.toml:2: byte 6 is not valid UTF-8" in failure(tmp_path, b"a = 1\n\xff\n")
    assert "1,000,001 bytes" in failure(tmp_path, b"#" * 1_000_001)
    assert "nested too deeply" in failure(tmp_path, "a = " + "[" * 50_000)
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    file = run_file.read(tmp_path / "run.toml")
    assert file.tree == {"a": 1, "b": 2} and file.line(("b",)) == 2, "a byte order mark and Windows line ends are fine"
    with pytest.raises(ConfigError, match=r"is a folder; a run file was expected\. Did you mean '.*run\.toml'"):
        run_file.read(tmp_path)


def test_a_missing_file_names_near_ones(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text("")
    with pytest.raises(ConfigError, match=r"Did you mean '.*demo\.toml'"):
        run_file.read(tmp_path / "dmeo.toml")
    with pytest.raises(ConfigError, match="no folder"):
        run_file.read(tmp_path / "none" / "run.toml")


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("train.steps=200", ("train", "steps"), 200),
        ("train.learning_rate=1e-4", ("train", "learning_rate"), 1e-4),
        ("train.packing=true", ("train", "packing"), True),
        ("model=owner/name", ("model",), "owner/name"),
        ('score=["bleu", "chrf"]', ("score",), ["bleu", "chrf"]),
        ('data.columns."my key"=x', ("data", "columns", "my key"), "x"),
        ("data.prompt=a=b # c", ("data", "prompt"), "a=b # c"),
        ("data.prompt=5 # c", ("data", "prompt"), "5 # c"),
        ("data.prompt=1]\nmodel=[2", ("data", "prompt"), "1]\nmodel=[2"),
        ("data.prompt=1\nmodel=2", ("data", "prompt"), "1\nmodel=2"),
        ("data.prompt=", ("data", "prompt"), ""),
        ("data.prompt=1, 2", ("data", "prompt"), "1, 2"),
        ("objective={name='dpo', beta=0.2}", ("objective",), {"name": "dpo", "beta": 0.2}),
    ],
)
def test_an_override_is_a_path_and_a_value(text: str, path: tuple[str, ...], value: Any) -> None:
    override = run_file.parse_override(text)
    assert (override.path, override.value) == (path, value) and type(override.value) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans())
@settings(UNHURRIED)
def test_an_override_reads_what_is_written(value: float) -> None:
    assert run_file.parse_override(f"a.b={value_literal(value)}").value == value


@pytest.mark.parametrize(
    "text", ["train.steps", "=3", "train..steps=3", "[train]=3", "a#b=3", "train.steps\nmodel=3", "--train.steps=4"]
)
def test_what_is_no_override_says_so(text: str) -> None:
    with pytest.raises(ConfigError, match="command line: ") as caught:
        run_file.parse_override(text)
    assert "Traceback" not in str(caught.value)
    if text.startswith("--"):
        assert "write train.steps=4" in str(caught.value)


def test_what_toml_cannot_say_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        value_literal([None])
    with pytest.raises(ConfigError, match="not valid UTF-8"):
        text_literal("\udcff")
    assert math.copysign(1, tomllib.loads(f"a = {value_literal(-0.0)}")["a"]) == -1
