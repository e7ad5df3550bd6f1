"""What is odd about pictures that could be opened: nothing on them, hardly anything, or something that had to be done to them.

In: examples. Out: findings. Pictures that are missing, damaged, gigantic or too small to show anything are problems of their rows while these
are read (`formats_pictures`); here the same holds for examples that were made in Python or by a user's own format.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as ListOf

from burnish.data.fields import shown as shown_in
from burnish.data.findings import SHOWN, Finding, Level, finding
from burnish.errors import DataError
from burnish.pictures import Look, look
from burnish.types import Example, Origin

SMALL = 16
"""Pixels of a side below which little can be told from a picture."""

DARK = 16
"""Of 255 grey levels those that a picture uses at most which is dark all over, as one is whose 12 bits were written into 16."""


def check_pictures(examples: ListOf[Example], *, shown: int = SHOWN) -> list[Finding | None]:
    """Return what is odd about the pictures of all rows; nothing where there are none."""
    hits: dict[str, list[tuple[Origin, str]]] = {}
    unread: list[tuple[Origin, str]] = []
    for example in examples:
        for part in shown_in(example):
            try:
                seen = look(part)
            except DataError as error:
                unread.append((example.origin, str(error)))
                continue
            for _, rule, holds, *_ in _RULES:
                if holds(seen):
                    hits.setdefault(rule, []).append((example.origin, f"{seen.width} x {seen.height}"))
    broken = finding(
        "error", "unreadable_picture", what="with a picture that cannot be used", hits=unread, fix="Replace it.", shown=shown
    )
    return [broken] + [
        finding(level, rule, what=what, hits=hits.get(rule, []), fix=fix, shown=shown) for level, rule, _, what, fix in _RULES
    ]


_RULES: tuple[tuple[Level, str, Callable[[Look], bool], str, str], ...] = (
    (
        "warning",
        "blank_picture",
        lambda seen: seen.is_blank,
        "with a picture that shows nothing",
        "Look at them: an export may have failed.",
    ),
    (
        "warning",
        "small_picture",
        lambda seen: min(seen.width, seen.height) < SMALL,
        "with a very small picture",
        "Take the originals.",
    ),
    (
        "warning",
        "dark_picture",
        lambda seen: seen.lightest < DARK and not seen.is_blank,
        "with a picture that is black nearly all over",
        "If 10 or 12 bits were written into 16, spread them over the whole range.",
    ),
    ("warning", "several_frames", lambda seen: seen.frames > 1, "with several pictures in one file", "The first one is taken."),
    (
        "note",
        "turned_picture",
        lambda seen: seen.turned,
        "with a picture that its tag says to turn",
        "It is turned, as viewers do.",
    ),
    (
        "note",
        "transparent_picture",
        lambda seen: seen.transparent,
        "with a picture that is transparent in places",
        "It is laid on white.",
    ),
    (
        "note",
        "sixteen_bits",
        lambda seen: seen.sixteen_bit,
        "with a picture of 16 bits",
        "It is taken with 8, its range divided by 257.",
    ),
)
"""Level, name, whether it holds for a picture, what rows are (completes "3 rows ..."), what to do."""
