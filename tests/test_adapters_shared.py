"""Several adapters over one base: each row of a batch has its own, and says what it would say alone; beginnings are read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish.models import Model, add_adapter, find_model, load_model, why_not_shared
from burnish.sampling import Options, generate
from burnish.sampling.flight import Flight, Generated, Row
from serving import write_adapter
from stub import cpu, load_stub, make_stub

CPU = cpu()
OPTIONS = Options(max_tokens=24)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, dict[str | None, Model]]:
    """A base with two adapters of different rank and different layers, and each of the three loaded alone."""
    folder = tmp_path_factory.mktemp("shared")
    base = make_stub(folder / "base")
    one = write_adapter(base, folder / "one", 1, rank=4)
    two = write_adapter(base, folder / "two", 2, rank=2, targets=["q_proj", "down_proj"])
    model = load_model(str(base), CPU)
    for name, path in (("a0", one), ("a1", two)):
        assert why_not_shared(model, find_model(str(path))) is None
        add_adapter(model, find_model(str(path)), name)
    alone: dict[str | None, Model] = {
        None: load_model(str(base), CPU),
        "a0": load_model(str(one), CPU),
        "a1": load_model(str(two), CPU),
    }
    return model, alone


def prompts_of(count: int, *, start: int = 0, before: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(7)
    common = random.integers(60, 288, size=before)
    return [np.concatenate([common, random.integers(60, 288, size=5 + 3 * number)]) for number in range(start, start + count)]


def fly(flight: Flight, rows: list[Row]) -> dict[Row, Generated]:
    """Let rows join one after the other, as requests would."""
    waiting, found = list(rows), {}
    while waiting or len(flight):
        if waiting and flight.room:
            flight.admit([waiting.pop(0)])
        found |= dict(flight.advance())
    return found


def test_adapters_in_one_batch_say_what_each_says_alone(shared: tuple[Model, dict[str | None, Model]]) -> None:
    """Float32, exactly the same tokens, greedy and drawn, in the company of other adapters and of the base; log-probabilities to 1e-4."""
    model, alone = shared
    names, prompts = [None, "a0", "a1", "a0", None, "a1"], prompts_of(6)
    for options in (OPTIONS, Options(max_tokens=24, temperature=1.0, seed=3)):
        rows = [Row(n, n, 0, prompts[n], adapter=name) for n, name in enumerate(names)]
        found = fly(Flight(model, options, rows=6), rows)
        said = {}
        for number, (row, name) in enumerate(zip(rows, names, strict=True)):
            expected = generate(alone[name], [prompts[number]], options, numbers=[number])[0]
            assert found[row].tokens.tolist() == expected.tokens.tolist(), f"row {number} with {name}"
            np.testing.assert_allclose(found[row].logprobs, expected.logprobs, atol=1e-4)
            said[name] = expected.tokens.tolist()
        assert len({tuple(tokens) for tokens in said.values()}) == 3, "three models that say the same would prove nothing"


def test_an_adapter_may_come_while_rows_are_under_way(tmp_path: Path) -> None:
    base = make_stub(tmp_path / "base")
    adapter = write_adapter(base, tmp_path / "one", 1)
    model, prompts = load_model(str(base), CPU), prompts_of(2)
    flight = Flight(model, OPTIONS, rows=2)
    first = Row(0, 0, 0, prompts[0])
    flight.admit([first])
    found = dict(flight.advance())
    add_adapter(model, find_model(str(adapter)), "late")
    flight.look()
    found |= fly(flight, [second := Row(1, 1, 0, prompts[1], adapter="late")])
    assert found[first].tokens.tolist() == generate(load_model(str(base), CPU), [prompts[0]], OPTIONS)[0].tokens.tolist()
    assert found[second].tokens.tolist() == generate(load_model(str(adapter), CPU), [prompts[1]], OPTIONS)[0].tokens.tolist()


@pytest.mark.parametrize(
    ("technique", "options", "reason"), [("dora", {}, "use_dora"), ("ia3", {}, "no LoRA"), ("full", {}, "whole model")]
)
def test_what_cannot_share_is_said(tmp_path: Path, technique: str, options: dict[str, Any], reason: str) -> None:
    base = make_stub(tmp_path / "base")
    folder = write_adapter(base, tmp_path / "other", 1, technique, **options)
    assert reason in (why_not_shared(load_model(str(base), CPU), find_model(str(folder))) or "")


def test_another_tokenizer_cannot_share(tmp_path: Path) -> None:
    base = make_stub(tmp_path / "base")
    folder = write_adapter(base, tmp_path / "one", 1)
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(text.replace("<|eos|>", "<|fin|>"), encoding="utf-8")
    assert "tokenizer" in (why_not_shared(load_model(str(base), CPU), find_model(str(folder))) or "")


def test_beginnings_are_read_once(shared: tuple[Model, dict[str | None, Model]]) -> None:
    """Prompts with a common beginning: the same tokens as without what is kept, fewer tokens read, and never another adapter's past."""
    model, _ = shared
    prompts = prompts_of(6, before=100)
    names = [None, None, "a0", "a0", "a1", "a0"]

    def rows() -> list[Row]:
        return [Row(n, n, 0, prompts[n], adapter=name) for n, name in enumerate(names)]

    plain, keeping = Flight(model, OPTIONS, rows=2), Flight(model, OPTIONS, rows=2, prefix_bytes=1 << 20)
    left, right = fly(plain, rows()), fly(keeping, rows())
    assert [one.tokens.tolist() for one in left.values()] == [one.tokens.tolist() for one in right.values()]
    before: Any = keeping.past.before  # pyright: ignore[reportAttributeAccessIssue]
    assert before.taken == 3 * 96, "whole steps of what the second of the base and the later two of a0 have in common"
    assert 0 < before.size <= 1 << 20


def test_what_is_kept_has_a_limit(shared: tuple[Model, dict[str | None, Model]]) -> None:
    model, _ = shared
    flight = Flight(model, OPTIONS, rows=2, prefix_bytes=100_000)
    random = np.random.default_rng(1)
    fly(flight, [Row(n, n, 0, random.integers(60, 288, size=64)) for n in range(12)])
    before: Any = flight.past.before  # pyright: ignore[reportAttributeAccessIssue]
    assert 0 < before.size <= 100_000
    assert before.size == sum(begun.size for begun in before.kept.values())


def test_rows_have_options_of_their_own_and_can_be_dropped(tmp_path: Path) -> None:
    """Greedy and drawn rows, limits and stops side by side; a dropped row leaves the others as they are."""
    model, prompts = load_stub(tmp_path), prompts_of(4)
    own = [Options(max_tokens=5), Options(max_tokens=30, temperature=0.8, seed=5), Options(max_tokens=12, temperature=1.2, top_k=9)]
    rows = [Row(n, n, 0, prompts[n], options=options, likeliest=2 * (n == 1)) for n, options in enumerate(own)]
    lost = Row(3, 3, 0, prompts[3], options=Options(max_tokens=400))
    flight = Flight(model, Options(max_tokens=1), rows=4)
    flight.admit([lost, *rows])
    found = dict(flight.advance())
    found |= dict(flight.advance())
    flight.drop({lost})
    assert lost not in flight.rows
    found |= fly(flight, [])
    for number, row in enumerate(rows):
        expected = generate(model, [prompts[number]], own[number], numbers=[number])[0]
        assert found[row].tokens.tolist() == expected.tokens.tolist()
    assert len(found[rows[1]].likeliest) == len(found[rows[1]].tokens)
    assert all(len(best) == 2 and best[0][1] >= best[1][1] for best in found[rows[1]].likeliest)
    assert not flight.noted
