"""Will it fit? The largest micro-batch is found and tried before step 1, leaves no trace, and what does not fit is bounded or named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish import api, memory, tune_memory
from burnish.data.batching import FixedBatches, cut_packed, cut_padded, shuffled, units_of
from burnish.data.largest import largest
from burnish.errors import ConfigError, RunError
from burnish.models import Model, adapt
from burnish.models.fast.recompute import layers_of, recompute_layers
from burnish.objectives import OBJECTIVES
from burnish.techniques import TECHNIQUES
from burnish.train import TaskLoss
from burnish.train_room import Room, positions
from burnish.types import Origin, Sequence
from loop import cut, eight_sequences, loss_and_gradient
from stub import load_stub, make_stub

# --------------------------------------------------------------------------------------------------------- the largest micro-batch


def row(length: int, *, group: int = 0, line: int = 1) -> Sequence:
    at_N = np.arange(length - 1, dtype=np.int32)
    tokens_T = np.full(length, 5, dtype=np.int32)
    return Sequence(tokens_T, at_N, tokens_T[1:], np.ones(length - 1, dtype=np.float32), Origin("rows.jsonl", line), group=group)


examples = st.lists(st.lists(st.tuples(st.integers(2, 40), st.booleans()), min_size=1, max_size=3), min_size=1, max_size=14)


@given(examples, st.integers(1, 6), st.integers(10, 120), st.booleans(), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_no_order_of_the_rows_makes_a_larger_micro_batch(made: Any, batch: int, tokens: int, packing: bool, seed: int) -> None:
    """What is tried before step 1 is the worst that can come, however the rows are shuffled, grouped and cut (pain 17)."""
    units = [
        [row(length, group=(number + 1) if grouped else 0) for length, grouped in example] for number, example in enumerate(made)
    ]
    numbers, most = largest(units, batch=batch, tokens=tokens, packing=packing)
    assert 1 <= len(numbers) <= batch and len(set(numbers)) == len(numbers)
    order = shuffled(len(units), seed)(0)
    for first in range(0, len(order), batch):
        flat = [unit for number in order[first : first + batch] for unit in units_of(units[number])]
        for micro in (cut_packed if packing else cut_padded)(flat, tokens):
            size = sum(one.length for one in micro) if packing else len(micro) * max(one.length for one in micro)
            assert size <= most


def test_the_batch_that_is_tried_is_made_of_these_rows() -> None:
    lengths = [10, 12, 50, 11, 90, 45, 48, 10]
    units = [[row(length, line=number)] for number, length in enumerate(lengths, 1)]
    source = FixedBatches(units, shuffled(8, 0), batch=3, tokens=150, packing=False, pad_id=0, device="cpu", rank=1, ranks=2)
    (found,) = source.largest()
    assert positions(found) == 150 and [origin.line for origin in found.origins] == [3, 7, 6]


# --------------------------------------------------------------------------------------------------------------------- recomputing


@pytest.fixture
def model(tmp_path: Path) -> Model:
    loaded = load_stub(tmp_path)
    loaded.network.requires_grad_(True)
    return loaded


@pytest.mark.parametrize(("technique", "dropout"), [("full", 0.0), ("lora", 0.2)])
def test_recomputing_changes_no_bit(tmp_path: Path, technique: str, dropout: float) -> None:
    """The same loss and the same gradient, dropout drawn as it was drawn the first time."""
    found = []
    for recompute in (False, True):
        loaded = load_stub(tmp_path / f"{recompute}")
        for layer in loaded.trunk().layers:
            layer.self_attn.attention_dropout = dropout
        torch.manual_seed(3)
        adapt(loaded, TECHNIQUES[technique], {"dropout": dropout} if technique == "lora" else {})
        with torch.no_grad():
            for name, parameter in loaded.network.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
        if recompute:
            assert recompute_layers(loaded.trunk()) == 2
        loaded.network.train()
        torch.manual_seed(9)
        found.append(loss_and_gradient(loaded, cut(eight_sequences(loaded), 200)))
    (plain, expected), (again, gradient) = found
    assert plain.losses == again.losses and plain.gradient_norm == again.gradient_norm
    assert all(torch.equal(gradient[name], expected[name]) for name in expected)


def test_recomputing_keeps_less(model: Model) -> None:
    """What autograd keeps between the passes: with recomputing, a small part of it."""

    def kept() -> int:
        storages: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        (batch,) = cut(eight_sequences(model), 10**9)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss_and_gradient(model, [batch])
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.network.parameters()}
        return sum(size for place, size in storages.items() if place not in weights)

    before = kept()
    recompute_layers(model.trunk())
    assert kept() < 0.5 * before


def test_it_is_only_done_where_gradients_are_computed(model: Model) -> None:
    recompute_layers(model.trunk())
    calls: list[bool] = []
    layer = model.trunk().layers[1].mlp
    layer.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    with torch.no_grad():
        model.network(input_ids=torch.tensor([[1, 2, 3]]))
    assert calls == [False]
    loss_and_gradient(model, cut(eight_sequences(model), 10**9))
    assert calls[1:] == [True, True], "once forward, once in the backward pass"


SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 64}),
    "opt": (
        "OPT",
        {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "word_embed_proj_dim": 32},
    ),
    "gemma2": ("Gemma2", {**SMALL, "num_key_value_heads": 1, "head_dim": 16}),
    "mixtral": ("Mixtral", {**SMALL, "num_key_value_heads": 1, "num_local_experts": 4}),
    "bert": ("Bert", SMALL),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_of_any_architecture_are_found(name: str) -> None:
    """By what they are, not by what they are called: the outermost list that holds the weights."""
    import transformers

    kind, sizes = ARCHITECTURES[name]
    config = getattr(transformers, f"{kind}Config")(vocab_size=50, **sizes)
    torch.manual_seed(0)
    network = getattr(transformers, f"{kind}Model")(config)
    assert len(layers_of(network)) == 3
    ids, options = torch.arange(1, 11)[None], {} if name == "bert" else {"use_cache": False}
    found = []
    for recompute in (False, True):
        assert not recompute or recompute_layers(network) == 3
        network.zero_grad()
        torch.manual_seed(1)
        network(input_ids=ids, **options).last_hidden_state.square().sum().backward()
        found.append([parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None])
    assert found[0] and all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_network_without_layers_has_none() -> None:
    assert recompute_layers(torch.nn.Sequential(torch.nn.Linear(2, 2))) == 0


# ------------------------------------------------------------------------------------------------------------------------- a run


def rows(folder: Path, *, count: int = 24) -> Path:
    path = folder / "rows.jsonl"
    lines = [
        json.dumps({"instruction": f"Say word {number} " + "again " * (number % 7), "output": f"word {number} it is"})
        for number in range(count)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run_of(tmp_path: Path, *, output: str = "run", **train: Any) -> dict[str, Any]:
    folder = make_stub(tmp_path / "model") if not (tmp_path / "model").exists() else tmp_path / "model"
    return {
        "model": str(folder),
        "output": str(tmp_path / output),
        "data": {"source": str(rows(tmp_path)), "format": "alpaca", "dev_share": 0.2, "test_share": 0.2},
        "technique": "lora",
        "dtype": "float32",
        "score": ["exact_match"],
        "train": {"steps": 4, "batch": 6, "tokens": 400, "learning_rate": 1e-3, "schedule": "constant", **train},
        "evaluate": {"max_tokens": 4, "baseline": False, "forgetting": False},
        "log": {"every": 1, "tensorboard": False},
    }


def tuned(run: dict[str, Any], *, resume: bool = False) -> tuple[list[float], list[str]]:
    """Carry out a run and return its losses and what it said."""
    said: list[str] = []
    from burnish.tune import tune
    from burnish.tune_state import Watch

    tune(api.resolve(run), resume=resume, watch=Watch(say=said.append))
    lines = (Path(run["output"]) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["loss"] for line in lines if "loss" in (record := json.loads(line))], said


def numbers(run: dict[str, Any]) -> dict[str, Any]:
    return json.loads((Path(run["output"]) / "environment.json").read_text(encoding="utf-8"))["numbers"]


def memory_is(monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    monkeypatch.setattr(tune_memory, "free_memory", lambda device: free)


def test_what_is_far_from_full_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory_is(monkeypatch, 10**12)
    monkeypatch.setattr(tune_memory, "measure", lambda *_, **__: pytest.fail("measured"))
    run = run_of(tmp_path)
    _, said = tuned(run)
    assert any("expected for the largest micro-batch" in line and "1000.0 GB free" in line for line in said)
    assert numbers(run)["recompute"] is False


def test_a_trial_changes_nothing_and_tells_both_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, moments and random numbers are as before: the run is the same bit for bit as one that tried nothing (pain 17)."""
    memory_is(monkeypatch, None)
    expected, said = tuned(run_of(tmp_path, output="untried"))
    assert not any("Memory" in line for line in said)
    memory_is(monkeypatch, 2 * 10**9)
    monkeypatch.setattr(tune_memory, "SURE", 0.0)
    found, said = tuned(run_of(tmp_path, output="tried"))
    assert found == expected
    (told,) = [line for line in said if line.startswith("Memory")]
    assert "took" in told and "expected were" in told and "2.0 GB free before" in told


