"""Heads on causal models: which class, which labels, which modules; rendering for them, and what their scores say."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data.batching import collate
from burnish.data.dialog import Frame, as_task
from burnish.data.render_heads import ANSWER, REWARD, HeadRenderer, HeadSpec, spec_for
from burnish.data.render_heads_spans import Alignment, cuts, owned, spans_of, tags_of, token_chars
from burnish.errors import ConfigError, DataError, ModelError
from burnish.models import Model, adapt, add_value_head, forward, head_modules, load_model, restore_weights, save_model
from burnish.models.outline import outline
from burnish.objectives.labels import CLASSIFICATION, NER, QA, REGRESSION
from burnish.reading import best_span, choose_threshold, head_scores, read
from burnish.scores import resolve
from burnish.techniques import TECHNIQUES
from burnish.train import TaskLoss
from burnish.types import Answerable, Batch, Labelled, Loss, Objective, Origin, Sequence, Span, Tagged, Technique, content
from loop import cut, eight_sequences, run
from stub import cpu, make_stub, stub_tokenizer
from test_labels_objectives import asked_rows, labelled_rows, number_rows, several_rows, tagged_rows

ROW = Origin("rows.jsonl", 7)
LABELS = HeadSpec("sequence", ("dry", "town", "wet"))
SPECS = {
    "sequence": LABELS,
    "reward": REWARD,
    "token": HeadSpec("token", ("O", "B-day", "I-day"), "flat"),
    "span": ANSWER,
}


def lora_with_head(network: Any) -> Any:
    """LoRA as a technique that keeps what it is handed as trainable: the head, which begins as random numbers."""
    import warnings

    from peft import LoraConfig, get_peft_model

    head: list[str] = []  # the highest modules that are trainable as a whole
    for name, module in network.named_modules():
        own = list(module.parameters())
        if (
            name
            and own
            and all(parameter.requires_grad for parameter in own)
            and not any(name.startswith(f"{one}.") for one in head)
        ):
            head.append(name)
    kinds = {"Sequence": "SEQ_CLS", "Token": "TOKEN_CLS", "QuestionAnswering": "QUESTION_ANS"}
    kind = next((task for word, task in kinds.items() if f"For{word}" in type(network).__name__), "CAUSAL_LM")
    settings: Any = {"task_type": kind, "modules_to_save": head or None, "target_modules": "all-linear"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated", category=FutureWarning)
        return get_peft_model(network, LoraConfig(r=4, **settings))


LORA_WITH_HEAD = Technique(function=lora_with_head, learning_rate=1e-3, merges=True, saves="adapter", reference="adapter_off")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("heads") / "stub")


def load(folder: Path, spec: HeadSpec, *, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return load_model(str(folder), cpu(), head=spec)


def rows_of(model: Model) -> list[Sequence]:
    """Return rows of unequal length; a sequence head is read at the last token."""
    draw, made = np.random.default_rng(0), []
    for number, length in enumerate((5, 11, 8)):
        tokens_T = draw.integers(2, 280, length).astype(np.int32)
        last = model.spec is not None and model.spec.kind == "sequence"
        at_N = np.asarray([length - 1] if last else [1, length // 2, length - 1])
        made.append(Sequence(tokens_T, at_N, np.zeros(len(at_N)), np.ones(len(at_N), np.float32), Origin("rows", number)))
    return made


def scores(network: Any, ids: torch.Tensor, **more: Any) -> torch.Tensor:
    with torch.no_grad():  # as everyone reads a model; where a gradient is wanted, another kernel attends
        said = network(input_ids=ids, **more)
    return torch.stack([said.start_logits, said.end_logits], -1) if hasattr(said, "start_logits") else said.logits


# ----------------------------------------------------------------------------------------------------------- loading and the forward pass


@pytest.mark.parametrize("name", SPECS)
def test_a_head_says_in_every_layout_what_the_class_says_of_each_row(folder: Path, name: str) -> None:
    """Padded, packed, apart from the trunk and as a whole network: the same scores as the ecosystem's class on each row alone."""
    model = load(folder, SPECS[name])
    assert (model.head, model.documents, model.encoder) == ("separate", "positions", False)
    rows, expected = rows_of(model), []
    for row in rows:
        said = scores(model.network, torch.as_tensor(row.tokens_T).long()[None])
        expected.append(said if said.dim() == 2 else said[0, torch.as_tensor(row.at_N).long()])
    for packing, head in ((False, "separate"), (True, "separate"), (False, "whole")):
        batch = collate(rows, packing=packing, pad_id=model.pad_id(), device="cpu")
        model.head = "whole" if head == "whole" else "separate"
        found_NC = forward(model, batch, ("scores",)).scores_NC
        torch.testing.assert_close(found_NC, torch.cat(expected).detach(), atol=1e-5, rtol=1e-4)


