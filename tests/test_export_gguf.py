"""GGUF files: each family and tokenizer read again by readers that know nothing of the writer, and faults that the comparison must see."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
import torch

from burnish.assets import bundled_model
from burnish.data.tokens import token_ids
from burnish.errors import ModelError, RunError
from burnish.export import Choices, export, gguf_network, gguf_tokenizer
from burnish.export.gguf_read import Opened, logits
from burnish.export.gguf_tokenizer import RULES, vocabulary
from burnish.export.gguf_words import cutter
from burnish.export.parity import difference
from burnish.export.subject import ODD
from burnish.models import adapt, add_terms, load_model, save_model
from burnish.techniques import TECHNIQUES
from exports import CHATML, NETWORKS, network_folder, piece_tokenizer, subject, tasks, word_tokenizer
from loop import cut, eight_sequences, run
from stub import cpu, make_stub, stub_tokenizer

UNREAD = ("llama stretched", "llama linear", "gemma")
"""What transformers' own reader of GGUF files passes over: stretched positions, and the first Gemma."""


def only(folder: Path) -> Path:
    (path,) = folder.glob("*.gguf")
    return path


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_family_says_the_same_by_its_own_file_and_to_another_reader(kind: str, tmp_path: Path) -> None:
    """Pain 4: a GGUF file gives gibberish: the file is computed by a runtime of its own, and opened by transformers' reader."""
    from transformers import AutoModelForCausalLM

    one = subject(network_folder(tmp_path / "network", kind))
    made = export(one, "gguf", Choices(tmp_path / "out"))
    steps = {check["step"]: check for check in reversed(made["checks"])}
    assert sorted(steps) == ["logits", "template", "tokens"] and all(check["passed"] for check in steps.values())
    assert 0 <= steps["logits"]["difference"] < 1e-5 and steps["logits"]["n"] > 50
    assert steps["tokens"]["n"] > 15 and steps["template"]["n"] == 9
    if kind in UNREAD:
        return
    read = AutoModelForCausalLM.from_pretrained(str(tmp_path / "out"), gguf_file=only(tmp_path / "out").name, dtype=torch.float32)
    ids = torch.arange(8, 16)[None]
    with torch.no_grad():
        expected, found = one.model.plain()(input_ids=ids).logits, read(input_ids=ids).logits
    assert float((expected - found).abs().max()) < 3e-3 * float(expected.abs().max())


@pytest.mark.parametrize(("bits", "limit"), [("F16", 1e-5), ("Q8_0", 2e-3), ("Q4_0", 0.2)])
def test_fewer_bits_lose_more_and_are_smaller(bits: Any, limit: float, tmp_path: Path) -> None:
    made = export(subject(network_folder(tmp_path / "network")), "gguf", Choices(tmp_path / "out", bits=bits))
    found = made["checks"][2]["difference"]
    assert (limit / 1000 if bits != "F16" else 0.0) <= found < limit
    kinds = {part.name: part.tensor_type.name for part in Opened.of(only(tmp_path / "out")).parts.values()}
    assert kinds["blk.0.attn_norm.weight"] == "F32" and kinds["blk.0.ffn_up.weight"] == bits
    assert kinds["token_embd.weight"] == kinds["output.weight"] == {"Q4_0": "Q8_0"}.get(bits, bits)


# ------------------------------------------------------------------------------------------------ faults that must not come through


