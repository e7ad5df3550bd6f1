"""Checkpoints continue bit for bit and survive any death, damage or full disk: promises R1 to R4, user pains 16 and 21."""

from __future__ import annotations

import errno
import math
import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from burnish import atomic, checkpoint
from burnish.errors import RunError, SpaceError, UsageError
from test_atomic import SOURCE, Calls, every_death


def fill_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    save_file({"weight": torch.zeros(3)}, folder / "adapter_model.safetensors")


def save(folder: Path, step: int, *, size: int = 4, keep: int = 2, protected: tuple[int, ...] = ()) -> Path:
    return checkpoint.save(
        folder,
        step=step,
        fill_model=fill_model,
        tensors={"number": torch.full((size,), float(step))},
        state={"cursor": step},
        facts={"config": "abc"},
        keep=keep,
        protected=protected,
    )


def number_in(path: Path) -> int:
    tensors, state = checkpoint.load(path)
    assert set(tensors["number"].tolist()) == {state["cursor"]}
    return state["cursor"]


# ------------------------------------------------------------------------------------------------------------ save, find, load


def test_a_checkpoint_is_a_model_folder_with_our_state_in_a_sub_folder(tmp_path: Path) -> None:
    path = save(tmp_path, 10)
    assert path == tmp_path / "checkpoint-10"
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert files == {"adapter_config.json", "adapter_model.safetensors", "manifest.json", checkpoint.TENSORS, checkpoint.STATE}
    facts = checkpoint.facts(path)
    assert facts["step"] == 10
    assert facts["config"] == "abc"
    assert facts["versions"]["torch"] == torch.__version__
    assert checkpoint.find(tmp_path) == checkpoint.Found(path)
    assert checkpoint.find(tmp_path).step == 10


def test_plain_transformers_opens_a_checkpoint_as_it_stands(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, vocab_size=32
    )
    network = LlamaForCausalLM(config).eval()
    path = checkpoint.save(
        tmp_path, step=1, fill_model=lambda folder: network.save_pretrained(folder), tensors={}, state={}, facts={}
    )
    again = AutoModelForCausalLM.from_pretrained(path).eval()
    input_ids_BT = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(again(input_ids_BT).logits, network(input_ids_BT).logits)


def test_nothing_saved_yet_is_no_checkpoint_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-3").write_text("a file")
    assert checkpoint.find(tmp_path) == checkpoint.Found(None)
    assert checkpoint.find(tmp_path / "missing") == checkpoint.Found(None)
    assert checkpoint.steps(tmp_path) == []


def test_the_newest_and_the_protected_are_kept(tmp_path: Path) -> None:
    for step in range(1, 13):
        save(tmp_path, step, keep=3, protected=(4,))
    assert checkpoint.steps(tmp_path) == [4, 10, 11, 12]
    assert checkpoint.find(tmp_path).step == 12, "steps are compared as numbers"


def test_one_checkpoint_is_none(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="one checkpoint is none"):
        save(tmp_path, 1, keep=1)


