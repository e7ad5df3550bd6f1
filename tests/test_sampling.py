"""Sampling: the same tokens as transformers, whatever the batch; honest draws; text without half characters; nothing left changed."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish.errors import ConfigError, ModelError, RunError
from burnish.models import Model, load_model
from burnish.sampling import Generated, Options, choose, generate, likelihoods, stream, uniforms
from burnish.sampling.generate import BFLOAT16_TOLERANCE
from burnish.sampling.text import HALF, Pieces, final_text
from burnish.techniques.lora import lora
from burnish.types import Origin
from burnish.types import Sequence as Tokens
from stub import cpu, load_stub, make_stub, stub_tokenizer

STORIES = Path(__file__).resolve().parents[2] / "shared" / "models" / "stories260K"
LENGTHS = (3, 17, 1, 40, 40, 9, 100, 2)


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The stub, in which a dozen tokens end an answer, so that rows end at different places."""
    model = load_stub(tmp_path_factory.mktemp("sampling"))
    config: Any = model.plain().config
    config.eos_token_id = [1, *range(66, 288, 36), 173, 208, 66]
    return model


@pytest.fixture(scope="module")
def prompts() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(60, 288, size=length) for length in LENGTHS]


def oracle(model: Model, prompt: np.ndarray, max_tokens: int, network: Any = None) -> list[int]:
    """Return what transformers' own greedy generation gives for one prompt alone, the end token left out."""
    ids = torch.as_tensor(prompt)[None]
    output = (network or model.network).generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=list(model.end_ids()),
    )
    tokens = output[0, len(prompt) :].tolist()
    return tokens[:-1] if tokens[-1] in model.end_ids() else tokens


def tokens_of(answers: Sequence[Generated]) -> list[list[int]]:
    return [answer.tokens.tolist() for answer in answers]


# ------------------------------------------------------------------------------------------------- the same tokens as transformers


def test_greedy_is_transformers_greedy(stub: Model, prompts: list[np.ndarray]) -> None:
    """Left padding, the cache, and rows that leave it change nothing: exactly the tokens of one prompt alone."""
    expected = [oracle(stub, prompt, 48) for prompt in prompts]
    assert len({len(tokens) for tokens in expected}) > 2, "rows should end at different places, else nothing is tested"
    for batch in (1, 3, 64):
        answers = generate(stub, prompts, Options(max_tokens=48, batch=batch))
        assert tokens_of(answers) == expected
        assert [answer.prompt for answer in answers] == list(range(len(prompts)))


@pytest.mark.skipif(not STORIES.is_dir(), reason="the stories260K model is not there")
def test_greedy_is_transformers_greedy_on_a_real_model() -> None:
    model = load_model(str(STORIES), cpu())
    texts = ["Once upon a time", "Lily", "The dog was very happy because he found a big", "<s>One day, Tom and his mom"]
    prompts = [np.array(model.tokenizer(text)["input_ids"]) for text in texts]
    assert tokens_of(generate(model, prompts, Options(max_tokens=80))) == [oracle(model, prompt, 80) for prompt in prompts]


