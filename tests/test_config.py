"""Runs: the frozen list of fields, and every problem in one go with its place and its repair."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish import config, config_checks
from burnish.config_problems import ELSEWHERE, unknown_key
from burnish.config_schema import RunConfig, TaskConfig, descriptions
from burnish.errors import ConfigError
from run_files import UNHURRIED, load, problems, run_toml

FIELDS = [
    "model.name",
    "model.init",
    "model.hidden",
    "model.layers",
    "model.heads",
    "model.key_heads",
    "model.feed_forward",
    "model.context",
    "model.image",
    "model.patch",
    "model.rope_base",
    "model.vocabulary",
    "model.tokenizer",
    "model.add_terms",
    "output",
    "seed",
    "dtype",
    "threads",
    "score",
    "data.source",
    "data.dev",
    "data.test",
    "data.dev_share",
    "data.test_share",
    "data.format",
    "data.columns",
    "data.prompt",
    "data.system",
    "data.learn",
    "data.max_length",
    "data.long_rows",
    "data.repair",
    "data.limit",
    "data.near_duplicates",
    "objective.name",
    "technique.name",
    "task.NAME.data",
    "task.NAME.objective",
    "task.NAME.score",
    "task.NAME.share",
    "task.NAME.weight",
    "task.NAME.single",
    "teacher",
    "rollout.reward",
    "rollout.samples",
    "rollout.temperature",
    "rollout.max_tokens",
    "rollout.soft_limit",
    "rollout.inner",
    "rollout.kl",
    "rollout.kl_target",
    "rollout.discount",
    "rollout.decay",
    "train.steps",
    "train.epochs",
    "train.batch",
    "train.tokens",
    "train.packing",
    "train.temperature",
    "train.learning_rate",
    "train.schedule",
    "train.warmup",
    "train.optimizer",
    "train.weight_decay",
    "train.beta2",
    "train.clip",
    "train.compile",
    "train.fast",
    "train.recompute",
    "train.reuse",
    "train.average",
    "save.every",
    "save.keep",
    "evaluate.every",
    "evaluate.limit",
    "evaluate.patience",
    "evaluate.best",
    "evaluate.max_tokens",
    "evaluate.batch",
    "evaluate.baseline",
    "evaluate.forgetting",
    "log.every",
    "log.tensorboard",
    "decide.documents",
    "decide.arms",
    "decide.margin",
    "decide.trials",
    "decide.examples",
    "decide.passages",
    "decide.passage_size",
    "decide.instructions",
    "decide.embedder",
    "decide.train_rows",
    "decide.dev_rows",
    "decide.test_rows",
    "decide.seeds",
    "decide.paraphrases",
    "decide.probe_rows",
    "decide.data_need",
    "decide.facts",
    "decide.queries",
    "decide.updates",
    "decide.price_hour",
    "decide.price_label",
    "decide.latency_limit",
    "decide.forgetting_limit",
]


def test_the_fields_are_these_and_a_new_one_is_a_decision() -> None:
    assert list(descriptions()) == FIELDS
    assert all(descriptions().values()), "every field says what it is for"
    assert set(ELSEWHERE.values()) <= set(FIELDS)


def test_the_schema_is_json_and_refuses_unknown_keys() -> None:
    schema = config.schema()
    assert set(schema["properties"]) == {name.split(".")[0] for name in FIELDS}
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["TrainConfig"]["properties"]["batch"]["description"] == descriptions()["train.batch"]


def test_importing_the_configuration_does_not_import_torch() -> None:
    code = "import burnish.config, sys; assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(Path(config.__file__).parents[1])})


# ------------------------------------------------------------------------------------------------------------- problems, all at once


def test_golden_messages_all_at_once_with_file_and_line(tmp_path: Path) -> None:
    """The three mistakes that the field's tools report one at a time, with many more: typo, wrong type, out of range."""
    path = run_toml(
        tmp_path,
        """learning_rate = 1e-4
score = ["acuracy", "bleu"]
[data]
source = [
  "a.jsonl",
  {source = "b.jsonl", weight = -1, formt = "x"},
]
format = "labeled"
columns = {label = 3}
[objective]
name = "dpo"
beta = "0.1"
kind = "sigmod"
gama = 1
[trian]
a = 1
[train]
lerning_rate = 3
epochs = "three"
batch = -2
tokens = 3.0
warmup = 100
clip = nan
packing = "true"
schedule = "cosin"
every = 4
weight_decay = 2020-01-01
[technique]
name = "lorra"
""",
    )
    assert problems(path, "train.epocs=3", "seed=x", "data.limit=0", "foo") == [
        "run.toml:1: learning_rate: unknown key. Did you mean 'train.learning_rate'?",
        "run.toml:2: score.0: no score is called 'acuracy'. Did you mean 'accuracy'?",
        "run.toml:6: data.source.1.formt: unknown key. Did you mean 'format'?",
        "run.toml:6: data.source.1.weight: a number greater than 0 expected, got -1",
        "run.toml:8: data.format: no format is called 'labeled'. Did you mean 'labelled'?",
        'run.toml:9: data.columns.label: text expected, got 3; write "3" in quotes',
        'run.toml:12: objective.beta: a number expected, got "0.1"; write 0.1 without quotes',
        'run.toml:13: objective.kind: one of "sigmoid", "hinge" expected, got "sigmod". Did you mean \'sigmoid\'?',
        "run.toml:14: objective.gama: unknown key. Allowed here: beta, kind, reference.",
        "run.toml:15: trian: unknown key. Did you mean 'train'?",
        "run.toml:18: train.lerning_rate: unknown key. Did you mean 'learning_rate'?",
        'run.toml:19: train.epochs: a whole number expected, got "three" (passes over the training rows; set this or steps (neither: 3 epochs))',
        "run.toml:20: train.batch: a number of at least 1 expected, got -2 (examples per optimizer step, whatever the memory holds)",
        "run.toml:21: train.tokens: a whole number expected, got 3.0; write 3 "
        "(token budget of a micro-batch; cuts a step into pieces that fit in memory, changes no result)",
        "run.toml:22: train.warmup: a number of at most 1 expected, got 100 (share of the steps over which the learning rate rises)",
        "run.toml:23: train.clip: a finite number is expected, got nan",
        'run.toml:24: train.packing: true or false expected, got "true"; write true without quotes '
        "(lay several sequences into one row, isolated from each other)",
        'run.toml:25: train.schedule: one of "cosine", "linear", "constant" expected, got "cosin". Did you mean \'cosine\'? '
        "(how the learning rate goes on after the warm-up)",
        "run.toml:26: train.every: unknown key. Did you mean 'save.every' or 'evaluate.every' or 'log.every'?",
        "run.toml:27: train.weight_decay: dates and times have no place in a run; quote it if it is text: '2020-01-01'",
        "run.toml:29: technique.name: no technique is called 'lorra'. Did you mean 'lora'?",
        "command line: 'foo': an override is KEY=VALUE, such as train.steps=200",
        "command line: train.epocs: unknown key. Did you mean 'train.epochs'?",
        'command line: seed: a whole number expected, got "x" (every random choice follows from it)',
        "command line: data.limit: a number of at least 1 expected, got 0 (number of rows taken, chosen by the seed)",
    ]


