"""What lets a part of the server ask a model on offer, as a client would.

Enters: a name on offer, messages, and sampling settings. Leaves: the text of the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.sampling import Options, generate
from burnish.serve.ratings_made import Ask
from burnish.serve.served import Served
from burnish.serve.settings import Settings


def asker(served: Served, settings: Settings) -> Ask:
    """Return a function that lets a model on offer answer."""
    lock = asyncio.Lock()

    async def ask(name: str, messages: Sequence[Mapping[str, str]], chosen: Mapping[str, Any]) -> str:
        loaded = served.find(name).loaded
        options = Options(
            max_tokens=chosen["max_tokens"], temperature=chosen["temperature"], seed=chosen["seed"], long_prompts="cut"
        )
        prompt = loaded.writer.prompt(loaded.task(messages[-1]["content"]))
        async with lock:
            return (await asyncio.to_thread(generate, loaded.model, [prompt], options))[0].text

    return ask
