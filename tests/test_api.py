"""The Python interface: the verbs of the command line as functions, results that other tools open, and runs that follow runs.

User pains 3 (the result is another model elsewhere), 6 (the end of a turn is not learned) and 7 (template lost between tune and serve).
"""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish import api, runs
from burnish.errors import ConfigError, DataError, UsageError
from burnish.tune import Watch
from cli_runs import cli, refused, tree, write_labelled, write_rows, write_run
from stub import make_stub

TEXTS = ["colour 1 of the hill?", "an answer to the question"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    make_stub(folder / "stub")
    write_rows(folder / "rows.jsonl")
    write_labelled(folder / "labelled.jsonl")
    return folder


@pytest.fixture(scope="module", params=["lora", "full"])
def finished(request: pytest.FixtureRequest, place: Path) -> Path:
    """A finished run of each technique that saves in its own way."""
    name = request.param
    run = write_run(place, "./stub", name=f"{name}.toml", technique__name=name, output=str(place / name), train__learning_rate=0.01)
    return burnish.tune(run)


def logits(network: Any, tokenizer: Any) -> Any:
    """Return the logits after the last token of each text, in float32."""
    import torch

    network.eval()
    with torch.no_grad():
        return torch.stack([network(**tokenizer(text, return_tensors="pt")).logits[0, -1].float() for text in TEXTS])


# ----------------------------------------------------------------------------------------------------------------------- the verbs


def test_the_verbs_are_functions_of_the_package_however_often_they_are_used(place: Path) -> None:
    """`burnish.tune` is the verb, also after the module of that name was imported."""
    for verb in ("check", "demo", "evaluate", "generate", "load", "tune"):
        assert callable(getattr(burnish, verb)) and getattr(burnish, verb) is getattr(api, verb), verb
    for module in ("burnish.tune", "burnish.evaluate"):
        importlib.import_module(module)
    assert burnish.tune is api.tune and burnish.evaluate is api.evaluate


def test_a_run_can_be_given_as_a_mapping_which_is_not_changed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    run: dict[str, Any] = {"model": "./stub", "data": "rows.jsonl", "train": {"steps": 2, "batch": 4}, "dtype": "float32"}
    before = json.dumps(run)
    values: dict[str, Any] = {"data__limit": 20, "evaluate": {"max_tokens": 4}, "train__steps": 1, "log__tensorboard": False}
    output = burnish.tune(run, f"output={tmp_path / 'out'}", **values)
    assert json.dumps(run) == before
    assert runs.read_status(output)["steps"] == 1
    assert json.loads((output / "data.json").read_text())["rows"] == 20


def test_check_finds_everything_without_reading_weights(place: Path, tmp_path: Path) -> None:
    """The weights are not even there."""
    bare = Path(shutil.copytree(place / "stub", tmp_path / "bare"))
    (bare / "model.safetensors").write_bytes(b"")
    report = burnish.check(write_run(place, bare, name="bare.toml"), measure=False)
    assert report["rows"] == 24 and report["example"]
    with pytest.raises(DataError, match=r"rowz\.jsonl"):
        burnish.check(write_run(place, bare, name="bare.toml", data__source="rowz.jsonl"), measure=False)


def test_the_watcher_sees_every_step_whatever_is_logged(place: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    run = write_run(place, "./stub", name="watched.toml", log__every=4)
    burnish.tune(run, f"output={tmp_path / 'out'}", watch=Watch(step=seen.append))
    assert [record["step"] for record in seen] == [1, 2, 3, 4, 5, 6]
    assert all({"loss", "tokens_per_second", "time_left", "learning_rate", "gradient_norm"} <= record.keys() for record in seen)
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 4, 6]


def test_the_same_run_file_gives_the_same_run_and_so_does_its_resolved_copy(place: Path, tmp_path: Path) -> None:
    """Every value is written down with where it came from; tuning that file again repeats the run."""
    from cli_runs import result

    run = write_run(place, "./stub", name="again.toml", technique__dropout=0.1)
    first = burnish.tune(run, f"output={tmp_path / 'first'}")
    second = burnish.tune(run, f"output={tmp_path / 'second'}")
    assert result(first) == result(second)
    third = burnish.tune(first / "run.toml", f"output={tmp_path / 'third'}")
    # Rows are named from the run file, which is another one here.
    assert {**result(third), "answers": None} == {**result(first), "answers": None}
    text = (first / "run.toml").read_text()
    assert "# from: the technique lora" in text and "# from: you (again.toml" in text and "# from: default" in text


def test_a_private_objective_is_used_like_a_registered_one(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`module:name` beside the run file: code of one's own, without a change to the package."""
    (tmp_path / "halved.py").write_text(
        "from dataclasses import replace\n"
        "from burnish.objectives.likelihood import SFT, sft\n"
        "from burnish.types import Loss\n"
        "def half(outputs, batch, *, share: float = 0.5):\n"
        "    return Loss(terms={'nll': share * sft(outputs, batch).terms['nll']})\n"
        "HALF = replace(SFT, function=half, counts=lambda batch, *, share=0.5: SFT.counts(batch))\n"
    )
    shutil.copy(place / "rows.jsonl", tmp_path)
    lines = {}
    cases: tuple[tuple[str, dict[str, Any]], ...] = (("sft", {}), ("halved:HALF", {"objective__share": 0.25}))
    for name, more in cases:
        run = write_run(tmp_path, place / "stub", **{"objective__name": name, "train__clip": 0.0, **more})
        output = burnish.tune(run, f"output={tmp_path / str(len(lines))}", train__steps=1)
        lines[name] = json.loads((output / "metrics.jsonl").read_text().splitlines()[1])
    assert lines["halved:HALF"]["loss"] == pytest.approx(0.25 * lines["sft"]["loss"], rel=1e-5)
    assert lines["halved:HALF"]["gradient_norm"] == pytest.approx(0.25 * lines["sft"]["gradient_norm"], rel=1e-4)


# ------------------------------------------------------------------------------------------------- what other tools make of the result


def test_the_model_folder_opens_with_the_ecosystems_loaders_and_gives_the_same_logits(finished: Path, place: Path) -> None:
    """Pains 3 and 7: no converter, and the template travels with the weights."""
    import torch
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    own = api.load(finished, dtype="float32")
    wanted = logits(own.model.network, own.model.tokenizer)
    folder = str(finished / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == own.model.tokenizer.chat_template is not None
    base = AutoModelForCausalLM.from_pretrained(str(place / "stub"))
    untuned = logits(base, tokenizer)
    assert not torch.allclose(untuned, wanted, atol=1e-2), "the tuned model is another one than its base"
    opened = [AutoModelForCausalLM.from_pretrained(folder)]
    if finished.name == "lora":
        opened += [AutoPeftModelForCausalLM.from_pretrained(folder), PeftModel.from_pretrained(base, folder)]
        opened.append(
            PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(place / "stub")), folder).merge_and_unload()
        )
    for network in opened:
        assert torch.allclose(logits(network, tokenizer), wanted, atol=1e-5), type(network)


def test_every_checkpoint_opens_likewise(finished: Path) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folders = sorted((finished / "checkpoints").glob("checkpoint-*"))
    assert len(folders) >= 2
    loader = AutoPeftModelForCausalLM if finished.name == "lora" else AutoModelForCausalLM
    found = []
    for folder in folders:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        found.append(logits(loader.from_pretrained(str(folder)), tokenizer))
        own = api.load(folder, dtype="float32")
        assert torch.allclose(found[-1], logits(own.model.network, own.model.tokenizer), atol=1e-5), folder
    assert not torch.allclose(found[0], found[-1], atol=1e-3), "two steps, two models"


def test_the_result_ends_its_turns_as_it_was_taught(place: Path, tmp_path: Path) -> None:
    """Pain 6: the end of the turn is learned in every row, so that a model which learns the rows by heart also stops."""
    rows = [{"messages": [{"role": "user", "content": "go on"}, {"role": "assistant", "content": "no"}]}] * 8
    (tmp_path / "same.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {"technique__name": "full", "train__learning_rate": 0.01, "train__steps": 60, "train__batch": 2}
    more: dict[str, Any] = {"data__dev_share": 0.0, "data__test_share": 0.0, "score": ["exact_match"], "evaluate__max_tokens": 8}
    run = write_run(tmp_path, place / "stub", data__source="same.jsonl", **settings, **more)
    (answer,) = burnish.generate(burnish.tune(run), ["go on"], max_tokens=8)
    assert answer["text"] == "no" and answer["stopped"] is True


def test_a_model_is_asked_in_the_form_in_which_it_was_taught(place: Path, tmp_path: Path) -> None:
    """Pain 7: system prompt and prompt template of the run are used by generate, evaluate and chat without being given again."""
    told: dict[str, Any] = {"data__system": "Sort.", "data__prompt": "Which one: {text}", "data__format": "labelled"}
    run = write_run(place, "./stub", name="framed.toml", data__source="labelled.jsonl", score=["accuracy"], train__steps=2, **told)
    output = burnish.tune(run, f"output={tmp_path / 'out'}")
    loaded = burnish.load(output)
    prompt = loaded.model.tokenizer.decode(loaded.renderer.prompt(loaded.task("the lamp is dark")))
    assert "Sort." in prompt and "Which one: the lamp is dark" in prompt
    learned = json.dumps(json.loads((output / "data.json").read_text())["example"])
    assert "Sort." in learned and "Which one: message" in learned


# ------------------------------------------------------------------------------------------------------------------ run after run


def first_and_second(folder: Path, place: Path, **first: Any) -> Path:
    """Write two run files of which the second begins with the first, and return the second."""
    shutil.copy(place / "rows.jsonl", folder)
    write_run(folder, place / "stub", name="first.toml", technique__name="full", output=str(folder / "first"), **first)
    return write_run(folder, "./first.toml", name="second.toml", output=str(folder / "second"), train__steps=2)


def test_a_run_file_as_model_is_tuned_first_once(place: Path, tmp_path: Path) -> None:
    second = first_and_second(tmp_path, place)
    done = cli("tune", second)
    assert done.code == 0, done.err
    assert "it is tuned first" in done.err and runs.is_finished(tmp_path / "first") and runs.is_finished(tmp_path / "second")
    settings = json.loads((tmp_path / "second" / "model" / "burnish.json").read_text())
    assert settings["base"] == str(tmp_path / "first")
    before = tree(tmp_path / "first")
    again = cli("tune", second, f"output={tmp_path / 'third'}")
    assert again.code == 0 and "tuned first" not in again.err
    assert tree(tmp_path / "first") == before, "a second call does not tune it again"


def test_a_change_in_the_first_run_file_tunes_it_again(place: Path, tmp_path: Path) -> None:
    """The former result is put aside, not deleted."""
    second = first_and_second(tmp_path, place)
    assert cli("tune", second).code == 0
    first_and_second(tmp_path, place, train__learning_rate=0.02)
    done = cli("tune", second, f"output={tmp_path / 'third'}")
    assert done.code == 0, done.err
    assert f"first.toml changed since {tmp_path / 'first'} was made (train.learning_rate:" in done.err
    assert runs.is_finished(tmp_path / "first.1") and runs.is_finished(tmp_path / "first")


def test_what_makes_the_result_of_a_first_run_stale(place: Path, tmp_path: Path) -> None:
    """Every value counts, also one taken out and the number of steps; where it writes, saves and logs does not."""
    from burnish.tune_chain import replace_model

    start: dict[str, Any] = {"train__learning_rate": 0.02, "train__schedule": "constant", "train__steps": None, "train__epochs": 1}
    second = first_and_second(tmp_path, place, **start)
    burnish.tune(tmp_path / "first.toml")

    def told(**changes: Any) -> str:
        first_and_second(tmp_path, place, **{**start, **changes})
        try:
            return replace_model(api.resolve(second), tune_first=None).config.model.name or ""
        except ConfigError as error:
            return str(error)

    assert told() == str(tmp_path / "first"), "steps that follow from epochs and rows are the same run"
    assert told(save__every=1, log__every=3, save__keep=5) == str(tmp_path / "first")
    assert "train.learning_rate: 0.02 -> 0.0005" in told(train__learning_rate=None)
    assert "train.steps: 4 -> 7" in told(train__epochs=2)
    assert "train.steps: 4 -> 5" in told(train__epochs=None, train__steps=5)
    assert "data.limit: not set -> 20" in told(data__limit=20)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "new?"}, {"role": "assistant", "content": "yes"}]}\n')
    second_rows = (tmp_path / "rows.jsonl").read_text()
    told()
    (tmp_path / "rows.jsonl").write_text(second_rows)
    with pytest.raises(ConfigError, match=r"rows\.jsonl changed"):
        replace_model(api.resolve(second), tune_first=None)


