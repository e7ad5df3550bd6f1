"""Adapters added up with weights, and drawn back towards their base: against PEFT's own sum and against the weights themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.errors import ConfigError, ModelError
from burnish.merge_mixture import mix, towards_base
from burnish.models import load_model
from cli_runs import cli
from stub import cpu, make_stub
from test_merge import PROBE, close, folder, opened, saved  # noqa: F401  (fixtures)

Saved = Callable[..., Path]


def summed(parts: list[tuple[Path, float]], base: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the base with the difference of each merged adapter added, times its weight."""
    start = dict(load_model(str(base), cpu()).network.named_parameters())
    total = {name: weight.detach().clone() for name, weight in start.items()}
    for path, weight in parts:
        merged = load_model(str(path), cpu()).network.merge_and_unload()
        for name, tuned in merged.named_parameters():
            total[name] += weight * (tuned.detach() - start[name].detach())
    return total


def test_a_mixture_is_the_weighted_sum_of_the_updates(saved: Saved, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """Of adapters of different ranks and layers, one of them taken away; in value, and as PEFT adds them up."""
    first, second = saved("a"), saved("bb", rank=3, alpha=12.0, steps=5)
    done = mix([str(first), str(second)], [0.6, -0.4], tmp_path / "out")
    found = load_model(str(tmp_path / "out"), cpu()).network.merge_and_unload()
    expected = summed([(first, 0.6), (second, -0.4)], folder)
    assert any(
        not torch.equal(expected[name], weight) for name, weight in load_model(str(folder), cpu()).network.named_parameters()
    )
    for name, weight in found.named_parameters():
        torch.testing.assert_close(weight.detach(), expected[name], atol=1e-5, rtol=1e-4)
    assert done.rank == 7 and done.prompts == 8 and done.change is not None and 0 < done.change < 1e-4 * done.largest_logit

    from peft import AutoPeftModelForCausalLM

    theirs = AutoPeftModelForCausalLM.from_pretrained(str(first))
    theirs.load_adapter(str(second), adapter_name="second")
    theirs.add_weighted_adapter(["default", "second"], [0.6, -0.4], "mixed", combination_type="cat")
    theirs.set_adapter("mixed")
    with torch.no_grad():
        close(opened(tmp_path / "out"), theirs(input_ids=PROBE).logits)
        ours = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "out"))
        close(ours(input_ids=PROBE).logits, theirs(input_ids=PROBE).logits)


def test_weight_one_is_itself_and_a_share_is_the_average_with_the_base(saved: Saved, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    adapter = saved("a")
    mix([str(adapter)], [1.0], tmp_path / "same")
    close(opened(tmp_path / "same"), opened(adapter), of=1e-6)
    done = towards_base(str(adapter), 0.7, tmp_path / "part")
    expected = summed([(adapter, 0.7)], folder)
    for name, weight in load_model(str(tmp_path / "part"), cpu()).network.merge_and_unload().named_parameters():
        torch.testing.assert_close(weight.detach(), expected[name], atol=1e-6, rtol=1e-4)
    assert done.change is not None and done.weights == (0.7,)
    towards_base(str(adapter), 0.0, tmp_path / "none")
    close(opened(tmp_path / "none"), opened(folder), of=1e-6)
    settings = json.loads((tmp_path / "part/burnish.json").read_text())
    assert settings["system"] == "Be brief.", "it is asked in the form that was taught"


def test_what_has_no_sum_is_refused(saved: Saved, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    adapter, out = saved("a"), tmp_path / "out"
    elsewhere = saved("far", on=make_stub(tmp_path / "other", seed=4))
    calls: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (ConfigError, "one weight for each", lambda: mix([str(adapter)], [0.5, 0.5], out)),
        (ConfigError, "other than 0", lambda: mix([str(adapter), str(adapter)], [0.5, 0.0], out)),
        (ConfigError, "other than 0", lambda: mix([str(adapter)], [float("nan")], out)),
        (ConfigError, "exists already", lambda: mix([str(adapter)], [1.0], adapter)),
        (ConfigError, "from 0", lambda: towards_base(str(adapter), 1.5, out)),
        (ModelError, "is no adapter", lambda: mix([str(folder)], [1.0], out)),
        (ModelError, "no plain LoRA", lambda: mix([str(adapter), str(saved("d", technique="dora"))], [0.5, 0.5], out)),
        (ModelError, "has no base", lambda: mix([str(adapter), str(elsewhere)], [0.5, 0.5], out)),
        (ModelError, "Name them", lambda: towards_base(str(folder), 0.5, out)),
    ]
    for kind, match, call in calls:
        with pytest.raises(kind, match=match):
            call()
    assert not out.exists()


def test_the_verb(saved: Saved, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    a, b = saved("a"), saved("b", steps=5)
    done = cli("merge", a, b, "--weights", "0.6,0.4", "--output", tmp_path / "both")
    assert done.code == 0 and "0.6 × " in done.out and "differ by" in done.out
    done = cli("merge", a, "--average", "0.5", "--output", tmp_path / "half", "--json")
    assert done.code == 0 and done.json["weights"] == [0.5] and done.json["change"] is not None
    for wrong, said in (
        ((a, b), "one weight for each"),
        ((a, b, "--average", "0.5"), "takes one model"),
        ((a, b, "--weights", "x,y"), "a number for each"),
        ((a, "--average", "0.5", "--dtype", "float32"), "belong to merging"),
        ((a, "--base", folder), "belongs to --average"),
    ):
        done = cli("merge", *wrong, "--output", tmp_path / "no")
        assert done.code == 2 and said in done.err, done.err
    assert not (tmp_path / "no").exists()
