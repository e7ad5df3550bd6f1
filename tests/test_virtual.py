"""Virtual positions stand before every sequence, whatever the layout, and in generation; nothing else knows of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.data.batching import collate
from burnish.errors import ModelError
from burnish.models import Model, adapt, forward, load_model, save_model, virtual
from burnish.sampling import Options, generate, stream
from burnish.techniques import TECHNIQUES
from loop import cut, eight_sequences, run
from stub import cpu, make_stub

NAMES = ("prompt", "ptuning", "prefix")
every_method = pytest.mark.parametrize("name", NAMES)
TEXT = "the user"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("virtual") / "stub")


@pytest.fixture
def adapted(folder: Path) -> Callable[..., Model]:
    def made(name: str, *, steps: int = 3, place: Path | None = None, **options: Any) -> Model:
        model = load_model(str(place or folder), cpu())
        torch.manual_seed(0)
        adapt(model, TECHNIQUES[name], {"positions": 5, **options})
        if steps:
            run(model, cut(eight_sequences(model), 512), steps=steps, rate=2e-2)
        model.network.eval()
        return model

    return made


def whole(model: Model, *, packing: bool) -> Any:
    """Return all eight rows in one batch."""
    sequences = [part for parts in eight_sequences(model) for part in parts]
    return collate(sequences, packing=packing, pad_id=0, device="cpu")


def logprobs(model: Model, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        found = forward(model, batch, ("logprobs", "entropy"))
    assert found.logprobs_N is not None
    assert found.entropy_N is not None
    return torch.stack([found.logprobs_N, found.entropy_N])


@every_method
def test_each_layout_gives_what_pefts_own_forward_gives(name: str, adapted: Callable[..., Model]) -> None:
    """Each sequence alone through PEFT, its read-outs found by counting from its first token; against padded and packed batches."""
    model = adapted(name)
    expected = []
    for sequence in (part for parts in eight_sequences(model) for part in parts):
        with torch.no_grad():
            ids = torch.as_tensor(sequence.tokens_T.astype(np.int64))[None]
            logits = model.network(input_ids=ids).logits[0, -sequence.length :].log_softmax(-1)
        read = logits[torch.as_tensor(sequence.at_N.astype(np.int64))]
        expected.append(read[torch.arange(len(read)), torch.as_tensor(sequence.target_N.astype(np.int64))])
    for packing in (False, True):
        torch.testing.assert_close(logprobs(model, whole(model, packing=packing))[0], torch.cat(expected), atol=2e-5, rtol=1e-5)


@every_method
def test_the_head_that_cannot_be_run_apart_and_the_mask_are_the_same(name: str, adapted: Callable[..., Model]) -> None:
    """The plain paths of `forward` see the virtual positions too."""
    model = adapted(name)
    for packing in (False, True):
        batch = whole(model, packing=packing)
        expected = logprobs(model, batch)
        torch.testing.assert_close(logprobs(replace(model, head="whole"), batch), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(logprobs(replace(model, documents="mask"), batch), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_a_text_to_begin_with_is_that_text_before_every_prompt(name: str, adapted: Callable[..., Model], folder: Path) -> None:
    """Before step 0, in batches and in generation: the base with the text's tokens in front."""
    base = load_model(str(folder), cpu())
    tokens: list[int] = base.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    model = adapted(name, steps=0, positions=len(tokens), text=TEXT)
    prompts = [np.asarray(prompt, dtype=np.int32) for prompt in ([5, 9, 71], [12, 33, 44, 7, 101, 8])]
    longer = [np.concatenate([tokens, prompt]).astype(np.int32) for prompt in prompts]
    found, expected = generate(model, prompts, Options(max_tokens=8)), generate(base, longer, Options(max_tokens=8))
    assert [answer.tokens.tolist() for answer in found] == [answer.tokens.tolist() for answer in expected]
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.logprobs, two.logprobs, atol=1e-5)
    sequences = [part for parts in eight_sequences(base) for part in parts]
    shifted = [
        replace(part, tokens_T=np.concatenate([tokens, part.tokens_T]).astype(np.int32), at_N=part.at_N + len(tokens))
        for part in sequences
    ]
    expected_N = logprobs(base, collate(shifted, packing=False, pad_id=0, device="cpu"))
    for packing in (False, True):
        torch.testing.assert_close(logprobs(model, whole(model, packing=packing)), expected_N, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_a_short_text_is_repeated(name: str, adapted: Callable[..., Model], folder: Path) -> None:
    tokens: list[int] = load_model(str(folder), cpu()).tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    model = adapted(name, steps=0, positions=len(tokens) + 2, text=TEXT)
    weight = model.network.prompt_encoder["default"].embedding.weight
    if name == "prompt":
        assert torch.equal(weight[len(tokens) :], weight[:2])
    assert len(weight) == len(tokens) + 2


@every_method
def test_batches_and_samples_of_generation_do_not_mix(name: str, adapted: Callable[..., Model]) -> None:
    """Prompts of unequal length, several samples, rows that leave: as each prompt alone; in pieces the same."""
    model = adapted(name, steps=8)
    prompts = [np.asarray(prompt, dtype=np.int32) for prompt in ([5, 9, 71], [12, 33, 44, 7, 101, 8], [90], [5, 9, 71])]
    options = Options(max_tokens=8, samples=2, temperature=0.8, seed=3)
    together = generate(model, prompts, options)
    for number, prompt in enumerate(prompts):
        alone = generate(model, [prompt], options, numbers=[number])
        mine = [answer for answer in together if answer.prompt == number]
        assert [answer.tokens.tolist() for answer in alone] == [answer.tokens.tolist() for answer in mine]
        for one, two in zip(alone, mine, strict=True):
            np.testing.assert_allclose(one.logprobs, two.logprobs, atol=1e-4)
    greedy = Options(max_tokens=8)
    assert "".join(stream(model, prompts[1], greedy)) == generate(model, [prompts[1]], greedy)[0].text


@every_method
def test_likelihoods_of_generation_are_those_of_forward(name: str, adapted: Callable[..., Model]) -> None:
    """The policy that samples is the policy that is trained: what PPO's ratio rests on."""
    from burnish.types import Origin, Sequence

    model = adapted(name)
    prompt = np.asarray([12, 33, 44, 7], dtype=np.int32)
    answer = generate(model, [prompt], Options(max_tokens=6))[0]
    assert len(answer.tokens) > 2
    tokens = np.concatenate([prompt, answer.tokens]).astype(np.int32)
    places = np.arange(len(prompt), len(tokens), dtype=np.int32)
    sequence = Sequence(tokens, places - 1, tokens[places], np.ones(len(places), dtype=np.float32), Origin("here"))
    batch = collate([sequence, sequence], packing=True, pad_id=0, device="cpu")
    found = logprobs(model, batch)[0]
    np.testing.assert_allclose(found[: len(places)], answer.logprobs, atol=1e-5)
    np.testing.assert_allclose(found[len(places) :], answer.logprobs, atol=1e-5)


@every_method
def test_switched_off_there_is_nothing_virtual(name: str, adapted: Callable[..., Model], folder: Path) -> None:
    base, model = load_model(str(folder), cpu()), adapted(name)
    prompts = [np.asarray([12, 33, 44, 7], dtype=np.int32)]
    with model.network.disable_adapter():
        assert virtual.count(model.network) == 0
        assert torch.equal(logprobs(model, whole(model, packing=True)), logprobs(base, whole(base, packing=True)))
        found = generate(model, prompts, Options(max_tokens=6))[0]
        assert found.tokens.tolist() == generate(base, prompts, Options(max_tokens=6))[0].tokens.tolist()
    assert virtual.count(model.network) == 5


@every_method
def test_the_context_has_room_for_them(name: str, adapted: Callable[..., Model], folder: Path) -> None:
    model = adapted(name, steps=0)
    assert model.max_length == load_model(str(folder), cpu()).max_length - 5
    full = np.full(model.max_length - 4, 7, dtype=np.int32)
    assert generate(model, [full], Options(max_tokens=4))
    with pytest.raises(ModelError, match="1 too many"):
        generate(model, [np.append(full, 7)], Options(max_tokens=4))
    assert TECHNIQUES[name].virtual_positions is not None
    assert TECHNIQUES[name].virtual_positions(positions=5) == 5


@every_method
def test_a_gradient_reaches_nothing_else(name: str, adapted: Callable[..., Model]) -> None:
    """And reaches each position: none of them is left out of a layout."""
    model = adapted(name, steps=0)
    for packing in (False, True):
        model.network.zero_grad()
        forward(model, whole(model, packing=packing), ("logprobs",)).logprobs_N.sum().backward()  # type: ignore[union-attr]
        got = {key for key, item in model.network.named_parameters() if item.grad is not None}
        assert got == {key for key, item in model.network.named_parameters() if item.requires_grad}
        assert bool((model.network.prompt_encoder["default"].embedding.weight.grad.abs().sum(1) > 0).all())


def test_a_packed_layout_keeps_its_order_and_its_padding(adapted: Callable[..., Model]) -> None:
    """Several rows, sequences of a row in any order, and gaps between them."""
    from burnish.types import Layout

    model = adapted("prompt", steps=0, positions=2)
    layout = Layout(
        "packed",
        input_ids_BT=torch.tensor([[11, 12, 0, 21, 22, 23, 0], [31, 0, 0, 0, 0, 0, 0]]),
        position_ids_BT=torch.tensor([[0, 1, 0, 0, 1, 2, 0], [0, 0, 0, 0, 0, 0, 0]]),
        document_BT=torch.tensor([[2, 2, -1, 0, 0, 0, -1], [1, -1, -1, -1, -1, -1, -1]]),
        row_S=torch.tensor([0, 1, 0]),
        start_S=torch.tensor([3, 0, 0]),
    )
    wide = virtual.make_room(model.network, layout)
    assert wide.input_ids_BT.tolist() == [[-1, -2, 11, 12, 0, -1, -2, 21, 22, 23, 0], [-1, -2, 31, *[0] * 8]]
    assert wide.position_ids_BT.tolist() == [[0, 1, 2, 3, 0, 0, 1, 2, 3, 4, 0], [0, 1, 2, *[0] * 8]]
    assert wide.document_BT is not None
    assert wide.document_BT.tolist() == [[2, 2, 2, 2, -1, 0, 0, 0, 0, 0, -1], [1, 1, 1, *[-1] * 8]]
    assert wide.start_S.tolist() == [7, 2, 2]


@pytest.mark.parametrize("kind", ["gpt2", "qwen2", "gemma2"])
@every_method
def test_other_architectures(name: str, kind: str, adapted: Callable[..., Model], tmp_path: Path) -> None:
    """Learned positions, keys shared by heads, scaled token vectors and sliding windows: as PEFT's own forward; or refused."""
    model = adapted(name, steps=0, place=other_stub(kind, tmp_path))
    prompts = [np.asarray(prompt, dtype=np.int32) for prompt in ([5, 9, 71], [12, 33, 44, 7, 101, 8])]
    ids = torch.as_tensor(prompts[1].astype(np.int64))[None]
    with torch.no_grad():
        expected = model.network(input_ids=ids).logits[0, -1].log_softmax(-1)
    answer = generate(model, prompts, Options(max_tokens=2))[1]
    assert answer.logprobs[0] == pytest.approx(float(expected.max()), abs=1e-4)
    padded = logprobs(model, whole(model, packing=False))
    if model.documents == "mixed" or (name == "prefix" and getattr(model.plain().config, "sliding_window", None)):
        with pytest.raises(ModelError, match=r"train.packing = false"):
            logprobs(model, whole(model, packing=True))
    else:
        torch.testing.assert_close(logprobs(model, whole(model, packing=True)), padded, atol=3e-5, rtol=1e-5)


def other_stub(kind: str, place: Path) -> Path:
    """Write a random network of another architecture with the stub's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from stub import stub_tokenizer

    tokenizer = stub_tokenizer()
    sizes: dict[str, Any] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
        "qwen2": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        "gemma2": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": 64,
        },
    }
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, vocab_size=len(tokenizer), initializer_range=0.1, **ends, **sizes[kind])
    ).save_pretrained(str(place))
    tokenizer.save_pretrained(str(place))
    return place


@every_method
def test_a_run_can_go_on_from_an_adapter_no_further_than_by_itself(
    name: str, adapted: Callable[..., Model], tmp_path: Path
) -> None:
    """Its virtual positions can neither be merged nor stand below another adapter."""
    save_model(adapted(name), tmp_path)
    for technique in ("lora", "full", "prompt"):
        with pytest.raises(ModelError, match=r"cannot be merged|second adapter|plain LoRA"):
            adapt(load_model(str(tmp_path), cpu()), TECHNIQUES[technique], {})


def test_virtual_tokens_of_an_unknown_kind_are_refused(folder: Path, tmp_path: Path) -> None:
    from peft import MultitaskPromptTuningConfig, get_peft_model

    from burnish.techniques.low_rank import quiet

    with quiet():
        network = get_peft_model(
            load_model(str(folder), cpu()).network,
            MultitaskPromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, num_tasks=2),
        )
        with pytest.raises(ModelError, match="virtual tokens of the kind"):
            virtual.refuse_unknown(network, "it")