def test_a_new_head_follows_from_the_seed_and_the_trunk_from_the_folder(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    base: Any = AutoModelForCausalLM.from_pretrained(str(folder))
    ids = torch.arange(2, 20)[None]
    for spec in SPECS.values():
        one, same, other = load(folder, spec), load(folder, spec), load(folder, spec, seed=1)
        assert torch.equal(scores(one.network, ids), scores(same.network, ids))
        assert not torch.equal(scores(one.network, ids), scores(other.network, ids))
        with torch.no_grad():
            trunk = one.trunk()(input_ids=ids, use_cache=False).last_hidden_state
            known = base.model(input_ids=ids, use_cache=False).last_hidden_state
        assert torch.equal(trunk, known), type(one.network).__name__


def test_a_trunk_that_lacks_a_tensor_is_refused_with_a_head_too(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    tensors = load_file(copy / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 .*layers\.1\.mlp\.up_proj\.weight"):
        load(copy, LABELS)


def test_a_held_head_is_taken_where_its_labels_agree(folder: Path, tmp_path: Path) -> None:
    first = load(folder, LABELS)
    save_model(first, tmp_path)
    ids = torch.arange(2, 20)[None]
    again = load(tmp_path, LABELS, seed=5)
    assert torch.equal(scores(again.network, ids), scores(first.network, ids))
    with pytest.raises(ModelError, match="holds a head with the labels dry, town, wet"):
        load(tmp_path, HeadSpec("sequence", ("wet", "dry", "town")))
    with pytest.raises(ModelError, match=r"holds a head for 3 scores.*but 1 are needed"):
        load(tmp_path, REWARD)
    with pytest.raises(ModelError, match=r"SequenceClassification: .*TokenClassification"):
        load(tmp_path, SPECS["token"])


def test_a_reward_model_of_others_is_opened_as_it_is(folder: Path, tmp_path: Path) -> None:
    """Whatever the one label is called."""
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(str(folder), num_labels=1)
    network.save_pretrained(str(tmp_path))
    stub_tokenizer().save_pretrained(str(tmp_path))
    ids = torch.arange(2, 20)[None]
    assert torch.equal(scores(load(tmp_path, REWARD).network, ids), scores(network.eval(), ids))


def test_what_a_model_does_not_have_is_refused(folder: Path) -> None:
    plain, headed = load_model(str(folder), cpu()), load(folder, LABELS)
    batch = cut([rows_of(headed)], 512)[0]
    with pytest.raises(ModelError, match="without a head"):
        forward(plain, batch, ("scores",))
    with pytest.raises(ModelError, match="writes no text"):
        forward(headed, batch, ("logprobs",))
    with pytest.raises(ModelError, match="no value head"):
        forward(plain, batch, ("values",))
    headed.head = "whole"
    with pytest.raises(ModelError, match=r"one reading per row.*train.packing = false"):
        forward(headed, cut([rows_of(headed)], 512, packing=True)[0], ("scores",))


def test_padding_is_told_from_the_end_of_a_text(folder: Path) -> None:
    """A class looks for the last token that is no padding: an end token that pads too would be passed over, and another state read."""
    model = load(folder, LABELS)
    assert model.tokenizer.pad_token_id != model.tokenizer.eos_token_id
    assert model.network.config.pad_token_id == model.pad_id()
    render = HeadRenderer(model.tokenizer, 64, Frame(), LABELS, encoder=False)
    rows = [render.sequences(row)[0] for row in labelled_rows()]
    assert all(row.tokens_T[-1] == model.tokenizer.eos_token_id and row.at_N.tolist() == [row.length - 1] for row in rows)
    batch = collate(rows, packing=False, pad_id=model.pad_id(), device="cpu")
    by_class = scores(model.network, batch.layout.input_ids_BT)
    torch.testing.assert_close(forward(model, batch, ("scores",)).scores_NC, by_class)
    lone = stub_tokenizer()
    lone.bos_token = lone.pad_token = lone.eos_token
    alone = HeadRenderer(lone, 64, Frame(), LABELS, encoder=False).sequences(labelled_rows()[0])[0]
    assert alone.tokens_T[-1] != lone.pad_token_id, "with one token for everything, no end token is read"


def test_the_outline_counts_the_head(folder: Path) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(folder))
    bare, headed = (outline(config, TECHNIQUES["full"], {}, head=head) for head in (None, LABELS))
    assert headed.parameters == bare.parameters - 64 * 288 + 3 * 64 == headed.trainable
    assert outline(config, LORA_WITH_HEAD, {}, head=LABELS).trainable > 3 * 64


# ---------------------------------------------------------------------------------------------------------------- saving, adapters


def moved(model: Model) -> None:
    """Change everything that is trained."""
    with torch.no_grad():
        for number, parameter in enumerate(model.network.parameters()):
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))


