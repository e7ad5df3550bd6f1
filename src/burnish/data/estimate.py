"""What a run will need before it starts: memory by part, arithmetic and time, each with what it assumes.

In: plain numbers on the model, the technique and the plan, and the machine's own matrix-product rate. Out: a dict for the data
report. No weights are read and no model is imported.
"""

from __future__ import annotations

import time
from typing import Any

RUNTIME_BYTES = 500_000_000
"""What Python with torch and transformers holds before any weights."""
ALLOCATOR = 1.2
"""What the allocator takes for what is asked of it; fitted, with `ON_THE_WAY`, to peaks of three shapes on a CPU (docs/performance.md)."""
ON_THE_WAY = 1.5
"""Layers whose worth the backward pass holds on its way, beside what the forward pass kept."""
ACTIVATIONS_HIGH = 1.5
"""How much more than expected the activations may take: other architectures and shapes than those that were measured."""
TILE_ELEMENTS, TILE_ROWS = 16_000_000, 1024
"""Logits, and rows of them, that are computed at once at most (`models.forward`)."""
LOGIT_BYTES = 30.0
"""Bytes that a logit of a tile takes with its gradient and what the products set up; fitted like `ALLOCATOR`."""
SHORT = 256
"""Tokens up to which a row's attention weights are kept on a CPU (`models.fast.attention`)."""
EFFICIENCY = (0.7, 0.4, 0.15)
"""Share of the matrix-product rate that a whole step of a very wide model reaches: at best, expected, at worst."""
POINTWISE_WIDTH = 1500
"""The hidden size at which the operations between the products (norms, gates, softmax, the optimizer) take as long as the products.

Their time grows with the width, that of the products with its square. Fitted to one CPU with fast bfloat16, where the bundled model
(256 wide) reached about a twentieth of the product rate.
"""


