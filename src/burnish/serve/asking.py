"""What lets a part of the server ask a model on offer, as a client would: the same prompts, limits, queue and engine.

Enters: a name on offer, messages, and sampling settings. Leaves: the text of the answer, or the ApiError that a client would get.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request

from burnish.serve.asked import ChatAsked, CompletionAsked
from burnish.serve.listen import Listening
from burnish.serve.prompts import Prepared, prepare_chat, prepare_completion
from burnish.serve.ratings_made import Ask
from burnish.serve.served import Offer, Served
from burnish.serve.settings import Settings


def asker(served: Served, settings: Settings) -> Ask:
    """Return a function that lets a model on offer answer, and waits for it."""

    async def ask(name: str, messages: Sequence[Mapping[str, str]], chosen: Mapping[str, Any]) -> str:
        prepared = await asyncio.to_thread(_prepared, served.find(name), messages, chosen, settings)
        listening = Listening(served.engine, [prepared], streams=False)
        listening.submit()
        ((answer,),) = await listening.answers(Request({"type": "http", "headers": []}, _never))
        return answer.text

    return ask


def _prepared(offer: Offer, messages: Sequence[Mapping[str, str]], chosen: Mapping[str, Any], settings: Settings) -> Prepared:
    """Return the prompt of a conversation, or of a text for a model that was taught to continue one."""
    if offer.loaded.continues_text:
        return prepare_completion(offer, CompletionAsked(model=offer.name, prompt=messages[-1]["content"], **chosen), settings)[0]
    return prepare_chat(offer, ChatAsked(model=offer.name, messages=[dict(one) for one in messages], **chosen), settings)


async def _never() -> Any:
    """Wait for a client's leaving where there is no client."""
    await asyncio.Event().wait()