def fails(one: Any, folder: Path, step: str, **choices: Any) -> str:
    with pytest.raises(RunError) as error:
        export(one, "gguf", Choices(folder / "deep" / "out", **choices))
    assert f"step: {step}" in str(error.value) and "nothing was written" in str(error.value)
    assert not (folder / "deep").exists(), "half an export was left behind"
    return str(error.value)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("pairs not turned", "llama"),
        ("norm without its one", "gemma2"),
        ("wrong rate", "llama"),
        ("not stretched", "llama stretched"),
        ("a layer of another", "qwen3"),
    ],
)
def test_a_fault_in_writing_weights_is_seen(fault: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pain 4: a GGUF file gives gibberish: the gate can fail, and then nothing is left."""
    one = subject(network_folder(tmp_path / "network", kind))
    if fault == "pairs not turned":
        monkeypatch.setitem(gguf_network.FAMILIES, "llama", gguf_network.Family("llama", turns_pairs=False))
    elif fault == "norm without its one":
        monkeypatch.setitem(gguf_network.FAMILIES, "gemma2", gguf_network.Family("gemma2"))
    elif fault == "wrong rate":
        monkeypatch.setattr(gguf_network, "_rope", lambda config, layers="": {"rope_theta": 20000.0})
    elif fault == "not stretched":
        monkeypatch.setattr(gguf_network, "stretched", lambda config: None)
    else:
        real = gguf_network._as_there

        def swapped(name: str, *rest: Any) -> np.ndarray:
            return real(name, *rest) * (np.float32(1.05) if name == "model.layers.1.mlp.up_proj.weight" else np.float32(1.0))

        monkeypatch.setattr(gguf_network, "_as_there", swapped)
    assert "as a share of the largest" in fails(one, tmp_path, "logits")


def test_a_tolerance_of_ones_own_decides(tmp_path: Path) -> None:
    one = subject(network_folder(tmp_path / "network"))
    assert "--tolerance" in fails(one, tmp_path, "logits", bits="Q4_0", tolerance=1e-4)
    assert export(one, "gguf", Choices(tmp_path / "out", bits="Q4_0", tolerance=0.5))["checks"][-1]["tolerance"] == 0.5


def test_a_template_that_changes_on_the_way_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pain 7: another template in use than in training: one blank more stops the export."""
    from burnish.export import gguf

    one = subject(network_folder(tmp_path / "network"))
    monkeypatch.setattr(gguf, "_template", lambda template: template.replace("User: ", "User:  "))
    assert "text differs by a byte: 9 on 9 dialogs" in fails(one, tmp_path, "template")


def test_a_tokenizer_that_is_read_otherwise_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pain 4: a wrong pre-tokenizer in the file gives other tokens for the same text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(bundled_model("tiny")))
    one = subject(network_folder(tmp_path / "network", tokenizer=tokenizer))
    monkeypatch.setattr(gguf_tokenizer, "_rule", lambda raw: "qwen2")
    assert "texts whose tokens differ" in fails(one, tmp_path, "tokens")


# ----------------------------------------------------------------------------------------------------------------------- tokenizers


