"""Ten thousand requests, streamed, whole and left in the middle: no error, no row left behind, flat memory.

    python benchmarks/serve/soak.py [--requests 10000] [--clients 16]

Enters: the bundled chat model. Leaves: figures as JSON, and the exit code 1 where something leaked. A smaller version is a test
(`tests/test_serve_runs.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter

from load import Served, ask, burnish, get, resident, server

GROWTH = 48 << 20
"""Bytes by which a process may grow after a fifth of the requests, when caches are full."""


async def soak(on: Served, requests: int, clients: int) -> dict[str, object]:
    draw, numbers, statuses, sizes = random.Random(1), iter(range(requests)), Counter[str](), []
    began = time.perf_counter()

    async def client() -> None:
        for number in numbers:
            words = "the river and the city " * draw.randrange(1, 30)
            found = await ask(
                on,
                f"{number} {words}",
                tokens=draw.randrange(1, 64),
                leave_after=draw.randrange(1, 8) if number % 4 == 0 else 0,
                temperature=draw.choice([0.0, 1.0]),
                seed=number,
                n=draw.choice([1, 1, 1, 2]),
            )
            statuses["left" if found.left else str(found.status)] += 1
            if number % (requests // 10) == 0:
                sizes.append((number, resident(on.pid)))
                print(f"  {number} requests, {sizes[-1][1] >> 20} MB", file=sys.stderr, flush=True)

    await asyncio.gather(*(client() for _ in range(clients)))
    await asyncio.sleep(2)
    metrics = dict(line.rsplit(" ", 1) for line in (await get(on.port, "/metrics")).splitlines() if line and line[0] != "#")
    last, early = resident(on.pid), next(size for number, size in sizes if number >= requests // 5)
    return {
        "requests": requests,
        "seconds": time.perf_counter() - began,
        "statuses": dict(statuses),
        "rows_left": float(metrics["burnish_rows"]) + float(metrics["burnish_rows_waiting"]),
        "megabytes_after_a_fifth": early >> 20,
        "megabytes_at_the_end": last >> 20,
        "megabytes": [size >> 20 for _, size in sizes],
        "sound": set(statuses) <= {"200", "left"} and float(metrics["burnish_rows"]) == 0 and last - early < GROWTH,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with server(burnish("tiny-chat"), "tiny-chat", threads=options.threads) as on:
        result = asyncio.run(soak(on, options.requests, options.clients))
    print(json.dumps(result, indent=2))
    sys.exit(0 if result["sound"] else 1)


if __name__ == "__main__":
    main()