def test_recomputing_is_chosen_where_memory_is_short_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory_is(monkeypatch, None)
    expected, _ = tuned(run_of(tmp_path, output="plain"))
    memory_is(monkeypatch, 10**6)
    monkeypatch.setattr(tune_memory, "rehearse", lambda running: None)
    run = run_of(tmp_path, output="short")
    found, said = tuned(run)
    assert numbers(run)["recompute"] is True and found == expected
    assert any("compute again" in line for line in said)
    memory_is(monkeypatch, None)
    run["train"]["steps"] = 6
    _, said = tuned(run, resume=True)
    assert numbers(run)["recompute"] is True and any("compute again" in line for line in said), "chosen once, kept on resume"


def test_recomputing_can_be_asked_for_and_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_memory, "rehearse", lambda running: None)
    memory_is(monkeypatch, 10**6)
    forbidden = run_of(tmp_path, output="forbidden", recompute=False)
    tuned(forbidden)
    assert numbers(forbidden)["recompute"] is False
    memory_is(monkeypatch, 10**12)
    asked = run_of(tmp_path, output="asked", recompute=True)
    tuned(asked)
    assert numbers(asked)["recompute"] is True
    refused = {**run_of(tmp_path, output="refused", recompute=True), "technique": "prefix"}
    with pytest.raises(ConfigError, match=r"train.recompute = true: prefix tuning hands its layers a cache"):
        tuned(refused)