def test_damaged_checkpoints_do_not_count_as_kept(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    os.truncate(tmp_path / "checkpoint-2" / checkpoint.TENSORS, 3)
    save(tmp_path, 3)
    assert checkpoint.steps(tmp_path) == [1, 3]


def test_a_course_that_was_given_up_is_not_found_again(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step, keep=3)
    save(tmp_path, 15, keep=3)
    assert checkpoint.steps(tmp_path) == [10, 15]


def test_folders_of_other_tools_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text("{}")
    for step in (2, 3, 4, 5):
        save(tmp_path, step)
    assert checkpoint.steps(tmp_path) == [1, 4, 5]


def test_a_renamed_or_foreign_folder_is_passed_over_with_the_reason(tmp_path: Path) -> None:
    save(tmp_path, 1)
    shutil.copytree(tmp_path / "checkpoint-1", tmp_path / "checkpoint-9")
    atomic.write_directory(tmp_path / "checkpoint-8", fill_model, manifest={"step": 8})
    (tmp_path / "checkpoint-7").mkdir()
    found = checkpoint.find(tmp_path)
    assert found.step == 1
    for reason, expected in zip(
        found.skipped, ("was saved after step 1", "no checkpoint to continue from", "never completed"), strict=True
    ):
        assert expected in reason
    assert number_in(tmp_path / "checkpoint-1") == 1


@pytest.mark.parametrize("replaces", [False, True])
def test_pain_21_death_at_any_call_of_a_save_keeps_the_last_good_checkpoint(tmp_path: Path, replaces: bool) -> None:
    template = tmp_path / "template"
    save(template, 1)
    save(template, 2)
    number = iter(range(10_000))

    def prepare() -> Path:
        folder = tmp_path / str(next(number))
        shutil.copytree(template, folder)
        return folder

    def check(folder: Path, completed: bool) -> None:
        before = checkpoint.find(folder)
        assert before.step is not None, "a reader must find one even before the leftovers are cleaned"
        atomic.clean(folder)
        found = checkpoint.find(folder)
        assert found.path is not None
        assert found.step is not None
        assert found.step == number_in(found.path)
        assert found.step >= (2 if replaces or not completed else 3)
        assert all(not entry.name.startswith(".") for entry in folder.iterdir())

    calls = every_death(prepare, lambda folder: save(folder, 2 if replaces else 3), check)
    assert calls > 20


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, SpaceError), (errno.EIO, RunError), (errno.EACCES, UsageError)])
def test_pain_21_an_error_at_any_call_of_a_save_keeps_the_last_good_checkpoint(tmp_path: Path, number: int, kind: type) -> None:
    template = tmp_path / "template"
    save(template, 1)
    save(template, 2)
    at = 1
    while True:
        folder = tmp_path / str(at)
        shutil.copytree(template, folder)
        calls = Calls(folder, at=at, error=number)
        with calls.active():
            try:
                save(folder, 3)
            except (RunError, UsageError) as error:
                assert isinstance(error, kind)
        if not calls.happened:
            break
        found = checkpoint.find(folder)
        assert found.path is not None
        assert number_in(found.path) in (2, 3)
        at += 1
    assert at > 20


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    save(folder, 1)
    save(folder, 2)
    return folder


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_r3_a_damaged_checkpoint_is_refused_named_and_passed_over(saved: Path, data: st.DataObject) -> None:
    damaged = saved.parent / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(saved, damaged)
    names = [file.relative_to(damaged / "checkpoint-2").as_posix() for file in sorted((damaged / "checkpoint-2").rglob("*.*"))]
    name = data.draw(st.sampled_from(names))
    file = damaged / "checkpoint-2" / name
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[place:]
    file.write_bytes(content)
    found = checkpoint.find(damaged)
    assert found.step == 1
    assert len(found.skipped) == 1
    assert name in found.skipped[0]
    with pytest.raises(RunError, match="cannot be used") as caught:
        checkpoint.load(damaged / "checkpoint-2")
    assert name in str(caught.value)


