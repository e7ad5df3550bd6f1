"""One optimizer step in a process that may map little more memory: run by `test_train_room`, prints what came out as one line of JSON."""

from __future__ import annotations

import json
import re
import resource
import tempfile
from pathlib import Path

import torch

from burnish.train_room import Room
from burnish.types import Origin, Sequence
from loop import cut, loss_and_gradient
from stub import load_stub

MORE = 100_000_000  # bytes that may be mapped beyond what the smaller passes needed; the pass over all 24,000 positions needs several times that


def main() -> None:
    """Take the gradient of 48 rows in passes of 4,000 positions, then in one pass under the limit, and print both."""
    torch.set_num_threads(1)
    draw, units = torch.Generator().manual_seed(0), []
    for number in range(48):
        tokens_T = torch.randint(3, 280, (500,), generator=draw).int().numpy()
        weight_N, at_N = torch.ones(499).numpy(), torch.arange(499, dtype=torch.int32).numpy()
        units.append([Sequence(tokens_T, at_N, tokens_T[1:], weight_N, Origin("rows.jsonl", number + 1))])
    with tempfile.TemporaryDirectory() as folder:
        model = load_stub(Path(folder))
    model.network.requires_grad_(True)
    step, expected = loss_and_gradient(model, cut(units, 4000))
    mapped = re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert mapped is not None
    room, (soft, hard) = Room(), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(mapped[1]) * 1024 + MORE, hard))
    try:
        again, gradient = loss_and_gradient(model, cut(units, 10**9), room=room)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    worst = max(float((gradient[name] - wanted).norm() / wanted.norm().clamp(min=1e-3)) for name, wanted in expected.items())
    found = {"positions": room.positions, "loss": again.losses["nll"], "expected_loss": step.losses["nll"], "worst_gradient": worst}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
