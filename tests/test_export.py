"""Exporting through the command line: what is written, what is compared, what is refused, and that nothing half is ever left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import api
from burnish.atomic import verify
from burnish.errors import ConfigError, ModelError, RunError
from burnish.export import TARGETS, Choices, export
from burnish.export.parity import Check, difference, hold
from burnish.models import load_model
from cli_runs import cli, tree, write_labelled, write_rows, write_run
from exports import subject
from stub import cpu, make_stub
from test_export_gguf import tuned

FEW = ("--rows", 4)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished LoRA run on the stub, with a system message and a prompt around each question."""
    folder = tmp_path_factory.mktemp("export")
    make_stub(folder / "stub")
    write_rows(folder / "rows.jsonl")
    changes: dict[str, Any] = {
        "data__system": "Answer with a colour.",
        "data__prompt": "Question: {text}",
        "train__learning_rate": 0.02,
    }
    done = cli("tune", write_run(folder, folder / "stub", **changes), folder=folder)
    assert done.code == 0, done.err
    return folder / "out"


def exported(run_dir: Path, target: str, folder: Path, *more: Any) -> tuple[Path, dict[str, Any]]:
    done = cli("export", run_dir, "--to", target, "--output", folder / target, *FEW, *more, "--json")
    assert done.code == 0, done.err
    return folder / target, done.json


# ------------------------------------------------------------------------------------------------------------------ what is written


def test_an_adapter_opens_with_peft_alone(run_dir: Path, tmp_path: Path) -> None:
    """Pain 3: the model is worse once exported: weights, tokenizer, template, system message and prompt all travel, and are compared."""
    before = tree(run_dir)
    out, told = exported(run_dir, "adapter", tmp_path)
    assert [check["step"] for check in told["checks"]] == ["tokens", "template", "logits"]
    assert all(check["passed"] and check["difference"] <= check["tolerance"] for check in told["checks"])
    assert json.loads((out / "export.json").read_text())["checks"] == told["checks"]
    assert json.loads((out / "burnish.json").read_text())["system"] == "Answer with a colour."
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "chat_template.jinja"} <= told["files"].keys()
    assert verify(out) == [] and tree(run_dir) == before
    assert told["rows"] == 4 and told["rows_from"] == "held out by out"


