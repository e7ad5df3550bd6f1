"""Write the nursing books of openstax, which no bundled model was trained on: rows to adapt a model to, and to measure it on.

    burnish data get openstax --from FOLDER
    python benchmarks/base/nursing.py runs/base/nursing.jsonl

In: the public set `openstax`. Out: {"text", "module"} for every module of the books on nursing, tidied as the training text is
(`text.py`). Read by examples/nursing.toml and `measure_text.py`.
"""

from __future__ import annotations

import argparse
import json
import lzma
from collections.abc import Iterator
from pathlib import Path

from text import BOILERPLATE, tidy_paragraph, without_empty_headings

from burnish import atomic
from burnish.data.public import locate

BOOK = "nursing-external-bundle"
SHORTEST = 200
REPEATED = 60
"""Characters from which on a paragraph that stood before is left out: what a publisher says in every book."""


def modules() -> Iterator[dict[str, str]]:
    """Yield the modules of the nursing books, in their order."""
    before: set[str] = set()
    with lzma.open(locate("openstax", files=["textbooks.jsonl.xz"]) / "textbooks.jsonl.xz", "rt", encoding="utf-8") as lines:
        rows = (json.loads(line) for line in lines)
        for row in (row for row in rows if row["book"] == BOOK):
            kept = []
            for text in map(tidy_paragraph, row["text"].split("\n\n")):
                if text and not BOILERPLATE.search(text) and text not in before:
                    kept.append(text)
                    before |= {text} if len(text) > REPEATED else set()
            body = "\n\n".join(without_empty_headings(kept))
            if len(body) >= SHORTEST:
                yield {"text": f"{row['title']}\n\n{body}", "module": f"{row['book']}/{row['module']}"}


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    file: Path = parser.parse_args().file
    rows = list(modules())
    atomic.write_file(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{file}: {len(rows):,} modules, {sum(len(row['text']) for row in rows) / 1e6:.1f} M characters")


if __name__ == "__main__":
    main()