def test_greedy_with_an_adapter_is_transformers_greedy(tmp_path: Path, prompts: list[np.ndarray]) -> None:
    """The adapter takes part in generation; its dropout does not, though the network stands in training mode."""
    model = load_stub(tmp_path)
    base = tokens_of(generate(model, prompts, Options(max_tokens=24)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model.network = lora(model.plain(), rank=4, dropout=0.5)
        for name, parameter in model.network.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    model.network.train()
    adapted = tokens_of(generate(model, prompts, Options(max_tokens=24)))
    assert model.network.training
    model.network.eval()
    assert adapted == [oracle(model, prompt, 24) for prompt in prompts]
    assert adapted != base


def test_greedy_with_a_sliding_window_is_transformers_greedy(stub: Model, prompts: list[np.ndarray]) -> None:
    """A cache that forgets has other layers; prompts longer and shorter than its window stand in one batch."""
    from transformers import MistralConfig, MistralForCausalLM

    shape: Any = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = MistralConfig(
            vocab_size=288, num_key_value_heads=2, sliding_window=8, initializer_range=0.1, eos_token_id=[1, 66, 173], **shape
        )
        network = MistralForCausalLM(config).eval()
    model = replace(stub, network=network)
    assert tokens_of(generate(model, prompts, Options(max_tokens=24))) == [oracle(model, prompt, 24) for prompt in prompts]


def test_bfloat16_differs_only_where_the_best_two_are_close(tmp_path: Path, prompts: list[np.ndarray]) -> None:
    """Batched and alone, bfloat16 sums in another order: the first difference must be a near tie, within the stated tolerance."""
    model = load_model(str(make_stub(tmp_path)), cpu("bfloat16"))
    close = []
    for prompt, answer in zip(prompts, generate(model, prompts, Options(max_tokens=48)), strict=True):
        ours, theirs = answer.tokens.tolist(), oracle(model, prompt, 48)
        pairs = zip([*ours, -1], [*theirs, -1], strict=False)
        place = next((number for number, (mine, other) in enumerate(pairs) if mine != other), None)
        if place is None:
            continue
        ids = torch.as_tensor([*prompt.tolist(), *ours[:place]])[None]
        with torch.no_grad():
            logits_V = model.network(input_ids=ids, use_cache=False).logits[0, -1].float()
        first, second = logits_V.topk(2).values.tolist()
        close.append((first - second) / logits_V.abs().max().item())
    assert all(gap <= BFLOAT16_TOLERANCE for gap in close), close


# ----------------------------------------------------------------------------------------------------------- draws that can be trusted


@pytest.mark.parametrize("options", [Options(max_tokens=24, temperature=1.0), Options(max_tokens=24, temperature=0.8, top_p=0.9)])
def test_samples_do_not_depend_on_batch_or_order(stub: Model, prompts: list[np.ndarray], options: Options) -> None:
    """Pain 25: irreproducible: an answer is a function of seed, step, prompt and sample alone."""
    options = replace(options, samples=3, seed=7, step=2)
    whole = tokens_of(generate(stub, prompts, options))
    assert tokens_of(generate(stub, prompts, replace(options, batch=5))) == whole
    turned = generate(stub, prompts[::-1], options, numbers=list(range(len(prompts)))[::-1])
    rows = [whole[first : first + 3] for first in range(0, len(whole), 3)]
    assert tokens_of(turned) == [answer for row in rows[::-1] for answer in row]
    assert whole[0] != whole[1] and tokens_of(generate(stub, prompts, replace(options, seed=8))) != whole
    assert tokens_of(generate(stub, prompts, replace(options, step=3))) != whole


def test_no_global_generator_is_touched(stub: Model, prompts: list[np.ndarray]) -> None:
    def states() -> list[Any]:
        return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # type: ignore[index]

    before = states()
    first = tokens_of(generate(stub, prompts[:3], Options(max_tokens=8, temperature=1.0)))
    assert states() == before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        assert tokens_of(generate(stub, prompts[:3], Options(max_tokens=8, temperature=1.0))) == first


def test_uniforms_are_keyed_by_position() -> None:
    options = Options(max_tokens=50, seed=3, step=4)
    numbers = uniforms(options, 5, 6)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert (uniforms(replace(options, max_tokens=20), 5, 6) == numbers[:20]).all(), "a shorter answer draws the same numbers"
    others = [
        uniforms(replace(options, seed=4), 5, 6),
        uniforms(replace(options, step=5), 5, 6),
        uniforms(options, 6, 6),
        uniforms(options, 5, 7),
        uniforms(options, 6, 5),
    ]
    assert not any(np.isin(other, numbers).any() for other in others)
    many = np.concatenate([uniforms(options, prompt, 0) for prompt in range(400)])
    assert abs(many.mean() - 0.5) < 0.01 and abs(many.var() - 1 / 12) < 0.005


def reference_distribution(logits_V: np.ndarray, options: Options) -> np.ndarray:
    """Return the probabilities that options stand for, written down plainly: temperature, then top-k, then top-p."""
    scaled = logits_V.astype(np.float64) / options.temperature
    weights = np.exp(scaled - scaled.max())
    ranked = np.argsort(-weights, kind="stable")
    if options.top_k:
        weights[ranked[options.top_k :]] = 0
    weights /= weights.sum()
    reached = np.cumsum(weights[ranked])
    kept = int(np.searchsorted(reached, options.top_p - 1e-9)) + 1 if options.top_p < 1 else len(weights)
    weights[ranked[kept:]] = 0
    return weights / weights.sum()


@given(
    seed=st.integers(0, 10_000),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 4, 500]),
    top_p=st.sampled_from([0.05, 0.5, 0.93, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_draws_follow_the_distribution(seed: int, temperature: float, top_k: int, top_p: float) -> None:
    """Evenly spaced uniform numbers must give each token its share, to within one draw, and none that is cut off."""
    options = Options(max_tokens=1, temperature=temperature, top_k=top_k, top_p=top_p)
    logits_V = np.random.default_rng(seed).normal(scale=2.0, size=23).astype(np.float32)
    expected = reference_distribution(logits_V, options)
    draws = 4000
    uniform_B = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    token_B, _ = choose(torch.tensor(logits_V).expand(draws, -1), options, uniform_B=uniform_B)
    counts = np.bincount(token_B.numpy(), minlength=23)
    assert (counts[expected == 0] == 0).all()
    assert np.abs(counts - expected * draws).max() <= 2


def test_the_extremes_of_a_draw_are_possible_tokens() -> None:
    """The smallest and largest uniform number never reach a token of probability zero, at either end of the vocabulary."""
    logits_BV = torch.full((2, 9), -float("inf"))
    logits_BV[:, 3:6] = torch.tensor([0.1, 0.7, 0.3])
    ends_B = torch.tensor([0.0, 1 - 2.0**-52], dtype=torch.float64)
    token_B, _ = choose(logits_BV, Options(max_tokens=1, temperature=1.0), uniform_B=ends_B)
    assert token_B.tolist() == [3, 5]
    tiny, _ = choose(logits_BV, Options(max_tokens=1, temperature=0.001), uniform_B=ends_B)
    assert tiny.tolist() == [4, 4]


def test_looking_at_few_candidates_first_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Top-p looks at the largest probabilities first; the plain twin sorts all. Ties, which bfloat16 makes often, included."""
    module = sys.modules["burnish.sampling.choose"]
    logits_BV = torch.as_tensor(np.random.default_rng(0).normal(size=(64, 200)).round(1), dtype=torch.float32)
    logits_BV[0] = 0.0
    uniform_B = torch.linspace(0, 1 - 1e-9, 64, dtype=torch.float64)
    options = Options(max_tokens=1, temperature=1.0, top_p=0.8)
    whole, _ = choose(logits_BV, options, uniform_B=uniform_B)
    for width in (1, 16, 150):
        monkeypatch.setattr(module, "NUCLEUS_FIRST_TRY", width)
        assert choose(logits_BV, options, uniform_B=uniform_B)[0].tolist() == whole.tolist()


def test_logprobs_are_the_models_own(stub: Model, prompts: list[np.ndarray]) -> None:
    """Pain 15: train and rollout disagree: the log-probabilities are those of a forward pass, whatever the temperature."""
    options = Options(max_tokens=16, temperature=1.7, top_k=50, samples=2)
    answers = generate(stub, prompts, options)
    assert any(answer.stop_reason == "end" for answer in answers)
    for answer in answers:
        ended = [] if answer.end_id is None else [answer.end_id]
        tokens = [*prompts[answer.prompt].tolist(), *answer.tokens.tolist(), *ended]
        with torch.no_grad():
            logprobs_TV = stub.network(input_ids=torch.as_tensor(tokens)[None], use_cache=False).logits[0].log_softmax(-1)
        start = len(prompts[answer.prompt])
        expected = [logprobs_TV[place - 1, tokens[place]].item() for place in range(start, len(tokens))]
        given_ones = [*answer.logprobs.tolist(), *([answer.end_logprob] if ended else [])]
        np.testing.assert_allclose(given_ones, expected, atol=2e-5)
        assert answer.logprobs.dtype == np.float32 and len(answer.logprobs) == len(answer.tokens)


# -------------------------------------------------------------------------------------------------------------- ends of answers


def test_why_an_answer_ended_is_told(stub: Model, prompts: list[np.ndarray]) -> None:
    """Pain 6: the model never stops: an answer that ran into the limit can be told from one that ended."""
    answers = generate(stub, prompts, Options(max_tokens=12, temperature=1.0, samples=4))
    assert {answer.stop_reason for answer in answers} == {"end", "length"}
    for answer in answers:
        assert answer.stopped == (answer.stop_reason != "length")
        assert not set(answer.tokens.tolist()) & set(stub.end_ids()), "the end token is no part of the answer"
        assert (answer.end_id in stub.end_ids()) == (answer.stop_reason == "end")
        assert len(answer.tokens) == 12 or answer.stop_reason == "end"


@given(stop=st.lists(st.sampled_from(["e", "the", " an", "st", "ü", "\x0b", "th", "q", "; "]), min_size=1, max_size=3))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stop_strings_cut_the_text_and_nothing_else(stub: Model, prompts: list[np.ndarray], stop: list[str]) -> None:
    """With stop strings, an answer is that without them, up to the first one; generation ends at the token that completes it."""
    options = Options(max_tokens=24, temperature=1.0, seed=5)
    stops = tuple(stop)
    for free, held in zip(generate(stub, prompts, options), generate(stub, prompts, replace(options, stop=stops)), strict=True):
        places = [free.text.find(part) for part in stops if part in free.text]
        assert held.text == (free.text[: min(places)] if places else free.text)
        assert (held.stop_reason == "stop") == bool(places)
        assert held.tokens.tolist() == free.tokens[: len(held.tokens)].tolist()
        if places:
            shorter = stub.tokenizer.decode(held.tokens[:-1].tolist())
            assert not any(part in shorter for part in stops), "it should have ended earlier"


def test_half_a_character_is_left_out_only_at_the_limit() -> None:
    assert final_text(f"caf{HALF}", (), complete=False) == ("caf", False)
    assert final_text(f"caf{HALF}", (), complete=True) == (f"caf{HALF}", False)
    assert final_text("one END two STOP", ("STOP", "END"), complete=False) == ("one ", True)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30), stop=st.sampled_from([(), ("the",), ("é", "ab")]))
@settings(max_examples=60, deadline=None)
def test_pieces_are_whole_characters(text: str, stop: tuple[str, ...]) -> None:
    """Each byte of a character may be a token: pieces come when characters are complete, and add up to the text."""
    tokenizer = TOKENIZER
    pieces = Pieces(tokenizer, stop)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    given_out = [pieces.push(token) for token in ids]
    joined = "".join(given_out)
    assert joined + pieces.held == text or HALF in text
    assert text.startswith(joined) or HALF in text
    cut, found = final_text(text, stop, complete=True)
    if stop and not found:
        assert cut.startswith(joined)


TOKENIZER = stub_tokenizer()


@pytest.mark.parametrize("with_stop", [False, True])
def test_streamed_pieces_are_the_generated_text(stub: Model, prompts: list[np.ndarray], with_stop: bool) -> None:
    """Nothing is shown that must be taken back: of a stop string that is on its way, not even the beginning."""
    options = Options(max_tokens=40, temperature=1.2)
    for prompt in prompts[:6]:
        if with_stop:
            free = generate(stub, [prompt], options)[0].text
            options = replace(options, stop=(free[len(free) // 2 :][:4], free[-3:] + "never"))
        expected = generate(stub, [prompt], options)[0]
        pieces, result = drained(stream(stub, prompt, options))
        assert "".join(pieces) == expected.text
        assert result.tokens.tolist() == expected.tokens.tolist() and result.stop_reason == expected.stop_reason
        assert not any(piece.endswith(HALF) for piece in pieces[:-1])
        assert all(pieces)


def drained(pieces: Any) -> tuple[list[str], Generated]:
    """Return all pieces of a stream, and what it returned."""
    found = []
    while True:
        try:
            found.append(next(pieces))
        except StopIteration as end:
            return found, end.value


def test_samples_share_one_reading_of_their_prompt(stub: Model, prompts: list[np.ndarray]) -> None:
    """Reading a prompt once for all its samples gives what reading it for each gives; greedy samples are alike."""
    options = Options(max_tokens=10, temperature=1.0, samples=4)
    together = tokens_of(generate(stub, prompts[:3], options))
    assert tokens_of(generate(stub, prompts[:3], replace(options, batch=1))) == together
    greedy = tokens_of(generate(stub, prompts[:1], Options(max_tokens=10, samples=3)))
    assert greedy[0] == greedy[1] == greedy[2]
    assert generate(stub, [], options) == []


# ------------------------------------------------------------------------------------------------------------- nothing left changed


def modes(network: Any) -> list[bool]:
    return [module.training for module in network.modules()]


@pytest.fixture
def mixed(stub: Model) -> Iterator[Model]:
    """The stub with one of its layers in training mode."""
    layer = stub.network.model.layers[1]
    layer.train()
    yield stub
    layer.eval()


def test_modes_are_restored(mixed: Model, prompts: list[np.ndarray]) -> None:
    """Also on an error, and when a stream is left in the middle; outside, gradients flow as before."""
    before = modes(mixed.network)
    assert any(before) and not all(before)
    generate(mixed, prompts[:2], Options(max_tokens=3))
    likelihoods(mixed, [sequence(prompts[0])])
    assert modes(mixed.network) == before
    pieces = stream(mixed, prompts[0], Options(max_tokens=30, temperature=1.0))
    next(pieces)
    assert not any(modes(mixed.network)) and not torch.is_inference_mode_enabled()
    pieces.close()
    assert modes(mixed.network) == before
    assert torch.is_grad_enabled()


# --------------------------------------------------------------------------------------------------------------------- bad input


def test_all_wrong_options_are_told_at_once() -> None:
    wrong: dict[str, Any] = {"max_tokens": 0, "temperature": -1.0, "top_p": 1.5, "top_k": -2, "stop": "x", "long_prompts": "drop"}
    with pytest.raises(ConfigError) as error:
        Options(**wrong)
    assert all(f"{name} = " in str(error.value) for name in wrong)
    assert "6 problems" in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": float("nan")},
        {"temperature": 1e-9},
        {"top_p": 0.0},
        {"stop": ("",)},
        {"seed": -1},
        {"samples": 0},
        {"batch": True},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Options(max_tokens=5, **wrong)


def test_long_prompts_are_refused_by_number(stub: Model) -> None:
    """Pain 8: cut without a word: every prompt that is too long is named, with how much, before anything is generated."""
    rng = np.random.default_rng(1)
    prompts = [rng.integers(60, 288, size=length) for length in (500, 3, 512)]
    with pytest.raises(ModelError) as error:
        generate(stub, prompts, Options(max_tokens=20))
    assert "prompt 0 has 500 tokens, 8 too many" in str(error.value) and "prompt 2 has 512" in str(error.value)
    assert "prompt 1" not in str(error.value)
    with pytest.raises(ModelError, match="no room for a prompt"):
        generate(stub, prompts, Options(max_tokens=512))


def test_long_prompts_are_cut_on_the_left_where_asked(stub: Model) -> None:
    options = Options(max_tokens=12, long_prompts="cut")
    long = np.random.default_rng(2).integers(60, 288, size=700)
    assert tokens_of(generate(stub, [long], options)) == tokens_of(generate(stub, [long[-500:]], options))
    assert [generate(stub, [prompt], options)[0].prompt_cut for prompt in (long, long[:500])] == [200, 0]
    start = np.concatenate([[0], long])
    assert tokens_of(generate(stub, [start], options)) == tokens_of(generate(stub, [np.concatenate([[0], long[-499:]])], options))


def test_impossible_prompts_are_refused(stub: Model) -> None:
    with pytest.raises(ModelError, match="prompt 0 is empty") as error:
        generate(stub, [np.array([], dtype=np.int32), np.array([5]), np.array([900])], Options(max_tokens=2))
    assert "prompt 2 holds a token outside the model's 288" in str(error.value)


def test_a_diverged_model_is_not_hidden(stub: Model, prompts: list[np.ndarray]) -> None:
    """Pain 2: NaN and on it goes: no answer and no likelihood is made of numbers that are none."""
    broken = replace(stub, network=copy.deepcopy(stub.network))
    broken.network.model.norm.weight.data.fill_(float("nan"))
    for temperature in (0.0, 1.0):
        with pytest.raises(ModelError, match="not a finite number at token 1 of its answer to prompt"):
            generate(broken, prompts[:2], Options(max_tokens=4, temperature=temperature))
    with pytest.raises(ModelError, match=r"not a finite number.*a\.jsonl:3"):
        likelihoods(broken, [sequence(prompts[0])])


def test_too_little_memory_halves_the_batch(stub: Model, prompts: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Pain 17: out of memory late, in evaluation: the same answers from smaller batches, the longest prompts first."""
    module = sys.modules["burnish.sampling.generate"]
    expected, real, seen = tokens_of(generate(stub, prompts, Options(max_tokens=6))), module.Flight, []

    class Small(real):
        def admit(self, rows: Sequence[Any]) -> None:
            seen.append([len(row.tokens) for row in rows])
            if len(rows) + len(self) > limit:
                raise torch.OutOfMemoryError("no memory")
            super().admit(rows)

    monkeypatch.setattr(module, "Flight", Small)
    limit = 2
    assert tokens_of(generate(stub, prompts, Options(max_tokens=6))) == expected
    assert seen[0] == sorted(LENGTHS, reverse=True)
    limit = 0
    with pytest.raises(RunError, match="does not suffice"):
        generate(stub, prompts, Options(max_tokens=6))


# -------------------------------------------------------------------------------------------------------------------- likelihoods


def sequence(tokens: np.ndarray, weights: Sequence[float] | None = None) -> Tokens:
    """Return tokens of which each is predicted from those before it."""
    at_N = np.arange(len(tokens) - 1, dtype=np.int32)
    weight_N = np.ones(len(at_N), dtype=np.float32) if weights is None else np.array(weights, dtype=np.float32)
    return Tokens(tokens.astype(np.int32), at_N, tokens[1:].astype(np.int32), weight_N, Origin("a.jsonl", 3))


@pytest.mark.parametrize("tokens_per_batch", [1, 120, 8192])
def test_likelihoods_are_sums_of_log_probabilities(stub: Model, prompts: list[np.ndarray], tokens_per_batch: int) -> None:
    """In the order of the input, whatever the batches; the same sequence may come twice; nothing to predict gives nothing."""
    sequences = [sequence(prompt) for prompt in prompts]
    sequences += [sequences[1], sequence(prompts[1], [0.0, 0.5, 2.0, *[0.0] * 13])]
    found = likelihoods(stub, sequences, tokens_per_batch=tokens_per_batch)
    for (total, count), one in zip(found, sequences, strict=True):
        ids = torch.as_tensor(one.tokens_T.astype(np.int64))[None]
        with torch.no_grad():
            logprobs_TV = stub.network(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
        counted = np.flatnonzero(one.weight_N)
        expected = -sum(logprobs_TV[one.at_N[place], one.target_N[place]].item() for place in counted)
        assert count == len(counted)
        assert total == pytest.approx(expected, abs=1e-3)
    assert found[2] == (0.0, 0)
    assert likelihoods(stub, []) == []


def test_likelihoods_refuse_what_the_model_cannot_read(stub: Model) -> None:
    long = np.full(513, 70)
    with pytest.raises(ModelError, match=r"a\.jsonl:3: 513 tokens"):
        likelihoods(stub, [sequence(long)])
