"""Memory of this machine: how much this process may still take, and how much it took since a moment.

Enters: the name of a device. Leaves: bytes. A GPU is asked through torch; for the machine's memory the kernel's own files are read,
the limits of control groups (containers, batch systems) among them, because whoever exceeds those is killed without a word.
"""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")


def free_memory(device: str) -> int | None:
    """Return the bytes that this process may still take, its share where several of one run are on this machine; None where unknown."""
    if device.startswith("cuda"):
        import torch

        unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + unused
    available = _value("proc/meminfo", r"^MemAvailable:\s+(\d+) kB")
    if available is None:
        return None
    room = min([available * 1024, *_groups()])
    return max(0, room) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def held_memory(device: str) -> int:
    """Return the bytes that this process holds, what was freed not among them; 0 where unknown."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.memory_allocated()
    give_back()
    return (_value("proc/self/status", r"^VmRSS:\s+(\d+) kB") or 0) * 1024


def forget_peak(device: str) -> bool:
    """Let the peak of this process (`devices.peak_memory`) begin at what it holds now; False where the kernel does not offer it."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats()
        return True
    give_back()
    try:
        (ROOT / "proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def give_back() -> None:
    """Return to the system what this process has freed: else it would be used again unseen, and what is measured would look smaller."""
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _groups() -> list[int]:
    """Return what each control group above this process leaves: its limit less what is in use and cannot be dropped."""
    found: list[int] = []
    for mount, path, limit, usage, droppable in _memberships():
        folder = mount / path.lstrip("/")
        # Inside a container the path may be that of the host: then the mount itself is the group.
        for place in [folder, *folder.parents] if folder.is_dir() else [mount]:
            if not place.is_relative_to(mount):
                break
            bytes_limit, bytes_used = _value(place / limit, r"^(\d+)$"), _value(place / usage, r"^(\d+)$")
            if bytes_limit is not None and bytes_used is not None:
                found.append(bytes_limit - bytes_used + (_value(place / "memory.stat", droppable) or 0))
    return found


def _memberships() -> list[tuple[Path, str, str, str, str]]:
    """Return for each hierarchy that limits memory: its mount, this process's group, names of its files, what its cache is called."""
    try:
        lines = (ROOT / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            mount = ROOT / "sys/fs/cgroup/memory"
            found.append((mount, path, "memory.limit_in_bytes", "memory.usage_in_bytes", r"^total_inactive_file (\d+)"))
        elif not controllers:
            found.append((ROOT / "sys/fs/cgroup", path, "memory.max", "memory.current", r"^inactive_file (\d+)"))
    return found


def _value(file: str | Path, pattern: str) -> int | None:
    """Return the number that a pattern finds in a file of the kernel, None where there is none."""
    with suppress(OSError):
        found = re.search(pattern, (ROOT / file).read_text(encoding="utf-8").strip(), flags=re.MULTILINE)
        return int(found[1]) if found else None
    return None
