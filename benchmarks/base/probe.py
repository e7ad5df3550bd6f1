"""Write the text part of the general probe, and the sha256 of all its files.

    python benchmarks/base/probe.py [FOLDER]          FOLDER as make.py wrote it; runs/base if not given

In: held_out.jsonl, modules that no bundled model is trained on. Out: src/burnish/assets/probe/text.jsonl (rows of about 1,500
characters, at most two of a module, with their module) and SHA256.json. The other files there are written by hand.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from burnish.assets import FOLDER, PROBE

LENGTH = 1500
PER_MODULE = 2
ROWS = 60


def pieces(text: str) -> list[str]:
    """Cut a module's prose into pieces of whole paragraphs of about `LENGTH` characters; headings and short scraps stay out."""
    found, current = [], ""
    for paragraph in text.split("\n\n")[1:]:
        if paragraph.startswith(("#", "- ")) or len(paragraph) < 120:
            continue
        current = f"{current}\n\n{paragraph}" if current else paragraph
        if len(current) >= LENGTH:
            found.append(current)
            current = ""
    return found


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/base")
    probe = FOLDER / "probe"
    rows = []
    for line in (folder / "held_out.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows += [{"text": piece, "module": row["module"]} for piece in pieces(row["text"])[:PER_MODULE]]
    written = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[:ROWS])
    (probe / "text.jsonl").write_text(written, encoding="utf-8")
    digests = {f"{name}.jsonl": hashlib.sha256((probe / f"{name}.jsonl").read_bytes()).hexdigest() for name in PROBE}
    (probe / "SHA256.json").write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")
    print(f"{len(rows[:ROWS])} texts of {len({row['module'] for row in rows[:ROWS]})} modules, {len(written):,} characters")


if __name__ == "__main__":
    main()
