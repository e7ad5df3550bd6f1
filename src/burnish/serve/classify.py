"""`/v1/classify`: what a head reads in texts: labels with their probabilities, spans, numbers, answers.

Enters: texts. Leaves: figures, and the same in words; as a chat message too, so that a program written for a model that writes can ask a
model that reads. Texts that wait at the same time are read together.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from burnish.data.render_heads import HeadRenderer
from burnish.reading import read_fully
from burnish.serve.asked import ChatAsked, ClassifyAsked
from burnish.serve.messages import to_messages
from burnish.serve.problems import ApiError, wrong
from burnish.serve.served import Offer, Served
from burnish.serve.settings import Settings
from burnish.serve.shapes import END, Shape, event
from burnish.types import Answerable, Example, Origin, plain

WRITING = (
    "logprobs",
    "tools",
    "response_format",
    "stop",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
)
"""What a request for a chat message may say that concerns writing alone: a head reads the same whatever it says."""


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the route of heads."""
    router = APIRouter(tags=["answers"])

    @router.post("/v1/classify")
    async def create(asked: ClassifyAsked) -> dict[str, Any]:
        """Read texts with a model's head."""
        offer = await served.ready(asked.model)
        if not offer.reads:
            raise ApiError(400, "This model has no head: ask /v1/chat/completions.", param="model", code="model_has_no_head")
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        if not 0 < len(texts) <= settings.texts:
            raise wrong(f"input: expected 1 to {settings.texts} texts.", param="input")
        found = await read_texts(served, offer, texts, asked.question)
        data = [{"index": number, "text": text, **figures} for number, (text, figures, _) in enumerate(found)]
        tokens = sum(size for _, _, size in found)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": offer.name, "data": data, "usage": usage}

    return router


async def head_message(served: Served, offer: Offer, asked: ChatAsked, shape: Shape) -> Response:
    """Return what a head reads in the last message of the user, as a message of the assistant."""
    messages = to_messages(asked.messages)
    asking = [plain(one.content) for one in messages if one.role == "user"]
    if not asking:
        raise wrong("messages: expected one of the user, which the head reads.", param="messages")
    if asked.n not in (None, 1) or asked.logprobs or asked.tools or (asked.response_format or {}).get("type", "text") != "text":
        raise wrong("This model has a head and writes nothing: n, logprobs, tools and response_format are not for it.")
    ((text, figures, tokens),) = await read_texts(served, offer, asking[-1:], None)
    usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
    if not asked.stream:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return JSONResponse({**shape.whole([choice], usage), "reading": figures})
    delta = {"role": "assistant", "content": text}
    parts = [
        shape.chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]),
        event(
            {
                **shape.head(chunk=True),
                "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
                "reading": figures,
            }
        ),
        *([shape.last(usage)] if shape.usage else []),
        END,
    ]
    return Response(b"".join(parts), media_type="text/event-stream")


async def read_texts(
    served: Served, offer: Offer, texts: Sequence[str], question: str | None
) -> list[tuple[str, dict[str, Any], int]]:
    """Return for each text what the head says in words, in figures, and how many tokens it read."""
    loaded = offer.loaded
    renderer = loaded.renderer
    assert isinstance(renderer, HeadRenderer)
    if renderer.spec.kind == "span" and question is None:
        raise wrong(
            "This model finds answers in a context: send the question as `question`, the context as `input`.", param="question"
        )
    if renderer.spec.kind != "span" and question is not None:
        raise wrong("question: this model's head reads a text alone.", param="question")
    if renderer.spec.restores:
        raise ApiError(400, "This encoder has no head of its own: ask /v1/embeddings.", param="model", code="model_has_no_head")

    def read() -> list[tuple[str, dict[str, Any], int]]:
        rows: list[Example] = [
            loaded.task(text)
            if question is None
            else Answerable(question=question, context=text, answers=(), origin=Origin("request"))
            for text in texts
        ]
        sizes = [sum(window.sequence.length for window in renderer.windows(row, learn=False)) for row in rows]
        found = read_fully(loaded.model, renderer, rows)
        return [(text, json.loads(json.dumps(figures)), size) for (text, figures), size in zip(found, sizes, strict=True)]

    return await asyncio.wrap_future(served.engine.call(read))
