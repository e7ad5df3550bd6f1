"""Techniques: which parameters may move. Each is a function (network, **options) -> network, in its own file, with one line here.

A technique freezes what stays and marks what moves, before the optimizer is made; the loop never knows which one it was.
"""

from __future__ import annotations

from burnish.techniques.full import FULL
from burnish.techniques.lora import LORA
from burnish.types import Technique

TECHNIQUES: dict[str, Technique] = {
    "full": FULL,
    "lora": LORA,
}
