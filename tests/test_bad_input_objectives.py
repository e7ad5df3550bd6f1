"""Data and models that an objective cannot use, through the command line: one clear message, its exit code, nothing half-written.

Rows of another kind, rows that all say the same, marks that do not align, rewards that teach nothing, templates without turns, adapters
for another base. What is wrong with the run is found before weights are read; what only shows while it runs ends it as a failed run.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import runs
from burnish.models import adapt, load_model, save_model
from burnish.objectives import OBJECTIVES
from burnish.techniques import TECHNIQUES
from burnish.types import Answerable, Dialog, Labelled, Pair, Rated, Tagged, Text
from cli_runs import cli, refused, tree, write_labelled, write_rows, write_run
from stub import cpu, make_stub
from test_encoders import make_encoder
from test_every_objective_runs import MADE, asked, pair, tagged

KINDS = {
    "pairs": Pair,
    "thumbs": Rated,
    "labelled": Labelled,
    "tagged": Tagged,
    "asked": Answerable,
    "texts": Text,
    "dialogs": Dialog,
}
"""What the rows of each file are."""

FIRST = {
    "pairs": "colour 0 of the lake",
    "thumbs": "is it 0",
    "labelled": "message 0",
    "tagged": "visit 0 to the lake",
    "asked": "Row 0|colour 0",
    "texts": "The lake number 0",
    "dialogs": "colour 0 of the lake",
}
"""What the first row of each file holds."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stub, an encoder and an adapter for the stub."""
    folder = tmp_path_factory.mktemp("shared")
    make_stub(folder / "stub")
    make_encoder(folder / "encoder")
    model = load_model(str(folder / "stub"), cpu())
    torch.manual_seed(0)
    adapt(model, TECHNIQUES["lora"], {"rank": 2})
    save_model(model, folder / "adapter")
    return folder


@pytest.fixture
def place(shared: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with models and good rows of every kind."""
    for model in ("stub", "encoder"):
        (tmp_path / model).symlink_to(shared / model)
    write_rows(tmp_path / "dialogs.jsonl")
    write_labelled(tmp_path / "labelled.jsonl")
    for kind, row in MADE.items():
        write(tmp_path / f"{kind}.jsonl", [row(number) for number in range(24)])
    yield tmp_path


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


def unusable(place: Path, objective: str, source: str, *parts: str, model: str = "./stub", **changes: Any) -> str:
    """Assert that a run is refused as its user's mistake before weights are read and leaves everything as it was; return the message."""
    settings = {"objective__name": objective, "technique__name": "full", "score": None, "data__source": source, **changes}
    write_run(place, model, **settings)
    before = tree(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            importlib.import_module("burnish.prepare_model"), "load_model", lambda *_, **__: pytest.fail("weights were read first")
        )
        done = cli("tune", "run.toml", folder=place)
    assert tree(place) == before, "something was left behind"
    return refused(done, *parts)


# ------------------------------------------------------------------------------------------------------------------ rows of a kind


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rows_of_another_kind_are_refused_with_what_the_first_one_holds(objective: str, place: Path) -> None:
    """Whatever the objective: which rows they are, where the first stands, what it holds, what would do instead."""
    wrong = [kind for kind, made in KINDS.items() if not issubclass(made, OBJECTIVES[objective].reads)]
    assert wrong, "an objective that reads everything"
    for kind in (wrong[0], wrong[-1]):
        unusable(
            place,
            objective,
            f"{kind}.jsonl",
            rf"objective '{objective}' cannot learn from {KINDS[kind].__name__} rows",
            rf"the first at {kind}\.jsonl:1: .*({FIRST[kind]})",
            "it reads .*burnish ls objectives",
            model="./encoder" if objective == "mlm" else "./stub",
            teacher="./stub" if objective == "distill" else None,
        )


# ------------------------------------------------------------------------------------------------- rows that all say the same thing


@pytest.mark.parametrize("objective", ["dpo", "ipo", "simpo", "orpo", "cpo", "apo", "reward"])
def test_pairs_whose_answers_are_the_same(objective: str, place: Path) -> None:
    source = write(place / "same.jsonl", [pair(number) | {"rejected": pair(number)["chosen"]} for number in range(24)])
    unusable(
        place, objective, source, r"same\.jsonl:1: chosen and rejected are the same; expected two different answers", "24 problems"
    )


def test_pairs_that_are_the_same_as_the_model_reads_them(place: Path, shared: Path) -> None:
    """Two answers that the template trims to one."""
    template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] | trim + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    model = with_template(place, shared, template)
    source = write(place / "trimmed.jsonl", [pair(number) | {"rejected": pair(number)["chosen"] + "  "} for number in range(24)])
    unusable(place, "dpo", source, r"trimmed\.jsonl:1", "the same", "Nothing can be preferred|leave this row out", model=model)


