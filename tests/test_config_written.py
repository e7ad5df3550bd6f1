"""Runs written down: they load again to the same run, from any folder, and two of them are compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish import config
from burnish.errors import ConfigError
from run_files import UNHURRIED, load, run_toml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10) | st.sampled_from(
    ['say "x"', "a\nb", "tab\t", "\\", "'''", '"""', "é# = ["]
)
NAMES = TEXTS.filter(bool)
JSON = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
SOURCE = st.fixed_dictionaries(
    {"source": NAMES},
    optional={
        "format": st.sampled_from(["messages", "auto"]),
        "columns": st.dictionaries(TEXTS, TEXTS, max_size=2),
        "weight": st.floats(0.01, 9),
    },
)
DATA = st.fixed_dictionaries(
    {"source": NAMES | st.lists(NAMES | SOURCE, min_size=1, max_size=3)},
    optional={
        "columns": st.dictionaries(TEXTS, TEXTS, max_size=3),
        "prompt": TEXTS,
        "system": TEXTS,
        "limit": st.integers(1, 10**12),
        "dev": NAMES,
        "test_share": st.floats(0, 0.5),
        "repair": st.booleans(),
    },
)
TRAIN = st.fixed_dictionaries(
    {}, optional={"learning_rate": st.floats(1e-12, 1e3), "warmup": st.floats(0, 1), "packing": st.booleans()}
)
RUNS = st.fixed_dictionaries(
    {"data": DATA},
    optional={
        "model": NAMES,
        "output": NAMES,
        "seed": st.integers(0, 2**63 - 1),
        "score": st.lists(st.sampled_from(["accuracy", "bleu"]), unique=True),
        "train": st.one_of(
            TRAIN, st.fixed_dictionaries({"steps": st.integers(1, 10**9)}), st.fixed_dictionaries({"epochs": st.integers(1, 9)})
        ),
        "technique": st.fixed_dictionaries(
            {}, optional={"rank": st.integers(), "modules": st.lists(TEXTS, max_size=3), "notes": JSON}
        ),
        "objective": st.just("sft") | st.fixed_dictionaries({"name": st.just("dpo")}, optional={"beta": st.floats(1e-9, 1)}),
    },
)


@given(RUNS)
@settings(UNHURRIED, max_examples=120)
def test_a_written_run_loads_again_to_the_same_run(tmp_path: Path, tree: dict[str, Any]) -> None:
    first = load(None, values=tree)
    text = config.dump(first)
    again = load(run_toml(tmp_path, text))
    assert again.config == first.config
    assert all("# from: " in line for line in text.splitlines() if re.match(r"[a-z_0-9]+ = [^\[]", line))
    assert config.dump(again).count("# from: ") == text.count("# from: ")
    assert config.difference(first, first, free={}) == []


def test_a_run_written_elsewhere_still_finds_its_data(tmp_path: Path) -> None:
    """Tuning the run file of a run directory repeats the run, though it lies in another folder than the first file."""
    first = load(
        run_toml(tmp_path / "job", 'data = {source = ["a.jsonl", "public:x"], test = "/t.jsonl"}\nmodel = "./m"\noutput = "o"')
    )
    text = config.dump(first, folder=tmp_path / "runs" / "job")
    again = load(run_toml(tmp_path / "runs" / "job", text))
    assert [item.source for item in again.config.data.sources] == ["../../job/a.jsonl", "public:x"]
    assert config.model_reference(again) == config.model_reference(first)
    assert config.difference(first, again, free={}) == [], "paths are compared by where they lead"


def test_a_written_run_reads_well(tmp_path: Path) -> None:
    text = config.dump(
        load(run_toml(tmp_path, '[data]\nsource = ["a", {source = "b", weight = 2}]\ncolumns = {text = "x"}'), "seed=4")
    )
    assert "seed = 4  # from: you (command line)\n" in text
    assert 'source = [\n  {source = "b", weight = 2.0},\n' not in text
    assert (
        'source = [\n  "a",\n  {source = "b", weight = 2.0},\n]  # from: you (run.toml:2)\ndev_share = 0.1  # from: default\n'
        in text
    )
    assert 'columns.text = "x"  # from: you (run.toml:3)\n' in text
    assert "learning_rate" not in text, "what is not set is not written"


def test_values_chosen_later_carry_their_origin(tmp_path: Path) -> None:
    run = load(run_toml(tmp_path, 'data = "x"'))
    run = config.with_value(run, "data.max_length", 512, origin="the model")
    run = config.with_value(run, "score", ["accuracy"], origin="the data")
    run = config.with_value(run, "technique.rank", 2, origin="the data")
    run = config.with_value(run, "train.steps", 40, origin="the data")
    run = config.with_value(run, "data.columns", {"text": "t"}, origin="the data")
    assert (run.config.data.max_length, run.config.score, run.config.technique.options["rank"]) == (512, ("accuracy",), 2)
    assert (run.config.train.steps, run.config.train.epochs) == (40, None)
    assert "max_length = 512  # from: the model\n" in config.dump(run) and 'columns.text = "t"  # from: the data' in config.dump(
        run
    )
    assert load(run_toml(tmp_path, config.dump(run))).config == run.config
    with pytest.raises(ConfigError, match=r"train\.batch: 0, from the data, does not fit"):
        config.with_value(run, "train.batch", 0, origin="the data")
    with pytest.raises(AssertionError):
        config.with_value(run, "train.bach", 1, origin="the data")


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (("train.batch=8",), ["train.batch: 16 -> 8"]),
        (("output=other", "save.every=5", "save.keep=3", "log.every=1"), []),
        (("train.steps=30",), ["train.steps: 20 -> 30"]),
        (("train.steps=30", "train.schedule=constant"), ["train.steps: 20 -> 30", 'train.schedule: "cosine" -> "constant"']),
        (("data.limit=7", "technique.rank=2"), ["data.limit: not set -> 7", "technique.rank: 8 -> 2"]),
        (('data.source=["/a", "/b"]',), ['data.source: "/x" -> ["/a", "/b"]']),
        (("train.epochs=1",), ["train.steps: 20 -> not set", "train.epochs: not set -> 1"]),
    ],
)
def test_a_resume_names_what_changed(tmp_path: Path, overrides: tuple[str, ...], changes: list[str]) -> None:
    """Resuming that is not exact (pain 16): nothing that changes numbers changes unnoticed."""
    path = run_toml(tmp_path, 'data = "/x"\ntrain.steps = 20')
    assert config.difference(load(path), load(path, *overrides)) == changes


def test_steps_are_free_under_a_constant_schedule_only(tmp_path: Path) -> None:
    path = run_toml(tmp_path, 'data = "x"\n[train]\nsteps = 20\nschedule = "constant"')
    assert config.difference(load(path), load(path, "train.steps=40")) == []
    assert config.difference(load(path), load(path, "train.steps=40"), free={}) == ["train.steps: 20 -> 40"]


def test_a_run_cannot_be_changed_after_loading(tmp_path: Path) -> None:
    run = load(run_toml(tmp_path, 'data = "x"'))
    with pytest.raises(Exception, match="frozen"):
        run.config.seed = 3  # pyright: ignore[reportAttributeAccessIssue]