class Bomb:
    """What a planted pickle does when it is loaded: it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("name", ["state/rng_state.pth", "state/optimizer.pt", "state/tensors.bin", "adapter_model.bin"])
def test_r3_a_planted_pickle_is_never_loaded(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "executed"
    folder = tmp_path / "checkpoints"
    save(folder, 1)
    save(folder, 2)
    (folder / "checkpoint-2" / name).write_bytes(pickle.dumps(Bomb(marker)))
    found = checkpoint.find(folder)
    assert found.step == 1
    assert name in found.skipped[0]
    with pytest.raises(RunError, match="may run code"):
        checkpoint.load(folder / "checkpoint-2")
    assert not marker.exists()


def test_r3_a_pickle_in_place_of_the_tensors_is_never_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    def disguised(folder: Path) -> None:
        (folder / "state").mkdir()
        (folder / checkpoint.TENSORS).write_bytes(pickle.dumps(Bomb(marker)))
        (folder / checkpoint.STATE).write_text("{}")

    atomic.write_directory(tmp_path / "checkpoint-1", disguised, manifest={"step": 1})
    with pytest.raises(Exception, match=r"(?i)header"):
        checkpoint.load(tmp_path / "checkpoint-1")
    assert not marker.exists()


def test_r4_a_full_disk_keeps_the_last_good_checkpoint_and_says_how_much_is_missing(tmp_path: Path) -> None:
    script = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_checkpoint import save, checkpoint
from burnish.errors import BurnishError
folder = Path(sys.argv[1])
save(folder, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save(folder, 2, size=100_000)
except BurnishError as error:
    print(error)
    sys.exit(error.exit_code)
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == SpaceError.exit_code, done.stderr
    assert "at least 400.0 kB needed" in done.stdout
    assert "ulimit -f" in done.stdout
    assert "--resume" in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint-1"]
    assert number_in(tmp_path / "checkpoint-1") == 1


def test_r4_a_checkpoint_as_large_as_the_last_one_must_fit_before_it_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, size=50_000)
    monkeypatch.setattr(atomic, "free_bytes", lambda path: 150_000)
    with pytest.raises(SpaceError, match=r"200\.\d kB needed, 150\.0 kB free"):
        save(tmp_path, 2)
    assert checkpoint.steps(tmp_path) == [1]


# ------------------------------------------------------------------------------------------------------------ tensors and state


def test_tensors_of_any_form_come_back(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "scalar": torch.tensor(7.5, dtype=torch.float64),
        "empty": torch.empty(0, 3),
        "other_empty": torch.empty(0),
        "base": base,
        "transposed": base.T,
        "row": base[1],
        "column": base[:, 2],
        "expanded": torch.ones(1).expand(5),
        "same": base,
        "half": torch.tensor([1.0, math.nan, math.inf], dtype=torch.bfloat16),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "learned": torch.nn.Parameter(torch.ones(2)),
    }
    path = checkpoint.save(tmp_path, step=0, fill_model=fill_model, tensors=tensors, state={}, facts={})
    again, _ = checkpoint.load(path)
    assert set(again) == set(tensors)
    for name, tensor in tensors.items():
        assert again[name].dtype == tensor.dtype
        assert again[name].shape == tensor.shape
        assert torch.equal(again[name].nan_to_num(), tensor.detach().nan_to_num()), name
    assert (path / checkpoint.TENSORS).stat().st_size < 5_000, "a view is stored without the rest of its memory"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5).filter(lambda key: key != "$number"), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=20, deadline=None)
@given(state=st.dictionaries(st.sampled_from("abc"), values))
def test_state_comes_back_with_its_infinities(tmp_path_factory: pytest.TempPathFactory, state: dict) -> None:
    folder = tmp_path_factory.mktemp("state")
    path = checkpoint.save(folder, step=0, fill_model=lambda path: None, tensors={}, state=state, facts={})
    assert checkpoint.load(path)[1] == state


def test_state_holds_nan_and_refuses_what_is_not_json_by_its_place(tmp_path: Path) -> None:
    path = checkpoint.save(
        tmp_path, step=0, fill_model=fill_model, tensors={}, state={"best": -math.inf, "loss": math.nan}, facts={}
    )
    state = checkpoint.load(path)[1]
    assert state["best"] == -math.inf
    assert math.isnan(state["loss"])
    assert "NaN" not in (path / checkpoint.STATE).read_text()
    with pytest.raises(TypeError, match=r"state\.a\[1\]\.b: Tensor is not JSON"):
        checkpoint.save(tmp_path, step=1, fill_model=fill_model, tensors={}, state={"a": [0, {"b": torch.ones(1)}]}, facts={})
    with pytest.raises(TypeError, match="keys must be texts"):
        checkpoint.save(tmp_path, step=1, fill_model=fill_model, tensors={}, state={"a": {1: 2}}, facts={})
    assert checkpoint.steps(tmp_path) == [0]


# ---------------------------------------------------------------------------------------------------- generators and optimizer


def draws() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(())),
        random.getrandbits(64),
    ]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), used=st.integers(0, 5))
def test_r1_generators_go_on_where_they_were(tmp_path_factory: pytest.TempPathFactory, seed: int, used: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    for _ in range(used):
        draws()  # gauss and randn make two values and keep one for the next call: an odd number of draws leaves one behind
    tensors, state = checkpoint.capture_rng()
    path = checkpoint.save(
        tmp_path_factory.mktemp("rng"), step=0, fill_model=lambda path: None, tensors=tensors, state={"rng": state}, facts={}
    )
    expected = [draws() for _ in range(3)]
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    tensors, state = checkpoint.load(path)
    checkpoint.restore_rng(tensors, state["rng"])
    assert [draws() for _ in range(3)] == expected


def test_generators_of_more_devices_than_are_here_are_refused() -> None:
    tensors, state = checkpoint.capture_rng()
    with pytest.raises(RunError, match="CUDA devices"):
        checkpoint.restore_rng(tensors, {**state, "cuda_devices": 99})


def network_and_optimizer(**options) -> tuple[torch.nn.Module, torch.optim.AdamW]:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Dropout(0.3), torch.nn.Linear(7, 2))
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in network.parameters() if parameter.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0, "lr": 0.003}]
    return network, torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.9), **options)


def train(network: torch.nn.Module, optimizer: torch.optim.Optimizer, *, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = network(torch.randn(4, 5) * random.random() + float(np.random.rand())).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("options", [{}, {"amsgrad": True}, {"foreach": True}, {"fused": True}])
def test_pain_16_resumed_is_bitwise_the_uninterrupted_run(tmp_path: Path, options: dict) -> None:
    network, optimizer = network_and_optimizer(**options)
    train(network, optimizer, steps=3)
    optimizer.param_groups[0]["lr"] = 0.007  # as a schedule does
    names = dict(network.named_parameters())
    tensors, groups = checkpoint.optimizer_tensors(optimizer, names)
    rng, rng_state = checkpoint.capture_rng()
    path = checkpoint.save(
        tmp_path,
        step=3,
        fill_model=lambda folder: save_file({name: value.detach() for name, value in names.items()}, folder / "model.safetensors"),
        tensors={**tensors, **rng},
        state={"groups": groups, "rng": rng_state},
        facts={},
    )
    expected = train(network, optimizer, steps=3)

    again, other = network_and_optimizer(**options)
    tensors, state = checkpoint.load(path)
    from safetensors.torch import load_file

    again.load_state_dict(load_file(path / "model.safetensors"))
    checkpoint.load_optimizer(other, tensors, dict(again.named_parameters()), groups=state["groups"])
    checkpoint.restore_rng(tensors, state["rng"])
    assert train(again, other, steps=3) == expected
    for one, two in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
        assert optimizer.state[one].keys() == other.state[two].keys()
        assert all(torch.equal(optimizer.state[one][key], other.state[two][key]) for key in optimizer.state[one])
    assert [{**group, "params": 0} for group in optimizer.param_groups] == [{**group, "params": 0} for group in other.param_groups]


def test_r1_moments_keep_their_own_precision() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = torch.optim.AdamW([parameter])
    moment = torch.tensor([1e-9, 1.0000001, 3.0])
    optimizer.state[parameter] = {"step": torch.tensor(5.0), "exp_avg": moment, "exp_avg_sq": moment * 2}
    tensors, groups = checkpoint.optimizer_tensors(optimizer, {"weight": parameter})
    other = torch.optim.AdamW([parameter])
    checkpoint.load_optimizer(other, tensors, {"weight": parameter}, groups=groups)
    assert torch.equal(other.state[parameter]["exp_avg"], moment)
    assert other.state[parameter]["exp_avg"].data_ptr() != moment.data_ptr()


def test_an_optimizer_before_its_first_step_has_no_state_and_comes_back() -> None:
    network, optimizer = network_and_optimizer()
    tensors, groups = checkpoint.optimizer_tensors(optimizer, dict(network.named_parameters()))
    assert tensors == {}
    checkpoint.load_optimizer(optimizer, tensors, dict(network.named_parameters()), groups=groups)
    assert all(not state for state in optimizer.state.values())
    train(network, optimizer, steps=1)


def test_state_of_other_parameters_is_refused_and_nothing_changed() -> None:
    network, optimizer = network_and_optimizer()
    train(network, optimizer, steps=1)
    tensors, groups = checkpoint.optimizer_tensors(optimizer, dict(network.named_parameters()))
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    renamed = {f"adapter.{name}": parameter for name, parameter in network.named_parameters()}
    with pytest.raises(RunError, match=r"only in the checkpoint: 0\.bias") as caught:
        checkpoint.load_optimizer(optimizer, tensors, renamed, groups=groups)
    assert "only in this run: adapter.0.bias" in str(caught.value)
    after = checkpoint.optimizer_tensors(optimizer, dict(network.named_parameters()))[0]
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(RunError, match="other groups or another order"):
        checkpoint.load_optimizer(optimizer, tensors, dict(network.named_parameters()), groups=groups[::-1])