def test_a_run_that_does_not_fit_is_divided_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU nothing raises before the system kills: the bound follows from a piece of the largest batch (pain 17), kept on resume."""
    memory_is(monkeypatch, None)
    expected, _ = tuned(run_of(tmp_path, output="plain", steps=6))
    memory_is(monkeypatch, 10**8)
    monkeypatch.setattr(tune_memory, "SURE", 0.0)
    monkeypatch.setattr(tune_memory, "_short_of_memory", lambda plan, model: False)
    tried: list[int] = []

    def as_if(running: Any, batch: Any, *, reserved: int = 0) -> int:
        """A position takes 600 kB."""
        pieces = running.room.pieces(batch)
        tried.append(max(map(positions, pieces)))
        return 600_000 * tried[-1]

    monkeypatch.setattr(tune_memory, "measure", as_if)
    run = run_of(tmp_path, output="bounded")
    found, said = tuned(run)
    bound = int(next(line for line in said if "pieces of at most" in line).split("pieces of at most ")[1].split(".")[0])
    assert 100 < bound < 160 and max(tried) <= bound, "nothing larger than what fits is ever run"
    assert found == pytest.approx(expected[:4], rel=1e-5)
    memory_is(monkeypatch, None)
    monkeypatch.setattr(tune_memory, "measure", lambda *_, **__: pytest.fail("measured again"))
    run["train"]["steps"] = 6
    seen: list[int] = []
    plain = Room.pieces
    monkeypatch.setattr(Room, "pieces", lambda room, batch: seen.append(room.positions) or plain(room, batch))
    resumed, _ = tuned(run, resume=True)
    assert set(seen) == {bound} and resumed == pytest.approx(expected, rel=1e-5)


def test_a_row_that_cannot_fit_is_named_before_it_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory_is(monkeypatch, 10**7)
    monkeypatch.setattr(tune_memory, "SURE", 0.0)
    monkeypatch.setattr(tune_memory, "_short_of_memory", lambda plan, model: False)
    monkeypatch.setattr(tune_memory, "measure", lambda running, batch, reserved=0: 10**6 * positions(batch))
    with pytest.raises(RunError, match=r"rows\.jsonl:\d+.* fit into memory"):
        tuned(run_of(tmp_path))
    status = json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "failed"


def test_attempts_have_a_largest_micro_batch_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model will write is imagined: the longest prompts, answered as long as allowed; where they stand once, and where not."""
    memory_is(monkeypatch, 2 * 10**9)
    monkeypatch.setattr(tune_memory, "SURE", 0.0)
    counts = {}
    for fast in (False, True):
        run = run_of(tmp_path, output=f"run-{fast}", steps=2, batch=3, tokens=2000)
        run |= {"objective": "grpo", "score": ["rouge_l"], "rollout": {"samples": 4, "max_tokens": 12}}
        run["train"]["fast"] = fast
        _, said = tuned(run)
        (told,) = [line for line in said if line.startswith("Memory")]
        counts[fast] = int(told.split("(")[1].split(" positions")[0].replace(",", ""))
    assert counts[False] % 12 == 0 and counts[False] > 12 * 40, "three prompts, four answers of twelve tokens each"
    assert 12 * 12 < counts[True] < counts[False], "each prompt once, and the same answers"


