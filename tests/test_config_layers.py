"""Layers of a run: who decides a value, where it says it came from, and options of functions chosen by name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from burnish import config, config_options
from burnish.errors import ConfigError
from run_files import load, problems, run_toml

if TYPE_CHECKING:
    from torch import Tensor as Unseen


def test_a_minimal_run_is_complete(tmp_path: Path) -> None:
    run = load(run_toml(tmp_path / "intents", 'data = "rows.jsonl"'))
    assert run.config.output == "runs/intents" and run.config.train.epochs == 3 and run.config.train.steps is None
    assert run.config.data.sources[0].source == "rows.jsonl" and run.base == (tmp_path / "intents").resolve()
    assert run.config.technique.options == {"rank": 8, "alpha": 16.0, "modules": ("all",)}
    assert set(run.origins.values()) == {"default", "you (run.toml:1)"}
    assert load(run_toml(tmp_path, 'data = "x"', "banking77.toml")).config.output == "runs/banking77"


def test_every_value_says_where_it_comes_from(tmp_path: Path) -> None:
    """Irreproducible runs (pain 25): which of four places decided a value is never a guess."""
    path = run_toml(tmp_path, 'model = "tiny"\n[data]\nsource = "x"\ncolumns.text = "body"\n[train]\nbatch = 4\n')
    defaults = {
        "train": {"batch": 2, "steps": 7},
        "technique": {"name": "lora", "rank": 4},
        "data": {"columns": {"label": "class"}},
    }
    run = load(path, "seed=3", "train.epochs=1", defaults=defaults, values={"threads": 1, "evaluate": {"limit": None}})
    said = {
        "model": "you (run.toml:1)",
        "train.batch": "you (run.toml:6)",
        "technique.rank": "the use case",
        "technique.alpha": "default",
        "data.columns.text": "you (run.toml:4)",
        "data.columns.label": "the use case",
        "seed": "you (command line)",
        "train.epochs": "you (command line)",
        "threads": "you (Python)",
        "evaluate.limit": "default",
    }
    assert {name: run.origins[name] for name in said} == said
    assert (run.config.train.steps, run.config.train.epochs, run.config.train.batch) == (None, 1, 4)


def test_steps_on_the_command_line_replace_epochs_of_the_file_and_the_other_way_round(tmp_path: Path) -> None:
    path = run_toml(tmp_path, 'data = "x"\ntrain.epochs = 5')
    assert load(path, "train.steps=9").config.train.model_dump(include={"steps", "epochs"}) == {"steps": 9, "epochs": None}
    path = run_toml(tmp_path, 'data = "x"\ntrain.steps = 5')
    assert load(path, "train.epochs=2").config.train.model_dump(include={"steps", "epochs"}) == {"steps": None, "epochs": 2}


def test_an_evaluation_set_of_the_users_own_is_never_ignored(tmp_path: Path) -> None:
    """A pain below the line, an own evaluation set that is ignored: own rows replace the share, visibly."""
    path = run_toml(tmp_path, '[data]\nsource = "x"\ntest = "t.jsonl"\n')
    run = load(path)
    assert run.config.data.test_share == 0 and run.origins["data.test_share"] == "data.test" and run.config.data.dev_share == 0.1
    assert load(path, "data.test_share=0.2").config.data.test is None, "the command line replaces the other way of saying it"
    (said,) = problems(run_toml(tmp_path, '[data]\nsource = "x"\ntest = "t.jsonl"\ntest_share = 0.2\n'))
    assert "exclude each other" in said


def test_without_dev_rows_no_best_checkpoint_is_pretended(tmp_path: Path) -> None:
    run = load(run_toml(tmp_path, 'data = {source = "x", dev_share = 0}'))
    assert run.config.evaluate.best is False and run.origins["evaluate.best"] == "the data"


def test_another_technique_takes_no_options_of_the_one_before_and_says_so(tmp_path: Path) -> None:
    path = run_toml(tmp_path, 'data = "x"\n[technique]\nname = "lora"\nrank = 4\n')
    run = load(path, "technique.name=full")
    assert run.config.technique.options == {} and run.config.technique.name == "full"
    assert run.notes == ("technique.rank = 4 (you (run.toml:4)) is left out: it belongs to another technique than 'full'",)
    assert load(path, "technique.name=lora").config.technique.options["rank"] == 4, "the same name keeps them"
    assert load(path, "technique=full", "technique.name=full").notes == run.notes
    assert "technique.rank: unknown key" in problems(path, "technique.name=full", "technique.rank=4")[0]


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("output=2024", "output", "2024"),
        ("model=true", "model", "true"),
        ("data.prompt=5", "data.prompt", "5"),
        ("data.columns.text=7", "data.columns.text", "7"),
        ("objective=dpo", "objective.name", "dpo"),
        ("data=y.jsonl", "data.source", "y.jsonl"),
        ("score=bleu", "score", ("bleu",)),
    ],
)
def test_an_override_needs_no_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, name: str, value: object
) -> None:
    monkeypatch.chdir(tmp_path)
    run = load(run_toml(tmp_path, 'data = "x"'), override)
    found: Any = run.config
    for part in name.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    if name == "data.source":
        found = found[0].source
    if name == "model":
        found = found.name
    assert found == value and run.origins[name] == "you (command line)"


def test_text_in_options_needs_no_quotes_either(tmp_path: Path) -> None:
    run = load(run_toml(tmp_path, 'data = "x"\nobjective = "dpo"'), "objective.reference=7")
    assert run.config.objective.options["reference"] == "7"


def test_paths_belong_to_who_wrote_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run file a path is meant from that file, on the command line from the current folder; names are left alone."""
    monkeypatch.chdir(tmp_path)
    path = run_toml(tmp_path / "job", 'data = {source = ["a.jsonl", "public:banking77"], dev = "d.jsonl"}\nmodel = "../base.toml"')
    run = load(path, "data.test=t.jsonl")
    assert [item.source for item in run.config.data.sources] == ["a.jsonl", "public:banking77"]
    assert run.config.data.test == str(tmp_path / "t.jsonl") and run.config.data.dev == "d.jsonl"
    assert config.model_reference(run) == str((tmp_path / "base.toml").resolve())
    assert config.model_reference(load(path, "model=owner/name")) == "owner/name"
    assert config.model_reference(load(path, "model=./m")) == str(tmp_path / "m")


