"""burnish adapts a general language model to one job, and proves that it fits.

The names here are the Python interface; importing them does not import torch.
"""

from __future__ import annotations

__version__ = "0.1.0"