@pytest.mark.parametrize(("objective", "good"), [("kto", True), ("kto", False), ("reward", True)])
def test_answers_that_are_all_rated_alike(objective: str, good: bool, place: Path) -> None:
    rows = [{"prompt": f"is it {number}?", "completion": f"yes {number}", "label": good} for number in range(24)]
    parts = [
        rf"All \d+ rows have the rating {int(good)}",
        r"the first at alike\.jsonl:\d+",
        "none is better",
        "Add rows with other ratings",
    ]
    unusable(place, objective, write(place / "alike.jsonl", rows), *parts)


def test_a_head_with_one_class(place: Path) -> None:
    """Pain 1: training on nothing looks healthy: all labels masked, loss 0.0."""
    rows = [{"text": f"message {number}", "label": "lamp"} for number in range(24)]
    parts = ["have the label 'lamp'", r"the first at one\.jsonl:\d+", "nothing to tell apart", "Add rows with other labels"]
    unusable(place, "classification", write(place / "one.jsonl", rows), *parts)


def test_a_head_with_one_number(place: Path) -> None:
    rows = [{"text": f"message {number}", "number": 3.5} for number in range(24)]
    parts = [r"have the number 3\.5", r"the first at one\.jsonl:\d+", "nothing to tell apart", "Add rows with other numbers"]
    unusable(place, "regression", write(place / "one.jsonl", rows), *parts, data__format="labelled")


def test_texts_without_any_span(place: Path) -> None:
    rows = [{"text": f"message {number}", "spans": []} for number in range(24)]
    parts = ["None of the \\d+ rows marks a span", r"the first at bare\.jsonl:\d+", "Add rows with spans"]
    unusable(place, "ner", write(place / "bare.jsonl", rows), *parts, data__format="spans")


# ----------------------------------------------------------------------------------------------------------- marks that do not align

SPOILED: dict[str, tuple[Callable[[int], dict[str, Any]], list[str]]] = {
    "more tags than tokens": (
        lambda number: {"tokens": ["visit", "the", "lake"], "tags": ["O", "O", "B-place", "O"]},
        ["4", "3", "tags|tokens"],
    ),
    "outside the text": (
        lambda number: {"text": "the lake", "spans": [{"start": 4, "end": 40, "label": "place"}]},
        ["40", "8|text"],
    ),
    "text that is elsewhere": (
        lambda number: {"text": "at the lake", "spans": [{"start": 0, "end": 4, "label": "place", "text": "lake"}]},
        ["'lake'", "7", r"data\.repair = true"],
    ),
    "nothing but space": (
        lambda number: {"text": "at the  lake", "spans": [{"start": 6, "end": 8, "label": "place"}]},
        ["6", "8", "space"],
    ),
    "one type twice at a place": (
        lambda number: {"text": "old mill", "spans": [{"start": 0, "end": 8, "label": "a"}, {"start": 4, "end": 8, "label": "a"}]},
        ["overlap", "join them|type of its own"],
    ),
}


@pytest.mark.parametrize("how", SPOILED)
def test_tags_that_do_not_align(how: str, place: Path) -> None:
    row, parts = SPOILED[how]
    good = [tagged(number) for number in range(20)]
    if "tokens" in row(0):
        good = [{"tokens": ["visit", f"{number}", "lake"], "tags": ["O", "O", "B-place"]} for number in range(20)]
    source = write(place / "spoiled.jsonl", [*good[:7], row(7), *good[7:]])
    shares: dict[str, Any] = {"data__dev_share": 0.0, "data__test_share": 0.0}
    unusable(place, "ner", source, r"spoiled\.jsonl:8", *parts, **shares)


def test_an_answer_that_is_not_where_it_is_said_to_be(place: Path) -> None:
    rows = [asked(number) for number in range(24)]
    rows[6]["answers"] = {"text": ["The boat"], "answer_start": [2]}
    unusable(place, "qa", write(place / "moved.jsonl", rows), r"moved\.jsonl:7", "'The boat'", "data.repair = true")


# ------------------------------------------------------------------------------------------------------------------------ templates


def with_template(place: Path, shared: Path, template: str) -> str:
    """Return the name of a copy of the stub with another chat template."""
    folder = Path(shutil.copytree(shared / "stub", place / "templated"))
    for file in folder.glob("chat_template*"):
        file.unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
    return "./templated"


