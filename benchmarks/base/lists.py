"""Read the word lists of `frames/words.txt` and `frames/verbs.txt`: one list a line, "name: item, item, ...".

In: a file. Out: the lists by name. Used by `words.py` and `grammar.py`.
"""

from __future__ import annotations

from pathlib import Path

FRAMES_FOLDER = Path(__file__).parent / "frames"


def read_lists(file: str) -> dict[str, tuple[str, ...]]:
    """Return the lists of a file in the folder `frames`, by their names."""
    found: dict[str, tuple[str, ...]] = {}
    for line in (FRAMES_FOLDER / file).read_text(encoding="utf-8").splitlines():
        if line.strip():
            name, items = line.split(": ", 1)
            found[name] = tuple(item.strip() for item in items.split(","))
    return found