@pytest.mark.parametrize("name", SPECS)
def test_a_saved_run_opens_with_its_class_and_the_same_scores(folder: Path, name: str, tmp_path: Path) -> None:
    """With its labels, in a padded batch too, and with nothing missing or left over: QA's class calls its trunk otherwise.

    Pain 10.
    """
    import transformers

    from burnish.models.heads import CLASSES

    model = load(folder, SPECS[name])
    adapt(model, TECHNIQUES["full"], {})
    moved(model)
    save_model(model, tmp_path)
    network, facts = getattr(transformers, CLASSES[SPECS[name].kind]).from_pretrained(str(tmp_path), output_loading_info=True)
    assert not facts["missing_keys"] and not facts["unexpected_keys"]
    assert network.config.id2label == dict(enumerate(SPECS[name].labels))
    ids = torch.arange(2, 20).reshape(2, 9)
    ids[1, 6:] = model.pad_id()
    assert torch.equal(scores(network.eval(), ids), scores(model.network, ids))
    assert json.loads((tmp_path / "burnish.json").read_text())["head"]["labels"] == list(SPECS[name].labels)
    again = load_model(str(tmp_path), cpu())
    assert again.spec == SPECS[name] and torch.equal(scores(again.network, ids), scores(model.network, ids))
    expected = scores(model.network, ids).detach()
    moved(model)
    restore_weights(model, tmp_path)
    assert torch.equal(scores(model.network, ids), expected)


@pytest.mark.parametrize("name", SPECS)
def test_an_adapter_is_saved_with_its_head_and_merges_to_the_plain_class(folder: Path, name: str, tmp_path: Path) -> None:
    import transformers
    from peft import PeftModel

    from burnish.models.heads import CLASSES

    model, spec = load(folder, SPECS[name]), SPECS[name]
    head = "qa_outputs" if name == "span" else "score"
    assert head_modules(model.network) == (head,)
    adapt(model, LORA_WITH_HEAD, {})
    moving = {name for name, parameter in model.network.named_parameters() if parameter.requires_grad}
    assert all("lora_" in one or f"{head}.modules_to_save" in one for one in moving) and any(head in one for one in moving)
    moved(model)
    ids = torch.arange(2, 20)[None]
    expected = scores(model.network, ids).detach()
    batch = cut([rows_of(model)], 512)[0]
    by_forward = forward(model, batch, ("scores",)).scores_NC
    save_model(model, tmp_path)
    torch.manual_seed(77)
    labels = dict(enumerate(spec.labels))
    options: dict[str, Any] = {"num_labels": len(labels), "id2label": labels, "pad_token_id": model.pad_id()}
    # Llama's class for answers calls its trunk otherwise than all others; a note says so at load.
    options |= {"key_mapping": {r"^model\.": "transformer."}} if name == "span" else {}
    assert any("key_mapping" in note for note in model.notes) == (name == "span")
    base = getattr(transformers, CLASSES[spec.kind]).from_pretrained(str(folder), **options)
    opened: Any = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    torch.testing.assert_close(scores(opened, ids), expected)
    merged = opened.merge_and_unload()
    assert type(merged) is type(load(folder, spec).network)
    torch.testing.assert_close(scores(merged, ids), expected, atol=1e-5, rtol=1e-4)
    again = load_model(str(tmp_path), cpu())
    torch.testing.assert_close(
        forward(again, batch, ("scores",)).scores_NC, by_forward.detach() if by_forward is not None else None
    )