@pytest.mark.parametrize(("objective", "source"), [("sft", "dialogs.jsonl"), ("dpo", "pairs.jsonl"), ("kto", "thumbs.jsonl")])
def test_a_template_whose_turns_cannot_be_found(objective: str, source: str, place: Path, shared: Path) -> None:
    """No marks of its own, and what it shows of a dialog does not continue what it asks with (pain 7)."""
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '?' }}{% endif %}"
    parts = [rf"{source}:\d+", "template does not continue its own prompt", "Use a model whose template"]
    unusable(place, objective, source, *parts, model=with_template(place, shared, template))


def test_a_template_that_refuses_the_rows(place: Path, shared: Path) -> None:
    template = "{{ raise_exception('only one message, please') }}"
    parts = [r"dialogs\.jsonl:\d+", "chat template refuses these messages: only one message, please"]
    unusable(place, "sft", "dialogs.jsonl", *parts, model=with_template(place, shared, template))


# ------------------------------------------------------------------------------------------------------------------------- adapters


@pytest.mark.parametrize("verb", ["tune", "check", "evaluate", "generate", "merge"])
def test_an_adapter_for_another_base(verb: str, place: Path, shared: Path) -> None:
    """Whatever is done with it: the base under its name has other weights now (pain 3)."""
    folder = Path(shutil.copytree(shared / "adapter", place / "adapter"))
    other = make_stub(place / "other", seed=5)
    for file, key in (("burnish.json", "base"), ("adapter_config.json", "base_model_name_or_path")):
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**values, key: str(other)}))
    write_run(place, "./adapter", data__source="dialogs.jsonl")
    calls = {
        "tune": ["tune", "run.toml"],
        "check": ["check", "run.toml"],
        "evaluate": ["evaluate", "./adapter", "--data", "dialogs.jsonl"],
        "generate": ["generate", "./adapter", "--prompt", "colour?"],
        "merge": ["merge", "./adapter", "--output", "merged"],
    }
    before = tree(place)
    done = cli(*calls[verb], folder=place)
    refused(done, "this adapter was trained on another version of", "other", "put the original base there, or tune again")
    assert tree(place) == before


# -------------------------------------------------------------------------------------------------- rewards: they show while it runs

REWARDS = """
def nothing(answers, tasks):
    return [0.1] * len(answers)


def broken(answers, tasks):
    return [float("nan")] * len(answers)


def endless(answers, tasks):
    return [float("inf") if number else 0.0 for number in range(len(answers))]
"""


def failed(place: Path, objective: str, reward: str, *parts: str) -> Path:
    """Assert that a run of reinforcement learning fails with this message, its end recorded, and return its folder."""
    (place / "rewards.py").write_text(REWARDS)
    write_run(
        place,
        "./stub",
        objective__name=objective,
        data__source="dialogs.jsonl",
        rollout={"samples": 2, "max_tokens": 3, "reward": [{"score": f"rewards:{reward}"}]},
        train__steps=14,
        train__batch=2,
    )
    message = refused(cli("tune", "run.toml", folder=place), *parts, code=1)
    output = place / "out"
    status = runs.read_status(output)
    assert status["state"] == "failed" and status["message"] in message
    assert not (output / "model").exists() and not (output / "report.json").exists()
    assert not [file for file in output.rglob("*") if file.name.endswith((".tmp", ".part"))]
    return output


@pytest.mark.parametrize("objective", [name for name, one in OBJECTIVES.items() if one.renders == "rollouts"])
@pytest.mark.parametrize("reward", ["broken", "endless"])
def test_a_reward_that_is_no_finite_number(reward: str, objective: str, place: Path) -> None:
    """Pain 2: the gradient is NaN and the run goes on for hours."""
    parts = [
        rf"score 'rewards:{reward}' is not a finite number",
        r"the first one to dialogs\.jsonl:\d+",
        "Nothing was learned from these",
    ]
    output = failed(place, objective, reward, *parts)
    assert runs.read_status(output)["step"] == 0


def test_a_reward_that_is_constant(place: Path) -> None:
    """After ten rollouts, warned of before: then there is no point in hours of it (pain 15)."""
    parts = [
        r"first 10 rollouts was worth the same \(0\.1\)",
        "'?rewards:nothing'?",
        "is constant",
        "choose a score with finer steps",
    ]
    output = failed(place, "grpo", "nothing", *parts)
    assert runs.read_status(output)["step"] == 9
