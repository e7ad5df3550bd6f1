"""Why a row falls short, and what its limit is: written by hand, from a profile, and shown on the page beside the figures.

Enters and leaves: nothing; `page` reads it. A row that falls short without a reason here is shown as such.
"""

from __future__ import annotations

REASONS: dict[str, str] = {
    "gpu_lora": "No GPU could be had while this was measured.",
    "gpu_dpo": "No GPU could be had while this was measured.",
}
"""By row: plain sentences, in Markdown."""

NOTES: dict[str, str] = {
    "rows": "Memory that grows with rows is that of the rendered rows themselves; it is counted from the start of the process.",
}
"""By row: what a reader should know of how it was measured."""
