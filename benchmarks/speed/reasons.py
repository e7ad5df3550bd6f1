"""Why a row falls short, and what its limit is: written by hand, from a profile, and shown on the page beside the figures.

Enters and leaves: nothing; `page` reads it. A row that falls short without a reason here is shown as such.
"""

from __future__ import annotations

REASONS: dict[str, str] = {
    "gpu_lora": "No GPU could be had while this was measured.",
    "gpu_dpo": "No GPU could be had while this was measured.",
    "generate": "A step of one token for 16 rows is made of narrow products, whose weights come from memory each time, and of attention with three "
    "queries a head: 44 % and 30 % of the time in a profile of six layers, both in torch's own kernels already. Laying weights out once and "
    "attending without copies brings the rest. Measured before a pass of our own over a token's attention (`models/fast/token.cpp`) and products of one "
    "input at once, and not again since.",
    "start": "Most of the time is the import of torch and transformers (3.1 s of processor time by themselves, for both sides). burnish also looks "
    "for near copies, divides the rows, and saves and reads back a checkpoint before the first step.",
    "sft": "This processor multiplies bfloat16 in its vector units: its peak is 0.88 TFLOP/s, less than half of that of a processor with matrix "
    "units (about 2), so that what is not a product weighs less, and TRL tuned by hand reaches 0.24 of the peak here, as it comes 0.11. Four "
    "times the one would be 0.95 of the peak, eight times the other 0.86: burnish reaches 0.58. What is left lies in narrow products (the "
    "adapters of rank 16), in attention and in moving activations of 576 numbers through memory. Memory is compared with a TRL that "
    "recomputes activations as it comes; burnish keeps them and still takes 2.7 GB of its 6.3.",
}
"""By row: plain sentences, in Markdown."""

NOTES: dict[str, str] = {
    "sft": "The packed setting of TRL has other rows in a step, so many that a step holds about as many tokens.",
    "full": "burnish keeps the weights themselves in float32 and computes products in bfloat16; a setting of TRL with bfloat16 weights loses "
    "updates that are smaller than their last digit, and is listed where it is the quickest.",
    "dpo": "Pairs a second bear the pass that reads the reference, as for one epoch: the case in which keeping it brings least.",
    "dpo_short": "Pairs a second bear the pass that reads the reference, as for one epoch.",
    "grpo": "Attempts differ from side to side, as chance does, so gradients cannot be compared; both sides' move the adapters.",
    "generate": "Both continue the same prompts greedily; every answer has the same length.",
    "start": "Rows of text, which each side renders and tokenises by itself. burnish also checks and divides them, and proves that it can save.",
    "loss": "Both sides make the same steps on the same rows, so that they stand at the same loss; TRL does not group rows by length here.",
    "rows": "Counted from the start of the process, so that reading and rendering the rows is part of the memory.",
    "peers": "LitGPT merges the adapters of queries, keys and values, so its adapters begin elsewhere; the first loss is the same.",
    "levers": "Each line is burnish with one piece replaced by its plain twin.",
}
"""By row: what a reader should know of how it was measured."""
