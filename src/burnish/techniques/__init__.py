"""Techniques: which parameters may move. Each is a function (network, **options) -> network, in its own file, with one line here.

A technique freezes what stays and marks what moves, before the optimizer is made; the loop never knows which one it was.
"""

from __future__ import annotations

from burnish.techniques.full import FULL
from burnish.techniques.ia3 import IA3
from burnish.techniques.lora import DORA, LORA
from burnish.techniques.pissa import PISSA
from burnish.techniques.prompt import PREFIX, PROMPT, PTUNING
from burnish.techniques.qlora import QLORA
from burnish.techniques.selective import SELECTIVE
from burnish.types import Technique

TECHNIQUES: dict[str, Technique] = {
    "full": FULL,
    "lora": LORA,
    "dora": DORA,
    "pissa": PISSA,
    "qlora": QLORA,
    "ia3": IA3,
    "prompt": PROMPT,
    "prefix": PREFIX,
    "ptuning": PTUNING,
    "selective": SELECTIVE,
}
