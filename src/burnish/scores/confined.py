"""The process in which an answer's code runs: sets limits on itself, runs one file, and reports that its end was reached.

Enters: on the command line a file and the limits; on standard input a word. Leaves: a file `reached` that holds the word, written only
where the given file ran to its end. Started by `code` with an isolated interpreter; imports the standard library alone.
"""

from __future__ import annotations

import resource
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Limit this process, then run the file named on the command line: FILE CPU_SECONDS MEMORY_BYTES FILE_BYTES."""
    path, seconds, memory, size = sys.argv[1], *map(int, sys.argv[2:5])
    word = sys.stdin.readline()
    sys.argv[1:] = []
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: size,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))
    runpy.run_path(path, run_name="__main__")
    Path("reached").write_text(word)


if __name__ == "__main__":
    main()
