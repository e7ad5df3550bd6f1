"""The machine: which device, which number formats, how many processes, and how they add up.

Enters: nothing but the environment and the user's wishes. Leaves: a `Device` that models are loaded on and a `Ranks` that the loop
sums over. Imports nothing of ours but errors; torch is imported where used, so that the command line starts quickly.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from burnish.errors import ConfigError, RunError

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "bfloat16")


@cache
def cpu_flags() -> frozenset[str]:
    """Return the feature flags of the CPU as the kernel lists them; empty where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), frozenset())


def cpu_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices in hardware (AMX or AVX512-BF16)."""
    return bool({"amx_bf16", "avx512_bf16"} & cpu_flags())


@dataclass(frozen=True, slots=True)
class Device:
    """Where tensors live and in which formats: chosen once before step 1, written to the run directory and kept on resume.

    `dtype` is what weights are stored in. `products` is what float32 matrix products are computed in: "bfloat16" rounds their
    inputs, keeps float32 sums, and is several times faster where the hardware has it. `compiled`: the layers are compiled for
    training, which begins with the time of compiling. `quick`: whether training takes the pieces of `models/fast`, and with whose loops:
    "no": everything as the ecosystem computes it; "torch": with torch's own operations between the products; "loops": with ours.
    `recompute`: what layers hold inside is computed again in the backward pass.
    """

    name: str
    dtype: Literal["float32", "bfloat16"]
    products: Literal["float32", "bfloat16"]
    threads: int
    compiled: bool = False
    quick: Literal["no", "torch", "loops"] = "torch"
    recompute: bool = False
    shared: bool = False
    """What sequences of a group have in common, such as the prompt of two answers, is computed once (`tune_layout`)."""
    kept: int = 0
    """Bytes at most of what frozen layers say of rows that come more than once (`models.fast.frozen`); 0: computed anew each time."""

    @property
    def autocast(self) -> bool:
        """Whether activations are bfloat16 in training though the weights are float32: pays where no pass is spent on the casts alone."""
        casts_free = self.compiled or self.quick != "no" or self.name.startswith("cuda")
        return casts_free and self.dtype == "float32" and self.products == "bfloat16"

    def torch_dtype(self) -> torch.dtype:
        """Return the torch dtype of the weights."""
        import torch

        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32


def choose_device(
    dtype: str = "auto", *, moves_base: bool, threads: int = 0, device: str | None = None, compiled: bool = False
) -> Device:
    """Return the device for a run, and switch torch to it.

    `moves_base`: the base weights themselves are trained. They then stay float32, because steps smaller than bfloat16's 3 digits
    would be lost, and only the products are computed in bfloat16. A frozen base is stored in bfloat16 where hardware has it.

    Raises ConfigError for a dtype or device that does not exist.
    """
    import torch

    if dtype not in DTYPES:
        raise ConfigError(f"dtype = {dtype!r} is not known. Use one of: {', '.join(DTYPES)}.")
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("A CUDA device was asked for, but this torch build sees none. `burnish doctor` shows what it sees.")
    fast = torch.cuda.is_bf16_supported() if name.startswith("cuda") else cpu_bfloat16()
    stored: Literal["float32", "bfloat16"] = "bfloat16" if dtype == "bfloat16" else "float32"
    products: Literal["float32", "bfloat16"] = "float32"
    if dtype == "auto" and fast:
        products = "bfloat16"
        stored = "float32" if moves_base else "bfloat16"
    chosen = Device(name, stored, products, threads or torch.get_num_threads(), compiled)
    apply_device(chosen)
    return chosen


def missing_compiler(device: str) -> str | None:
    """Return what compiling lacks on this machine as a sentence with the remedy, None where it can be done."""
    if device.startswith("cuda"):
        found = importlib.util.find_spec("triton") is not None
        return None if found else "Compiling for a GPU needs triton, which comes with torch's CUDA builds."
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"Compiling needs a C++ compiler, and {compiler!r} is not there: install g++, or name another with CXX=clang++."
    return None


def apply_device(device: Device) -> None:
    """Switch this process to the formats and threads of `device`."""
    import torch

    torch.set_num_threads(device.threads)
    torch.set_float32_matmul_precision("medium" if device.products == "bfloat16" else "highest")


def machine_memory() -> int:
    """Return the bytes of memory of this machine; those of a small one where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8_000_000_000


