"""New terms from a run file: tokens of their own in data, training, folder, report, and in the base that is measured beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import api, config
from burnish.errors import ConfigError, ModelError
from burnish.merge import merge
from burnish.models import load_model
from burnish.prepare import registries
from burnish.tune import Watch
from run_files import run_toml
from stub import cpu
from test_every_objective_runs import place, run_of, steps  # noqa: F401  (a fixture)

TERMS = ["harbour", "colour"]


def with_terms(place: Path, output: Path, **more: Any) -> dict[str, Any]:  # noqa: F811
    return {**run_of(place, "sft", output), "model": {"name": str(place / "stub"), "add_terms": TERMS}, "technique": "lora", **more}


@pytest.mark.parametrize("technique", ["lora", "full"])
def test_pain_new_tokens_with_lora_llama_factory_7997_peft_2898(technique: str, place: Path, tmp_path: Path) -> None:  # noqa: F811
    """The vectors of new tokens are trained, saved with the adapter and merged; a stopped run goes on as if it had not been stopped."""

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 3:
            raise KeyboardInterrupt

    quiet = api.tune(with_terms(place, tmp_path / "quiet", technique=technique))
    broken = with_terms(place, tmp_path / "broken", technique=technique)
    with pytest.raises(KeyboardInterrupt):
        api.tune(broken, watch=Watch(step=stop))
    api.tune(broken, resume=True)
    assert steps(tmp_path / "broken") == steps(quiet)

    model = load_model(str(quiet), cpu())
    tokens = [model.tokenizer(term, add_special_tokens=False)["input_ids"] for term in TERMS]
    assert all(len(ids) == 1 for ids in tokens)
    begun = load_model(str(place / "stub"), cpu(), terms=TERMS)
    table: Any = model.plain().get_input_embeddings()
    before: Any = begun.plain().get_input_embeddings()
    probe = torch.tensor([[5, tokens[0][0], 9, tokens[1][0], 71]])
    with torch.no_grad():
        moved = table(probe)[0, [1, 3]] - before(probe)[0, [1, 3]]
        assert bool((moved.abs().sum(1) > 0).all())
        if technique == "lora":
            merge(str(quiet), tmp_path / "merged")
            merged = load_model(str(tmp_path / "merged"), cpu())
            expected = model.plain()(input_ids=probe).logits
            torch.testing.assert_close(merged.plain()(input_ids=probe).logits, expected, atol=5e-4, rtol=1e-4)
    report = json.loads((quiet / "report.json").read_text())
    assert any("2 terms are tokens of their own" in note for note in report["notes"])
    again = api.evaluate(quiet)
    headline = report["headline"]
    assert again["scores"][headline]["tuned" if "tuned" in again["scores"][headline] else "model"] is not None


def test_terms_are_written_down_compared_and_kept(tmp_path: Path) -> None:
    file = run_toml(tmp_path, 'data = "rows.jsonl"\nmodel = {name = "tiny", add_terms = ["xylem", "CO2-flux"]}\n')
    found = config.load(file, registries=registries())
    assert found.config.model.add_terms == ("xylem", "CO2-flux")
    again = config.load(run_toml(tmp_path, config.dump(found)), registries=registries())
    assert again.config.model == found.config.model and config.difference(found, again) == []
    fewer = config.load(run_toml(tmp_path, 'data = "rows.jsonl"\nmodel = "tiny"\n'), registries=registries())
    assert any("add_terms" in change for change in config.difference(found, fewer))
    moved = config.with_value(found, "model", "/elsewhere", origin="the run before")
    assert moved.config.model.name == "/elsewhere" and moved.config.model.add_terms == ("xylem", "CO2-flux")


def test_terms_that_cannot_be_used_are_refused_before_weights_are_read(place: Path, tmp_path: Path) -> None:  # noqa: F811
    run = with_terms(place, tmp_path / "no")
    with pytest.raises(ModelError, match="'the' is one token already"):
        api.check({**run, "model": {**run["model"], "add_terms": ["the", "colour"]}})
    with pytest.raises(ConfigError, match="a fresh model learns its tokenizer"):
        api.check({**run, "model": {"init": "llama", "add_terms": ["colour"]}, "technique": "full"})
    with pytest.raises(ConfigError, match="must be trained with the model"):
        api.tune({**run, "technique": "ia3"})
    adapter = api.tune(run_of(place, "sft", tmp_path / "first", technique="lora"))
    with pytest.raises(ModelError, match="not to an adapter"):
        api.check({**run, "model": {"name": str(adapter), "add_terms": TERMS}})
