"""Adapters after training: merged, stacked, switched between, and with new terms; each against what it was made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.errors import ConfigError, ModelError
from burnish.merge import beside, merge, stack, surviving, switch
from burnish.models import Model, adapt, add_terms, load_model, restore_weights, save_model
from burnish.sampling import Options, generate
from burnish.techniques import TECHNIQUES
from burnish.techniques.low_rank import quiet
from loop import cut, eight_sequences, moving, run
from stub import cpu, make_stub

PROBE = torch.tensor([[5, 9, 71, 33, 80, 12, 260, 101]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("merge") / "stub")


@pytest.fixture
def saved(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that tunes an adapter for a few steps and writes it."""

    def made(
        name: str, *, technique: str = "lora", on: Path | None = None, steps: int = 4, rate: float = 2e-2, **options: Any
    ) -> Path:
        model = load_model(str(on or folder), cpu())
        torch.manual_seed(len(name))
        adapt(model, TECHNIQUES[technique], {"rank": 4, **options} if technique != "prompt" else options)
        run(model, cut(eight_sequences(model), 512), steps=steps, rate=rate)
        save_model(model, tmp_path / name, settings={"system": "Be brief."})
        return tmp_path / name

    return made


def logits(model: Model) -> torch.Tensor:
    model.network.eval()
    with torch.no_grad():
        return model.plain()(input_ids=PROBE).logits.float()


def opened(path: Path | str) -> torch.Tensor:
    return logits(load_model(str(path), cpu()))


def close(found: torch.Tensor, expected: torch.Tensor, *, of: float = 1e-4) -> None:
    torch.testing.assert_close(found, expected, atol=of * float(expected.abs().max()), rtol=0.0)


# ------------------------------------------------------------------------------------------------------------------------- merging


