"""Log-probabilities kept for other runs: found by content alone, never wrong, limited in size, and safe with several processes."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish import api, reference_kept
from burnish.doctor import examine
from burnish.models import Model, adapt
from burnish.reference_kept import folder, kept, size, weights_digest
from burnish.techniques import TECHNIQUES
from burnish.tune import Watch
from cli_runs import write_run
from loop import moving
from stub import load_stub, make_stub

VALUES = [np.asarray([-1.5, -2.25], dtype=np.float32), np.zeros(0, dtype=np.float32)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "burnish" / "reference"


def never() -> list[np.ndarray]:
    raise AssertionError("computed though it is kept")


def same(found: list[np.ndarray]) -> bool:
    return len(found) == len(VALUES) and all(np.array_equal(one, other) for one, other in zip(found, VALUES, strict=True))


def test_what_is_kept_comes_back_bit_for_bit_and_damage_is_computed_anew(cache: Path) -> None:
    assert folder() == cache and size() == (0, 0)
    assert same(kept("a" * 64, compute=lambda: VALUES)) and same(kept("a" * 64, compute=never))
    path = next(cache.iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert same(kept("a" * 64, compute=lambda: VALUES)) and same(kept("a" * 64, compute=never))
    path.rename(cache / f"{'b' * 64}.safetensors")  # another's numbers under this name
    with pytest.raises(AssertionError, match="computed"):
        kept("b" * 64, compute=never)


def test_the_oldest_goes_when_the_limit_is_reached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used last stays, however long ago it was made."""
    keys = [letter * 64 for letter in "abc"]
    for number, key in enumerate(keys):
        kept(key, compute=lambda: VALUES)
        os.utime(cache / f"{key}.safetensors", (number, number))
    kept(keys[0], compute=never)
    one = size()[1] // 3
    monkeypatch.setattr(reference_kept, "LARGEST", 3 * one)
    kept("d" * 64, compute=lambda: VALUES)
    assert {path.name[0] for path in cache.iterdir()} == {"a", "c", "d"}
    monkeypatch.setattr(reference_kept, "LARGEST", 0)
    assert same(kept("e" * 64, compute=lambda: VALUES)) and size() == (0, 0)


def test_several_at_once_see_whole_files_or_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_kept, "LARGEST", 700)  # about two files, so that they remove each other's
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: kept("abc"[number % 3] * 64, compute=lambda: VALUES), range(60)))
    assert all(map(same, found))


def test_a_cache_that_cannot_be_written_is_told_and_left_alone(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where a folder should be")
    said: list[str] = []
    assert same(kept("a" * 64, compute=lambda: VALUES, say=said.append))
    assert len(said) == 1 and "not kept for other runs" in said[0]


def test_doctor_shows_how_much_is_kept_and_how_to_empty_it(cache: Path) -> None:
    kept("a" * 64, compute=lambda: VALUES)
    told = examine()["caches"]["reference"]
    assert "1 files" in told and "MB at most" in told and "delete the folder" in told


def adapted(place: Path, technique: str, seed: int = 0, **options: Any) -> Model:
    model = load_stub(place)
    torch.manual_seed(seed)
    adapt(model, TECHNIQUES[technique], options)
    return model


def test_the_digest_is_of_weights_and_not_of_names(tmp_path: Path) -> None:
    """Adapters that begin as the base share its digest, whatever their rank and seed; one weight changed anywhere does not."""

    def digest(model: Model) -> str:
        return weights_digest(model, without=moving(model))

    base = weights_digest(load_stub(tmp_path / "one"))
    assert digest(adapted(tmp_path / "two", "lora", rank=4)) == digest(adapted(tmp_path / "two", "lora", 1, rank=2)) == base
    assert weights_digest(adapted(tmp_path / "two", "full")) == base
    changed = load_stub(tmp_path / "two")
    with torch.no_grad():
        next(reversed(list(changed.network.parameters())))[-1] += 1e-3
    assert weights_digest(changed) != base
    pissa = adapted(tmp_path / "two", "pissa", rank=2)
    assert weights_digest(pissa) != base, "it takes its beginning from the base's weights"


def test_another_run_on_the_same_pairs_finds_what_the_first_has_read(tmp_path: Path) -> None:
    """With another rank, rate and seed of the adapter; not with other rows. The result is that of a run that reads by itself."""
    make_stub(tmp_path / "stub")
    rows = [{"prompt": f"question {n}? " * 3, "chosen": f"yes {n}", "rejected": f"no, not {n}"} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = write_run(
        tmp_path,
        "./stub",
        objective__name="dpo",
        score=["preference_accuracy"],
        evaluate__max_tokens=None,
        train__steps=1,
        train__learning_rate=1e-2,
    )

    def said(name: str, *overrides: str) -> str:
        lines: list[str] = []
        api.tune(run, f"output={tmp_path / name}", *overrides, watch=Watch(say=lines.append))
        return "\n".join(lines)

    assert "once" in said("first")
    assert "kept by an earlier run" in said("second", "technique.rank=4", "train.learning_rate=1e-3")
    assert "kept by an earlier run" not in said("third", "train.tokens=100"), "a pass cut otherwise rounds otherwise"
    files = [tmp_path / name / "reference-main.safetensors" for name in ("first", "third")]
    assert files[0].is_file() and files[1].is_file() and size()[0] == 2