# --------------------------------------------------------------------------------------------------------------------- the machine


MEMINFO = "MemTotal:       8000 kB\nMemFree:        1000 kB\nMemAvailable:   4000 kB\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/meminfo": MEMINFO}, 4_096_000),
        ({}, None),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/job/one\n",
                "sys/fs/cgroup/job/one/memory.max": "max\n",
                "sys/fs/cgroup/job/one/memory.current": "900000\n",
                "sys/fs/cgroup/job/memory.max": "2000000\n",
                "sys/fs/cgroup/job/memory.current": "1500000\n",
                "sys/fs/cgroup/job/memory.stat": "anon 5\ninactive_file 100000\n",
            },
            600_000,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "4:memory:/host/path\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000\n",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 500000\n",
            },
            2_500_000,
        ),
    ],
    ids=["no groups", "no such kernel", "a limit of the group above", "a container with an older kernel"],
)
def test_free_memory_is_what_the_system_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int | None
) -> None:
    """Estimates are compared with what is there, the limits of containers counted (pain 18)."""
    write(tmp_path, files)
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert memory.free_memory("cpu") == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert memory.free_memory("cpu") == (None if expected is None else expected // 2)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this kernel does not count peaks anew")
def test_a_peak_is_measured_from_now_on() -> None:
    from burnish.devices import peak_memory
    from stub import cpu

    first = np.ones(40_000_000)  # 320 MB that are gone before the count begins
    del first
    assert memory.forget_peak("cpu")
    before = memory.held_memory("cpu")
    second = np.ones(10_000_000)
    assert 60e6 < peak_memory(cpu()) - before < 200e6
    del second


def test_a_trial_measures_what_a_pass_takes(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that holds 200 MB more takes 200 MB more."""
    from burnish.optim import make_optimizer

    names = dict(model.network.named_parameters())
    objective = OBJECTIVES["sft"]
    running: Any = SimpleNamespace(
        model=model, optimizer=make_optimizer(names), room=Room(), peak=0, names=names, plan=SimpleNamespace(parts={})
    )
    monkeypatch.setattr(tune_memory, "tasks_of", lambda plan: {"main": TaskLoss(objective)})
    (batch,) = cut(eight_sequences(model), 10**9)
    tune_memory.measure(running, batch)
    plain = tune_memory.measure(running, batch)

    def wasteful(*arguments: Any, **options: Any) -> Any:
        held = np.ones(25_000_000)
        loss = objective.function(*arguments, **options)
        del held
        return loss

    monkeypatch.setattr(tune_memory, "tasks_of", lambda plan: {"main": TaskLoss(replace(objective, function=wasteful))})
    assert 150e6 < tune_memory.measure(running, batch) - plain < 260e6
    assert all(parameter.grad is None for parameter in names.values())