def test_a_merged_folder_is_an_ordinary_model_with_its_settings(saved: Callable[..., Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    adapter = saved("a")
    record = merge(str(adapter), tmp_path / "out")
    network = AutoModelForCausalLM.from_pretrained(str(tmp_path / "out"))
    close(network(input_ids=PROBE).logits, opened(adapter))
    settings = json.loads((tmp_path / "out" / "burnish.json").read_text())
    assert settings == {"system": "Be brief."}
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    assert (record.dtype, record.layers, record.prompts) == ("float32", 14, 8)
    assert record.update.kept == pytest.approx(1.0, abs=1e-6)
    assert 0 < record.change < 1e-4 * record.largest_logit


def test_prompts_of_ones_own_are_compared(saved: Callable[..., Path], tmp_path: Path) -> None:
    assert merge(str(saved("a")), tmp_path / "out", prompts=["the user", "one answer there"]).prompts == 2


def test_a_change_of_the_answers_stops_the_merge(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check can fail: an adapter that the merge leaves out is noticed, and nothing is written."""
    from burnish import merge as module
    from burnish.errors import RunError

    adapter = saved("a")

    def left_out(adapted: Model, stored: str) -> Any:
        adapted.network = adapted.network.unload()
        return 14, module.Update(1.0, 0.0)

    monkeypatch.setattr(module, "merge_in_place", left_out)
    with pytest.raises(RunError, match="does not answer as its adapter did"):
        merge(str(adapter), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_update_that_rounding_would_swallow_is_refused_with_figures(saved: Callable[..., Path], tmp_path: Path) -> None:
    """Stored as bfloat16, an update of a thousandth of a weight is mostly gone; in float32 it is kept; by force it is written.

    Pain 5.
    """
    small = saved("small", steps=1, rate=1e-4)
    with pytest.raises(ModelError, match=r"would lose what was learned: \d+% of the update's norm is kept .* rounding is \d+%"):
        merge(str(small), tmp_path / "out", dtype="bfloat16")
    assert not (tmp_path / "out").exists()
    assert merge(str(small), tmp_path / "wide", dtype="float32").update.survives
    record = merge(str(small), tmp_path / "forced", dtype="bfloat16", force=True)
    assert record.update.error > 0.5
    assert json.loads((tmp_path / "forced" / "config.json").read_text())["dtype"] == "bfloat16"
    big = merge(str(saved("big", steps=8)), tmp_path / "big16", dtype="bfloat16")
    assert big.update.survives
    assert big.saved_change > 10 * big.change, "what was read back is what bfloat16 holds"


def test_what_survives_storing_by_hand() -> None:
    """Norms of the kept update and of its error, on numbers that bfloat16's 8 bits hold, half hold, or do not hold."""
    base = torch.ones(4, 4)
    kept = surviving({"w": (base, base + 2**-7)}, "bfloat16")
    assert (kept.kept, kept.error) == (1.0, 0.0)
    gone = surviving({"w": (base, base + 2**-10)}, "bfloat16")
    assert (gone.kept, gone.error) == (0.0, 1.0)
    assert not gone.survives
    half = base.clone()
    half[:2] += 2**-7
    half[2:] += 2**-10
    mixed = surviving({"w": (base, half)}, "bfloat16")
    total = (8 * 2**-14 + 8 * 2**-20) ** 0.5
    assert mixed.kept == pytest.approx((8 * 2**-14) ** 0.5 / total)
    assert mixed.error == pytest.approx((8 * 2**-20) ** 0.5 / total)
    assert surviving({"w": (base, base)}, "bfloat16").survives


def test_quantising_loses_more_than_rounding() -> None:
    torch.manual_seed(0)
    base = torch.randn(64, 64)
    weights = {"w": (base, base + 0.01 * torch.randn(64, 64))}
    errors = [surviving(weights, stored).error for stored in ("float32", "bfloat16", "int8", "nf4")]
    assert errors == sorted(errors)
    assert not surviving(weights, "nf4").survives


def test_a_quantised_base_is_merged_as_it_was_trained_on(saved: Callable[..., Path], tmp_path: Path) -> None:
    """At full precision: the merged model answers as the adapter on its 4-bit base did, not as on the base that was never used.

    Pain 5.
    """
    adapter = saved("q", technique="qlora")
    record = merge(str(adapter), tmp_path / "out")
    assert record.change < 1e-4 * record.largest_logit
    close(opened(tmp_path / "out"), opened(adapter))


def test_what_cannot_be_merged_is_refused(folder: Path, saved: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no adapter"):
        merge(str(folder), tmp_path / "out")
    with pytest.raises(ModelError, match="cannot be merged: its virtual positions"):
        merge(str(saved("p", technique="prompt", positions=3)), tmp_path / "out")
    adapter = saved("a")
    with pytest.raises(ConfigError, match="exists already"):
        merge(str(adapter), tmp_path)
    wrong: Any = "int4"
    with pytest.raises(ConfigError, match="Use one of: auto, float32"):
        merge(str(adapter), tmp_path / "out", dtype=wrong)


# ------------------------------------------------------------------------------------------------------------- one on top of another


def test_a_second_adapter_on_a_first_is_saved_with_it(saved: Callable[..., Path], folder: Path) -> None:
    """As one adapter on the original base, of both ranks, that PEFT's own loader opens; where it begins is the first one's model."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    first = saved("first", rank=3, targets=["q_proj", "up_proj"])
    model = load_model(str(first), cpu())
    start = logits(model)
    adapt(model, TECHNIQUES["lora"], {"rank": 5, "alpha": 10.0, "targets": ["q_proj", "v_proj"]})
    close(logits(model), start, of=1e-5)
    with model.network.disable_adapter():
        close(logits(model), start, of=1e-5)
    run(model, cut(eight_sequences(model), 512), steps=4, rate=2e-2)
    out = first.parent / "both"
    save_model(model, out)
    close(opened(out), logits(model))
    with quiet():
        theirs: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(folder)), str(out))
    close(theirs(input_ids=PROBE).logits, logits(model))
    ranks = {name.split(".")[-4]: len(item) for name, item in theirs.named_parameters() if "lora_A" in name}
    assert {key.split(".")[-1]: value for key, value in ranks.items()} == {"q_proj": 8, "up_proj": 3, "v_proj": 5}
    again = load_model(str(first), cpu())
    adapt(again, TECHNIQUES["lora"], {"rank": 5, "alpha": 10.0, "targets": ["q_proj", "v_proj"]})
    restore_weights(again, out)
    kept = moving(model)
    assert all(torch.equal(item, kept[name]) for name, item in moving(again).items()), "a checkpoint of it can be resumed"
    assert torch.equal(logits(again), logits(model))


def test_pissa_on_a_lora_loses_neither(saved: Callable[..., Path]) -> None:
    first = saved("first", rank=3)
    model = load_model(str(first), cpu())
    start = logits(model)
    adapt(model, TECHNIQUES["pissa"], {"rank": 4})
    close(logits(model), start)
    run(model, cut(eight_sequences(model), 512), steps=3, rate=1e-2)
    save_model(model, first.parent / "both")
    close(opened(first.parent / "both"), logits(model))


@pytest.mark.parametrize(
    ("first", "second"), [("dora", "lora"), ("qlora", "lora"), ("ia3", "lora"), ("lora", "dora"), ("lora", "ia3")]
)
def test_what_cannot_be_saved_together_is_refused(first: str, second: str, saved: Callable[..., Path]) -> None:
    model = (
        load_model(str(saved("a", technique=first, **({"rank": 4} if first != "ia3" else {}))), cpu()) if first != "ia3" else None
    )
    if model is None:
        base = load_model(str(saved("plain")), cpu())
        base.network = base.network.unload()
        adapt(base, TECHNIQUES["ia3"], {})
        model = base
    with pytest.raises(ModelError, match=r"plain LoRA|second adapter"):
        adapt(model, TECHNIQUES[second], {})


def test_stacked_folders_answer_as_the_second_on_the_merged_first(saved: Callable[..., Path], tmp_path: Path) -> None:
    first = saved("first", rank=3)
    merge(str(first), tmp_path / "merged")
    second = saved("second", on=tmp_path / "merged", rank=5)
    record = stack(str(first), str(second), tmp_path / "both")
    assert record.rank == 8
    assert record.change < 1e-4 * record.largest_logit
    found = load_model(str(tmp_path / "both"), cpu())
    close(logits(found), opened(second))
    assert found.found.base == load_model(str(first), cpu()).found.base
    assert json.loads((tmp_path / "both" / "burnish.json").read_text())["system"] == "Be brief."


def test_stacking_on_another_base_is_refused(saved: Callable[..., Path], folder: Path, tmp_path: Path) -> None:
    first, second = saved("first"), saved("second")
    with pytest.raises(ModelError, match=r"which is not .* merged into its base"):
        stack(str(first), str(second), tmp_path / "both")
    with pytest.raises(ModelError, match="is no adapter"):
        stack(str(first), str(folder), tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_two_adapters_on_one_base_answer_each_as_by_itself(saved: Callable[..., Path], tmp_path: Path) -> None:
    one, two = saved("one"), saved("second", rank=6)
    model = load_model(str(one), cpu())
    alone = logits(model)
    beside(model, str(two), name="two")
    assert torch.equal(logits(model), alone), "loading it changes nothing yet"
    switch(model, "two")
    close(logits(model), opened(two), of=1e-6)
    switch(model, "default")
    assert torch.equal(logits(model), alone)
    assert not moving(model)
    with pytest.raises(ModelError, match=r"No adapter .* 'three'. There are: default, two"):
        switch(model, "three")
    with pytest.raises(ModelError, match="called 'two' already"):
        beside(model, str(two), name="two")
    other = make_stub(tmp_path / "other", seed=4)
    with pytest.raises(ModelError, match="is an adapter on"):
        beside(model, str(saved("elsewhere", on=other)), name="three")
    with pytest.raises(ModelError, match="different kinds"):
        beside(model, str(saved("p", technique="prompt", positions=3)), name="four")


# ------------------------------------------------------------------------------------------------------------------------- new terms

TERMS = ["xylem", "CO2-flux"]


@pytest.mark.parametrize("technique", ["lora", "full", "dora", "pissa"])
@pytest.mark.parametrize("tied", [False, True])
def test_new_terms_are_trained_and_saved(technique: str, tied: bool, folder: Path, tmp_path: Path) -> None:
    """Each begins as the mean of its pieces, moves with the technique, and is there when the folder is opened again.

    A pain below the line: new tokens.
    """
    model = load_model(str(tied_stub(folder, tmp_path) if tied else folder), cpu())
    plain: Any = model.plain()
    before, head = plain.get_input_embeddings().weight.clone(), plain.get_output_embeddings().weight.clone()
    added = add_terms(model, TERMS)
    for term, token in added.tokens.items():
        pieces = list(added.pieces[term])
        torch.testing.assert_close(plain.get_input_embeddings().weight[token], before[pieces].mean(0))
        torch.testing.assert_close(plain.get_output_embeddings().weight[token], head[pieces].mean(0))
    assert torch.equal(plain.get_input_embeddings().weight[: len(before)], before)
    ids = model.tokenizer("the xylem, CO2-flux and xylems", add_special_tokens=False)["input_ids"]
    assert [ids.count(token) for token in added.tokens.values()] == [1, 1], "whole words alone"
    assert model.tokenizer.decode(ids) == "the xylem, CO2-flux and xylems"

    adapt(model, TECHNIQUES[technique], {"rank": 4} if technique != "full" else {})
    start = plain.get_input_embeddings().weight.detach().clone()
    run(model, cut(with_terms(model), 512), steps=3, rate=2e-2)
    now = plain.get_input_embeddings().weight.detach()
    new = list(added.tokens.values())
    assert bool(((now - start)[new].abs().sum(1) > 0).all())
    assert technique == "full" or torch.equal(now[: len(before)], start[: len(before)]), "the other vectors stay"
    save_model(model, tmp_path / "out")
    probe, again = torch.tensor([[5, *new, 9, 71]]), load_model(str(tmp_path / "out"), cpu())
    model.network.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            again.plain()(input_ids=probe).logits, model.plain()(input_ids=probe).logits, atol=5e-5, rtol=1e-4
        )
    assert again.tokenizer("xylem", add_special_tokens=False)["input_ids"] == new[:1]
    prompt = np.asarray([5, *new], dtype=np.int32)
    answers = [generate(item, [prompt], Options(max_tokens=6))[0].tokens.tolist() for item in (model, again)]
    assert answers[0] == answers[1]
    if technique == "lora":
        merge(str(tmp_path / "out"), tmp_path / "merged")
        with torch.no_grad():
            merged = load_model(str(tmp_path / "merged"), cpu()).plain()(input_ids=probe).logits
            torch.testing.assert_close(merged, model.plain()(input_ids=probe).logits, atol=5e-4, rtol=1e-4)


def tied_stub(folder: Path, place: Path) -> Path:
    """Write the stub with one table for input vectors and head."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(str(folder))
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(str(place / "tied"))
    AutoTokenizer.from_pretrained(str(folder)).save_pretrained(str(place / "tied"))
    return place / "tied"


def with_terms(model: Model) -> Any:
    from loop import dialog, renderer

    return [renderer(model).sequences(dialog("what is xylem?", "the CO2-flux of xylem", line)) for line in (1, 2)]


def test_terms_that_cannot_be_added_are_listed(folder: Path, saved: Callable[..., Path]) -> None:
    model = load_model(str(folder), cpu())
    size = len(model.tokenizer)
    with pytest.raises(ModelError, match="5 problems") as caught:
        add_terms(model, ["the", "", " xylem", "phloem", "phloem", "x"])
    assert "'the' is one token already" in str(caught.value)
    assert "'phloem' is given twice" in str(caught.value)
    assert len(model.tokenizer) == size
    with pytest.raises(ModelError, match="at least one"):
        add_terms(model, [])
    add_terms(model, ["phloem"])
    with pytest.raises(ModelError, match="one token already"):
        add_terms(model, ["phloem"])
    with pytest.raises(ModelError, match="before a technique"):
        add_terms(load_model(str(saved("a")), cpu()), ["phloem"])


@pytest.mark.parametrize("technique", ["ia3", "prompt", "prefix", "ptuning"])
def test_a_technique_that_would_lose_new_terms_is_refused(technique: str, folder: Path) -> None:
    model = load_model(str(folder), cpu())
    add_terms(model, ["phloem"])
    with pytest.raises(ConfigError, match="must be trained with the model"):
        adapt(model, TECHNIQUES[technique], {})