SCHEMA_NAMES = [name for name in FIELDS if name not in ("objective.name", "technique.name")]


@pytest.mark.parametrize("name", [name for name in SCHEMA_NAMES if len(name.split(".")[-1]) > 3])
def test_a_slip_in_a_key_leads_to_the_right_key(name: str) -> None:
    """Leaving out, doubling or swapping any letter: the right key is in the message, in its own table and in a wrong one."""
    *table, leaf = name.split(".")
    known = {full.split(".")[-1] for full in FIELDS} | set(ELSEWHERE)
    for place in range(1, len(leaf)):
        for slip in (
            leaf[:place] + leaf[place + 1 :],
            leaf[:place] + leaf[place] + leaf[place:],
            leaf[: place - 1] + leaf[place] + leaf[place - 1] + leaf[place + 1 :],
        ):
            if slip in known:
                continue
            assert leaf in unknown_key((*table, slip)), slip
    assert repr(name) in unknown_key(("objective", leaf)), "the right key in the wrong table"


@pytest.mark.parametrize(("name", "ours"), ELSEWHERE.items())
def test_the_names_of_other_tools_lead_to_ours(name: str, ours: str) -> None:
    assert ours.split(".")[-1] in unknown_key((name,)) or ours.split(".")[0] in unknown_key((name,))


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("", (), "the run: data.source: nothing to learn from"),
        (
            'data = "x"\ntrain.steps = 3\ntrain.epochs = 2',
            (),
            "train.epochs: train.steps = 3 and train.epochs = 2 exclude each other",
        ),
        ('data = "x"', ("train.steps=3", "train.epochs=2"), "command line: train.epochs: train.steps = 3 and"),
        (
            'data.source = "x"\ndata.dev_share = 0.5\ndata.test_share = 0.5',
            (),
            "run.toml:3: data.test_share: data.dev_share 0.5 and",
        ),
        ('data = "x"\ntrain.warmup = 1.5', (), "run.toml:2: train.warmup: a number of at most 1"),
        ('data = "x"\nevaluate.patience = 3', ("data.dev_share=0",), "run.toml:2: evaluate.patience: 3 needs dev rows"),
        ('data = "x"\nevaluate.best = true', ("data.dev_share=0",), "run.toml:2: evaluate.best: true needs dev rows"),
        ('data = "x"\nevaluate.limit = 9', ("data.dev_share=0",), "run.toml:2: evaluate.limit: 9 needs dev rows"),
        ('data = "x"\nscore = ["bleu", "bleu"]', (), "run.toml:2: score: bleu is named more than once"),
        ('data = "x"\nsave.keep = 1', (), "run.toml:2: save.keep: a number of at least 2"),
        ('data = "x"\ntechnique = "unfinished"', (), "run.toml:2: technique.width: is missing and has no default"),
        ('data = "x"\ntrain = 5', (), "run.toml:2: train: a table expected, got 5"),
        ("data = 5", (), "run.toml:1: data: a table expected, got 5"),
        ("data = []", (), "data.source: nothing to learn from"),
        ('data.source = "x"\ndata.source_2 = "y"', (), "run.toml:2: data.source_2: unknown key. Did you mean 'source'?"),
        ('data = "x"', ("train=5",), "command line: train: a table expected, got 5"),
        ('data = "x"', ("train.steps=3", "train=5"), "command line: train: another override sets a key inside it"),
        ('data = "x"\nmodel = ""', (), "run.toml:2: model.name: text that is not empty expected"),
        (
            'data = "x"\nobjective.name = "dpo"\nobjective.beta = 0',
            (),
            "run.toml:3: objective.beta: a number greater than 0 expected, got 0",
        ),
    ],
)
def test_each_problem_says_where_and_what(tmp_path: Path, text: str, overrides: tuple[str, ...], said: str) -> None:
    (only,) = problems(run_toml(tmp_path, text), *overrides)
    assert said in only


