"""The machine: number formats follow from the hardware and the wish, and one process is a group of one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from burnish import devices
from burnish.devices import Device, Ranks, apply_device, choose_device, join_ranks
from burnish.errors import ConfigError


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


def with_cpu(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset(flags))


@pytest.mark.parametrize("flag", ["amx_bf16", "avx512_bf16"])
def test_fast_bfloat16_is_used_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    """A frozen base is stored in bfloat16; weights that move stay float32 and only their products are rounded."""
    with_cpu(monkeypatch, "avx2", flag)
    assert choose_device(moves_base=False) == Device("cpu", "bfloat16", "bfloat16", torch.get_num_threads())
    assert choose_device(moves_base=True) == Device("cpu", "float32", "bfloat16", torch.get_num_threads())
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize("moves_base", [False, True])
def test_a_plain_cpu_computes_in_float32(monkeypatch: pytest.MonkeyPatch, moves_base: bool) -> None:
    with_cpu(monkeypatch, "avx2", "avx512f")
    chosen = choose_device(moves_base=moves_base)
    assert (chosen.dtype, chosen.products) == ("float32", "float32")
    assert chosen.torch_dtype() == torch.float32
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_wish_is_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    """dtype = "float32" means float32 products too, also where bfloat16 would be faster; "bfloat16" is stored anywhere."""
    with_cpu(monkeypatch, "amx_bf16")
    exact = choose_device("float32", moves_base=False)
    assert (exact.dtype, exact.products) == ("float32", "float32")
    with_cpu(monkeypatch)
    assert choose_device("bfloat16", moves_base=True).torch_dtype() == torch.bfloat16


@pytest.mark.parametrize("moves_base", [False, True])
def test_a_gpu_computes_in_bfloat16(monkeypatch: pytest.MonkeyPatch, moves_base: bool) -> None:
    """A frozen base is stored so; weights that move stay float32, and autocast rounds what is computed from them, compiled or not."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    chosen = choose_device(moves_base=moves_base)
    assert (chosen.name, chosen.products) == ("cuda", "bfloat16")
    assert chosen.dtype == ("float32" if moves_base else "bfloat16") and chosen.autocast == moves_base
    assert not choose_device("float32", moves_base=moves_base).autocast
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert choose_device(moves_base=moves_base).torch_dtype() == torch.float32


def test_threads_are_set_only_where_asked_for() -> None:
    before = torch.get_num_threads()
    assert choose_device(moves_base=False).threads == before
    assert choose_device(moves_base=False, threads=2).threads == torch.get_num_threads() == 2


def test_a_written_device_is_taken_up_again() -> None:
    """Choices that change numbers are made once, written down, and kept on resume (pain 16)."""
    apply_device(Device("cpu", "float32", "bfloat16", 2))
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (2, "medium")
    apply_device(Device("cpu", "float32", "float32", 1))
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (1, "highest")


def test_unknown_wishes_are_explained() -> None:
    with pytest.raises(ConfigError, match=r"float64.*Use one of: auto, float32, bfloat16"):
        choose_device("float64", moves_base=False)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="CUDA device was asked for"):
            choose_device(moves_base=False, device="cuda")


def test_cpu_flags_without_a_list_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without /proc (macOS) is a plain CPU, not an error."""

    def missing(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr("pathlib.Path.read_text", missing)
    assert devices.cpu_flags.__wrapped__() == frozenset()


# ---------------------------------------------------------------------------------------------------------------------------- one rank


def test_one_process_is_a_group_of_one() -> None:
    """Outside torchrun nothing is joined, summed or waited for, and every method gives back what it got."""
    ranks = join_ranks()
    assert ranks == Ranks(0, 1)
    values = {("main", "nll"): torch.tensor(3.0), "tokens": torch.tensor(7.0)}
    assert ranks.sum(values) == values
    assert [ranks.agree(flag) for flag in (False, True)] == [False, True]
    parameter = torch.nn.Parameter(torch.ones(2))
    ranks.reduce_gradients([parameter])
    assert parameter.grad is None
    ranks.prove_equal([parameter])
    ranks.barrier()


@pytest.mark.parametrize(("dtype", "moves_base"), list(itertools.product(devices.DTYPES, (False, True))))
def test_every_choice_gives_weights_that_torch_knows(dtype: str, moves_base: bool) -> None:
    assert choose_device(dtype, moves_base=moves_base).torch_dtype() in (torch.float32, torch.bfloat16)