def test_mistakes_of_the_second_run_show_before_the_first_is_tuned(place: Path, tmp_path: Path) -> None:
    second = first_and_second(tmp_path, place)
    refused(cli("tune", second, "data.source=rowz.jsonl"), "no such file or folder")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "mine.txt").write_text("mine")
    refused(cli("tune", second), "is not empty and holds no run")
    refused(cli("check", second, f"output={tmp_path / 'new'}"), "is not tuned yet", "Tune it first")
    assert not (tmp_path / "first").exists()


def test_run_files_that_begin_with_each_other_are_refused(place: Path, tmp_path: Path) -> None:
    second = first_and_second(tmp_path, place)
    write_run(tmp_path, "./second.toml", name="first.toml", output=str(tmp_path / "first"))
    refused(cli("tune", second), "is tuned after|begin with it")


def test_a_first_run_that_was_interrupted_is_taken_up_again(place: Path, tmp_path: Path) -> None:
    from burnish.errors import Stopped

    second = first_and_second(tmp_path, place)

    def stop(record: dict[str, Any]) -> None:
        import signal

        if record["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
        burnish.tune(second, watch=Watch(step=stop))
    done = cli("tune", second)
    assert done.code == 0 and "Resuming after step 3" in done.err
    assert json.loads((tmp_path / "second" / "status.json").read_text())["state"] == "finished"


def test_an_adapter_on_an_adapter_is_refused_before_the_first_is_tuned(place: Path, tmp_path: Path) -> None:
    """It could not be saved with the adapter below it, and would be another model wherever it is opened."""
    second = first_and_second(tmp_path, place)
    write_run(tmp_path, place / "stub", name="first.toml", output=str(tmp_path / "first"))
    refused(cli("tune", second, "technique=dora"), "adapter", "full")
    assert not (tmp_path / "first").exists() and not (tmp_path / "second").exists()


def test_errors_of_the_interface_are_errors_of_python(place: Path) -> None:
    with pytest.raises(UsageError, match="either a prompt or a data file"):
        burnish.generate(place / "stub")
    with pytest.raises(ConfigError, match="no run file"):
        burnish.tune(place / "nowhere.toml")
