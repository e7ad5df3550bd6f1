"""Encoders: heads on them, padding that they do not see, and restoring masked tokens. Made here at random, none is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.data.batching import FixedBatches, collate, shuffled
from burnish.data.dialog import Frame
from burnish.data.render_heads import MASKED, HeadRenderer, HeadSpec, spec_for
from burnish.data.render_masked import masking
from burnish.errors import ConfigError, ModelError
from burnish.models import Model, forward, is_encoder, load_model, longest_input, save_model
from burnish.objectives.masked import MLM
from burnish.train import TaskLoss
from burnish.types import Batch, Labelled, Origin, Sequence, Text, content
from loop import cut, loss_and_gradient, run
from stub import cpu, make_stub
from test_labels_objectives import CASES

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
KINDS = ("bert", "distilbert", "modernbert", "roberta")
TEXT = "the lake lies behind the old mill and the river runs past the bakery on the square to the harbour "
SPECS = {
    "sequence": HeadSpec("sequence", ("dry", "town", "wet")),
    "several": HeadSpec("sequence", ("dry", "town", "wet"), "several"),
    "token": HeadSpec("token", ("O", "B-x", "I-x"), "flat"),
    "span": HeadSpec("span", ("start", "end"), "answer"),
}


def encoder_tokenizer() -> Any:
    """Return a word-piece tokenizer whose words fall apart into letters, but for a few; it frames texts as BERT's does."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), "the", "and", "lake", "##er", "##ill", "mill", "river"]
    raw = Tokenizer(WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = [("[CLS]", 2), ("[SEP]", 3)]
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)


def config_of(kind: str, vocabulary: int, *, width: int = 32) -> Any:
    from transformers import BertConfig, DistilBertConfig, ModernBertConfig, RobertaConfig

    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * width,
        "max_position_embeddings": 66,
        "initializer_range": 0.1,
        "pad_token_id": 0,
    }
    if kind == "bert":
        return BertConfig(**sizes)
    if kind == "roberta":
        return RobertaConfig(**sizes)
    if kind == "modernbert":
        return ModernBertConfig(**sizes, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3)
    return DistilBertConfig(
        vocab_size=vocabulary,
        dim=width,
        n_layers=2,
        n_heads=2,
        hidden_dim=2 * width,
        max_position_embeddings=66,
        initializer_range=0.1,
    )


def make_encoder(folder: Path, kind: str = "bert", *, width: int = 32) -> Path:
    """Write a random two-layer encoder with its head over the vocabulary."""
    from transformers import AutoModelForMaskedLM

    tokenizer = encoder_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AutoModelForMaskedLM.from_config(config_of(kind, len(tokenizer), width=width))
    network.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoders") / request.param, request.param)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("bert") / "bert")


