"""`/v1/embeddings`: a vector for each text, where a model was made to give one.

Enters: texts. Leaves: vectors of length one: the mean of the last hidden states over the tokens of a text. Encoders give them; a model that
writes reads each token without what follows, and its mean is a poor vector, so it is refused.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter

from burnish.sampling.mode import evaluating
from burnish.serve.asked import EmbeddingsAsked
from burnish.serve.problems import ApiError, wrong
from burnish.serve.served import Offer, Served
from burnish.serve.settings import Settings

TOKENS_AT_ONCE = 8192


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the route of vectors."""
    router = APIRouter(tags=["answers"])

    @router.post("/v1/embeddings")
    async def create(asked: EmbeddingsAsked) -> dict[str, Any]:
        """Give texts as vectors."""
        offer = await served.ready(asked.model)
        if not offer.loaded.model.encoder:
            raise ApiError(
                400,
                "This model writes, and has no vectors of texts that are worth comparing: serve an encoder for that.",
                param="model",
                code="model_gives_no_embeddings",
            )
        given = asked.input if isinstance(asked.input, list) else [asked.input]
        texts = [given] if given and isinstance(given[0], int) else given
        if not 0 < len(texts) <= settings.texts:
            raise wrong(f"input: expected 1 to {settings.texts} texts.", param="input")
        rows = [_tokens(offer, text) for text in texts]
        vectors = await asyncio.wrap_future(served.engine.call(lambda: embed(offer, rows)))
        data = [
            {"object": "embedding", "index": number, "embedding": _written(vector_H, asked.encoding_format)}
            for number, vector_H in enumerate(vectors)
        ]
        tokens = sum(map(len, rows))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": offer.name, "data": data, "usage": usage}

    return router


def embed(offer: Offer, rows: Sequence[list[int]]) -> list[np.ndarray]:
    """Return a float32 vector of length one for each row of tokens; rows are read together, padded and masked."""
    import torch

    model = offer.loaded.model
    found: list[np.ndarray] = []
    longest = max(map(len, rows))
    at_once = max(1, TOKENS_AT_ONCE // longest)
    with evaluating(model.network), torch.inference_mode():
        for first in range(0, len(rows), at_once):
            some = rows[first : first + at_once]
            width = max(map(len, some))
            ids_BT = torch.full((len(some), width), model.pad_id(), dtype=torch.long, device=model.device)
            mask_BT = torch.zeros_like(ids_BT)
            for place, row in enumerate(some):
                ids_BT[place, : len(row)] = torch.tensor(row, device=model.device)
                mask_BT[place, : len(row)] = 1
            states_BTH = model.trunk()(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state.float()
            sum_BH = (states_BTH * mask_BT[..., None]).sum(1)
            found += list(torch.nn.functional.normalize(sum_BH, dim=-1).cpu().numpy())
    return found


def _tokens(offer: Offer, text: Any) -> list[int]:
    """Return the tokens of a text with what the encoder wants around it; the ApiError of one that is too long or none."""
    model = offer.loaded.model
    ids = model.tokenizer(text)["input_ids"] if isinstance(text, str) else list(text)
    embedding: Any = model.plain().get_input_embeddings()
    known = int(embedding.weight.shape[0])
    if not ids or not all(isinstance(token, int) and 0 <= token < known for token in ids):
        raise wrong("input: expected texts that are not empty, or tokens of this model.", param="input")
    if len(ids) > model.max_length:
        raise ApiError(
            400,
            f"input: {len(ids):,} tokens, and the model reads {model.max_length:,}.",
            param="input",
            code="context_length_exceeded",
        )
    return ids


def _written(vector_H: np.ndarray, form: str | None) -> Any:
    """Return a vector as numbers, or as the base64 of float32 in little-endian order, which the official client asks for."""
    return base64.b64encode(vector_H.astype("<f4").tobytes()).decode() if form == "base64" else vector_H.tolist()
