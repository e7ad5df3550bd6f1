"""Options of scores, rewards and formats in a run file: reached, checked against the function, and the same again once written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish import config
from burnish.data.formats import examples
from burnish.data.sources import read
from burnish.errors import ConfigError
from burnish.evaluate import resolve_score
from burnish.prepare import registries
from burnish.run_file_write import value_literal
from burnish.scores import SCORES
from burnish.types import Answer, Expected, Message, Origin, Task, content
from run_files import run_toml


def with_scores(folder: Path, text: str) -> config.Resolved:
    return config.load(run_toml(folder, f'data.source = "rows.jsonl"\n{text}\n'), registries=registries())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('score = [{name = "rouge_l", stem = false}, "accuracy"]', ("rouge_l(stem=false)", "accuracy")),
        ('score = {name = "bleu", tokenize = "char", lowercase = true}', ('bleu(lowercase=true, tokenize="char")',)),
        ('score = "rouge_l( stem = false )"', ("rouge_l(stem=false)",)),
        ('score = {name = "accuracy"}', ("accuracy",)),
    ],
)
def test_a_score_takes_options(said: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    """A table and its text are the same thing, which a written run file gives back, and which computes with the option."""
    found = with_scores(tmp_path, said)
    assert found.config.score == expected
    again = with_scores(tmp_path, "score = " + value_literal(list(found.config.score)))
    assert again.config.score == expected and config.difference(found, again) == []
    assert config.load(run_toml(tmp_path, config.dump(found)), registries=registries()).config.score == expected
    answers, tasks = (
        [Answer("he sings songs")],
        [
            Task(
                messages=(Message("user", content("?")),),
                expected=Expected(texts=("he sang a song",)),
                origin=Origin("rows.jsonl", 1),
            )
        ],
    )
    plain, optional = (score.statistics(answers, tasks) for score in (SCORES["rouge_l"], resolve_score("rouge_l(stem=false)")))
    assert plain.tolist() != optional.tolist() == SCORES["rouge_l"].statistics(answers, tasks, stem=False).tolist()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('score = [{name = "rouge_l", stme = false}]', "score.0: 'rouge_l' has no option 'stme'. Did you mean 'stem'?"),
        ('score = [{name = "rouge_l", stem = "no"}]', "option 'stem' of 'rouge_l': true or false expected, got \"no\""),
        ('score = [{name = "rogue_l", stem = true}]', "Did you mean 'rouge_l'?"),
        ('score = ["json_valid(fenced)"]', "options are written as in"),
        ('score = [{name = "accuracy"}, "accuracy"]', "named more than once"),
        ('score = [{name = "accuracy", top = 1}]', "'accuracy' has no option 'top'. It has none."),
        ("score = [{stem = true}]", "text expected"),
        ('rollout.reward = [{score = {name = "last_number", tolerence = 0.1}}]', "rollout.reward.0.score: 'last_number' has no option"),
        ('rollout.reward = ["exact_mtch"]', "rollout.reward.0.score: no score is called 'exact_mtch'"),
        ('data.format = {name = "feedback", as_ = "worse"}', 'data.format: option \'as_\' of \'feedback\': one of "pairs", "rated", "messages"'),
        ('data.format = {name = "auto", as_ = "rated"}', "auto takes no options"),
    ],
)  # fmt: skip
def test_options_of_scores_rewards_and_formats_are_checked(said: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        with_scores(tmp_path, said)
    assert expected in str(caught.value) and "run.toml:2" in str(caught.value)


def test_rewards_and_formats_take_options(tmp_path: Path) -> None:
    found = with_scores(
        tmp_path, 'rollout.reward = [{score = {name = "last_number", tolerance = 0.1}, weight = 2.0}, "json_valid(fenced=true)"]'
    )
    assert [one.score for one in found.config.rollout.reward] == ["last_number(tolerance=0.1)", "json_valid(fenced=true)"]
    found = with_scores(tmp_path, 'data.format = {name = "labelled", separator = ";"}')
    assert found.config.data.format == 'labelled(separator=";")'
    (tmp_path / "rows.jsonl").write_text('{"text": "it hums", "label": "noise;fan"}\n', encoding="utf-8")
    made = examples(read("rows.jsonl", base=tmp_path), format=found.config.data.format)
    assert made.examples[0].labels == ("noise", "fan") and made.format == "labelled"  # type: ignore[union-attr]