def rows_of(model: Model) -> list[Sequence]:
    """Return rows of unequal length, read at several places that hold real tokens."""
    draw, made = np.random.default_rng(0), []
    for number, length in enumerate((5, 11, 8)):
        tokens_T = np.concatenate([[2], draw.integers(5, 100, length), [3]]).astype(np.int32)
        at_N = np.asarray([0] if model.spec is not None and model.spec.kind == "sequence" else [1, length // 2, length])
        ones_N = np.ones(len(at_N), dtype=np.float32)
        made.append(Sequence(tokens_T, at_N, tokens_T[at_N], ones_N, Origin("rows", number)))
    return made


def batch_of(model: Model, rows: list[Sequence], *, multiple: int = 16) -> Batch:
    return collate(rows, packing=False, pad_id=model.pad_id(), device="cpu", multiple=multiple, mask=True)


@pytest.mark.parametrize("head", SPECS)
def test_a_head_reads_in_a_batch_what_the_class_says_of_each_row_alone(encoder: Path, head: str) -> None:
    """So no padding is read; with the ecosystem's own class as the reference, for every kind of encoder and of head."""
    torch.manual_seed(0)
    model = load_model(str(encoder), cpu(), head=SPECS[head])
    assert model.encoder and type(model.network).__name__.endswith(("Classification", "QuestionAnswering"))
    rows = rows_of(model)
    found_NC = forward(model, batch_of(model, rows), ("scores",)).scores_NC
    expected = []
    for row in rows:
        said = model.network(input_ids=torch.as_tensor(row.tokens_T).long()[None])
        both = torch.stack([said.start_logits, said.end_logits], -1) if head == "span" else said.logits
        expected.append(both if both.dim() == 2 else both[0, torch.as_tensor(row.at_N).long()])
    torch.testing.assert_close(found_NC, torch.cat(expected), atol=1e-5, rtol=1e-4)


def test_masked_tokens_are_read_through_the_head_alone(encoder: Path) -> None:
    """The head over the vocabulary is found out, whatever its modules are called, and says what the whole network says."""
    model = load_model(str(encoder), cpu(), head=MASKED)
    assert model.head == "separate" and not model.notes
    rows = rows_of(model)
    outputs = forward(model, batch_of(model, rows), ("logprobs", "entropy"))
    expected = []
    for row in rows:
        logits_TV = model.network(input_ids=torch.as_tensor(row.tokens_T).long()[None]).logits[0]
        expected.append(logits_TV.log_softmax(-1)[torch.as_tensor(row.at_N).long(), torch.as_tensor(row.target_N).long()])
    assert outputs.logprobs_N is not None and outputs.entropy_N is not None
    torch.testing.assert_close(outputs.logprobs_N, torch.cat(expected), atol=1e-5, rtol=1e-4)
    model.head = "whole"
    again = forward(model, batch_of(model, rows), ("logprobs",)).logprobs_N
    torch.testing.assert_close(again, outputs.logprobs_N, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("head", SPECS)
def test_a_saved_run_opens_with_the_class_of_the_ecosystem(encoder: Path, head: str, tmp_path: Path) -> None:
    import transformers

    from burnish.models.heads import CLASSES

    torch.manual_seed(0)
    model = load_model(str(encoder), cpu(), head=SPECS[head])
    save_model(model, tmp_path)
    network, facts = getattr(transformers, CLASSES[SPECS[head].kind]).from_pretrained(str(tmp_path), output_loading_info=True)
    assert not facts["missing_keys"] and not facts["unexpected_keys"]
    assert network.config.id2label == dict(enumerate(SPECS[head].labels))
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        found, expected = (one.eval()(input_ids=ids) for one in (network, model.network))
    own = dict(model.network.named_parameters())
    assert all(torch.equal(tensor, own[name]) for name, tensor in network.named_parameters())
    for name in ("start_logits", "end_logits") if head == "span" else ("logits",):  # products may depend on where tensors lie
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-6)
    again = load_model(str(tmp_path), cpu())
    assert again.spec == SPECS[head], "a run's folder says which head it has"


def test_lora_keeps_all_modules_of_an_encoders_head(encoder: Path, tmp_path: Path) -> None:
    """DistilBERT's first head layer and BERT's pooler are random too: saved with the adapter, or a reloaded run answers by chance."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    from burnish.models import adapt, restore_weights
    from test_heads import LORA_WITH_HEAD

    torch.manual_seed(0)
    model = load_model(str(encoder), cpu(), head=SPECS["sequence"])
    adapt(model, LORA_WITH_HEAD, {})
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    ids = torch.arange(5, 15)[None]
    expected = model.network.eval()(input_ids=ids).logits.detach()
    save_model(model, tmp_path)
    torch.manual_seed(99)
    base = AutoModelForSequenceClassification.from_pretrained(str(encoder), num_labels=3)
    opened: Any = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    torch.testing.assert_close(opened(input_ids=ids).logits, expected)
    again = load_model(str(tmp_path), cpu())
    torch.testing.assert_close(again.network(input_ids=ids).logits, expected)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(1.0 if not parameter.requires_grad else 0.0)
    restore_weights(model, tmp_path)
    torch.testing.assert_close(model.network(input_ids=ids).logits, expected)


def test_an_encoder_learns_labels_and_spans(bert: Path) -> None:
    """Each head's loss on eight rows falls by half, in training mode, and split batches give what the whole one gives without."""
    for name in ("classification", "ner", "ner_layers", "qa"):
        case = CASES[name]
        tokenizer = encoder_tokenizer()
        spec = spec_for(case.kind, case.rows(), tokenizer)
        torch.manual_seed(0)
        model = load_model(str(bert), cpu(), head=spec)
        model.network.requires_grad_(True)
        render = HeadRenderer(model.tokenizer, 64, Frame(), spec, encoder=True)
        units = [render.sequences(row) for row in case.rows()]
        tasks = {"main": TaskLoss(case.objective)}

        def masked(tokens: int, units: Any = units, model: Model = model) -> list[Batch]:
            from burnish.data.batching import cut_padded

            return [batch_of(model, part, multiple=1) for part in cut_padded([list(unit) for unit in units], tokens)]

        whole, _ = loss_and_gradient(model, masked(10**9), tasks=tasks)
        split, _ = loss_and_gradient(model, masked(60), tasks=tasks)
        assert split.losses == pytest.approx(whole.losses, rel=1e-5) and split.metrics == pytest.approx(whole.metrics, rel=1e-5)
        steps = run(model, masked(10**9), steps=40, rate=3e-3, tasks=tasks)
        assert steps[-1].losses["nll"] < 0.5 * steps[0].losses["nll"], name


# ------------------------------------------------------------------------------------------------------------------------ masking


def masked_units(model: Model, *, max_length: int = 32) -> list[list[Sequence]]:
    render = HeadRenderer(model.tokenizer, max_length, Frame(), MASKED, encoder=True)
    return [
        render.sequences(Text(text=TEXT, origin=Origin("a.txt", 1))),
        render.sequences(Text(text=TEXT[9:60], origin=Origin("a.txt", 2))),
    ]


def test_a_masked_encoder_learns(bert: Path) -> None:
    model = load_model(str(bert), cpu(), head=MASKED)
    model.network.requires_grad_(True)
    units = [[part] for parts in masked_units(model) for part in parts]
    change = masking(model.tokenizer, 0)
    batches = FixedBatches(units, shuffled(len(units), 0), len(units), 512, False, model.pad_id(), "cpu", mask=True, change=change)
    steps = run(model, batches, steps=60, rate=5e-3, tasks={"main": TaskLoss(MLM)})
    first, last = (np.mean([step.losses["nll"] for step in part]) for part in (steps[:5], steps[-5:]))
    assert last < 0.6 * first, "masks differ in every epoch, so this is learned and not remembered"


def test_masks_follow_from_seed_epoch_and_row_alone(bert: Path) -> None:
    """So a resumed run sees the masks that it would have seen, whatever was asked before, and another epoch sees others."""
    model = load_model(str(bert), cpu(), head=MASKED)
    units = masked_units(model)

    def ids(step: int, seed: int = 0, tokens: int = 512) -> list[list[int]]:
        change = masking(model.tokenizer, seed)
        batches = FixedBatches(units, shuffled(2, 0), 2, tokens, False, 0, "cpu", mask=True, change=change)
        rows = []
        for batch in batches(step):
            assert batch.layout.document_BT is not None
            rows += [row[real >= 0].tolist() for row, real in zip(batch.layout.input_ids_BT, batch.layout.document_BT, strict=True)]
        return sorted(rows)

    assert ids(3) == ids(3) != ids(4)
    assert ids(3) != ids(3, seed=1)
    assert ids(3) == ids(3, tokens=32), "the token budget cuts micro-batches and changes no mask"


def test_masks_keep_their_shares(bert: Path) -> None:
    model = load_model(str(bert), cpu(), head=MASKED)
    parts = masked_units(model)[0]
    change = masking(model.tokenizer, 0)
    read = masks = kept = places = 0
    for epoch in range(400):
        for before, after in zip(parts, change(parts, 0, epoch), strict=True):
            assert np.array_equal(after.target_N, before.tokens_T[after.at_N]), "the target is what stood there"
            changed = np.flatnonzero(after.tokens_T != before.tokens_T)
            assert set(changed) <= set(after.at_N.tolist()) and 0 not in after.at_N, "the frame is never masked"
            places += len(before.at_N)
            read += len(after.at_N)
            masks += int((after.tokens_T[after.at_N] == model.tokenizer.mask_token_id).sum())
            kept += int((after.tokens_T[after.at_N] == after.target_N).sum())
    assert read / places == pytest.approx(0.15, abs=0.015)
    assert masks / read == pytest.approx(0.8, abs=0.02) and kept / read == pytest.approx(0.1, abs=0.02)


# ------------------------------------------------------------------------------------------------------------------------ refusals


def test_an_encoder_is_refused_for_writing_and_for_packing(bert: Path) -> None:
    with pytest.raises(ModelError, match="encoder, such as BERT"):
        load_model(str(bert), cpu())
    model = load_model(str(bert), cpu(), head=SPECS["sequence"])
    with pytest.raises(ModelError, match=r"packed rows would see each other.*train.packing = false"):
        forward(model, cut([rows_of(model)], 512, packing=True)[0], ("scores",))
    with pytest.raises(ModelError, match="writes no text"):
        forward(model, batch_of(model, rows_of(model)), ("logprobs",))


def test_what_has_no_masks_or_no_such_class_is_refused(tmp_path: Path, bert: Path) -> None:
    stub = make_stub(tmp_path / "stub")
    with pytest.raises(ModelError, match="is no encoder"):
        load_model(str(stub), cpu(), head=MASKED)
    with pytest.raises(ConfigError, match="no mask token"):
        masking(load_model(str(stub), cpu()).tokenizer, 0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        masking(encoder_tokenizer(), 0, share=1.5)


def test_an_encoder_decoder_is_refused_with_a_head_too(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes: dict[str, Any] = {"vocab_size": 300, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained(str(tmp_path))
    encoder_tokenizer().save_pretrained(str(tmp_path))
    for head in (None, MASKED, SPECS["sequence"]):
        with pytest.raises(ModelError, match="encoder-decoder"):
            load_model(str(tmp_path), cpu(), head=head)


def test_positions_behind_the_padding_token_are_not_counted() -> None:
    """RoBERTa's table of 66 positions holds 65 tokens where padding is number 0: one more would read behind its end."""
    assert longest_input(config_of("roberta", 300)) == 65
    assert longest_input(config_of("bert", 300)) == 66


def test_an_encoder_is_told_from_its_configuration() -> None:
    from transformers import LlamaConfig

    assert all(is_encoder(config_of(kind, 300)) for kind in KINDS) and not is_encoder(LlamaConfig())


def test_the_frame_of_an_encoders_text_is_its_tokenizers(bert: Path) -> None:
    tokenizer = encoder_tokenizer()
    render = HeadRenderer(tokenizer, 64, Frame(), SPECS["sequence"], encoder=True)
    row = render.sequences(Labelled(content=content("the lake"), labels=("wet",), origin=Origin("a", 1)))[0]
    assert row.tokens_T.tolist() == tokenizer("the lake")["input_ids"]
    assert (row.at_N.tolist(), row.target_N.tolist()) == ([0], [2])
    pair = render.around(pair=True)
    made = [
        *pair[0],
        *tokenizer("a", add_special_tokens=False)["input_ids"],
        *pair[1],
        *tokenizer("b c", add_special_tokens=False)["input_ids"],
        *pair[2],
    ]
    assert made == tokenizer("a", "b c")["input_ids"]
