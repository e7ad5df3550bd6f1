"""Rows of the use case small-beats-large: the messages of the use case support, with a column that says which of them are hard to sort.

A message of few words tells little, one in a hurry is spelled as it comes; both are parts of the rows that are scored by themselves.
"""

from __future__ import annotations

import json
from typing import Any

from phrases import SAMPLES

MOST = 1000
"""Messages that are taken, from the beginning of a file whose order is one of chance."""
SHORT = 16
"""Words up to which a message is short."""


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found = [json.loads(line) for line in (SAMPLES / "support.jsonl").read_text(encoding="utf-8").splitlines()[:MOST]]
    return {"small.jsonl": [{**row, "kind": _kind(row["text"])} for row in found]}


def _kind(text: str) -> str:
    """Return which part of the rows a message belongs to."""
    if len(text.split()) <= SHORT:
        return "few words"
    return "in a hurry" if text == text.lower() else "usual"
