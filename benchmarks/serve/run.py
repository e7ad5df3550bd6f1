"""How fast a server answers: tokens a second at 1, 8 and 32 streams beside `transformers serve`, and the wait for the first token.

    python benchmarks/serve/run.py [--quick] [--threads 2] [--without-peer] [--write]

Enters: the bundled chat model. Leaves: a table, and with --write benchmarks/serve/results.json. Both servers hold the same weights in the same
number format and answer greedily, so that they write the same tokens; what differs in text is counted and told. Sides take turns round by
round, the peer in its plain form and with its own continuous batching; the ratio is that of the medians. The first token under load: Poisson
arrivals at half of what the server can do, prompts of 200 tokens, against a lone request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from load import Asked, Served, ask, burnish, server

from burnish.assets import bundled_model

STREAMS = (1, 8, 32)
TOKENS = 64
PROMPT_TOKENS = 200
RESULTS = Path(__file__).with_name("results.json")


def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(bundled_model("tiny-chat")))


def prompts(count: int, words: int, seed: int) -> list[str]:
    """Return questions of about as many words, all different."""
    draw = random.Random(seed)
    known: list[str] = [
        "water",
        "light",
        "house",
        "river",
        "city",
        "people",
        "work",
        "time",
        "story",
        "animal",
        "machine",
        "music",
        "letter",
        "garden",
    ]
    return [" ".join(["Tell me a long story about", *draw.choices(known, k=words)]) for _ in range(count)]


async def load(on: Served, streams: int, asked: list[str], tokens: int) -> tuple[list[Asked], float]:
    """Let `streams` clients send all requests, each its next one when its last is answered; return them and the seconds it took."""
    waiting, found = list(asked), []

    async def client() -> None:
        while waiting:
            found.append(await ask(on, waiting.pop(), tokens=tokens, temperature=0.0))

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(streams)))
    return found, time.perf_counter() - began


def rate(count: Any, on: Served, streams: int, asked: list[str]) -> tuple[float, set[str]]:
    """Return output tokens a second, counted from the text by the model's own tokenizer, and the texts."""
    found, seconds = asyncio.run(load(on, streams, asked, TOKENS))
    assert all(one.status == 200 for one in found), {one.status for one in found}
    return sum(len(count(one.text)["input_ids"]) for one in found) / seconds, {one.text.strip() for one in found}


def throughput(sides: dict[str, Served], rounds: int, requests: int) -> dict[str, Any]:
    """Return tokens a second by streams and side, every round of each."""
    count, table = tokenizer(), {}
    for streams in STREAMS:
        rates: dict[str, list[float]] = {name: [] for name in sides}
        texts: dict[str, set[str]] = {name: set() for name in sides}
        for turn in range(rounds):
            some = prompts(max(requests, 2 * streams if streams > 1 else 4) if streams > 1 else 4, 20, seed=100 * streams + turn)
            for name in list(sides) if turn % 2 else list(reversed(sides)):
                value, said = rate(count, sides[name], streams, some)
                rates[name].append(value)
                texts[name] |= said
                print(f"  {streams} streams, round {turn + 1}: {name} {value:.0f} tokens/s", file=sys.stderr, flush=True)
        own = statistics.median(rates["burnish"])
        row: dict[str, Any] = {name: {"tokens_per_second": values} for name, values in rates.items()}
        for name in sides:
            if name != "burnish":
                row[name]["ratio"] = own / statistics.median(rates[name])
                row[name]["same_texts"] = len(texts[name] & texts["burnish"]) / max(1, len(texts["burnish"]))
        table[str(streams)] = row
    return table


async def poisson(on: Served, per_second: float, asked: list[str], tokens: int) -> list[Asked]:
    """Send requests at random moments of a mean rate, whatever is still under way."""
    draw, tasks = random.Random(3), []
    for content in asked:
        tasks.append(asyncio.create_task(ask(on, content, tokens=tokens)))
        await asyncio.sleep(draw.expovariate(per_second))
    return list(await asyncio.gather(*tasks))


def first_token(on: Served, requests: int) -> dict[str, Any]:
    """Return the wait for the first token, alone and under Poisson arrivals at half capacity."""
    count = tokenizer()
    words = PROMPT_TOKENS
    while len(count(prompts(1, words, 0)[0])["input_ids"]) > PROMPT_TOKENS:
        words -= 5
    lone = [asyncio.run(ask(on, content, tokens=32)) for content in prompts(12, words, 1)]
    alone = statistics.median(one.first - one.sent for one in lone[2:])
    _, seconds = asyncio.run(load(on, 8, prompts(48, words, 2), 32))
    capacity = 48 / seconds
    found = asyncio.run(poisson(on, capacity / 2, prompts(requests, words, 4), 32))
    waits = sorted(one.first - one.sent for one in found if one.first)
    p95 = waits[int(0.95 * (len(waits) - 1))]
    return {
        "requests": len(found),
        "capacity_per_second": capacity,
        "alone_seconds": alone,
        "median_seconds": statistics.median(waits),
        "p95_seconds": p95,
        "p95_ratio": p95 / alone,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few requests: whether it runs, not how fast")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--without-peer", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    place = str(bundled_model("tiny-chat"))
    dtype = number_format()
    peer = [
        str(Path(sys.executable).with_name("transformers")),
        "serve",
        place,
        "--port",
        "{port}",
        "--device",
        "cpu",
        "--dtype",
        dtype,
    ]
    commands = {"burnish": (burnish("tiny-chat"), "tiny-chat")}
    if not options.without_peer:
        commands |= {"transformers": (peer, place), "transformers batching": ([*peer, "--continuous-batching"], place)}
    with ExitStack() as stack:
        sides: dict[str, Served] = {}
        for name, (command, model) in commands.items():
            try:
                one = stack.enter_context(server(command, model, threads=options.threads))
                warm = asyncio.run(asyncio.wait_for(ask(one, "Hello", tokens=4), 60))
                assert warm.status == 200, f"it answers with {warm.status}"
                sides[name] = one
            except (AssertionError, OSError, TimeoutError) as error:
                if name == "burnish":
                    raise
                print(f"{name} does not run here: {error or type(error).__name__}", file=sys.stderr)
        rounds, requests, arrivals = (1, 8, 24) if options.quick else (5, 64, 300)
        result = {
            "machine": {
                "processor": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "threads": options.threads,
            },
            "dtype": dtype,
            "tokens_per_answer": TOKENS,
            "streams": throughput(sides, rounds, requests),
            "first_token": first_token(sides["burnish"], arrivals),
            "load_before": os.getloadavg()[0],
        }
    print(json.dumps(result, indent=2))
    if options.write:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def number_format() -> str:
    """Return the number format that burnish takes for weights here, so that the peer takes the same."""
    from burnish.devices import choose_device

    return str(choose_device("auto", moves_base=False).torch_dtype()).removeprefix("torch.")


if __name__ == "__main__":
    main()
