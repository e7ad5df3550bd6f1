"""`/v1/chat/completions`: the next message of a conversation.

Enters: messages in the OpenAI form. Leaves: the model's message, whole or streamed. A run with a head answers too: what it reads in the last
message of the user.
"""

from __future__ import annotations

import json

from fastapi import APIRouter, Request
from fastapi.responses import Response

from burnish.serve.answering import LARGE, answer, prepared
from burnish.serve.asked import ChatAsked
from burnish.serve.classify import head_message
from burnish.serve.prompts import prepare_chat
from burnish.serve.served import Served
from burnish.serve.settings import Settings
from burnish.serve.shapes import Shape


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the route of conversations."""
    router = APIRouter(tags=["answers"])

    @router.post("/v1/chat/completions")
    async def create(asked: ChatAsked, request: Request) -> Response:
        """Answer a conversation with the next message."""
        offer = await served.ready(asked.model)
        usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        shape = Shape(True, offer.name, usage=usage and bool(asked.stream))
        if offer.reads:
            return await head_message(served, offer, asked, shape)
        large = asked.response_format is not None or bool(asked.tools) or len(json.dumps(asked.messages)) > LARGE
        made = await prepared(lambda: prepare_chat(offer, asked, settings), large=large)
        return await answer(request, served.engine, [made], shape, stream=bool(asked.stream), logprobs=bool(asked.logprobs))

    return router