def peak_memory(device: Device) -> int:
    """Return the most bytes that this process has held: on the GPU where it works on one, else in the machine's memory."""
    if device.name.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)  # macOS counts bytes, Linux kibibytes


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a run: this one's number, how many there are, and sums over all of them.

    With one process every method returns its input. Started by `torchrun`, processes meet over gloo (CPU) or NCCL (GPU).
    """

    rank: int = 0
    size: int = 1

    def sum(self, values: Mapping[Any, torch.Tensor]) -> dict[Any, torch.Tensor]:
        """Return each value summed over all ranks; every rank must call it with the same keys in the same order."""
        if self.size == 1:
            return dict(values)
        import torch
        import torch.distributed as dist

        keys = list(values)
        stacked = torch.stack([values[key].detach().double().reshape(()) for key in keys])
        dist.all_reduce(stacked)
        return dict(zip(keys, stacked.unbind(), strict=True))

    def reduce_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over all ranks, in place. A rank that has none where another has one adds zeros."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        # What has a gradient on no rank keeps none: a gradient of zeros would still let weight decay move the parameter.
        present = torch.tensor([float(parameter.grad is not None) for parameter in parameters])
        dist.all_reduce(present)
        for parameter, ranks in zip(parameters, present.tolist(), strict=True):
            if ranks == 0:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)

    def prove_equal(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Raise RunError unless every rank holds the same trainable parameters, bit for bit."""
        if self.size == 1:
            return
        import hashlib

        import torch
        import torch.distributed as dist

        digest = hashlib.sha256()
        for parameter in parameters:
            digest.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        least_K = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8).long()
        greatest_K = least_K.clone()
        dist.all_reduce(least_K, dist.ReduceOp.MIN)
        dist.all_reduce(greatest_K, dist.ReduceOp.MAX)
        if not torch.equal(least_K, greatest_K):
            raise RunError(
                "The processes of this run hold different trainable parameters after a step; the run was stopped before saving."
            )

    def agree(self, flag: bool) -> bool:
        """Return whether any rank raised the flag: a decision that all ranks take together."""
        if self.size == 1:
            return flag
        import torch

        return bool(self.sum({"flag": torch.tensor(float(flag))})["flag"] > 0)

    def least(self, value: float) -> float:
        """Return the smallest of all ranks' values."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        found = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(found, dist.ReduceOp.MIN)
        return float(found)

    def share(self, value: float) -> float:
        """Return rank 0's value on every rank."""
        if self.size == 1:
            return value
        import torch

        return float(self.sum({"value": torch.tensor(value if self.rank == 0 else 0.0, dtype=torch.float64)})["value"])

    def gather(self, values_N: torch.Tensor) -> list[torch.Tensor]:
        """Return every rank's values, one tensor [N] of any length each, in the order of the ranks, on the CPU."""
        if self.size == 1:
            return [values_N]
        import torch
        import torch.distributed as dist

        values_N = values_N.detach().cpu()
        lengths = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(values_N)]))
        longest = int(max(length.item() for length in lengths))
        # One more, so that a rank whose peers have nothing either still has something to exchange.
        padded = torch.cat([values_N, values_N.new_zeros(longest + 1 - len(values_N))])
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        return [part[: int(length.item())] for part, length in zip(found, lengths, strict=True)]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()


def join_ranks() -> Ranks:
    """Return the ranks of this run, joining the process group when `torchrun` started this process."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Ranks()
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        # Decisions and digests are added up on the CPU, where NCCL cannot.
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave_ranks() -> None:
    """Leave the process group, if this process is in one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()
