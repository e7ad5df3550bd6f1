"""What this machine offers, for a person and for bug reports: Python, torch, device, matrix hardware, memory, disk, extras, caches.

Enters: nothing. Leaves: plain values without host or user names. Nothing is fetched.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from burnish import reference_kept, runs
from burnish.devices import cpu_bfloat16, cpu_flags

EXTRAS = {
    "serve": ("fastapi", "uvicorn"),
    "docs": ("pypdf", "docx", "bs4"),
    "vision": ("PIL",),
    "hub": ("datasets",),
    "export": ("gguf", "onnx", "onnxscript", "onnxruntime"),
    "gpu": ("bitsandbytes",),
    "track": ("trackio",),
    "dev": ("pytest", "hypothesis", "trl", "ruff", "pyright", "playwright", "reportlab"),
}
"""Optional dependencies: the modules that each extra of the package brings."""


def examine() -> dict[str, Any]:
    """Return facts about this installation and machine, and `problems` in words, empty where all is well."""
    import torch

    matrices = [flag for flag in ("amx_bf16", "amx_int8", "avx512_bf16", "avx512f", "avx2") if flag in cpu_flags()]
    facts: dict[str, Any] = {
        **runs.environment(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "matrix_hardware": matrices,
        "bfloat16": torch.cuda.is_bf16_supported() if torch.cuda.is_available() else cpu_bfloat16(),
        "memory_gb": _memory(),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "extras": {name: _missing(modules) for name, modules in EXTRAS.items()},
        "caches": _caches(),
        "offline": os.environ.get("HF_HUB_OFFLINE", "") in {"1", "true", "True", "yes"},
        "hub_token": "set" if os.environ.get("HF_TOKEN") else "not set",
    }
    return {**facts, "problems": _problems(facts)}


def _missing(modules: tuple[str, ...]) -> str:
    """Return "installed", or which modules of an extra are missing."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    return "installed" if not missing else f"not installed ({', '.join(missing)})"


def _memory() -> dict[str, float] | None:
    """Return total and available memory in GB, where the system tells."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
        return {
            key: round(int(lines[name].split()[0]) / 1e6, 1) for key, name in (("total", "MemTotal"), ("available", "MemAvailable"))
        }
    except (OSError, KeyError, ValueError):
        return None


def _caches() -> dict[str, str]:
    """Return where models and data sets are kept, and whether one can write there."""
    from burnish.data.public import cache

    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface") / "hub")
    found = {}
    for name, folder in (("models", hub), ("data", cache()), ("reference", reference_kept.folder())):
        parent = next(place for place in (folder, *folder.parents) if place.exists())
        writable = "writable" if os.access(parent, os.W_OK) else "READ-ONLY"
        found[name] = f"{_without_home(folder)} ({'present' if folder.exists() else 'not made yet'}, {writable})"
    files, size = reference_kept.size()
    most = f"{reference_kept.LARGEST / 1e6:,.0f} MB"
    found["reference"] += f": {files} files of {size / 1e6:,.1f} MB, {most} at most; delete the folder to empty it"
    return found


def _without_home(folder: Path) -> str:
    """Return a path with the user's own folder as ~, so that a bug report holds no name."""
    home = str(Path.home())
    return "~" + str(folder)[len(home) :] if str(folder).startswith(home) and home != "/" else str(folder)


def _problems(facts: dict[str, Any]) -> list[str]:
    """Return what would hinder a run, with the remedy."""
    problems = []
    if not facts["bfloat16"]:
        problems.append("The hardware has no fast bfloat16; runs use float32 and take several times longer.")
    if facts["disk_free_gb"] < 2:
        problems.append(f"Only {facts['disk_free_gb']} GB are free in this folder; checkpoints of a larger model will not fit.")
    if facts["memory_gb"] and facts["memory_gb"]["available"] < 2:
        problems.append(f"Only {facts['memory_gb']['available']} GB of memory are free; close something, or use a smaller model.")
    problems += [
        f"The cache of {name} cannot be written: {place}" for name, place in facts["caches"].items() if "READ-ONLY" in place
    ]
    if importlib.util.find_spec("torchvision") is not None and facts["device"] == "cpu":
        problems.append("torchvision is installed beside a CPU build of torch; if imports of models fail, uninstall it.")
    return problems
