"""What figures depend on beside the code: processor, load, versions, the matrix peak, and processor time taken by others.

Enters: nothing but the machine. Leaves: plain values for the results. The matrix peak is measured in a process of its own, between the runs
that it is compared with.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PEAK = """
import json, statistics, time, torch
torch.set_num_threads({threads})
a, b = torch.randn(2048, 4096).bfloat16(), torch.randn(4096, 4096).bfloat16()
a @ b
taken = []
for _ in range({repeats}):
    began = time.perf_counter()
    a @ b
    taken.append(time.perf_counter() - began)
print(json.dumps(2 * 2048 * 4096 * 4096 / statistics.median(taken)))
"""


def matrix_peak(*, threads: int, repeats: int = 9) -> float:
    """Return the FLOP/s of a 2048 x 4096 x 4096 bfloat16 product, the median of some repeats."""
    code = PEAK.format(threads=threads, repeats=repeats)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    return float(json.loads(done.stdout))


def stolen_seconds() -> float:
    """Return the seconds, over all processors, for which the machine beneath this one ran something else, since it was started."""
    return int(_cpu_line()[8]) / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """Return the processor seconds that any process of this machine has used since it was started."""
    line = _cpu_line()
    return (sum(map(int, line[1:4])) + sum(map(int, line[6:8]))) / os.sysconf("SC_CLK_TCK")


def _cpu_line() -> list[str]:
    return Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()


def processor() -> dict[str, Any]:
    """Return the processor by name, its cores, the features that matrix products use, memory and system."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    fields = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line}
    flags = set(fields.get("flags", "").split())
    memory = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return {
        "model": fields.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "features": sorted(flags & {"amx_bf16", "amx_int8", "avx512_bf16", "avx512f", "avx2"}),
        "memory_gb": round(memory / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


VERSIONS = """
import importlib.metadata as known, json, platform
names = {names!r}
found = {{name: known.version(name) for name in names if any(known.distributions(name=name))}}
print(json.dumps({{"python": platform.python_version(), **found}}))
"""


def versions(python: Path | str, names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of the packages that an environment has, by the names that are asked for."""
    code = VERSIONS.format(names=names)
    return json.loads(subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True, timeout=300).stdout)
