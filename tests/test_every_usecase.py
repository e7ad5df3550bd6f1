"""Every use case: its folder is complete, its run file is valid, its rows are what the run file says, and a user can edit it."""

from __future__ import annotations

import errno
import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.config_named import parted
from burnish.config_schema import RunConfig
from burnish.data.formats import FORMATS, examples
from burnish.data.sources import read
from burnish.data.split import split
from burnish.errors import ConfigError, DataError, SpaceError, UsageError
from burnish.scores import SCORES
from burnish.techniques import TECHNIQUES
from burnish.types import Labelled
from burnish.usecases import USECASES, UseCase, find, write, write_from_data
from burnish.usecases.run_text import run_text

every_usecase = pytest.mark.parametrize("name", list(USECASES))


def written(name: str, folder: Path) -> tuple[dict, RunConfig]:
    tree = tomllib.loads(write(find(name), folder).read_text("utf-8"))
    return tree, RunConfig.model_validate_json(json.dumps(tree))


@every_usecase
def test_the_folder_holds_run_file_rows_and_readme(name: str, tmp_path: Path):
    folder = tmp_path / "new" / name
    assert write(find(name), folder) == folder / "run.toml"
    assert {path.name for path in folder.iterdir()} == {"run.toml", "README.md", *find(name).samples}
    readme = (folder / "README.md").read_text("utf-8")
    assert f"cd {folder}" in readme and "burnish tune run.toml" in readme and f"runs/{name}" in readme
    for sample in find(name).samples:
        assert f"`{sample}" in readme


@every_usecase
def test_the_run_file_is_valid_and_says_what_the_use_case_says(name: str, tmp_path: Path):
    tree, config = written(name, tmp_path / name)
    usecase = find(name)
    assert usecase.name == name
    assert tree == {"output": f"runs/{name}", **usecase.run}
    assert config.technique.name in TECHNIQUES
    assert config.data.format in FORMATS
    assert {parted(score)[0] for score in config.score} <= set(SCORES) and config.score
    assert config.data.dev_share + config.data.test_share < 0.5
    text = (tmp_path / name / "run.toml").read_text("utf-8")
    for note in usecase.notes.values():
        assert f"# {note}" in text


@every_usecase
def test_every_note_belongs_to_a_value(name: str):
    def has(tree: object, path: list[str]) -> bool:
        return not path or (isinstance(tree, dict) and path[0] in tree and has(tree[path[0]], path[1:]))

    usecase = find(name)
    assert all(has(usecase.run, note.split(".")) for note in usecase.notes)
    assert not any(has(usecase.run, dotted.split(".")) for dotted, _, _ in usecase.unset)


@every_usecase
def test_what_stands_in_comments_is_valid_once_the_mark_is_taken_away(name: str, tmp_path: Path):
    path = write(find(name), tmp_path / name)
    assert find(name).unset
    text = re.sub(r"^# (\w+ = )", r"\1", path.read_text("utf-8"), flags=re.MULTILINE)
    tree = tomllib.loads(text)
    RunConfig.model_validate_json(json.dumps(tree))
    for dotted, value, _ in find(name).unset:
        at = tree
        for part in dotted.split("."):
            at = at[part]
        assert at == value


@every_usecase
def test_the_rows_have_the_columns_that_the_run_file_names(name: str, tmp_path: Path):
    _, config = written(name, tmp_path / name)
    (source,) = config.data.sources
    table = read(source.source, base=tmp_path / name)
    assert not table.problems and not table.warnings
    assert set(config.data.columns.values()) <= set(table.columns)
    made = examples(table, format=config.data.format, columns=config.data.columns)
    assert not made.problems
    assert len(made.examples) == len(table.rows)
    assert all(type(example) is FORMATS[config.data.format].gives for example in made.examples)
    assert ("group" in config.data.columns) == all(example.group is not None for example in made.examples)


@every_usecase
def test_the_split_leaves_rows_on_every_side(name: str, tmp_path: Path):
    _, config = written(name, tmp_path / name)
    table = read(config.data.sources[0].source, base=tmp_path / name)
    made = examples(table, format=config.data.format, columns=config.data.columns).examples
    sides = split(made, dev=config.data.dev_share, test=config.data.test_share, seed=config.seed)
    assert min(len(sides.dev), len(sides.test)) >= 2
    assert len(sides.train) > len(sides.dev) + len(sides.test)
    # An interval is drawn over groups: with one group there is none.
    assert len({made[index].group or index for index in sides.test}) >= 3