def test_a_technique_that_leaves_the_head_random_is_refused(folder: Path) -> None:
    """Nothing would be learned there, and a saved adapter would open with another head at every load."""

    def frozen(network: Any) -> Any:
        network.requires_grad_(False)
        network.get_submodule("model.norm").requires_grad_(True)
        return network

    technique = dataclasses.replace(TECHNIQUES["full"], function=frozen)
    with pytest.raises(ModelError, match=r"does not train the head \(score\)"):
        adapt(load(folder, LABELS), technique, {})
    adapt(load_model(str(folder), cpu()), technique, {})


# ------------------------------------------------------------------------------------------------------------- values, candidates


def squared(outputs: Any, batch: Batch) -> Loss:
    return Loss(terms={"value": ((outputs.values_N - 1) ** 2 * batch.weight_N).sum()})


VALUES = Objective(
    function=squared, counts=lambda batch: {"value": batch.weight_N.sum()}, terms=("value",), needs=("values",), reads=()
)


@pytest.mark.parametrize("technique", ["full", "lora"])
def test_a_value_head_begins_at_zero_learns_and_is_kept(folder: Path, technique: str, tmp_path: Path) -> None:
    """Beside the model, not in it: the language model's folder opens with nothing left over."""
    from transformers import AutoModelForCausalLM

    model = load_model(str(folder), cpu())
    adapt(model, TECHNIQUES[technique], {})
    add_value_head(model)
    batches = cut(eight_sequences(model), 10**9)
    outputs = forward(model, batches[0], ("logprobs", "values"))
    assert outputs.values_N is not None and not outputs.values_N.any() and outputs.logprobs_N is not None
    steps = run(model, batches, steps=20, rate=1e-2, tasks={"main": TaskLoss(VALUES)})
    assert steps[-1].losses["value"] < 0.2 * steps[0].losses["value"]
    packed = forward(model, cut(eight_sequences(model), 10**9, packing=True)[0], ("values",)).values_N
    learned = forward(model, cut(eight_sequences(model), 10**9)[0], ("values",)).values_N
    assert packed is not None and learned is not None
    torch.testing.assert_close(packed.sort().values, learned.sort().values, atol=1e-4, rtol=1e-4)
    save_model(model, tmp_path)
    assert (tmp_path / "value_head.safetensors").is_file() and model.value_head is not None
    if technique == "full":
        opened: Any = AutoModelForCausalLM.from_pretrained(str(tmp_path), output_loading_info=True)
        facts = opened[1]
        assert not facts["missing_keys"] and not facts["unexpected_keys"]
    batch = cut(eight_sequences(model), 10**9)[0]
    again = load_model(str(tmp_path), cpu())
    assert again.value_head is None, "a model for chatting carries none"
    add_value_head(again)
    torch.testing.assert_close(forward(again, batch, ("values",)).values_N, learned.detach(), atol=1e-5, rtol=1e-4)
    moved(model)
    restore_weights(model, tmp_path)
    torch.testing.assert_close(forward(model, batch, ("values",)).values_N, learned, atol=1e-6, rtol=1e-5)
    model.head = "whole"
    torch.testing.assert_close(forward(model, batch, ("values",)).values_N, learned, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("head", ["separate", "whole"])
@pytest.mark.parametrize("rows", [3, 10**6])
def test_candidates_are_log_probabilities_of_the_stream(
    folder: Path, head: Any, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In value and gradient, and without one tensor as wide as the vocabulary for all read-outs."""

    monkeypatch.setattr(sys.modules["burnish.models.forward"], "TILE_ELEMENTS", rows * 288)
    model = load_model(str(folder), cpu())
    model.network.requires_grad_(True)
    model.head = head
    draw = np.random.default_rng(0)
    units = [
        [dataclasses.replace(part, streams={"candidates": draw.integers(0, 288, (len(part.at_N), 5))}) for part in unit]
        for unit in eight_sequences(model)
    ]
    batch = cut(units, 10**9)[0]
    outputs = forward(model, batch, ("logprobs", "candidates"))
    assert outputs.candidates_NK is not None and outputs.logprobs_N is not None
    factor_NK = torch.cos(torch.arange(outputs.candidates_NK.numel())).reshape(outputs.candidates_NK.shape)
    names = dict(model.network.named_parameters())
    found = torch.autograd.grad((outputs.candidates_NK * factor_NK).sum(), list(names.values()))
    logits_NV = model.network(batch.layout.input_ids_BT).logits[batch.sequence_N, batch.at_N]
    expected_NK = logits_NV.log_softmax(-1).gather(-1, batch.streams["candidates"])
    torch.testing.assert_close(outputs.candidates_NK, expected_NK, atol=1e-5, rtol=1e-5)
    expected = torch.autograd.grad((expected_NK * factor_NK).sum(), list(names.values()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


# ---------------------------------------------------------------------------------------------------------------------- rendering

WORD = st.sampled_from(["the", "order", "of", "Zoë", "ß42", "and", "naïve-user", "x", "日本", "there,"])


@settings(max_examples=60, deadline=None)
@given(st.lists(WORD, min_size=1, max_size=14), st.data())
def test_words_become_tokens_and_spans_again(words: list[str], data: st.DataObject) -> None:
    """Spans of whole words, any number, of two types that may overlap: to tags and back, exactly (words fall apart into bytes here)."""
    text, starts = "", []
    for word in words:
        starts.append(len(text))
        text += word + " "
    spans = []
    for label in ("a", "b"):
        place = 0
        while place < len(words) and data.draw(st.booleans()):
            first = data.draw(st.integers(place, len(words) - 1))
            last = data.draw(st.integers(first, len(words) - 1))
            spans.append(Span(starts[first], starts[last] + len(words[last]), label))
            place = last + 1
    row = Tagged(content=content(text), spans=tuple(sorted(spans)), origin=ROW)
    chars_T2 = token_chars(stub_tokenizer(), text)[1]
    tags_TC, fit = tags_of(row, chars_T2, ("a", "b"), flat=False)
    assert spans_of(tags_TC, chars_T2, ("a", "b")) == sorted(spans)
    assert fit == Alignment(len(spans), 0, 0)


def tagged(text: str, *spans: tuple[int, int, str]) -> Tagged:
    return Tagged(content=content(text), spans=tuple(Span(*span) for span in spans), origin=ROW)


def test_spans_that_fit_no_token_bounds_are_widened_and_counted() -> None:
    """The stub's "there" is one token: half of it cannot be told, so the whole is, and the report can say so."""
    tokenizer = stub_tokenizer()
    row = tagged("and there", (6, 9, "a"))
    ids, chars_T2 = token_chars(tokenizer, "and there")
    assert len(ids) == 3, "the test needs a token of five letters"
    tags_TC, fit = tags_of(row, chars_T2, ("a",), flat=True)
    assert spans_of(tags_TC, chars_T2, ("a",)) == [Span(4, 9, "a")] and fit == Alignment(1, 1, 0)
    both = tagged("and there", (4, 6, "a"), (6, 9, "a"))
    assert tags_of(both, chars_T2, ("a",), flat=True)[1] == Alignment(2, 2, 1), "two spans in one token: one is lost, and counted"
    spec = spec_for("token", [row], tokenizer)
    assert HeadRenderer(tokenizer, 32, Frame(), spec, encoder=False).alignment([row, both]) == Alignment(3, 3, 1)


def test_spans_that_cannot_be_told_are_errors_with_their_row() -> None:
    tokenizer = stub_tokenizer()
    render = HeadRenderer(tokenizer, 32, Frame(), HeadSpec("token", ("O", "B-a", "I-a"), "flat"), encoder=False)
    with pytest.raises(DataError, match=r"rows.jsonl:7: the characters 3 to 4 hold no token"):
        render.sequences(tagged("and   there", (3, 4, "a")))
    with pytest.raises(DataError, match=r"rows.jsonl:7: two spans of type 'a' overlap"):
        render.sequences(tagged("and there", (0, 9, "a"), (4, 9, "a")))
    with pytest.raises(DataError, match=r"spans of type 'b' are not among"):
        render.sequences(tagged("and there", (0, 3, "b")))
    with pytest.raises(DataError, match="None of the 1 rows marks a span"):
        spec_for("token", [tagged("and there")], tokenizer)


def test_overlapping_types_get_layers_others_the_usual_tags() -> None:
    flat, layers = (spec_for("token", tagged_rows(overlapping=one), stub_tokenizer()) for one in (False, True))
    assert (flat.problem, flat.labels, flat.types) == ("flat", ("O", "B-day", "I-day", "B-place", "I-place"), ("day", "place"))
    assert (
        layers.problem == "layers"
        and layers.types == ("day", "phrase", "place")
        and layers.labels[:3] == ("day:O", "day:B", "day:I")
    )


@pytest.mark.parametrize("encoder", [False, True])
@pytest.mark.parametrize(("total", "room", "overlap"), [(0, 8, 2), (8, 8, 2), (9, 8, 2), (40, 8, 4), (41, 8, 0)])
def test_windows_read_every_token_once_inside_themselves(encoder: bool, total: int, room: int, overlap: int) -> None:
    windows = cuts(total, room, overlap)
    parts = owned(windows, encoder=encoder)
    assert [token for first, last in parts for token in range(first, last)] == list(range(total))
    assert all(start <= first <= last <= stop <= start + room for (start, stop), (first, last) in zip(windows, parts, strict=True))
    if encoder:  # no token is read at a border that is not the text's, where the overlap could have avoided it
        assert all(first - start >= overlap // 2 for (start, _), (first, _) in zip(windows[1:], parts[1:], strict=True))


def test_a_long_text_keeps_its_spans_over_windows() -> None:
    tokenizer = stub_tokenizer()
    text = " ".join(f"word{number}" for number in range(40))
    spans = [(text.index(f"word{n}"), text.index(f"word{n}") + len(f"word{n}"), "a") for n in (11, 20, 29, 39)]
    spec = HeadSpec("token", ("O", "B-a", "I-a"), "flat")
    for encoder_like in (False,):
        render = HeadRenderer(tokenizer, 32, Frame(), spec, encoder=encoder_like)
        windows = render.windows(tagged(text, *spans))
        assert len(windows) > 3 and all(window.sequence.length <= 32 and window.sequence.group == 0 for window in windows)
        target_T = np.concatenate([window.sequence.target_N for window in windows])
        chars_T2 = np.concatenate([window.chars_N2 for window in windows])
        assert spans_of(target_T[:, None], chars_T2, ("a",)) == sorted(Span(*span) for span in spans)


def test_numbers_are_standardised_and_labels_sorted() -> None:
    spec = spec_for("sequence", number_rows(), None)
    assert (spec.problem, spec.mean) == ("number", 27.5) and spec.deviation == pytest.approx(11.456439)
    render = HeadRenderer(stub_tokenizer(), 64, Frame(), spec, encoder=False)
    numbers = [float(render.sequences(row)[0].streams["number"][0]) for row in number_rows()]
    assert np.mean(numbers) == pytest.approx(0, abs=1e-6) and np.std(numbers) == pytest.approx(1, abs=1e-6)
    assert spec_for("sequence", labelled_rows(), None) == LABELS
    assert spec_for("sequence", several_rows(), None).problem == "several"
    mixed = [*labelled_rows(), *number_rows()]
    with pytest.raises(DataError, match=r"rows.jsonl:0: a label among rows with numbers"):
        spec_for("sequence", mixed, None)
    with pytest.raises(DataError, match="nothing to tell apart"):
        spec_for("sequence", labelled_rows()[:1], None)


def test_labels_are_asked_in_the_runs_frame_and_refused_where_unknown() -> None:
    tokenizer = stub_tokenizer()
    render = HeadRenderer(tokenizer, 64, Frame(prompt="Place: {text}"), LABELS, encoder=False)
    row = Labelled(content=content("the lake"), labels=("wet",), origin=ROW)
    part = render.sequences(row)[0]
    assert (
        tokenizer.decode(part.tokens_T[1:-1] if part.tokens_T[-1] == tokenizer.eos_token_id else part.tokens_T[1:])
        == "Place: the lake"
    )
    asked = render.windows(as_task(row, render.frame), learn=False)[0].sequence
    assert asked.tokens_T.tolist() == part.tokens_T.tolist(), "a task stands in the frame already"
    with pytest.raises(DataError, match=r"rows.jsonl:7: the label 'hot' is not among the 3"):
        render.sequences(Labelled(content=content("x"), labels=("hot",), origin=ROW))
    with pytest.raises(ConfigError, match=r"data.system"):
        HeadRenderer(tokenizer, 64, Frame(system="Be brief."), LABELS, encoder=False)
    with pytest.raises(ConfigError, match=r"data.prompt"):
        HeadRenderer(tokenizer, 64, Frame(prompt="{text}"), SPECS["token"], encoder=False)


def test_a_long_labelled_text_is_dropped_or_cut_before_its_end(folder: Path) -> None:
    model = load(folder, LABELS)
    render = HeadRenderer(model.tokenizer, 16, Frame(), LABELS, encoder=False)
    long = render.sequences(Labelled(content=content("word " * 40), labels=("wet",), origin=ROW))
    assert render.within(long, "drop") == []
    kept = render.within(long, "cut")[0]
    assert kept.length == 16 and kept.at_N.tolist() == [15] and kept.tokens_T[-1] == model.tokenizer.eos_token_id


def test_a_question_without_room_for_its_context_is_refused() -> None:
    render = HeadRenderer(stub_tokenizer(), 32, Frame(), ANSWER, encoder=False)
    with pytest.raises(DataError, match=r"rows.jsonl:7: the question takes \d+ of 32 tokens"):
        render.sequences(Answerable(question="why? " * 20, context="because of that", answers=(), origin=ROW))


# ------------------------------------------------------------------------------------------------------------------------- reading


def taught(
    folder: Path, objective: Objective, rows: Any, kind: Any, *, max_length: int = 512, steps: int = 40
) -> tuple[Model, HeadRenderer]:
    """Return a stub that was taught eight rows until it knows them."""
    spec = spec_for(kind, rows, stub_tokenizer())
    model = load(folder, spec)
    model.network.requires_grad_(True)
    render = HeadRenderer(model.tokenizer, max_length, Frame(), spec, encoder=False)
    batches = cut([render.sequences(row) for row in rows], 10**9, pad_id=model.pad_id())
    run(model, batches, steps=steps, rate=3e-3, tasks={"main": TaskLoss(objective)})
    return model, render


def measured(name: str, model: Model, render: HeadRenderer, rows: Any) -> float:
    score, tasks = resolve(name), [dataclasses.replace(render.task_of(row)) for row in rows]
    return float(score.combine(score.statistics(read(model, render, rows, tokens=64), tasks).sum(0)))


@pytest.mark.parametrize(
    ("objective", "rows", "kind", "score"),
    [
        (CLASSIFICATION, labelled_rows(), "sequence", "accuracy"),
        (CLASSIFICATION, several_rows(), "sequence", "macro_f1"),
        (NER, tagged_rows(), "token", "span_f1"),
        (NER, tagged_rows(overlapping=True), "token", "span_f1"),
        (QA, asked_rows(), "span", "exact_match"),
    ],
)
def test_what_was_learned_gets_the_full_score(folder: Path, objective: Objective, rows: Any, kind: Any, score: str) -> None:
    """From rows through rendering, training and reading to the score of generated answers: 1 where all is right, less before.

    Pain 10.
    """
    model, render = taught(folder, objective, rows, kind)
    assert measured(score, model, render, rows) == 1.0
    untaught = load(folder, render.spec, seed=3)
    assert measured(score, untaught, render, rows) < 1.0


def test_numbers_are_read_in_their_own_unit(folder: Path) -> None:
    model, render = taught(folder, REGRESSION, number_rows(), "sequence", steps=60)
    said = [float(answer.text) for answer in read(model, render, number_rows())]
    assert said == pytest.approx([10.0 + 5 * n for n in range(8)], abs=4.0)


def test_an_answer_in_the_last_window_is_found(folder: Path) -> None:
    """A context of several windows whose answer stands at the very end; nothing is found where there is nothing."""
    filler = "Nothing of note was written on the page that day. " * 4
    rows = [
        Answerable(
            question="where?", context=f"{filler}It was {place}.", answers=((len(filler) + 7, place),), origin=Origin("a", n)
        )
        for n, place in enumerate(("Rome", "Bonn", "Oslo", "Kyiv"))
    ]
    rows += [dataclasses.replace(row, context=filler + "It rained.", answers=()) for row in rows[:1]]
    model, render = taught(folder, QA, rows, "span", max_length=96, steps=40)
    assert all(len(render.sequences(row)) > 2 for row in rows)
    assert [answer.text for answer in read(model, render, rows)] == ["Rome", "Bonn", "Oslo", "Kyiv", "not stated"]
    whole = head_scores(model, render.sequences(rows[0]))
    assert (
        max(best_span(rows[0].context, [one], [score])[0] for one, score in zip(render.windows(rows[0])[:-1], whole, strict=False))
        < 0
    )


def test_the_threshold_is_the_one_that_earns_most(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import burnish.reading as module

    rows = [
        Answerable(question="?", context=f"aaaa {n}", answers=((0, "aaaa"),) if n > 3 else (), origin=Origin("a", n))
        for n in range(8)
    ]
    render = HeadRenderer(stub_tokenizer(), 64, Frame(), dataclasses.replace(ANSWER, threshold=0.0), encoder=False)
    odds = iter([2.0, -1.0, 0.5, 3.0, 3.5, 4.0, 5.0, 9.0])
    monkeypatch.setattr(module, "head_scores", lambda model, sequences, **more: [np.zeros((1, 2))] * len(sequences))
    monkeypatch.setattr(module, "best_span", lambda context, windows, scores: (next(odds), "aaaa"))
    model: Any = None
    assert choose_threshold(model, render, rows) == pytest.approx(3.25)
    assert choose_threshold(model, render, rows[4:]) is None


def test_a_damaged_head_is_said_to_be(folder: Path) -> None:
    model = load(folder, LABELS)
    render = HeadRenderer(model.tokenizer, 64, Frame(), LABELS, encoder=False)
    with torch.no_grad():
        model.network.score.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"8 of 8 sequences \(first: rows.jsonl:0\)"):
        read(model, render, labelled_rows())


# --------------------------------------------------------------------------------------------- what of the rows is shown: twice, windows


def reader(model: Model, spec: HeadSpec, *, max_length: int = 64, windows: int | None = None, seed: int = 0) -> HeadRenderer:
    return HeadRenderer(model.tokenizer, max_length, Frame(), spec, encoder=False, windows_learned=windows, seed=seed)


def test_a_causal_head_that_tags_reads_each_token_when_it_has_seen_what_follows(folder: Path) -> None:
    """Twice: the same read-outs with the same characters and targets, each behind the whole text; what follows a token changes its scores."""
    spec = dataclasses.replace(SPECS["token"], twice=True)
    model = load(folder, spec)
    once, twice = reader(model, SPECS["token"]), reader(model, spec)
    row = Tagged(content=content("ab cd ef"), spans=(Span(3, 5, SPECS["token"].types[0]),), origin=Origin("rows", 1))
    (short,), (long,) = once.windows(row), twice.windows(row)
    assert np.array_equal(short.chars_N2, long.chars_N2) and np.array_equal(short.sequence.target_N, long.sequence.target_N)
    assert np.array_equal(short.sequence.tokens_T[short.sequence.at_N], long.sequence.tokens_T[long.sequence.at_N])
    assert long.sequence.at_N.min() > len(short.sequence.at_N), "read the second time"
    other = Tagged(content=content("ab cd ex"), spans=(), origin=Origin("rows", 2))
    for renderer, changes in ((once, False), (twice, True)):
        first, second = (head_scores(model, renderer.sequences(one))[0] for one in (row, other))
        assert np.allclose(first[0], second[0], atol=1e-5) != changes


def test_long_texts_are_read_once_per_token_when_shown_twice(folder: Path) -> None:
    spec = dataclasses.replace(SPECS["token"], twice=True)
    model = load(folder, spec)
    renderer = dataclasses.replace(reader(model, spec), max_length=47)
    text = "abcdefghij " * 12
    row = Tagged(content=content(text), spans=(), origin=Origin("rows", 1))
    windows = renderer.windows(row)
    assert len(windows) > 2 and all(window.sequence.length <= 47 for window in windows)
    chars_N2 = np.concatenate([window.chars_N2 for window in windows])
    assert np.array_equal(chars_N2, token_chars(model.tokenizer, text)[1])


def test_of_a_long_context_the_windows_with_the_answer_are_learned_from_first(folder: Path) -> None:
    model = load(folder, SPECS["span"])
    every = dataclasses.replace(reader(model, SPECS["span"]), max_length=64)
    context = "x" * 400 + " here " + "y" * 400
    row = Answerable(question="where", context=context, answers=((401, "here"),), origin=Origin("rows", 3))
    some = dataclasses.replace(every, windows_learned=3)
    chosen, total = some.windows(row), every.windows(row)
    assert len(chosen) == 3 < len(total) and len(some.windows(row, learn=False)) == len(total), "all are asked"
    holds = [window.sequence.streams["start"][0] == 0 for window in chosen]
    assert sum(holds) == min(3, sum(window.sequence.streams["start"][0] == 0 for window in total)) >= 1
    starts = [int(window.chars_N2[1, 0]) for window in chosen]
    assert starts == sorted(starts)
    draws = {tuple(int(w.chars_N2[1, 0]) for w in dataclasses.replace(some, seed=seed).windows(row)) for seed in range(6)}
    assert len(draws) > 1, "the others follow from the seed"
