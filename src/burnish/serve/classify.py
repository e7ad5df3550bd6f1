"""`/v1/classify`: what a head reads in texts: labels with their probabilities, spans, numbers, answers.

Enters: texts. Leaves: figures, and the same in words; as a chat message too, so that a program written for a model that writes can ask a
model that reads. The texts of a request are read together, between two steps of the engine.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.reading import head_scores, read_fully
from burnish.reading_rows import rewards
from burnish.serve.asked import ChatAsked, ClassifyAsked
from burnish.serve.messages import to_messages
from burnish.serve.problems import ApiError, wrong
from burnish.serve.served import Offer, Served
from burnish.serve.settings import Settings
from burnish.serve.shapes import END, Shape, event
from burnish.types import Answerable, Example, Expected, Origin, Task, plain


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the route of heads."""
    router = APIRouter(tags=["answers"])

    @router.post("/v1/classify")
    async def create(asked: ClassifyAsked) -> dict[str, Any]:
        """Read texts with a model's head."""
        offer = await served.ready(asked.model)
        if not offer.reads:
            raise ApiError(400, "This model has no head: ask /v1/chat/completions.", param="model", code="model_has_no_head")
        if judges(offer):
            found = [await judged(served, offer, asked.messages)]
        else:
            texts = [asked.input] if isinstance(asked.input, str) else asked.input or []
            if asked.messages is not None or not 0 < len(texts) <= settings.texts:
                raise wrong(f"input: expected 1 to {settings.texts} texts, and nothing else.", param="input")
            found = await read_texts(served, offer, texts, asked.question)
        data = [{"index": number, "text": text, **figures} for number, (text, figures, _) in enumerate(found)]
        tokens = sum(size for _, _, size in found)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": offer.name, "data": data, "usage": usage}

    return router


async def head_message(served: Served, offer: Offer, asked: ChatAsked, shape: Shape) -> Response:
    """Return what a head reads in the last message of the user, as a message of the assistant."""
    if judges(offer):
        raise wrong(
            "This model judges answers: send the conversation with its answer as `messages` to /v1/classify.", param="model"
        )
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


def judges(offer: Offer) -> bool:
    """Return whether a model's head judges answers: a reward model."""
    renderer = offer.loaded.renderer
    return isinstance(renderer, HeadRenderer) and renderer.spec.problem == "reward"


async def judged(served: Served, offer: Offer, given: Sequence[dict[str, Any]] | None) -> tuple[str, dict[str, Any], int]:
    """Return what a reward model finds a conversation's last answer worth, in words, in figures, and the tokens it read."""
    messages = to_messages(given or ())
    if not messages or messages[-1].role != "assistant":
        raise wrong(
            "messages: this model judges answers: expected a conversation that ends with one of the assistant.", param="messages"
        )
    loaded, head = offer.loaded, offer.loaded.renderer
    assert isinstance(head, HeadRenderer)
    renderer = Renderer(head.tokenizer, head.max_length, head.end_ids, head.frame, task=head.task)
    row, sizes = Task(messages=messages, expected=Expected(), origin=Origin("request")), [0]

    def scores_of(sequences: Sequence[Any]) -> Any:
        sizes.extend(one.length for one in sequences)
        return head_scores(loaded.model, sequences)

    (said,) = await asyncio.wrap_future(served.engine.call(lambda: rewards(renderer, [row], scores_of)))
    if not said.text:
        raise wrong("messages: nothing of the answer fits what the model reads.", param="messages", code="context_length_exceeded")
    return said.text, {"number": float(said.text)}, sum(sizes)


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