def test_support_is_measured_on_200_rows_of_50_groups_that_hold_every_category(tmp_path: Path):
    """User pain 9: an evaluation that shows only a loss. The demo promises a task metric with enough rows behind its interval."""
    _, config = written("support", tmp_path / "support")
    assert config.score[0] == "accuracy" and config.evaluate.baseline
    table = read(config.data.sources[0].source, base=tmp_path / "support")
    made = examples(table, format="labelled", columns=config.data.columns).examples
    for seed in range(5):
        sides = split(made, dev=config.data.dev_share, test=config.data.test_share, seed=seed)
        held_out = [example for example in (made[index] for index in sides.test) if isinstance(example, Labelled)]
        assert len(held_out) >= 200
        assert len({example.group for example in held_out}) >= 50
        assert {example.labels for example in held_out} == {example.labels for example in made if isinstance(example, Labelled)}


def test_a_folder_in_use_is_refused_and_left_as_it_is(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match=r"not empty \(mine.txt\): nothing was written"):
        write(find("chat"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UsageError, match="is a file"):
        write(find("chat"), tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_an_empty_folder_and_the_current_one_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write(find("chat"), Path())
    assert tomllib.loads((folder / "run.toml").read_text())["output"] == "runs/here"
    assert "cd " not in (folder / "README.md").read_text().split("## ")[0]


@pytest.mark.parametrize("number,kind,words", [(errno.EROFS, UsageError, "read-only"), (errno.ENOSPC, SpaceError, "no space")])
def test_a_disk_that_cannot_be_written_is_one_clear_message(
    number: int, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(kind, match=words):
        write(find("chat"), tmp_path / "new")
    assert not (tmp_path / "new/run.toml").exists()


def test_a_place_below_a_file_is_one_clear_message(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="in the way"):
        write(find("chat"), tmp_path / "file" / "new")


def test_an_unknown_use_case_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no use case 'suport'\. Did you mean 'support'"):
        find("suport")


def test_every_use_case_is_registered_under_its_own_name():
    assert all(make().name == name and isinstance(make(), UseCase) for name, make in USECASES.items())
    assert len({make().summary for make in USECASES.values()}) == len(USECASES)


# ------------------------------------------------------------------------------------------------------------------ a user's own rows


def from_data(folder: Path, source: str, **changes: object) -> dict:
    given = {"format": "labelled", "columns": {"text": "my text", "label": "kind"}, "task": "Answer a text with its kind."}
    given |= {"score": ["accuracy"], "why": ["column 'kind' has 3 values in 40 rows: labels"]} | changes
    return tomllib.loads(write_from_data(folder, source=source, **given).read_text("utf-8"))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("folder", ["job", "deep/down/job"])
def test_a_relative_source_is_found_from_the_run_file(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("rows").mkdir()
    Path("rows/my file.csv").write_text("my text,kind\nhello,greeting\n")
    tree = from_data(Path(folder), "rows/my file.csv")
    assert not Path(tree["data"]["source"]).is_absolute()
    assert (Path(folder) / tree["data"]["source"]).read_text().startswith("my text")
    assert RunConfig.model_validate_json(json.dumps(tree)).data.columns == {"text": "my text", "label": "kind"}
    text = Path(folder, "run.toml").read_text()
    assert "# - column 'kind' has 3 values in 40 rows: labels" in text
    assert "# group = " in text
    assert "column 'kind' has 3 values" in Path(folder, "README.md").read_text()


def test_a_relative_source_is_found_through_a_linked_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("my text,kind\n")
    Path("far/away").mkdir(parents=True)
    Path("near").symlink_to("far/away")
    tree = from_data(Path("near/job"), "rows.csv")
    assert (Path("near/job") / tree["data"]["source"]).exists()


@pytest.mark.parametrize("source", ["public:banking77", "hf:someone/rows"])
def test_a_named_source_stays(source: str, tmp_path: Path):
    assert from_data(tmp_path / "job", source)["data"]["source"] == source


def test_an_absolute_source_stays(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_text("my text,kind\n")
    assert from_data(tmp_path / "job", str(path))["data"]["source"] == str(path)


def test_a_source_that_is_not_there_is_named_before_anything_is_written(tmp_path: Path):
    with pytest.raises(DataError, match=r"no file or folder 'nowhere\.csv'"):
        from_data(tmp_path / "job", "nowhere.csv")
    assert not (tmp_path / "job").exists()


def test_what_was_given_is_not_offered_again(tmp_path: Path):
    tree = from_data(tmp_path / "job", "public:x", columns={"text": "t", "label": "l", "group": "g"}, score=[], why=[])
    assert tree["data"]["columns"]["group"] == "g"
    assert "score" not in tree
    assert "# group = " not in (tmp_path / "job/run.toml").read_text()


printable = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
values = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), printable)
keys = printable.filter(bool)


@given(
    run=st.dictionaries(
        keys, st.one_of(values, st.lists(values, max_size=3), st.dictionaries(keys, values, max_size=3)), max_size=5
    ),
    words=st.lists(printable, max_size=3),
)
def test_any_run_is_read_back_whatever_stands_in_its_texts(run: dict, words: list[str]):
    notes = dict(zip(run, words, strict=False))
    assert tomllib.loads(run_text(run, head=words, notes=notes)) == run
