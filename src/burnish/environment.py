"""What the numbers of a run can depend on, for its record and for bug reports; nobody's name and nobody's secret.

Enters: nothing but the machine. Leaves: plain facts as JSON. Imports nothing of ours; torch is imported where used.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from burnish import __version__

_PACKAGES = (
    *("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "pydantic", "scipy", "scikit-learn", "pyarrow"),
    *("sacrebleu", "rouge-score", "nervaluate", "tensorboard", "pillow", "datasets", "bitsandbytes", "vllm"),
)
# The only variables that are written down: those that change numbers or where things are looked up, none that holds a secret.
_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "PYTHONHASHSEED"),
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM", "WORLD_SIZE"),
)


def environment() -> dict[str, Any]:
    """Return what numbers can depend on: versions, torch build, device, processor, threads; no names of hosts or users."""
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return {
        "burnish": __version__,
        "python": platform.python_version(),
        "platform": {"system": platform.system(), "release": platform.release(), "machine": platform.machine()},
        "packages": versions(_PACKAGES),
        "torch": {"version": str(torch.__version__), "cuda": torch.version.cuda, "git": torch.version.git_version},
        "devices": devices or ["cpu"],
        "cpu": {"model": _cpu_model(), "capability": torch.backends.cpu.get_cpu_capability(), "cores": os.cpu_count()},
        "threads": {"intra_op": torch.get_num_threads(), "inter_op": torch.get_num_interop_threads()},
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
