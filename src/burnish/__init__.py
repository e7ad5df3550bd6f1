"""burnish adapts a general language model to one job, and proves that it fits.

The names here are the Python interface (`burnish.api`); importing them does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burnish.api import check, compare, decide, demo, evaluate, find_learning_rate, generate, load, pretrain, tune

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "check",
    "compare",
    "decide",
    "demo",
    "evaluate",
    "find_learning_rate",
    "generate",
    "load",
    "pretrain",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Import a verb when it is first used, so that `import burnish` stays quick."""
    if name in __all__:
        from burnish import api

        return getattr(api, name)
    raise AttributeError(f"module 'burnish' has no attribute {name!r}")