def split_rule(name: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    rule = next(rule for rule, known in RULES.items() if known == name)
    return word_tokenizer(pre_tokenizers.Split(Regex(rule), "isolated"), whole_first=name in gguf_tokenizer.WHOLE_FIRST)


def digits() -> Any:
    from tokenizers import pre_tokenizers

    tokenizer = stub_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


TOKENIZERS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "bytes": (stub_tokenizer, "gpt2", "gpt-2"),
    "single digits": (digits, "gpt2", "smollm"),
    "llama-bpe": (lambda: split_rule("llama-bpe"), "gpt2", "llama-bpe"),
    "qwen2": (lambda: split_rule("qwen2"), "gpt2", "qwen2"),
    "tekken": (lambda: split_rule("tekken"), "gpt2", "tekken"),
    "pieces": (piece_tokenizer, "llama", "default"),
    "pieces without a first space": (lambda: piece_tokenizer(first=False), "llama", "default"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_kind_of_tokenizer_cuts_as_before(name: str) -> None:
    """Pain 4: a tokenizer broken by the export: rule for words, merges or scores, marks, bytes, spaces, all by the file alone."""
    from tokenizers import AddedToken

    make, model, pre = TOKENIZERS[name]
    tokenizer = make()
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    found = vocabulary(tokenizer, rows=len(tokenizer) + 3, end_ids=[tokenizer.eos_token_id], starts=True)
    assert (found.model, found.pre, len(found.tokens)) == (model, pre, len(tokenizer) + 3)
    facts = {
        "tokenizer.ggml.model": found.model,
        "tokenizer.ggml.pre": found.pre,
        "tokenizer.ggml.tokens": found.tokens,
        "tokenizer.ggml.token_type": found.kinds,
        "tokenizer.ggml.merges": found.merges,
        "tokenizer.ggml.scores": found.scores,
        "tokenizer.ggml.add_space_prefix": found.space_first,
    }
    cutting = cutter(facts)
    for text in (*ODD, f"{tokenizer.bos_token}the user{tokenizer.eos_token}and the <think>answer</think>"):
        assert cutting(text) == token_ids(tokenizer, text), text


def test_a_rule_that_llama_cpp_does_not_know_is_refused(tmp_path: Path) -> None:
    """Pain 4: a tokenizer that would be read otherwise is told before anything is written, with another way."""
    from tokenizers import Regex, pre_tokenizers

    tokenizer = word_tokenizer(pre_tokenizers.Split(Regex(r"\w+|\W+"), "isolated"))
    one = subject(network_folder(tmp_path / "network", tokenizer=tokenizer))
    with pytest.raises(ModelError, match=r"rule that llama.cpp has no name for.*convert_hf_to_gguf"):
        export(one, "gguf", Choices(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_the_file_says_of_the_tokenizer(tmp_path: Path) -> None:
    """Pain 6: the model never stops: start, end and the template's end of turn stand in the file."""
    tokenizer = stub_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    one = subject(network_folder(tmp_path / "network", tokenizer=tokenizer, template=CHATML))
    export(one, "gguf", Choices(tmp_path / "out"))
    facts = Opened.of(only(tmp_path / "out")).facts
    names = {name: facts["tokenizer.ggml.tokens"][facts[f"tokenizer.ggml.{name}_token_id"]] for name in ("bos", "eos", "eot")}
    assert names == {"bos": "<|bos|>", "eos": "<|eos|>", "eot": "<|im_end|>"}
    assert facts["tokenizer.ggml.add_bos_token"] is False, "this template begins without the start token"
    assert facts["tokenizer.chat_template"] == CHATML
    assert facts["general.base_model.0.name"] == "network" and facts["llama.context_length"] == 256
    plain = export(subject(network_folder(tmp_path / "plain")), "gguf", Choices(tmp_path / "out2"))
    assert Opened.of(only(tmp_path / "out2")).facts["tokenizer.ggml.add_bos_token"] is True
    assert "--jinja" in plain["use"]


# ------------------------------------------------------------------------------------------------------------------------- adapters


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("gguf") / "stub")


def tuned(
    stub: Path, folder: Path, *, terms: tuple[str, ...] = (), rate: float = 2e-2, technique: str = "lora", **options: Any
) -> Path:
    model = load_model(str(stub), cpu())
    if terms:
        add_terms(model, list(terms))
    torch.manual_seed(0)
    adapt(model, TECHNIQUES[technique], {"rank": 4, **options} if technique != "prompt" else options)
    run(model, cut(eight_sequences(model), 512), steps=4, rate=rate)
    save_model(model, folder)
    return folder


def test_an_adapter_is_merged_on_the_way_and_its_update_measured(stub: Path, tmp_path: Path) -> None:
    """Pain 5: merging loses the update: how much of it the bits keep stands in export.json."""
    one = subject(tuned(stub, tmp_path / "adapter"))
    made = export(one, "gguf", Choices(tmp_path / "out"))
    assert made["update"]["kept"] == pytest.approx(1.0, abs=1e-3)
    opened = Opened.of(only(tmp_path / "out"))
    tokens_T = np.arange(20, 40)
    with torch.no_grad():
        expected = one.model.plain()(input_ids=torch.as_tensor(tokens_T)[None]).logits[0].numpy()
        base = load_model(str(stub), cpu()).plain()(input_ids=torch.as_tensor(tokens_T)[None]).logits[0].numpy()
    found = logits(opened, [tokens_T], [np.arange(20)])
    assert difference([expected], found).share < 2e-3 < difference([base], found).share, (
        "the file holds the base, not what was tuned"
    )
    few = export(one, "gguf", Choices(tmp_path / "few", bits="Q4_0"))
    assert few["update"]["error"] > 0.1 > made["update"]["error"]


def test_added_terms_are_in_the_file(stub: Path, tmp_path: Path) -> None:
    """Below the line: new tokens that are lost: a term's vector and its token are in the file, and its text is cut as in training."""
    one = subject(tuned(stub, tmp_path / "adapter", terms=("hearthstone",)), rows=tasks(2))
    export(one, "gguf", Choices(tmp_path / "out"))
    opened = Opened.of(only(tmp_path / "out"))
    token = one.model.tokenizer.convert_tokens_to_ids("hearthstone")
    assert opened.facts["tokenizer.ggml.tokens"][token] == "hearthstone"
    assert token in opened.tokenizer()("the hearthstone ends")
    found = logits(opened, [np.asarray([5, token, 9])], [np.arange(3)])
    with torch.no_grad():
        expected = one.model.plain()(input_ids=torch.tensor([[5, token, 9]])).logits[0].numpy()
    assert difference([expected], found).share < 2e-3


def test_a_head_parted_from_its_table_is_written(stub: Path, tmp_path: Path) -> None:
    """Tied by the configuration, and not any more by the numbers: the file must not share what differs."""
    one = subject(network_folder(tmp_path / "network", "llama tied"))
    head = one.model.plain().get_output_embeddings()
    assert not any(name == "output.weight" for name, _ in gguf_network.tensors(one.model.plain()))
    head.weight = torch.nn.Parameter(head.weight.detach() * 1.5)
    assert any(name == "output.weight" for name, _ in gguf_network.tensors(one.model.plain()))


def test_tokens_without_a_vector_are_refused() -> None:
    """Below the line: new tokens that are lost: a tokenizer that knows more than the network is no file."""
    tokenizer = stub_tokenizer()
    with pytest.raises(ModelError, match=r"knows 288 tokens, and the network 280: added tokens would have no vector"):
        vocabulary(tokenizer, rows=280, end_ids=[1], starts=True)


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("gemma2", {"query_pre_attn_scalar": 100}, "scales attention by 100"),
        ("llama", {"mlp_bias": True}, "biases"),
        ("llama", {"hidden_act": "relu"}, "activation is 'relu'"),
        ("qwen2", {"use_sliding_window": True}, "slides"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, "stretched by 'yarn'"),
        ("llama", {"model_type": "falcon"}, r"type 'falcon' is not written as GGUF here .*convert_hf_to_gguf.py"),
    ],
)
def test_what_the_file_cannot_say_is_refused_with_the_reason(kind: str, change: dict[str, Any], reason: str) -> None:
    import transformers

    from exports import SIZES

    name, values = NETWORKS[kind]
    config = getattr(transformers, name)(**{**SIZES, **values})
    gguf_network.refuse_network(config)
    for key, value in change.items():
        object.__setattr__(config, key, value)
    with pytest.raises(ModelError, match=reason):
        gguf_network.refuse_network(config)


def test_a_prompt_method_is_refused_before_anything_is_written(stub: Path, tmp_path: Path) -> None:
    """Pain 3: worse once exported: what a file cannot hold is not left out in silence."""
    one = subject(tuned(stub, tmp_path / "adapter", technique="prompt", positions=4, rate=1e-2))
    for target in ("gguf", "ollama", "merged", "vllm"):
        with pytest.raises(ModelError, match=r"virtual positions|prompt method"):
            export(one, target, Choices(tmp_path / "out"))
        assert not (tmp_path / "out").exists()
    assert export(one, "adapter", Choices(tmp_path / "out"))["peft_type"] == "PROMPT_TUNING"


# ---------------------------------------------------------------------------------------------------------------- an independent runtime


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("tokens", ["bytes", "pieces"])
def test_llama_cpp_itself_says_the_same(kind: str, tokens: str, tmp_path: Path) -> None:
    """Pain 4: the file is opened by llama.cpp, built from its source package: same tokens, same logits."""
    llama = pytest.importorskip(
        "llama_cpp", reason="llama-cpp-python is not here: pip install --no-binary llama-cpp-python llama-cpp-python"
    )
    if (kind, tokens) == ("qwen2", "pieces"):
        pytest.skip("transformers opens every Qwen 2 with byte-level tokens")
    one = subject(network_folder(tmp_path / "network", kind, tokenizer=piece_tokenizer() if tokens == "pieces" else None))
    export(one, "gguf", Choices(tmp_path / "out"))
    path = only(tmp_path / "out")
    opened = llama.Llama(model_path=str(path), logits_all=True, n_ctx=256, n_threads=1, verbose=False)
    composed = gguf_tokenizer.composes(one.model.tokenizer)
    for text in (normalize("NFC", odd) if composed else odd for odd in ODD):
        assert opened.tokenize(text.encode(), add_bos=False, special=True) == token_ids(one.model.tokenizer, text), text
    ids = list(range(8, 40))
    opened.eval(ids)
    found = np.asarray(opened.scores[: len(ids)], dtype=np.float32)
    with torch.no_grad():
        expected = one.model.plain()(input_ids=torch.tensor([ids])).logits[0].numpy()
    assert difference([expected], [found]).share < 0.01
    assert json.loads((tmp_path / "out" / "export.json").read_text())["checks"][-1]["passed"]
