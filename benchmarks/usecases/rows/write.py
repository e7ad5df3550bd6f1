"""Writes the made-up rows of the use cases: `python benchmarks/usecases/rows/write.py [--check]`.

In: the wordings and facts in this folder, all written for burnish. Out: the bundled files under src/burnish/assets/samples, which are
committed; with --check nothing is written and a difference is an error. A pure function of this folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import chatbot
import diagnosis
import guidelines
import legal
import mail
import medical
import notices
import parts
import preferences
import reports
import science
import sentiment
import small
import style
import tutor
import voice
from phrases import SAMPLES, lines_of

MAKERS: dict[str, Callable[[], dict[str, list[dict[str, Any]]]]] = {
    "chatbot": chatbot.rows,
    "sentiment": sentiment.rows,
    "technical-diagnosis": diagnosis.rows,
    "automotive-parts": parts.rows,
    "code-style": style.rows,
    "mail-drafting": mail.rows,
    "brand-voice": voice.rows,
    "legal-analysis": legal.rows,
    "medical-assessment": medical.rows,
    "science-assistant": science.rows,
    "knowledge-update": guidelines.rows,
    "summarise-translate": notices.rows,
    "programming-tutor": tutor.rows,
    "small-beats-large": small.rows,
    "human-preferences": preferences.rows,
    "domain-language": reports.rows,
}
"""By use case: a function that returns its rows by the name of their file."""


def main() -> None:
    """Write every file, or compare it with what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file would change")
    check = parser.parse_args().check
    stale = []
    for make in MAKERS.values():
        for name, rows in make().items():
            text, file = lines_of(rows), SAMPLES / name
            if check:
                stale += [name] if not file.is_file() or file.read_text(encoding="utf-8") != text else []
            else:
                file.write_text(text, encoding="utf-8", newline="\n")
                print(f"{name}: {len(rows)} rows, {len(text.encode()):,} bytes")
    if stale:
        sys.exit(f"not what the wordings make: {', '.join(stale)}")


if __name__ == "__main__":
    main()