def test_overrides_that_do_not_fit_together_say_so() -> None:
    said = problems(None, "data=x", "train=5", "train.steps=3")
    assert "command line: train.steps: another override makes 'train' a value, not a table" in said


def test_a_field_wrong_by_itself_is_not_reported_twice(tmp_path: Path) -> None:
    path = run_toml(tmp_path, 'data = "x"\ntrain.steps = "many"\ntrain.epochs = 2\n')
    assert len(problems(path)) == 1


@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, "train", "data", "x", "data.columns.a"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
            max_leaves=4,
        ),
        max_size=4,
    )
)
@settings(UNHURRIED, max_examples=150)
def test_any_values_give_a_run_or_a_clear_error(values: dict[str, Any]) -> None:
    """Whatever stands in a run: a valid run or a ConfigError that names a field, never another exception."""
    tree: dict[str, Any] = {}
    for name, value in sorted(values.items(), key=lambda item: item[0].count(".")):
        node = tree
        *above, leaf = name.split(".")
        for part in above:
            node = node.setdefault(part, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[leaf] = value
    try:
        load(None, values=tree)
    except ConfigError as error:
        assert "problem" in str(error) and "Traceback" not in str(error)


FOLLOWS = ("data.source", "output", "train.epochs", "model.name", "model.init", "model.vocabulary")


@pytest.mark.parametrize("name", [name for name in SCHEMA_NAMES if name not in FOLLOWS])
def test_defaults_are_what_a_run_has(name: str) -> None:
    """The default that the schema shows is the one a run gets, unless it follows from others."""
    if name.startswith("task."):
        key = name.rpartition(".")[-1]
        run = load(None, values={"task": [{"name": "a", "data": "x"}]})
        expected = {"data": run.config.task["a"].data}.get(key, getattr(TaskConfig(), key))
        assert getattr(run.config.task["a"], key) == expected
        return
    run = load(None, values={"data": "x", **({"model": {"init": "llama"}} if name.startswith("model.") else {})})
    found: Any = run.config
    for part in name.split("."):
        found = getattr(found, part)
    assert found == config_checks.default_of(name) and run.origins[name] == "default"


def test_a_run_can_be_made_directly_with_short_forms() -> None:
    made = RunConfig.model_validate_json('{"data": ["x", {"source": "y"}], "objective": "dpo", "score": "bleu"}')
    assert [item.source for item in made.data.source] == ["x", "y"] and made.objective.name == "dpo" and made.score == ("bleu",)
