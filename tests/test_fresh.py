"""A model from random weights: its tokenizer and template, its network, what a run file may say of it, and `burnish pretrain`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish import api, config_schema, prepare_fresh
from burnish.data.dialog import Frame
from burnish.data.render import Renderer
from burnish.errors import RunError
from burnish.models import end_ids
from burnish.models.fresh import Sizes, first_learning_rate, make_network, save_fresh
from burnish.models.fresh_tokenizer import RESERVED, SMALLEST_VOCABULARY, SPECIAL_TOKENS, make_tokenizer
from burnish.types import Dialog, Message, Origin, ToolCall, content
from cli_runs import cli, write_labelled, write_rows
from run_files import UNHURRIED, load, problems, run_toml
from stub import make_stub

TEXTS = [
    "The lamp in the north tower is lit at dusk, and the keeper writes the hour into the book beside the door.",
    "In the book beside the door there are 1204 hours, and not one of them was written by the keeper of the south tower.",
]
SMALL = Sizes(hidden=64, layers=2, heads=2, key_heads=1, feed_forward=96, context=128)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(TEXTS, vocabulary=320)


# ---------------------------------------------------------------------------------------------------------------------- the tokenizer


def test_special_tokens_have_the_same_numbers_whatever_the_texts_are(tokenizer: Any) -> None:
    assert len(SPECIAL_TOKENS) == len(set(SPECIAL_TOKENS)) == RESERVED == 32
    for made in (tokenizer, make_tokenizer([], vocabulary=1000)):
        assert tuple(made.convert_ids_to_tokens(list(range(RESERVED)))) == SPECIAL_TOKENS
        assert (made.bos_token, made.eos_token, made.pad_token) == SPECIAL_TOKENS[:3]
        assert made.convert_tokens_to_ids("<|end|>") == 7 and made.convert_tokens_to_ids("<|spare_15|>") == 31
        assert set(made.all_special_tokens) >= {"<s>", "</s>", "<pad>"}


def test_the_vocabulary_is_as_large_as_asked_where_the_texts_allow_it(tokenizer: Any) -> None:
    assert len(tokenizer) == 320
    assert len(make_tokenizer([], vocabulary=1000)) == SMALLEST_VOCABULARY == config_schema.SMALLEST_VOCABULARY
    assert len(tokenizer.encode("the keeper of the tower")) < len("the keeper of the tower") / 2, "what repeats is one token"


def test_the_same_texts_give_the_same_tokenizer(tokenizer: Any) -> None:
    again = make_tokenizer(iter(TEXTS), vocabulary=320)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


@given(st.lists(st.text() | st.sampled_from([*SPECIAL_TOKENS, " , don 't", "\r\n\t ", "a\u0301 ﷺ 👩\u200d🚀"])).map("".join))
@settings(UNHURRIED, max_examples=200)
def test_every_text_comes_back_unchanged(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(text) == ids, "nothing is put around a text unasked"


# ----------------------------------------------------------------------------------------------------------------------- the template

CALL = {"type": "function", "function": {"name": "look", "arguments": {"hour": 3, "where": "tür"}}}
DIALOGS: list[tuple[list[dict[str, Any]], list[str]]] = [
    ([{"role": "user", "content": "Who?"}, {"role": "assistant", "content": " The keeper.\n"}], [" The keeper.\n<|end|>"]),
    (
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "When?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "lit"},
            {"role": "assistant", "content": "At dusk."},
            {"role": "user", "content": "Thanks."},
        ],
        [
            '<|tool_call|>{"name": "look", "arguments": {"hour": 3, "where": "tür"}}<|/tool_call|><|end|>',
            "At dusk.<|end|>",
        ],
    ),
    ([{"role": "assistant", "content": "Ask me."}], ["Ask me.<|end|>"]),
    ([{"role": "user", "content": "Nobody answers."}], []),
]


@pytest.mark.parametrize(("messages", "learned"), DIALOGS)
@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "look"}}]])
def test_the_marks_cover_the_turns_of_the_assistant_and_nothing_else(
    tokenizer: Any, messages: list[dict[str, Any]], learned: list[str], tools: Any
) -> None:
    found = tokenizer.apply_chat_template(messages, tools=tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    marked = [token for token, mask in zip(found["input_ids"], found["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(marked) == "".join(learned)
    text = tokenizer.decode(found["input_ids"])
    assert text.startswith("<s><|") and text.endswith("<|end|>")
    assert text.count("<|end|>") == len(messages) + (tools is not None and messages[0]["role"] != "system")
    assert ("Tools: " in text) == (tools is not None)


def test_the_text_between_the_marks_is_that_of_the_messages(tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "U"}]}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<s><|system|>S<|end|><|user|><|image|>U<|end|><|assistant|>"
    with pytest.raises(Exception, match="system, user, assistant or tool, not robot"):
        tokenizer.apply_chat_template([{"role": "robot", "content": "x"}], tokenize=False)


def test_a_turn_is_learned_after_exactly_the_prompt_that_is_asked_with(tokenizer: Any) -> None:
    ends = end_ids(tokenizer, None)
    renderer = Renderer(tokenizer, 1000, ends, Frame())
    messages = (
        Message(role="user", content=content("Who?")),
        Message(role="assistant", content=content(""), tool_calls=(ToolCall(name="look", arguments={"hour": 3}),)),
        Message(role="tool", content=content("lit")),
        Message(role="assistant", content=content("The keeper.")),
    )
    [sequence] = renderer.sequences(Dialog(messages=messages, origin=Origin("rows.jsonl", 1)))
    learned = tokenizer.decode(sequence.target_N.tolist())
    assert learned == '<|tool_call|>{"name": "look", "arguments": {"hour": 3}}<|/tool_call|><|end|>The keeper.<|end|>'
    task = renderer.task_of(Dialog(messages=messages, origin=Origin("rows.jsonl", 1)))
    prompt_T = renderer.prompt(task)
    assert sequence.tokens_T[: len(prompt_T)].tolist() == prompt_T.tolist()
    assert [tokenizer.decode(token) for token in ends] == ["</s>", "<|end|>"]


# ------------------------------------------------------------------------------------------------------------------------ the network


def test_the_seed_decides_the_weights_and_leaves_torch_as_it_was(tokenizer: Any) -> None:
    import torch

    before = torch.get_rng_state()
    first, again, other = (make_network(SMALL, tokenizer, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    names = {name for name, weight in first.named_parameters() if weight.ndim == 2}
    pairs = {name: (weight, again.get_parameter(name), other.get_parameter(name)) for name, weight in first.named_parameters()}
    assert all(torch.equal(one, two) for one, two, _ in pairs.values())
    assert not any(torch.equal(pairs[name][0], pairs[name][2]) for name in names)
    assert first.lm_head.weight is first.model.embed_tokens.weight


def test_weights_are_small_and_smaller_where_they_are_added_up(tokenizer: Any) -> None:
    network = make_network(SMALL, tokenizer)
    for name, weight in network.named_parameters():
        expected = 0.0 if weight.ndim == 1 else 0.01 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
        assert weight.std().item() == pytest.approx(expected, rel=0.06), f"{name}: with two layers the sum has four parts"
        assert weight.ndim == 2 or bool((weight == 1).all())


def test_a_fresh_model_opens_with_transformers_alone(tokenizer: Any, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = make_network(SMALL, tokenizer)
    save_fresh(tmp_path / "fresh", made, tokenizer)
    network, read = (kind.from_pretrained(str(tmp_path / "fresh")) for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert read.encode("the keeper's lamp") == tokenizer.encode("the keeper's lamp")
    assert read.chat_template == tokenizer.chat_template
    assert network.generation_config.eos_token_id == [1, 7] and network.config.eos_token_id == 1
    assert (network.config.bos_token_id, network.config.pad_token_id, network.config.vocab_size) == (0, 2, len(tokenizer))
    assert network.config.rope_parameters["rope_theta"] == 10_000.0
    ids_BT = torch.tensor([read.encode("the keeper")])
    assert torch.equal(network(ids_BT).logits, made.eval()(ids_BT).logits)


def test_the_first_learning_rate_falls_with_the_width() -> None:
    rates = [first_learning_rate(width) for width in (32, 64, 256, 768, 2048, 12_288)]
    assert rates == sorted(rates, reverse=True) and rates[0] == 3e-3
    assert first_learning_rate(768) == pytest.approx(6e-4, rel=0.1) and first_learning_rate(4096) == pytest.approx(1.2e-4, rel=0.1)


# --------------------------------------------------------------------------------------------------------------------- what a run says

FRESH = 'data = "rows.jsonl"\n[model]\ninit = "llama"\n'


def test_a_fresh_model_brings_defaults_of_its_own(tmp_path: Path) -> None:
    run = load(run_toml(tmp_path, FRESH))
    assert run.config.model.is_fresh and run.config.model.name is None
    assert run.config.model.vocabulary == 8192 and run.config.technique.name == "full" and run.config.evaluate.baseline is False
    assert run.origins["technique.name"] == run.origins["evaluate.baseline"] == "model.init"
    assert str(run.config.model) == "a fresh llama network"
    own = load(run_toml(tmp_path, FRESH + "[evaluate]\nbaseline = true\n"))
    assert own.config.evaluate.baseline is True


def test_a_name_above_replaces_a_fresh_model_and_the_other_way_round(tmp_path: Path) -> None:
    path = run_toml(tmp_path, FRESH + "hidden = 512\nheads = 8\n")
    named = load(path, "model=tiny")
    assert named.config.model.name == "tiny" and not named.config.model.is_fresh and named.config.technique.name == "lora"
    assert named.notes == ('the fresh model of you (run.toml:3) is left out: the run begins with "tiny"',)
    assert load(path, "model.name=tiny").config == named.config
    assert load(path, "model.hidden=256").config.model.heads == 8, "one size may change alone"
    borrowed = load(path, "model.tokenizer=tiny").config.model
    assert (borrowed.tokenizer, borrowed.vocabulary) == ("tiny", None)
    assert load(run_toml(tmp_path, 'data = "x"\nmodel = "m"'), "model.init=llama").config.model.is_fresh


@pytest.mark.parametrize("written", ['model = "m"', 'model.name = "m"', 'model = {name = "m"}', '[model]\nname = "m"'])
def test_a_model_with_a_name_is_written_in_any_form(tmp_path: Path, written: str) -> None:
    run = load(run_toml(tmp_path, f'data.source = "x"\n{written}'))
    assert run.config.model.name == "m" and run.origins["model"] == f"you (run.toml:{3 if '[' in written else 2})"
    assert run.config == load(None, values={"data": "x", "model": "m", "output": run.config.output}).config


def test_what_is_wrong_with_a_fresh_model_is_said_at_once(tmp_path: Path) -> None:
    text = 'init = "lama"\nhidden = 100\nheads = 3\nkey_heads = 2\nfeed_forward = 100\nvocabulary = 12\nrope_base = 1\nvocab_size = 3\n'
    found = problems(run_toml(tmp_path, 'data = "x"\n[model]\n' + text))
    expected = [
        """run.toml:3: model.init: one of "llama", "vit" expected, got "lama". Did you mean 'llama'?""",
        "run.toml:4: model.hidden: 100 features divided by 3 heads (model.heads) must be a multiple of 32; write 96",
        "run.toml:6: model.key_heads: 3 heads (model.heads) cannot share 2 evenly; write one of 1, 3",
        "run.toml:7: model.feed_forward: 100 is no multiple of 32; write 96",
        "run.toml:8: model.vocabulary: a number of at least 288 expected, got 12",
        "run.toml:9: model.rope_base: a number greater than 1 expected, got 1",
        "run.toml:10: model.vocab_size: unknown key. Did you mean 'model.vocabulary'?",
    ]
    assert len(found) == len(expected) and all(one.startswith(start) for one, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ('name = "m"\nhidden = 64', "run.toml:4: model.hidden: belongs to a fresh model. Set model.init"),
        ("layers = 3", "run.toml:3: model.layers: belongs to a fresh model"),
        ('name = "m"\ninit = "llama"', 'model.name = "m" and model.init = "llama" exclude each other'),
        ('init = "llama"\nvocabulary = 300\ntokenizer = "m"', "model.vocabulary = 300 and model.tokenizer"),
        ('init = "llama"\ncontext = 4', "run.toml:4: model.context: a number of at least 16"),
    ],
)
def test_what_does_not_go_together_is_said(tmp_path: Path, table: str, part: str) -> None:
    [found] = problems(run_toml(tmp_path, f'data = "x"\n[model]\n{table}\n'))
    assert part in found


# ------------------------------------------------------------------------------------------------------------------- the whole way

RUN = """
data.source = "rows.jsonl"
data.dev_share = 0
data.test_share = 0.2
data.near_duplicates = false
output = "out"
dtype = "float32"
threads = 1
score = "bits_per_byte"
train = {steps = 6, batch = 4, schedule = "constant", warmup = 0}
save.every = 2
log = {every = 1, tensorboard = false}
[model]
init = "llama"
hidden = 64
layers = 2
heads = 2
key_heads = 1
feed_forward = 96
context = 128
vocabulary = 300
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, a run file, and its finished run in `out`."""
    folder = tmp_path_factory.mktemp("fresh")
    write_rows(folder / "rows.jsonl", 24)
    write_labelled(folder / "labelled.jsonl")
    (folder / "run.toml").write_text(RUN)
    done = cli("pretrain", "run.toml", "--json", folder=folder)
    assert done.code == 0, done.err
    (folder / "told.txt").write_text(done.err)
    return folder


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def alike(first: Path, second: Path) -> bool:
    one, two = weights(first), weights(second)
    return one.keys() == two.keys() and all((one[name] == two[name]).all() for name in one)


def fresh_folders(place: Path) -> list[str]:
    return sorted(path.name for path in (place / ".fresh").iterdir())


def test_pretraining_leaves_a_model_that_learned_and_a_run_file_that_repeats_it(place: Path) -> None:
    from burnish import config
    from burnish.prepare import registries

    report = json.loads((place / "out" / "report.json").read_text())
    assert report["run"]["model"] == "a fresh llama network" and report["run"]["technique"] == "full"
    assert report["scores"]["bits_per_byte"]["tuned"]["mean"] < report["scores"]["bits_per_byte"]["base"]["mean"]
    assert any("300 tokens learned from the training texts" in note for note in report["notes"])
    assert "Loading a fresh llama network" in (place / "told.txt").read_text()
    assert "%|" not in (place / "told.txt").read_text(), "no progress bar of a library between our lines"
    written, given = (config.load(place / path, registries=registries()) for path in ("out/run.toml", "run.toml"))
    assert written.config.model == given.config.model
    assert written.config.train.learning_rate == first_learning_rate(64)
    assert written.origins["model.hidden"].startswith("you (run.toml:")


def test_check_makes_the_same_model_and_only_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.prepare.measure_matmul", lambda *_, **__: 1e9)
    before = fresh_folders(place)
    assert [name.partition("-")[0] for name in before] == ["model", "tokenizer"]
    with monkeypatch.context() as patch:
        patch.setattr(prepare_fresh, "make_tokenizer", None)
        patch.setattr(prepare_fresh, "make_network", None)
        done = cli("check", "run.toml", "output=other", "--json", folder=place)
        assert done.code == 0, done.err
        assert fresh_folders(place) == before
    with monkeypatch.context() as patch:
        patch.setattr(prepare_fresh, "make_tokenizer", None)  # the texts are the same, and so is their tokenizer
        assert cli("check", "run.toml", "output=other", "model.layers=1", "--json", folder=place).code == 0
        assert len(fresh_folders(place)) == 3


def test_a_resumed_run_is_the_same_though_its_start_was_deleted(place: Path) -> None:
    done = cli("pretrain", "run.toml", "output=halves", "train.steps=3", folder=place)
    assert done.code == 0, done.err
    assert not alike(place / "halves" / "model", place / "out" / "model")
    shutil.rmtree(place / ".fresh")
    done = cli("pretrain", "halves/run.toml", "output=halves", "train.steps=6", "--resume", folder=place)
    assert done.code == 0 and "Resuming after step 3" in done.err, done.err
    assert alike(place / "halves" / "model", place / "out" / "model")
    done = cli("pretrain", "run.toml", "output=halves", "train.steps=8", "model.context=96", "--resume", folder=place)
    assert done.code == 2 and "model.context: 128 -> 96" in done.message, done.err
    assert "the model: its weights" not in done.message


def test_a_finished_run_is_measured_beside_its_random_start_wherever_it_lies(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "out", tmp_path / "moved" / "out")
    shutil.copyfile(place / "rows.jsonl", tmp_path / "rows.jsonl")
    shutil.copyfile(place / "rows.jsonl", tmp_path / "moved" / "rows.jsonl")
    report = api.evaluate(tmp_path / "moved" / "out", tmp_path / "rows.jsonl", scores=["bits_per_byte"])
    scores = report["scores"]["bits_per_byte"]
    assert scores["tuned"]["mean"] < scores["base"]["mean"]
    held_out = api.evaluate(tmp_path / "moved" / "out")
    written = json.loads((place / "out" / "report.json").read_text())
    assert held_out["scores"] == written["scores"], "the same rows, the same two models, the same figures"


def test_tuning_goes_on_from_it_as_from_any_run(place: Path, tmp_path: Path) -> None:
    done = cli("tune", write_second(tmp_path, place), folder=place)
    assert done.code == 0, done.err
    facts = json.loads((place / "second" / "report.json").read_text())
    assert facts["run"]["technique"] == "lora"
    settings_file = json.loads((place / "second" / "model" / "burnish.json").read_text())
    assert settings_file["base"] == str((place / "out").resolve())


def write_second(folder: Path, place: Path) -> Path:
    path = folder / "second.toml"
    path.write_text(
        f'model = "{place}/run.toml"\ndata = "{place}/labelled.jsonl"\noutput = "second"\ndtype = "float32"\nthreads = 1\n'
        "evaluate = {baseline = false, max_tokens = 4}\ntrain = {steps = 2, batch = 2}\nlog.tensorboard = false\n"
    )
    return path


def test_pretrain_refuses_a_model_that_there_is_and_an_adapter(place: Path) -> None:
    done = cli("pretrain", "run.toml", "model=tiny", "output=no", folder=place)
    assert done.code == 2 and "model = 'tiny' has been trained before" in done.message and "burnish tune" in done.message
    done = cli("tune", "run.toml", "technique=lora", "output=no", folder=place)
    assert done.code == 2 and "leave them random" in done.message and 'technique.name = "full"' in done.message
    assert not (place / "no").exists()


def test_learning_prompts_too_leaves_room_for_the_answers_alone(place: Path) -> None:
    from burnish.prepare import prepare

    plans = [
        prepare(api.resolve(place / "run.toml", f"data.learn={learn}", f"output={place}/x")) for learn in ("all", "everything")
    ]
    learned = [sum(len(sequence.at_N) for sequence in plan.sequences()) for plan in plans]
    tokens = sum(sequence.length - 1 for sequence in plans[1].sequences())
    assert learned[0] < learned[1] == tokens
    assert plans[0].resolved.config.evaluate.max_tokens == plans[1].resolved.config.evaluate.max_tokens


def test_a_tokenizer_can_be_taken_over(place: Path, tmp_path: Path) -> None:
    make_stub(tmp_path / "stub")
    done = cli("tune", "run.toml", "output=borrowed", f"model.tokenizer={tmp_path}/stub", "train.steps=1", folder=place)
    assert done.code == 0, done.err
    assert json.loads((place / "borrowed" / "model" / "config.json").read_text())["vocab_size"] == 288
    done = cli("tune", "run.toml", "output=no", f"model.tokenizer={tmp_path}/none", "data.source=none.jsonl", folder=place)
    assert done.code != 0 and "model.tokenizer = " in done.message and "none.jsonl" in done.message, done.err


def test_a_damaged_start_is_made_again_and_of_two_makers_one_stays(tmp_path: Path) -> None:
    made: list[Path] = []

    def fill(folder: Path) -> None:
        made.append(folder)
        (folder / "weights").write_text("w")

    target = prepare_fresh._made(tmp_path / ".fresh" / "model-1", fill, {})
    assert prepare_fresh._made(target, fill, {}) == target and len(made) == 1
    (target / "weights").write_text("damaged")
    assert prepare_fresh._made(target, fill, {}) == target and len(made) == 2 and (target / "weights").read_text() == "w"

    def slow(folder: Path) -> None:
        prepare_fresh._made(tmp_path / ".fresh" / "model-2", fill, {})  # another process, in between
        fill(folder)

    second = prepare_fresh._made(tmp_path / ".fresh" / "model-2", slow, {})
    assert sorted(path.name for path in second.parent.iterdir()) == ["model-1", "model-2"]

    def never(folder: Path) -> None:
        raise RunError("no")

    with pytest.raises(RunError):
        prepare_fresh._made(tmp_path / ".fresh" / "model-3", never, {})
    assert sorted(path.name for path in second.parent.iterdir()) == ["model-1", "model-2"]