def test_a_merged_model_answers_as_the_run_does(run_dir: Path, tmp_path: Path) -> None:
    """Pain 3: worse once merged: transformers alone gives the same logits, and burnish the same answers."""
    from transformers import AutoModelForCausalLM

    out, told = exported(run_dir, "merged", tmp_path, "--dtype", "float32")
    assert told["stored"] == "float32" and told["update"]["kept"] == pytest.approx(1.0, abs=1e-5)
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(str(out), dtype=torch.float32)(input_ids=ids).logits
        expected = load_model(str(run_dir), cpu()).plain()(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    prompts = ["colour 3 of the hill?", "colour 5 of the square?"]
    assert [row["text"] for row in api.generate(out, prompts)] == [row["text"] for row in api.generate(run_dir, prompts)]


def test_fewer_bits_of_a_whole_model_are_told(run_dir: Path, tmp_path: Path) -> None:
    """Pain 5: storing loses the update: what bfloat16 costs is measured and written down."""
    out, told = exported(run_dir, "merged", tmp_path, "--dtype", "bfloat16")
    assert told["stored"] == "bfloat16" and 0 < told["checks"][-1]["difference"] <= told["checks"][-1]["tolerance"]
    assert "KL divergence" in (out / "README.md").read_text()


def test_vllm_gets_the_adapter_its_rank_and_the_template(run_dir: Path, tmp_path: Path) -> None:
    """Pain 7: another template in serving: the command names the tuned model's own."""
    out, told = exported(run_dir, "vllm", tmp_path)
    command = (out / "serve.sh").read_text().splitlines()[1]
    assert command.startswith("exec vllm serve ") and "--enable-lora" in command and '"$@"' in command
    words = told["use"].split()
    assert words[words.index("--max-lora-rank") + 1] in ("8", "16")
    assert (
        words[words.index("--lora-modules") + 1] == f"out={out}"
        and words[words.index("--chat-template") + 1] == f"{out}/chat_template.jinja"
    )
    assert any("adds no system message" in note for note in told["notes"])


def test_what_vllm_does_not_take_as_an_adapter_goes_whole(run_dir: Path, tmp_path: Path) -> None:
    """Below the line: new tokens that are lost: an adapter with a vocabulary of its own is merged for vLLM, and the reason is told."""
    folder = tuned(run_dir.parent / "stub", tmp_path / "adapter", terms=("hearthstone",))
    made = export(subject(folder), "vllm", Choices(tmp_path / "out"))
    assert made["adapter"] is False and any("new tokens of its own" in note for note in made["notes"])
    assert "--enable-lora" not in made["use"] and (tmp_path / "out" / "model.safetensors").is_file()


def test_the_card_says_what_the_run_recorded(run_dir: Path, tmp_path: Path) -> None:
    """Base, data with sha256 and licence, scores with intervals and n, use, what it forgot, licence; no place of this machine."""
    import yaml

    out, _ = exported(run_dir, "merged", tmp_path, "--license", "cc-by-4.0", "--dtype", "float32")
    text = (out / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "cc-by-4.0" and head["base_model"] == "stub" and head["base_model_relation"] == "finetune"
    report, data = (json.loads((run_dir / name).read_text()) for name in ("report.json", "data.json"))
    assert data["sources"][0]["sha256"] in text and "rows.jsonl" in text
    row = report["scores"]["bits_per_byte"]
    assert (
        f"{row['tuned']['mean']:.3f} ({row['tuned']['low']:.3f} to {row['tuned']['high']:.3f})" in text
        and f"| {row['n']} |" in text
    )
    for part in (
        "## Intended use",
        "## Data",
        "## Scores",
        "## What it forgot",
        "## Licence",
        "## Compared",
        "Answer with a colour.",
    ):
        assert part in text, part
    assert "not stated" in text, "nobody said which licence the rows have"
    assert str(run_dir.parent) not in text and str(Path.home()) + "/" not in text


def test_a_person_is_told_what_was_compared_and_how_to_use_it(run_dir: Path, tmp_path: Path) -> None:
    done = cli("export", run_dir, "--to", "gguf", "--output", tmp_path / "out", *FEW)
    assert done.code == 0, done.err
    assert "logits: mean KL divergence" in done.out and "(allowed: 0.0001)" in done.out and "llama-server -m" in done.out


def test_without_output_it_lies_in_the_run(run_dir: Path) -> None:
    done = cli("export", run_dir, "--to", "adapter", *FEW, "--json")
    assert done.code == 0, done.err
    assert Path(done.json["output"]) == run_dir / "export" / "adapter"
    again = cli("export", run_dir, "--to", "adapter", *FEW)
    assert again.code == 2 and "exists already" in again.message
    shutil.rmtree(run_dir / "export")


# ---------------------------------------------------------------------------------------------------------------------- the gate


def test_a_merge_that_changes_the_model_fails_and_leaves_nothing(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pain 3: the model is worse once merged: exit code 1, the step by name, no folder, not even an empty one above it."""
    from burnish.export import merged

    real = merged.merge

    def damaged(*arguments: Any, **named: Any) -> Any:
        told = real(*arguments, **named)
        from safetensors.torch import load_file, save_file

        path = Path(arguments[1]) / "model.safetensors"
        weights = load_file(path)
        weights["model.layers.0.mlp.up_proj.weight"] *= 1.5
        save_file(weights, path, metadata={"format": "pt"})
        return told

    monkeypatch.setattr(merged, "merge", damaged)
    done = cli("export", run_dir, "--to", "merged", "--dtype", "float32", "--output", tmp_path / "a" / "b", *FEW)
    assert done.code == 1
    assert "(step: logits), so nothing was written" in done.message and "ABOVE the tolerance of 0.001" in done.message
    assert list(tmp_path.iterdir()) == []


def test_a_template_that_is_lost_on_the_way_fails(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pain 7: another template in use than in training."""
    from burnish.export import adapter

    real = adapter.text_checks

    def with_another(one: Any, folder: Path) -> list[Check]:
        path = folder / "chat_template.jinja"
        path.write_text(path.read_text().replace("Assistant:", "Bot:"))
        return real(one, folder)

    monkeypatch.setattr(adapter, "text_checks", with_another)
    done = cli("export", run_dir, "--to", "adapter", "--output", tmp_path / "out", *FEW)
    assert done.code == 1 and "(step: template)" in done.message and list(tmp_path.iterdir()) == []


def test_a_result_that_does_not_open_fails_by_its_step(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish.export import adapter

    def broken(*_: Any) -> Any:
        raise ValueError("no such layer")

    monkeypatch.setattr(adapter, "open_network", broken)
    done = cli("export", run_dir, "--to", "adapter", "--output", tmp_path / "out", *FEW)
    assert done.code == 1 and "(step: opening it with PEFT)" in done.message and "no such layer" in done.message


def test_what_is_no_number_never_passes() -> None:
    import numpy as np

    good, bad = np.ones((3, 5), np.float32), np.full((3, 5), np.nan, np.float32)
    assert difference([good], [good]).share == 0.0
    for found in ([bad], [np.ones((3, 6), np.float32)], []):
        told = difference([good], found)
        assert not Check("logits", "x", told.share, 0.5, 3, "places").passed
        with pytest.raises(RunError, match=r"step: logits"):
            hold([Check("logits", "x", told.divergence, 0.5, 3, "places")], to="gguf")
    assert not Check("logits", "x", float("nan"), 1.0, 1, "places").passed


# ------------------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--to", "guff"), "--to guff is not known. Did you mean 'gguf'?"),
        (("--to", "gguf", "--bits", "Q5_K"), "--bits Q5_K is not known. Use one of: F16, Q8_0, Q4_0"),
        (("--to", "merged", "--bits", "Q8_0"), "--bits means nothing to --to merged"),
        (("--to", "merged", "--dtype", "int3"), "--dtype int3 is not known"),
        (("--to", "adapter", "--public"), "--public means nothing to --to adapter"),
        (("--to", "gguf", "--tolerance", "-1"), "expected a number of at least 0"),
        (("--to", "onnx"), "writes text, token by token"),
        (("--to", "hub"), "--repo OWNER/NAME"),
        (("--to", "hub", "--repo", "no name"), "(given: 'no name')"),
    ],
)
def test_a_users_mistake_is_told_before_anything_is_written(
    words: tuple[str, ...], reason: str, run_dir: Path, tmp_path: Path
) -> None:
    done = cli("export", run_dir, *words, "--output", tmp_path / "out", *FEW)
    assert done.code == 2 and reason in done.message, done.message
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_no_run_needs_rows(run_dir: Path, tmp_path: Path) -> None:
    stub = run_dir.parent / "stub"
    done = cli("export", stub, "--to", "gguf", "--output", tmp_path / "out")
    assert done.code == 2 and "no held-out rows to compare the export on. Give some: --data FILE" in done.message
    done = cli(
        "export", stub, "--to", "gguf", "--output", tmp_path / "out", "--data", run_dir.parent / "rows.jsonl", *FEW, "--json"
    )
    assert done.code == 0 and done.json["rows_from"] == "of rows.jsonl"
    with pytest.raises(ModelError, match="is no adapter"):
        export(subject(stub), "adapter", Choices(tmp_path / "adapter"))
    with pytest.raises(ConfigError, match="exists already"):
        export(subject(stub), "merged", Choices(tmp_path / "out"))


# ------------------------------------------------------------------------------------------------------------------------- heads


@pytest.fixture(scope="module")
def head_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("head")
    make_stub(folder / "stub")
    write_labelled(folder / "rows.jsonl")
    run = write_run(folder, folder / "stub", objective__name="classification", score=["accuracy"], evaluate__max_tokens=None)
    done = cli("tune", run, folder=folder)
    assert done.code == 0, done.err
    return folder / "out"


def test_a_head_goes_to_onnx_and_says_the_same_there(head_run: Path, tmp_path: Path) -> None:
    """Pain 10: heads are left behind by exports: ONNX Runtime gives the run's own scores, one row at a time and padded."""
    import onnxruntime

    out, told = exported(head_run, "onnx", tmp_path)
    assert [check["step"] for check in told["checks"]] == ["tokens", "scores", "scores of padded rows"]
    assert all(check["difference"] < 1e-4 for check in told["checks"])
    meaning = json.loads((out / "scores.json").read_text())
    assert meaning["labels"] == ["lamp", "parcel"] and meaning["kind"] == "sequence"
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [put.name for put in session.get_inputs()] == ["input_ids", "attention_mask"]
    for target in ("gguf", "ollama", "vllm"):
        done = cli("export", head_run, "--to", target, "--output", tmp_path / "no", *FEW)
        assert done.code == 2 and "reads by a head" in done.message and not (tmp_path / "no").exists()


@pytest.mark.parametrize("target", ["adapter", "merged"])
def test_a_head_opens_with_its_class_of_the_ecosystem(target: str, head_run: Path, tmp_path: Path) -> None:
    """Pain 10: no heads: the class for sequences opens the folder and gives the same scores."""
    _, told = exported(head_run, target, tmp_path)
    assert [check["step"] for check in told["checks"]] == ["tokens", "scores"] and told["checks"][1]["n"] == 4


def test_a_network_that_onnx_cannot_say_fails_by_its_step(head_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish.export import onnx

    monkeypatch.setattr(onnx, "_write", lambda network, rows, path, span: (_ for _ in ()).throw(RuntimeError("no such operation")))
    done = cli("export", head_run, "--to", "onnx", "--output", tmp_path / "out", *FEW)
    assert done.code == 1 and "(step: writing and opening the ONNX file)" in done.message and not (tmp_path / "out").exists()


def test_scores_that_differ_or_have_another_shape_do_not_pass() -> None:
    import numpy as np

    from burnish.export.ecosystem import scores_check

    one = [np.asarray([[2.0, -4.0]], np.float32)]
    assert scores_check("scores", one, one, None).passed
    assert scores_check("scores", one, [one[0] + 0.01], None).difference == pytest.approx(0.01 / 4, rel=1e-3)
    for other in ([one[0] + 0.01], [one[0][:, :1]], [one[0] * np.nan], []):
        assert not scores_check("scores", one, other, None).passed


def test_every_target_says_what_it_is() -> None:
    """A target is a line of the registry and a sentence, and the choices it takes are fields of `Choices`."""
    import dataclasses

    fields = {field.name for field in dataclasses.fields(Choices)}
    for name, target in TARGETS.items():
        assert len(target.says) > 10 and set(target.takes) <= fields, name


def test_the_base_in_a_chat_is_the_model_without_its_adapter(run_dir: Path) -> None:
    """Pain 11: what tuning changed: `/compare` through a pipe gives first what the model says with its adapter switched off."""
    from burnish.chat_asking import UNSEEN

    question = "colour 3 of the hill?"
    done = cli("chat", run_dir, "--max-tokens", 8, typed=f"/compare {question}\n")
    assert done.code == 0, done.err
    loaded = api.load(run_dir)
    tuned_one = api.generate(loaded, [question], max_tokens=8)[0]["text"]
    with loaded.model.network.disable_adapter():
        base = api.generate(loaded, [question], max_tokens=8)[0]["text"]
    assert done.out.startswith(base.translate(UNSEEN) + "\n") and base != tuned_one
