"""Models: found by name without reading weights, opened or refused in one sentence, saved so that the ecosystem's loaders open them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.assets import BUNDLED
from burnish.errors import ModelError
from burnish.models import Model, adapt, find_model, load_model, restore_weights, save_model
from burnish.techniques import TECHNIQUES
from stub import cpu, load_stub, make_stub

PROBE = torch.tensor([[5, 9, 71, 33, 80, 12, 260, 101]])


@pytest.fixture(scope="module")
def stub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("models") / "stub")


@pytest.fixture
def folder(stub_folder: Path, tmp_path: Path) -> Path:
    """A copy of the stub's folder that a test may spoil."""
    return Path(shutil.copytree(stub_folder, tmp_path / "model"))


@pytest.fixture(scope="module")
def adapter_folder(stub_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter on the stub, its weights drawn at random so that it does something."""
    model = load_model(str(stub_folder), cpu())
    adapt(model, TECHNIQUES["lora"], {"rank": 2})
    stir(model)
    folder = tmp_path_factory.mktemp("models") / "adapter"
    folder.mkdir()
    save_model(model, folder)
    return folder


def stir(model: Model, *, seed: int = 1) -> None:
    """Give every parameter that moves random values, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1, generator=generator)


def logits(network: Any) -> torch.Tensor:
    network.eval()
    with torch.no_grad():
        return network(input_ids=PROBE, use_cache=False).logits


