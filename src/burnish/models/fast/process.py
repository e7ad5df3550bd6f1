"""What is set for the whole process where tuning or answering begins: whose loops run, and how memory is given back.

Enters: the device that was chosen. Leaves: nothing. None of it changes a figure but the loops, which the device names.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

from burnish.devices import Device
from burnish.models.fast import kernels

TRIM_THRESHOLD, MAP_THRESHOLD = -1, -3
"""What glibc calls M_TRIM_THRESHOLD and M_MMAP_THRESHOLD (malloc.h)."""


def set_up(device: Device) -> None:
    """Take the loops that the device names; keep freed memory for the next step."""
    kernels.choose(device.quick == "loops")
    if device.quick != "no" and device.name == "cpu" and sys.platform == "linux":
        keep_memory()


def set_up_answering(device: Device) -> None:
    """Take the loops where they can be compiled, for a process that answers without having tuned."""
    kernels.choose(device.name == "cpu" and kernels.can_compile() is None)


def keep_memory() -> None:
    """Let malloc keep large blocks: given back at every free, their pages would be cleared anew for every tensor of every step."""
    with suppress(OSError, AttributeError):  # another C library than glibc
        library = ctypes.CDLL(None)
        library.mallopt(MAP_THRESHOLD, 1 << 30)
        library.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