def measure_matmul(
    seconds: float = 2.0, dtype: str = "float32", *, rows: int = 1024, hidden: int = 1024, device: str = "cpu"
) -> float:
    """Return the FLOP/s of the product [rows, hidden] x [hidden, 4 hidden] in `dtype` (a name in torch), the median over `seconds`.

    Give the tokens of a batch and the model's hidden size: small products reach a fraction of what large ones do. 2·rows·hidden·4·hidden
    operations each; the first ones warm up and are not counted.
    """
    import torch

    kind = getattr(torch, dtype)
    left = torch.ones((rows, hidden), dtype=kind, device=device)
    right = torch.ones((hidden, 4 * hidden), dtype=kind, device=device)

    def once() -> float:
        start = time.perf_counter()
        torch.mm(left, right)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    end, durations = time.perf_counter() + seconds, []
    with torch.no_grad():
        for _ in range(3):
            once()
        while not durations or time.perf_counter() < end:
            durations.append(once())
    durations.sort()
    return 2.0 * rows * hidden * 4 * hidden / durations[len(durations) // 2]


def flops_per_token(
    *,
    parameters: int,
    trainable: int,
    hidden: int,
    layers: int,
    vocabulary: int,
    adapter: bool,
    trained_share: float = 1.0,
    attended: float = 0.0,
    attention_width: int | None = None,
    tied: bool = True,
    checkpointing: bool = False,
) -> float:
    """Return the floating-point operations that one real token costs in a training step, forward and backward.

    With N_b weights in the body, N_h = vocabulary·hidden in the head, N_A in adapters, l = `trained_share` of the tokens and S =
    `attended` (the mean of the lengths, weighted by length), per token:
    forward 2 N_b + 2 N_A + 2 N_h l + 2 L d S; backward through activations the same again for body, head and twice for attention,
    and 2 more for every weight that moves. So full tuning is 6 N_b + 6 N_h l + 6 L d S and LoRA 4 N_b + 6 N_A + 4 N_h l + 6 L d S.
    `checkpointing` runs the body's forward once more. `parameters` are the base's, with the head once if `tied`, else twice.
    """
    head = vocabulary * hidden
    body = max(parameters - head * (1 if tied else 2), 0)
    attention = 6.0 * layers * (attention_width or hidden) * attended
    if adapter:
        total = 4.0 * body + 6.0 * trainable + 4.0 * head * trained_share + attention
        again = 2.0 * (body + trainable)
    else:
        # The head moves last: a technique that trains a part of the weights is assumed to train the body's.
        moving = min(trainable, body)
        head_cost = 6.0 if trainable >= parameters else 4.0
        total = 4.0 * body + 2.0 * moving + head_cost * head * trained_share + attention
        again = 2.0 * body
    return total + (again + attention / 3 if checkpointing else 0.0)


def memory_parts(
    *,
    parameters: int,
    trainable: int,
    hidden: int,
    layers: int,
    vocabulary: int,
    bytes_per_weight: float,
    tokens_per_batch: int,
    adapter: bool,
    attention_width: int | None = None,
    key_width: int | None = None,
    feed_forward: int | None = None,
    heads: int = 0,
    longest: int = SHORT + 1,
    tied: bool = True,
    checkpointing: bool = False,
    fused: bool = False,
    moment_bytes: float = 8.0,
) -> dict[str, float]:
    """Return the bytes of each part at the peak of a step.

    Weights; adapters, their gradients and moments in float32 (4 + 4 + 8 bytes), or for the base's own weights gradients of the
    weights' size and 8 bytes of moments; activations of the positions of one micro-batch, padding counted (`kept_per_layer`); with
    `checkpointing` only the layers' inputs and one layer; one tile of the head's logits. `fused` is the least that it could be: layers
    that keep nothing twice, nothing on the way, an allocator that wastes nothing, and logits of 2 + 4 + 4 bytes.
    """
    query = attention_width or hidden
    keys = key_width or query
    body = max(parameters - vocabulary * hidden * (1 if tied else 2), 0)
    # Width of the feed-forward part from the count of weights, where it is not given: N_b / L = 2 h d_q + 2 h d_kv + 3 h f.
    wide = feed_forward or max(body / max(layers, 1) - 2 * hidden * query - 2 * hidden * keys, 0) / (3 * hidden)
    size = max(bytes_per_weight, 2.0)
    if fused:
        layer, on_the_way, allocator = size * (2 * hidden + 2 * query + 2 * keys + 2 * wide), 0.0, 1.0
    else:
        layer = kept_per_layer(hidden, query, wide, size=size, adapter=adapter)
        layer += heads * longest * (4 + size) if longest <= SHORT else 0.0
        on_the_way, allocator = ON_THE_WAY * layer, ALLOCATOR
    per_token = (size * hidden * layers + layer if checkpointing else layer * layers) + on_the_way
    return {
        "weights": parameters * bytes_per_weight,
        "adapter": 4.0 * trainable if adapter else 0.0,
        "gradients": trainable * (4.0 if adapter else max(bytes_per_weight, 2.0)),
        "optimizer": moment_bytes * trainable,
        "activations": allocator * per_token * tokens_per_batch,
        "logits": (10.0 if fused else LOGIT_BYTES) * min(vocabulary * min(tokens_per_batch, TILE_ROWS), TILE_ELEMENTS),
        "runtime": float(RUNTIME_BYTES),
    }


def kept_per_layer(hidden: int, query: float, wide: float, *, size: float, adapter: bool) -> float:
    """Return the bytes that a plain layer keeps of a position for its backward pass, activations of `size` bytes.

    Norms keep float32 copies; linear layers their inputs, which adapters keep in float32, each its own; attention its queries, keys,
    values and result; the gate three products.
    """
    norms = (12.0 if size > 2 else 8.0) * hidden
    inputs = 4.0 * (5 * hidden + query + wide) if adapter and size <= 2 else size * (2 * hidden + query + wide)
    return norms + inputs + size * (4 * query + 3 * wide)


def estimate(
    *,
    parameters: int,
    trainable: int,
    hidden: int,
    layers: int,
    vocabulary: int,
    bytes_per_weight: float,
    tokens_per_step: float,
    steps: int,
    flops: float,
    adapter: bool,
    tokens_per_batch: int | None = None,
    trained_share: float = 1.0,
    attended: float = 0.0,
    attention_width: int | None = None,
    key_width: int | None = None,
    feed_forward: int | None = None,
    heads: int = 0,
    longest: int = SHORT + 1,
    tied: bool = True,
    checkpointing: bool = False,
    moment_bytes: float = 8.0,
) -> dict[str, Any]:
    """Return memory (bytes, by part), steps, tokens and time (seconds) of a run, with ranges and assumptions, as plain values.

    `parameters` the base's, `trainable` those that move (of adapters if `adapter`); `tokens_per_step` real tokens of an optimizer step,
    `tokens_per_batch` the positions of its largest micro-batch (a step's tokens if None); `flops` the measured FLOP/s of `measure_matmul`.
    """
    assert flops > 0 and steps >= 0, (flops, steps)
    widths: dict[str, Any] = {
        "parameters": parameters,
        "trainable": trainable,
        "hidden": hidden,
        "layers": layers,
        "vocabulary": vocabulary,
        "attention_width": attention_width,
        "adapter": adapter,
        "tied": tied,
        "checkpointing": checkpointing,
    }
    batch = tokens_per_batch if tokens_per_batch is not None else round(tokens_per_step)
    sizes = {
        **widths,
        "bytes_per_weight": bytes_per_weight,
        "tokens_per_batch": batch,
        "key_width": key_width,
        "feed_forward": feed_forward,
        "heads": heads,
        "longest": longest,
        "moment_bytes": moment_bytes,
    }
    parts = memory_parts(**sizes)
    total, more = sum(parts.values()), (ACTIVATIONS_HIGH - 1) * parts["activations"]
    per_token = flops_per_token(**widths, trained_share=trained_share, attended=attended)
    shares = reached(hidden)
    best, expected, worst = (per_token * tokens_per_step * steps / (flops * share) for share in shares)
    return {
        "memory": {
            "parts": parts,
            "expected": total,
            "low": sum(memory_parts(**sizes, fused=True).values()),
            "high": total + more,
        },
        "steps": steps,
        "tokens": tokens_per_step * steps,
        "flops_per_token": per_token,
        "flops": per_token * tokens_per_step * steps,
        "time": {"expected": expected, "low": best, "high": worst},
        "tokens_per_second": {"expected": shares[1] * flops / per_token, "matmul_flops": flops},
        "assumes": _assumptions(
            hidden=hidden,
            adapter=adapter,
            checkpointing=checkpointing,
            batch=batch,
            trained_share=trained_share,
            moment_bytes=moment_bytes,
        ),
    }


def reached(hidden: int) -> tuple[float, float, float]:
    """Return the share of the matrix-product rate that a step of a model this wide reaches: at best, expected, at worst."""
    best, expected, worst = (share * hidden / (hidden + POINTWISE_WIDTH) for share in EFFICIENCY)
    return best, expected, worst


def _assumptions(
    *, hidden: int, adapter: bool, checkpointing: bool, batch: int, trained_share: float, moment_bytes: float
) -> list[str]:
    best, expected, worst = (f"{100 * share:.2g} %" for share in reached(hidden))
    return [
        f"a step reaches {expected} of the measured matrix-product rate; the range is {best} to {worst}",
        "time is for the steps alone: loading, evaluating, answering and saving come on top",
        f"{moment_bytes:g} bytes of the optimizer's averages for each weight that moves"
        + (", adapters in float32" if adapter else ""),
        f"{batch:,} positions in the largest micro-batch, {100 * trained_share:.0f} % of the tokens trained",
        f"the low figure of memory is that of fused layers, the high one has {ACTIVATIONS_HIGH:g} times the activations",
        "activations recomputed in the backward pass" if checkpointing else "activations kept, not recomputed",
        f"attention that keeps no table of scores beyond {SHORT} tokens, logits in tiles of trained tokens",
        f"{RUNTIME_BYTES / 1e9:g} GB for Python and its libraries",
    ]