def edit(path: Path, **values: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    content = {key: value for key, value in (json.loads(path.read_text()) | values).items() if value is not None}
    path.write_text(json.dumps(content))


# ------------------------------------------------------------------------------------------------------------------------ finding


def test_a_typo_of_a_bundled_name_is_guessed() -> None:
    with pytest.raises(ModelError, match=rf"'{BUNDLED[0]}y' is not known.*Did you mean '{BUNDLED[0]}'\?"):
        find_model(f"{BUNDLED[0]}y")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c"])
def test_a_missing_folder_says_what_was_expected(name: str) -> None:
    with pytest.raises(ModelError, match=r"there is no such model folder\. Expected .*config\.json.*safetensors"):
        find_model(name)


def test_names_of_the_hub_are_left_to_the_hub() -> None:
    found = find_model("someone/some-model")
    assert (found.base, found.local, found.folder) == ("someone/some-model", False, None)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json and no adapter_config\.json"):
        find_model(str(tmp_path))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="no such model folder"):
        find_model(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
def test_a_pickle_is_not_opened(folder: Path, suffix: str) -> None:
    """Only safetensors are read; the file that could run code when opened is named."""
    (folder / "model.safetensors").rename(folder / f"pytorch_model{suffix}")
    with pytest.raises(ModelError, match=rf"no \*\.safetensors file\. It has pytorch_model\{suffix}, which may run code"):
        load_model(str(folder), cpu())


def test_an_adapter_that_is_a_pickle_is_not_opened(adapter_folder: Path, tmp_path: Path) -> None:
    """PEFT itself would fall back to the pickle."""
    copy = Path(shutil.copytree(adapter_folder, tmp_path / "adapter"))
    torch.save({}, copy / "adapter_model.bin")
    (copy / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors.*adapter_model\.bin, which may run code"):
        load_model(str(copy), cpu())


def test_an_unfinished_run_is_pointed_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("")
    with pytest.raises(ModelError, match=r"run directory without a finished model.*--resume"):
        find_model(str(tmp_path))


def test_a_finished_run_is_a_model(stub_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("")
    shutil.copytree(stub_folder, tmp_path / "model")
    found = find_model(str(tmp_path))
    assert found.base == str(tmp_path / "model") and found.name == str(tmp_path)


# ------------------------------------------------------------------------------------------------------------------- opening, refused


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_a_model_folder_is_never_run(folder: Path, file: str) -> None:
    edit(folder / file, auto_map={"AutoModelForCausalLM": "modeling.Evil"})
    (folder / "modeling.py").write_text("raise SystemExit('code of the model was run')")
    with pytest.raises(ModelError, match=rf"{file} asks to run code that comes with the model \(auto_map\)"):
        load_model(str(folder), cpu())


@pytest.mark.parametrize("content", ["{", "[1]", "", "\x00\x01"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_damaged_configuration_is_named(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(ModelError, match=file.replace(".", r"\.")):
        load_model(str(folder), cpu())


def test_a_damaged_adapter_configuration_is_named(adapter_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(adapter_folder, tmp_path / "adapter"))
    (copy / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config\.json cannot be read as JSON"):
        load_model(str(copy), cpu())


def test_an_unknown_architecture_is_one_message(folder: Path) -> None:
    edit(folder / "config.json", model_type="from_the_future", architectures=None)
    with pytest.raises(ModelError, match="could not be opened") as caught:
        load_model(str(folder), cpu())
    assert "\n" not in str(caught.value)


def test_an_encoder_decoder_is_refused(folder: Path) -> None:
    from transformers import T5Config

    T5Config(vocab_size=288, d_model=16, d_ff=16, num_layers=1, num_heads=2).save_pretrained(str(folder))
    with pytest.raises(ModelError, match="encoder-decoder"):
        load_model(str(folder), cpu())


def test_damaged_weights_are_one_message(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="could not be opened"):
        load_model(str(folder), cpu())


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    """A folder that lacks a tensor must not be filled with random numbers in silence (a half-copied model answers gibberish)."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    dropped = "model.layers.1.mlp.up_proj.weight"
    del tensors[dropped]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks .*model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(folder), cpu())


def test_weights_of_another_shape_are_one_message(folder: Path) -> None:
    edit(folder / "config.json", intermediate_size=96)
    with pytest.raises(ModelError, match=r"could not be opened|other shapes") as caught:
        load_model(str(folder), cpu())
    assert "\n" not in str(caught.value)


def test_a_model_without_a_tokenizer_is_one_message(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError) as caught:
        load_model(str(folder), cpu())
    assert "\n" not in str(caught.value)


def test_offline_a_hub_name_is_one_clear_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network: what happened, and the three ways on, without a traceback."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"not in the local cache and the hub cannot be reached.*local folder.*bundled model"
    ) as caught:
        load_model("someone/some-model-nobody-has", cpu())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def hub_error(kind: str) -> Exception:
    messages = {
        "gated": "401 Client Error. Cannot access gated repo for url https://hub/x/y. Access to model x/y is restricted.",
        "unknown": "x/y is not a local folder and is not a valid model identifier listed on 'https://hub/models'",
        "full": "No space left on device",
    }
    error = OSError(messages[kind])
    error.errno = 28 if kind == "full" else None  # pyright: ignore[reportAttributeAccessIssue]
    return error


@pytest.mark.parametrize(("kind", "says"), [("gated", "HF_TOKEN"), ("unknown", "Check the spelling"), ("full", "no space left")])
def test_what_the_hub_answers_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch, kind: str, says: str) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise hub_error(kind)

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", refuse)
    with pytest.raises(ModelError, match=says):
        load_model("x/y", cpu())


# -------------------------------------------------------------------------------------------------------------------------- adapters


def test_an_adapter_finds_its_base(adapter_folder: Path, stub_folder: Path) -> None:
    found = find_model(str(adapter_folder))
    assert found.adapter == adapter_folder and Path(found.base) == stub_folder.resolve()
    with_adapter, without = load_model(str(adapter_folder), cpu()), load_model(str(adapter_folder), cpu(), adapter=False)
    assert not torch.allclose(logits(with_adapter.network), logits(without.network))
    assert torch.equal(logits(without.network), logits(load_model(str(stub_folder), cpu()).network))
    assert with_adapter.parameters()[1] == 0, "nothing is trainable as loaded"


def test_an_adapter_on_an_adapter_is_refused(adapter_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(adapter_folder, tmp_path / "second"))
    edit(copy / "adapter_config.json", base_model_name_or_path=str(adapter_folder))
    edit(copy / "burnish.json", base=None)
    with pytest.raises(ModelError, match=r"is itself an adapter. Merge it first"):
        load_model(str(copy), cpu())


@pytest.mark.parametrize("base", ["", ".", None])
def test_an_adapter_without_a_base_is_refused(
    adapter_folder: Path, tmp_path: Path, base: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an endless search nor a guess."""
    copy = Path(shutil.copytree(adapter_folder, tmp_path / "adapter"))
    edit(copy / "adapter_config.json", base_model_name_or_path=base)
    (copy / "burnish.json").unlink()
    monkeypatch.chdir(copy)
    with pytest.raises(ModelError, match="adapter"):
        load_model(str(copy), cpu())


def test_a_base_that_has_moved_away_is_named(adapter_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(adapter_folder, tmp_path / "adapter"))
    edit(copy / "burnish.json", base="/nowhere/base")
    with pytest.raises(ModelError, match="/nowhere/base"):
        load_model(str(copy), cpu())


def test_another_base_under_the_same_name_is_refused(adapter_folder: Path, tmp_path: Path) -> None:
    """Answers of an adapter on the wrong weights would be wrong without a word (pain 3)."""
    copy = Path(shutil.copytree(adapter_folder, tmp_path / "adapter"))
    edit(copy / "burnish.json", base=str(make_stub(tmp_path / "other", seed=5)))
    with pytest.raises(ModelError, match="trained on another version"):
        load_model(str(copy), cpu())


def test_an_adapter_that_does_not_fit_is_one_message(adapter_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(adapter_folder, tmp_path / "adapter"))
    edit(copy / "adapter_config.json", r=7)
    with pytest.raises(ModelError, match="adapter") as caught:
        load_model(str(copy), cpu())
    assert len(str(caught.value).splitlines()) == 1


def test_a_second_adapter_on_a_first_is_refused(adapter_folder: Path) -> None:
    """Saved with the base's name alone, it would lose the first one without a word (pain 3)."""
    model = load_model(str(adapter_folder), cpu())
    with pytest.raises(ModelError, match=r"is itself an adapter.*second adapter"):
        adapt(model, TECHNIQUES["dora"], {"rank": 2})


def test_full_tuning_of_an_adapter_starts_from_both(adapter_folder: Path, tmp_path: Path) -> None:
    """The adapter is merged first, so that what is trained and saved is the model that the user named."""
    model = load_model(str(adapter_folder), cpu())
    before = logits(model.network)
    adapt(model, TECHNIQUES["full"], {})
    torch.testing.assert_close(logits(model.network), before, atol=1e-5, rtol=1e-5)
    save_model(model, tmp_path)
    torch.testing.assert_close(logits(load_model(str(tmp_path), cpu()).network), before, atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------- as it is loaded


def test_a_model_without_a_template_gets_a_plain_one_and_says_so(tmp_path: Path) -> None:
    model = load_stub(tmp_path, template=False)
    assert any("no chat template" in note for note in model.notes)
    assert "User: hi" in str(model.tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False))
    assert not any("template" in note for note in load_stub(tmp_path / "with").notes)


def test_loaded_quiet_frozen_and_in_evaluation_mode(stub_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = load_model(str(stub_folder), cpu())
    assert not model.network.training
    assert model.parameters() == (sum(p.numel() for p in model.network.parameters()), 0)
    assert model.tokenizer.pad_token_id is not None
    assert (model.head, model.documents) == ("separate", "positions")
    assert model.max_length == 512
    printed = capfd.readouterr()
    assert printed.out == printed.err == "", "loading prints nothing: --json promises one object and nothing else"


def test_weights_are_in_the_dtype_of_the_device(stub_folder: Path) -> None:
    model = load_model(str(stub_folder), cpu("bfloat16"))
    assert model.weight_dtype == torch.bfloat16
    assert model.head == "separate"


def test_the_tokens_that_end_an_answer(folder: Path) -> None:
    edit(folder / "config.json", eos_token_id=[1, 7])
    model = load_model(str(folder), cpu())
    assert 7 in model.end_ids() and model.tokenizer.convert_tokens_to_ids("<|eos|>") in model.end_ids()


def test_a_tokenizer_without_an_end_is_refused(folder: Path) -> None:
    """Pain 6: an answer could never end."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    edit(folder / "tokenizer_config.json", eos_token=None)
    (folder / "generation_config.json").unlink(missing_ok=True)
    with pytest.raises(ModelError, match="no end-of-text token"):
        load_model(str(folder), cpu())


def test_padding_never_lies_outside_the_vocabulary(folder: Path) -> None:
    """A padding token added behind the model's last embedding would end a run with an index error in the first padded batch."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    tokenizer.save_pretrained(str(folder))
    model = load_model(str(folder), cpu())
    pad_id: Any = model.tokenizer.pad_token_id
    assert pad_id < 288


# -------------------------------------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("setting", ["temperature", "top_k"])
def test_pain_21_settings_of_generation_do_not_lose_the_run_at_its_end(folder: Path, tmp_path: Path, setting: str) -> None:
    """A generation_config.json that transformers reads but refuses to write must not fail the save."""
    values = {"temperature": 0.6} if setting == "temperature" else {"top_k": 20}
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False, "eos_token_id": 1, **values}))
    model = load_model(str(folder), cpu())
    out = tmp_path / "out"
    out.mkdir()
    save_model(model, out)
    assert torch.equal(logits(load_model(str(out), cpu()).network), logits(model.network))


def files(folder: Path) -> set[str]:
    return {path.suffix for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["full", "lora"])
def test_what_is_saved_holds_no_pickle_and_no_code(stub_folder: Path, tmp_path: Path, name: str) -> None:
    model = load_model(str(stub_folder), cpu())
    adapt(model, TECHNIQUES[name], {})
    save_model(model, tmp_path, settings={"system": "Be brief."})
    assert files(tmp_path) <= {".safetensors", ".json", ".jinja", ".md", ".txt"}
    assert find_model(str(tmp_path)).settings["system"] == "Be brief."


def test_restoring_foreign_weights_is_refused(stub_folder: Path, adapter_folder: Path, tmp_path: Path) -> None:
    deeper = make_stub(tmp_path / "deeper", layers=3)
    model = load_model(str(stub_folder), cpu())
    with pytest.raises(ModelError, match="not this model's"):
        restore_weights(model, deeper)


@pytest.mark.parametrize("name", ["full", "lora"])
def test_weights_come_back_bit_for_bit(stub_folder: Path, tmp_path: Path, name: str) -> None:
    model = load_model(str(stub_folder), cpu())
    adapt(model, TECHNIQUES[name], {})
    stir(model)
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    save_model(model, tmp_path)
    stir(model, seed=2)
    restore_weights(model, tmp_path)
    assert all(torch.equal(value, before[key]) for key, value in model.network.state_dict().items())


def test_rounded_products_do_not_mislead_the_probe(tmp_path: Path) -> None:
    """Where float32 products are computed in bfloat16, packed and alone differ by rounding; that is no leak."""
    torch.set_float32_matmul_precision("medium")
    model = load_stub(tmp_path / "stub")
    assert (model.documents, model.head) == ("positions", "separate")
    assert torch.get_float32_matmul_precision() == "medium", "the probe leaves the precision as it was"
