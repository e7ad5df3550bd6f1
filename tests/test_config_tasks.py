"""Several tasks in a run file: by name, with what the run says as the default, and every problem told under the task's own name."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish import config
from burnish.errors import ConfigError
from run_files import load, run_toml

TWO = """
[data]
max_length = 99
dev_share = 0.0

[objective]
name = "dpo"
beta = 0.3

[[task]]
name = "teams"
data = "tickets.jsonl"
objective = "sft"

[[task]]
name = "pairs"
weight = 0.5
score = "accuracy"
[task.data]
source = ["a.jsonl", "b.jsonl"]
max_length = 20
test = "c.jsonl"
"""


def test_a_task_takes_over_what_the_run_says_and_it_does_not(tmp_path: Path) -> None:
    run = load(run_toml(tmp_path, TWO))
    teams, pairs = (run.config.of_task(name) for name in ("teams", "pairs"))
    assert run.config.task_names == ("teams", "pairs")
    assert (teams.data.max_length, pairs.data.max_length) == (99, 20)
    assert (teams.objective.name, pairs.objective.name, pairs.objective.options["beta"]) == ("sft", "dpo", 0.3)
    assert [source.source for source in pairs.data.sources] == ["a.jsonl", "b.jsonl"]
    assert teams.data.dev_share == pairs.data.dev_share == 0.0 and pairs.data.test_share == 0.0
    assert run.config.task["pairs"].weight == 0.5
    assert run.origins["task.teams.data.max_length"] == "you (run.toml:3)"
    assert run.origins["task.pairs.weight"] == "you (run.toml:17)"


def test_a_run_without_tasks_has_one_that_is_the_run_itself(tmp_path: Path) -> None:
    run = load(run_toml(tmp_path, 'data = "a.jsonl"'))
    assert run.config.task_names == ("main",) and run.config.of_task("main") is run.config


def test_a_task_goes_by_its_name_on_the_command_line(tmp_path: Path) -> None:
    run = load(run_toml(tmp_path, TWO), "task.teams.weight=2", "task.pairs.objective.beta=0.9", "task.teams.data=other.jsonl")
    assert run.config.task["teams"].weight == 2.0
    assert run.config.task["pairs"].objective.options["beta"] == 0.9
    assert [source.source for source in run.config.task["teams"].data.sources] == [str(Path.cwd() / "other.jsonl")]


def test_options_of_an_objective_that_a_task_no_longer_has_are_left_out_and_said(tmp_path: Path) -> None:
    text = TWO.replace('score = "accuracy"', 'score = "accuracy"\nobjective = {name = "dpo", beta = 0.7}')
    run = load(run_toml(tmp_path, text), "task.pairs.objective=sft")
    assert run.config.task["pairs"].objective.options == {}
    assert any("task.pairs.objective.beta = 0.7" in note for note in run.notes)


def test_what_is_written_down_gives_the_same_run(tmp_path: Path) -> None:
    run = load(run_toml(tmp_path, TWO))
    written = tmp_path / "elsewhere"
    written.mkdir()
    again = load(run_toml(written, config.dump(run, folder=written)))
    assert config.difference(run, again, free={}) == []
    changed = config.with_value(again, "task.teams.score", ["bleu"], origin="the data")
    assert config.difference(run, changed, free={}) == ['task.teams.score: [] -> ["bleu"]']
    assert changed.origins["task.teams.score"] == "the data"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[task]]\ndata = "a.jsonl"', "each [[task]] needs a name"),
        ('[[task]]\nname = "a/b"\ndata = "a.jsonl"', "each [[task]] needs a name"),
        ('[[task]]\nname = "a"\ndata = "a.jsonl"\n[[task]]\nname = "a"\ndata = "b.jsonl"', "two tasks are called 'a'"),
        ('data = "a.jsonl"\n[[task]]\nname = "a"\ndata = "b.jsonl"', "each task names its own rows"),
        ('[[task]]\nname = "a"', "task.a.data.source: nothing to learn from"),
        ('[[task]]\nname = "a"\ndata = {source = "x", format = "labeled"}', "task.a.data.format"),
        ('[[task]]\nname = "a"\ndata = "x"\nscore = "acuracy"', "task.a.score"),
        ('[[task]]\nname = "a"\ndata = "x"\nobjective = {name = "dpo", betta = 1.0}', "task.a.objective.betta"),
        ('[[task]]\nname = "a"\ndata = {source = "x", dev_share = 0.5, test_share = 0.5}', "task.a.data.test_share"),
        (
            '[[task]]\nname = "a"\ndata = "x"\nshare = 1.0\n[[task]]\nname = "b"\ndata = "y"',
            "task.a.share: is set here and not for b",
        ),
        ('[[task]]\nname = "a"\ndata = "x"\nwieght = 1.0', "task.a.wieght"),
    ],
)
def test_problems_are_told_under_the_task_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(run_toml(tmp_path, text))
    assert says in str(caught.value)
    assert "run.toml:" in str(caught.value)


def test_all_problems_of_all_tasks_come_at_once(tmp_path: Path) -> None:
    text = '[[task]]\nname = "a"\nscore = "acuracy"\n[[task]]\nname = "b"\ndata = "y"\nweight = -1.0'
    with pytest.raises(ConfigError) as caught:
        load(run_toml(tmp_path, text))
    assert all(name in str(caught.value) for name in ("task.a.score", "task.a.data.source", "task.b.weight"))
