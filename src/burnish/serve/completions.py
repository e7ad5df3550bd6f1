"""`/v1/completions`: texts continued as they stand, without a chat template.

Enters: texts or tokens. Leaves: how the model goes on, whole or streamed.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from burnish.serve.answering import LARGE, answer, prepared
from burnish.serve.asked import CompletionAsked
from burnish.serve.prompts import prepare_completion
from burnish.serve.served import Served
from burnish.serve.settings import Settings
from burnish.serve.shapes import Shape


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the route of continued texts."""
    router = APIRouter(tags=["answers"])

    @router.post("/v1/completions")
    async def create(asked: CompletionAsked, request: Request) -> Response:
        """Continue texts."""
        offer = await served.ready(asked.model)
        usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        shape = Shape(False, offer.name, usage=usage and bool(asked.stream))
        large = not isinstance(asked.prompt, str) or len(asked.prompt) > LARGE
        made = await prepared(lambda: prepare_completion(offer, asked, settings), large=large)
        return await answer(request, served.engine, made, shape, stream=bool(asked.stream), logprobs=asked.logprobs is not None)

    return router