def test_sources_inherit_format_and_columns() -> None:
    data = {
        "source": ["a", {"source": "b", "format": "messages", "columns": {}}],
        "format": "labelled",
        "columns": {"text": "body"},
    }
    first, second = load(None, values={"data": data}).config.data.sources
    assert (first.format, first.columns, first.weight) == ("labelled", {"text": "body"}, 1.0)
    assert (second.format, second.columns) == ("messages", {})


# ----------------------------------------------------------------------------------------------------------- functions chosen by name


def test_code_of_the_users_own_is_found_beside_the_run_file(tmp_path: Path) -> None:
    (tmp_path / "my_losses_of_test.py").write_text("def smooth(outputs, batch, *, amount: float = 0.5, **more): ...\nnumber = 3\n")
    path = run_toml(
        tmp_path, 'data = "x"\nobjective = {name = "my_losses_of_test:smooth", extra = [1]}\nscore = ["my_losses_of_test:smooth"]'
    )
    before = list(sys.path)
    assert load(path).config.objective.options == {"amount": 0.5, "extra": [1]}
    assert sys.path == before
    assert (
        "has no function 'smoth'. Did you mean 'smooth'?"
        in problems(path, "objective.name=my_losses_of_test:smoth", "score=bleu")[0]
    )
    assert "no module named 'my_loses'" in problems(path, "objective.name=my_loses:smooth")[0]
    assert "form module:function" in problems(path, "objective.name=a:b:c")[0]
    (tmp_path / "broken_of_test.py").write_text("1 / 0")
    assert "ZeroDivisionError" in problems(path, "objective.name=broken_of_test:f")[0]


def test_options_are_read_from_the_signature_alone() -> None:
    def names_like_methods(
        network: Unseen, width: int, depth: int = 2, *, copy: bool = False, schema: Sequence[str] = ()
    ) -> None: ...

    known = config_options.signature(names_like_methods)
    assert list(known.names) == ["depth", "copy", "schema"], "what has no default is not an option, and its type is not looked at"
    assert config_options.validate(known, {"copy": True, "schema": ["a"]}) == ({"depth": 2, "copy": True, "schema": ["a"]}, None)

    def wrong_default(network: object, *, device: object = object()) -> None: ...

    with pytest.raises(ConfigError, match="cannot be written to a run file"):
        config_options.signature(wrong_default)
